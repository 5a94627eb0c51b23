"""Finding results: files, folders, several runs or models in one, real outputs of every version."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lm_eval_files import (
    LATER,
    STAMP,
    STRICT,
    group_results,
    gsm8k_results,
    gsm8k_rows,
    refused,
    row,
    run_folder,
    write,
    write_lines,
)
from places import LM_EVAL, RECORDS

from slimlib.results import ResultsError, Score, read_results

RECORD = RECORDS / "micro" / "seed-1" / "llama-2k.json"


def test_a_missing_path_is_named(tmp_path: Path) -> None:
    assert refused(tmp_path / "nowhere") == f"{tmp_path / 'nowhere'} does not exist"


def test_a_folder_without_results_says_what_was_looked_for(tmp_path: Path) -> None:
    write(tmp_path / "notes.txt", "nothing here")
    message = refused(tmp_path)
    assert str(tmp_path) in message and "results_*.json" in message and "record.json" in message


def test_the_only_file_of_a_folder_gives_its_reason(tmp_path: Path) -> None:
    write(tmp_path / "adapter_config.json", {"peft_type": "LORA"})
    assert "adapter_config.json" in refused(tmp_path)


def test_a_run_that_only_predicts_has_no_score(tmp_path: Path) -> None:
    path = write(tmp_path / "r.json", {"results": {"gsm8k": {"alias": "x", "bypass,none": 999}}})
    assert "no task with a score" in refused(path)


def test_a_file_or_its_folder_or_the_folder_above_are_the_same(tmp_path: Path) -> None:
    folder = run_folder(tmp_path) / "me__base"
    for source in (folder, folder / f"results_{STAMP}.json"):
        assert read_results(source).tasks["gsm8k"].samples["strict-match"].doc_ids == (0, 1, 2, 3)


def places(value: Any, place: tuple = ()) -> list[tuple]:
    """Where a JSON value has something inside, at every depth."""
    inside = value.items() if isinstance(value, dict) else enumerate(value[:2])
    found = []
    for key, inner in inside:
        found.append((*place, key))
        if isinstance(inner, dict | list):
            found += places(inner, (*place, key))
    return found


@pytest.mark.parametrize("junk", [None, [], 3, "x", float("nan"), [1]], ids=repr)
def test_whatever_is_wrong_inside_it_is_a_result_or_a_clear_error(junk: Any) -> None:
    config = {"num_fewshot": 5, "metric_list": [{"metric": "exact_match"}]}
    whole = gsm8k_results(samples={"gsm8k": gsm8k_rows()}, configs={"gsm8k": config})
    read = 0
    cases = [(whole, place) for place in places(whole)]
    cases += [(group_results(), place) for place in places(group_results())]
    for source, place in cases:
        data = inside = json.loads(json.dumps(source))
        for key in place[:-1]:
            inside = inside[key]
        inside[place[-1]] = junk
        try:
            read += bool(read_results(data).tasks)
        except ResultsError as error:
            assert "\n" not in str(error)
    assert read > 20


def test_a_folder_called_json_is_a_folder(tmp_path: Path) -> None:
    """--output_path results.json makes one."""
    run_folder(tmp_path / "out" / "results.json")
    assert read_results(tmp_path / "out").tasks["gsm8k"].n == 4


def test_samples_that_end_in_json(tmp_path: Path) -> None:
    """The Open LLM Leaderboard's details: JSON Lines beside the results, called .json."""
    folder = run_folder(tmp_path) / "me__base"
    file = folder / f"samples_gsm8k_{STAMP}.jsonl"
    file.rename(file.with_suffix(".json"))
    for path in (tmp_path, folder / f"results_{STAMP}.json"):
        assert len(read_results(path).tasks["gsm8k"].samples) == 2


def test_of_two_runs_of_one_model_the_newest_task_wins(tmp_path: Path) -> None:
    folder = run_folder(tmp_path)
    newer = {"gsm8k": {"exact_match,strict-match": 0.25}}
    older = {**gsm8k_results()["results"], "arc": {"acc,none": 0.5}}
    write(folder / "me__base" / f"results_{LATER}.json", gsm8k_results(results=newer))
    write(folder / "me__base" / f"results_{STAMP}.json", gsm8k_results(results=older))
    results = read_results(folder)
    assert results.tasks["gsm8k"].scores == {"exact_match,strict-match": Score(0.25, None)}
    assert results.tasks["gsm8k"].samples == {}  # the older run's rows are not the newer's
    assert results.tasks["arc"].scores["acc,none"].value == 0.5
    assert "gsm8k from " + f"results_{LATER}.json" in results.notes[0]


def test_runs_without_a_date_in_the_name_go_by_the_date_inside(tmp_path: Path) -> None:
    for name, date, value in (("a", 2.0, 0.25), ("b", 1.0, 0.75)):
        scores = {"gsm8k": {"exact_match,none": value}}
        data = gsm8k_results(results=scores, date=date)
        write(tmp_path / name / "results.json", data)
    assert "different names" in refused(tmp_path)  # two --output_paths: which one is meant?
    data = gsm8k_results(results={"arc": {"acc,none": 0.5}}, date=1.0)
    write(tmp_path / "b" / "results.json", data)
    assert set(read_results(tmp_path).tasks) == {"gsm8k", "arc"}


def test_several_models_are_refused_with_their_folders(tmp_path: Path) -> None:
    run_folder(tmp_path)
    other = gsm8k_results(model_name="me/tuned", config={"model_args": "pretrained=me/tuned"})
    write(tmp_path / "me__tuned" / f"results_{STAMP}.json", other)
    message = refused(tmp_path)
    assert "several models" in message and message.endswith("me__base, me__tuned")


def test_one_name_with_other_weights_is_another_model(tmp_path: Path) -> None:
    run_folder(tmp_path)
    config = {"model_args": {"pretrained": "me/base", "load_in_4bit": True}}
    data = gsm8k_results(config=config)
    write(tmp_path / "me__base" / f"results_{LATER}.json", data)
    assert "several models" in refused(tmp_path)


def test_two_nameless_files_are_two_models(tmp_path: Path) -> None:
    for name in ("before", "after"):
        write(tmp_path / f"{name}.json", {"results": {"t": {"acc,none": 0.5}}, "date": 1.0})
    assert refused(tmp_path).endswith("after.json, before.json")


def test_samples_of_two_named_files_in_one_folder(tmp_path: Path) -> None:
    for stamp, value in ((STAMP, 0.5), (LATER, 0.25)):
        write(tmp_path / f"mine_{stamp}.json", {"results": {"t": {"acc,none": value}}})
        rows = [row(i, "none", acc=int(i < 4 * value)) for i in range(4)]
        write_lines(tmp_path / f"samples_t_{stamp}.jsonl", rows)
    older = read_results(tmp_path / f"mine_{STAMP}.json").tasks["t"]
    assert older.samples["none"].scores["acc"].tolist() == [1, 1, 0, 0]


def test_a_folder_with_only_samples_has_their_means(tmp_path: Path) -> None:
    write_lines(tmp_path / f"samples_gsm8k_{STAMP}.jsonl", gsm8k_rows())
    results = read_results(tmp_path)
    assert results.tasks["gsm8k"].scores == {
        "exact_match,strict-match": Score(0.5, None),
        "exact_match,flexible-extract": Score(0.75, None),
    }
    assert results.tasks["gsm8k"].n == 4 and "no results file" in results.notes[0]


def test_samples_without_results_are_noted_and_left_out(tmp_path: Path) -> None:
    folder = run_folder(tmp_path)
    write_lines(folder / "me__base" / f"samples_arc_{STAMP}.jsonl", [row(0, "none", acc=1)])
    for source in (folder, folder / "me__base" / f"results_{STAMP}.json"):
        results = read_results(source)
        assert set(results.tasks) == {"gsm8k"}
        assert results.notes == (
            f"samples_arc_{STAMP}.jsonl belongs to no results and is left out",
        )


def test_what_simple_evaluate_returns(tmp_path: Path) -> None:
    rows = gsm8k_rows()
    for each in rows:
        each["arguments"] = [("prompt", {"until": ["\n"]})]
        each["exact_match"] = np.float64(each["exact_match"])
    data = gsm8k_results(samples={"gsm8k": rows})
    data["results"]["gsm8k"]["exact_match,strict-match"] = np.float64(0.5)
    data["config"]["device"] = np.int64(0)
    results = read_results(data)
    assert results.source == "simple_evaluate" and results.name == "me/base"
    task = results.tasks["gsm8k"]
    assert task.samples["strict-match"].scores["exact_match"].tolist() == STRICT
    assert next(iter(task.load_rows()))["arguments"] == [("prompt", {"until": ["\n"]})]
    assert type(task.scores["exact_match,strict-match"].value) is float


def test_a_mapping_that_is_no_result() -> None:
    assert refused({"eval_loss": 1.0}).startswith("simple_evaluate: ")
    assert refused({}).startswith("simple_evaluate: ")


# Right answers of the stand-in models, counted in the rows (see tests/data/lm_eval/README.md).
COUNTS = {
    "base": {
        "gsm8k": {"exact_match,strict-match": (5, 8), "exact_match,flexible-extract": (6, 8)},
        "hellaswag": {"acc,none": (3, 6), "acc_norm,none": (5, 6)},
        "mmlu_high_school_computer_science": {"acc,none": (3, 5)},
        "mmlu_philosophy": {"acc,none": (2, 3)},
        "mmlu": {"acc,none": (5, 8)},
    },
    "tuned": {
        "gsm8k": {"exact_match,strict-match": (4, 8), "exact_match,flexible-extract": (5, 8)},
        "hellaswag": {"acc,none": (2, 6), "acc_norm,none": (4, 6)},
        "mmlu_high_school_computer_science": {"acc,none": (2, 5)},
        "mmlu_philosophy": {"acc,none": (1, 3)},
        "mmlu": {"acc,none": (3, 8)},
    },
}
# What 0.3 and 0.4.0 score otherwise: their GSM8K has one answer extraction of their own.
OLD_COUNTS = {
    ("0.3.0", "base"): {"gsm8k": {"acc,none": (2, 8)}},
    ("0.3.0", "tuned"): {"gsm8k": {"acc,none": (4, 8)}},
    ("0.4.0", "base"): {"gsm8k": {"exact_match,get-answer": (5, 8)}},
    ("0.4.0", "tuned"): {"gsm8k": {"exact_match,get-answer": (4, 8)}},
}
RUNS = sorted(p for p in LM_EVAL.glob("*/*") if p.is_dir() and p.name in COUNTS)


def expected(folder: Path) -> dict[str, dict[str, tuple[int, int]]]:
    old = OLD_COUNTS.get((folder.parent.name, folder.name), {})
    return {**COUNTS[folder.name], **old}


@pytest.mark.parametrize("folder", RUNS, ids=lambda p: "/".join(p.parts[-2:]))
def test_real_output_of_every_version_has_the_counted_scores(folder: Path) -> None:
    results, checked = read_results(folder), 0
    for name, counts in expected(folder).items():
        task = results.tasks.get(name)
        if task is None or task.limit is not None:
            continue  # a variant with fewer tasks or documents
        for key, (right, n) in counts.items():
            assert task.scores[key].value == pytest.approx(right / n), (name, key)
            assert task.n in (n, None)
            metric, _, kind = key.partition(",")
            if task.samples:
                assert task.samples[kind].scores[metric].sum() == right
            checked += 1
    assert checked or any(task.limit for task in results.tasks.values())


@pytest.mark.parametrize("folder", RUNS, ids=lambda p: "/".join(p.parts[-2:]))
def test_real_samples_are_whole_and_read_again(folder: Path) -> None:
    results = read_results(folder)
    for task in results.tasks.values():
        for kind, samples in task.samples.items():
            assert len(samples.doc_ids) == task.n and None not in samples.doc_hashes
            for metric, values in samples.scores.items():
                assert values.mean() == pytest.approx(task.scores[f"{metric},{kind}"].value)
        if task.samples:
            assert len(list(task.load_rows())) == task.n * len(task.samples)
    aggregates = not any(task.samples for task in results.tasks.values())
    assert aggregates == folder.parent.name.startswith(("0.3", "0.4.13-aggregates"))


def test_real_output_of_two_models_in_one_folder() -> None:
    assert "several models" in refused(LM_EVAL / "0.4.13-file")
    for path in (LM_EVAL / "0.4.13-file").glob("*.json"):
        name = path.name.split("_")[0]
        assert read_results(path).name == f"stand-in/{name}"


def test_several_versions_are_there() -> None:
    assert len({p.parent.name.split("-")[0] for p in RUNS}) >= 6


def test_reading_loads_neither_torch_nor_pandas() -> None:
    code = (
        "import sys; from slimlib.results import read_results, align_samples; "
        f"a = read_results({str(RECORD)!r}); align_samples(a, a); "
        "print({'torch', 'pandas', 'matplotlib'} & set(sys.modules))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"

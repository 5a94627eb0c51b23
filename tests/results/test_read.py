"""Reading results: every layout of lm-eval and slimlib, and each file that must be refused."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from places import LM_EVAL, RECORDS

from slimlib.common.files import sha256
from slimlib.results import ResultsError, Score, read_results

DATA = LM_EVAL
RECORD = RECORDS / "micro" / "seed-1" / "llama-2k.json"
STAMP = "2025-03-08T16-08-13.421411"
LATER = "2025-03-09T09-00-00.000001"
STRICT, FLEXIBLE = [1, 0, 0, 1], [1, 1, 0, 1]  # what two filters make of four answers


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def row(doc_id: int, filter: str, **scores: Any) -> dict[str, Any]:
    """A sample row of lm-eval 0.4.13."""
    return {
        "doc_id": doc_id,
        "doc": {"question": f"question {doc_id}"},
        "target": "#### 1",
        "arguments": {"gen_args_0": {"arg_0": f"prompt {doc_id}", "arg_1": {"until": ["\n"]}}},
        "resps": [["an answer"]],
        "filtered_resps": ["1"],
        "filter": filter,
        "metrics": list(scores),
        "doc_hash": digest(f"doc {doc_id}"),
        "prompt_hash": digest(f"prompt {doc_id}"),
        "target_hash": digest("#### 1"),
        **scores,
    }


def gsm8k_rows() -> list[dict[str, Any]]:
    strict = [row(i, "strict-match", exact_match=float(v)) for i, v in enumerate(STRICT)]
    return strict + [row(i, "flexible-extract", exact_match=v) for i, v in enumerate(FLEXIBLE)]


def gsm8k_results(**changes: Any) -> dict[str, Any]:
    """A results object of lm-eval 0.4.13 with GSM8K on four documents."""
    data = {
        "results": {
            "gsm8k": {
                "alias": "gsm8k",
                "sample_len": 4,
                "exact_match,strict-match": 0.5,
                "exact_match_stderr,strict-match": 0.2886751345948129,
                "exact_match,flexible-extract": 0.75,
                "exact_match_stderr,flexible-extract": "N/A",
            }
        },
        "group_subtasks": {"gsm8k": []},
        "versions": {"gsm8k": 3.0},
        "n-shot": {"gsm8k": 5},
        "higher_is_better": {"gsm8k": {"exact_match": True}},
        "n-samples": {"gsm8k": {"original": 1319, "effective": 4}},
        "config": {
            "model": "hf",
            "model_args": {"pretrained": "me/base", "max_length": 2048},
            "model_dtype": "torch.float16",
            "batch_size": "4",
            "limit": 4.0,
        },
        "date": 1741443071.3,
        "lm_eval_version": "0.4.13",
        "model_name": "me/base",
        "chat_template": None,
    }
    return {**data, **changes}


def write(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = value if isinstance(value, str) else json.dumps(value)
    path.write_text(text, encoding="utf-8")
    return path


def write_lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    return write(path, "".join(json.dumps(r) + "\n" for r in rows))


def run_folder(folder: Path, rows: list | None = None, stamp: str = STAMP, **changes: Any) -> Path:
    """What --output_path holds after a run of 0.4.13 with --log_samples."""
    write(folder / "me__base" / f"results_{stamp}.json", gsm8k_results(**changes))
    rows = gsm8k_rows() if rows is None else rows
    write_lines(folder / "me__base" / f"samples_gsm8k_{stamp}.jsonl", rows)
    return folder


def refused(source: Any) -> str:
    with pytest.raises(ResultsError) as error:
        read_results(source)
    assert "\n" not in str(error.value)
    return str(error.value)


# ------------------------------------------------------------------------------- nothing to read


def test_a_missing_path_is_named(tmp_path: Path) -> None:
    assert refused(tmp_path / "nowhere") == f"{tmp_path / 'nowhere'} does not exist"


def test_a_folder_without_results_says_what_was_looked_for(tmp_path: Path) -> None:
    write(tmp_path / "notes.txt", "nothing here")
    message = refused(tmp_path)
    assert str(tmp_path) in message and "results_*.json" in message and "record.json" in message


FOREIGN = {
    "lighteval": ({"results": {"harness|arc:challenge|25": {"acc": 0.5}}}, "lighteval"),
    "leaderboard": ({"config_general": {}, "results": {}}, "Leaderboard"),
    "opencompass": ({"0": {"origin_prompt": "?", "prediction": "A"}}, "OpenCompass"),
    "opencompass-scores": ({"accuracy": 43.2}, "OpenCompass"),
    "helm": ({"adapter_spec": {}, "name": "mmlu"}, "HELM"),
    "helm-stats": ([{"name": {"name": "exact_match"}, "sum": 1}], "JSON list"),
    "trainer_state": ({"log_history": [], "global_step": 4}, "trainer_state.json"),
    "adapter_config": ({"peft_type": "LORA", "r": 16}, "adapter_config.json"),
    "config": ({"architectures": ["LlamaForCausalLM"], "model_type": "llama"}, "config.json"),
    "samples-array": ([{"doc_id": 0, "acc": 1.0}], "samples file"),
    "one-sample": ({"doc_id": 0, "acc": 1.0}, "samples file"),
    "metrics": ({"eval_loss": 1.25}, 'no "results" object'),
    "results-list": ({"results": [1, 2]}, 'no "results" object'),
    "no-tasks": ({"results": {}}, "empty"),
    "number": (3, "not a JSON object"),
    "samples-lines": (json.dumps(row(0, "none", acc=1)) + "\n" + "{}\n", "samples file"),
    "log-lines": ('{"loss": 1}\n{"loss": 2}\n', "JSON Lines"),
    "no-json": ("hello", "not valid JSON"),
    "cut-off": ('{"results": {"gsm8k"', "not valid JSON"),
    "empty": ("", "an empty file"),
    "blank": (" \n", "an empty file"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_foreign_file_is_refused_by_name_with_the_reason(tmp_path: Path, kind: str) -> None:
    value, reason = FOREIGN[kind]
    path = write(tmp_path / f"{kind}.json", value)
    message = refused(path)
    assert (
        message.startswith(f"{path}: ") and reason in message and "give a results JSON" in message
    )


def test_a_binary_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"\x10\x00\xff\xfe\x80")
    assert "binary" in refused(path)


def test_the_only_file_of_a_folder_gives_its_reason(tmp_path: Path) -> None:
    write(tmp_path / "adapter_config.json", {"peft_type": "LORA"})
    assert "adapter_config.json" in refused(tmp_path)


def test_a_run_that_only_predicts_has_no_score(tmp_path: Path) -> None:
    path = write(tmp_path / "r.json", {"results": {"gsm8k": {"alias": "x", "bypass,none": 999}}})
    assert "no task with a score" in refused(path)


# ------------------------------------------------------------------------------ the newest layout


def test_the_newest_layout(tmp_path: Path) -> None:
    results = read_results(run_folder(tmp_path))
    task = results.tasks["gsm8k"]
    assert (results.name, results.source, results.notes) == ("me/base", str(tmp_path), ())
    assert task.scores == {
        "exact_match,strict-match": Score(0.5, 0.2886751345948129),
        "exact_match,flexible-extract": Score(0.75, None),
    }
    assert (task.version, task.num_fewshot, task.limit, task.n, task.role) == (3.0, 5, 4, 4, None)
    assert task.higher_is_better == {"exact_match": True} and task.subtasks == ()
    strict = task.samples["strict-match"]
    assert strict.doc_ids == (0, 1, 2, 3) and strict.doc_hashes[1] == digest("doc 1")
    assert strict.prompt_hashes[3] == digest("prompt 3")
    assert strict.scores["exact_match"].tolist() == STRICT
    assert task.samples["flexible-extract"].scores["exact_match"].tolist() == FLEXIBLE
    assert strict.documents == sha256([[i, digest(f"doc {i}")] for i in range(4)])


def test_settings_are_what_the_file_says_and_nothing_else(tmp_path: Path) -> None:
    settings = read_results(run_folder(tmp_path)).settings
    assert settings["model_args"] == {"pretrained": "me/base", "max_length": 2048}
    assert settings["dtype"] == "float16" and settings["batch_size"] == "4"
    assert settings["chat_template"] is None  # said to be none
    assert "system_instruction" not in settings and "gen_kwargs" not in settings  # not said


def test_a_file_or_its_folder_or_the_folder_above_are_the_same(tmp_path: Path) -> None:
    folder = run_folder(tmp_path) / "me__base"
    for source in (folder, folder / f"results_{STAMP}.json"):
        assert read_results(source).tasks["gsm8k"].samples["strict-match"].doc_ids == (0, 1, 2, 3)


def test_rows_are_read_again_only_when_asked_for(tmp_path: Path) -> None:
    task = read_results(run_folder(tmp_path)).tasks["gsm8k"]
    rows = task.load_rows()
    assert len(rows) == 8 and rows[0]["resps"] == [["an answer"]]
    assert {r["filter"] for r in rows} == {"strict-match", "flexible-extract"}


def test_the_order_of_rows_does_not_matter(tmp_path: Path) -> None:
    rows = gsm8k_rows()
    random.Random(1).shuffle(rows)
    one, other = run_folder(tmp_path / "a"), run_folder(tmp_path / "b", rows)
    for kind in ("strict-match", "flexible-extract"):
        ours, theirs = (read_results(f).tasks["gsm8k"].samples[kind] for f in (one, other))
        assert ours.doc_ids == theirs.doc_ids and ours.documents == theirs.documents
        assert ours.scores["exact_match"].tolist() == theirs.scores["exact_match"].tolist()


@pytest.mark.parametrize(
    "key", ["n-samples", "model_name", "lm_eval_version", "n-shot", "versions", "date", "config"]
)
def test_a_key_may_be_missing_or_null(tmp_path: Path, key: str) -> None:
    for case in ("missing", "null"):
        data = gsm8k_results(**{key: None})
        if case == "missing":
            del data[key]
        folder = run_folder(tmp_path / case)
        write(folder / "me__base" / f"results_{STAMP}.json", data)
        task = read_results(folder).tasks["gsm8k"]
        assert task.scores["exact_match,strict-match"].value == 0.5 and task.n == 4
        assert task.num_fewshot == (None if key == "n-shot" else 5)
        assert task.version == (None if key == "versions" else 3.0)


def test_without_samples_there_are_aggregates_only(tmp_path: Path) -> None:
    data = gsm8k_results()
    task = read_results(write(tmp_path / "mine.json", data)).tasks["gsm8k"]
    assert task.samples == {} and task.load_rows is None and task.n == 4
    del data["n-samples"]
    assert read_results(write(tmp_path / "mine.json", data)).tasks["gsm8k"].n is None


def test_a_model_without_a_name_is_called_after_its_file(tmp_path: Path) -> None:
    data = {"results": {"gsm8k": {"exact_match,none": 0.5}}}
    assert read_results(write(tmp_path / "before.json", data)).name == "before"


def test_model_args_as_text_become_a_mapping(tmp_path: Path) -> None:
    config = {"model": "hf", "model_args": "pretrained=me/x,peft=me/adapter,dtype=bfloat16"}
    data = gsm8k_results(config=config, model_name=None)
    results = read_results(write(tmp_path / "r.json", data))
    assert results.settings["model_args"]["pretrained"] == "me/x"
    assert results.settings["dtype"] == "bfloat16" and results.name == "me/adapter"


@pytest.mark.parametrize("stderr", ["N/A", None, "", " ", float("nan")])
def test_a_standard_error_that_is_none(tmp_path: Path, stderr: Any) -> None:
    data = {"results": {"t": {"acc,none": 0.5, "acc_stderr,none": stderr}}}
    scores = read_results(write(tmp_path / "r.json", data)).tasks["t"].scores
    assert scores == {"acc,none": Score(0.5, None)}


def test_an_aggregate_that_is_nan_is_left_out_and_noted(tmp_path: Path) -> None:
    data = {"results": {"t": {"acc,none": float("nan"), "acc_norm,none": 0.5}}}
    results = read_results(write(tmp_path / "r.json", data))
    assert set(results.tasks["t"].scores) == {"acc_norm,none"}
    assert results.notes == ("t: acc,none is nan in the results and is left out",)


@pytest.mark.parametrize("value", [47.0, -0.1])
def test_an_accuracy_that_is_no_share_is_refused(tmp_path: Path, value: float) -> None:
    path = write(tmp_path / "r.json", {"results": {"t": {"acc,none": value}}})
    assert f"t has acc,none = {value}, which is no share" in refused(path)


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


# ---------------------------------------------------------------------------- several runs, models


HUGE = "1" + "0" * 400  # json reads it as an int that no float holds


@pytest.mark.parametrize("value", [HUGE, "NaN", "true", '"0.45"', "null", "[0.4]"])
def test_a_score_that_is_no_number_is_left_out_by_name(tmp_path: Path, value: str) -> None:
    both = f'{{"results": {{"t": {{"acc,none": {value}, "acc_norm,none": 0.4}}}}}}'
    results = read_results(write(tmp_path / "r.json", both))
    assert results.tasks["t"].scores == {"acc_norm,none": Score(0.4, None)}
    (note,) = results.notes
    assert note.startswith("t: acc,none is ") and len(note) < 120
    alone = write(tmp_path / "r.json", f'{{"results": {{"t": {{"acc,none": {value}}}}}}}')
    assert "has no task with a score (t: acc,none is " in refused(alone)


def test_numbers_that_no_float_holds_are_unknown(tmp_path: Path) -> None:
    text = (
        '{"results": {"t": {"acc,none": 0.5, "acc_stderr,none": %s}}, "n-samples": {"t": %s}, '
        '"n-shot": {"t": %s}, "config": {"limit": %s}}'
    )
    task = read_results(write(tmp_path / "r.json", text % ((HUGE,) * 4))).tasks["t"]
    assert task.scores["acc,none"] == Score(0.5, None)
    assert (task.n, task.num_fewshot, task.limit) == (None, None, None)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "1" * 5_000])
def test_json_that_cannot_be_taken_in_is_refused(tmp_path: Path, text: str) -> None:
    assert "not valid JSON" in refused(write(tmp_path / "r.json", text))
    folder = run_folder(tmp_path / "out")
    write(folder / "me__base" / f"samples_gsm8k_{STAMP}.jsonl", text)
    assert "gsm8k" in refused(folder)


@pytest.mark.parametrize("stderr", [-0.01, 1.3])
def test_a_standard_error_that_no_share_has_is_refused(tmp_path: Path, stderr: float) -> None:
    entry = {"acc,none": 0.45, "acc_stderr,none": stderr}
    path = write(tmp_path / "r.json", {"results": {"t": entry}})
    assert f"t has acc,none = 0.45 with a standard error of {stderr}" in refused(path)


@pytest.mark.parametrize("config", [None, "a text", 5, []])
def test_a_config_that_is_no_object(tmp_path: Path, config: Any) -> None:
    path = write(tmp_path / "r.json", {"results": {"t": {"acc,none": 0.5}}, "config": config})
    assert read_results(path).tasks["t"].scores["acc,none"].value == 0.5


def test_no_documents_are_an_unknown_number(tmp_path: Path) -> None:
    path = write(tmp_path / "r.json", {"results": {"t": {"acc,none": 0.5}}, "n-samples": {"t": 0}})
    assert read_results(path).tasks["t"].n is None


def test_names_are_one_line(tmp_path: Path) -> None:
    data = {"results": {"a\nb|c": {"acc,none": 0.5}}, "model_name": "me\n/x\ud83d"}
    results = read_results(write(tmp_path / "r.json", data))
    assert list(results.tasks) == ["a b|c"] and results.name == "me /x?"


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


def test_a_group_of_unlike_tasks_has_no_count(tmp_path: Path) -> None:
    """Only some of its documents went into each of its scores."""
    data = group_results()
    data["results"]["mmlu"]["f1,none"] = 0.3
    data["results"]["mmlu_b"]["f1,none"] = 0.3
    del data["samples"]
    assert read_results(write(tmp_path / "r.json", data)).tasks["mmlu"].n is None


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


# ------------------------------------------------------------------------------- rows that are bad


def samples_file(folder: Path) -> Path:
    return folder / "me__base" / f"samples_gsm8k_{STAMP}.jsonl"


def test_a_line_cut_off_is_named(tmp_path: Path) -> None:
    path = samples_file(run_folder(tmp_path))
    path.write_text(path.read_text()[:-200])
    message = refused(tmp_path)
    assert message.startswith(f"{path} line 8 is not whole JSON")


def test_rows_cut_off_at_a_line_end_are_missed(tmp_path: Path) -> None:
    path = samples_file(run_folder(tmp_path, gsm8k_rows()[:-1]))
    message = refused(tmp_path)
    assert str(path) in message and "3 documents where the results say 4" in message


def test_rows_cut_off_between_filters_are_missed(tmp_path: Path) -> None:
    run_folder(tmp_path, gsm8k_rows()[:4])
    assert "no rows of filter 'flexible-extract'" in refused(tmp_path)


def test_fewer_rows_than_said_are_whole_if_their_hash_says_so(tmp_path: Path) -> None:
    rows = gsm8k_rows()
    keys = ("doc_hash", "prompt_hash", "target_hash")
    hashes = {"gsm8k": digest("".join(r[key] for r in rows for key in keys))}
    counts = {"gsm8k": {"original": 1319, "effective": 1319}}  # as 0.4.9 says with --samples
    results = read_results(run_folder(tmp_path, **{"n-samples": counts, "task_hashes": hashes}))
    assert results.tasks["gsm8k"].n == 4 and "1319" in results.notes[0]


def test_a_doubled_row_is_refused(tmp_path: Path) -> None:
    run_folder(tmp_path, [*gsm8k_rows(), gsm8k_rows()[2]])
    assert "doc_id 2 is there twice" in refused(tmp_path)


@pytest.mark.parametrize("score", [float("nan"), float("inf"), None, "1"])
def test_a_score_that_is_no_number_is_refused(tmp_path: Path, score: Any) -> None:
    rows = gsm8k_rows()
    rows[1]["exact_match"] = score
    path = samples_file(run_folder(tmp_path, rows))
    message = refused(tmp_path)
    assert f"{path} (gsm8k): doc_id 1 has exact_match = {score!r}" in message


def test_truth_values_count_as_numbers(tmp_path: Path) -> None:
    rows = gsm8k_rows()
    for each in rows:
        each["exact_match"] = bool(each["exact_match"])
    samples = read_results(run_folder(tmp_path, rows)).tasks["gsm8k"].samples
    assert samples["strict-match"].scores["exact_match"].tolist() == STRICT


def test_documents_that_contradict_the_aggregate_are_refused(tmp_path: Path) -> None:
    rows = gsm8k_rows()
    rows[1]["exact_match"] = 1.0
    run_folder(tmp_path, rows)
    message = refused(tmp_path)
    assert "mean exact_match is 0.75" in message and "the results say 0.5" in message


def test_rows_of_another_task_are_refused(tmp_path: Path) -> None:
    rows = [row(i, f, acc=1.0) for f in ("strict-match", "flexible-extract") for i in range(4)]
    run_folder(tmp_path, rows)
    assert "no row has exact_match" in refused(tmp_path)


def test_a_metric_that_is_no_mean_keeps_its_aggregate_only(tmp_path: Path) -> None:
    data = {"results": {"t": {"acc,none": 0.5, "mcc,none": 0.1, "ppl,none": 7.0, "f1,none": 0.5}}}
    write(tmp_path / f"results_{STAMP}.json", data)
    rows = [row(i, "none", acc=i, mcc=float(i), ppl=[-3.2, 4], f1=0.5) for i in range(2)]
    del rows[0]["f1"]
    write_lines(tmp_path / f"samples_t_{STAMP}.jsonl", rows)
    results = read_results(tmp_path)
    assert set(results.tasks["t"].scores) == {"acc,none", "mcc,none", "ppl,none", "f1,none"}
    assert set(results.tasks["t"].samples["none"].scores) == {"acc"}
    assert sorted(results.notes) == [
        "t: f1 is missing in some documents; only its aggregate is used",
        "t: mcc is not the mean of its documents' values; only its aggregate is used",
        "t: ppl is not one number a document; only its aggregate is used",
    ]


@pytest.mark.parametrize("text", ["", "\n", "[]", '{"doc": 1}\n', "[1, 2]"])
def test_a_samples_file_that_is_none(tmp_path: Path, text: str) -> None:
    path = samples_file(run_folder(tmp_path))
    path.write_text(text)
    message = refused(tmp_path)
    assert str(path) in message and ("no rows" in message or "no doc_id" in message)


@pytest.mark.parametrize("rewrite", [str, float])
def test_ids_that_another_tool_rewrote_are_the_same(tmp_path: Path, rewrite: Any) -> None:
    rows = [{**r, "doc_id": rewrite(r["doc_id"])} for r in gsm8k_rows()]
    task = read_results(run_folder(tmp_path, rows)).tasks["gsm8k"]
    assert task.samples["strict-match"].doc_ids == (0, 1, 2, 3)
    assert {r["doc_id"] for r in task.load_rows()} == {0, 1, 2, 3}


def test_an_id_that_is_a_text_stays_one(tmp_path: Path) -> None:
    names = ["07", "a", "", "1" * 20]
    rows = [{**r, "doc_id": names[r["doc_id"]]} for r in gsm8k_rows()]
    task = read_results(run_folder(tmp_path, rows)).tasks["gsm8k"]
    assert set(task.samples["strict-match"].doc_ids) == set(names)


def test_samples_may_start_with_a_byte_order_mark(tmp_path: Path) -> None:
    file = run_folder(tmp_path) / "me__base" / f"samples_gsm8k_{STAMP}.jsonl"
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n"))
    assert read_results(tmp_path).tasks["gsm8k"].n == 4


@pytest.mark.parametrize("named", [5, "exact_match", {"a": 1}, [{"a": 1}], []])
def test_metrics_that_are_no_list_of_names(tmp_path: Path, named: Any) -> None:
    rows = [{**r, "metrics": named} for r in gsm8k_rows()]
    folder = run_folder(tmp_path, rows) / "me__base"
    (folder / f"results_{STAMP}.json").unlink()
    found = read_results(folder).tasks["gsm8k"].scores
    assert found["exact_match,flexible-extract"].value == 0.75


def test_half_a_character_in_a_document_is_hashed(tmp_path: Path) -> None:
    rows = [{**r, "doc": {"question": "\ud83d"}, "doc_hash": None} for r in gsm8k_rows()]
    found = read_results(run_folder(tmp_path, rows)).tasks["gsm8k"].samples["strict-match"]
    assert None not in found.doc_hashes


def test_a_line_end_inside_a_string_ends_no_row(tmp_path: Path) -> None:
    rows = gsm8k_rows()
    rows[0]["target"] = "one\u2028two\x85three\r"
    path = run_folder(tmp_path) / "me__base" / f"samples_gsm8k_{STAMP}.jsonl"
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), newline="")
    assert read_results(tmp_path).tasks["gsm8k"].n == 4


# ---------------------------------------------------------------------------------- older layouts


def test_version_0_3(tmp_path: Path) -> None:
    name = "hendrycksTest-high_school_computer_science"
    data = {
        "results": {
            name: {"acc": 0.47, "acc_stderr": 0.05, "acc_norm": 0.34, "acc_norm_stderr": 0.04}
        },
        "versions": {name: 1},
        "config": {
            "model": "hf-causal",
            "model_args": "pretrained=meta-llama/Llama-3.2-1B",
            "num_fewshot": 5,
            "limit": None,
        },
    }
    results = read_results(write(tmp_path / "out.json", data))
    task = results.tasks["mmlu_high_school_computer_science"]
    assert task.scores == {"acc,none": Score(0.47, 0.05), "acc_norm,none": Score(0.34, 0.04)}
    assert (task.version, task.num_fewshot, task.limit, task.n) == (1, 5, None, None)
    assert results.name == "meta-llama/Llama-3.2-1B" and task.samples == {}


def old_rows(first: list[int], second: list[int]) -> list[dict[str, Any]]:
    """Rows of 0.4.0 to 0.4.2: neither filter nor hashes, one filter's after the other's."""
    keep = ("doc_id", "doc", "target", "arguments", "resps", "filtered_resps")
    scores = [*enumerate(first), *enumerate(second)]
    return [{**{k: row(i, "")[k] for k in keep}, "exact_match": float(v)} for i, v in scores]


def old_folder(folder: Path, rows: list[dict[str, Any]]) -> Path:
    data = gsm8k_results()
    for key in ("n-samples", "lm_eval_version", "model_name", "higher_is_better"):
        del data[key]
    data["config"] = {"model": "hf", "model_args": "pretrained=me/base,dtype=float32"}
    write(folder / "results.json", data)
    name = "pretrained__me__base,dtype__float32_gsm8k.jsonl"
    write(folder / name, json.dumps(rows, indent=2))
    return folder


def test_old_rows_without_a_filter_go_by_their_turn(tmp_path: Path) -> None:
    task = read_results(old_folder(tmp_path, old_rows(STRICT, FLEXIBLE))).tasks["gsm8k"]
    assert task.samples["strict-match"].scores["exact_match"].tolist() == STRICT
    assert task.samples["flexible-extract"].scores["exact_match"].tolist() == FLEXIBLE
    assert [r["filter"] for r in task.load_rows()] == ["strict-match"] * 4 + [
        "flexible-extract"
    ] * 4
    assert task.n == 4 and task.samples["strict-match"].prompt_hashes == (None,) * 4


def test_old_rows_whose_turns_are_the_other_way_round(tmp_path: Path) -> None:
    task = read_results(old_folder(tmp_path, old_rows(FLEXIBLE, STRICT))).tasks["gsm8k"]
    assert task.samples["strict-match"].scores["exact_match"].tolist() == STRICT
    assert task.load_rows()[0]["filter"] == "flexible-extract"


def test_old_rows_have_the_document_hash_of_newer_ones(tmp_path: Path) -> None:
    task = read_results(old_folder(tmp_path, old_rows(STRICT, FLEXIBLE))).tasks["gsm8k"]
    text = '{\n  "question": "question 2"\n}'  # what lm-eval's json.dumps(indent=2) makes of it
    assert task.samples["strict-match"].doc_hashes[2] == digest(text)


def test_old_rows_that_fit_no_filter_are_refused(tmp_path: Path) -> None:
    old_folder(tmp_path, old_rows([1, 1, 1, 1], FLEXIBLE))
    assert "fit no filter" in refused(tmp_path)


def test_old_rows_in_another_order_are_refused(tmp_path: Path) -> None:
    rows = old_rows(STRICT, FLEXIBLE)
    random.Random(2).shuffle(rows)
    old_folder(tmp_path, rows)
    assert "order lm-eval wrote them" in refused(tmp_path)


def test_old_rows_doubled_or_missing_are_refused(tmp_path: Path) -> None:
    for rows in (old_rows(STRICT, FLEXIBLE)[:-1], old_rows(STRICT, FLEXIBLE) * 2):
        old_folder(tmp_path, rows)
        assert "doubled or missing" in refused(tmp_path)


def test_an_array_cut_off_is_named(tmp_path: Path) -> None:
    folder = old_folder(tmp_path, old_rows(STRICT, FLEXIBLE))
    path = next(folder.glob("*.jsonl"))
    path.write_text(path.read_text()[:-30])
    assert refused(folder).startswith(f"{path} line ")


def test_samples_of_another_model_in_the_folder_are_not_taken(tmp_path: Path) -> None:
    folder = old_folder(tmp_path, old_rows(STRICT, FLEXIBLE))
    next(folder.glob("*.jsonl")).rename(folder / "pretrained__me__other_gsm8k.jsonl")
    assert read_results(folder).tasks["gsm8k"].samples == {}


# ---------------------------------------------------------------------------------------- groups


def group_results(value: float = 0.6, **changes: Any) -> dict[str, Any]:
    data = {
        "results": {
            "mmlu": {"acc,none": value, "acc_stderr,none": "N/A"},
            "mmlu_stem": {" ": " ", "alias": " - stem"},
            "mmlu_a": {"acc,none": 0.5},
            "mmlu_b": {"acc,none": 2 / 3},
        },
        "group_subtasks": {"mmlu": ["mmlu_stem", "mmlu_b"], "mmlu_stem": ["mmlu_a"], "mmlu_a": []},
        "n-samples": {"mmlu_a": {"effective": 2}, "mmlu_b": {"effective": 3}},
        "n-shot": {"mmlu_a": 5, "mmlu_b": 5},
        "samples": {
            "mmlu_a": [row(i, "none", acc=i) for i in range(2)],
            "mmlu_b": [row(i, "none", acc=min(i, 1)) for i in range(3)],
        },
    }
    return {**data, **changes}


def test_a_group_is_its_leaves_joined(tmp_path: Path) -> None:
    results = read_results(write(tmp_path / "r.json", group_results()))
    group = results.tasks["mmlu"]
    assert group.subtasks == ("mmlu_a", "mmlu_b") and group.n == 5 and group.num_fewshot == 5
    assert "mmlu_stem" not in results.tasks  # it has no score of its own
    samples = group.samples["none"]
    assert samples.doc_ids == ("mmlu_a:0", "mmlu_a:1", "mmlu_b:0", "mmlu_b:1", "mmlu_b:2")
    assert samples.scores["acc"].tolist() == [0, 1, 0, 1, 1]
    assert [r["doc_id"] for r in group.load_rows()] == list(samples.doc_ids)
    assert results.tasks["mmlu_a"].subtasks == ()


def test_a_group_that_is_no_mean_over_documents_has_no_samples(tmp_path: Path) -> None:
    macro = (0.5 + 2 / 3) / 2
    group = read_results(write(tmp_path / "r.json", group_results(macro))).tasks["mmlu"]
    assert group.samples == {} and group.load_rows is None and group.n == 5


def test_a_group_whose_leaves_are_unknown(tmp_path: Path) -> None:
    data = group_results(group_subtasks=None)
    group = read_results(write(tmp_path / "r.json", data)).tasks["mmlu"]
    assert group.subtasks == () and group.samples == {} and group.n is None


def test_a_group_within_itself_ends(tmp_path: Path) -> None:
    data = group_results(group_subtasks={"mmlu": ["mmlu", "mmlu_a"]})
    assert "mmlu_a" in read_results(write(tmp_path / "r.json", data)).tasks["mmlu"].subtasks


def indented(*entries: tuple[str, str]) -> dict[str, Any]:
    """What 0.4.0 writes: (task, alias) in its order, without a list of groups."""
    return {"results": {name: {"acc,none": 0.5, "alias": alias} for name, alias in entries}}


def test_groups_of_0_4_0_are_seen_by_their_indentation() -> None:
    data = indented(
        *(("arc", "arc"), ("mmlu", "mmlu"), ("mmlu_h", " - humanities"), ("mmlu_law", "  - law")),
        *(("mmlu_s", " - stem"), ("mmlu_cs", "  - cs"), ("mmlu_maths", "  - maths")),
        *(("bigs", "bigs"), ("big_a", " - a"), ("last", "- last")),
    )
    found = {name: task.subtasks for name, task in read_results(data).tasks.items()}
    assert {name: leaves for name, leaves in found.items() if leaves} == {
        "mmlu": ("mmlu_law", "mmlu_cs", "mmlu_maths"),
        "mmlu_h": ("mmlu_law",),
        "mmlu_s": ("mmlu_cs", "mmlu_maths"),
        "bigs": ("big_a",),
    }


def test_a_list_of_groups_counts_more_than_indentation() -> None:
    data = indented(("a", "a"), ("b", " - b"), ("c", "c")) | {"group_subtasks": {"c": ["a"]}}
    found = {name: task.subtasks for name, task in read_results(data).tasks.items()}
    assert found == {"a": (), "b": (), "c": ("a",)}


def test_indentation_out_of_order_gives_no_groups() -> None:
    """As a tool leaves it that sorts the keys: which group a task is in cannot be told."""
    data = indented(("mmlu", "mmlu"), ("mmlu_a", "  - a"), ("mmlu_stem", " - stem"))
    results = read_results(data)
    assert not any(task.subtasks for task in results.tasks.values())
    (note,) = results.notes
    assert note.startswith("groups are not recognised")


def test_real_groups_of_0_4_0_are_joined() -> None:
    tasks = read_results(DATA / "0.4.0" / "base").tasks
    assert tasks["mmlu"].subtasks == ("mmlu_philosophy", "mmlu_high_school_computer_science")
    assert tasks["mmlu"].samples["none"].scores["acc"].sum() == 5 and tasks["mmlu"].n == 8
    assert tasks["mmlu_stem"].subtasks == ("mmlu_high_school_computer_science",)
    assert tasks["gsm8k"].subtasks == ()


# ------------------------------------------------------------------------------- simple_evaluate


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
    assert task.load_rows()[0]["arguments"] == [("prompt", {"until": ["\n"]})]
    assert type(task.scores["exact_match,strict-match"].value) is float


def test_a_mapping_that_is_no_result() -> None:
    assert refused({"eval_loss": 1.0}).startswith("simple_evaluate: ")
    assert refused({}).startswith("simple_evaluate: ")


# -------------------------------------------------------------------------------- slimlib records


def test_a_record() -> None:
    results = read_results(RECORD)
    task = results.tasks["micro_arithmetic"]
    assert results.name == "micro fine-tuned" and task.role == "gsm8k"
    assert (task.num_fewshot, task.version, task.limit, task.n) == (2, 1.0, 200, 200)
    assert task.scores["exact_match,strict-match"].value == 0.015
    samples = task.samples["strict-match"]
    assert samples.scores["exact_match"].sum() == 3  # 1.5 % of 200
    assert samples.doc_ids == tuple(range(200)) and set(samples.doc_hashes) == {None}
    assert samples.documents == "e3c4051dcaed8871" and task.load_rows is None
    assert results.settings["dtype"] == "float32" and results.settings["lm_eval_version"]


def arm_folder(folder: Path, rows: list[dict[str, Any]] | None = None) -> Path:
    pairs = [[i, digest(f"doc {i}")] for i in range(4)]
    metrics = {
        "exact_match,strict-match": {"value": 0.5, "stderr": None, "scores": STRICT},
        "exact_match,flexible-extract": {"value": 0.75, "stderr": 0.25, "scores": FLEXIBLE},
    }
    entry = {
        "role": "gsm8k",
        "task": "gsm8k",
        "version": 3.0,
        "num_fewshot": 5,
        "n": 4,
        "documents": sha256(pairs),
        "metrics": metrics,
    }
    stages = {"evaluate": {"status": "done", "tasks": {"gsm8k": entry}}}
    record = {"arm": "llama-2k", "label": "Llama fine-tuned", "stages": stages}
    write(folder / "record.json", record)
    rows = gsm8k_rows() if rows is None else rows
    write_lines(folder / "eval" / "gsm8k" / "samples.jsonl", rows)
    return folder


def test_an_arm_has_ids_hashes_and_rows(tmp_path: Path) -> None:
    results = read_results(arm_folder(tmp_path))
    task = results.tasks["gsm8k"]
    samples = task.samples["strict-match"]
    assert results.name == "Llama fine-tuned" and samples.doc_hashes[0] == digest("doc 0")
    assert samples.documents == sha256([[i, digest(f"doc {i}")] for i in range(4)])
    assert len(task.load_rows()) == 8 and task.role == "gsm8k"


def test_an_arm_whose_files_contradict_its_record(tmp_path: Path) -> None:
    rows = gsm8k_rows()
    rows[0]["exact_match"], rows[1]["exact_match"] = 0.0, 1.0  # the same mean, other documents
    assert "is not what" in refused(arm_folder(tmp_path, rows))


@pytest.mark.parametrize("stage", [None, {"status": "running"}])
def test_an_arm_that_is_not_evaluated(tmp_path: Path, stage: Any) -> None:
    stages = {"evaluate": stage} if stage else {"finetune": {"status": "done"}}
    write(tmp_path / "record.json", {"arm": "llama-2k", "stages": stages})
    message = refused(tmp_path)
    assert "'llama-2k' is not evaluated" in message and (
        "running" in message or "missing" in message
    )


def test_a_record_that_is_not_whole(tmp_path: Path) -> None:
    stages = {"evaluate": {"status": "done", "tasks": {"gsm8k": {"n": 3}}}}
    write(tmp_path / "record.json", {"arm": "llama-2k", "stages": stages})
    assert "not a whole record" in refused(tmp_path)


def test_several_arms_or_records_are_refused_by_name(tmp_path: Path) -> None:
    for arm in ("llama-base", "llama-2k"):
        arm_folder(tmp_path / arm)
    assert refused(tmp_path).endswith("give one of them: llama-2k, llama-base")
    assert "several slimlib records" in refused(RECORD.parent)


# ------------------------------------------------------------------ files that lm-eval itself wrote

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
RUNS = sorted(p for p in DATA.glob("*/*") if p.is_dir() and p.name in COUNTS)


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
            assert len(task.load_rows()) == task.n * len(task.samples)
    aggregates = not any(task.samples for task in results.tasks.values())
    assert aggregates == folder.parent.name.startswith(("0.3", "0.4.13-aggregates"))


def test_real_output_of_0_3_keeps_its_own_names_out() -> None:
    results = read_results(DATA / "0.3.0" / "base")
    task = results.tasks["mmlu_high_school_computer_science"]
    assert task.samples == {} and task.n is None and task.limit is None
    assert task.scores["acc_norm,none"].value == pytest.approx(4 / 5)
    assert results.name == "stand-in/base" and "lm_eval_version" not in results.settings


def test_real_output_of_two_models_in_one_folder() -> None:
    assert "several models" in refused(DATA / "0.4.13-file")
    for path in (DATA / "0.4.13-file").glob("*.json"):
        name = path.name.split("_")[0]
        assert read_results(path).name == f"stand-in/{name}"


def test_several_versions_are_there() -> None:
    assert len({p.parent.name.split("-")[0] for p in RUNS}) >= 6


# ------------------------------------------------------------------------------------------ speed


def test_reading_loads_neither_torch_nor_pandas() -> None:
    code = (
        "import sys; from slimlib.results import read_results, align_samples; "
        f"a = read_results({str(RECORD)!r}); align_samples(a, a); "
        "print({'torch', 'pandas', 'matplotlib'} & set(sys.modules))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"

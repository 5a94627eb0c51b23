"""One results object of lm-eval: scores, counts, settings, and what a version did not write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lm_eval_files import (
    FLEXIBLE,
    LETTERS,
    STAMP,
    STRICT,
    choice_row,
    digest,
    gsm8k_results,
    refused,
    row,
    run_folder,
    write,
)
from places import LM_EVAL
from secrets_of_services import TOKENS

from slimlib.common.files import sha256
from slimlib.results import Score, read_results


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


@pytest.mark.parametrize("value", [47.0, -0.1])
def test_an_accuracy_that_is_no_share_is_refused(tmp_path: Path, value: float) -> None:
    path = write(tmp_path / "r.json", {"results": {"t": {"acc,none": value}}})
    assert f"t has acc,none = {value}, which is no share" in refused(path)


HUGE = "1" + "0" * 400  # json reads it as an int that no float holds


@pytest.mark.parametrize("value", [HUGE, "true", '"0.45"', "null", "[0.4]"])
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


def test_a_name_that_fills_pages_is_cut_in_its_middle(tmp_path: Path) -> None:
    data = {"results": {"t": {"acc,none": 0.5}}, "model_name": "a" * 2000 + "b" * 2000}
    name = read_results(write(tmp_path / "r.json", data)).name
    assert name.startswith("aaa") and name.endswith("bbb") and len(name) < 200


def test_a_token_among_the_models_arguments_is_not_read(tmp_path: Path) -> None:
    """`--model_args pretrained=me/x,token=...` stood in the note on what differs."""
    token = TOKENS[0]
    for args in (f"pretrained=me/{token},token={token}", {"pretrained": token, "token": token}):
        data = {"results": {"t": {"acc,none": 0.5}}, "config": {"model_args": args}}
        results = read_results(write(tmp_path / "r.json", data))
        assert token not in f"{results.name} {results.settings}" and "***" in results.name


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


def test_real_output_of_0_3_keeps_its_own_names_out() -> None:
    results = read_results(LM_EVAL / "0.3.0" / "base")
    task = results.tasks["mmlu_high_school_computer_science"]
    assert task.samples == {} and task.n is None and task.limit is None
    assert task.scores["acc_norm,none"].value == pytest.approx(4 / 5)
    assert results.name == "stand-in/base" and "lm_eval_version" not in results.settings


def test_how_a_task_was_asked_is_read_from_its_configuration(tmp_path: Path) -> None:
    arguments = {"until": ["Question:"], "do_sample": False, "max_gen_toks": 64}
    configs = {"gsm8k": {"output_type": "generate_until", "generation_kwargs": arguments}}
    task = read_results(run_folder(tmp_path / "a", configs=configs)).tasks["gsm8k"]
    assert (task.output_type, task.generation, task.chance) == ("generate_until", arguments, 0.0)
    task = read_results(run_folder(tmp_path / "b")).tasks["gsm8k"]  # no configs: the rows tell
    assert (task.output_type, task.generation) == ("generate_until", None)
    bare = read_results(write(tmp_path / "r.json", gsm8k_results())).tasks["gsm8k"]
    assert (bare.output_type, bare.generation, bare.chance) == (None, None, None)


def test_a_mass_of_probability_has_no_chance(tmp_path: Path) -> None:
    """TruthfulQA's mc2: the probability of all right answers."""
    rows = [row(i, "none", acc=0.25) | choice_row("0", LETTERS) for i in range(4)]
    data = {"results": {"t": {"acc,none": 0.25}}, "samples": {"t": rows}}
    assert read_results(data).tasks["t"].chance is None
    rows = [{**r, "acc": float(i % 2)} for i, r in enumerate(rows)]
    data = {"results": {"t": {"acc,none": 0.5}}, "samples": {"t": rows}}
    assert read_results(data).tasks["t"].chance == 1.0  # "A" each time


def test_answers_of_real_files_are_kept() -> None:
    for folder in ("0.4.13", "0.4.0", "0.4.3"):
        for task in read_results(LM_EVAL / folder / "base").tasks.values():
            for samples in task.samples.values():
                assert len(samples.answer_hashes) == len(samples.doc_ids)
                assert None not in samples.answer_hashes

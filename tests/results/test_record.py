"""Slimlib's own records: an arm, its record alone, and what contradicts it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from lm_eval_files import (
    FLEXIBLE,
    STRICT,
    digest,
    gsm8k_rows,
    refused,
    write,
    write_lines,
)
from places import RECORDS

from slimlib.common.files import sha256
from slimlib.results import read_results

RECORD = RECORDS / "micro" / "seed-1" / "llama-2k.json"


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


def test_a_record_keeps_which_documents_belong_together(tmp_path: Path) -> None:
    """Its intervals would be too narrow without, where one question is asked several times."""
    record = json.loads(RECORD.read_text("utf-8"))
    entry = record["stages"]["evaluate"]["tasks"]["micro_arithmetic"]
    entry["clusters"] = [str(i // 2) for i in range(200)]
    write(tmp_path / "arm.json", record)
    samples = read_results(tmp_path / "arm.json").tasks["micro_arithmetic"].samples
    assert samples["strict-match"].clusters == tuple(entry["clusters"])
    del entry["clusters"][0]
    write(tmp_path / "arm.json", record)
    assert "micro_arithmetic: 199 clusters of 200 documents" in refused(tmp_path / "arm.json")


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
    assert len(list(task.load_rows())) == 8 and task.role == "gsm8k"


def test_an_arm_says_how_it_was_asked(tmp_path: Path) -> None:
    folder = arm_folder(tmp_path)
    assert read_results(folder).tasks["gsm8k"].generation is None  # without lm-eval's own results
    settings = {"output_type": "generate_until", "generation_kwargs": {"max_gen_toks": 64}}
    write(folder / "eval" / "gsm8k" / "results.json", {"configs": {"gsm8k": settings}})
    task = read_results(folder).tasks["gsm8k"]
    assert (task.output_type, task.generation) == ("generate_until", {"max_gen_toks": 64})
    assert task.chance == 0.0 and None not in task.samples["strict-match"].answer_hashes
    bare = read_results(
        write(tmp_path / "alone.json", json.loads((folder / "record.json").read_text()))
    )
    assert bare.tasks["gsm8k"].chance is None and bare.tasks["gsm8k"].output_type is None


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


def test_scores_as_digits_and_as_a_list_are_the_same(tmp_path: Path) -> None:
    """Schema 2 has a digit for each document, the first schema a list."""
    record = json.loads((arm_folder(tmp_path) / "record.json").read_text())
    digits = json.loads(json.dumps(record)) | {"schema": 2}
    entry = digits["stages"]["evaluate"]["tasks"]["gsm8k"]
    for result in entry["metrics"].values():
        result["scores"] = "".join(map(str, result["scores"]))
    ours, theirs = (read_results(r).tasks["gsm8k"].samples for r in (digits, record))
    for kind, samples in ours.items():
        found = samples.scores["exact_match"]
        assert found.tolist() == theirs[kind].scores["exact_match"].tolist()
    assert ours["strict-match"].scores["exact_match"].tolist() == STRICT


@pytest.mark.parametrize("scores", ["101", "1012", [1, 0, 1], "1" * 400, 3])
def test_scores_that_do_not_fit_are_refused(tmp_path: Path, scores: Any) -> None:
    record = json.loads((arm_folder(tmp_path) / "record.json").read_text()) | {"schema": 2}
    tasks = record["stages"]["evaluate"]["tasks"]
    tasks["gsm8k"]["metrics"]["exact_match,strict-match"]["scores"] = scores
    message = refused(record)
    assert "needs 4 scores that are numbers" in message or "must be digits 0 and 1" in message


def test_scores_of_a_record_that_are_no_numbers_are_broken(tmp_path: Path) -> None:
    record = json.loads((arm_folder(tmp_path) / "record.json").read_text()) | {"schema": 2}
    metrics = record["stages"]["evaluate"]["tasks"]["gsm8k"]["metrics"]
    metrics["exact_match,strict-match"]["scores"] = [1, 0, 1, None]
    task = read_results(record).tasks["gsm8k"]
    assert list(task.broken) == ["exact_match,strict-match"]
    assert task.samples["strict-match"].scores == {}
    assert task.samples["flexible-extract"].scores["exact_match"].tolist() == FLEXIBLE


def test_a_record_of_a_newer_slimlib_is_refused_in_words(tmp_path: Path) -> None:
    record = json.loads((arm_folder(tmp_path) / "record.json").read_text()) | {"schema": 3}
    path = write(tmp_path / "newer.json", record)
    assert refused(path).startswith(f"{path}: a record of schema 3, and this slimlib reads")

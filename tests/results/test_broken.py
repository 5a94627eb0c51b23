"""Scores that are not numbers: said, and the rest is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lm_eval_files import (
    FLEXIBLE,
    LETTERS,
    STAMP,
    choice_row,
    gsm8k_rows,
    row,
    run_folder,
    write,
    write_lines,
)

from slimlib.results import mean_over_seeds, read_results
from slimlib.results.broken import is_no_number

NAN = float("nan")


@pytest.mark.parametrize("value", [NAN, float("-inf"), None, "nan", "NaN", " -Infinity", "null"])
def test_what_stands_for_no_number(value: Any) -> None:
    assert is_no_number(value)


@pytest.mark.parametrize("value", [0, -1.5, True, "0", "", "banana", [NAN], 10**400])
def test_what_does_not(value: Any) -> None:
    assert not is_no_number(value)


@pytest.mark.parametrize("score", [NAN, float("inf"), None, "nan"])
def test_a_broken_score_is_said_and_the_other_filter_is_read(tmp_path: Path, score: Any) -> None:
    rows = gsm8k_rows()
    rows[1]["exact_match"] = rows[3]["exact_match"] = score
    task = read_results(run_folder(tmp_path, rows)).tasks["gsm8k"]
    assert task.broken == {
        "exact_match,strict-match": "2 of 4 scores of exact_match are not numbers (first: doc_id 1)"
    }
    assert task.samples["strict-match"].scores == {} and task.n == 4
    assert task.samples["flexible-extract"].scores["exact_match"].tolist() == FLEXIBLE


def choices(task: str, folder: Path, broken: set[int], acc: float = 0.5) -> Path:
    rows = [
        row(i, "none", acc=float(i % 2))
        | choice_row("0", LETTERS, ["nan"] * 4 if i in broken else None)
        for i in range(4)
    ]
    write(folder / f"results_{STAMP}.json", {"results": {task: {"acc,none": acc}}})
    write_lines(folder / f"samples_{task}_{STAMP}.jsonl", rows)
    return folder


def test_choices_among_nan_are_broken_though_scored(tmp_path: Path) -> None:
    task = read_results(choices("t", tmp_path, {2, 3})).tasks["t"]
    assert task.broken == {
        "acc,none": "2 of 4 documents have log-likelihoods that are not numbers (first: doc_id 2)"
    }
    assert task.scores["acc,none"].value == 0.5 and task.samples["none"].scores == {}


def test_a_task_of_nothing_but_nan_is_still_there(tmp_path: Path) -> None:
    path = write(tmp_path / "r.json", {"results": {"t": {"acc,none": NAN, "f1,none": NAN}}})
    task = read_results(path).tasks["t"]
    assert task.scores == {}
    assert task.broken == {
        "acc,none": "the results have acc,none = nan, which is not a number",
        "f1,none": "the results have f1,none = nan, which is not a number",
    }


def test_an_aggregate_of_nan_over_rows_that_are_numbers(tmp_path: Path) -> None:
    task = read_results(choices("t", tmp_path, set(), acc=NAN)).tasks["t"]
    assert list(task.broken) == ["acc,none"] and task.samples["none"].scores == {}
    assert task.n == 4 and task.chance == 1.0  # "A" is always right


def test_a_broken_leaf_breaks_its_group(tmp_path: Path) -> None:
    data = {
        "results": {"g": {"acc,none": 0.5}, "a": {"acc,none": 0.5}, "b": {"acc,none": NAN}},
        "group_subtasks": {"g": ["a", "b"]},
    }
    task = read_results(write(tmp_path / "r.json", data)).tasks["g"]
    assert task.broken == {"acc,none": "b: the results have acc,none = nan, which is not a number"}


def test_a_broken_seed_breaks_the_mean(tmp_path: Path) -> None:
    folders = [choices("t", tmp_path / str(i), {1} if i else set()) for i in range(2)]
    task = mean_over_seeds([read_results(folder) for folder in folders]).tasks["t"]
    assert list(task.broken) == ["acc,none"] and task.samples["none"].scores == {}

"""Held-out Alpaca rows: which they are, what is asked, and the score by hand."""

import math

import pytest
from datasets import Dataset
from lm_eval.tasks import TaskManager

from slimlib.comparison.benchmarks import BENCHMARKS, BYTES, SHARE, metric_of, why_not_judged
from slimlib.config import DataConfig
from slimlib.data.alpaca import FIRST, held_out, per_byte, prompt
from slimlib.data.rows import load_rows
from slimlib.data.tasks import task_yaml
from slimlib.studies.mitigation import ALPACA, STUDIES


def test_the_score_is_the_geometric_mean_of_the_bytes():
    """Two bytes, probability 1/16 in all: 1/4 each. "\u00e9" is two bytes."""
    for answer in ("ab", "\u00e9"):
        found = per_byte({"output": answer}, [(math.log(1 / 16), False)])
        assert found == {"byte_probability": pytest.approx(0.25)}
    assert per_byte({"output": "a"}, [(0.0, True)]) == {"byte_probability": 1.0}


def test_it_counts_as_a_share_that_is_better_when_higher():
    assert metric_of(BYTES, mean=True)[:2] == (SHARE, True) and why_not_judged(BYTES) == ""
    assert BENCHMARKS[ALPACA.role].headline == BYTES


def test_the_first_rows_and_those_without_an_answer_are_left_out():
    rows = [{"instruction": "", "input": "", "output": str(i)} for i in range(FIRST + 3)]
    rows[FIRST + 1]["output"] = " "
    assert [*held_out(Dataset.from_list(rows))["output"]] == [str(FIRST), str(FIRST + 2)]
    assert len(held_out(Dataset.from_list(rows[:5]))) == 0


def test_the_prompt_is_that_of_the_training():
    row = {"instruction": "Add.", "input": "1, 2", "output": "3"}
    assert prompt(row).endswith("\nInstruction: Add.\nInput: 1, 2\nOutput:\n<|assistant|>\n")


def test_no_row_that_a_study_trains_on_is_asked(data_folder, tmp_path):
    """On the local files: 400 documents, and the rows of each study's arms."""
    from dataclasses import replace

    path = task_yaml(replace(ALPACA, source=ALPACA.name), data_folder, tmp_path)
    (task,) = TaskManager(include_defaults=False).load([str(path)])["tasks"].values()
    documents = [*task.test_docs()][: ALPACA.limit]
    asked = {(row["instruction"], row["input"]) for row in documents}
    assert len(documents) == 400 and task.doc_to_text(documents[0]) == prompt(documents[0])
    assert task.doc_to_target(documents[0]) == documents[0]["output"]
    for name in ("mitigation", "mitigation_smol"):
        sizes = {arm.data.n for arm in STUDIES[name]().arms if arm.data}
        for n in sizes:
            rows = load_rows(DataConfig(n=n), 0, data_folder)
            assert not asked & {(row["instruction"], row["input"]) for row in rows}, (name, n)

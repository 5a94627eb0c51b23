"""Documents that share a passage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lm_eval_files import STAMP, row, write, write_lines

from slimlib.common.clusters import cluster_field, cluster_of, shared
from slimlib.results import read_results


@pytest.mark.parametrize(
    ("task", "field"),
    [
        ("multirc", "idx.paragraph"),
        ("super_glue-multirc", "idx.paragraph"),
        ("race", "article"),
        ("record", "passage"),
        ("boolq", "passage"),
        ("squadv2", "context"),
        ("belebele_ace_Arab", "link"),
        ("drop", "passage"),
        ("coqa", "story"),
        ("mnli_mismatch", "premise"),
        ("digits_equation", "equation"),
        ("gsm8k", ""),
        ("racer", ""),
        ("hellaswag", ""),
    ],
)
def test_the_field_of_a_task(task: str, field: str) -> None:
    assert cluster_field(task) == field


def test_what_a_document_shares() -> None:
    assert cluster_of({"idx": {"paragraph": 7, "answer": 1}}, "idx.paragraph") == "7"
    assert cluster_of({"idx": 3}, "idx.paragraph") is None
    assert cluster_of(None, "passage") is None and cluster_of({"passage": ""}, "passage") is None
    long = [cluster_of({"passage": "x" * 500 + end}, "passage") for end in "aab"]
    assert long[0] == long[1] != long[2] and len(long[0]) == 16


def test_clusters_of_one_document_each_are_none() -> None:
    assert shared(["a", "b"]) == () and shared([]) == () and shared(["a", None, "a"]) == ()
    assert shared(["a", "b", "a"]) == ("a", "b", "a")


def passages(task: str, *names: str) -> list[dict[str, Any]]:
    rows = [row(i, "none", acc=float(i % 2)) for i, _ in enumerate(names)]
    return [{**r, "doc": {"passage": name}} for r, name in zip(rows, names, strict=True)]


def test_a_group_keeps_the_clusters_of_its_leaves(tmp_path: Path) -> None:
    data = {
        "results": {"g": {"acc,none": 0.5}, "boolq": {"acc,none": 0.5}, "t": {"acc,none": 0.5}},
        "group_subtasks": {"g": ["boolq", "t"]},
    }
    write(tmp_path / f"results_{STAMP}.json", data)
    for task in ("boolq", "t"):
        rows = passages(task, "one", "two", "one", "two")
        write_lines(tmp_path / f"samples_{task}_{STAMP}.jsonl", rows)
    tasks = read_results(tmp_path).tasks
    assert tasks["boolq"].samples["none"].clusters == ("one", "two", "one", "two")
    assert (tasks["boolq"].cluster, tasks["t"].cluster) == ("passage", "")
    assert tasks["g"].samples["none"].clusters == (
        *("boolq:one", "boolq:two", "boolq:one", "boolq:two"),
        *("t:0", "t:1", "t:2", "t:3"),
    )

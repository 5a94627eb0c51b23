"""Groups of tasks: which tasks are under one, and their documents joined."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lm_eval_files import (
    LETTERS,
    choice_row,
    group_results,
    write,
)
from places import LM_EVAL

from slimlib.results import align_samples, read_results


def test_a_group_of_unlike_tasks_has_no_count(tmp_path: Path) -> None:
    """Only some of its documents went into each of its scores."""
    data = group_results()
    data["results"]["mmlu"]["f1,none"] = 0.3
    data["results"]["mmlu_b"]["f1,none"] = 0.3
    del data["samples"]
    assert read_results(write(tmp_path / "r.json", data)).tasks["mmlu"].n is None


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
    results = read_results(write(tmp_path / "r.json", group_results(macro)))
    group = results.tasks["mmlu"]
    assert group.samples == {} and group.load_rows is None and group.n == 5
    assert results.notes[0].startswith("mmlu: acc is not the mean over the documents of its tasks")


def test_a_group_knows_of_its_leaves_how_it_was_asked(tmp_path: Path) -> None:
    data = group_results()
    for i, each in enumerate(rows for rows in data["samples"].values()):
        each[:] = [{**r, **choice_row("0", LETTERS[: 4 - 2 * i])} for r in each]
    group = read_results(write(tmp_path / "r.json", data)).tasks["mmlu"]
    assert group.output_type == "multiple_choice" and group.chance == 1.0  # always "A"
    assert len(group.samples["none"].answer_hashes) == 5
    assert len(set(group.samples["none"].answer_hashes)) == 2


def test_paired_groups(tmp_path: Path) -> None:
    base, tuned = group_results(), group_results(0.4)
    tuned["samples"]["mmlu_b"][1]["acc"] = 0
    tuned["results"]["mmlu_b"]["acc,none"] = 1 / 3
    aligned = align_samples(base, tuned)
    assert aligned.pairs["mmlu", "none"].rule == "doc_id and doc_hash"
    left, right = aligned.scores("mmlu", "acc", "none")
    assert left.tolist() == [0, 1, 0, 1, 1] and right.tolist() == [0, 1, 0, 0, 1]


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
    tasks = read_results(LM_EVAL / "0.4.0" / "base").tasks
    assert tasks["mmlu"].subtasks == ("mmlu_philosophy", "mmlu_high_school_computer_science")
    assert tasks["mmlu"].samples["none"].scores["acc"].sum() == 5 and tasks["mmlu"].n == 8
    assert tasks["mmlu_stem"].subtasks == ("mmlu_high_school_computer_science",)
    assert tasks["gsm8k"].subtasks == ()

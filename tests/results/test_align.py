"""Pairing two results: which documents are the same, what is refused, what is listed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from places import LM_EVAL, RECORDS

from slimlib.results import (
    Results,
    ResultsError,
    Samples,
    Score,
    TaskResults,
    align_samples,
    mean_over_seeds,
    read_results,
)
from slimlib.results.samples import documents_hash

DATA = LM_EVAL
RECORDS = RECORDS / "micro"


def samples(
    scores: list[float], ids: Any = None, hashes: Any = None, prompts: Any = None
) -> Samples:
    ids = tuple(range(len(scores)) if ids is None else ids)
    hashes = tuple(f"h{i}" for i in ids) if hashes is None else tuple(hashes)
    prompts = tuple(f"p{i}" for i in ids) if prompts is None else tuple(prompts)
    documents = documents_hash(ids, hashes)
    return Samples(ids, hashes, prompts, {"acc": np.array(scores, float)}, documents)


def bare(scores: list[float], documents: str) -> Samples:
    """Of a record: positions, and one hash over all documents."""
    nothing = (None,) * len(scores)
    ids = tuple(range(len(scores)))
    return Samples(ids, nothing, nothing, {"acc": np.array(scores, float)}, documents)


def results(
    name: str, found: Samples | None = None, settings: Any = None, **changes: Any
) -> Results:
    found = samples([1, 0, 1, 0]) if found is None else found
    value = float(found.scores["acc"].mean())
    task = TaskResults("t", {"acc,none": Score(value, None)}, {"none": found}, 1.0, 5)
    task = replace(task, **{"n": len(found.doc_ids), **changes})
    return Results(f"{name}.json", name, {"t": task}, settings or {})


def refused(base: Results, tuned: Results, strict: bool = True) -> str:
    with pytest.raises(ResultsError) as error:
        align_samples(base, tuned, strict)
    assert "\n" not in str(error.value)
    return str(error.value)


# ------------------------------------------------------------------------------------------ pairs


def test_a_model_with_itself_pairs_every_document() -> None:
    base = results("base")
    aligned = align_samples(base, base)
    pair = aligned.pairs["t", "none"]
    assert pair.base.tolist() == pair.tuned.tolist() == [0, 1, 2, 3]
    assert (pair.only_base, pair.only_tuned, pair.changed) == ((), (), ())
    assert pair.rule == "doc_id and doc_hash" and pair.prompts_differ == 0
    assert aligned.unmatched == () and aligned.differences == ()
    ours, theirs = aligned.scores("t", "acc", "none")
    assert ours.tolist() == theirs.tolist() == [1, 0, 1, 0]


def test_documents_are_paired_by_id_not_by_place() -> None:
    tuned = samples([0.5, 0.25, 0.75], ids=(3, 0, 9))
    aligned = align_samples(results("base"), results("tuned", tuned, n=None))
    pair = aligned.pairs["t", "none"]
    assert pair.base.tolist() == [0, 3] and pair.tuned.tolist() == [1, 0]
    assert pair.only_base == (1, 2) and pair.only_tuned == (9,)
    assert [side.tolist() for side in aligned.scores("t", "acc", "none")] == [[1, 0], [0.25, 0.5]]
    assert aligned.unmatched == (
        "t: documents only in base: 2 (doc_id 1, 2)",
        "t: documents only in tuned: 1 (doc_id 9)",
    )


def test_another_document_under_the_same_id_is_not_paired() -> None:
    tuned = results("tuned", samples([0, 0, 0, 1], hashes=("h0", "other", "h2", "h3")))
    pair = align_samples(results("base"), tuned).pairs["t", "none"]
    assert pair.changed == (1,) and pair.base.tolist() == [0, 2, 3]


def test_swapping_the_models_mirrors_everything() -> None:
    base = results("base", samples([1, 0, 1], ids=(0, 1, 2)), {"batch_size": 4}, n=None)
    tuned = samples([0.5, 0.25, 0.75], ids=(3, 0, 2), hashes=("h3", "h0", "other"))
    tuned = results("tuned", tuned, {"batch_size": 8}, n=None)
    one, other = align_samples(base, tuned), align_samples(tuned, base)
    first, second = one.pairs["t", "none"], other.pairs["t", "none"]
    assert first.only_base == second.only_tuned == (1,)
    assert first.only_tuned == second.only_base == (3,)
    assert first.changed == second.changed == (2,)
    ours, theirs = one.scores("t", "acc", "none"), other.scores("t", "acc", "none")
    assert ours[0].tolist() == theirs[1].tolist() and ours[1].tolist() == theirs[0].tolist()
    assert one.differences == ("batch_size: 4 against 8",)
    assert other.differences == ("batch_size: 8 against 4",)


def test_without_hashes_the_id_alone_decides_and_the_rule_says_so() -> None:
    plain = replace(samples([1, 1, 0, 0], hashes=(None,) * 4), documents=None)
    pair = align_samples(results("base"), results("tuned", plain)).pairs["t", "none"]
    assert len(pair.base) == 4 and "doc_id alone" in pair.rule


def test_unknown_prompts_stay_unknown_and_other_ones_are_counted() -> None:
    unknown = results("tuned", samples([1, 1, 0, 0], prompts=(None,) * 4))
    assert align_samples(results("base"), unknown).pairs["t", "none"].prompts_differ is None
    other = results("tuned", samples([1, 1, 0, 0], prompts=("p0", "x", "y", "p3")))
    aligned = align_samples(results("base"), other)
    assert aligned.pairs["t", "none"].prompts_differ == 2
    assert aligned.differences == ("t: 2 of 4 documents have other prompts",)


def test_the_table() -> None:
    tuned = results("tuned", samples([0.5, 0.25], ids=(3, 9)), n=None)
    table = align_samples(results("base"), tuned).table()
    columns = ["task", "filter", "matched", "only base", "only tuned", "changed", "rule"]
    assert list(table.columns) == columns
    assert table.iloc[0].tolist() == ["t", "none", 1, 3, 1, 0, "doc_id and doc_hash"]


def test_scores_that_are_not_there() -> None:
    aligned = align_samples(results("base"), results("tuned"))
    assert aligned.scores("t", "f1", "none") is None
    assert aligned.scores("t", "acc", "strict-match") is None
    assert aligned.scores("other", "acc", "none") is None


# --------------------------------------------------------------------------------- bare records


def test_bare_records_pair_by_position_if_their_documents_are_equal() -> None:
    base, tuned = results("a", bare([1, 0], "same")), results("b", bare([0, 0], "same"))
    pair = align_samples(base, tuned).pairs["t", "none"]
    assert pair.base.tolist() == [0, 1] and "position" in pair.rule and pair.prompts_differ is None


def test_bare_records_of_other_documents_do_not_pair() -> None:
    base, tuned = results("a", bare([1, 0], "one")), results("b", bare([0, 0], "other"))
    aligned = align_samples(base, tuned)
    assert aligned.pairs == {} and "hashes over them differ" in aligned.unmatched[0]


def test_a_bare_record_pairs_with_files_of_the_same_documents() -> None:
    full = samples([1, 0, 1, 0])
    aligned = align_samples(results("a", full), results("b", bare([0, 0, 1, 0], full.documents)))
    ours, theirs = aligned.scores("t", "acc", "none")
    assert ours.tolist() == [1, 0, 1, 0] and theirs.tolist() == [0, 0, 1, 0]


def test_two_committed_records_pair() -> None:
    base = read_results(RECORDS / "seed-1" / "llama-base.json")
    tuned = read_results(RECORDS / "seed-1" / "llama-2k.json")
    aligned = align_samples(base, tuned)
    assert len(aligned.pairs) == 4 and aligned.unmatched == () and aligned.differences == ()
    ours, theirs = aligned.scores("micro_arithmetic", "exact_match", "flexible-extract")
    assert 100 * ours.mean() == pytest.approx(79.0) and 100 * theirs.mean() == pytest.approx(1.0)


# --------------------------------------------------------------------------------------- refusals


def test_no_task_in_common_names_both_lists() -> None:
    base = results("base")
    tuned = replace(base, tasks={"u": replace(base.tasks["t"], task="u")}, source="tuned.json")
    message = refused(base, tuned)
    assert "no task in common: t against u" in message and "tuned.json" in message
    assert "none" in refused(base, replace(base, tasks={}))


@pytest.mark.parametrize(
    "change, words",
    [
        ({"num_fewshot": 0}, "t: n-shot 5 against 0"),
        ({"version": 2.0}, "t: version 1.0 against 2.0"),
        ({"limit": 2}, "t: limit none (4 documents) against 2 (4 documents)"),
    ],
)
def test_what_forbids_comparing_is_refused_unless_told(change: Any, words: str) -> None:
    base, tuned = results("base"), results("tuned", **change)
    message = refused(base, tuned)
    assert words in message and "strict=False" in message and "--no-strict" in message
    aligned = align_samples(base, tuned, strict=False)
    assert len(aligned.pairs["t", "none"].base) == 4 and words in aligned.differences


def test_every_difference_is_listed() -> None:
    message = refused(results("base"), results("tuned", num_fewshot=0, version=2))
    assert "n-shot" in message and "version" in message


@pytest.mark.parametrize("change", [{"num_fewshot": None}, {"version": None}, {"version": "1"}])
def test_what_one_side_does_not_say_is_no_difference(change: Any) -> None:
    assert align_samples(results("base"), results("tuned", **change)).differences == ()


def test_other_numbers_of_documents_are_another_limit() -> None:
    tuned = results("tuned", samples([1, 0]))
    assert "t: limit none (4 documents) against none (2 documents)" in refused(
        results("base"), tuned
    )
    pair = align_samples(results("base"), tuned, strict=False).pairs["t", "none"]
    assert pair.only_base == (2, 3)


def test_limits_are_compared_where_counts_are_unknown() -> None:
    base = results("base")
    task = replace(base.tasks["t"], n=None, samples={})
    one = replace(base, tasks={"t": replace(task, limit=100)})
    other = replace(base, tasks={"t": replace(task, limit=0.5)})
    assert "t: limit 100 against 0.5" in refused(one, other)
    assert "t: limit 100 against none" in refused(one, replace(base, tasks={"t": task}))


def test_a_limit_beyond_the_documents_changes_nothing() -> None:
    assert align_samples(results("base"), results("tuned", limit=1000)).differences == ()


def test_the_same_ids_with_other_documents_are_another_revision() -> None:
    tuned = results("tuned", samples([1, 0, 1, 0], hashes="abcd"))
    message = refused(results("base"), tuned)
    assert "another revision" in message and "strict=False" in message
    aligned = align_samples(results("base"), tuned, strict=False)
    assert aligned.pairs == {} and "another revision" in aligned.unmatched[0]


def test_no_id_in_common() -> None:
    tuned = results("tuned", samples([1, 0, 1, 0], ids=(4, 5, 6, 7)))
    assert "no doc_id in common" in refused(results("base"), tuned)


# ------------------------------------------------------------------------- what has no partner


def test_aggregates_only_are_said_and_not_paired() -> None:
    base, tuned = results("base"), results("tuned", samples=None)
    tuned = replace(tuned, tasks={"t": replace(tuned.tasks["t"], samples={})})
    aligned = align_samples(base, tuned)
    assert aligned.pairs == {} and aligned.scores("t", "acc", "none") is None
    assert aligned.unmatched == ("t: no per-document results in tuned (tuned)",)


def test_tasks_and_filters_of_one_side_are_named() -> None:
    base, tuned = results("base"), results("tuned")
    extra = replace(base.tasks["t"], task="u")
    scores = {**base.tasks["t"].scores, "acc,other": Score(0.5, None)}
    more = replace(base.tasks["t"], scores=scores)
    aligned = align_samples(replace(base, tasks={"t": more, "u": extra}), tuned)
    assert aligned.unmatched == ("t: acc,other only in base (base)", "u: only in base (base)")


def test_a_group_of_other_subtasks_is_refused() -> None:
    base, tuned = results("base", subtasks=("a", "b")), results("tuned", subtasks=("a", "c"))
    assert "t: a group of other subtasks (b, c)" in refused(base, tuned)
    assert align_samples(base, results("tuned", subtasks=())).differences == ()


def test_a_version_that_is_no_sensible_number_is_shown_short() -> None:
    message = refused(results("base", version=10**400), results("tuned", version=1))
    assert "version 1000" in message and len(message) < 300


def test_settings_that_differ_are_listed_and_never_refused() -> None:
    ours = {"dtype": "float16", "batch_size": 4, "chat_template": None, "max_length": 2048}
    ours["model_args"] = {"pretrained": "a", "load_in_4bit": True, "dtype": "float16"}
    theirs = {"dtype": "float32", "batch_size": "4", "chat_template": "{% for m in messages %}" * 9}
    theirs["model_args"] = {"pretrained": "b", "dtype": "float32"}
    aligned = align_samples(results("base", settings=ours), results("tuned", settings=theirs))
    assert aligned.differences == (
        "dtype: float16 against float32",
        "chat_template: none against {% for m in messages %}{% for m in me...",
        "model argument load_in_4bit: True against not set",
    )


# ---------------------------------------------------------------------------------- over the seeds


def test_the_mean_of_one_seed_is_itself() -> None:
    one = results("arm")
    assert mean_over_seeds([one]) is one


def test_the_mean_over_seeds_is_taken_document_by_document() -> None:
    seeds = [results("arm", samples(list(s))) for s in ((1, 0, 0, 0), (1, 1, 0, 0), (1, 1, 0, 1))]
    mean = mean_over_seeds(seeds)
    found = mean.tasks["t"].samples["none"].scores["acc"]
    assert found == pytest.approx([1, 2 / 3, 0, 1 / 3])
    # by hand: (0.25 + 0.5 + 0.75) / 3
    assert mean.tasks["t"].scores["acc,none"] == Score(pytest.approx(0.5), None)
    by_seed = mean.tasks["t"].samples["none"].by_seed["acc"]
    assert by_seed.tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 0, 1]]
    assert seeds[0].tasks["t"].samples["none"].by_seed == {}
    assert mean.name == "arm (3 seeds)" and mean.tasks["t"].n == 4


def test_an_answer_of_several_seeds_is_one_where_all_give_the_same() -> None:
    hashes = (("x", "y", None, "z"), ("x", "w", "v", "z"))
    seeds = [results("arm", replace(samples([1, 0, 1, 0]), answer_hashes=h)) for h in hashes]
    mean = mean_over_seeds(seeds).tasks["t"].samples["none"]
    assert mean.answer_hashes == ("x", "y+w", None, "z")
    unknown = mean_over_seeds([seeds[0], results("arm", samples([1, 0, 1, 0]))])
    assert unknown.tasks["t"].samples["none"].answer_hashes == ()


def test_seeds_on_other_documents_or_tasks_are_refused() -> None:
    one = results("arm")
    cases = [
        results("arm", samples([1, 0, 1, 0], hashes="abcd")),
        results("arm", samples([1, 0])),
        results("arm", num_fewshot=0),
        replace(one, tasks={}),
        results("arm", bare([1, 0, 1, 0], "other")),
        replace(one, tasks={"t": replace(one.tasks["t"], samples={})}),
    ]
    for other in cases:
        with pytest.raises(ResultsError, match="arm.json"):
            mean_over_seeds([one, other])
    with pytest.raises(ResultsError, match="no results"):
        mean_over_seeds([])


def test_the_committed_seeds_average() -> None:
    seeds = [read_results(RECORDS / f"seed-{s}" / "llama-2k.json") for s in (1, 2, 3407)]
    mean = mean_over_seeds(seeds)
    # by hand from the README's table: (1.0 + 1.5 + 12.5) / 3 = 5.0 %
    score = mean.tasks["micro_arithmetic"].scores["exact_match,flexible-extract"]
    assert 100 * score.value == pytest.approx(5.0) and score.stderr is None
    base = mean_over_seeds(
        [read_results(RECORDS / f"seed-{s}" / "llama-base.json") for s in (1, 2)]
    )
    assert len(align_samples(base, mean).pairs) == 4


# ------------------------------------------------------------------ files that lm-eval itself wrote

BOTH = sorted(p for p in LM_EVAL.glob("*") if (p / "base").is_dir() and (p / "tuned").is_dir())


@pytest.mark.parametrize("folder", BOTH, ids=lambda p: p.name)
def test_real_outputs_of_one_version_pair(folder: Path) -> None:
    base, tuned = read_results(folder / "base"), read_results(folder / "tuned")
    aligned = align_samples(base, tuned)
    for (task, kind), pair in aligned.pairs.items():
        assert len(pair.base) == base.tasks[task].n and pair.rule == "doc_id and doc_hash", kind
    if any(task.samples for task in base.tasks.values()):
        assert aligned.pairs


def test_real_outputs_of_two_versions_pair_where_told_to() -> None:
    base = read_results(LM_EVAL / "0.4.2" / "base")  # neither filters nor hashes in its rows
    tuned = read_results(LM_EVAL / "0.4.13" / "tuned")
    with pytest.raises(ResultsError, match="mmlu_high_school_computer_science: version 0.0"):
        align_samples(base, tuned)
    aligned = align_samples(base, tuned, strict=False)
    pair = aligned.pairs["gsm8k", "strict-match"]
    assert (
        len(pair.base) == 8 and pair.rule == "doc_id and doc_hash" and pair.prompts_differ is None
    )


def test_real_outputs_of_two_limits_are_refused() -> None:
    base = read_results(LM_EVAL / "0.4.13" / "base")
    with pytest.raises(ResultsError, match=r"limit none \(6 documents\) against 4 \(4 documents\)"):
        align_samples(base, read_results(LM_EVAL / "0.4.13-limit4" / "tuned"))

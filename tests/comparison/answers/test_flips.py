"""Which documents flipped: by which metric and filter, of which documents."""

from dataclasses import replace

import pytest
from test_outcome import gsm8k, results, samples

from slimlib.comparison.answers.flips import (
    FLIP_COLUMNS,
    GAINED,
    LOST,
    _metric_and_filter,
    align_task,
    flips,
    paired_ids,
)
from slimlib.results import ResultsError, TaskResults


def scored(*pairs):
    """A task with the scores of one document for each (metric, filter)."""
    kinds = {}
    for metric, kind in pairs:
        kinds.setdefault(kind, {})[metric] = [1]
    return TaskResults("t", {}, {kind: samples([0], **own) for kind, own in kinds.items()})


@pytest.mark.parametrize(
    ("pairs", "metric", "filter", "found"),
    [
        ("em,x acc,none acc_norm,none", None, None, "acc_norm,none"),
        ("em,x acc,none", None, None, "acc,none"),
        ("em,x f1,none", None, None, "em,x"),
        ("acc,none exact_match,x", None, None, "exact_match,x"),
        ("exact_match,strict-match exact_match,flexible-extract", None, None,
         "exact_match,flexible-extract"),
        ("exact_match,strict-match exact_match,flexible-extract", None, "strict-match",
         "exact_match,strict-match"),
        ("acc,none acc_norm,none", "acc", None, "acc,none"),
        ("acc,none acc,x", "acc", "x", "acc,x"),
        ("acc,none acc,x", "acc,x", None, "acc,x"),
        ("acc,none acc,x", "acc,x", "none", "acc,x"),  # the metric's own filter
        ("acc,none em,x", None, "x", "em,x"),
    ],
)  # fmt: skip
def test_what_is_looked_at(pairs, metric, filter, found):
    task = scored(*(pair.split(",") for pair in pairs.split()))
    assert ",".join(_metric_and_filter(task, metric, filter)) == found


def test_scores_that_are_not_there_are_named():
    for metric, filter, asked in (("f1", None, "f1,any"), (None, "x", "any,x"), ("f1,x", None, "")):
        with pytest.raises(ValueError, match=f"of {asked or 'f1,x'}; it has: acc,none$"):
            _metric_and_filter(scored(("acc", "none")), metric, filter)
    with pytest.raises(ValueError, match="any,any; it has: none$"):
        _metric_and_filter(TaskResults("t", {}, {}), None, None)


def test_only_the_task_s_own_settings_have_to_agree():
    base, tuned = (results(gsm8k(["#### 2"], [2]), replace(scored(("acc", "none")), num_fewshot=n))
                   for n in (0, 5))  # fmt: skip
    alignment = align_task(base, tuned, "gsm8k", strict=True)
    assert list(alignment.base.tasks) == list(alignment.tuned.tasks) == ["gsm8k"]
    assert alignment.base.tasks["gsm8k"] is base.tasks["gsm8k"]
    assert alignment.tuned.tasks["gsm8k"] is tuned.tasks["gsm8k"]
    with pytest.raises(ResultsError, match="n-shot|few"):
        align_task(base, tuned, "t", strict=True)
    assert len(align_task(base, tuned, "t", strict=False).pairs) == 1


def test_a_side_without_the_task_or_its_documents_is_named():
    full = results(gsm8k(["#### 2"], [2]), name="full")
    bare = results(TaskResults("gsm8k", {}, {}), name="bare")
    for sides in ((full, bare), (bare, full)):
        with pytest.raises(ValueError, match="^bare: gsm8k has only aggregate scores"):
            align_task(*sides, "gsm8k", strict=True)
    empty = results(name="empty")
    for sides in ((full, empty), (empty, full)):
        with pytest.raises(ValueError, match="^empty has no task 'gsm8k'; it has: none$"):
            align_task(*sides, "gsm8k", strict=True)


def test_documents_in_common():
    base = results(TaskResults("t", {}, {"none": samples(["a", "b", "c"], acc=[1, 1, 0])}))
    tuned = results(TaskResults("t", {}, {"none": samples(["c", "b", "d"], acc=[1, 0, 0])}))
    alignment = align_task(base, tuned, "t", strict=False)
    assert paired_ids(alignment, "t", "none") == [("b", "b"), ("c", "c")]
    with pytest.raises(ValueError, match="^t: no document of other is in both"):
        paired_ids(alignment, "t", "other")
    apart = results(TaskResults("t", {}, {"none": samples(["x"], acc=[1])}))
    with pytest.raises(ValueError, match="t"):
        paired_ids(align_task(base, apart, "t", strict=False), "t", "none")


def test_losses_come_first_each_in_document_order():
    before = ["#### 1", "#### 2", "#### 2", "no", "#### 2"]
    after = ["#### 2", "no", "#### 2", "#### 2", "no"]
    base, tuned = (results(gsm8k(texts, [2] * 5)) for texts in (before, after))
    found = flips(base, tuned, "gsm8k")
    assert tuple(found.columns) == FLIP_COLUMNS
    assert list(zip(found["doc_id"], found["change"], strict=True)) == [
        *((1, LOST), (4, LOST)),
        *((0, GAINED), (3, GAINED)),
    ]
    assert found.iloc[0].tolist() == [1, LOST, "q1", "#### 2", "#### 2", "no"]


def test_order_metric_and_question_are_the_base_s():
    def task(ids, question, **scores):
        rows = [{"doc_id": i, "doc": {"question": question}, "target": "2"} for i in ids]
        return TaskResults("t", {}, {"none": samples(ids, **scores)}, load_rows=lambda: rows)

    base = results(task([2, 0, 1], "How many?", acc=[1, 1, 0]))
    tuned = results(task([0, 1, 2], "Again: how many?", acc=[0, 1, 0], acc_norm=[1, 1, 1]))
    found = flips(base, tuned, "t")
    assert found["doc_id"].tolist() == [2, 0, 1]
    assert set(found["question"]) == {"How many?"}


def test_strictness_reaches_the_alignment():
    base, tuned = (results(replace(gsm8k(["#### 2"], [2]), num_fewshot=n)) for n in (0, 5))
    with pytest.raises(ResultsError):
        flips(base, tuned, "gsm8k")
    assert flips(base, tuned, "gsm8k", strict=False).empty


def test_a_flip_without_a_row_is_named():
    base, tuned = (gsm8k(texts, [2]) for texts in (["#### 2"], ["no"]))
    for sides in (
        (replace(base, load_rows=list), tuned),
        (base, replace(tuned, load_rows=list)),
    ):
        with pytest.raises(ValueError, match="document 0 has a score but no row"):
            flips(*map(results, sides), "gsm8k")

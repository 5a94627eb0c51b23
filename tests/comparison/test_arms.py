"""From records to comparisons: grouped by arm, looked up by role, compared with their partners."""

import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
from made_records import MICRO, make_record, set_scores

from slimlib.comparison.arms import (
    by_arm,
    compare_all,
    compare_arms,
    compare_seeds,
    results_of,
    seed_spread,
    task_of,
    tasks_of,
)
from slimlib.comparison.benchmarks import FLEXIBLE
from slimlib.comparison.change import FORGOT, UNKNOWN, WORSE
from slimlib.results import ResultsError


def record(arm, right=None, seed=0, n=40, role="gsm8k"):
    """A record whose first `right` of n answers are right; None: it was not evaluated."""
    made = make_record(arm, seed=seed, roles=())
    if right is not None:
        set_scores(made, role, [1] * right + [0] * (n - right))
    return made


# ---- grouping ----


def test_records_are_grouped_by_arm_in_the_order_given():
    first, second, other = record("llama-2k"), record("llama-2k", seed=1), record("llama-base")
    groups = by_arm([first, other, second])
    assert list(groups) == ["llama-2k", "llama-base"]
    assert groups["llama-2k"] == [first, second] and groups["llama-base"] == [other]
    assert by_arm([first, other, second], MICRO) == groups
    assert by_arm([]) == by_arm([], MICRO) == {}


def test_records_that_cannot_share_a_table_are_named():
    one, other = record("llama-base"), record("llama-base") | {"study": "mine"}
    with pytest.raises(ValueError, match="^records of micro, mine cannot share a table$"):
        by_arm([one, other])
    with pytest.raises(ValueError, match="^records of mine .* table .this is a table of micro.$"):
        by_arm([other], MICRO)
    with pytest.raises(ValueError, match="micro, arm llama-base, seed 0: give one"):
        by_arm([one, record("llama-base", seed=1), one])
    with pytest.raises(ValueError, match="^study micro has no arm a, b$"):
        by_arm([one, one | {"arm": "b"}, one | {"arm": "a"}], MICRO)
    assert list(by_arm([one | {"arm": "b"}])) == ["b"]  # without a study any arm will do


# ---- looking up ----


def test_what_was_not_evaluated_has_no_tasks():
    bare = record("llama-base")
    del bare["stages"]["evaluate"]
    assert tasks_of(bare) == tasks_of(bare | {"stages": {"evaluate": {"status": "begun"}}}) == {}
    assert task_of(bare, "gsm8k") is None


def test_a_task_is_found_by_the_role_that_it_plays():
    both = set_scores(record("llama-base", 10), "hellaswag", [1, 0, 0, 0])
    assert task_of(both, "hellaswag") is tasks_of(both)["task_of_hellaswag"]
    assert task_of(both, "gsm8k")["task"] == "task_of_gsm8k"
    assert task_of(both, "mmlu_cs") is None


def test_results_are_those_of_the_records_that_have_the_metric():
    two = [record("llama-2k", 10, seed=0), record("llama-2k"), record("llama-2k", 20, seed=2)]
    found = results_of(two, "gsm8k", FLEXIBLE)
    assert [one.pop("scores").tolist() for one in found] == [
        [1.0] * 10 + [0.0] * 30,
        [1.0] * 20 + [0.0] * 20,
    ]
    same = {"n": 40, "documents": "gsm8k, 40 documents"}
    assert found == [
        same | {"value": 0.25, "stderr": pytest.approx((0.25 * 0.75 / 39) ** 0.5)},
        same | {"value": 0.5, "stderr": pytest.approx((0.25 / 39) ** 0.5)},
    ]
    assert results_of(two, "gsm8k", "acc,none") == results_of(two, "hellaswag", FLEXIBLE) == []


# ---- comparing ----


def test_one_arm_against_another():
    base, tuned = record("llama-base", 30), record("llama-2k", 5)
    found = compare_arms([base], [tuned])
    (change, *_) = found.changes
    assert (change.base, change.tuned, change.verdict) == (75.0, 12.5, FORGOT)
    assert (found.base.name, found.alpha, found.related) == ("micro base", 0.05, True)
    strict = compare_arms([base], [tuned], 1e-12, relation="other")
    assert (strict.changes[0].verdict, strict.alpha) == (UNKNOWN, 1e-12)
    assert compare_arms([base], [tuned], relation="other").changes[0].verdict == WORSE


def test_only_what_both_have_is_compared():
    base, tuned = record("llama-base", 30), record("llama-2k", 5)
    more = set_scores(json.loads(json.dumps(base)), "hellaswag", [1, 0, 0, 1])
    assert {c.task for c in compare_arms([more], [tuned]).changes} == {"task_of_gsm8k"}
    assert {c.task for c in compare_arms([tuned], [more]).changes} == {"task_of_gsm8k"}
    other = record("llama-base", 3, n=4, role="hellaswag")
    assert compare_arms([other], [tuned]) is None
    assert compare_arms([], [tuned]) is compare_arms([base], []) is None
    assert compare_arms([record("llama-base")], [tuned]) is None


def test_a_seed_without_results_counts_for_nothing():
    base, tuned = record("llama-base", 30), record("llama-2k", 5)
    one = compare_arms([base], [record("llama-2k", seed=1), tuned])
    assert one.changes == compare_arms([base], [tuned]).changes
    assert one.changes[0].seeds == (1, 1)


def test_other_documents_are_refused_by_the_name_of_arms_and_tasks():
    base, tuned = record("llama-base", 30), record("llama-2k", 5)
    for made in (base, tuned):
        set_scores(made, "hellaswag", [1, 0, 0, 1])
    tasks_of(tuned)["task_of_gsm8k"]["documents"] = "another revision"
    message = "^llama-base and llama-2k answered different documents of task_of_gsm8k; evaluate"
    with pytest.raises(ResultsError, match=message):
        compare_arms([base], [tuned])


def test_every_arm_is_compared_with_the_one_that_it_names():
    groups = by_arm(
        [
            record("llama-instruct", 40),
            record("llama-base", 30),
            record("llama-2k", 5),
            record("tinyllama-50k", 7),  # its partner was not run
        ]
    )
    found = compare_all(groups)
    named = {arm: (c.base.name, c.tuned.name) for arm, c in found.items()}
    assert named == {
        "llama-base": ("micro instruct", "micro base"),
        "llama-2k": ("micro base", "micro fine-tuned"),
    }


def test_seeds_one_by_one_and_their_spread():
    """FR of 15, 10 and 5 of 20: 25, 50 and 75 %, with an SD of 25."""
    base = [record("llama-base", 20)]
    tuned = [record("llama-2k", right, seed=right) for right in (15, 10, 5)]
    each = compare_seeds(base, tuned)
    assert [c.of("gsm8k").measured.value for c in each] == pytest.approx([25, 50, 75])
    assert seed_spread(each, "gsm8k") == pytest.approx(25.0)
    assert seed_spread(each[:2], "gsm8k") == pytest.approx(np.sqrt(312.5))
    assert len(compare_seeds(base, tuned[:2])) == 2
    assert compare_seeds(base, tuned[:1]) == []
    without = [*tuned[:2], record("llama-2k", seed=9)]
    assert len(compare_seeds(base, without)) == 2


def test_fewer_than_two_seeds_have_no_spread():
    base = [record("llama-base", 20)]
    each = compare_seeds(base, [record("llama-2k", right, seed=right) for right in (15, 10)])
    with warnings.catch_warnings(action="error"):
        assert seed_spread([], "gsm8k") is seed_spread(each[:1], "gsm8k") is None
        assert seed_spread(each, "hellaswag") is None


def test_the_spread_is_of_the_headline():
    base, tuned = record("llama-base", 20), record("llama-2k", 10)
    (other,) = compare_arms([base], [tuned]).changes[1:]
    assert other.metric != FLEXIBLE
    both = compare_seeds([base], [tuned, record("llama-2k", 10, seed=1)])
    worse = replace(other, forgetting=other.forgetting._replace(value=99.0))
    moved = replace(both[0], changes=(worse, both[0].changes[0]))
    assert seed_spread([moved, both[1]], "gsm8k") == 0

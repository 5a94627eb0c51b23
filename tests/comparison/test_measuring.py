"""One metric of one task measured: by document, or from aggregates, by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from slimlib import metrics
from slimlib.comparison.change import HEADLINE, OTHER
from slimlib.comparison.measuring import Pairing, measure_change, unmeasured
from slimlib.metrics import Spread
from slimlib.results import Score, TaskResults

ACC = "acc,none"


def task(value, n=100, stderr=None, name="own_task", **more):
    return TaskResults(name, {ACC: Score(value, stderr)}, {}, n=n, **more)


def rows(*scores):
    return np.array(scores, dtype=float)


def paired(base, tuned, before=None, after=None, alpha=0.05, margin=2.0, **more):
    pair = Pairing(np.atleast_2d(base), np.atleast_2d(tuned), **more)
    n = pair.base.shape[1]
    sides = (task(float(side.mean()), n) for side in (pair.base, pair.tuned))
    before, after = (given or made for given, made in zip((before, after), sides, strict=True))
    return measure_change(before, after, ACC, pair, margin, alpha=alpha)


def unpaired(before, after, alpha=0.05, margin=2.0):
    return measure_change(before, after, ACC, None, margin, alpha=alpha)


# ---- what a metric is of ----


def test_a_number_that_is_missing_is_not_made_up():
    before, after = task(0.25, n=80), replace(task(0.5, n=90), scores={})
    change = unmeasured(before, after, ACC, family=OTHER, role="gsm8k")
    assert (change.base, change.n, change.paired) == (25.0, 80, False)
    assert math.isnan(change.tuned) and math.isnan(change.difference.value)
    assert (change.family, change.role, change.measure) == (OTHER, "gsm8k", "FR")
    assert change.p_value is change.p_equivalence is change.detectable is change.plus_minus is None
    change = unmeasured(replace(before, scores={}), task(0.5, n=90), ACC)
    assert math.isnan(change.base) and (change.tuned, change.family) == (50.0, HEADLINE)


@pytest.mark.parametrize(
    ("before", "after", "name", "role", "chance"),
    [
        (0.25, 0.3, "own_task", None, 30.0),  # the commonest label's share: the larger of both
        (0.3, 0.25, "own_task", None, 30.0),
        (None, 0.3, "own_task", None, 30.0),
        (0.3, None, "own_task", None, 30.0),
        (0.3, None, "arc_easy", "mmlu_cs", 30.0),  # the documents themselves before their names
        (None, None, "own_task", "mmlu_cs", 25.0),
        (None, None, "own_task", "hellaswag", 25.0),
        (None, None, "piqa", "gsm8k", None),
        (None, None, "piqa", None, 50.0),
        (None, None, "gsm8k", None, None),
        (None, None, "own_task", None, None),
    ],
)
def test_what_guessing_gives(before, after, name, role, chance):
    sides = [task(0.5, name=name, chance=c) for c in (before, after)]
    assert measure_change(*sides, ACC, None, 2.0, role=role).chance == chance


def test_limits_are_wilson_s_of_each_side_at_the_level():
    change = unpaired(task(0.47), task(0.34), alpha=0.1)
    assert change.limits == (
        metrics.wilson_interval(47, 100, 0.9),
        metrics.wilson_interval(34, 100, 0.9),
    )
    assert unpaired(task(0.47, n=None), task(0.34)).limits is None


# ---- by document ----


def test_variance_between_seeds_is_of_the_paired_differences():
    """Seed means 75 and 50, then 25 and 50: differences -50 and 0, variance 1250 over 2 seeds."""
    base, tuned = rows([1, 1, 1, 0], [1, 1, 0, 0]), rows([1, 0, 0, 0], [1, 1, 0, 0])
    assert Pairing(base, tuned).between_seeds() == [Spread(625.0, 1)]
    assert Pairing(base[:1], tuned[:1]).between_seeds() == []


def test_whether_kept_can_be_shown_is_asked_of_right_and_wrong_alone():
    """Margin 2: from 149 documents on; by t of other scores there is no such number."""
    same = np.r_[np.ones(80), np.zeros(68)]
    assert not paired(same, same).may_be_kept
    assert paired(np.r_[same, 1.0], np.r_[same, 1.0]).may_be_kept
    assert paired(same, same, margin=5.0).may_be_kept
    assert not paired(same, same, margin=2.02, alpha=0.04).may_be_kept
    assert paired(same / 2, same / 4).may_be_kept


def test_an_interval_of_fr_over_clusters_or_seeds_is_by_t():
    base, tuned = rows(1, 1, 1, 0, 1, 1, 0, 1), rows(1, 0, 1, 0, 0, 1, 0, 1)
    clusters = tuple("aabbccdd")
    change = paired(base, tuned, clusters=clusters)
    values = [metrics.clustered(side[None], clusters) for side in (base, tuned)]
    assert change.forgetting == metrics.forgetting_over_seeds(*values)
    assert (change.test, change.n) == ("t over clusters", 8)
    assert change.lost is None and change.may_be_kept
    seeds = rows([1, 1, 1, 0], [1, 1, 0, 0]), rows([1, 0, 0, 0], [1, 0, 1, 0])
    change = paired(*seeds)
    assert change.forgetting == metrics.forgetting_over_seeds(*seeds)
    assert (change.test, change.seeds) == ("t over documents and seeds", (2, 2))
    both = paired(*seeds, clusters=tuple("aabc"))
    assert both.test == "t over clusters and seeds"
    one = paired(base, tuned, alpha=0.2)
    assert one.forgetting == metrics.forgetting_interval(base, tuned, 0.8)


def test_variance_between_seeds_may_be_given():
    """Documents' variance 1/4 of 25,000/3 with 3 degrees, and 900 with 3: one t of 3 degrees."""
    base, tuned = rows(1, 1, 1, 0), rows(0, 0, 1, 0)
    change = paired(base, tuned, spreads=(Spread(900.0, 3),))
    error = math.sqrt(np.var([-100, -100, 0, 0], ddof=1) / 4 + 900)
    assert change.p_value == pytest.approx(2 * stats.t.sf(50 / error, 3))
    assert change.p_equivalence == pytest.approx(stats.t.sf((2 - 50) / error, 3))
    assert change.difference.high == pytest.approx(-50 + stats.t.isf(0.025, 3) * error)


def test_plus_minus_is_of_the_documents_that_are_compared():
    base, tuned = np.r_[np.ones(47), np.zeros(53)], np.r_[np.ones(34), np.zeros(66)]
    whole = paired(base, tuned)
    assert whole.plus_minus == pytest.approx(13.55, abs=0.005)  # the paper's own
    assert (whole.base, whole.tuned, whole.n) == (47.0, 34.0, 100)
    assert (whole.lost, whole.gained, whole.paired) == (13, 0, True)
    said = paired(base, tuned, before=task(0.47, 100, 0.03), after=task(0.34, 100, 0.04))
    assert said.plus_minus == pytest.approx(1.96 * 5)  # of the file's errors, 3 and 4 points
    part = paired(base, tuned, before=task(0.47, 1000, 0.03), after=task(0.34, 1000, 0.04))
    assert part.plus_minus == pytest.approx(whole.plus_minus)
    two = paired([1.0, 0.0], [0.0, 1.0], before=task(0.5, 10, 0.1), after=task(0.5, 10, 0.1))
    assert two.plus_minus == pytest.approx(1.96 * 50 * math.sqrt(2))  # 50 points, n - 1 = 1
    single = paired([1.0], [0.0], before=task(0.5, 10, 0.1), after=task(0.5, 10, 0.1))
    assert single.plus_minus is None


# ---- from aggregates ----


def test_the_file_s_own_errors_come_first():
    change = unpaired(task(0.47, 100, 0.03), task(0.34, 90, 0.04))
    assert (change.test, change.n) == ("unpaired z", 90)
    assert change.p_value == pytest.approx(2 * stats.norm.sf(13 / 5))
    assert change.difference == pytest.approx((-13, -13 - 9.8, -13 + 9.8), abs=0.001)
    assert change.plus_minus == pytest.approx(1.96 * 5)
    assert change.p_equivalence == pytest.approx(stats.norm.sf((2 - 13) / 5))
    ninety = unpaired(task(0.47, 100, 0.03), task(0.34, 90, 0.04), alpha=0.1)
    assert ninety.difference.high == pytest.approx(-13 + stats.norm.isf(0.05) * 5)
    assert ninety.detectable == pytest.approx((stats.norm.isf(0.05) + stats.norm.isf(0.2)) * 5)
    expected = metrics.unpaired_forgetting_interval(47, 34, 3, 4, 0.9)
    assert ninety.forgetting == pytest.approx(expected)


def test_an_error_that_the_file_lacks_follows_from_n_of_right_and_wrong_alone():
    change = unpaired(task(0.47), task(0.34))
    assert change.plus_minus == pytest.approx(13.55, abs=0.005)
    assert change.p_value == pytest.approx(0.060, abs=0.0005)
    scores = [replace(task(v), scores={"f1,none": Score(v, None)}) for v in (0.47, 0.34)]
    change = measure_change(*scores, "f1,none", None, 2.0)
    assert change.test.startswith("none: neither") and change.p_value is change.detectable is None
    assert change.difference.value == pytest.approx(-13) and math.isnan(change.difference.low)
    assert change.forgetting.value == pytest.approx(100 * 13 / 47)
    for unknown in ({"n": None}, {"n": 1}, {"subtasks": ("a", "b")}):
        change = unpaired(replace(task(0.47), **unknown), task(0.34))
        assert change.p_value is change.plus_minus is None
    assert unpaired(task(0.47, None, 0.03), task(0.34)).n is None
    assert unpaired(task(0.5, 2), task(0.5)).plus_minus == pytest.approx(
        1.96 * math.hypot(50, 5.025)
    )


def test_a_part_of_documents_has_no_error_unless_right_or_wrong():
    pair = Pairing(rows([0.5, 0.25, 0.0]), rows([0.25, 0.0, 0.0]))
    sides = [replace(task(v, 10), scores={"f1,none": Score(v, 0.1)}) for v in (0.25, 0.08)]
    assert measure_change(*sides, "f1,none", pair, 2.0).plus_minus is None


def test_nothing_right_of_a_few_is_as_uncertain_as_wilson_has_it():
    """0 of 5: at most 43.45 per cent, over 1.96 an error of 22.17."""
    change = unpaired(task(0.0, 5, 0.0), task(0.5, 100, 0.05))
    error = math.hypot(metrics.wilson_interval(0, 5).high / 1.96, 5)
    assert metrics.wilson_interval(0, 5).high == pytest.approx(43.45, abs=0.005)
    assert change.p_value == pytest.approx(2 * stats.norm.sf(50 / error))
    assert unpaired(task(0.5, 100, 0.05), task(1.0, 5, 0.0)).p_value == pytest.approx(
        2 * stats.norm.sf(50 / error)
    )
    # an error of 0 that cannot be: a share between 0 and 1 has one
    between = unpaired(task(0.5, 100, 0.0), task(0.5, 100, 0.05))
    own = metrics.standard_error(50, 100)
    assert between.difference.high == pytest.approx(stats.norm.isf(0.025) * math.hypot(own, 5))
    rare = unpaired(task(0.005, 200, 0.0), task(0.5, 100, 0.05))
    error = math.hypot(metrics.standard_error(0.5, 200), 5)
    assert rare.p_value == pytest.approx(2 * stats.norm.sf(49.5 / error), rel=1e-6)
    two = unpaired(task(0.5, 2, 0.0), task(0.5, 100, 0.05))
    assert two.difference.high == pytest.approx(stats.norm.isf(0.025) * math.hypot(50, 5))
    for unknown in ({"n": None}, {"subtasks": ("a", "b")}, {"n": 1}):
        side = replace(task(0.5, 100, 0.0), **unknown)
        assert unpaired(side, task(0.5, 100, 0.05)).p_value is None
    single = unpaired(task(0.0, 1, 0.0), task(0.5, 100, 0.05))
    assert single.p_value is not None


def test_a_level_that_leaves_no_power_has_no_detectable_size():
    assert unpaired(task(0.47), task(0.34), alpha=0.8).detectable is None
    assert unpaired(task(0.47), task(0.34), alpha=0.79).detectable > 0

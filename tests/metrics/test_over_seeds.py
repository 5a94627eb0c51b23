"""Means over seeds: Cochran and Cox's procedure by hand, against Student's t, and simulated."""

import math

import numpy as np
import pytest
from scipy import stats

from slimlib import metrics
from slimlib.metrics import Spread
from slimlib.metrics.over_seeds import between_seeds, pool, spreads

DOCUMENTS, SEEDS = Spread(4.0, math.inf), Spread(9.0, 2)
MIXED = [DOCUMENTS, SEEDS, Spread(1.0, 4)]


def runs(seeds: int, n: int, p: float, seed: int) -> np.ndarray:
    return (np.random.default_rng(seed).random((seeds, n)) < p).astype(float)


# ---- degenerate input ----


@pytest.mark.parametrize("bad", [*map(Spread, (-1, math.nan, math.inf, 1, 1), (2, 2, 2, 0, -3))])
def test_a_spread_is_checked(bad):
    calls = [
        lambda: metrics.cochran_cox(1.0, [bad]),
        lambda: metrics.cochran_cox_p(1.0, [bad]),
        lambda: metrics.cochran_cox_equivalence(1.0, [bad], 2.0),
        lambda: metrics.cochran_cox_detectable([bad]),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="Spread"):
            call()


def test_levels_are_checked():
    with pytest.raises(ValueError, match="confidence=95"):
        metrics.cochran_cox(1.0, MIXED, 95)
    with pytest.raises(ValueError, match="margin=0"):
        metrics.cochran_cox_equivalence(1.0, MIXED, 0)
    with pytest.raises(ValueError, match="power"):
        metrics.cochran_cox_detectable(MIXED, power=0.01)
    with pytest.raises(ValueError, match="confidence=95"):
        metrics.forgetting_over_seeds([[1, 0]], [[0, 0]], 95)


def test_without_variance_everything_is_certain():
    nothing = [Spread(0.0, 2), Spread(0.0, 99)]
    assert metrics.cochran_cox(3.0, nothing) == (3, 3, 3)
    assert metrics.cochran_cox_p(3.0, nothing) == 0 and metrics.cochran_cox_p(0.0, nothing) == 1
    assert metrics.cochran_cox_equivalence(1.0, nothing, 2.0) == 0
    assert metrics.cochran_cox_equivalence(2.0, nothing, 2.0) == 1
    assert metrics.cochran_cox_detectable(nothing) == 0


@pytest.mark.parametrize(
    ("base", "tuned", "words"),
    [
        ([1, 0], [[1, 0]], "shape"),
        ([[1, 0]], [1, 0], "shape"),
        ([[1, 0]], [[1]], "same documents"),
        ([[]], [[]], "1 document"),
        (np.empty((0, 2)), [[1, 0]], "1 seed"),
        ([[1, 0]], np.empty((0, 2)), "1 seed"),
        ([[1, math.nan]], [[1, 0]], "score nan"),
        ([[1, 0]], [[1, math.inf]], "score inf"),
        ([[3, 4]], [[1, 0]], "accuracy 350"),
    ],
)
def test_seeds_must_be_scores_of_the_same_documents(base, tuned, words):
    with pytest.raises(ValueError, match=words):
        metrics.forgetting_over_seeds(base, tuned)


def test_forgetting_of_nothing_or_of_one_document_is_unknown():
    assert all(math.isnan(x) for x in metrics.forgetting_over_seeds([[0, 0]], [[1, 0]]))
    found = metrics.forgetting_over_seeds([[1], [1]], [[0], [1]])
    assert found.value == 50 and math.isnan(found.low)
    assert metrics.forgetting_over_seeds([[1]], [[0]]).value == 100


# ---- by hand ----


def test_the_critical_value_is_weighed_by_the_variances():
    """(4 x 1.960 + 9 x 4.303) / 13 = 3.582, times sqrt(13) = 12.91."""
    found = metrics.cochran_cox(10.0, [DOCUMENTS, SEEDS])
    assert found == pytest.approx((10, -2.914, 22.914), abs=0.0005)


@pytest.mark.parametrize("df", [1, 2, 99, math.inf])
@pytest.mark.parametrize("value", [0.0, 0.5, -3.0, 20.0])
def test_one_part_is_student_s_t(df, value):
    parts = [Spread(4.0, df)]
    p = metrics.cochran_cox_p(value, parts)
    assert p == pytest.approx(2 * stats.t.sf(abs(value) / 2, df), rel=1e-9)
    one_sided = stats.t.sf((5 - abs(value)) / 2, df)
    assert metrics.cochran_cox_equivalence(value, parts, 5.0) == pytest.approx(one_sided, rel=1e-9)


@pytest.mark.parametrize("value", [0.01, 1.0, -7.0, 30.0, 1e3, 1e6])
def test_p_is_where_the_interval_ends_at_0(value):
    p = metrics.cochran_cox_p(value, MIXED)
    assert 0 < p < 1
    _, low, high = metrics.cochran_cox(value, MIXED, 1 - p)
    assert min(abs(low), abs(high)) < 1e-6 * abs(value) + 1e-9 / p**0.5


def test_p_falls_with_the_value_down_to_the_smallest_numbers():
    found = [metrics.cochran_cox_p(float(value), MIXED) for value in np.logspace(-2, 200, 300)]
    assert np.all(np.diff(found) <= 0) and 0 < found[-1] < 1e-200


def test_no_p_is_too_small_to_be_a_number_above_0():
    assert 0 < metrics.cochran_cox_p(1e200, [Spread(1, math.inf), Spread(2, 1e5)]) < 1e-200


@pytest.mark.parametrize("value", [0.0, 3.0, -6.0, 9.9, 10.0, 12.0])
def test_equivalence_is_the_interval_within_the_margin(value):
    p = metrics.cochran_cox_equivalence(value, MIXED, 10.0)
    if abs(value) >= 10:
        assert p >= 0.5
    else:
        _, low, high = metrics.cochran_cox(value, MIXED, 1 - 2 * p)
        assert max(-low, high) == pytest.approx(10, rel=1e-6)


def test_variances_over_documents_and_between_seeds():
    """Documents -1, -1/2, 1/2: variance 7/12; seeds 0 and -2/3: 2/9."""
    base = np.array([[1.0, 0, 0], [1, 1, 0]])
    tuned = np.array([[0.0, 0, 1], [0, 0, 0]])
    found = spreads(base, tuned)
    assert [part.df for part in found] == [2, 1]
    assert [part.variance for part in found] == pytest.approx([7 / 36, 1 / 9])
    in_points = spreads(base, tuned, per=100)
    assert [part.variance for part in in_points] == pytest.approx([1e4 * 7 / 36, 1e4 / 9])


def test_seeds_are_paired_where_both_sides_have_equally_many():
    one, two, three = np.array([4.0]), np.array([1.0, 3.0]), np.array([1.0, 2.0, 3.0])
    assert between_seeds(one, three) == between_seeds(three, one) == [(pytest.approx(1 / 3), 2)]
    assert between_seeds(two, two[::-1]) == [(4.0, 1)]  # differences 2 and -2
    assert between_seeds(two, three) == [(1.0, 1), (pytest.approx(1 / 3), 2)]
    assert between_seeds(three, two) == [(pytest.approx(1 / 3), 2), (1.0, 1)]
    assert between_seeds(one, one) == []


def test_pooled_variances_are_weighed_by_their_degrees_of_freedom():
    assert pool([Spread(2, 1), Spread(3, 2)]) == (pytest.approx(8 / 3), 3)


def test_far_outside_the_margin_p_is_1():
    parts = [Spread(1.0, math.inf), Spread(1.0, 1e6), Spread(1e-3, 3)]
    found = [metrics.cochran_cox_equivalence(v, parts, 1.0) for v in np.linspace(1.0, 20.0, 400)]
    assert found[0] == 0.5 and np.all(np.diff(found) >= 0)
    assert found[-1] > 1 - 1e-6


def test_p_is_never_above_1():
    for value in np.logspace(-18, -3, 120):
        assert 0.99 < metrics.cochran_cox_p(float(value), MIXED) <= 1


# ---- detectable ----


@pytest.mark.parametrize("power", [0.051, 0.06, 0.5, 0.99])
def test_the_wrong_side_counts_for_power_too(power):
    shift = metrics.cochran_cox_detectable([DOCUMENTS], power) / 2
    limit = stats.norm.isf(0.025)
    found = stats.norm.sf(limit - shift) + stats.norm.cdf(-limit - shift)
    assert found == pytest.approx(power, abs=1e-9)


@pytest.mark.parametrize("power", [0.06, 0.8, 0.99])
def test_a_part_that_adds_next_to_nothing_changes_next_to_nothing(power):
    alone = metrics.cochran_cox_detectable([Spread(1.0, 2)], power)
    found = metrics.cochran_cox_detectable([Spread(1.0, 2), Spread(1e-9, math.inf)], power)
    assert found == pytest.approx(alone, rel=0.02)


@pytest.mark.parametrize(("seeds", "deviations"), [(3, 3.3), (5, 1.7)])
def test_what_few_seeds_detect(seeds, deviations):
    found = metrics.cochran_cox_detectable([Spread(1 / seeds, seeds - 1)])
    assert found == pytest.approx(deviations, abs=0.05)


def test_without_seeds_it_is_the_z_test():
    expected = 2 * (stats.norm.isf(0.025) + stats.norm.ppf(0.8))
    assert metrics.cochran_cox_detectable([DOCUMENTS]) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("parts", [MIXED, [DOCUMENTS, SEEDS], [Spread(1, 99), Spread(3, 2)]])
def test_the_detectable_value_is_found_in_four_of_five(parts):
    value, rng = metrics.cochran_cox_detectable(parts), np.random.default_rng(0)
    variances = [
        v * (rng.chisquare(df, 100_000) / df if math.isfinite(df) else np.ones(100_000))
        for v, df in parts
    ]
    quantiles = [stats.t.isf(0.025, df) for _, df in parts]
    total = sum(variances)
    half = sum(v * t for v, t in zip(variances, quantiles, strict=True)) / np.sqrt(total)
    seen = value + rng.normal(0, math.sqrt(sum(v for v, _ in parts)), 100_000)
    assert 0.795 < np.mean(np.abs(seen) > half) < 0.805


# ---- forgetting ----


@pytest.mark.parametrize(("base_seeds", "tuned_seeds"), [(1, 3), (3, 1), (3, 3), (2, 5)])
def test_a_limit_of_fr_is_where_the_test_turns(base_seeds, tuned_seeds):
    base, tuned = runs(base_seeds, 300, 0.6, 1), runs(tuned_seeds, 300, 0.3, 2)
    value, low, high = metrics.forgetting_over_seeds(base, tuned)
    assert low < value < high
    for limit in {low, high} - {-math.inf, 100.0}:
        scaled = (1 - limit / 100) * base
        p = metrics.cochran_cox_p(tuned.mean() - scaled.mean(), spreads(scaled, tuned))
        assert p == pytest.approx(0.05, rel=1e-6)


def test_a_limit_of_fr_may_be_far_from_its_value():
    """From 1 in 10 to 9 in 10: nine times as many; and a loss that is none by far."""
    base, tuned = runs(1, 60, 0.1, 1), runs(2, 60, 0.9, 2)
    value, low, high = metrics.forgetting_over_seeds(base, tuned)
    for limit in (low, high):
        scaled = (1 - limit / 100) * base
        p = metrics.cochran_cox_p(tuned.mean() - scaled.mean(), spreads(scaled, tuned))
        assert p == pytest.approx(0.05, rel=1e-6)
    assert low < value - 200
    value, low, high = metrics.forgetting_over_seeds(runs(2, 300, 0.6, 1), runs(3, 300, 0.6, 9))
    assert -40 < low < value < high < 40


@pytest.mark.parametrize("seed", range(8))
def test_fr_and_difference_agree_about_no_change(seed):
    base, tuned = runs(2, 80, 0.5, seed), runs(3, 80, 0.35, seed + 100)
    change, parts = 100 * (tuned.mean() - base.mean()), spreads(base, tuned, per=100)
    p = metrics.cochran_cox_p(change, parts)
    for confidence in (1 - p * 1.001, 1 - p / 1.001):
        _, low, high = metrics.forgetting_over_seeds(base, tuned, confidence)
        assert (low > 0 or high < 0) == (p < 1 - confidence)


def test_one_seed_a_side_is_fieller_s():
    base, tuned = runs(1, 200, 0.6, 5) / 2, runs(1, 200, 0.3, 6) / 2
    expected = metrics.forgetting_interval(base[0], tuned[0])
    assert metrics.forgetting_over_seeds(base, tuned) == pytest.approx(expected, abs=1e-6)


def test_where_nothing_spreads_the_limits_are_wilson_s():
    same = np.tile([1.0, 0.0], (3, 50))
    unseen = metrics.wilson_interval(0, 100).high
    found = metrics.forgetting_over_seeds(same, same)
    assert found == pytest.approx((0, -2 * unseen, 2 * unseen))
    assert metrics.forgetting_over_seeds(same, 0 * same)[::2] == (100, 100)


def test_next_to_no_spread_is_a_spread():
    base = np.full((1, 50), 0.5)
    tuned = base / 2 + 1e-8 * np.random.default_rng(0).random((1, 50))
    value, low, high = metrics.forgetting_over_seeds(base, tuned)
    assert low < value < high < low + 1e-5


def test_a_base_near_0_leaves_the_loss_open():
    base = np.repeat([1.0, 0.0], (1, 39))[None]
    tuned = np.stack([np.roll(base[0], i) for i in (1, 2, 3)])
    assert metrics.forgetting_over_seeds(base, tuned)[1:] == (-math.inf, 100)


def test_documents_and_seeds_in_another_order_change_nothing():
    base, tuned = runs(2, 60, 0.5, 3), runs(3, 60, 0.4, 4)
    order = np.random.default_rng(0).permutation(60)
    expected = metrics.forgetting_over_seeds(base, tuned)
    found = metrics.forgetting_over_seeds(base[::-1, order], tuned[::-1][:, order])
    assert found == pytest.approx(expected, abs=1e-8)

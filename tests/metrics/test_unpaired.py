"""One accuracy, two aggregates and Holm, against hand-made numbers and statsmodels."""

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint
from statsmodels.stats.weightstats import DescrStatsW

from slimlib import metrics
from slimlib.metrics.unpaired import _fieller

NAN = math.nan
MMLU = (47.0, 34.0, 5.0161, 4.7610)  # accuracies and standard errors of the paper
HELLASWAG = (60.7747, 61.2029, 0.48725, 0.48629)
GSM8K = (33.5102, 3.71494, 1.30019, 0.52095)
PAPER = [MMLU, HELLASWAG, GSM8K]
FUNCTIONS = [
    metrics.unpaired_z_test,
    metrics.unpaired_difference,
    metrics.unpaired_forgetting_interval,
    lambda *args: metrics.unpaired_equivalence_test(*args, 2.0),
]


def swap(base, tuned, base_error, tuned_error):
    return tuned, base, tuned_error, base_error


# ---- degenerate input ----


@pytest.mark.parametrize("bad", [NAN, math.inf, -1.0])
@pytest.mark.parametrize("position", range(4))
@pytest.mark.parametrize("function", FUNCTIONS)
def test_an_impossible_number_is_named(function, position, bad):
    arguments = list(MMLU)
    arguments[position] = bad
    with pytest.raises(ValueError, match=str(bad)):
        function(*arguments)


@pytest.mark.parametrize("margin", [0.0, -2.0, NAN, math.inf])
def test_a_margin_must_be_above_zero(margin):
    with pytest.raises(ValueError, match=f"margin={margin}"):
        metrics.unpaired_equivalence_test(*MMLU, margin)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95, NAN])
def test_a_confidence_is_a_share(confidence):
    for function in (metrics.unpaired_difference, metrics.unpaired_forgetting_interval):
        with pytest.raises(ValueError, match=f"confidence={confidence}"):
            function(*MMLU, confidence)
    with pytest.raises(ValueError, match=f"confidence={confidence}"):
        metrics.wilson_interval(1, 2, confidence)


@pytest.mark.parametrize(("power", "alpha"), [(1.0, 0.05), (0.8, 0.0), (0.05, 0.05), (NAN, 0.05)])
def test_power_and_alpha_are_checked(power, alpha):
    with pytest.raises(ValueError, match="power|alpha"):
        metrics.unpaired_minimum_detectable_difference(1.0, 1.0, power, alpha)


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (0, -3), (5, 4), (-1, 4), (1.5, 4), (NAN, 4)])
def test_wilson_needs_a_count_within_n(successes, n):
    with pytest.raises(ValueError, match=f"{successes} successes of n={n}"):
        metrics.wilson_interval(successes, n)


@pytest.mark.parametrize("bad", [NAN, -0.1, 1.1])
def test_a_p_value_is_checked(bad):
    with pytest.raises(ValueError, match=f"p-value {bad}"):
        metrics.holm([0.5, bad])


def test_no_test_needs_no_correction():
    assert metrics.holm([]) == []
    assert metrics.holm([0.2]) == [0.2]


def test_a_model_against_itself_has_no_claim_and_no_nan():
    same = (47.0, 47.0, 5.0, 5.0)
    assert metrics.unpaired_z_test(*same) == (0.0, 1.0)
    value, low, high = metrics.unpaired_difference(*same)
    assert value == 0 and low == -high < 0
    value, low, high = metrics.unpaired_forgetting_interval(*same)
    assert value == 0 and low < 0 < high


def test_aggregates_without_any_error():
    assert metrics.unpaired_z_test(100.0, 100.0, 0.0, 0.0) == (0.0, 1.0)
    assert metrics.unpaired_z_test(100.0, 0.0, 0.0, 0.0) == (-math.inf, 0.0)
    assert metrics.unpaired_z_test(0.0, 100.0, 0.0, 0.0) == (math.inf, 0.0)
    assert metrics.unpaired_difference(0.0, 100.0, 0.0, 0.0) == (100, 100, 100)
    assert metrics.unpaired_forgetting_interval(100.0, 0.0, 0.0, 0.0) == (100, 100, 100)
    assert metrics.unpaired_equivalence_test(50.0, 51.0, 0.0, 0.0, 2.0) == 0
    assert metrics.unpaired_equivalence_test(50.0, 52.0, 0.0, 0.0, 2.0) == 1
    assert metrics.unpaired_minimum_detectable_difference(0.0, 0.0) == 0


def test_forgetting_of_nothing_is_nan():
    assert all(math.isnan(x) for x in metrics.unpaired_forgetting_interval(0.0, 5.0, 0.0, 1.0))


def test_nothing_left_is_not_certain_to_be_nothing():
    """47 of 100 before, 0 of 100 after: up to 3.70 % may be left, that is 8 % of 47 and more."""
    value, low, high = metrics.unpaired_forgetting_interval(47.0, 0.0, 5.0161, 0.0)
    assert (value, high) == (100, 100)
    assert low == pytest.approx(
        100 - 100 * 3.6995 / math.sqrt(47**2 - (1.96 * 5.0161) ** 2), abs=0.01
    )


@pytest.mark.parametrize("tuned", [0.0, 100.0])
def test_nothing_or_all_right_has_wilson_s_limit_for_its_error(tuned):
    """0 of 100: 3.6995; that error and the base's are joined where a ratio is a limit."""
    for limit in metrics.unpaired_forgetting_interval(47.0, tuned, 5.0161, 0.0)[1:]:
        ratio = 1 - limit / 100
        error = math.hypot(3.6995, 1.96 * 5.0161 * ratio)
        assert limit == 100 or abs(tuned - 47 * ratio) == pytest.approx(error, rel=1e-4)


def test_a_base_just_not_clear_of_0_leaves_the_loss_open():
    """(y - r)^2 <= r^2 + yy: 0 <= 0 for every r; 4 - 4 r <= 1 from r = 3/4 on."""
    assert _fieller(1.0, 0.0, 1.0, 0.0, 0.0) == (-math.inf, 100)
    assert _fieller(1.0, 2.0, 1.0, 0.0, 1.0) == (-math.inf, 25)


def test_no_more_than_100_points_are_detectable():
    """(1.960 + 0.842) x 50 = 140."""
    assert metrics.unpaired_minimum_detectable_difference(30.0, 40.0) == 100


def test_forgetting_of_next_to_nothing_is_unknown():
    value, low, high = metrics.unpaired_forgetting_interval(3.0, 2.0, 1.7, 1.4)
    assert value == pytest.approx(100 / 3) and (low, high) == (-math.inf, 100)


# ---- worked numbers of the docstrings ----


def test_wilson_interval():
    assert metrics.wilson_interval(47, 100) == pytest.approx((47, 37.51, 56.71), abs=0.005)
    assert metrics.wilson_interval(0, 100) == pytest.approx((0, 0, 3.70), abs=0.005)
    assert metrics.wilson_interval(100, 100).high == 100


def test_the_paper_s_mmlu_difference_is_not_established():
    z, p = metrics.unpaired_z_test(*MMLU)
    assert (z, p) == pytest.approx((-1.88, 0.060), abs=0.0005)
    value, low, high = metrics.unpaired_difference(*MMLU)
    assert value == -13 and (high - low) / 2 == pytest.approx(13.55, abs=0.005)
    assert (low, high) == pytest.approx((-26.55, 0.55), abs=0.005)
    assert metrics.unpaired_minimum_detectable_difference(*MMLU[2:]) == pytest.approx(
        19.4, abs=0.05
    )


def test_the_paper_s_hellaswag_difference_is_noise_within_two_points():
    assert metrics.unpaired_difference(*HELLASWAG).value == pytest.approx(0.43, abs=0.005)
    assert metrics.unpaired_z_test(*HELLASWAG).p_value == pytest.approx(0.53, abs=0.005)
    assert metrics.unpaired_equivalence_test(*HELLASWAG, 2.0) == pytest.approx(0.011, abs=0.0005)


def test_the_paper_s_forgetting_rate_with_its_interval():
    expected = (88.91, 85.68, 92.02)
    assert metrics.unpaired_forgetting_interval(*GSM8K) == pytest.approx(expected, abs=0.005)


def test_holm_by_hand():
    """Sorted: 0.01 x 3, 0.03 x 2, 0.04 x 1, and never less than the one before."""
    assert metrics.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06], abs=1e-12)
    assert metrics.holm([0.9, 0.8]) == [1, 1]


# ---- second oracles ----


@pytest.mark.parametrize(("successes", "n"), [(0, 20), (7, 20), (20, 20), (442, 1319)])
def test_wilson_equals_statsmodels(successes, n):
    low, high = proportion_confint(successes, n, method="wilson")
    expected = (100 * low, 100 * high)
    assert metrics.wilson_interval(successes, n)[1:] == pytest.approx(expected, abs=1e-9)


def test_z_equals_statsmodels_on_answers():
    """From answers to aggregates and back: statsmodels sees the documents, slimlib their means."""
    rng = np.random.default_rng(0)
    both = [DescrStatsW((rng.random(n) < p).astype(float)) for n, p in ((300, 0.5), (200, 0.4))]
    oracle = both[1].get_compare(both[0])
    aggregates = [100 * one.mean for one in both] + [100 * one.std_mean for one in both]
    expected = oracle.ztest_ind(usevar="unequal")
    assert metrics.unpaired_z_test(*aggregates) == pytest.approx(expected, abs=1e-9)
    limits = 100 * np.array(oracle.zconfint_diff(usevar="unequal"))
    assert metrics.unpaired_difference(*aggregates)[1:] == pytest.approx(limits, abs=1e-9)
    expected = oracle.ztost_ind(-0.15, 0.15, usevar="unequal")[0]
    found = metrics.unpaired_equivalence_test(*aggregates, 15.0)
    assert found == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("aggregates", PAPER)
def test_fieller_limits_are_where_z_turns(aggregates):
    """By definition r is a limit if tuned - r base is 1.96 of its standard errors from 0."""
    base, tuned, base_error, tuned_error = aggregates
    for limit in metrics.unpaired_forgetting_interval(*aggregates)[1:]:
        ratio = 1 - limit / 100
        z = (tuned - ratio * base) / math.hypot(tuned_error, ratio * base_error)
        assert abs(z) == pytest.approx(stats.norm.ppf(0.975), rel=1e-9)


@pytest.mark.parametrize("aggregates", PAPER)
def test_the_detectable_difference_is_found_in_four_of_five_repetitions(aggregates):
    error = math.hypot(*aggregates[2:])
    shift = metrics.unpaired_minimum_detectable_difference(*aggregates[2:]) / error
    assert stats.norm.sf(stats.norm.ppf(0.975) - shift) == pytest.approx(0.8, abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_holm_equals_its_definition_and_statsmodels(seed):
    p_values = np.random.default_rng(seed).random(7) ** 3
    expected, largest = [0.0] * 7, 0.0
    for rank, i in enumerate(np.argsort(p_values)):
        largest = max(largest, min((7 - rank) * p_values[i], 1.0))
        expected[i] = largest
    assert metrics.holm(p_values) == pytest.approx(expected, abs=1e-12)
    oracle = multipletests(p_values, method="holm")[1]
    assert metrics.holm(list(p_values)) == pytest.approx(oracle, abs=1e-12)


@pytest.mark.parametrize("aggregates", PAPER)
def test_swapping_the_models_flips_the_signs_and_nothing_else(aggregates):
    there, back = (metrics.unpaired_z_test(*a) for a in (aggregates, swap(*aggregates)))
    assert there == (-back.statistic, back.p_value)
    there, back = (metrics.unpaired_difference(*a) for a in (aggregates, swap(*aggregates)))
    assert there == (-back.value, -back.high, -back.low)
    there, back = (
        metrics.unpaired_equivalence_test(*a, 2.0) for a in (aggregates, swap(*aggregates))
    )
    assert there == back


@pytest.mark.parametrize("aggregates", PAPER)
def test_interval_and_test_agree(aggregates):
    low, high = metrics.unpaired_difference(*aggregates)[1:]
    assert (low <= 0 <= high) == (metrics.unpaired_z_test(*aggregates).p_value >= 0.05)

"""The paper's formulas against its own numbers; the statistics against scipy and statsmodels."""

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import proportion_confint

from slimlib import metrics

NAN = math.nan


def scores(n: int, p: float, seed: int) -> np.ndarray:
    return (np.random.default_rng(seed).random(n) < p).astype(float)


# ---- degenerate input ----


@pytest.mark.parametrize("formula", ["accuracy", "accuracy_norm", "accuracy_strict"])
def test_no_answers_is_an_error(formula):
    with pytest.raises(ValueError, match="no predictions"):
        getattr(metrics, formula)([], [])


def test_unequal_lengths_are_named():
    with pytest.raises(ValueError, match="1 predictions for 2 targets"):
        metrics.accuracy(["A"], ["A", "B"])


@pytest.mark.parametrize("bad", [-0.1, 100.1, NAN, math.inf])
@pytest.mark.parametrize("formula", [metrics.forgetting_rate, metrics.delta_a])
def test_an_impossible_accuracy_is_named(formula, bad):
    with pytest.raises(ValueError, match=str(bad)):
        formula(50.0, bad)


PAIRED = [
    metrics.paired_t_test,
    metrics.paired_difference,
    metrics.forgetting_interval,
    metrics.mcnemar_test,
]


@pytest.mark.parametrize("function", PAIRED)
def test_a_nan_score_is_an_error(function):
    with pytest.raises(ValueError, match="score nan"):
        function([1, 0, 1], [1, NAN, 0])


@pytest.mark.parametrize("function", PAIRED)
@pytest.mark.parametrize("tuned", [[1], [[1, 0]], []])
def test_scores_must_be_of_the_same_documents(function, tuned):
    with pytest.raises(ValueError, match="same documents"):
        function([1, 0], tuned)


def test_forgetting_of_nothing_is_nan():
    assert math.isnan(metrics.forgetting_rate(0.0, 0.0))
    assert all(math.isnan(x) for x in metrics.forgetting_interval([0, 0, 0], [1, 0, 1]))


def test_one_document_has_a_value_but_no_spread():
    assert math.isnan(metrics.standard_error(100.0, 1))
    assert math.isnan(metrics.paired_t_test([1], [0]).p_value)
    assert metrics.forgetting_interval([1], [0]).value == 100
    assert math.isnan(metrics.forgetting_interval([1], [0]).low)


@pytest.mark.parametrize("n", [0, -3])
def test_no_documents_is_an_error(n):
    with pytest.raises(ValueError, match=f"n={n}"):
        metrics.standard_error(50.0, n)
    with pytest.raises(ValueError, match=f"n={n}"):
        metrics.delta_k(50.0, 50.0, 10, n)
    with pytest.raises(ValueError, match=f"n={n}"):
        metrics.wilson_interval(0, n)


def test_mcnemar_takes_only_right_and_wrong():
    with pytest.raises(ValueError, match="score 0.5"):
        metrics.mcnemar_test([1, 0.5], [1, 0])


def test_flexible_accuracy_refuses_a_target_that_is_no_number():
    with pytest.raises(ValueError, match="target nan"):
        metrics.accuracy_flex([1.0], [NAN])
    with pytest.raises(ValueError, match="eps=0"):
        metrics.accuracy_flex([1.0], [1.0], eps=0)


def test_a_model_against_itself_has_no_claim_no_nan_and_no_false_certainty():
    same = scores(100, 0.5, seed=0)
    assert metrics.paired_t_test(same, same) == (0.0, 1.0)
    assert metrics.mcnemar_test(same, same) == (0, 0, 1.0)
    value, low, high = metrics.paired_difference(same, same)
    assert (value, low) == (0, -high) and 3 < high < 4  # Wilson's 0 of 100: 3.70 %
    value, low, high = metrics.forgetting_interval(same, same)
    assert value == 0 and low < 0 < high


def test_everything_lost():
    base, tuned = np.ones(50), np.zeros(50)
    assert metrics.paired_t_test(base, tuned) == (-math.inf, 0.0)
    assert metrics.paired_t_test(tuned, base) == (math.inf, 0.0)
    assert metrics.paired_difference(base, tuned)[:2] == (-100, -100)
    assert metrics.forgetting_interval(base, tuned).value == 100
    assert metrics.forgetting_interval(base, tuned).low < 95  # 50 documents cannot show 100 %


# ---- worked numbers of the docstrings ----


def test_normalize_text():
    assert metrics.normalize_text("Don't  stop, 50 %!") == "dont  stop 50 "
    assert metrics.normalize_text("\u201cGr\u00fc\u00dfe\u201d \u2013 CAF\u00c9\u2026") == (
        "gr\u00fc\u00dfe  caf\u00e9"
    )


def test_the_accuracies():
    assert metrics.accuracy_norm(["The cat.", "a dog"], ["the cat", "a cow"]) == 50
    strict = metrics.accuracy_strict(["18", "3.0", None], ["18", "3", "7"])
    assert strict == pytest.approx(100 / 3)
    assert metrics.accuracy_flex([18.0, 3.009, 7.02, None], [18, 3, 7, 5]) == 50
    assert metrics.accuracy(["A", "C", "D", "B"], ["A", "C", "B", "B"]) == 75


def test_a_nan_prediction_is_a_wrong_answer():
    assert metrics.accuracy_flex([NAN, 2.0], [1.0, 2.0]) == 50


def test_forgetting_rate_of_the_paper():
    assert metrics.forgetting_rate(33.51, 3.71) == pytest.approx(88.93, abs=0.005)
    exact = metrics.forgetting_rate(100 * 442 / 1319, 100 * 49 / 1319)
    assert exact == pytest.approx(88.91, abs=0.005)
    assert metrics.forgetting_rate(20.0, 30.0) == pytest.approx(-50)


def test_delta_a_of_the_paper():
    assert metrics.delta_a(60.77, 61.20) == pytest.approx(0.43)


def test_delta_k_of_the_paper_contains_zero():
    value, low, high = metrics.delta_k(47.0, 34.0, 100)
    assert value == 13
    assert (high - low) / 2 == pytest.approx(13.55, abs=0.005)
    assert (low, high) == pytest.approx((-0.55, 26.55), abs=0.005)


def test_delta_k_takes_two_sample_sizes():
    half = metrics.delta_k(47.0, 34.0, 100, 400).high - 13
    expected = 1.96 * math.hypot(math.sqrt(47 * 53 / 99), math.sqrt(34 * 66 / 399))
    assert half == pytest.approx(expected)


@pytest.mark.parametrize(
    ("percent", "n", "expected"),
    [(33.51, 1319, 1.30), (60.77, 10042, 0.49), (47.0, 100, 5.02), (0.0, 10, 0.0)],
)
def test_standard_errors_of_the_paper(percent, n, expected):
    assert metrics.standard_error(percent, n) == pytest.approx(expected, abs=0.005)


def test_standard_error_is_that_of_the_mean():
    right = scores(57, 0.3, seed=1)
    assert metrics.standard_error(100 * right.mean(), 57) == pytest.approx(100 * stats.sem(right))


def test_wilson_interval():
    assert metrics.wilson_interval(47, 100) == pytest.approx((47, 37.51, 56.71), abs=0.005)
    assert metrics.wilson_interval(0, 100) == pytest.approx((0, 0, 3.70), abs=0.005)


def test_paired_t_test_and_its_interval():
    base, tuned = [1, 1, 1, 0], [0, 0, 1, 0]
    assert metrics.paired_t_test(base, tuned) == pytest.approx((-1.732, 0.182), abs=0.0005)
    expected = (-50, -141.87, 41.87)
    assert metrics.paired_difference(base, tuned) == pytest.approx(expected, abs=0.005)


def test_forgetting_interval():
    base, tuned = [1] * 8 + [0] * 2, [1] * 2 + [0] * 8
    assert metrics.forgetting_interval(base, tuned) == pytest.approx((75, 35.59, 100), abs=0.005)


@pytest.mark.parametrize(("lost", "gained", "p"), [(25, 12, 0.047), (26, 13, 0.053)])
def test_mcnemar(lost, gained, p):
    """dK = 13 of 100 is significant if 37 answers differ, and not if 39 do."""
    base = [1] * lost + [0] * gained + [1] * (100 - lost - gained)
    tuned = [0] * lost + [1] * gained + [1] * (100 - lost - gained)
    result = metrics.mcnemar_test(base, tuned)
    assert result[:2] == (lost, gained)
    assert result.p_value == pytest.approx(p, abs=0.0005)


# ---- second oracles ----

SAMPLES = [(100, 0.5, 0.4), (1319, 0.34, 0.04), (100, 0.03, 0.03), (40, 0.9, 0.95)]


@pytest.mark.parametrize(("n", "p", "q"), SAMPLES)
def test_mcnemar_equals_statsmodels(n, p, q):
    base, tuned = scores(n, p, seed=2), scores(n, q, seed=3)
    table = np.histogram2d(base, tuned, bins=2)[0]
    expected = mcnemar(table, exact=True).pvalue
    assert metrics.mcnemar_test(base, tuned).p_value == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("n", "p", "q"), SAMPLES)
def test_paired_t_test_is_a_one_sample_test_of_the_changes(n, p, q):
    base, tuned = scores(n, p, seed=2), scores(n, q, seed=3)
    oracle = stats.ttest_1samp(tuned - base, 0)
    expected = (oracle.statistic, oracle.pvalue)
    assert metrics.paired_t_test(base, tuned) == pytest.approx(expected, abs=1e-9)
    change = 100 * (tuned - base)
    half = stats.t.ppf(0.975, n - 1) * stats.sem(change)
    estimate = metrics.paired_difference(base, tuned)
    limits = (change.mean(), change.mean() - half, change.mean() + half)
    assert estimate == pytest.approx(limits, abs=1e-9)


@pytest.mark.parametrize(("successes", "n"), [(0, 20), (7, 20), (20, 20), (442, 1319)])
def test_wilson_equals_statsmodels(successes, n):
    low, high = proportion_confint(successes, n, method="wilson")
    expected = (100 * low, 100 * high)
    assert metrics.wilson_interval(successes, n)[1:] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_fieller_limits_are_where_the_t_test_turns(seed):
    """By definition r is a limit if tuned - r base has |t| equal to its 97.5 % quantile."""
    base, tuned = scores(200, 0.6, seed=seed), scores(200, 0.3, seed=seed + 10)
    value, low, high = metrics.forgetting_interval(base, tuned)
    assert low < value < high < 100
    for limit in (low, high):
        rest = tuned - (1 - limit / 100) * base
        t = stats.ttest_1samp(rest, 0).statistic
        assert abs(t) == pytest.approx(stats.t.ppf(0.975, 199), rel=1e-9)


def test_fieller_agrees_with_a_paired_bootstrap():
    base, tuned = scores(1000, 0.6, seed=4), scores(1000, 0.3, seed=5)
    picks = np.random.default_rng(6).integers(0, 1000, (4000, 1000))
    rates = 100 * (1 - tuned[picks].mean(axis=1) / base[picks].mean(axis=1))
    expected = np.percentile(rates, [2.5, 97.5])
    assert metrics.forgetting_interval(base, tuned)[1:] == pytest.approx(expected, abs=0.8)


def test_fieller_knows_nothing_where_base_is_not_above_zero():
    base, tuned = [1] + [0] * 19, [0, 1] + [0] * 18
    assert metrics.forgetting_interval(base, tuned)[1:] == (-math.inf, 100)


@pytest.mark.parametrize(("n", "p", "q"), SAMPLES)
def test_swapping_the_models_flips_the_signs_and_nothing_else(n, p, q):
    base, tuned = scores(n, p, seed=7), scores(n, q, seed=8)
    there, back = metrics.paired_difference(base, tuned), metrics.paired_difference(tuned, base)
    assert there == pytest.approx((-back.value, -back.high, -back.low))
    assert metrics.mcnemar_test(base, tuned).p_value == metrics.mcnemar_test(tuned, base).p_value

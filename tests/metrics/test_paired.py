"""Tests and intervals on per-document scores, against hand-made numbers, scipy and statsmodels."""

import itertools
import math
import warnings

import numpy as np
import pytest
from scipy import integrate, optimize, stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.power import TTestPower
from statsmodels.stats.weightstats import DescrStatsW, ttost_paired

from slimlib import metrics

NAN = math.nan


def scores(n: int, p: float, seed: int) -> np.ndarray:
    return (np.random.default_rng(seed).random(n) < p).astype(float)


def answers(kept: int, lost: int, gained: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    """Base and tuned scores with these counts."""
    cells = (kept, lost, gained, neither)
    return np.repeat([1.0, 1, 0, 0], cells), np.repeat([1.0, 0, 1, 0], cells)


def mean_of_seeds(n: int, p: float, seed: int) -> np.ndarray:
    return np.mean([scores(n, p, seed + i) for i in range(3)], axis=0)


def flipped(estimate: metrics.Estimate) -> tuple[float, float, float]:
    return -estimate.value, -estimate.high, -estimate.low


TABLES = [
    (27, 20, 7, 46),
    (14, 5, 0, 22),
    (0, 13, 4, 3),
    (2, 1, 1, 96),
    (398, 44, 5, 872),
    (10, 0, 0, 10),
    (20, 0, 0, 0),
    (0, 20, 0, 0),
    (0, 0, 0, 20),
    (0, 10, 10, 0),
    (1, 0, 0, 0),
    (0, 1, 0, 0),
]


# ---- degenerate input ----


def equivalence(base, tuned):
    return metrics.equivalence_test(base, tuned, 5.0)


INTERVALS = [
    metrics.t_interval,
    metrics.paired_difference,
    metrics.forgetting_interval,
]
PAIRED = [
    *INTERVALS,
    metrics.paired_t_test,
    metrics.mcnemar_test,
    equivalence,
    metrics.minimum_detectable_difference,
]


@pytest.mark.parametrize("function", PAIRED)
@pytest.mark.parametrize("bad", [NAN, math.inf, None])
def test_a_score_that_is_no_number_is_an_error(function, bad):
    wrong = "score inf" if bad == math.inf else "score nan"
    for pair in (([1, 0, 1], [1, bad, 0]), ([1, bad, 1], [1, 0, 0])):
        with pytest.raises(ValueError, match=wrong):
            function(*pair)


def test_scores_that_are_no_numbers_are_an_error():
    with pytest.raises(ValueError, match="must be numbers"):
        metrics.paired_t_test([{"acc": 1}], [1])


@pytest.mark.parametrize("function", PAIRED)
@pytest.mark.parametrize("tuned", [[1], [[1, 0]], []])
def test_scores_must_be_of_the_same_documents(function, tuned):
    with pytest.raises(ValueError, match="same documents"):
        function([1, 0], tuned)


def test_only_right_and_wrong():
    with pytest.raises(ValueError, match="score 0.5"):
        metrics.mcnemar_test([1, 0.5], [1, 0])


def test_forgetting_needs_shares():
    with pytest.raises(ValueError, match="score 2.0"):
        metrics.forgetting_interval([1, 1], [0, 2])


@pytest.mark.parametrize("function", INTERVALS)
@pytest.mark.parametrize("confidence", [0, 1, 95, NAN])
def test_a_confidence_is_a_share(function, confidence):
    for pair in (([1, 1, 0], [1, 0, 0]), ([1, 0], [1, 0])):
        with pytest.raises(ValueError, match="confidence="):
            function(*pair, confidence=confidence)


@pytest.mark.parametrize("margin", [0, -1.0, NAN])
def test_a_margin_must_be_above_zero(margin):
    for pair in (([1, 1, 0], [1, 0, 0]), ([1], [1])):
        with pytest.raises(ValueError, match=f"margin={margin}"):
            metrics.equivalence_test(*pair, margin)


def test_forgetting_of_nothing_is_nan():
    assert all(math.isnan(x) for x in metrics.forgetting_interval([0, 0, 0], [1, 0, 1]))


def test_one_document_has_a_value_but_no_spread():
    assert math.isnan(metrics.paired_t_test([1], [0]).p_value)
    found = metrics.forgetting_interval([0.5], [0])
    assert found.value == 100 and math.isnan(found.low)
    for pair in (([1], [1]), ([0.5], [0.5])):
        assert metrics.equivalence_test(*pair, 99.0) == 1
        assert metrics.minimum_detectable_difference(*pair) is None


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("function", INTERVALS)
def test_an_interval_holds_its_value_and_warns_of_nothing(function, table):
    pair = answers(*table)
    forgetting = function is metrics.forgetting_interval
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        value, low, high = function(*pair)
    if forgetting and not pair[0].any():
        assert math.isnan(low) and math.isnan(high)
        return
    assert low <= value + 1e-9 and value <= high + 1e-9
    if not forgetting and function is not metrics.t_interval:
        assert -100 - 1e-9 <= low and high <= 100 + 1e-9


@pytest.mark.parametrize("same", [scores(100, 0.5, seed=0), mean_of_seeds(100, 0.5, seed=0)])
def test_a_model_against_itself_has_no_claim_no_nan_and_no_false_certainty(same):
    assert metrics.paired_t_test(same, same) == (0.0, 1.0)
    for interval in (metrics.t_interval, metrics.paired_difference):
        value, low, high = interval(same, same)
        assert (value, low) == (0, -high) and 1.8 < high < 4  # 0 of 100 changed: 3.70 %
    value, low, high = metrics.forgetting_interval(same, same)
    assert value == 0 and low < 0 < high
    assert 0 < metrics.equivalence_test(same, same, 2.0) < 1
    assert metrics.minimum_detectable_difference(same, same) > 5


def test_the_same_answers_have_no_flips():
    same = scores(100, 0.5, seed=0)
    assert metrics.mcnemar_test(same, same) == (0, 0, 1.0)
    value, low, high = metrics.paired_difference(same, same)
    assert value == 0 and low < 0 < high


def test_everything_lost():
    base, tuned = np.ones(50), np.zeros(50)
    assert metrics.paired_t_test(base, tuned) == (-math.inf, 0.0)
    assert metrics.paired_t_test(tuned, base) == (math.inf, 0.0)
    assert metrics.paired_difference(base, tuned)[:2] == (-100, -100)
    assert metrics.paired_difference(base, tuned).high > -95  # 50 documents cannot show 100 %
    assert metrics.forgetting_interval(base, tuned).value == 100
    assert metrics.forgetting_interval(base, tuned).low < 95
    assert metrics.equivalence_test(base, tuned, 5.0) > 0.9999


# ---- worked numbers of the docstrings ----


def test_paired_t_test_and_its_interval():
    base, tuned = [1, 1, 1, 0], [0, 0, 1, 0]
    assert metrics.paired_t_test(base, tuned) == pytest.approx((-1.732, 0.182), abs=0.0005)
    expected = (-50, -141.87, 41.87)
    assert metrics.t_interval(base, tuned) == pytest.approx(expected, abs=0.005)


def test_paired_difference_is_tango_s_for_answers_and_the_t_interval_for_means():
    pair = answers(27, 20, 7, 46)
    assert metrics.paired_difference(*pair) == pytest.approx((-13, -23.27, -2.99), abs=0.005)
    for base, tuned in ((pair[0], pair[1] / 2), (pair[0] / 2, pair[1])):
        assert metrics.paired_difference(base, tuned) == metrics.t_interval(base, tuned)


def test_no_answer_changed_is_wilson_s_limit_on_both_sides():
    """Then Tango's limits are z^2 / (n + z^2), as Wilson's for 0 of n."""
    found = metrics.paired_difference(*answers(60, 0, 0, 40))
    unseen = metrics.wilson_interval(0, 100).high
    assert found == pytest.approx((0, -unseen, unseen), abs=1e-9)


def test_forgetting_interval():
    base, tuned = [1] * 8 + [0] * 2, [1] * 2 + [0] * 8
    assert metrics.forgetting_interval(base, tuned) == pytest.approx((75, 26.98, 95.57), abs=0.005)


def test_forgetting_interval_of_means_is_fieller_s():
    base, tuned = np.array([1] * 8 + [0] * 2) / 2, np.array([1] * 2 + [0] * 8) / 2
    assert metrics.forgetting_interval(base, tuned) == pytest.approx((75, 35.59, 100), abs=0.005)


@pytest.mark.parametrize(("lost", "gained", "p"), [(25, 12, 0.047), (26, 13, 0.053)])
def test_mcnemar(lost, gained, p):
    """dK = 13 of 100 is significant if 37 answers differ, and not if 39 do."""
    result = metrics.mcnemar_test(*answers(100 - lost - gained, lost, gained, 0))
    assert result[:2] == (lost, gained)
    assert result.p_value == pytest.approx(p, abs=0.0005)


def test_equivalence_test():
    """No answer of 100 changed: z = -sqrt(n margin / (1 - margin)) = -sqrt(100 * 0.05 / 0.95).

    The binomial probability of no change, 0.95^100 = 0.0059, is the smaller p here.
    """
    found = metrics.equivalence_test(*answers(50, 0, 0, 50), 5.0)
    assert found == pytest.approx(stats.norm.cdf(-math.sqrt(5 / 0.95)), rel=1e-12)
    assert found == pytest.approx(0.0109, abs=0.00005)
    found = metrics.equivalence_test(*answers(50, 1, 1, 48), 5.0)
    assert found == pytest.approx(0.0189, abs=0.00005)


@pytest.mark.parametrize("cells", [(40, 7, 3, 50), (60, 20, 1, 19), (10, 1, 6, 84)])
def test_equivalence_of_answers_is_the_score_test_worked_out_numerically(cells):
    """Tango's statistic with its restricted estimate found by maximising the likelihood."""
    kept, lost, gained, neither = cells
    n, delta = sum(cells), 0.08

    def side(lost, gained):
        def unlikely(share):
            changed = [(lost, share + delta), (gained, share), (n - lost - gained, None)]
            rest = 1 - 2 * share - delta
            terms = [k * math.log(p if p is not None else rest) for k, p in changed if k]
            return -sum(terms)

        best = optimize.minimize_scalar(
            unlikely,
            bounds=(1e-12, (1 - delta) / 2 - 1e-12),
            method="bounded",
            options={"xatol": 1e-12},
        ).x
        variance = n * (2 * best + delta - delta**2)
        return stats.norm.cdf((lost - gained - n * delta) / math.sqrt(variance))

    expected = max(side(lost, gained), side(gained, lost))
    found = metrics.equivalence_test(*answers(*cells), 100 * delta)
    assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("margin", [1, 2, 5, 10])
def test_equivalence_keeps_its_level_where_answers_are_only_lost(margin):
    """Exact: `lost` is binomial with the margin for its share."""
    levels = {}
    for n in range(20, 320, 1 if margin == 2 else 5):
        counts = range(n * margin // 100 + 1)  # with more lost nobody claims sameness
        p_values = [metrics.equivalence_test(*answers(n - k, k, 0, 0), margin) for k in counts]
        claimed = [k for k, p in zip(counts, p_values, strict=True) if p < 0.05]
        levels[n] = float(stats.binom.pmf(claimed, n, margin / 100).sum())
    assert max(levels.values()) < 0.05
    if margin == 2:
        assert levels[148] == 0 and levels[149] == pytest.approx(0.98**149)


def test_equivalence_where_every_document_changed_alike():
    base = np.full(10, 0.5)
    assert metrics.equivalence_test(base, base - 0.25, 50.0) == pytest.approx(0.75**10)
    assert metrics.equivalence_test(base, base - 0.25, 25.0) == 1
    assert metrics.equivalence_test(base, base - 0.25, 10.0) == 1
    assert metrics.equivalence_test(base, base, 200.0) == 0


def test_other_scores_on_one_side_are_other_scores():
    """Half of one side's answers: t and Fieller, not McNemar's procedure."""
    base, tuned = answers(27, 20, 7, 46)
    for pair in ((base / 2, tuned), (base, tuned / 2)):
        one_sided = ttost_paired(pair[1], pair[0], -0.4, 0.4)[0]
        assert metrics.equivalence_test(*pair, 40.0) == pytest.approx(one_sided, abs=1e-9)
        assert metrics.minimum_detectable_difference(*pair) % 0.1 > 1e-6
        rest = pair[1] - (1 - metrics.forgetting_interval(*pair).high / 100) * pair[0]
        t = stats.ttest_1samp(rest, 0).statistic
        assert abs(t) == pytest.approx(stats.t.ppf(0.975, 99), rel=1e-9)


def test_where_every_document_kept_the_same_share_the_limits_are_wilson_s():
    unseen = metrics.wilson_interval(0, 40, 0.9).high
    base = np.repeat([0.5, 0.25], (8, 32))  # mean 0.3
    found = metrics.forgetting_interval(base, base * 0.75, 0.9)
    assert found == pytest.approx((25, 25 - unseen / 0.3, 25 + unseen / 0.3))
    low = metrics.forgetting_interval(base / 25, base / 50, 0.9)
    assert low == pytest.approx((50, 50 - unseen / 0.012, 100))


def test_limits_of_a_change_that_all_share_end_at_100_points():
    lost, gained = (metrics.t_interval(x, 1 - x) for x in (np.ones(5), np.zeros(5)))
    assert (lost[:2], gained[::2]) == ((-100, -100), (100, 100))
    assert lost.high == -gained.low == pytest.approx(metrics.wilson_interval(0, 5).high - 100)


def test_minimum_detectable_difference():
    """Of answers for McNemar's test (see test_flips), of means for the paired t-test."""
    assert metrics.minimum_detectable_difference(*answers(75, 14, 11, 0)) == 19.1
    base, tuned = answers(27, 20, 7, 46)
    found = metrics.minimum_detectable_difference(base / 2, tuned / 2)
    assert found == pytest.approx(7.15, abs=0.005)


# ---- second oracles ----

SAMPLES = [(100, 0.5, 0.4), (1319, 0.34, 0.04), (100, 0.03, 0.03), (40, 0.9, 0.95)]
MAKERS = [scores, mean_of_seeds]


@pytest.mark.parametrize(("n", "p", "q"), SAMPLES)
def test_mcnemar_equals_statsmodels(n, p, q):
    base, tuned = scores(n, p, seed=2), scores(n, q, seed=3)
    table = np.histogram2d(base, tuned, bins=2)[0]
    expected = mcnemar(table, exact=True).pvalue
    assert metrics.mcnemar_test(base, tuned).p_value == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize(("n", "p", "q"), SAMPLES)
def test_paired_t_test_is_a_one_sample_test_of_the_changes(n, p, q, make):
    base, tuned = make(n, p, seed=2), make(n, q, seed=30)
    oracle = DescrStatsW(tuned - base)
    assert metrics.paired_t_test(base, tuned) == pytest.approx(oracle.ttest_mean()[:2], abs=1e-9)
    limits = 100 * np.array([oracle.mean, *oracle.tconfint_mean()])
    assert metrics.t_interval(base, tuned) == pytest.approx(limits, abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_fieller_limits_are_where_the_t_test_turns(seed):
    """By definition r is a limit if tuned - r base has |t| equal to its 97.5 % quantile."""
    base, tuned = scores(200, 0.6, seed=seed) / 2, scores(200, 0.3, seed=seed + 10) / 2
    value, low, high = metrics.forgetting_interval(base, tuned)
    assert low < value < high < 100
    for limit in (low, high):
        rest = tuned - (1 - limit / 100) * base
        t = stats.ttest_1samp(rest, 0).statistic
        assert abs(t) == pytest.approx(stats.t.ppf(0.975, 199), rel=1e-9)


def test_fieller_knows_nothing_where_base_is_not_above_zero():
    base, tuned = [0.5] + [0] * 19, [0, 0.5] + [0] * 18
    assert metrics.forgetting_interval(base, tuned)[1:] == (-math.inf, 100)


def test_fieller_knows_of_a_gain_from_nothing_clear():
    """1 of 20 before, 12 of 20 after: how large the gain is stays open, that it is one does not."""
    base, tuned = np.repeat([0.5, 0], (1, 19)), np.repeat([0, 0.5, 0], (1, 12, 7))
    _, low, high = metrics.forgetting_interval(base, tuned)
    assert low == -math.inf and high < 0
    t = stats.ttest_1samp(tuned - (1 - high / 100) * base, 0).statistic
    assert t == pytest.approx(stats.t.ppf(0.975, 19), rel=1e-9)


def test_fieller_and_the_t_interval_agree_with_the_bootstrap():
    """scipy's BCa over whole documents has no formula in common with them."""
    base, tuned = scores(1319, 0.6, seed=4) / 2, scores(1319, 0.3, seed=5) / 2

    def rate(base, tuned, axis):
        return 100 * (1 - tuned.mean(axis=axis) / base.mean(axis=axis))

    def change(base, tuned, axis):
        return 100 * (tuned - base).mean(axis=axis)

    for measure, interval, within in (
        (rate, metrics.forgetting_interval, 0.5),
        (change, metrics.t_interval, 0.4),
    ):
        rng = np.random.default_rng(0)
        found = stats.bootstrap(
            (base, tuned), measure, paired=True, vectorized=True, n_resamples=2000, rng=rng
        ).confidence_interval
        assert (found.low, found.high) == pytest.approx(interval(base, tuned)[1:], abs=within)


@pytest.mark.parametrize(("n", "p", "q"), SAMPLES)
def test_equivalence_of_other_scores_equals_two_one_sided_t_tests(n, p, q):
    base, tuned = mean_of_seeds(n, p, seed=2), mean_of_seeds(n, q, seed=30)
    one_sided = [
        stats.ttest_rel(tuned, base - 0.05, alternative="greater").pvalue,
        stats.ttest_rel(tuned, base + 0.05, alternative="less").pvalue,
    ]
    found = metrics.equivalence_test(base, tuned, 5.0)
    assert found == pytest.approx(max(one_sided), abs=1e-9)
    assert found == pytest.approx(ttost_paired(tuned, base, -0.05, 0.05)[0], abs=1e-9)


@pytest.mark.parametrize("n", [2, 4, 100, 1319, 14_042])
@pytest.mark.parametrize(("power", "alpha"), [(0.8, 0.05), (0.9, 0.01), (0.1, 0.05)])
def test_the_detectable_difference_has_its_power(n, power, alpha):
    """P(|Z + shift| > t s) with s from its chi distribution, integrated by hand."""
    rng = np.random.default_rng(n)
    base, tuned = rng.random(n) / 1e4, rng.random(n) / 1e4
    points = metrics.minimum_detectable_difference(base, tuned, power, alpha)
    shift = points / 100 / stats.sem(tuned - base)
    limit, spread = stats.t.isf(alpha / 2, n - 1), stats.chi(n - 1, scale=1 / math.sqrt(n - 1))

    def found(s):
        return stats.norm.sf(limit * s - shift) + stats.norm.cdf(-limit * s - shift)

    edges = spread.ppf([1e-9, 0.01, 0.1, 0.5, 0.9, 1 - 1e-9])
    total = sum(
        integrate.quad(lambda s: found(s) * spread.pdf(s), *ends, limit=200)[0]
        for ends in itertools.pairwise(edges)
    )
    assert total == pytest.approx(power, abs=1e-7)


@pytest.mark.parametrize("n", [3, 10, 100, 1319, 14_042])
def test_the_detectable_difference_equals_statsmodels(n):
    base, tuned = scores(n, 0.5, seed=1) / 3, scores(n, 0.5, seed=2)
    effect = float(np.squeeze(TTestPower().solve_power(nobs=n, alpha=0.05, power=0.8)))
    expected = 100 * effect * np.std(tuned - base, ddof=1)
    found = metrics.minimum_detectable_difference(base, tuned)
    assert found == (pytest.approx(expected, rel=1e-5) if expected <= 100 else None)


def test_the_detectable_difference_of_no_change():
    """Wilson's limit for 0 of 100 changed, 3.70 %, is the least share of changes to reckon with."""
    effect = TTestPower().solve_power(nobs=100, alpha=0.05, power=0.8)
    same = np.full(100, 0.5)
    found = metrics.minimum_detectable_difference(same, same)
    assert found == pytest.approx(100 * math.sqrt(0.036995) * effect, rel=1e-4)


def test_a_difference_beyond_100_points_is_not_detectable():
    for pair in (([1, 0], [0, 1]), ([1, 0], [1, 0]), ([0.9, 0], [0, 0.9])):
        assert metrics.minimum_detectable_difference(*pair) is None


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize(("n", "p", "q"), SAMPLES)
def test_swapping_the_models_flips_the_signs_and_nothing_else(n, p, q, make):
    base, tuned = make(n, p, seed=7), make(n, q, seed=80)
    for interval in (metrics.paired_difference, metrics.t_interval):
        assert interval(base, tuned) == flipped(interval(tuned, base))
    t, back = metrics.paired_t_test(base, tuned), metrics.paired_t_test(tuned, base)
    assert t == (-back.statistic, back.p_value)
    for function in (equivalence, metrics.minimum_detectable_difference):
        assert function(base, tuned) == function(tuned, base)


@pytest.mark.parametrize("table", TABLES)
def test_swapping_flips_difference_and_mcnemar_bit_for_bit(table):
    base, tuned = answers(*table)
    there, back = (metrics.paired_difference(*p) for p in ((base, tuned), (tuned, base)))
    assert there == flipped(back)
    there, back = metrics.mcnemar_test(base, tuned), metrics.mcnemar_test(tuned, base)
    assert there == (back.gained, back.lost, back.p_value)


@pytest.mark.parametrize(("n", "p", "q"), SAMPLES)
def test_the_t_interval_agrees_with_its_test(n, p, q):
    base, tuned = scores(n, p, seed=11), scores(n, q, seed=12)
    significant = metrics.paired_t_test(base, tuned).p_value < 0.05
    _, low, high = metrics.t_interval(base, tuned)
    assert significant == (not low <= 0 <= high)

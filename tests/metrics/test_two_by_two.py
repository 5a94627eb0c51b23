"""Counts of flips: intervals, McNemar and "kept" against brute force, scipy and one another."""

import itertools
import math
import random
import warnings

import numpy as np
import pytest
from scipy import optimize, stats

from slimlib.metrics.power import can_show_kept, detectable_by_mcnemar
from slimlib.metrics.two_by_two import (
    Flips,
    mcnemar_p,
    score_difference,
    score_equivalence,
    score_forgetting,
)

ALPHAS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5)


def excludes_0(estimate) -> bool:
    return estimate.low > 0 or estimate.high < 0


def disagreements(n: int, alphas=ALPHAS):
    """Tables of n documents in which an interval and the test say different things."""
    for lost, gained in itertools.product(range(n + 1), repeat=2):
        rest = n - lost - gained
        if rest < 0:
            continue
        for alpha in alphas:
            rejected = mcnemar_p(Flips(rest, lost, gained, 0)) < alpha
            for kept in {0, rest // 2, rest}:
                flips = Flips(kept, lost, gained, rest - kept)
                found = [score_difference(flips, 1 - alpha)]
                if kept + lost:
                    found.append(score_forgetting(flips, 1 - alpha))
                if any(excludes_0(one) != rejected for one in found):
                    yield flips, alpha


# ---- degenerate tables ----


@pytest.mark.parametrize("table", [(1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)])
def test_one_document_shows_nothing(table):
    flips = Flips(*table)
    assert mcnemar_p(flips) == 1
    assert not excludes_0(score_difference(flips, 0.95))
    assert not can_show_kept(1, 99.0)
    assert detectable_by_mcnemar(flips, 0.8, 0.05) is None


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999, 1 - 1e-9])
@pytest.mark.parametrize(
    "table",
    [(20, 0, 0, 0), (0, 20, 0, 0), (0, 0, 20, 0), (0, 0, 0, 20), (0, 10, 10, 0), (1, 0, 9999, 42)],
)
def test_a_table_with_empty_cells_has_limits_around_its_value(table, confidence):
    flips = Flips(*table)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        value, low, high = score_difference(flips, confidence)
        rate = score_forgetting(flips, confidence)
    assert -100 <= low <= value <= high <= 100 and low < high
    if flips.kept + flips.lost == 0:
        assert all(math.isnan(x) for x in rate)
    else:
        assert rate.low <= rate.value <= rate.high <= 100 and rate.low < rate.high


def test_nothing_right_after_has_no_upper_limit_below_100():
    assert score_forgetting(Flips(0, 50, 0, 50), 0.95)[::2] == (100, 100)
    assert score_forgetting(Flips(0, 1, 0, 50), 0.95)[::2] == (100, 100)


# ---- the exact test ----


@pytest.mark.parametrize("flipped", [0, 1, 2, 7, 40, 3000])
def test_mcnemar_is_the_binomial_test(flipped):
    for lost in {0, 1, flipped // 3, flipped // 2, flipped}:
        if lost <= flipped:
            expected = stats.binomtest(lost, flipped).pvalue if flipped else 1.0
            found = mcnemar_p(Flips(0, lost, flipped - lost, 0))
            assert found == pytest.approx(expected, rel=1e-9)


# ---- verdict and intervals agree ----


@pytest.mark.parametrize("n", [1, 2, 7, 20])
def test_intervals_exclude_0_exactly_where_mcnemar_rejects(n):
    assert not list(disagreements(n, (0.001, 0.05, 0.25, 0.5)))


@pytest.mark.slow
def test_intervals_and_test_agree_in_all_small_tables_and_many_large_ones():
    for n in (*range(1, 21), 30, 40):
        assert not list(disagreements(n)), n
    draw = random.Random(0)
    for _ in range(5000):
        n = draw.choice((100, 1319, 10_042))
        lost = draw.randrange(draw.choice((6, 30, n // 3)))
        gained = min(max(lost + round(draw.gauss(0, 2.5) * math.sqrt(lost + 4)), 0), n - lost)
        kept = draw.randint(0, n - lost - gained)
        flips, alpha = Flips(kept, lost, gained, n - lost - gained - kept), draw.uniform(0.001, 0.5)
        rejected = mcnemar_p(flips) < alpha
        assert excludes_0(score_difference(flips, 1 - alpha)) == rejected, (flips, alpha)
        if kept + lost:
            assert excludes_0(score_forgetting(flips, 1 - alpha)) == rejected, (flips, alpha)


@pytest.mark.parametrize("table", [(50, 12, 0, 50), (50, 0, 12, 50), (0, 30, 1, 85)])
def test_the_exact_test_may_reject_what_the_score_test_holds(table):
    """12 flips, all one way: exact p = 2^-11 = 0.00049, by the score sqrt(12) 0.00053."""
    flips = Flips(*table)
    exact = mcnemar_p(flips)
    distance = abs(flips.lost - flips.gained) / math.sqrt(flips.lost + flips.gained)
    by_score = 2 * stats.norm.sf(distance)
    assert exact < by_score
    alpha = (exact + by_score) / 2
    assert excludes_0(score_difference(flips, 1 - alpha))
    assert excludes_0(score_forgetting(flips, 1 - alpha))
    for interval in (score_difference, score_forgetting):  # which leave 0 where the exact test does
        near, clear = (
            min(abs(limit) for limit in interval(flips, 1 - a)[1:])
            for a in (exact * (1 + 1e-6), alpha)
        )
        assert near == pytest.approx(0, abs=1e-3) and clear > 5 * near


def test_a_limit_short_of_0_is_stretched_to_it():
    """5 lost, none gained: exact p = 2^-4 = 0.0625; Tango's limit alone would stop below 0."""
    flips = Flips(14, 5, 0, 22)
    assert score_difference(flips, 0.95).high == 0 and score_forgetting(flips, 0.95).low == 0
    assert score_difference(flips, 0.93).high < 0 < score_forgetting(flips, 0.93).low


# ---- limits by brute force ----


def most_likely(flips, second_of):
    """Shares kept, lost, gained, found by maximising the likelihood under one constraint.

    second_of(kept share, lost share) is the gained share that the hypothesis leaves.
    """

    def unlikely(x):
        shares = [x[0], x[1], second_of(*x)]
        shares.append(1 - sum(shares))
        if min(shares) <= 0:
            return 1e9 * (1 - min(shares))
        return -sum(k * math.log(p) for k, p in zip(flips, shares, strict=True))

    start = np.array([flips.kept + 1, flips.lost + 1]) / (flips.n + 4)
    best, options = None, {"xatol": 1e-12, "fatol": 1e-13, "maxiter": 4000, "maxfev": 4000}
    for scale in (1.0, 0.7, 0.4):
        found = optimize.minimize(unlikely, start * scale, method="Nelder-Mead", options=options)
        best = found if best is None or found.fun < best.fun else best
    return *best.x, second_of(*best.x)


BOTH_WAYS = [(27, 20, 7, 46), (12, 9, 2, 14), (30, 3, 18, 9)]  # clear of 0: nothing is stretched


@pytest.mark.parametrize("table", BOTH_WAYS)
def test_at_a_limit_of_the_difference_the_score_is_critical(table):
    flips = Flips(*table)
    z = stats.norm.ppf(0.95)
    for sign, limit in zip((1, -1), score_difference(flips, 0.90)[1:], strict=True):
        gain = limit / 100
        _, lost, gained = most_likely(flips, lambda _, lost, gain=gain: lost + gain)
        variance = (lost + gained - gain**2) / flips.n
        score = ((flips.gained - flips.lost) / flips.n - gain) / math.sqrt(variance)
        assert score == pytest.approx(sign * z, abs=2e-5)


@pytest.mark.parametrize("table", BOTH_WAYS)
def test_at_a_limit_of_fr_the_score_is_critical(table):
    flips = Flips(*table)
    z = stats.norm.ppf(0.95)
    for sign, limit in zip((-1, 1), score_forgetting(flips, 0.90)[1:], strict=True):
        ratio = 1 - limit / 100
        kept, lost, gained = most_likely(
            flips, lambda kept, lost, ratio=ratio: ratio * (kept + lost) - kept
        )
        variance = flips.n * ((1 - ratio) ** 2 * kept + gained + ratio**2 * lost)
        seen = flips.kept + flips.gained - ratio * (flips.kept + flips.lost)
        assert seen / math.sqrt(variance) == pytest.approx(sign * z, abs=2e-5)


def mid_p(count, n, share):
    """Of `count` or more, and of `count` or fewer of n."""
    here = stats.binom.pmf(count, n, share)
    return [
        tail(count, n, share) + sign * here / 2
        for tail, sign in ((stats.binom.sf, 1), (stats.binom.cdf, -1))
    ]


@pytest.mark.parametrize("lost, kept", [(6, 2), (20, 20), (1, 60)])
def test_without_a_gain_fr_is_a_share_of_base_and_no_narrower_than_its_mid_p(lost, kept):
    more = [
        mid_p(lost, lost + kept, max(x, 0) / 100)
        for x in score_forgetting(Flips(kept, lost, 0, 9), 0.95)[1:]
    ]
    assert more[0][0] <= 0.025 + 1e-9 and more[1][1] <= 0.025 + 1e-9


def test_half_of_base_lost_has_mid_p_limits_on_both_sides():
    """20 of 40: 34.78 and 65.22 (Clopper and Pearson: 33.80); by the score alone 35.2 and 64.8."""
    found = score_forgetting(Flips(20, 20, 0, 9), 0.95)
    assert found == pytest.approx((50, 34.7802, 65.2198), abs=5e-5)
    assert mid_p(20, 40, found.low / 100)[0] == pytest.approx(0.025)
    gain = score_forgetting(Flips(20, 0, 20, 9), 0.95)
    assert gain.high == pytest.approx(100 * (1 - 1 / (1 - found.low / 100)))


@pytest.mark.parametrize("level", [0.9, 0.99])
def test_flips_one_way_have_limits_no_narrower_than_the_mid_p_of_their_share(level):
    """19 of 20 gained: at 99 % the score alone stops at 99.8, the binomial's mid-p at 99.95."""
    found = score_difference(Flips(0, 0, 19, 1), level)
    assert mid_p(19, 20, found.high / 100)[1] == pytest.approx((1 - level) / 2)
    assert mid_p(19, 20, found.low / 100)[0] < (1 - level) / 2
    lost = score_difference(Flips(0, 19, 0, 1), level)
    assert lost == pytest.approx((-found.value, -found.high, -found.low))


def test_few_lost_and_none_gained_have_the_mid_p_limit_of_their_share():
    """10 of 100: 5.19; the score alone stops at 5.52."""
    found = score_difference(Flips(90, 10, 0, 0), 0.95)
    assert found.high == pytest.approx(-5.1923, abs=5e-5)
    assert mid_p(10, 100, -found.high / 100)[0] == pytest.approx(0.025)
    gained = score_difference(Flips(90, 0, 10, 0), 0.95)
    assert gained == pytest.approx((-found.value, -found.high, -found.low))


def test_documents_never_right_tell_nothing_of_a_ratio():
    few, many = (score_forgetting(Flips(27, 20, 7, n), 0.95) for n in (0, 10_000))
    assert few == pytest.approx(many, abs=1e-9)


# ---- kept ----


@pytest.mark.parametrize(("n", "margin"), [(149, 2.0), (59, 5.0)])
def test_how_many_documents_without_a_flip_show_kept(n, margin):
    """0.98^149 and 0.95^59 are the first powers below 0.05."""
    for size, can in ((n, True), (n - 1, False)):
        p = score_equivalence(Flips(size // 2, 0, 0, size - size // 2), margin)
        assert p == pytest.approx((1 - margin / 100) ** size, rel=1e-12)
        assert (p < 0.05) == can == can_show_kept(size, margin)
    assert can_show_kept(n - 1, margin, alpha=0.1) and not can_show_kept(n, margin, alpha=0.01)


def test_no_other_table_shows_kept_where_no_flip_does_not():
    for n, margin in ((148, 2.0), (58, 5.0)):
        assert not can_show_kept(n, margin)
        for lost, gained in itertools.product(range(6), repeat=2):
            assert score_equivalence(Flips(n - lost - gained, lost, gained, 0), margin) >= 0.05


@pytest.mark.parametrize("bad", [dict(n=0), dict(margin=0.0), dict(alpha=1.0)])
def test_can_show_kept_checks_its_arguments(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        can_show_kept(**{"n": 100, "margin": 2.0} | bad)


def test_kept_is_the_90_per_cent_interval_within_the_margin():
    """TOST at 5 % and the interval at 90 % are one statement where nothing is stretched."""
    for lost, gained in itertools.product(range(1, 20), repeat=2):
        flips = Flips(100, lost, gained, 180)
        _, low, high = score_difference(flips, 0.90)
        kept = score_equivalence(flips, 4.0) < 0.05
        assert kept == (-4 < low and high < 4), flips


def test_no_difference_is_outside_a_margin_of_all_points():
    flips = Flips(10, 9, 0, 1)
    assert score_equivalence(flips, 100.0) == score_equivalence(flips, 100.5) == 0
    assert score_equivalence(flips, 99.0) > 0

"""What few data can show: sizes that McNemar's test detects, by brute force and at their edges."""

import functools
import itertools
import math

import numpy as np
import pytest
from scipy import stats

from slimlib import metrics
from slimlib.metrics.power import (
    can_show_kept,
    detectable_by_mcnemar,
    mcnemar_power,
    noncentrality,
)
from slimlib.metrics.two_by_two import Flips, score_equivalence

# ---- the detectable size ----


@pytest.mark.parametrize(
    ("n", "lost", "gained", "points"),
    [(20, 0, 0, 36.7), (50, 0, 0, 15.4), (100, 0, 0, 7.8), (200, 3, 1, 5.6), (100, 14, 11, 19.1)],
)
def test_detectable_points(n, lost, gained, points):
    flips = Flips(n - lost - gained, lost, gained, 0)
    assert detectable_by_mcnemar(flips, 0.8, 0.05) == points
    chance = (lost + gained) / (2 * n)
    assert mcnemar_power(n, chance, points / 100, 0.05) >= 0.8
    assert mcnemar_power(n, chance, (points - 0.1) / 100, 0.05) < 0.8


@functools.cache
def rejects(lost: int, gained: int) -> bool:
    return stats.binomtest(lost, lost + gained).pvalue < 0.05 if lost + gained else False


@pytest.mark.parametrize(
    ("n", "chance", "loss"), [(20, 0.0, 0.367), (30, 0.1, 0.3), (40, 0.02, 0.0), (25, 0.3, 0.4)]
)
def test_power_is_the_sum_over_all_tables(n, chance, loss):
    total = 0.0
    for lost, gained in itertools.product(range(n + 1), repeat=2):
        if lost + gained <= n and rejects(lost, gained):
            shares = [chance + loss, chance, max(1 - 2 * chance - loss, 0.0)]
            total += stats.multinomial.pmf([lost, gained, n - lost - gained], n, shares)
    assert mcnemar_power(n, chance, loss, 0.05) == pytest.approx(total, abs=1e-7)


@pytest.mark.parametrize("table", [(5, 0, 0, 0), (4, 48, 48, 0), (1, 30, 60, 9)])
def test_where_too_few_can_still_flip_nothing_is_detectable(table):
    assert detectable_by_mcnemar(Flips(*table), 0.8, 0.05) is None


def test_seven_documents_detect_only_nearly_all_of_them():
    """Six losses and no gain are the fewest that are significant: p = 2 / 2^6."""
    points = detectable_by_mcnemar(Flips(7, 0, 0, 0), 0.8, 0.05)
    assert stats.binom.sf(5, 7, points / 100) >= 0.8 > stats.binom.sf(5, 7, points / 100 - 0.001)


# ---- at the edges ----

HALF = Flips(10, 10, 10, 10)  # half of 40 flip by chance: at most 50 points more can


def test_no_more_than_all_documents_can_flip():
    full = mcnemar_power(40, 0.25, 0.5, 0.05)
    assert detectable_by_mcnemar(HALF, full, 0.05) == 50.0
    assert detectable_by_mcnemar(HALF, full + 1e-9, 0.05) is None
    assert mcnemar_power(40, 0.25, 0.5 + 1e-6, 0.05) == pytest.approx(full, abs=1e-4)


def test_the_share_that_can_still_flip_is_not_rounded_up():
    """1,214 of 1,321 flip by chance: at most 80.9992 steps of 0.1 points more."""
    n, k, steps = 1321, 1214, 80
    assert steps + 0.999 < 1000 * (1 - k / n) < steps + 1
    below, above = (mcnemar_power(n, k / n / 2, s / 1000, 0.05) for s in (steps, steps + 1))
    flips = Flips(n - k, k // 2, k // 2, 0)
    assert detectable_by_mcnemar(flips, below, 0.05) == steps / 10
    assert detectable_by_mcnemar(flips, (below + above) / 2, 0.05) is None


def test_the_power_asked_for_is_enough():
    power = mcnemar_power(40, 0.25, 0.3, 0.05)
    assert detectable_by_mcnemar(HALF, power, 0.05) == 30.0
    assert detectable_by_mcnemar(HALF, power + 1e-9, 0.05) == 30.1


def test_the_smallest_step_may_be_the_answer():
    """At a level of 5 % more than 4 % are found anyway."""
    assert detectable_by_mcnemar(Flips(0, 500, 499, 1), 0.04, 0.05) == 0.1
    assert detectable_by_mcnemar(Flips(0, 500, 500, 0), 0.04, 0.05) is None
    assert detectable_by_mcnemar(Flips(500, 250, 250, 0), 0.04, 0.05) == 0.1


def test_without_a_flip_nothing_is_found():
    assert mcnemar_power(5, 0.0, 0.0, 0.05) == 0
    assert mcnemar_power(6, 0.0, 1.0, 0.05) == 1  # 6 of 6 lost: p = 2 / 2^6 = 0.03
    assert mcnemar_power(5, 0.0, 1.0, 0.05) == 0
    assert mcnemar_power(6, 0.0, 1.0, 2 / 2**6) == 0  # p is not below it


def test_what_can_show_kept_at_the_edges():
    assert can_show_kept(2, 99.0) and not can_show_kept(1, 99.0)
    level = score_equivalence(Flips(100, 0, 0, 0), 5.0)
    assert not can_show_kept(100, 5.0, level) and can_show_kept(100, 5.0, level * 1.001)


def test_a_detectable_difference_ends_at_100_points():
    change = np.array([1.0, 0.0, 0.3, -0.4, 0.2, 0.9])
    points = metrics.minimum_detectable_difference(change / 10, 0 * change)
    for wanted in (99.99, 100.01, 100.9):
        scores = change / 10 * wanted / points, 0 * change
        for pair in (scores, scores[::-1]):  # 0 is right or wrong, the other side is not
            found = metrics.minimum_detectable_difference(*pair)
            assert found == (pytest.approx(wanted) if wanted < 100 else None)


@pytest.mark.parametrize("power", [0.051, 0.3, 0.8, 0.999])
def test_a_shift_of_t_has_its_power(power):
    """By the t distribution's own definition, (Z + shift) / s, simulated in quantiles."""
    shift, limit = noncentrality(3, power, 0.05), stats.t.isf(0.025, 3)
    spread = np.sqrt(stats.chi2.ppf((np.arange(200_000) + 0.5) / 200_000, 3) / 3)
    found = stats.norm.sf(limit * spread - shift) + stats.norm.cdf(-limit * spread - shift)
    assert found.mean() == pytest.approx(power, abs=1e-5)
    assert math.isfinite(shift) and shift > 0

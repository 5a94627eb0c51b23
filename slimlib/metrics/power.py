"""What few data can show: whether a change is small, and how large one would have to be.

Both for per-document scores of two models on the same documents; from aggregates alone see
`slimlib.metrics.unpaired`.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special, stats

from slimlib.metrics.scores import count_flips, is_binary, paired_scores, unseen
from slimlib.metrics.two_by_two import Flips, score_equivalence
from slimlib.metrics.unpaired import _check_share, check_margin, check_power

GRID = 10  # steps to a point: detectable differences are rounded up to 0.1 points


# ---- is it small? ----


def equivalence_test(base: ArrayLike, tuned: ArrayLike, margin: float) -> float:
    """p of two one-sided tests (TOST): small if the difference lies within +-margin.

    For scores of 0 and 1 each side is Tango's score test of "the difference is the margin"; where
    answers changed one way only p is no less than the binomial probability of so few changes at the
    margin. For other scores they are t-tests; there, where every document changed by the same
    amount, p is the probability that none of n documents stood out although the share that the
    margin still leaves did: (1 - (margin - |difference|) / 100)^n. With one document p is 1.

    Source: Schuirmann (1987), J. Pharmacokinet. Biopharm. 15, 657-680; Tango (1998), Statistics in
    Medicine 17, 891-908.

    Args:
        margin: points, above 0.

    Example: 100 equal answers, margin 5 -> 0.011; 1 of 100 lost, 1 gained, margin 5 -> 0.019.

    Raises:
        ValueError: scores empty, of unequal length, or not finite; margin not above 0.
    """
    base, tuned = paired_scores(base, tuned)
    check_margin(margin)
    n, change = len(base), tuned - base
    if n == 1:
        return 1.0
    if is_binary(base) and is_binary(tuned):
        return score_equivalence(count_flips(base, tuned), margin)
    if np.ptp(change) == 0:
        room = margin - 100 * abs(float(change.mean()))
        return min(max(1 - room / 100, 0.0), 1.0) ** n
    from statsmodels.stats.weightstats import ttost_paired

    return float(ttost_paired(tuned, base, -margin / 100, margin / 100)[0])


def can_show_kept(n: int, margin: float, alpha: float = 0.05) -> bool:
    """Tell whether n documents, right or wrong, can have p < alpha in `equivalence_test` at all.

    They cannot if not even answers without a single change would have it.

    Example: margin 2 -> from 149 documents on; margin 5 -> from 59 on.

    Raises:
        ValueError: n below 1; margin not above 0; alpha outside 0 to 1.
    """
    check_margin(margin)
    _check_share("alpha", alpha)
    if n < 1:
        raise ValueError(f"n={n}: must be 1 or more")
    return n > 1 and score_equivalence(Flips(n, 0, 0, 0), margin) < alpha


# ---- how large must it be? ----


def minimum_detectable_difference(
    base: ArrayLike, tuned: ArrayLike, power: float = 0.8, alpha: float = 0.05
) -> float | None:
    """Points that the test of these scores would find with this power, as the answers spread.

    A true difference of this size comes out significant in `power` of all repetitions with n
    documents: for scores of 0 and 1 in the exact McNemar test, if half of the flips seen are chance
    each way and the difference comes on top (rounded up to 0.1); else in the paired t-test, with
    changes that spread as here. None: no difference would be found so often. How far the accuracy
    can fall or rise at all is not asked here.

    Example: 14 of 100 lost, 11 gained -> 19.1 points; 20 answers, none changed -> 36.7.

    Raises:
        ValueError: scores empty, of unequal length, or not finite; power or alpha outside 0 to 1.
    """
    base, tuned = paired_scores(base, tuned)
    check_power(power, alpha)
    if is_binary(base) and is_binary(tuned):
        return detectable_by_mcnemar(count_flips(base, tuned), power, alpha)
    n, change = len(base), tuned - base
    if n == 1:
        return None
    spread = float(np.std(change, ddof=1))
    if np.ptp(change) == 0:
        spread = math.sqrt(unseen(n, 0.95) / 100)
    points = 100 * spread / math.sqrt(n) * noncentrality(n - 1, power, alpha)
    return points if points <= 100 else None


def detectable_by_mcnemar(flips: Flips, power: float, alpha: float) -> float | None:
    """Points that the exact McNemar test finds with this power; see above."""
    n, chance = flips.n, (flips.lost + flips.gained) / (2 * flips.n)
    steps = math.floor(100 * GRID * (1 - 2 * chance) + 1e-9)  # with more, over n documents flip
    if steps < 1 or mcnemar_power(n, chance, steps / (100 * GRID), alpha) < power:
        return None
    low, high = 0, steps
    while high - low > 1:
        middle = (low + high) // 2
        found = mcnemar_power(n, chance, middle / (100 * GRID), alpha) >= power
        low, high = (low, middle) if found else (middle, high)
    return high / GRID


def mcnemar_power(n: int, chance: float, difference: float, alpha: float) -> float:
    """Probability that the exact two-sided McNemar test of n documents has p < alpha.

    Args:
        chance: share of documents that flip by chance, each way.
        difference: share that flips one way on top.
    """
    flipping = min(2 * chance + difference, 1.0)
    if flipping == 0:
        return 0.0
    flipped = np.arange(1, n + 1)
    flipped = flipped[abs(flipped - n * flipping) <= 4 * math.sqrt(n)]  # 8 SDs at least
    fewest = _significant_up_to(flipped, alpha)
    flipped, fewest = flipped[fewest >= 0], fewest[fewest >= 0]
    one_way = (chance + difference) / flipping
    sides = special.bdtr(fewest, flipped, one_way) + special.bdtr(fewest, flipped, 1 - one_way)
    return float(stats.binom.pmf(flipped, n, flipping) @ sides)


def _significant_up_to(flipped: NDArray[np.int64], alpha: float) -> NDArray[np.int64]:
    """The most flips of the rarer kind with which McNemar's p is below alpha; -1: none."""
    return stats.binom.ppf(alpha / 2, flipped, 0.5).astype(int) - 1


def noncentrality(df: int, power: float, alpha: float) -> float:
    """Standard errors that a two-sided t-test finds with this power.

    Solved here: for small n or alpha statsmodels' TTestPower().solve_power returns wrong numbers
    without a word (n = 4, alpha = 0.001: an effect with a power of 0.30 in place of 0.80).
    """
    limit = stats.t.isf(alpha / 2, df)

    def missing(shift: float) -> float:
        wrong_side = np.nan_to_num(stats.nct.cdf(-limit, df, shift))  # NaN where it is next to 0
        return float(stats.nct.sf(limit, df, shift) + wrong_side) - power

    high = 1.0
    while missing(high) < 0:
        high *= 2
    return float(optimize.brentq(missing, 0.0, high))

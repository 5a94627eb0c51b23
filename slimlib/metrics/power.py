"""What few data can show: whether a change is small, and how large one would have to be.

Both for per-document scores of two models on the same documents; from aggregates alone see
`slimlib.metrics.unpaired`.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, stats

from slimlib.metrics.scores import cells, is_binary, paired_scores, unseen
from slimlib.metrics.unpaired import check_margin, check_power


def equivalence_test(base: ArrayLike, tuned: ArrayLike, margin: float) -> float:
    """p of two one-sided tests (TOST): small if the difference lies within +-margin.

    For scores of 0 and 1 each side is Tango's score test of "the difference is the margin", whose
    level stays near 5 % also where answers changed one way only, or hardly at all (from n = 20 up
    at most 7.2 %; for 133 documents and a margin of 2 it is 0.98^133 = 6.8 %); that of t-tests does
    not (up to 12 %). For other scores they are t-tests; there, where every document changed by
    the same amount, p is the probability that none of n documents stood out although the share that
    the margin still leaves did: (1 - (margin - |difference|) / 100)^n. With one document p is 1.

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
        _, lost, gained, _ = cells(base, tuned)
        sides = (_score_test(*pair, n, margin / 100) for pair in ((lost, gained), (gained, lost)))
        return max(sides)
    if np.ptp(change) == 0:
        room = margin - 100 * abs(float(change[0]))
        return max(1 - room / 100, 0.0) ** n if room > 0 else 1.0
    from statsmodels.stats.weightstats import ttost_paired

    return float(ttost_paired(tuned, base, -margin / 100, margin / 100)[0])


def _score_test(lost: int, gained: int, n: int, margin: float) -> float:
    """One-sided p of "the share lost is the share gained + margin" against less (Tango's score).

    The share gained is estimated under that hypothesis: the root of a quadratic.
    """
    if margin >= 1:
        return 0.0
    half = (2 * n - lost + gained) * margin - lost - gained
    gained_share = (math.sqrt(half**2 + 8 * n * gained * margin * (1 - margin)) - half) / (4 * n)
    spread = math.sqrt(n * (2 * gained_share + margin * (1 - margin)))
    return float(stats.norm.cdf((lost - gained - n * margin) / spread))


def minimum_detectable_difference(
    base: ArrayLike, tuned: ArrayLike, power: float = 0.8, alpha: float = 0.05
) -> float:
    """Points that the two-sided paired t-test would find with this power, as the answers spread.

    A true difference of this size, with changes that spread as here, comes out significant in
    `power` of all repetitions with n documents. For scores of 0 and 1, and where every document
    changed by the same amount, the spread is no less than if Wilson's upper limit for 0 of n
    documents had changed: few changes seen are not few changes to come. At most 100; one document:
    100.

    Example: 20 of 100 lost, 7 gained -> 14.30 points.

    Raises:
        ValueError: scores empty, of unequal length, or not finite; power or alpha outside 0 to 1.
    """
    base, tuned = paired_scores(base, tuned)
    check_power(power, alpha)
    n, change = len(base), tuned - base
    if n == 1:
        return 100.0
    spread = float(np.std(change, ddof=1))
    if np.ptp(change) == 0 or (is_binary(base) and is_binary(tuned)):
        spread = max(spread, math.sqrt(unseen(n, 0.95) / 100))
    return min(100 * spread / math.sqrt(n) * _noncentrality(n - 1, power, alpha), 100.0)


def _noncentrality(df: int, power: float, alpha: float) -> float:
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
    return float(optimize.brentq(missing, 0.0, high, xtol=1e-12))

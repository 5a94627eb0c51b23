"""Tests and intervals on the scores of two models on the same documents.

Per-document scores are arrays of shape (documents,), 0 or 1; numbers in between (means over seeds)
are allowed except in McNemar's test and Newcombe's interval. Arguments always come as base, then
tuned; differences are tuned minus base in points, FR is in per cent. A NaN score is an error.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from slimlib.metrics.formulas import Estimate, forgetting_rate
from slimlib.metrics.scores import (
    binary_scores,
    cells,
    is_binary,
    paired_scores,
    share_scores,
    unseen,
)
from slimlib.metrics.unpaired import _check_share, _fieller, wilson_interval


class PairedTTest(NamedTuple):
    """Student's t on tuned minus base (negative: tuned is worse), and its two-sided p-value."""

    statistic: float
    p_value: float


class McNemarTest(NamedTuple):
    """Documents lost (right, then wrong) and gained (wrong, then right); two-sided exact p."""

    lost: int
    gained: int
    p_value: float


# ---- is there a difference? ----


def paired_t_test(base: ArrayLike, tuned: ArrayLike) -> PairedTTest:
    """Paired t-test on per-document scores, the paper's test.

    Where every document changed by the same amount the t is 0 with p = 1 (nothing changed) or
    infinite with p = 0; with one document both are NaN.

    Example: base 1 1 1 0, tuned 0 0 1 0 -> t = -1.732, p = 0.182.

    Raises:
        ValueError: scores empty, of unequal length, or not finite.
    """
    base, tuned = paired_scores(base, tuned)
    change = tuned - base
    if len(change) == 1:
        return PairedTTest(math.nan, math.nan)
    if np.ptp(change) == 0:
        still = change[0] == 0
        return PairedTTest(0.0 if still else math.copysign(math.inf, change[0]), float(still))
    result = stats.ttest_rel(tuned, base)
    return PairedTTest(float(result.statistic), float(result.pvalue))


def mcnemar_test(base: ArrayLike, tuned: ArrayLike) -> McNemarTest:
    """Exact McNemar test: are lost documents as many as gained ones, up to chance?

                      tuned right   tuned wrong
        base right        kept          lost
        base wrong       gained        neither

    p is the two-sided binomial probability of the split lost : gained at one half; with no document
    changed it is 1.

    Example: 13 of 100 fewer right as 25 lost and 12 gained -> p = 0.047; as 26 and 13 -> 0.053.

    Raises:
        ValueError: scores empty, of unequal length, or other than 0 and 1.
    """
    _, lost, gained, _ = cells(*binary_scores(base, tuned))
    p_value = stats.binomtest(lost, lost + gained).pvalue if lost + gained else 1.0
    return McNemarTest(lost, gained, float(p_value))


# ---- how large is it? ----


def paired_difference(base: ArrayLike, tuned: ArrayLike, confidence: float = 0.95) -> Estimate:
    """Tuned minus base in points: `newcombe_interval` for scores of 0 and 1, else `t_interval`.

    Example: 20 of 100 lost, 7 gained, 27 kept -> -13 with limits -22.67 and -2.88.

    Raises:
        ValueError: scores empty, of unequal length, or not finite; confidence outside 0 to 1.
    """
    base, tuned = paired_scores(base, tuned)
    interval = newcombe_interval if is_binary(base) and is_binary(tuned) else t_interval
    return interval(base, tuned, confidence)


def newcombe_interval(base: ArrayLike, tuned: ArrayLike, confidence: float = 0.95) -> Estimate:
    """Tuned minus base in points, with Newcombe's interval for paired proportions.

    Wilson's limits of both accuracies, joined as sides of a triangle whose angle is the correlation
    phi of the answers. A positive phi is corrected for continuity; an accuracy of 0 or 100 has
    phi = 0. It never leaves -100 to 100 and has a width even where no answer changed, though a
    narrow one: where about 2 answers are lost and none gained it covers the truth in 86 to 89 % of
    repetitions. It need not agree with a test near p = 0.05: it is another method.

    Source: Newcombe (1998), Statistics in Medicine 17, 2635-2650, method 10.

    Example: 14 kept, 5 lost, 0 gained, 22 never right -> -12.20 with limits -22.65 and -1.15.

    Raises:
        ValueError: scores empty, of unequal length, or other than 0 and 1; confidence outside 0
            to 1.
    """
    kept, lost, gained, neither = cells(*binary_scores(base, tuned))
    n = kept + lost + gained + neither
    first, second = (wilson_interval(kept + one, n, confidence) for one in (lost, gained))
    phi = _correlation(kept, lost, gained, neither)
    value = 100 * ((gained - lost) / n)
    down = _third_side(second.value - second.low, first.high - first.value, phi)
    up = _third_side(second.high - second.value, first.value - first.low, phi)
    return Estimate(value, value - down, value + up)


def t_interval(base: ArrayLike, tuned: ArrayLike, confidence: float = 0.95) -> Estimate:
    """Tuned minus base in points, with the interval of the paired t-test, for any scores.

    It excludes 0 exactly where `paired_t_test` has p < 1 - confidence. Where every document changed
    by the same amount the spread is 0 and the t interval would claim certainty; Wilson's upper
    limit for "0 of n documents changed otherwise" then stands on both sides.

    Example: base 1 1 1 0, tuned 0 0 1 0 -> -50 with limits -141.87 and 41.87 (n is tiny).

    Raises:
        ValueError: scores empty, of unequal length, or not finite; confidence outside 0 to 1.
    """
    base, tuned = paired_scores(base, tuned)
    _check_share("confidence", confidence)
    change = tuned - base
    value = 100 * float(change.mean())
    if np.ptp(change) == 0:
        return _around(value, unseen(len(change), confidence), least=-100.0)
    interval = stats.ttest_rel(tuned, base).confidence_interval(confidence)
    return Estimate(value, 100 * float(interval.low), 100 * float(interval.high))


def forgetting_interval(base: ArrayLike, tuned: ArrayLike, confidence: float = 0.95) -> Estimate:
    """FR with Fieller's interval for a ratio of two paired means.

    The ratios r for which tuned - r base has a mean within t standard errors of 0. So it excludes 0
    exactly where `paired_t_test` has p < 1 - confidence. The upper limit is cut at 100. If base
    itself is not clearly above 0 nothing is known: -inf to 100. Base = 0, or a single document:
    NaN. Where tuned is base times a constant (nothing changed, or nothing is left) the spread is 0;
    Wilson's upper limit for 0 of n, over base, then stands on both sides.

    Source: Fieller (1954), J. R. Stat. Soc. B 16, 175-185.

    Example: base 8 of 10 right, tuned the first 2 of these -> 75 with limits 35.59 and 100.

    Raises:
        ValueError: scores empty, of unequal length, outside 0 to 1, or not finite; confidence
            outside 0 to 1.
    """
    base, tuned = share_scores(base, tuned)
    _check_share("confidence", confidence)
    n, x, y = len(base), float(base.mean()), float(tuned.mean())
    value = forgetting_rate(100 * x, 100 * y)
    if n == 1 or math.isnan(value):
        return Estimate(value, math.nan, math.nan)
    if np.allclose(tuned, base * (y / x)):
        return _around(value, unseen(n, confidence) / x, least=-math.inf)
    t_squared = stats.t.ppf((1 + confidence) / 2, n - 1) ** 2
    (xx, xy), (_, yy) = t_squared * np.cov(base, tuned) / n
    return Estimate(value, *_fieller(x, y, xx, xy, yy))


# ---- shared ----


def _correlation(kept: int, lost: int, gained: int, neither: int) -> float:
    """Newcombe's phi: the correlation of the answers, a positive one drawn half a document to 0."""
    product = (kept + lost) * (gained + neither) * (kept + gained) * (lost + neither)
    if product == 0:
        return 0.0
    excess = kept * neither - lost * gained
    if excess > 0:
        excess = max(excess - (kept + lost + gained + neither) / 2, 0.0)
    return excess / math.sqrt(product)


def _third_side(a: float, b: float, phi: float) -> float:
    """The side of a triangle opposite the angle with cosine phi; a and b may change places."""
    return math.sqrt(max((a * a + b * b) - 2 * phi * (a * b), 0.0))


def _around(value: float, margin: float, least: float) -> Estimate:
    """Limits on both sides of a value, at most 100."""
    return Estimate(value, max(value - margin, least), min(value + margin, 100.0))

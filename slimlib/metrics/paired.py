"""Tests and intervals on the scores of two models on the same documents.

Per-document scores are arrays of shape (documents,), 0 or 1: then it is the one procedure of
`two_by_two`. Numbers in between are allowed except in McNemar's test: then it is Student's t.
Arguments always come as base, then tuned; differences are tuned minus base in points, FR is in per
cent. A NaN score is an error.
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
    count_flips,
    is_binary,
    paired_scores,
    share_scores,
    unseen,
)
from slimlib.metrics.two_by_two import mcnemar_p, score_difference, score_forgetting
from slimlib.metrics.unpaired import _check_share, _fieller


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
        mean = float(change.mean())
        return PairedTTest(math.copysign(math.inf, mean) if mean else 0.0, float(mean == 0))
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
    flips = count_flips(*binary_scores(base, tuned))
    return McNemarTest(flips.lost, flips.gained, mcnemar_p(flips))


# ---- how large is it? ----


def paired_difference(base: ArrayLike, tuned: ArrayLike, confidence: float = 0.95) -> Estimate:
    """Tuned minus base in points: a score interval for answers of 0 and 1, else `t_interval`.

    It excludes 0 exactly where `mcnemar_test` (else `paired_t_test`) has p < 1 - confidence: the
    score interval, Tango's, is stretched to 0 where the exact test does not reject.

    Source: Tango (1998), Statistics in Medicine 17, 891-908.

    Example: 20 of 100 lost, 7 gained, 27 kept -> -13 with limits -23.27 and -2.99.

    Raises:
        ValueError: scores empty, of unequal length, or not finite; confidence outside 0 to 1.
    """
    base, tuned = paired_scores(base, tuned)
    _check_share("confidence", confidence)
    if is_binary(base) and is_binary(tuned):
        return score_difference(count_flips(base, tuned), confidence)
    return t_interval(base, tuned, confidence)


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
    """FR with a score interval for answers of 0 and 1, else Fieller's for a ratio of two means.

    It excludes 0 exactly where `paired_difference` does. Base = 0: NaN. The score interval is that
    of a ratio of paired shares, stretched to 0 where the exact test does not reject; its upper
    limit is 100 where nothing is right after.

    Fieller's are the ratios r for which tuned - r base has a mean within t standard errors of 0,
    cut at 100; open below if base itself is not clearly above 0; a single document: NaN. Where
    tuned is base times a constant the spread is 0; Wilson's upper limit for 0 of n, over base, then
    stands on both sides.

    Source: Nam and Blackwelder (2002), Statistics in Medicine 21, 689-699; Fieller (1954), J. R.
    Stat. Soc. B 16, 175-185.

    Example: base 8 of 10 right, tuned the first 2 of these -> 75 with limits 26.98 and 96.81.

    Raises:
        ValueError: scores empty, of unequal length, outside 0 to 1, or not finite; confidence
            outside 0 to 1.
    """
    base, tuned = share_scores(base, tuned)
    _check_share("confidence", confidence)
    if is_binary(base) and is_binary(tuned):
        return score_forgetting(count_flips(base, tuned), confidence)
    n, x, y = len(base), float(base.mean()), float(tuned.mean())
    value = forgetting_rate(100 * x, 100 * y)
    if n == 1 or math.isnan(value):
        return Estimate(value, math.nan, math.nan)
    if np.allclose(tuned, base * (y / x)):
        return _around(value, unseen(n, confidence) / x, least=-math.inf)
    t_squared = stats.f.ppf(confidence, 1, n - 1)
    (xx, xy), (_, yy) = t_squared * np.cov(base, tuned) / n
    return Estimate(value, *_fieller(x, y, xx, xy, yy))


# ---- shared ----


def _around(value: float, margin: float, least: float) -> Estimate:
    """Limits on both sides of a value, at most 100."""
    return Estimate(value, max(value - margin, least), min(value + margin, 100.0))

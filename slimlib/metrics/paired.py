"""Tests and intervals on the scores of two models on the same documents.

Per-document scores are arrays of shape (documents,), 0 or 1; numbers in between (means over seeds)
are allowed except in McNemar's test and Newcombe's interval. Arguments always come as base, then
tuned; differences are tuned minus base in points, FR is in per cent. A NaN score is an error.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, stats

from slimlib.metrics.formulas import Estimate, forgetting_rate
from slimlib.metrics.unpaired import (
    _check_share,
    _fieller,
    check_margin,
    check_power,
    wilson_interval,
)

Scores = NDArray[np.float64]


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
    base, tuned = _paired(base, tuned)
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
    _, lost, gained, _ = _cells(*_binary(base, tuned))
    p_value = stats.binomtest(lost, lost + gained).pvalue if lost + gained else 1.0
    return McNemarTest(lost, gained, float(p_value))


# ---- how large is it? ----


def paired_difference(base: ArrayLike, tuned: ArrayLike, confidence: float = 0.95) -> Estimate:
    """Tuned minus base in points: `newcombe_interval` for scores of 0 and 1, else `t_interval`.

    Example: 20 of 100 lost, 7 gained, 27 kept -> -13 with limits -22.67 and -2.88.

    Raises:
        ValueError: scores empty, of unequal length, or not finite; confidence outside 0 to 1.
    """
    base, tuned = _paired(base, tuned)
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
    kept, lost, gained, neither = _cells(*_binary(base, tuned))
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
    base, tuned = _paired(base, tuned)
    _check_share("confidence", confidence)
    change = tuned - base
    value = 100 * float(change.mean())
    if np.ptp(change) == 0:
        return _around(value, _unseen(len(change), confidence), least=-100.0)
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
    base, tuned = _shares(base, tuned)
    _check_share("confidence", confidence)
    n, x, y = len(base), float(base.mean()), float(tuned.mean())
    value = forgetting_rate(100 * x, 100 * y)
    if n == 1 or math.isnan(value):
        return Estimate(value, math.nan, math.nan)
    if np.allclose(tuned, base * (y / x)):
        return _around(value, _unseen(n, confidence) / x, least=-math.inf)
    t_squared = stats.t.ppf((1 + confidence) / 2, n - 1) ** 2
    (xx, xy), (_, yy) = t_squared * np.cov(base, tuned) / n
    return Estimate(value, *_fieller(x, y, xx, xy, yy))


def paired_bootstrap(
    base: ArrayLike,
    tuned: ArrayLike,
    statistic: str = "difference",
    confidence: float = 0.95,
    n_resamples: int = 9999,
    seed: int = 0,
) -> Estimate:
    """The difference in points or FR in per cent, with the BCa bootstrap interval over documents.

    It has no formula in common with the other intervals, so it checks them. Where there is nothing
    to resample (no spread, one document) there is no bootstrap, nor for FR where a resample may
    have no right answer of base (under 19 of 100, 21 of 1,319): `t_interval` or
    `forgetting_interval` answers instead.

    Source: Efron (1987), J. Am. Stat. Assoc. 82, 171-185.

    Args:
        statistic: "difference" or "forgetting_rate".
        seed: the same seed gives the same limits.

    Example: 20 of 100 lost, 7 gained, 27 kept -> -13 with limits -23 and -4 (whole documents).

    Raises:
        ValueError: scores empty, of unequal length, or not finite (FR: or outside 0 to 1); another
            statistic; n_resamples below 1; confidence outside 0 to 1.
    """
    if statistic not in _BOOTSTRAPS:
        raise ValueError(f"statistic {statistic!r}: must be {' or '.join(map(repr, _BOOTSTRAPS))}")
    if n_resamples < 1:
        raise ValueError(f"n_resamples={n_resamples}: must be 1 or more")
    check, instead, measure = _BOOTSTRAPS[statistic]
    base, tuned = check(base, tuned)
    plain = instead(base, tuned, confidence)
    if not _can_resample(base, tuned, statistic):
        return plain
    return Estimate(plain.value, *_bca(base, tuned, measure, confidence, n_resamples, seed))


# ---- is it small, and could it have been seen? ----


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
    base, tuned = _paired(base, tuned)
    check_margin(margin)
    n, change = len(base), tuned - base
    if n == 1:
        return 1.0
    if is_binary(base) and is_binary(tuned):
        _, lost, gained, _ = _cells(base, tuned)
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
    base, tuned = _paired(base, tuned)
    check_power(power, alpha)
    n, change = len(base), tuned - base
    if n == 1:
        return 100.0
    spread = float(np.std(change, ddof=1))
    if np.ptp(change) == 0 or (is_binary(base) and is_binary(tuned)):
        spread = max(spread, math.sqrt(_unseen(n, 0.95) / 100))
    return min(100 * spread / math.sqrt(n) * _noncentrality(n - 1, power, alpha), 100.0)


# ---- shared ----


def _paired(*both: ArrayLike) -> tuple[Scores, Scores]:
    """Base and tuned scores as arrays of shape (documents,)."""
    try:
        base, tuned = (np.asarray(scores, dtype=np.float64) for scores in both)
    except TypeError as error:
        raise ValueError(f"scores must be numbers, one per document: {error}") from None
    if base.ndim != 1 or base.shape != tuned.shape or base.size == 0:
        raise ValueError(
            f"scores of shape {base.shape} and {tuned.shape}: need the same documents, 1 or more"
        )
    for scores in (base, tuned):
        if not np.all(np.isfinite(scores)):
            raise ValueError(f"score {scores[~np.isfinite(scores)][0]}: must be a finite number")
    return base, tuned


def _shares(*both: ArrayLike) -> tuple[Scores, Scores]:
    """The same, and from 0 to 1."""
    for scores in (pair := _paired(*both)):
        outside = scores[(scores < 0) | (scores > 1)]
        if outside.size:
            raise ValueError(f"score {outside[0]}: a forgetting rate needs scores from 0 to 1")
    return pair


def _binary(*both: ArrayLike) -> tuple[Scores, Scores]:
    """The same, and only 0 and 1."""
    for scores in (pair := _paired(*both)):
        other = scores[(scores != 0) & (scores != 1)]
        if other.size:
            raise ValueError(
                f"score {other[0]}: McNemar's test and Newcombe's interval need scores of 0 and 1"
            )
    return pair


def is_binary(scores: Scores) -> bool:
    """Whether every score is 0 or 1: right or wrong and nothing between."""
    return bool(np.all((scores == 0) | (scores == 1)))


def _cells(base: Scores, tuned: Scores) -> tuple[int, int, int, int]:
    """Documents kept, lost, gained and never right."""
    kept = int(np.sum((base == 1) & (tuned == 1)))
    lost, gained = int(np.sum(base > tuned)), int(np.sum(tuned > base))
    return kept, lost, gained, len(base) - kept - lost - gained


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


def _unseen(n: int, confidence: float) -> float:
    """Per cent of documents that may differ although none of n did (Wilson's upper limit)."""
    return wilson_interval(0, n, confidence).high


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


def _mean_change(base: Scores, tuned: Scores, axis: int) -> Scores:
    return 100 * (tuned - base).mean(axis=axis)


def _mean_forgetting(base: Scores, tuned: Scores, axis: int) -> Scores:
    return 100 * (1 - tuned.mean(axis=axis) / base.mean(axis=axis))


def _can_resample(base: Scores, tuned: Scores, statistic: str) -> bool:
    """Whether resamples differ, and (FR) whether a base of 0 among them is out of the question."""
    if statistic == "difference":
        return bool(np.ptp(tuned - base))
    empty = np.mean(base == 0) ** len(base)  # the share of resamples without a right answer
    return empty < 1e-9 and not np.allclose(tuned, base * (tuned.mean() / base.mean()))


def _bca(
    base: Scores, tuned: Scores, measure: Callable, confidence: float, n_resamples: int, seed: int
) -> tuple[float, float]:
    """Limits of a statistic over resampled documents."""
    result = stats.bootstrap(
        (base, tuned),
        measure,
        paired=True,
        vectorized=True,
        method="BCa",
        confidence_level=confidence,
        n_resamples=n_resamples,
        batch=max(1, 200_000 // len(base)),  # what fits the processor's cache
        rng=np.random.default_rng(seed),
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


_Bootstrap = tuple[Callable[..., tuple[Scores, Scores]], Callable[..., Estimate], Callable]
_BOOTSTRAPS: dict[str, _Bootstrap] = {
    "difference": (_paired, t_interval, _mean_change),
    "forgetting_rate": (_shares, forgetting_interval, _mean_forgetting),
}

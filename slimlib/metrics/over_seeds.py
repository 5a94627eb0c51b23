"""Means over seeds: intervals and tests that count the documents and the seeds as chance.

A recipe run with other seeds gives other scores, so a claim about it has two kinds of variance, of
unequal degrees of freedom: many documents, few seeds. Cochran and Cox weigh their critical values
by the variances; the level is then never above nominal for normal seeds, while Satterthwaite's
degrees of freedom go over it.

Source: Cochran and Cox (1957), Experimental Designs, 2nd ed., section 4.14.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special, stats

from slimlib.metrics.formulas import Estimate, forgetting_rate
from slimlib.metrics.power import noncentrality
from slimlib.metrics.scores import unseen
from slimlib.metrics.unpaired import _check_share, check_margin, check_power

LEAST_P = 1e-290  # smaller tails are given as this
NODES, POINTS = 32, 1024  # of the integral: for each variance that varies, and in all at most
MANY = 100  # degrees of freedom: with more a variance hardly varies


class Spread(NamedTuple):
    """One part of the variance of an estimate, with its degrees of freedom (above 0, or inf)."""

    variance: float
    df: float


def cochran_cox(value: float, parts: Sequence[Spread], confidence: float = 0.95) -> Estimate:
    """Give a value the limits value +- t* x standard error, by Cochran and Cox.

    t* = sum(V_i t_i) / sum(V_i), with t_i the two-sided quantile of Student's t with df_i.

    Args:
        value: per cent or points, as the square roots of the variances.

    Example: 10 with Spread(4, inf) and Spread(9, 2) -> 10 +- 12.91.

    Raises:
        ValueError: confidence outside 0 to 1; a variance below 0, df not above 0, or NaN.
    """
    _check_share("confidence", confidence)
    error, parts = _joined(parts)
    half_width = error * _quantile(parts, (1 - confidence) / 2)
    return Estimate(float(value), float(value - half_width), float(value + half_width))


def cochran_cox_p(value: float, parts: Sequence[Spread]) -> float:
    """Two-sided p of "the true value is 0": 1 - confidence of the interval that ends at 0.

    Without any variance it is 1 for a value of 0, else 0.

    Raises:
        ValueError: a variance below 0, df not above 0, or NaN.
    """
    error, parts = _joined(parts)
    if error == 0 or value == 0:
        return float(value == 0)
    return 2 * _tail(parts, abs(value) / error)


def cochran_cox_equivalence(value: float, parts: Sequence[Spread], margin: float) -> float:
    """p of two one-sided tests (TOST): small if the true value lies within +-margin.

    Raises:
        ValueError: margin not above 0; a variance below 0, df not above 0, or NaN.
    """
    check_margin(margin)
    error, parts = _joined(parts)
    room = margin - abs(value)
    if error == 0:
        return float(room <= 0)
    return _tail(parts, room / error)


def cochran_cox_detectable(
    parts: Sequence[Spread], power: float = 0.8, alpha: float = 0.05
) -> float:
    """The true value that `cochran_cox_p` finds with this power, if the variances are these.

    Three seeds with nothing else find 3.3 of their standard deviations, five find 1.7.

    Raises:
        ValueError: power or alpha outside 0 to 1; a variance below 0, df not above 0, or NaN.
    """
    check_power(power, alpha)
    error, parts = _joined(parts)
    if error == 0:
        return 0.0
    if len(parts) == 1 and math.isfinite(parts[0].df):
        return error * noncentrality(parts[0].df, power, alpha)
    limits, weights = _limits_of_repetitions(parts, alpha)

    def missing(shift: float) -> float:
        found = stats.norm.sf(limits - shift) + stats.norm.cdf(-limits - shift)
        return float(weights @ found) - power

    return error * float(optimize.brentq(missing, 0.0, float(limits.max()) + 10))


def forgetting_over_seeds(base: ArrayLike, tuned: ArrayLike, confidence: float = 0.95) -> Estimate:
    """FR of the means over seeds, with limits for other documents and other seeds.

    The ratios r for which tuned - r base lies within t*(r) standard errors of 0. Its variance is
    that over documents of the mean over seeds of tuned - r base, and that between seeds
    (`between_seeds`). At r = 1 it is `cochran_cox_p`. Cut at 100; open below if base is not clearly
    above 0. Base = 0, or a single document: NaN. Where nothing spreads Wilson's upper limit for 0
    of n, over base, stands on both sides.

    Args:
        base: scores of shape (seeds, documents) with a mean from 0 to 1, or the values of
            `clustered`.
        tuned: likewise, of the same documents; another number of seeds is allowed.

    Raises:
        ValueError: another shape, other documents; a score that is not finite; a mean or the
            confidence outside 0 to 1.
    """
    _check_share("confidence", confidence)
    base, tuned = _seed_scores(base, tuned)
    n, x, y = base.shape[1], float(base.mean()), float(tuned.mean())
    value = forgetting_rate(*(round(100 * mean, 10) for mean in (x, y)))
    if n == 1 or math.isnan(value):
        return Estimate(value, math.nan, math.nan)

    def outside(ratio: float) -> float:
        error, parts = _joined(spreads(base * ratio, tuned))
        return abs(y - ratio * x) - error * _quantile(parts, (1 - confidence) / 2)

    if outside(y / x) > -1e-12:
        reach = unseen(n, confidence) / x
        return Estimate(value, value - reach, min(value + reach, 100.0))
    least, most = _ends(outside, y / x)
    return Estimate(value, 100 * (1 - most), 100 * (1 - least))


def spreads(
    base: NDArray[np.float64], tuned: NDArray[np.float64], per: float = 1.0
) -> list[Spread]:
    """Variances of the mean of tuned - base: over documents, and between seeds.

    Args:
        base: scores of shape (seeds, documents); likewise tuned.
        per: 100 for variances in points squared, of scores in shares.
    """
    change = per * (tuned.mean(axis=0) - base.mean(axis=0))
    return [
        Spread(float(change.var(ddof=1)) / len(change), len(change) - 1),
        *between_seeds(per * base.mean(axis=1), per * tuned.mean(axis=1)),
    ]


def between_seeds(base: NDArray[np.float64], tuned: NDArray[np.float64]) -> list[Spread]:
    """Variance between seeds of the mean of tuned - base; nothing where each side has one.

    Seeds are paired where both sides have equally many, in the order given: right whether or not
    those of one number have anything in common. Else each side adds its own.

    Args:
        base: means of shape (seeds,); likewise tuned.

    Example: base 4, tuned 1, 2, 3 -> 1 / 3 with 2 degrees of freedom.
    """
    numbers = {len(base), len(tuned)} - {1}
    several = [tuned - base] if len(numbers) == 1 else [s for s in (base, tuned) if len(s) > 1]
    return [Spread(float(s.var(ddof=1)) / len(s), len(s) - 1) for s in several]


def pool(parts: Iterable[Spread]) -> Spread:
    """One variance that all parts are taken to have: their mean, weighed by degrees of freedom.

    Example: Spread(2, 1) and Spread(3, 2) -> 8 / 3 with 3 degrees of freedom.
    """
    parts = [*parts]
    df = sum(part.df for part in parts)
    return Spread(sum(part.variance * part.df for part in parts) / df, df)


# ---- shared ----


def _joined(parts: Sequence[Spread]) -> tuple[float, list[Spread]]:
    """The standard error, and the parts that add to it."""
    for part in parts:
        if not (0 <= part.variance < math.inf and part.df > 0):
            raise ValueError(f"{part}: need a variance from 0 up, and df above 0")
    return math.sqrt(sum(part.variance for part in parts)), [p for p in parts if p.variance > 0]


def _quantile(parts: Sequence[Spread], tail: float) -> float:
    """Standard errors beyond which `tail` lies, one-sided: the quantiles weighed by variance."""
    total = sum(part.variance for part in parts)
    return sum(part.variance / total * -float(special.stdtrit(part.df, tail)) for part in parts)


def _tail(parts: Sequence[Spread], distance: float) -> float:
    """The one-sided tail beyond this many standard errors: `_quantile` inverted.

    It lies between the tails of Student's t of the single parts.
    """
    if distance < 0:
        return 1 - _tail(parts, -distance)

    def beyond(log_tail: float) -> float:
        return _quantile(parts, math.exp(log_tail)) - distance

    tails = [float(special.stdtr(part.df, -distance)) for part in parts]
    low, high = max(min(tails), LEAST_P), max(tails)
    if beyond(math.log(low)) <= 0:
        return low
    if beyond(math.log(high)) >= 0:
        return high
    return math.exp(optimize.brentq(beyond, math.log(low), math.log(high)))


def _limits_of_repetitions(
    parts: Sequence[Spread], alpha: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Half-widths over the true standard error, as the variances come out, and their weights."""
    varying = max(sum(part.df <= MANY for part in parts), 1)
    nodes, weights = np.polynomial.legendre.leggauss(min(NODES, round(POINTS ** (1 / varying))))
    total = sum(part.variance for part in parts)
    seen, joint = np.zeros(1), np.ones(1)
    widened = np.zeros(1)
    for variance, df in parts:
        drawn = stats.chi2.ppf((nodes + 1) / 2, df) / df if df <= MANY else np.ones(1)
        weight = weights / 2 if df <= MANY else np.ones(1)
        share = variance / total * drawn
        seen = np.add.outer(seen, share).ravel()
        widened = np.add.outer(widened, share * stats.t.isf(alpha / 2, df)).ravel()
        joint = np.multiply.outer(joint, weight).ravel()
    return widened / np.sqrt(seen), joint


def _seed_scores(*both: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    base, tuned = (np.asarray(scores, dtype=np.float64) for scores in both)
    shapes = f"scores of shape {base.shape} and {tuned.shape}"
    if base.ndim != 2 or tuned.ndim != 2 or base.shape[1] != tuned.shape[1]:
        raise ValueError(f"{shapes}: need (seeds, documents) of the same documents")
    if base.size == 0 or tuned.size == 0:
        raise ValueError(f"{shapes}: need 1 seed and 1 document or more")
    for scores in (base, tuned):
        if not np.all(np.isfinite(scores)):
            raise ValueError(f"score {scores[~np.isfinite(scores)][0]}: must be a finite number")
    return base, tuned


def _ends(outside: Callable[[float], float], ratio: float) -> tuple[float, float]:
    """The first ratios on both sides of the seen one that lie outside; 0 and inf: none does."""
    least = 0.0 if outside(0.0) <= 0 else float(optimize.brentq(outside, 0.0, ratio))
    step = 1.0
    while outside(ratio + step) <= 0:
        step *= 2
        if step > 1e9:
            return least, math.inf
    return least, float(optimize.brentq(outside, ratio, ratio + step))

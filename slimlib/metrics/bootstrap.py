"""The paired bootstrap: whole documents are drawn again, both models' answers together."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from slimlib.metrics.formulas import Estimate
from slimlib.metrics.paired import forgetting_interval, t_interval
from slimlib.metrics.scores import Scores, paired_scores, share_scores


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
    "difference": (paired_scores, t_interval, _mean_change),
    "forgetting_rate": (share_scores, forgetting_interval, _mean_forgetting),
}

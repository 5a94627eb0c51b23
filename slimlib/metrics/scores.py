"""Per-document scores, checked: of two models on the same documents, of shape (documents,)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from slimlib.metrics.two_by_two import Flips
from slimlib.metrics.unpaired import wilson_interval

Scores = NDArray[np.float64]


def paired_scores(*both: ArrayLike) -> tuple[Scores, Scores]:
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


def share_scores(*both: ArrayLike) -> tuple[Scores, Scores]:
    """The same, and from 0 to 1."""
    for scores in (pair := paired_scores(*both)):
        outside = scores[(scores < 0) | (scores > 1)]
        if outside.size:
            raise ValueError(f"score {outside[0]}: a forgetting rate needs scores from 0 to 1")
    return pair


def binary_scores(*both: ArrayLike) -> tuple[Scores, Scores]:
    """The same, and only 0 and 1."""
    for scores in (pair := paired_scores(*both)):
        other = scores[(scores != 0) & (scores != 1)]
        if other.size:
            raise ValueError(f"score {other[0]}: McNemar's test needs scores of 0 and 1")
    return pair


def is_binary(scores: Scores) -> bool:
    """Whether every score is 0 or 1: right or wrong and nothing between."""
    return bool(np.all((scores == 0) | (scores == 1)))


def count_flips(base: Scores, tuned: Scores) -> Flips:
    """Documents kept, lost, gained and never right, from answers of 0 and 1."""
    kept = int(np.sum((base == 1) & (tuned == 1)))
    lost, gained = int(np.sum(base > tuned)), int(np.sum(tuned > base))
    return Flips(kept, lost, gained, len(base) - kept - lost - gained)


def unseen(n: int, confidence: float) -> float:
    """Per cent of documents that may differ although none of n did (Wilson's upper limit)."""
    return wilson_interval(0, n, confidence).high

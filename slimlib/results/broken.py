"""Scores that are not numbers: what they look like in a file, and how they are told.

A model whose logits overflow answers NaN. lm-eval takes the largest of four NaN for its choice and
reports an accuracy, so the log-likelihoods are looked at and not the scores alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

NAMES = {"nan", "inf", "infinity", "null", "none"}  # as tools write them into a text


def is_no_number(value: Any) -> bool:
    """NaN, infinite or null, as a number or as a text: what stands where a number should."""
    if value is None:
        return True
    if isinstance(value, str):
        return value.strip().lower().lstrip("+-") in NAMES
    return isinstance(value, float) and not math.isfinite(value)


def tell_scores(metric: str, doc_ids: Sequence[int | str], n: int) -> str:
    """Say that some documents' scores are not numbers."""
    are = "is not a number" if len(doc_ids) == 1 else "are not numbers"
    return f"{len(doc_ids):,} of {n:,} scores of {metric} {are} (first: doc_id {doc_ids[0]})"


def tell_log_likelihoods(doc_ids: Sequence[int | str], n: int) -> str:
    """Say that some documents' log-likelihoods, which the scores are made of, are not numbers."""
    what = f"{len(doc_ids):,} of {n:,} documents have log-likelihoods that are not numbers"
    return f"{what} (first: doc_id {doc_ids[0]})"


def tell_aggregate(name: str, value: Any) -> str:
    """Say that a score over all documents is not a number."""
    return f"the results have {name} = {value}, which is not a number"

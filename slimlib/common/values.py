"""Numbers that other programs wrote, and values for messages."""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def is_number(value: Any) -> bool:
    """A number or truth value, numpy's included."""
    return isinstance(value, int | float | np.number | np.bool_)


def is_finite(value: Any) -> bool:
    """A number that a float can hold: not NaN, infinite, or of 400 digits."""
    try:
        return is_number(value) and math.isfinite(value)
    except OverflowError:
        return False


def short(value: Any) -> str:
    """A value for a message."""
    text = repr(value) if not isinstance(value, int) or abs(value) < 10**30 else "a huge number"
    return text if len(text) <= 60 else f"{text[:57]}..."

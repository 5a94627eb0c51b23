"""The paper's formulas as pure functions, and `Estimate`: a value with its confidence limits.

Source: Q. Mai, "Slimming Down LLMs Without Losing Their Minds", arXiv 2506.10885, section 3 (its
Table 2 gives the worked numbers). Accuracies, measures and intervals are in per cent (0 to 100), as
the paper prints them. Arguments always come as base, then tuned.
"""

from __future__ import annotations

import math
from typing import NamedTuple

Z95 = 1.96  # the paper's z; 1.959964 to six decimals


class Estimate(NamedTuple):
    """A value with its confidence limits, all in per cent or all in points."""

    value: float
    low: float
    high: float


def forgetting_rate(base: float, tuned: float) -> float:
    """FR = (1 - A_flex(tuned) / A_flex(base)) x 100: the share of base's ability that is gone.

    At most 100 (all forgotten); negative where tuned is better; the paper calls more than 50
    catastrophic. With base = 0 there was nothing to forget: NaN.

    Example: base 33.51, tuned 3.71 -> 88.93 (the paper prints 88.92).

    Raises:
        ValueError: an accuracy outside 0 to 100, or NaN.
    """
    _check_accuracies(base, tuned)
    return 100 * (1 - tuned / base) if base > 0 else math.nan


def delta_a(base: float, tuned: float) -> float:
    """dA = A_norm(tuned) - A_norm(base), "Ability Augmentation", in points; above 0 is a gain.

    Example: base 60.77, tuned 61.20 -> +0.43.

    Raises:
        ValueError: an accuracy outside 0 to 100, or NaN.
    """
    _check_accuracies(base, tuned)
    return tuned - base


def delta_k(base: float, tuned: float, n_base: int, n_tuned: int | None = None) -> Estimate:
    """dK = A(base) - A(tuned) +- sqrt(CI_base^2 + CI_tuned^2), "Knowledge Loss"; above 0 is a loss.

    CI is 1.96 standard errors, so the interval is the unpaired 95 % one that the paper defines.
    (The paper prints 13.00 +- 6.93, which leaves out the 1.96.) n_tuned defaults to n_base. With
    one document the interval is NaN.

    Example: base 47, tuned 34, n 100 -> 13.00 with limits -0.55 and 26.55 (+- 13.55).

    Raises:
        ValueError: an accuracy outside 0 to 100, or NaN; n below 1.
    """
    errors = (
        standard_error(base, n_base),
        standard_error(tuned, n_base if n_tuned is None else n_tuned),
    )
    half_width = Z95 * math.hypot(*errors)
    loss = base - tuned
    return Estimate(loss, loss - half_width, loss + half_width)


def standard_error(accuracy: float, n: int) -> float:
    """Standard error of an accuracy, sqrt(p (1 - p) / (n - 1)), as lm-eval and the paper have it.

    Args:
        accuracy: per cent.
        n: documents. With one document it is unknown: NaN.

    Example: 47 % of 100 -> 5.02; 33.51 % of 1,319 -> 1.30.

    Raises:
        ValueError: an accuracy outside 0 to 100, or NaN; n below 1.
    """
    _check_accuracies(accuracy)
    if n < 1:
        raise ValueError(f"n={n}: must be 1 or more")
    return math.sqrt(accuracy * (100 - accuracy) / (n - 1)) if n > 1 else math.nan


def _check_accuracies(*values: float) -> None:
    for value in values:
        if not 0 <= value <= 100:
            raise ValueError(f"accuracy {value}: must be a per cent from 0 to 100")

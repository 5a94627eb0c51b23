"""The paper's formulas as pure functions, and `Estimate`: a value with its confidence limits.

Source: Q. Mai, "Slimming Down LLMs Without Losing Their Minds", arXiv 2506.10885, section 3 (its
Table 2 gives the worked numbers). Accuracies, losses and intervals are in per cent (0 to 100), as
the paper prints them. Arguments always come as base, then tuned.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

Z95 = 1.96  # the paper's z; 1.959964 to six decimals


class Estimate(NamedTuple):
    """A value with its confidence limits, all in per cent or all in points."""

    value: float
    low: float
    high: float


def normalize_text(text: str) -> str:
    """Lower-case a text without its punctuation: the f of A_norm.

    Punctuation is every character of Unicode's classes P and S (for ASCII: `string.punctuation`).
    White space stays as it is.

    Example: "Don't  stop, 50 %!" -> "dont  stop 50 ".
    """
    return "".join(c for c in text if unicodedata.category(c)[0] not in "PS").lower()


def accuracy_norm(predictions: Sequence[str], targets: Sequence[str]) -> float:
    """A_norm = mean 1[f(p_i) = f(t_i)] x 100, with f = `normalize_text` (HellaSwag).

    This is the paper's text match. lm-eval's acc_norm is another thing: the log-likelihood of each
    ending divided by its number of characters (acc_bytes: of bytes).

    Example: ["The cat.", "a dog"] for ["the cat", "a cow"] -> 50.0.

    Raises:
        ValueError: no texts, or not as many predictions as targets.
    """
    return _share(predictions, targets, lambda p, t: normalize_text(p) == normalize_text(t))


def accuracy_strict(predictions: Sequence[Any], targets: Sequence[Any]) -> float:
    """A_strict = mean 1[p_i = t_i] x 100 (GSM8K).

    Example: ["18", "3.0", None] for ["18", "3", "7"] -> 33.33 (None: no answer was found).

    Raises:
        ValueError: no answers, or not as many predictions as targets.
    """
    return accuracy(predictions, targets)


def accuracy_flex(
    predictions: Sequence[float | None], targets: Sequence[float], eps: float = 0.01
) -> float:
    """A_flex = mean 1[|p_i - t_i| < eps] x 100 (GSM8K), eps = 0.01 in the paper.

    A prediction of None or NaN (no number in the answer) counts as wrong.

    Example: [18.0, 3.009, 7.02, None] for [18, 3, 7, 5] -> 50.0.

    Raises:
        ValueError: no answers, unequal lengths, a target that is not a finite number, eps <= 0.
    """
    if not eps > 0:
        raise ValueError(f"eps={eps}: must be above 0")
    for target in targets:
        if not math.isfinite(target):
            raise ValueError(f"target {target} is not a finite number")
    return _share(predictions, targets, lambda p, t: p is not None and abs(p - t) < eps)


def accuracy(predictions: Sequence[Any], targets: Sequence[Any]) -> float:
    """A = mean 1[p_i = t_i] x 100 (MMLU).

    Example: ["A", "C", "D", "B"] for ["A", "C", "B", "B"] -> 75.0.

    Raises:
        ValueError: no answers, or not as many predictions as targets.
    """
    return _share(predictions, targets, lambda p, t: p == t)


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
    _check_accuracies(base, tuned)
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


def _share(
    predictions: Sequence[Any], targets: Sequence[Any], equal: Callable[[Any, Any], bool]
) -> float:
    """Per cent of predictions that equal their target."""
    if len(predictions) != len(targets):
        raise ValueError(f"{len(predictions)} predictions for {len(targets)} targets")
    if len(targets) == 0:
        raise ValueError("no predictions: an accuracy needs at least one")
    right = sum(bool(equal(p, t)) for p, t in zip(predictions, targets, strict=True))
    return 100 * right / len(targets)


def _check_accuracies(*values: float) -> None:
    for value in values:
        if not 0 <= value <= 100:
            raise ValueError(f"accuracy {value}: must be a per cent from 0 to 100")

"""The paper's formulas, and the statistics that say whether a change is real, as pure functions.

Source: Q. Mai, "Slimming Down LLMs Without Losing Their Minds", arXiv 2506.10885, section 3 (its
Table 2 gives the worked numbers). Accuracies, losses and intervals are in per cent (0 to 100), as
the paper prints them; per-document scores are 0 or 1 (numbers in between are allowed except in
McNemar's test). Arguments always come as base, then tuned. A NaN score is an error, never a zero.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Z95 = 1.96  # the paper's z; 1.959964 to six decimals


class Estimate(NamedTuple):
    """A value with its confidence limits, all in per cent or all in points."""

    value: float
    low: float
    high: float


class PairedTTest(NamedTuple):
    """Student's t on tuned minus base (negative: tuned is worse), and its two-sided p-value."""

    statistic: float
    p_value: float


class McNemarTest(NamedTuple):
    """Documents lost (right, then wrong) and gained (wrong, then right); two-sided exact p."""

    lost: int
    gained: int
    p_value: float


# ---- the paper's formulas ----


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
    ending divided by its length in bytes.

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


# ---- the statistics ----


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


def wilson_interval(successes: int, n: int, confidence: float = 0.95) -> Estimate:
    """Wilson's score interval for one accuracy; never empty, never outside 0 to 100.

    Example: 47 of 100 -> 47 with limits 37.51 and 56.71; 0 of 100 -> 0 with limits 0 and 3.70.

    Raises:
        ValueError: n below 1, or successes outside 0 to n.
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of n={n}: must be 0 to n, with n 1 or more")
    interval = stats.binomtest(successes, n).proportion_ci(confidence, method="wilson")
    return Estimate(100 * successes / n, 100 * float(interval.low), 100 * float(interval.high))


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


def paired_difference(base: ArrayLike, tuned: ArrayLike, confidence: float = 0.95) -> Estimate:
    """Tuned minus base in points, with the interval of the paired t-test.

    It excludes 0 exactly where `paired_t_test` has p < 1 - confidence. Where every document changed
    by the same amount the spread is 0 and the t interval would claim certainty; Wilson's upper
    limit for "0 of n documents changed otherwise" then stands on both sides.

    Example: base 1 1 1 0, tuned 0 0 1 0 -> -50 with limits -141.87 and 41.87 (n is tiny).

    Raises:
        ValueError: scores empty, of unequal length, or not finite.
    """
    base, tuned = _paired(base, tuned)
    change = tuned - base
    value = 100 * float(change.mean())
    if np.ptp(change) == 0:
        margin = _unseen(len(change), confidence)
        return Estimate(value, max(value - margin, -100.0), min(value + margin, 100.0))
    interval = stats.ttest_rel(tuned, base).confidence_interval(confidence)
    return Estimate(value, 100 * float(interval.low), 100 * float(interval.high))


def forgetting_interval(base: ArrayLike, tuned: ArrayLike, confidence: float = 0.95) -> Estimate:
    """FR with Fieller's interval for a ratio of two paired means.

    Fieller (1954): the ratios r for which tuned - r base has a mean within t standard errors of 0.
    So it excludes 0 exactly where `paired_t_test` has p < 1 - confidence. The upper limit is cut at
    100. If base itself is not clearly above 0 nothing is known: -inf to 100. Base = 0, or a single
    document: NaN. Where tuned is base times a constant (nothing changed, or nothing is left) the
    spread is 0; Wilson's upper limit for 0 of n, over base, then stands on both sides.

    Example: base 8 of 10 right, tuned the first 2 of these -> 75 with limits 35.59 and 100.

    Raises:
        ValueError: scores empty, of unequal length, outside 0 to 1, or not finite.
    """
    base, tuned = _paired(base, tuned)
    n, x, y = len(base), float(base.mean()), float(tuned.mean())
    value = forgetting_rate(100 * x, 100 * y)
    if n == 1 or math.isnan(value):
        return Estimate(value, math.nan, math.nan)
    if np.allclose(tuned, base * (y / x)):
        margin = _unseen(n, confidence) / x
        return Estimate(value, value - margin, min(value + margin, 100.0))
    t_squared = stats.t.ppf((1 + confidence) / 2, n - 1) ** 2
    (xx, xy), (_, yy) = t_squared * np.cov(base, tuned) / n
    a, b, c = x * x - xx, x * y - xy, y * y - yy  # a r^2 - 2 b r + c <= 0
    if a <= 0:
        return Estimate(value, -math.inf, 100.0)
    root = math.sqrt(max(b * b - a * c, 0.0))
    low, high = (float(100 * (1 - (b + side) / a)) for side in (root, -root))
    return Estimate(value, low, min(high, 100.0))


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
    base, tuned = _paired(base, tuned)
    for scores in (base, tuned):
        other = scores[(scores != 0) & (scores != 1)]
        if other.size:
            raise ValueError(f"score {other[0]}: McNemar's test needs scores of 0 and 1")
    lost, gained = int(np.sum(base > tuned)), int(np.sum(tuned > base))
    p_value = stats.binomtest(lost, lost + gained).pvalue if lost + gained else 1.0
    return McNemarTest(lost, gained, float(p_value))


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


def _paired(*both: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Base and tuned scores as arrays of shape (documents,)."""
    base, tuned = (np.asarray(scores, dtype=np.float64) for scores in both)
    if base.ndim != 1 or base.shape != tuned.shape or base.size == 0:
        raise ValueError(
            f"scores of shape {base.shape} and {tuned.shape}: need the same documents, 1 or more"
        )
    for scores in (base, tuned):
        if not np.all(np.isfinite(scores)):
            raise ValueError(f"score {scores[~np.isfinite(scores)][0]}: must be a finite number")
    return base, tuned


def _unseen(n: int, confidence: float) -> float:
    """Per cent of documents that may differ although none of n did (Wilson's upper limit)."""
    return wilson_interval(0, n, confidence).high

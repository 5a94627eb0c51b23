"""Statistics without documents: one accuracy, two accuracies with their standard errors, Holm.

Two aggregates do not tell which answers changed, so these tests are weaker than the paired ones:
they treat the two models as if they had answered different documents. Accuracies and standard
errors are in per cent, differences (tuned minus base) and margins in points.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from slimlib.metrics.formulas import Estimate, delta_a, forgetting_rate


class ZTest(NamedTuple):
    """z of tuned minus base (negative: tuned is worse), and its two-sided p-value."""

    statistic: float
    p_value: float


# ---- one accuracy ----


def wilson_interval(successes: int, n: int, confidence: float = 0.95) -> Estimate:
    """Wilson's score interval for one accuracy; never empty, never outside 0 to 100.

    Source: Wilson (1927), J. Am. Stat. Assoc. 22, 209-212.

    Example: 47 of 100 -> 47 with limits 37.51 and 56.71; 0 of 100 -> 0 with limits 0 and 3.70.

    Raises:
        ValueError: counts that are not whole, n below 1, successes outside 0 to n; confidence
            outside 0 to 1.
    """
    _check_share("confidence", confidence)
    if n < 1 or not 0 <= successes <= n or int(successes) != successes or int(n) != n:
        raise ValueError(f"{successes} successes of n={n}: must be 0 to n, with n 1 or more")
    interval = stats.binomtest(int(successes), int(n)).proportion_ci(confidence, method="wilson")
    return Estimate(100 * successes / n, 100 * float(interval.low), 100 * float(interval.high))


# ---- two accuracies ----


def unpaired_z_test(base: float, tuned: float, base_error: float, tuned_error: float) -> ZTest:
    """z = (tuned - base) / sqrt(base_error^2 + tuned_error^2): all that two aggregates allow.

    Where both errors are 0 (all or nothing right) z is 0 with p = 1 for equal accuracies, else
    infinite with p = 0: without n the aggregates cannot say how little that proves.

    Args:
        base: accuracy in per cent; likewise tuned.
        base_error: its standard error in per cent; likewise tuned_error.

    Example: 47 +- 5.0161 and 34 +- 4.7610 -> z = -1.88, p = 0.060.

    Raises:
        ValueError: an accuracy outside 0 to 100, an error below 0, NaN or infinite.
    """
    error, change = _joint_error(base_error, tuned_error), delta_a(base, tuned)
    if error == 0:
        z = math.copysign(math.inf, change) if change else 0.0
    else:
        z = change / error
    return ZTest(z, 2 * float(stats.norm.sf(abs(z))))


def unpaired_difference(
    base: float, tuned: float, base_error: float, tuned_error: float, confidence: float = 0.95
) -> Estimate:
    """Tuned minus base in points, with the normal interval of two independent means.

    It excludes 0 exactly where `unpaired_z_test` has p < 1 - confidence. Arguments as there.

    Example: 47 +- 5.0161 and 34 +- 4.7610 -> -13.00 with limits -26.55 and 0.55.

    Raises:
        ValueError: an accuracy outside 0 to 100, an error below 0, NaN; confidence outside 0 to 1.
    """
    half_width = _z(confidence) * _joint_error(base_error, tuned_error)
    change = delta_a(base, tuned)
    return Estimate(change, change - half_width, change + half_width)


def unpaired_forgetting_interval(
    base: float, tuned: float, base_error: float, tuned_error: float, confidence: float = 0.95
) -> Estimate:
    """FR with Fieller's interval for the ratio of two independent means.

    As `forgetting_interval`, with a covariance of 0 and normal quantiles: cut at 100; -inf to 100
    if base itself is not clearly above 0; base = 0: NaN. Arguments as in `unpaired_z_test`. Where
    tuned has nothing (or all) right its error of 0 would claim certainty; Wilson's limit for 0 of
    the n that base's error tells stands in.

    Source: Fieller (1954), J. R. Stat. Soc. B 16, 175-185.

    Example: 33.5102 +- 1.30019 and 3.71494 +- 0.52095 -> 88.91 with limits 85.68 and 92.02.

    Raises:
        ValueError: an accuracy outside 0 to 100, an error below 0, NaN; confidence outside 0 to 1.
    """
    _joint_error(base_error, tuned_error)  # which checks them
    value, z_squared = forgetting_rate(base, tuned), _z(confidence) ** 2
    if math.isnan(value):
        return Estimate(value, math.nan, math.nan)
    reach = z_squared * tuned_error**2
    if reach == 0 < base_error and tuned in (0, 100):
        n = 1 + round(base * (100 - base) / base_error**2)
        reach = wilson_interval(0, n, confidence).high ** 2
    return Estimate(value, *_fieller(base, tuned, z_squared * base_error**2, 0.0, reach))


def unpaired_equivalence_test(
    base: float, tuned: float, base_error: float, tuned_error: float, margin: float
) -> float:
    """p of two one-sided z-tests (TOST): small if the difference lies within +-margin points.

    Without any error p is 0 inside the margin and 1 outside. Arguments as in `unpaired_z_test`.

    Source: Schuirmann (1987), J. Pharmacokinet. Biopharm. 15, 657-680.

    Example: 60.7747 +- 0.48725 and 61.2029 +- 0.48629, margin 2 -> 0.011.

    Raises:
        ValueError: an accuracy outside 0 to 100, an error below 0, NaN, a margin not above 0.
    """
    check_margin(margin)
    error, change = _joint_error(base_error, tuned_error), delta_a(base, tuned)
    if error == 0:
        return float(abs(change) >= margin)
    return float(
        max(stats.norm.sf((change + margin) / error), stats.norm.cdf((change - margin) / error))
    )


def unpaired_minimum_detectable_difference(
    base_error: float, tuned_error: float, power: float = 0.8, alpha: float = 0.05
) -> float:
    """Points that the two-sided z-test finds with this power: (z(1 - alpha/2) + z(power)) x error.

    At most 100. Arguments as in `unpaired_z_test`.

    Example: errors 5.0161 and 4.7610 -> 19.4 points.

    Raises:
        ValueError: an error below 0 or NaN; power or alpha outside 0 to 1.
    """
    check_power(power, alpha)
    shift = float(stats.norm.isf(alpha / 2) + stats.norm.ppf(power))
    return min(shift * _joint_error(base_error, tuned_error), 100.0)


# ---- several tests ----


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for their number (Holm 1979), in the order given; none gives none.

    Example: 0.01, 0.04, 0.03 -> 0.03, 0.06, 0.06.

    Raises:
        ValueError: a p-value outside 0 to 1, or NaN.
    """
    for p in p_values:
        if not 0 <= p <= 1:
            raise ValueError(f"p-value {p}: must be from 0 to 1; leave out tests that gave none")
    # By hand: statsmodels' multipletests collects garbage, which takes most of a comparison's time.
    order = np.argsort(p_values, kind="stable")
    steps = [(len(order) - rank) * p_values[i] for rank, i in enumerate(order)]
    corrected = dict(zip(order, np.minimum(np.maximum.accumulate(steps), 1), strict=True))
    return [float(corrected[i]) for i in range(len(order))]


# ---- shared ----


def check_margin(margin: float) -> None:
    """Raise a ValueError unless a margin of equivalence is a number of points above 0."""
    if not 0 < margin < math.inf:
        raise ValueError(f"margin={margin}: must be a number of points above 0")


def check_power(power: float, alpha: float) -> None:
    """Raise a ValueError unless 0 < alpha < power < 1."""
    _check_share("alpha", alpha)
    _check_share("power", power)
    if power <= alpha:
        raise ValueError(f"power={power}: must be above alpha={alpha}")


def _check_share(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise ValueError(f"{name}={value}: must be above 0 and below 1")


def _z(confidence: float) -> float:
    """The normal quantile of a two-sided interval."""
    _check_share("confidence", confidence)
    return float(stats.norm.ppf((1 + confidence) / 2))


def _joint_error(*errors: float) -> float:
    """Standard error of the difference of two independent accuracies, from theirs."""
    for error in errors:
        if not 0 <= error < math.inf:
            raise ValueError(f"standard error {error}: must be a number from 0 up")
    return math.hypot(*errors)


def _fieller(x: float, y: float, xx: float, xy: float, yy: float) -> tuple[float, float]:
    """Limits of FR = 100 (1 - y/x): the ratios r for which y - r x is not clearly apart from 0.

    Args:
        x: mean of base, above 0; y: mean of tuned.
        xx, xy, yy: variances and covariance of the means, times the squared quantile.
    """
    a, b, c = x * x - xx, x * y - xy, y * y - yy  # a r^2 - 2 b r + c <= 0
    root = math.sqrt(max(b * b - a * c, 0.0))
    if a <= 0:  # base is not clearly above 0; tuned may be, and then something was gained
        return -math.inf, float(100 * (1 - c / (b + root))) if c > 0 else 100.0
    low, high = (float(100 * (1 - (b + side) / a)) for side in (root, -root))
    return low, min(high, 100.0)

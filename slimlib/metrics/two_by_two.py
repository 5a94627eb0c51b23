"""Right and wrong answers of two models on the same documents, counted: one calibrated procedure.

The exact McNemar test decides; the intervals of the difference and of FR are score intervals that
agree with it in every table at every level, and so does the test of "kept" with its margin. All of
it on the four counts of a `Flips`; `paired` and `power` take the answers themselves.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from scipy import optimize, special

from slimlib.metrics.formulas import Estimate, forgetting_rate

END = 1 - 1e-12  # the largest difference, as a share, at which a score has a spread


class Flips(NamedTuple):
    """Documents by their answers before and after.

                  tuned right   tuned wrong
    base right        kept          lost
    base wrong       gained        neither
    """

    kept: int
    lost: int
    gained: int
    neither: int

    @property
    def n(self) -> int:
        """All documents."""
        return sum(self)

    @property
    def swapped(self) -> Flips:
        """The same answers with base and tuned in each other's place."""
        return Flips(self.kept, self.gained, self.lost, self.neither)


def mcnemar_p(flips: Flips) -> float:
    """Two-sided exact p of McNemar's test: the split lost : gained under one half.

    Example: 25 lost and 12 gained -> 0.047; no document changed -> 1.
    """
    fewer, flipped = min(flips.lost, flips.gained), flips.lost + flips.gained
    if 2 * fewer == flipped:
        return 1.0
    return min(2 * float(special.betainc(flipped - fewer, fewer + 1, 0.5)), 1.0)


# ---- how large is it? ----


def score_difference(flips: Flips, confidence: float) -> Estimate:
    """Tuned minus base in points, with Tango's score interval, in agreement with McNemar's test.

    The differences that the score test does not reject, at 0 the exact McNemar test. Where answers
    flipped one way only, the difference hangs on one binomial share, and the limits are no narrower
    than its mid-p ones.

    Source: Tango (1998), Statistics in Medicine 17, 891-908.
    """
    value = 100 * ((flips.gained - flips.lost) / flips.n)
    high, low = _calibrated(_largest_gain, flips, confidence)
    return Estimate(value, 0.0 - 100 * low, 100 * high)


def score_forgetting(flips: Flips, confidence: float) -> Estimate:
    """FR in per cent with the score interval of the ratio, in agreement with McNemar's test.

    The rates that the score test of "tuned right = ratio x base right" does not reject, at FR 0 the
    exact McNemar test. Where answers flipped one way only, FR hangs on one binomial share, and the
    limits are no narrower than its mid-p ones. Nothing right before: NaN. Nothing right after: FR
    and its upper limit are 100.

    Source: Nam and Blackwelder (2002), Statistics in Medicine 21, 689-699; Tang, Tang and Chan
    (2003), Statistics in Medicine 22, 1217-1233.
    """
    before, after = (100 * (flips.kept + one) / flips.n for one in (flips.lost, flips.gained))
    if before == 0:
        return Estimate(math.nan, math.nan, math.nan)
    high, low = _calibrated(_largest_log_ratio, flips, confidence)
    return Estimate(
        forgetting_rate(before, after), *(0.0 - 100 * math.expm1(x) for x in (high, -low))
    )


def score_equivalence(flips: Flips, margin: float) -> float:
    """p of two one-sided score tests (TOST): small if the difference lies within +-margin points.

    Where answers changed one way only, or not at all, the score's level is too high; there p is no
    less than the binomial probability of so few changes if the margin were their share.

    Source: Tango (1998), as above.
    """
    if margin >= 100:
        return 0.0
    sides = (-_gain_score(flips, -margin / 100), _gain_score(flips, margin / 100))
    p_value = max(float(special.ndtr(score)) for score in sides)
    if min(flips.lost, flips.gained) > 0:
        return p_value
    changed = max(flips.lost, flips.gained)
    return max(p_value, float(special.bdtr(changed, flips.n, margin / 100)))


def _calibrated(
    largest: Callable[[Flips, float], float], flips: Flips, confidence: float
) -> tuple[float, float]:
    """Upper limits of a gain and of a loss, where 0 is no change and McNemar decides about 0.

    Not rejected: a limit that is short of 0 is stretched to it. Rejected, although the score test
    holds 0 (it may, at levels below 0.001): the limit next to 0 is drawn at the critical value
    times score / exact, both as normal quantiles, which is where the exact test turns.
    """
    p_value, z = mcnemar_p(flips), -float(special.ndtri((1 - confidence) / 2))
    limits = [largest(flips, z), largest(flips.swapped, z)]
    if p_value >= 1 - confidence:
        return max(limits[0], 0.0), max(limits[1], 0.0)
    near = int(flips.gained > flips.lost)  # of a clear gain the lower limit, which bounds the loss
    if limits[near] >= 0:
        score = abs(flips.lost - flips.gained) / math.sqrt(flips.lost + flips.gained)
        exact = -float(special.ndtri(p_value / 2))
        limits[near] = largest((flips, flips.swapped)[near], z * score / exact)
    return limits[0], limits[1]


def _largest_gain(flips: Flips, z: float) -> float:
    """The largest share gained - lost that is not rejected at the critical value z."""
    seen = (flips.gained - flips.lost) / flips.n

    def above(gain: float) -> float:
        return _gain_score(flips, gain) + z

    if above(END) > 0:
        return seen  # every document was gained
    return max(float(optimize.brentq(above, min(seen, END), END)), _one_way_gain(flips, z))


def _one_way_gain(flips: Flips, z: float) -> float:
    """The same by the binomial share that flipped; -inf where answers flipped both ways."""
    if flips.lost == 0:
        return 1 - _smallest_share(flips.n - flips.gained, flips.n, z)
    if flips.gained == 0:
        return -_smallest_share(flips.lost, flips.n, z)
    return -math.inf


def _gain_score(flips: Flips, gain: float) -> float:
    """Tango's score of "the share gained is the share lost + gain": below 0 where less is seen."""
    if gain < 0:
        return -_gain_score(flips.swapped, -gain)
    n, lost, gained = flips.n, flips.lost, flips.gained
    half = (2 * n - gained + lost) * gain - lost - gained
    root = math.sqrt(half * half + 8 * n * lost * gain * (1 - gain))
    # the share lost under the hypothesis: the root of a quadratic, in the form that cancels nothing
    share = 2 * lost * gain * (1 - gain) / (root + half) if half > 0 else (root - half) / (4 * n)
    spread = math.sqrt(n * (2 * share + gain * (1 - gain)))
    return (gained - lost - n * gain) / spread if spread else 0.0


def _largest_log_ratio(flips: Flips, z: float) -> float:
    """Log of the largest ratio tuned right / base right that is not rejected at z."""
    before, after = flips.kept + flips.lost, flips.kept + flips.gained
    if before == 0:
        return math.inf

    def above(log_ratio: float) -> float:
        return _ratio_score(flips, log_ratio) + z

    low = math.log(after / before) if after else -math.log(before) - 700
    step = 1.0
    while above(low + step) > 0:
        step *= 2
    return max(float(optimize.brentq(above, low, low + step)), _one_way_log_ratio(flips, z))


def _one_way_log_ratio(flips: Flips, z: float) -> float:
    """The same by the binomial share that was kept; -inf where answers flipped both ways.

    With no gain the ratio is the share of base's right answers that was kept; with no loss it is
    one over the share of tuned's right answers that was kept.
    """
    if flips.lost == 0:
        return -math.log(_smallest_share(flips.kept, flips.kept + flips.gained, z))
    if flips.gained == 0:
        return math.log1p(-_smallest_share(flips.lost, flips.kept + flips.lost, z))
    return -math.inf


def _smallest_share(count: int, n: int, z: float) -> float:
    """The smallest binomial share whose mid-p of `count` or more of n is not below z's tail.

    Source: Lancaster (1961), Journal of the American Statistical Association 56, 223-234.
    """
    tail = float(special.ndtr(-z))

    def above(log_share: float) -> float:
        share = math.exp(log_share)
        return float(special.bdtrc(count - 1, n, share) + special.bdtrc(count, n, share)) / 2 - tail

    return math.exp(optimize.brentq(above, -700.0, 0.0))


def _ratio_score(flips: Flips, log_ratio: float) -> float:
    """Score of "tuned right is ratio x base right": below 0 where less is seen.

    Documents never right say nothing about a ratio. Among the others the share gained is estimated
    under the hypothesis, once more as the root of a quadratic.
    """
    if log_ratio > 0:
        return -_ratio_score(flips.swapped, -log_ratio)
    kept, lost, gained, _ = flips
    ratio, fall, n = math.exp(log_ratio), -math.expm1(log_ratio), kept + lost + gained
    a = ratio * (1 + ratio) * n
    b = (kept + gained) * fall * (1 + ratio) - (lost + gained) * ratio**2
    c = gained * ratio * fall
    root = math.sqrt(b * b + 4 * a * c)
    share = 2 * c / (root + b) if b > 0 else (root - b) / (2 * a)
    spread = math.sqrt(n * ratio * (fall + (1 + ratio) * share))
    return (kept * fall + gained - ratio * lost) / spread if spread else 0.0

"""What prevents the loss: each arm of a study against its plain fine-tuning, from records alone.

The plain arm is the study's first that is fine-tuned (`Study.tuned`). Every other fine-tuned arm
changes something of it: a knob. An effect is the knob's score less the plain arm's, document by
document; where an arm has several seeds the claim is about the recipe, with one variance between
seeds for all arms, pooled. p-values are corrected (Holm) over all knobs and benchmarks together.

`Study.learned` names the benchmarks that the rows teach; the others are what can be lost. An arm's
place is how much it learned and lost, both against the base, each the mean over its benchmarks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from slimlib import metrics
from slimlib.comparison.arms import Record, by_arm, results_of, task_of
from slimlib.comparison.benchmarks import ALPHA, BENCHMARKS, MARGIN
from slimlib.comparison.contrast import Contrast, contrast, pooled
from slimlib.config import Arm, Study
from slimlib.metrics import Spread
from slimlib.metrics.text import interval, number, p_cell
from slimlib.results import ResultsError

if TYPE_CHECKING:
    import pandas as pd

BETTER, WORSE, SAME, OPEN = "better", "worse", "no difference", "not decided"


class Effect(NamedTuple):
    """What a knob does to one benchmark, against the plain arm."""

    arm: str
    role: str
    found: Contrast  # points
    p_holm: float
    verdict: str


class Place(NamedTuple):
    """How far an arm is from the base, in points: up is better in both."""

    arm: str
    learned: Contrast
    kept: Contrast  # the abilities' change; below 0 is lost


class Advice(NamedTuple):
    """A recommendation, or why there is none."""

    arm: str | None
    text: str


@dataclass(frozen=True)
class Mitigation:
    """A study's knobs as measured.

    Args:
        study: gives arms and labels.
        plain: name of the plain arm.
        scores: arm -> role -> (seeds, documents or clusters), in 0 to 1.
        missing: knobs without results -> why.
    """

    study: Study
    plain: str
    scores: Mapping[str, Mapping[str, np.ndarray]]
    missing: tuple[str, ...]

    @property
    def knobs(self) -> list[str]:
        """The fine-tuned arms with results, the plain one left out."""
        arms = (arm for arm in self.study.arms if arm.adapter and arm.name in self.scores)
        return [arm.name for arm in arms if arm.name != self.plain]

    @property
    def abilities(self) -> list[str]:
        """The benchmarks that the rows do not teach."""
        return [role for role in self._roles() if role not in self.study.learned]

    @property
    def learned(self) -> list[str]:
        """The benchmarks that the rows teach, as far as there are results."""
        return [role for role in self._roles() if role in self.study.learned]

    def _roles(self) -> list[str]:
        there = self.scores.get(self.plain, {})
        return [role for role in self.study.task_labels if role in there]

    def effects(self, alpha: float = ALPHA) -> list[Effect]:
        """Each knob against the plain arm on each benchmark, judged together."""
        asked = [(k, r) for k in self.knobs for r in self._roles() if r in self.scores[k]]
        found = [self._against(self.plain, knob, (role,), alpha) for knob, role in asked]
        corrected = metrics.holm([_p(one) for one in found]) if found else []
        return [
            Effect(knob, role, one, float(p), _verdict(one, p, alpha))
            for (knob, role), one, p in zip(asked, found, corrected, strict=True)
        ]

    def places(self, alpha: float = ALPHA) -> list[Place]:
        """Each fine-tuned arm against the base; none without the base or what is learned."""
        base = self.study[self.plain].compared_with
        if base not in self.scores or not (self.learned and self.abilities):
            return []
        sides = self.learned, self.abilities
        whole = [a for a in (self.plain, *self.knobs) if {*sum(sides, [])} <= {*self.scores[a]}]
        return [
            Place(arm, *(self._against(base, arm, roles, alpha) for roles in sides))
            for arm in whole
        ]

    def advise(self, alpha: float = ALPHA, margin: float = MARGIN) -> Advice:
        """The knob to take: it keeps more than the plain arm, and learns as much.

        More: the mean of the abilities is higher, p after Holm over the knobs below alpha. As much:
        what is learned is less by no more than the margin, at the interval's lower limit. Of
        several the one that keeps most, with those that are not told apart from it.
        """
        if not self.learned or not self.abilities:
            return Advice(None, "Not decided: no record says what was learned, or what was kept.")
        whole = {*self.learned, *self.abilities}
        knobs = [knob for knob in self.knobs if whole <= {*self.scores[knob]}]
        kept = [self._against(self.plain, knob, self.abilities, alpha) for knob in knobs]
        corrected = metrics.holm([_p(one) for one in kept]) if kept else []
        good = {
            knob: one
            for knob, one, p in zip(knobs, kept, corrected, strict=True)
            if one.difference.value > 0 and p < alpha and self._learns(knob, alpha, margin)
        }
        if not good:
            return Advice(None, self._undecided(alpha, margin))
        best = max(good, key=lambda knob: good[knob].difference.value)
        return Advice(best, self._recommend(best, good, alpha))

    def _learns(self, knob: str, alpha: float, margin: float) -> bool:
        """Whether a knob learns no less than the plain arm, up to the margin."""
        low = self._against(self.plain, knob, self.learned, alpha).difference.low
        return low > -margin

    def _undecided(self, alpha: float, margin: float) -> str:
        place = next((p for p in self.places(alpha) if p.arm == self.plain), None)
        if place and place.kept.difference.low > -margin:
            said = f"the plain arm itself loses less than {margin:g} points: nothing to prevent"
        else:
            said = "none is shown to keep more than the plain arm and to learn as much"
        return f"Not decided: {said} (knobs measured: {len(self.knobs)})."

    def _recommend(self, best: str, good: Mapping[str, Contrast], alpha: float) -> str:
        label, gain = self.study[best].label, good[best].difference
        others = [
            self.study[knob].label
            for knob in good
            if knob != best and _p(self._against(knob, best, self.abilities, alpha)) >= alpha
        ]
        text = (
            f"Take {label}: it keeps {number(gain.value, 1)} points more {interval(gain, '+', 1)} "
            f"than {self.study[self.plain].label}, on the mean of what can be lost, and learns as "
            "much."
        )
        return f"{text} Not told apart from it: {', '.join(others)}." if others else text

    def _against(self, first: str, second: str, roles: Sequence[str], alpha: float) -> Contrast:
        """The second arm less the first, in points, on the mean of some benchmarks."""
        sides = [_joined([self.scores[arm][role] for role in roles]) for arm in (first, second)]
        runs = self._runs(first, second, roles)
        exact = len(roles) == 1 and not runs
        return contrast([(-1, sides[0]), (1, sides[1])], MARGIN, alpha, runs, exact)

    def _runs(self, first: str, second: str, roles: Sequence[str]) -> list[Spread]:
        """What the runs of two arms add to the variance; nothing where no arm has two seeds."""
        tuned = [arm.name for arm in self.study.arms if arm.adapter]
        means = [
            100 * _joined([self.scores[arm][role] for role in roles]).mean(axis=1)
            for arm in tuned
            if {*roles} <= {*self.scores.get(arm, {})}
        ]
        several = [values for values in means if len(values) > 1]
        if not several:
            return []
        spread = pooled(several)
        own = [arm for arm in (first, second) if arm in tuned]  # an untuned arm has no run
        share = sum(1 / len(self.scores[arm][roles[0]]) for arm in own)
        return [Spread(share * spread.variance, spread.df)]

    def table(self, alpha: float = ALPHA) -> pd.DataFrame:
        """Every effect: points, 95 % limits, p, p after Holm, and what that says; also nothing."""
        import pandas as pd

        labels = self.study.task_labels
        rows = [
            {
                "knob": self.study[e.arm].label,
                "benchmark": labels[e.role],
                "side": "learned" if e.role in self.study.learned else "kept",
                "points": e.found.difference.value,
                "low": e.found.difference.low,
                "high": e.found.difference.high,
                "p": e.found.p_value,
                "p (Holm)": e.p_holm,
                "detectable": e.found.detectable,
                "seeds": len(self.scores[e.arm][e.role]),
                "verdict": e.verdict,
            }
            for e in self.effects(alpha)
        ]
        return pd.DataFrame(rows)

    def in_words(self, alpha: float = ALPHA) -> pd.DataFrame:
        """The effects as text: a row for each knob, a column for each benchmark."""
        import pandas as pd

        rows: dict[str, dict[str, str]] = {}
        for e in self.effects(alpha):
            points = f"{number(e.found.difference.value, 1, '+')} "
            points += f"{interval(e.found.difference, '+', 1)}, p {p_cell(e.p_holm)}"
            row = rows.setdefault(self.study[e.arm].label, {})
            row[self.study.task_labels[e.role]] = points
        table = pd.DataFrame(rows).T.fillna("-")
        table.index.name = f"against {self.study[self.plain].label}, points"
        return table


def measure_mitigation(records: Sequence[Record], study: Study) -> Mitigation:
    """A study's knobs from its records.

    Args:
        records: of all seeds, an untuned arm once.
        study: that they are of.

    Example:

        by_seed = slimlib.report.committed.committed_records("mitigation_micro")
        found = measure_mitigation(committed.pool(by_seed), study)
        found.advise().text

    Raises:
        ValueError: the plain arm has no results; arms that answered other documents.
    """
    groups, plain = by_arm(records, study), study.tuned.name
    scores = {arm: _scores(group, study) for arm, group in groups.items()}
    scores = {arm: found for arm, found in scores.items() if found}
    if plain not in scores:
        raise ValueError(f"study {study.name}: no results of its plain arm {plain}: run it first")
    _check_documents(groups, study)
    missing = tuple(arm.name for arm in study.arms if arm.adapter and arm.name not in scores)
    return Mitigation(study, plain, scores, missing)


def _scores(group: Sequence[Record], study: Study) -> dict[str, np.ndarray]:
    """Role -> scores of all seeds that have it, by document or by cluster of them."""
    found = {}
    for role in study.task_labels:
        rows = [result["scores"] for result in results_of(group, role, BENCHMARKS[role].headline)]
        if rows:
            clusters = next(filter(None, (task_of(r, role) for r in group))).get("clusters")
            scores = np.stack(rows)
            found[role] = metrics.clustered(scores, clusters) if clusters else scores
    return found


def _check_documents(groups: Mapping[str, Sequence[Record]], study: Study) -> None:
    for role in study.task_labels:
        tasks = {arm: task_of(record, role) for arm, group in groups.items() for record in group}
        known = {arm: task["documents"] for arm, task in tasks.items() if task}
        if len({*known.values()}) > 1:
            first, *_ = known
            other = next(arm for arm in known if known[arm] != known[first])
            raise ResultsError(f"{first} and {other} answered different documents of {role}")


def _joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Scores of several benchmarks in a row, of which each weighs the same in the mean.

    Seeds that not all benchmarks have are left out.
    """
    if len(parts) == 1:
        return parts[0]
    total, seeds = sum(part.shape[1] for part in parts), min(len(part) for part in parts)
    return np.hstack([part[:seeds] * (total / (len(parts) * part.shape[1])) for part in parts])


def _p(found: Contrast) -> float:
    return 1.0 if found.p_value is None or math.isnan(found.p_value) else found.p_value


def _verdict(found: Contrast, p_holm: float, alpha: float) -> str:
    if p_holm < alpha:
        return BETTER if found.difference.value > 0 else WORSE
    return SAME if found.p_equivalence < alpha else OPEN


def pareto_front(places: Sequence[Place]) -> list[str]:
    """The arms that no other beats: none that learned and kept at least as much, and one of both
    more.

    Example: (learned, kept) of (1, 1), (2, 0), (1, 0) -> the first two.
    """

    def beaten(one: Place) -> bool:
        ours = _point(one)
        theirs = [_point(other) for other in places if other.arm != one.arm]
        return any(x >= ours[0] and y >= ours[1] and (x, y) != ours for x, y in theirs)

    return [place.arm for place in places if not beaten(place)]


def _point(place: Place) -> tuple[float, float]:
    return place.learned.difference.value, place.kept.difference.value


def scale_paths(study: Study) -> dict[str, list[Arm]]:
    """Adapter and what it is merged into -> the arms that add different shares of it, in order."""
    found: dict[str, list[Arm]] = {}
    for arm in study.arms:
        if arm.adapter:
            key = f"{arm.adapter_from or arm.name}, {arm.merge.merge_base}"
            found.setdefault(key, []).append(arm)
    paths = {key: sorted(arms, key=lambda arm: arm.merge.scale) for key, arms in found.items()}
    return {key: arms for key, arms in paths.items() if len({a.merge.scale for a in arms}) > 1}

"""One change: a task's metric before and after, with its interval, its tests and its verdict.

`measuring` makes it from two results, `judging` gives the verdict, `sentences` puts it into words.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from slimlib.comparison.validity import BROKEN, INCOMPARABLE
from slimlib.metrics import Estimate

FORGOT, IMPROVED, KEPT = "forgot", "improved", "kept"
# between models that are not before and after of one another: there nothing was forgotten
WORSE, BETTER, SAME = "worse", "better", "the same"
UNKNOWN = "not enough data to tell"
LOSSES, GAINS, STAYED = (FORGOT, WORSE), (IMPROVED, BETTER), (KEPT, SAME)
NO_VERDICT = (BROKEN, INCOMPARABLE)
# Holm's correction runs within each: a task has one headline; a group stands for its subtasks.
HEADLINE, OTHER, SUBTASK = "headline", "other metric", "subtask"
CATASTROPHIC = 50.0  # per cent: a forgetting rate above it is catastrophic by the paper's own line


@dataclass(frozen=True)
class Change:
    """One task and metric, base against tuned. Accuracies in per cent, differences in points.

    Intervals are at 1 - alpha. What cannot be known from the results is None (a p-value without
    standard errors) or NaN inside an `Estimate` (FR where base has nothing right).
    """

    task: str
    metric: str  # "metric,filter"
    title: str
    family: str  # HEADLINE, OTHER or SUBTASK
    role: str | None
    paired: bool
    n: int | None  # documents that were compared; of aggregates: of the smaller side
    base: float
    tuned: float
    difference: Estimate  # tuned - base
    forgetting: Estimate  # FR, per cent
    measure: str  # the paper's, for this task: FR, dA or dK
    plus_minus: float | None  # of dK as the paper defines it: 1.96 unpaired standard errors
    test: str
    p_value: float | None
    p_t: float | None  # the paper's paired t-test
    p_equivalence: float | None  # TOST within the margin
    detectable: float | None  # points found in 80 % of repetitions; None: nothing, or not known
    lost: int | None = None  # right -> wrong
    gained: int | None = None  # wrong -> right
    seeds: tuple[int, int] = (1, 1)  # runs on each side
    cluster: str = ""  # field of a document that documents of one cluster share
    chance: float | None = None  # per cent right by guessing; None: not known
    limits: tuple[Estimate, Estimate] | None = None  # of both accuracies, Wilson's; None: no n
    may_be_kept: bool = True  # whether so many documents could show "kept" at all
    p_holm: float | None = None
    p_equivalence_holm: float | None = None
    tests: int = 1  # in the family that Holm's correction ran over
    verdict: str = UNKNOWN
    reason: str = ""  # why a measurement carries no verdict, or no stronger one
    caveat: str = ""  # what was not asked alike although the two are compared

    @property
    def measured(self) -> Estimate:
        """FR (per cent), dA (tuned - base) or dK (base - tuned, points), with its interval."""
        return {"FR": self.forgetting, "dA": self.difference, "dK": self.delta_k}[self.measure]

    @property
    def delta_k(self) -> Estimate:
        """Base minus tuned, in points."""
        value, low, high = self.difference
        return Estimate(-value, -high, -low)

    @property
    def subject(self) -> str:
        """What a claim is about: this run, or the recipe that several seeds stand for."""
        if max(self.seeds) == 1:
            return "this run"
        return "these recipes" if min(self.seeds) > 1 else "this recipe"

    def row(self) -> dict[str, Any]:
        """The change as one row of a table of numbers: limits in columns of their own."""
        limits = dict(zip(("difference", "low", "high"), self.difference, strict=True))
        names = ("measure_value", "measure_low", "measure_high")
        measured = dict(zip(names, self.measured, strict=True))
        return {
            "n": self.n,
            "base": self.base,
            "tuned": self.tuned,
            **limits,
            "test": self.test,
            "p_value": self.p_value,
            "p_holm": self.p_holm,
            "p_t": self.p_t,
            "lost": self.lost,
            "gained": self.gained,
            "measure": self.measure,
            **measured,
            "detectable": self.detectable,
            "verdict": self.verdict,
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, texts and None, as JSON takes them."""
        return {
            "task": self.task,
            "metric": self.metric,
            "title": self.title,
            "family": self.family,
            "paired": self.paired,
            "n": self.n,
            "seeds": list(self.seeds),
            "subject": self.subject,
            "base": finite(self.base),
            "tuned": finite(self.tuned),
            "chance": self.chance,
            "difference": _limits(self.difference),
            "test": self.test,
            "p_value": self.p_value,
            "p_holm": self.p_holm,
            "p_paired_t": self.p_t,
            "p_equivalence": self.p_equivalence,
            "p_equivalence_holm": self.p_equivalence_holm,
            "right_to_wrong": self.lost,
            "wrong_to_right": self.gained,
            "measure": self.measure,
            "forgetting_rate": _limits(self.forgetting),
            "delta_a": _limits(self.difference),
            "delta_k": _limits(self.delta_k) | {"plus_minus": self.plus_minus},
            "detectable": self.detectable,
            "verdict": self.verdict,
            "reason": self.reason,
            "caveat": self.caveat,
        }


def _limits(estimate: Estimate) -> dict[str, float | None]:
    return {name: finite(value) for name, value in estimate._asdict().items()}


def finite(value: float) -> float | None:
    """A number as JSON has it: neither NaN nor infinity, both null (unknown, unbounded)."""
    return value + 0.0 if math.isfinite(value) else None

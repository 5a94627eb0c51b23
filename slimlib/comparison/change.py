"""One change, measured: a task's metric before and after, with its interval, tests and verdict.

Paired by document where both results have the answers (exact McNemar for right and wrong, the
paired t-test for other scores), else from the aggregates (unpaired z). Claims are made after Holm's
correction; "kept" needs an equivalence test (TOST), not the absence of a difference.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from slimlib import metrics
from slimlib.common.layout import plain
from slimlib.comparison.benchmarks import ALPHA, measure_of, title_of
from slimlib.comparison.contrast import POWER, contrast
from slimlib.metrics import Estimate
from slimlib.results import TaskResults

FORGOT, IMPROVED, KEPT = "forgot", "improved", "kept"
UNKNOWN = "not enough data to tell"
# Holm's correction runs within each: a task has one headline; a group stands for its subtasks.
HEADLINE, OTHER, SUBTASK = "headline", "other metric", "subtask"


@dataclass(frozen=True)
class Change:
    """One task and metric, base against tuned. Accuracies in per cent, differences in points.

    What cannot be known from the results is None (a p-value without standard errors) or NaN inside
    an `Estimate` (FR where base has nothing right).
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
    detectable: float | None  # points found in 80 % of repetitions
    lost: int | None = None  # right -> wrong
    gained: int | None = None  # wrong -> right
    p_holm: float | None = None
    p_equivalence_holm: float | None = None
    verdict: str = UNKNOWN

    @property
    def measured(self) -> Estimate:
        """FR (per cent), dA (tuned - base) or dK (base - tuned, points), with its 95 % interval."""
        return {"FR": self.forgetting, "dA": self.difference, "dK": self.delta_k}[self.measure]

    @property
    def delta_k(self) -> Estimate:
        """Base minus tuned, in points."""
        value, low, high = self.difference
        return Estimate(-value, -high, -low)

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
            "base": self.base,
            "tuned": self.tuned,
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
        }


def _limits(estimate: Estimate) -> dict[str, float | None]:
    """JSON has neither NaN nor infinity: both are null (unknown, unbounded)."""
    return {k: v + 0.0 if math.isfinite(v) else None for k, v in estimate._asdict().items()}


def measure_change(
    before: TaskResults,
    after: TaskResults,
    name: str,
    pair: tuple[np.ndarray, np.ndarray] | None,
    margin: float,
    *,
    family: str = HEADLINE,
    role: str | None = None,
    alpha: float = ALPHA,
) -> Change:
    """Measure one metric of one task; `judge` gives the verdict.

    Args:
        before: the base's results of the task.
        after: the tuned model's.
        name: "metric,filter"; both have it.
        pair: scores of the same documents, each of shape (documents,); None: aggregates only.
        margin: of the equivalence test, in points.
        family: HEADLINE, OTHER or SUBTASK.
        role: that the task plays in the paper, or None.
        alpha: level of the test whose detectable difference is given.
    """
    statistics = _paired(*pair, margin, alpha) if pair else None
    measured = statistics or _unpaired(before, after, name, margin, alpha)
    both = zip((before, after), measured["at"], strict=True)
    errors = [_error(task, name, value, pair and len(pair[0])) for task, value in both]
    known = None not in errors
    return Change(
        task=before.task,
        metric=name,
        title=plain(title_of(before.task, role, name)),  # one line, whatever its name
        family=family,
        role=role,
        paired=pair is not None,
        base=measured["at"][0],
        tuned=measured.pop("at")[1],
        measure=measure_of(before.task, role, name),
        plus_minus=metrics.Z95 * math.hypot(*errors) if known else None,
        **measured,
    )


def _error(
    task: TaskResults, name: str, accuracy: float, compared: int | None = None
) -> float | None:
    """One standard error in per cent: as the file says, else from n; None where it has neither.

    Where fewer documents are compared than the file has, theirs: from their accuracy and number.

    A group without one is not guessed at: it may be the mean of its subtasks, not of documents.
    """
    if compared is not None and task.n not in (None, compared):
        return metrics.standard_error(accuracy, compared) if compared > 1 else None
    stderr = task.scores[name].stderr
    if stderr is not None:
        return 100 * stderr
    known = task.n and task.n > 1 and not task.subtasks
    return metrics.standard_error(accuracy, task.n) if known else None


def _spread(task: TaskResults, name: str, accuracy: float) -> float | None:
    """As `_error`, but never 0: nothing (or all) right of a few documents is no certainty.

    Wilson's limit for 0 of n stands in, over 1.96; without n nothing is known.
    Example: 0 of 5 right: 43.4 / 1.96 = 22.2 per cent.
    """
    error = _error(task, name, accuracy)
    if error != 0:
        return error
    if not task.n or task.subtasks:
        return None
    if 0 < accuracy < 100:
        return metrics.standard_error(accuracy, task.n) if task.n > 1 else None
    return metrics.wilson_interval(0, task.n).high / metrics.Z95


def _paired(base: np.ndarray, tuned: np.ndarray, margin: float, alpha: float) -> dict[str, Any]:
    """Statistics of one metric, document by document."""
    found = contrast([(-1, base[None]), (1, tuned[None])], margin, alpha)
    return {
        "at": (100 * float(base.mean()), 100 * float(tuned.mean())),
        "n": found.documents,
        "difference": found.difference,
        "forgetting": metrics.forgetting_interval(base, tuned),
        "test": found.test,
        "p_value": found.p_value,
        "p_t": found.p_documents,
        "p_equivalence": found.p_equivalence,
        "detectable": found.detectable,
        "lost": found.lost,
        "gained": found.gained,
    }


def _unpaired(
    before: TaskResults, after: TaskResults, name: str, margin: float, alpha: float
) -> dict[str, Any]:
    """Statistics of one metric from aggregates alone."""
    at = tuple(100 * task.scores[name].value for task in (before, after))
    errors = [_spread(task, name, value) for task, value in zip((before, after), at, strict=True)]
    counts = [task.n for task in (before, after) if task.n]
    found = {"at": at, "n": min(counts) if len(counts) == 2 else None, "p_t": None}
    if None in errors:
        nowhere = (math.nan, math.nan)
        return found | {
            "difference": Estimate(at[1] - at[0], *nowhere),
            "forgetting": Estimate(metrics.forgetting_rate(*at), *nowhere),
            "test": "none: neither a standard error nor the number of documents is known",
            "p_value": None,
            "p_equivalence": None,
            "detectable": None,
        }
    return found | {
        "difference": metrics.unpaired_difference(*at, *errors),
        "forgetting": metrics.unpaired_forgetting_interval(*at, *errors),
        "test": "unpaired z",
        "p_value": metrics.unpaired_z_test(*at, *errors).p_value,
        "p_equivalence": metrics.unpaired_equivalence_test(*at, *errors, margin),
        "detectable": metrics.unpaired_minimum_detectable_difference(*errors, alpha=alpha)
        if alpha < POWER
        else None,
    }


def judge(changes: Iterable[Change], alpha: float) -> tuple[Change, ...]:
    """Correct the p-values within each family (Holm) and give each change its verdict."""
    changes = list(changes)
    for family in (HEADLINE, OTHER, SUBTASK):
        for raw in ("p_value", "p_equivalence"):
            known = [c.family == family and getattr(c, raw) is not None for c in changes]
            rows = [i for i, is_known in enumerate(known) if is_known]
            p_values = metrics.holm([getattr(changes[i], raw) for i in rows])
            for i, p in zip(rows, p_values, strict=True):
                changes[i] = replace(changes[i], **{_HOLM[raw]: p})
    return tuple(replace(change, verdict=_verdict(change, alpha)) for change in changes)


_HOLM = {"p_value": "p_holm", "p_equivalence": "p_equivalence_holm"}


def _verdict(change: Change, alpha: float) -> str:
    """A claim of change needs its p-value and its interval; a claim of sameness needs TOST."""
    value, low, high = change.difference
    if change.p_holm is not None and change.p_holm < alpha and (low > 0 or high < 0):
        return FORGOT if value < 0 else IMPROVED
    if change.p_equivalence_holm is not None and change.p_equivalence_holm < alpha:
        return KEPT
    return UNKNOWN

"""One metric of one task measured: base against tuned, by document or from aggregates.

Paired by document where both results have the answers (exact McNemar for right and wrong, the
paired t-test for other scores, for clusters and over seeds), else from the aggregates (unpaired z).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from slimlib import metrics
from slimlib.common.layout import plain
from slimlib.comparison.benchmarks import (
    ALPHA,
    BENCHMARKS,
    is_right_or_wrong,
    measure_of,
    task_facts,
    title_of,
)
from slimlib.comparison.change import HEADLINE, Change
from slimlib.comparison.contrast import POWER, contrast
from slimlib.metrics import Estimate, Spread
from slimlib.metrics.over_seeds import between_seeds
from slimlib.results import TaskResults

UNKNOWN_ERROR = "none: neither a standard error nor the number of documents is known"


class Pairing(NamedTuple):
    """Scores of the same documents on both sides."""

    base: np.ndarray  # (seeds, documents), 0 to 1
    tuned: np.ndarray
    clusters: tuple[str, ...] = ()  # of each document; empty: each stands alone
    spreads: tuple[Spread, ...] | None = None  # between seeds; None: as these scores have it

    def between_seeds(self) -> list[Spread]:
        """Variance between seeds of the difference, in points squared."""
        return between_seeds(*(100 * side.mean(axis=1) for side in (self.base, self.tuned)))


def measure_change(
    before: TaskResults,
    after: TaskResults,
    name: str,
    pair: Pairing | None,
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
        pair: scores of the same documents; None: aggregates only.
        margin: of the equivalence test, in points.
        family: HEADLINE, OTHER or SUBTASK.
        role: that the task plays in the paper, or None.
        alpha: level of the test; intervals are at 1 - alpha.
    """
    if pair:
        measured = _paired(pair, margin, alpha)
    else:
        measured = _unpaired(before, after, name, margin, alpha)
    at, n = measured.pop("at"), measured["n"]
    compared = n if pair else None
    errors = [_error(t, name, v, compared) for t, v in zip((before, after), at, strict=True)]
    return Change(
        **_named(before.task, name, family, role),
        paired=pair is not None,
        base=at[0],
        tuned=at[1],
        plus_minus=metrics.Z95 * math.hypot(*errors) if None not in errors else None,
        chance=_chance(before, after, role),
        limits=tuple(_wilson(value, n, alpha) for value in at) if n else None,
        **measured,
    )


def unmeasured(
    before: TaskResults,
    after: TaskResults,
    name: str,
    *,
    family: str = HEADLINE,
    role: str | None = None,
) -> Change:
    """The change of a metric that one side has no number of: nothing is known of it."""
    unknown = Estimate(math.nan, math.nan, math.nan)
    values = [t.scores[name].value if name in t.scores else math.nan for t in (before, after)]
    return Change(
        **_named(before.task, name, family, role),
        paired=False,
        n=before.n,
        base=100 * values[0],
        tuned=100 * values[1],
        difference=unknown,
        forgetting=unknown,
        plus_minus=None,
        test="none: no number",
        p_value=None,
        p_t=None,
        p_equivalence=None,
        detectable=None,
    )


def _named(task: str, name: str, family: str, role: str | None) -> dict[str, Any]:
    """What a change is of."""
    return {
        "task": task,
        "metric": name,
        "title": plain(title_of(task, role, name)),  # one line, whatever its name
        "family": family,
        "role": role,
        "measure": measure_of(task, role, name),
    }


def _chance(before: TaskResults, after: TaskResults, role: str | None) -> float | None:
    """Per cent right by guessing: from the documents, else from what is known of the task."""
    shares = [task.chance for task in (before, after) if task.chance is not None]
    if shares:
        return 100 * max(shares)
    if role in BENCHMARKS:
        return BENCHMARKS[role].chance
    facts = task_facts(before.task)
    return 100 * facts.chance if facts and facts.chance else None


def _wilson(accuracy: float, n: int, alpha: float) -> Estimate:
    return metrics.wilson_interval(round(accuracy * n / 100), n, 1 - alpha)


def _paired(pair: Pairing, margin: float, alpha: float) -> dict[str, Any]:
    """Statistics of one metric, document by document."""
    base, tuned = pair.base, pair.tuned
    at = (100 * float(base.mean()), 100 * float(tuned.mean()))
    n = base.shape[1]
    if pair.clusters:
        base, tuned = (metrics.clustered(scores, pair.clusters) for scores in (base, tuned))
    runs = pair.spreads if pair.spreads is not None else pair.between_seeds()
    found = contrast([(-1, base), (1, tuned)], margin, alpha, runs, exact=not pair.clusters)
    by_cluster = "t over clusters and seeds" if runs else "t over clusters"
    binary = found.lost is not None
    return {
        "at": at,
        "n": n,
        "seeds": (len(base), len(tuned)),
        "difference": found.difference,
        "forgetting": _forgetting(base, tuned, alpha, bool(runs or pair.clusters)),
        "test": by_cluster if pair.clusters else found.test,
        "p_value": found.p_value,
        "p_t": found.p_documents,
        "p_equivalence": found.p_equivalence,
        "detectable": found.detectable,
        "lost": found.lost,
        "gained": found.gained,
        "may_be_kept": not binary or metrics.can_show_kept(n, margin, alpha),
    }


def _forgetting(base: np.ndarray, tuned: np.ndarray, alpha: float, by_t: bool) -> Estimate:
    if by_t:
        return metrics.forgetting_over_seeds(base, tuned, 1 - alpha)
    return metrics.forgetting_interval(base.mean(axis=0), tuned.mean(axis=0), 1 - alpha)


# ------------------------------------------------------------------------------ aggregates alone


def _error(
    task: TaskResults, name: str, accuracy: float, compared: int | None = None
) -> float | None:
    """One standard error in per cent: as the file says, else from n; None where it has neither.

    Where fewer documents are compared than the file has, theirs: from their accuracy and number.
    Only what is right or wrong has an error that n tells. A group without one is not guessed at: it
    may be the mean of its subtasks, not of documents.
    """
    by_count = is_right_or_wrong(name)
    if compared is not None and task.n not in (None, compared):
        return metrics.standard_error(accuracy, compared) if compared > 1 and by_count else None
    stderr = task.scores[name].stderr
    if stderr is not None:
        return 100 * stderr
    known = by_count and task.n and task.n > 1 and not task.subtasks
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
            "test": UNKNOWN_ERROR,
            "p_value": None,
            "p_equivalence": None,
            "detectable": None,
        }
    detectable = None
    if alpha < POWER:
        detectable = metrics.unpaired_minimum_detectable_difference(*errors, alpha=alpha)
    return found | {
        "difference": metrics.unpaired_difference(*at, *errors, 1 - alpha),
        "forgetting": metrics.unpaired_forgetting_interval(*at, *errors, 1 - alpha),
        "test": "unpaired z",
        "p_value": metrics.unpaired_z_test(*at, *errors).p_value,
        "p_equivalence": metrics.unpaired_equivalence_test(*at, *errors, margin),
        "detectable": detectable,
    }

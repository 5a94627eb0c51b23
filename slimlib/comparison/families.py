"""Every metric of every task that two results share: measured, and put into its family.

A task has one headline metric, which its verdict goes by; its other metrics and the subtasks of a
group are families of their own, so that Holm's correction counts each question once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from slimlib import metrics
from slimlib.common.layout import plain
from slimlib.comparison.benchmarks import (
    headline,
    is_right_or_wrong,
    role_of,
    why_not_judged,
)
from slimlib.comparison.change import HEADLINE, OTHER, SUBTASK, Change
from slimlib.comparison.measuring import Pairing, measure_change, unmeasured
from slimlib.comparison.validity import find_fault
from slimlib.metrics.over_seeds import pool
from slimlib.metrics.text import number
from slimlib.results import Alignment, Samples, TaskResults
from slimlib.results.align import in_common, unlike


def measure_all(
    alignment: Alignment, margin: float, alpha: float, pool_seeds: bool = False
) -> tuple[list[Change], list[str]]:
    """Every metric of every shared task, and a sentence on each that is shown but not judged.

    Args:
        alignment: both results.
        margin: of the equivalence test, in points.
        alpha: level of the tests.
        pool_seeds: one variance between seeds for all headline metrics.
    """
    base, tuned = alignment.base.tasks, alignment.tuned.tasks
    both = {task: (base[task], tuned[task]) for task in in_common(base, tuned)}
    leaves = {task: {*a.subtasks, *b.subtasks} for task, (a, b) in both.items()}
    both = {task: both[task] for task in _groups_first(leaves)}
    usable, shown = {}, []
    for task, sides in both.items():
        usable[task], lines = _usable(task, *sides)
        shown += lines
    roles = {task: a.role or b.role or role_of(task) for task, (a, b) in both.items()}
    firsts = {task: headline(roles[task], names) for task, names in usable.items() if names}
    families = _families(leaves, usable, firsts)
    pairs = {
        (task, name): pairing(alignment, task, name)
        for task, first in firsts.items()
        for name in sorted(usable[task], key=lambda name, first=first: name != first)
    }
    if pool_seeds:
        pairs = _with_pooled_seeds(pairs, [*firsts.items()])
    changes = []
    for (task, name), pair in pairs.items():
        family = families[task] if name == firsts[task] else OTHER
        what = {"family": family, "role": roles[task]}
        changes.append(_measured(alignment, task, name, pair, margin, alpha, what))
    return changes, shown


def _measured(
    alignment: Alignment,
    task: str,
    name: str,
    pair: Pairing | None,
    margin: float,
    alpha: float,
    what: dict[str, Any],
) -> Change:
    """One change with what stands against it: a fault, or a caveat."""
    sides = alignment.base.tasks[task], alignment.tuned.tasks[task]
    fault = find_fault(alignment, task, name)
    if any(name in side.broken for side in sides):
        change = unmeasured(*sides, name, **what)
    else:
        change = measure_change(*sides, name, pair, margin, alpha=alpha, **what)
    if fault:
        return replace(change, verdict=fault.verdict, reason=plain(fault.reason))
    lines = [line.removeprefix(f"{task}: ") for line in unlike(*sides)]
    cluster = sides[0].cluster if pair and pair.clusters else ""
    return replace(change, caveat=plain("; ".join(lines)), cluster=plain(cluster))


def pairing(alignment: Alignment, task: str, name: str) -> Pairing | None:
    """Scores of the documents that both answered, by seed; None: aggregates only."""
    metric, _, kind = name.partition(",")
    pair = alignment.pairs.get((task, kind))
    if pair is None or alignment.scores(task, metric, kind) is None:
        return None
    ours, theirs = (r.tasks[task].samples[kind] for r in (alignment.base, alignment.tuned))
    clusters = tuple(ours.clusters[i] for i in pair.base) if ours.clusters else ()
    if len({*clusters}) == len(clusters):
        clusters = ()
    return Pairing(
        _by_seed(ours, metric, pair.base), _by_seed(theirs, metric, pair.tuned), clusters
    )


def _by_seed(samples: Samples, metric: str, documents: np.ndarray) -> np.ndarray:
    """(seeds, documents) scores; of one run, or of runs that are all the same, a single row."""
    scores = samples.by_seed.get(metric, samples.scores[metric][None])[:, documents]
    return scores[:1] if np.all(scores == scores[0]) else scores


def _with_pooled_seeds(
    pairs: dict[tuple[str, str], Pairing | None], firsts: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], Pairing | None]:
    """The pairs with one variance between seeds, pooled over the tasks' headlines."""
    chosen = [pair for first in firsts if (pair := pairs[first]) is not None]
    several = [parts for pair in chosen if (parts := pair.between_seeds())]
    if not several:
        return pairs
    pooled = tuple(map(pool, zip(*several, strict=True)))  # all tasks have the same seeds
    return {key: pair and pair._replace(spreads=pooled) for key, pair in pairs.items()}


def _usable(task: str, *sides: TaskResults) -> tuple[list[str], list[str]]:
    """The metrics that are judged, and a line on each that is only shown."""
    names = in_common(*({**side.scores, **side.broken} for side in sides))
    if not names:
        return [], [f"{task}: no metric in common"]
    usable, shown = [], []
    for name in names:
        reason = "" if any(name in side.broken for side in sides) else _not_a_share(name, *sides)
        if not reason:
            usable.append(name)
            continue
        values = [number(side.scores[name].value) for side in sides if name in side.scores]
        shown.append(f"{task}: {name} {' -> '.join(values)}, not judged: {reason}")
    return usable, shown


def _not_a_share(name: str, *sides: TaskResults) -> str:
    """Why a metric is no share of right answers; "" for one that is."""
    metric, _, kind = name.partition(",")
    samples = [side.samples.get(kind) for side in sides]
    columns = [found.scores[metric] for found in samples if found and metric in found.scores]
    better = {side.higher_is_better.get(metric) for side in sides} - {None}
    reason = why_not_judged(name, min(better, default=None), sides[0].task, bool(columns))
    if reason:
        return reason
    values = [side.scores[name].value for side in sides if name in side.scores]
    values += [float(limit) for column in columns for limit in (column.min(), column.max())]
    outside = [value for value in values if not 0 <= value <= 1]
    if outside:
        return f"{outside[0]:g} is outside 0 to 1"
    wide = not columns and any(_too_wide(side, name) for side in sides)
    return "its standard error is more than a share of as many documents can have" if wide else ""


def _too_wide(task: TaskResults, name: str) -> bool:
    """Whether a score spreads more than values from 0 to 1 can: a correlation, F1 over all, ...

    Their standard error is at most sqrt(p (1 - p) / (n - 1)); half of it is left to bootstrapping.
    Example: CoLA's mcc of 0.12 +- 0.03 on 1,043 documents, where a share has at most 0.010.
    """
    if name not in task.scores or is_right_or_wrong(name):
        return False
    value, stderr = task.scores[name]
    if stderr is None or task.n is None or task.n < 2 or task.subtasks:
        return False
    return 100 * stderr > 1.5 * metrics.standard_error(100 * value, task.n)


def _groups_first(leaves: Mapping[str, set[str]]) -> list[str]:
    """The tasks in their order, but each group ahead of what it is made of."""
    order = list(leaves)

    def place(task: str) -> tuple[int, int, int]:
        parts = leaves[task] or {task}
        top = max((g for g in order if parts <= (leaves[g] or {g})), key=lambda g: len(leaves[g]))
        return order.index(top), -len(leaves[task]), order.index(task)

    return sorted(order, key=place)


def _families(
    leaves: Mapping[str, set[str]],
    usable: Mapping[str, Sequence[str]],
    firsts: Mapping[str, str],
) -> dict[str, str]:
    """The family of each task's headline metric.

    A group stands for its leaves and for groups inside it, where all its leaves have its metric. A
    group of unlike tasks (the Open LLM Leaderboard's) stands for nothing: its tasks do.
    """
    groups = {task: inside for task, inside in leaves.items() if inside and task in firsts}
    standing = {
        task: inside
        for task, inside in groups.items()
        if all(firsts[task] in usable.get(leaf, [firsts[task]]) for leaf in inside)
    }
    parts = {leaf for inside in standing.values() for leaf in inside}
    parts |= {g for g in groups if any(groups[g] < other for other in standing.values())}
    return {
        task: SUBTASK if task in parts else OTHER if task in groups.keys() - standing else HEADLINE
        for task in firsts
    }

"""From a study's records to comparisons: records by arm, results by benchmark, changes by arm.

A record is what a run folder's record.json holds. Arms are compared on the same documents with the
arm that their record names in `compared_with`; several seeds of an arm count as the mean of their
scores. A result that a record lacks is None, never a number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from slimlib.common.schema import unpack_scores
from slimlib.comparison.benchmarks import ALPHA, BENCHMARKS, MARGIN
from slimlib.comparison.change import Change
from slimlib.comparison.judging import judge
from slimlib.comparison.relation import AUTO
from slimlib.comparison.two_models import Comparison, compare
from slimlib.config import Study
from slimlib.results import ResultsError

Record = dict[str, Any]


def by_arm(records: Sequence[Record], study: Study | None = None) -> dict[str, list[Record]]:
    """Group records by arm, in the order given: one record per seed.

    Raises:
        ValueError: records of two studies (or of another than `study`), two of the same arm and
            seed, or an arm that `study` does not have.
    """
    studies = list(dict.fromkeys(record["study"] for record in records))
    if len(studies) > 1 or (study and studies not in ([], [study.name])):
        wanted = f" (this is a table of {study.name})" if study else ""
        raise ValueError(f"records of {', '.join(studies)} cannot share a table{wanted}")
    groups: dict[str, list[Record]] = {}
    for record in records:
        group = groups.setdefault(record["arm"], [])
        if record["seed"] in [other["seed"] for other in group]:
            what = f"study {record['study']}, arm {record['arm']}, seed {record['seed']}"
            raise ValueError(f"two records of {what}: give one of them")
        group.append(record)
    unknown = set(groups) - {arm.name for arm in study.arms} if study else ()
    if unknown:
        raise ValueError(f"study {study.name} has no arm {', '.join(sorted(unknown))}")
    return groups


def tasks_of(record: Record) -> dict[str, dict[str, Any]]:
    """Task name -> result of everything that a record's arm was evaluated on."""
    return record["stages"].get("evaluate", {}).get("tasks", {})


def task_of(record: Record, role: str) -> dict[str, Any] | None:
    """The result of the benchmark that plays `role`; None where it was not evaluated."""
    return next((task for task in tasks_of(record).values() if task["role"] == role), None)


def results_of(group: Sequence[Record], role: str, metric: str) -> list[dict[str, Any]]:
    """One result (n, documents, value, stderr, scores) for each record that has it."""
    found = []
    for task in (task for record in group if (task := task_of(record, role))):
        if metric in task["metrics"]:
            result = task["metrics"][metric]
            scores = unpack_scores(result["scores"])
            found.append({k: task[k] for k in ("n", "documents")} | result | {"scores": scores})
    return found


def compare_arms(
    base: Sequence[Record],
    tuned: Sequence[Record],
    alpha: float = ALPHA,
    relation: str = AUTO,
) -> Comparison | None:
    """One arm against another, over all benchmarks that both have.

    Args:
        base: records of one arm, one per seed.
        tuned: records of the other.
        alpha: level of every claim.
        relation: as in `compare`.

    Returns:
        None where the two have no benchmark in common.

    Raises:
        ResultsError: the arms answered different documents.
    """
    both = [[record for record in group if tasks_of(record)] for group in (base, tuned)]
    names = [{name for record in group for name in tasks_of(record)} for group in both]
    if not names[0] & names[1]:
        return None
    comparison = compare(*both, alpha=alpha, relation=relation)
    unpaired = [change.task for change in comparison.changes if not change.paired]
    if unpaired:  # tables and figures say "paired", so nothing weaker may stand in
        arms = " and ".join(group[0]["arm"] for group in both)
        tasks = ", ".join(dict.fromkeys(unpaired))
        raise ResultsError(f"{arms} answered different documents of {tasks}; evaluate both alike")
    return comparison


def compare_all(groups: Mapping[str, Sequence[Record]]) -> dict[str, Comparison]:
    """Arm -> comparison with the arm that its record names; only those that can be made."""
    found = {}
    for arm, group in groups.items():
        comparison = compare_arms(groups.get(group[0]["compared_with"], []), group)
        if comparison is not None:
            found[arm] = comparison
    return found


def judge_arms(
    groups: Mapping[str, Sequence[Record]], study: Study
) -> dict[tuple[str, str], Change]:
    """(arm, role) -> change against the arm that its record names, all judged as one family."""
    found = {
        (arm, role): change
        for arm, comparison in compare_all(groups).items()
        for role in study.task_labels
        if (change := comparison.of(role))
    }
    return dict(zip(found, judge(found.values(), ALPHA, MARGIN), strict=True))


def compare_seeds(base: Sequence[Record], tuned: Sequence[Record]) -> list[Comparison]:
    """Each seed of an arm against base; none for a single seed."""
    each = [compare_arms(base, [record]) for record in tuned] if len(tuned) > 1 else []
    return [comparison for comparison in each if comparison is not None]


def seed_spread(seeds: Sequence[Comparison], role: str) -> float | None:
    """SD over seeds of a benchmark's measure; None for fewer than two."""
    changes = [comparison.of(role, BENCHMARKS[role].headline) for comparison in seeds]
    values = [change.measured.value for change in changes if change is not None]
    return float(np.std(values, ddof=1)) if len(values) > 1 else None

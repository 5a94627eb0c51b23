"""What each arm lost on each benchmark, read from records and tested document by document.

A record is what a run folder's record.json holds. Arms are compared on the same documents with the
arm that their record names in `compared_with`; several seeds of an arm count as the mean of their
scores. A result that a record lacks is None, never a number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from slimlib import metrics, paper
from slimlib.metrics import Estimate

if TYPE_CHECKING:
    from slimlib.config import Study

Record = dict[str, Any]


class Benchmark(NamedTuple):
    """How the paper reads one benchmark."""

    metrics: dict[str, str]  # lm-eval's metric -> row title
    headline: str  # the metric that the loss is computed from
    loss: str  # the paper's name of the loss
    unit: str
    estimate: Callable[..., Estimate]  # (base scores, tuned scores) -> loss with paired interval
    chance: float | None  # per cent right by guessing


def _drop(base: np.ndarray, tuned: np.ndarray) -> Estimate:
    """Base minus tuned, with the paired interval."""
    return metrics.paired_difference(tuned, base)


_MMLU = Benchmark({paper.ACC: "acc"}, paper.ACC, "dK", "points", _drop, 25.0)
BENCHMARKS: dict[str, Benchmark] = {
    "gsm8k": Benchmark(
        {paper.FLEXIBLE: "flexible", paper.STRICT: "strict"},
        paper.FLEXIBLE,
        "FR",
        "%",
        metrics.forgetting_interval,
        None,
    ),
    "hellaswag": Benchmark(
        {paper.ACC: "acc", paper.ACC_NORM: "acc_norm"},
        paper.ACC_NORM,
        "dA",
        "points",
        metrics.paired_difference,
        25.0,
    ),
    "mmlu_cs": _MMLU,
    "mmlu_cs_college": _MMLU,
}


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


def task_of(record: Record, role: str) -> dict[str, Any] | None:
    """The result of the benchmark that plays `role`; None where it was not evaluated."""
    tasks = record["stages"].get("evaluate", {}).get("tasks", {}).values()
    return next((task for task in tasks if task["role"] == role), None)


def results_of(group: Sequence[Record], role: str, metric: str) -> list[dict[str, Any]]:
    """One result (n, documents, value, stderr, scores) for each record that has it."""
    tasks = [task for record in group if (task := task_of(record, role))]
    return [
        {"n": t["n"], "documents": t["documents"], **t["metrics"][metric]}
        for t in tasks
        if metric in t["metrics"]
    ]


def paired_scores(
    base: Sequence[Record], tuned: Sequence[Record], role: str, metric: str
) -> tuple[np.ndarray, np.ndarray] | None:
    """Scores of two arms on the same documents, each of shape (seeds, documents).

    Returns:
        None where either arm has no result.

    Raises:
        ValueError: the arms answered different documents.
    """
    both = [results_of(group, role, metric) for group in (base, tuned)]
    if not all(both):
        return None
    if len({result["documents"] for results in both for result in results}) > 1:
        arms = f"{base[0]['arm']} and {tuned[0]['arm']}"
        raise ValueError(
            f"{arms} answered different documents of {role}: evaluate both with the same limit"
        )
    first, second = (np.array([result["scores"] for result in results]) for results in both)
    return first, second


def compare_arms(
    base: Sequence[Record], tuned: Sequence[Record], role: str
) -> dict[str, Any] | None:
    """FR, dA or dK of one arm against another, with the paired statistics.

    Returns:
        Accuracies, the difference tuned - base and its limits, the loss and its limits, in per cent
        or points; p-values; `loss_sd`: SD of the loss over tuned's seeds (NaN for one). None where
        either arm has no result.

    Raises:
        ValueError: the arms answered different documents.
    """
    benchmark = BENCHMARKS[role]
    pair = paired_scores(base, tuned, role, benchmark.headline)
    if pair is None:
        return None
    before, after = (scores.mean(axis=0) for scores in pair)  # over seeds: (documents,)
    single = len(pair[0]) == len(pair[1]) == 1
    difference, loss = metrics.paired_difference(before, after), benchmark.estimate(before, after)
    per_seed = [benchmark.estimate(before, scores).value for scores in pair[1]]
    return {
        "role": role,
        "metric": benchmark.headline,
        "n": len(before),
        "base": 100 * float(before.mean()),
        "tuned": 100 * float(after.mean()),
        "difference": difference.value,
        "low": difference.low,
        "high": difference.high,
        # McNemar's test is about single answers: the mean over seeds has none
        "p_mcnemar": metrics.mcnemar_test(before, after).p_value if single else math.nan,
        "p_t": metrics.paired_t_test(before, after).p_value,
        "loss": benchmark.loss,
        "loss_value": loss.value,
        "loss_low": loss.low,
        "loss_high": loss.high,
        "loss_sd": float(np.std(per_seed, ddof=1)) if len(per_seed) > 1 else math.nan,
    }

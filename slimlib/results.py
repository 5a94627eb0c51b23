"""From lm-evaluation-harness output to the part of a record that tables are made from. No torch."""

from __future__ import annotations

import math
from typing import Any

from slimlib.config import Task
from slimlib.files import sha256


def task_entry(
    results: dict[str, Any], samples: list[dict[str, Any]], task: Task
) -> dict[str, Any]:
    """What a record keeps of one task.

    Args:
        results: of `lm_eval.simple_evaluate`.
        samples: its samples of this task: one row per document and filter.
        task: as it was asked for.

    Returns:
        role, task, version, num_fewshot, n, `documents` (a hash over the documents in order: equal
        hashes mean paired scores), and per "metric,filter" its value, standard error and scores
        (one per document, in 0..1).

    Raises:
        ValueError: a score is missing or not a number.
    """
    scores = results["results"][task.name]
    by_filter: dict[str, list[dict[str, Any]]] = {}
    for sample in sorted(samples, key=lambda s: s["doc_id"]):
        by_filter.setdefault(sample["filter"], []).append(sample)
    rows = next(iter(by_filter.values()))
    names = [k for k, v in scores.items() if "," in k and "_stderr" not in k and _number(v)]
    return {
        "role": task.role,
        "task": task.name,
        "version": results["versions"].get(task.name),
        "num_fewshot": results["n-shot"].get(task.name, task.num_fewshot),
        "n": len(rows),
        "documents": sha256([[row["doc_id"], row["doc_hash"]] for row in rows]),
        "metrics": {name: _metric(name, scores, by_filter, task) for name in names},
    }


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _metric(
    name: str, scores: dict[str, Any], by_filter: dict[str, list[dict[str, Any]]], task: Task
) -> dict[str, Any]:
    metric, _, kind = name.partition(",")
    rows = by_filter.get(kind, [])
    if not rows or not all(_number(row.get(metric)) for row in rows):
        raise ValueError(f"task {task.name}: {name} has documents without a score")
    values = [float(row[metric]) for row in rows]
    if not all(math.isfinite(value) for value in values):
        raise ValueError(f"task {task.name}: {name} has a score that is not a number")
    stderr = scores.get(f"{metric}_stderr,{kind}")
    return {
        "value": scores[name],
        "stderr": stderr if _number(stderr) else None,
        "scores": [int(v) if v in (0, 1) else v for v in values],
    }

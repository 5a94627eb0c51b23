"""A slimlib arm or its record as `Results`, and what a record keeps of an evaluation.

A bare record has every document's score but not the documents' ids; the arm's folder has both, and
then the two must agree.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from slimlib.config import Task
from slimlib.files import sha256
from slimlib.results.rows import Rows, file_rows, is_finite, is_number
from slimlib.results.samples import read_samples
from slimlib.results.types import Results, ResultsError, Samples, Score, TaskResults


def read_record(record: Mapping[str, Any], path: Path) -> Results:
    """Results of a slimlib record.

    Args:
        record: its content.
        path: of its file; `eval/<task>/samples.jsonl` beside a record.json are read with it.

    Raises:
        ResultsError: the arm is not evaluated yet, or its files contradict its record.
    """
    try:
        return _read(record, path)
    except ResultsError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ResultsError(
            f"{path}: not a whole record of slimlib ({type(error).__name__}: {error}); "
            "run slimlib on the arm again"
        ) from None


def _read(record: Mapping[str, Any], path: Path) -> Results:
    stage = record["stages"].get("evaluate") or {}
    if stage.get("status") != "done":
        state = stage.get("status", "missing")
        raise ResultsError(
            f"{path}: the arm {record['arm']!r} is not evaluated (its evaluate stage: {state}); "
            "run slimlib on it first"
        )
    folder = path.parent / "eval" if path.name == "record.json" else None
    asked = record.get("config", {}).get("evaluate", {})
    limits = {task["name"]: task.get("limit") for task in asked.get("tasks", [])}
    notes: list[str] = []
    tasks = {}
    for name, entry in stage["tasks"].items():
        tasks[name] = _task(name, entry, limits.get(name), path, folder, notes)
    label = record.get("label") or record["arm"]
    return Results(str(path), label, tasks, _settings(record, asked), tuple(notes))


def _settings(record: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    versions = record.get("environment", {}).get("versions", {})
    settings = {
        "lm_eval_version": versions.get("lm_eval"),
        "transformers_version": versions.get("transformers"),
        "model": record.get("config", {}).get("model", {}).get("name"),
        "dtype": asked.get("dtype"),
        "max_length": asked.get("max_length"),
        "fewshot_seed": asked.get("fewshot_seed"),
        "evaluator": asked.get("evaluator"),
    }
    settings = {key: value for key, value in settings.items() if value is not None}
    sizes = {task["name"]: task.get("batch_size") for task in asked.get("tasks", [])}
    return {**settings, "batch_size": sizes} if sizes else settings


def _task(
    name: str,
    entry: Mapping[str, Any],
    limit: int | None,
    path: Path,
    folder: Path | None,
    notes: list[str],
) -> TaskResults:
    scores = {
        key: Score(float(metric["value"]), metric["stderr"])
        for key, metric in entry["metrics"].items()
    }
    samples = _recorded(name, entry, path)
    load = None
    file = folder / name / "samples.jsonl" if folder else None
    if file and file.is_file():
        rows = Rows(str(file), partial(file_rows, file))
        values = {key: score.value for key, score in scores.items()}
        found = read_samples(rows, name, values, entry["n"])
        _agree(found.samples, samples, file, path)
        samples, load = found.samples, found.load_rows
        notes.extend(found.notes)
    return TaskResults(
        task=name,
        scores=scores,
        samples=samples,
        version=entry.get("version"),
        num_fewshot=entry.get("num_fewshot"),
        limit=limit,
        n=entry["n"],
        role=entry.get("role"),
        load_rows=load,
    )


def _recorded(name: str, entry: Mapping[str, Any], path: Path) -> dict[str, Samples]:
    """Samples from the record alone: positions for ids, no hashes, but one for all documents."""
    n = entry["n"]
    by_filter: dict[str, dict[str, np.ndarray]] = {}
    for key, metric in entry["metrics"].items():
        values = metric["scores"]
        if len(values) != n or not all(is_finite(v) for v in values):
            raise ResultsError(
                f"{path}: {name}: {key} needs {n} scores that are numbers; evaluate the arm again"
            )
        column, _, kind = key.partition(",")
        by_filter.setdefault(kind, {})[column] = np.array(values, dtype=np.float64)
    nothing = (None,) * n
    return {
        kind: Samples(tuple(range(n)), nothing, nothing, scores, entry.get("documents"))
        for kind, scores in by_filter.items()
    }


def _agree(found: dict[str, Samples], recorded: dict[str, Samples], file: Path, path: Path) -> None:
    for kind, samples in recorded.items():
        for metric, values in samples.scores.items():
            other = found[kind].scores.get(metric) if kind in found else None
            if other is None or not np.array_equal(other, values):
                raise ResultsError(
                    f"{file}: its {metric} ({kind}) is not what {path} has; the two are not of one "
                    "run: evaluate the arm again"
                )


# ---- what a record keeps ----


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
    names = [k for k, v in scores.items() if "," in k and "_stderr" not in k and is_number(v)]
    return {
        "role": task.role,
        "task": task.name,
        "version": results["versions"].get(task.name),
        "num_fewshot": results["n-shot"].get(task.name, task.num_fewshot),
        "n": len(rows),
        "documents": sha256([[row["doc_id"], row["doc_hash"]] for row in rows]),
        "metrics": {name: _metric(name, scores, by_filter, task) for name in names},
    }


def _metric(
    name: str, scores: dict[str, Any], by_filter: dict[str, list[dict[str, Any]]], task: Task
) -> dict[str, Any]:
    metric, _, kind = name.partition(",")
    rows = by_filter.get(kind, [])
    if not rows or not all(is_number(row.get(metric)) for row in rows):
        raise ValueError(f"task {task.name}: {name} has documents without a score")
    values = [float(row[metric]) for row in rows]
    if not all(math.isfinite(value) for value in values):
        raise ValueError(f"task {task.name}: {name} has a score that is not a number")
    stderr = scores.get(f"{metric}_stderr,{kind}")
    return {
        "value": scores[name],
        "stderr": stderr if is_number(stderr) else None,
        "scores": [int(v) if v in (0, 1) else v for v in values],
    }

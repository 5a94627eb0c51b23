"""Slimlib's own records: those of a file, and an arm or its record as `Results`.

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

from slimlib.common.clusters import cluster_field
from slimlib.common.files import read_json, read_jsonl
from slimlib.common.schema import SchemaError, unpack_scores, upgrade
from slimlib.results.broken import is_no_number, tell_aggregate, tell_scores
from slimlib.results.migrate import grid_records, is_grid
from slimlib.results.raw import Rows, file_rows
from slimlib.results.samples import TaskSamples, read_samples
from slimlib.results.types import Results, ResultsError, Samples, Score, TaskResults


def read_records(path: Path) -> list[dict[str, Any]]:
    """The records of a file in today's schema: one of *.json, a line each of *.jsonl or *.jsonl.gz.

    Raises:
        ValueError: the file is not whole, holds no records, or those of a newer slimlib; names it.
    """
    rows = [read_json(path)] if path.suffix == ".json" else read_jsonl(path)
    try:
        return grid_records(rows) if is_grid(rows) else [upgrade(row) for row in rows]
    except SchemaError as error:
        raise SchemaError(f"{path}: {error}") from None
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} holds no records of slimlib ({error!r})") from None


def read_record(record: Mapping[str, Any], path: Path) -> Results:
    """Results of a slimlib record.

    Args:
        record: its content.
        path: of its file; `eval/<task>/samples.jsonl` beside a record.json are read with it.

    Raises:
        ResultsError: the arm is not evaluated yet, or its files contradict its record.
    """
    try:
        return _read(upgrade(record), path)
    except ResultsError:
        raise
    except SchemaError as error:
        raise ResultsError(f"{path}: {error}") from None
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
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
    if not isinstance(label, str):
        raise TypeError(f"its label is {label!r:.80}")
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
    samples, broken = _recorded(name, entry, path)
    scores = {
        key: Score(float(metric["value"]), metric["stderr"])
        for key, metric in entry["metrics"].items()
        if not is_no_number(metric["value"])
    }
    found = TaskSamples({}, [], None)
    file = folder / name / "samples.jsonl" if folder else None
    if file and file.is_file():
        rows = Rows(str(file), partial(file_rows, file))
        values = {key: scores[key].value if key in scores else math.nan for key in entry["metrics"]}
        found = read_samples(rows, name, values, entry["n"])
        _agree(found, samples, file, path)
        samples, broken = found.samples, broken | found.broken
        notes.extend(found.notes)
    settings = _configured(name, file)
    return TaskResults(
        task=name,
        scores=scores,
        samples=samples,
        version=entry.get("version"),
        num_fewshot=entry.get("num_fewshot"),
        limit=limit,
        n=entry["n"],
        role=entry.get("role"),
        output_type=settings.get("output_type") or found.output_type,
        generation=settings.get("generation_kwargs"),
        chance=found.chance,
        cluster=cluster_field(name),
        broken=broken,
        load_rows=found.load_rows,
    )


def _configured(name: str, samples: Path | None) -> Mapping[str, Any]:
    """The task's configuration, which lm-eval left in the results.json beside the samples."""
    file = samples.with_name("results.json") if samples else None
    if file is None or not file.is_file():
        return {}
    return (read_json(file).get("configs") or {}).get(name) or {}


def _recorded(
    name: str, entry: Mapping[str, Any], path: Path
) -> tuple[dict[str, Samples], dict[str, str]]:
    """Samples from the record alone, and why some metrics are no numbers.

    Positions stand for ids; there is no hash of a document, but one for all.
    """
    n = entry["n"]
    by_filter: dict[str, dict[str, np.ndarray]] = {}
    broken = {}
    for key, metric in entry["metrics"].items():
        values = unpack_scores(metric["scores"])
        if values.shape != (n,):
            raise ResultsError(
                f"{path}: {name}: {key} needs {n} scores that are numbers; evaluate the arm again"
            )
        column, _, kind = key.partition(",")
        columns = by_filter.setdefault(kind, {})
        if np.all(np.isfinite(values)) and not is_no_number(metric["value"]):
            columns[column] = values
        elif np.all(np.isfinite(values)):
            broken[key] = tell_aggregate(key, metric["value"])
        else:
            broken[key] = tell_scores(column, np.flatnonzero(~np.isfinite(values)).tolist(), n)
    nothing, clusters = (None,) * n, tuple(entry.get("clusters", ()))
    if len(clusters) not in (0, n):
        raise ResultsError(f"{path}: {name}: {len(clusters)} clusters of {n} documents")
    samples = {
        kind: Samples(
            tuple(range(n)), nothing, nothing, columns, entry.get("documents"), clusters=clusters
        )
        for kind, columns in by_filter.items()
    }
    return samples, broken


def _agree(found: TaskSamples, recorded: dict[str, Samples], file: Path, path: Path) -> None:
    for kind, samples in recorded.items():
        for metric, values in samples.scores.items():
            if f"{metric},{kind}" in found.broken:
                continue
            other = found.samples[kind].scores.get(metric) if kind in found.samples else None
            if other is None or not np.array_equal(other, values):
                raise ResultsError(
                    f"{file}: its {metric} ({kind}) is not what {path} has; the two are not of one "
                    "run: evaluate the arm again"
                )

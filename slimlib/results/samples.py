"""Every document's score from lm-eval's sample rows, checked against the task's aggregate.

Only ids, hashes and scores of the rows (`slimlib.results.raw`) are kept. Rows without a `filter`
are told apart by their order, which is checked.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from slimlib.common.files import documents_hash
from slimlib.common.values import is_finite, is_number, short
from slimlib.results.raw import Rows
from slimlib.results.types import ResultsError, Samples

PLAIN_MEANS = {"acc", "acc_norm", "exact_match", "em"}  # aggregates that are means over documents
TOLERANCE = 1e-6  # between an aggregate and the mean of the documents' scores
NO_SCORES = {"doc_id", "filter", "doc", "target", "idx"}  # numbers in old rows that are no scores
_MISSING = object()


class _Row(NamedTuple):
    doc_id: int | str
    filter: str | None
    doc_hash: str | None
    prompt_hash: str | None
    scores: dict[str, Any]


class TaskSamples(NamedTuple):
    """A task's samples by filter, the rules applied, and how to read its rows again."""

    samples: dict[str, Samples]
    notes: list[str]
    load_rows: Callable[[], list[dict[str, Any]]]


def read_samples(
    rows: Rows,
    task: str,
    aggregates: Mapping[str, float],
    n: int | None = None,
    aggregations: Mapping[str, str] | None = None,
    task_hash: str | None = None,
) -> TaskSamples:
    """Samples of one task.

    Args:
        rows: one per document and filter.
        task: for messages.
        aggregates: "metric,filter" -> value; empty: no results file, the rows say the metrics.
        n: documents that the results say were evaluated; None: unknown.
        aggregations: metric -> name of its aggregation, where the file says it.
        task_hash: lm-eval's hash over all rows, which proves them whole where it fits.

    Raises:
        ResultsError: rows are cut off, doubled, without a score, or contradict the aggregate.
    """
    where = f"{rows.label} ({task})"
    compact = _compact(rows, where, {name.partition(",")[0] for name in aggregates})
    names = tuple(aggregates) or _names(compact)
    filters = list(dict.fromkeys(name.partition(",")[2] for name in names))
    split = _by_filter(compact, filters, aggregates, where)
    samples, notes = {}, []
    n = _expected(rows, task, n, len(next(iter(split.values()))), task_hash, notes)
    for kind, chosen in split.items():
        if kind not in filters:
            notes.append(f"{task}: rows of filter {kind!r} have no aggregate and are left out")
            continue
        metrics = [name.partition(",")[0] for name in names if name.partition(",")[2] == kind]
        found = _samples(chosen, metrics, where, n, notes, task)
        _check_means(found.scores, kind, aggregates, aggregations or {}, where, notes, task)
        if found.scores:
            samples[kind] = found
    order = None if compact[0].filter is not None else list(split)
    return TaskSamples(samples, notes, partial(_labelled, rows, order))


def _expected(
    rows: Rows, task: str, n: int | None, found: int, task_hash: str | None, notes: list[str]
) -> int | None:
    """How many documents there must be; with --samples some versions say too many."""
    if n is None or n == found or task_hash is None:
        return n
    keys = ("doc_hash", "prompt_hash", "target_hash")
    text = "".join(str(row.get(key)) for row in rows.read() for key in keys)
    if _digest(text) != task_hash:
        return n
    notes.append(f"{task}: the results say {n} documents, the rows, which are whole, {found}")
    return found


def _labelled(rows: Rows, filters: list[str] | None) -> list[dict[str, Any]]:
    """The raw rows; those of old versions with the `filter` that they lack."""
    raw = [{**row, "doc_id": _doc_id(row)} for row in rows.read()]
    if filters is not None:
        seen: Counter[Any] = Counter()
        for row in raw:
            row["filter"] = filters[seen[row["doc_id"]]]
            seen[row["doc_id"]] += 1
    return raw


def _compact(rows: Rows, where: str, metrics: set[str]) -> list[_Row]:
    compact = []
    for row in rows.read():
        if not _is_row(row):
            raise ResultsError(
                f"{where}: row {len(compact) + 1} has no doc_id, so this is no samples file of "
                "lm-eval; give the samples_*.jsonl that --log_samples wrote"
            )
        compact.append(
            _Row(
                _doc_id(row),
                row.get("filter"),
                row.get("doc_hash") or _doc_hash(row),
                row.get("prompt_hash"),
                {m: row[m] for m in metrics or _metrics(row) if m in row},
            )
        )
    if not compact:
        raise ResultsError(f"{where} has no rows; evaluate the task again or remove the file")
    return compact


def _is_row(row: Any) -> bool:
    if not isinstance(row, Mapping) or not isinstance(row.get("filter"), str | None):
        return False
    doc_id = row.get("doc_id")
    whole = isinstance(doc_id, float) and doc_id.is_integer()
    return whole or isinstance(doc_id, int | str | np.integer)


def _doc_id(row: Mapping[str, Any]) -> int | str:
    """The id as a number where it is one: tools that rewrite the files make 7 into "7" or 7.0."""
    doc_id = row["doc_id"]
    if not isinstance(doc_id, str):
        return int(doc_id)
    plain = doc_id.isascii() and doc_id.isdecimal() and len(doc_id) < 19
    return int(doc_id) if plain and str(int(doc_id)) == doc_id else doc_id


def _metrics(row: Mapping[str, Any]) -> list[str]:
    """Metrics of a row: newer versions list them, in older ones they are its numbers."""
    named = row.get("metrics")
    if isinstance(named, list) and named and all(isinstance(m, str) for m in named):
        return named
    return [k for k, v in row.items() if k not in NO_SCORES and is_number(v)]


def _names(rows: list[_Row]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(f"{m},{row.filter or 'none'}" for row in rows for m in row.scores))


def _doc_hash(row: Mapping[str, Any]) -> str | None:
    """lm-eval's own hash of a document, for rows of the versions that did not write it."""
    if "doc" not in row:
        return None
    return _digest(json.dumps(row["doc"], indent=2, default=_plain, ensure_ascii=False))


def _digest(text: str) -> str:
    # surrogatepass: JSON may have half a character (\\ud83d), which UTF-8 has not
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    return list(value) if isinstance(value, set) else str(value)


def _by_filter(
    rows: list[_Row], filters: list[str], aggregates: Mapping[str, float], where: str
) -> dict[str, list[_Row]]:
    named = {row.filter for row in rows}
    if named == {None}:
        return _by_order(rows, filters, aggregates, where)
    if None in named:
        raise ResultsError(f"{where}: some rows name a filter and some do not; do not mix files")
    if lacking := [kind for kind in filters if kind not in named]:
        raise ResultsError(
            f"{where}: no rows of filter {lacking[0]!r} (a half-written file?); "
            "evaluate the task again or remove the file to go without its documents"
        )
    split: dict[str, list[_Row]] = {}
    for row in rows:
        split.setdefault(row.filter, []).append(row)
    return split


def _by_order(
    rows: list[_Row], filters: list[str], aggregates: Mapping[str, float], where: str
) -> dict[str, list[_Row]]:
    """Rows without a filter: the k-th row of a document belongs to the k-th filter.

    Which filter is k-th is settled by the aggregates; the results' order breaks ties.
    """
    turns: list[list[_Row]] = []
    seen: Counter[int | str] = Counter()
    for row in rows:
        if seen[row.doc_id] == len(turns):
            turns.append([])
        turns[seen[row.doc_id]].append(row)
        seen[row.doc_id] += 1
    ids = [[row.doc_id for row in turn] for turn in turns]
    if len(turns) != len(filters) or any(turn != ids[0] for turn in ids):
        raise ResultsError(
            f"{where}: rows without a filter must have every document {len(filters)} times, in the "
            f"order lm-eval wrote them (filters: {', '.join(filters)}); a document is doubled or "
            "missing, or the rows were rearranged: give the file as lm-eval wrote it"
        )
    fits = [[_fits(turn, kind, aggregates) for kind in filters] for turn in turns]
    chosen = _assign(fits)
    if chosen is None:
        raise ResultsError(
            f"{where}: rows without a filter whose means fit no filter of the results "
            f"({', '.join(filters)}); give the samples file of the same run"
        )
    return {filters[f]: turn for turn, f in zip(turns, chosen, strict=True)}


def _fits(rows: list[_Row], kind: str, aggregates: Mapping[str, float]) -> bool:
    for metric in PLAIN_MEANS:
        value = aggregates.get(f"{metric},{kind}")
        scores = [row.scores.get(metric) for row in rows]
        if value is None or not all(is_finite(score) for score in scores):
            continue
        if not math.isclose(sum(scores) / len(scores), value, rel_tol=0, abs_tol=TOLERANCE):
            return False
    return True


def _assign(fits: list[list[bool]], taken: tuple[int, ...] = ()) -> tuple[int, ...] | None:
    """The first assignment of turns to filters, each once, that fits; None: there is none."""
    if len(taken) == len(fits):
        return taken
    for kind, fit in enumerate(fits[len(taken)]):
        if fit and kind not in taken and (found := _assign(fits, (*taken, kind))) is not None:
            return found
    return None


def _samples(
    rows: list[_Row], metrics: list[str], where: str, n: int | None, notes: list[str], task: str
) -> Samples:
    rows = sorted(rows, key=lambda row: (isinstance(row.doc_id, str), row.doc_id))
    for before, after in itertools.pairwise(rows):
        if before.doc_id == after.doc_id:
            raise ResultsError(
                f"{where}: doc_id {after.doc_id} is there twice for one filter (two runs in one "
                "file?); give the file of one run"
            )
    if n is not None and len(rows) != n:
        raise ResultsError(
            f"{where}: {len(rows)} documents where the results say {n} (a half-written file, or "
            "one of another run); evaluate the task again or remove the file"
        )
    columns = {metric: _column(rows, metric, where, notes, task) for metric in metrics}
    ids = tuple(row.doc_id for row in rows)
    hashes = tuple(row.doc_hash for row in rows)
    prompts = tuple(row.prompt_hash for row in rows)
    scores = {metric: column for metric, column in columns.items() if column is not None}
    return Samples(ids, hashes, prompts, scores, documents_hash(ids, hashes))


def _column(
    rows: list[_Row], metric: str, where: str, notes: list[str], task: str
) -> np.ndarray | None:
    """(documents,) scores; None, with a note, for a metric that is not one number a document."""
    values = [row.scores.get(metric, _MISSING) for row in rows]
    kinds = set(map(type, values))
    if kinds == {object}:
        raise ResultsError(
            f"{where}: no row has {metric}, which the results have (rows of another task?); give "
            "the samples file of the same task and run"
        )
    if object in kinds:
        notes.append(f"{task}: {metric} is missing in some documents; only its aggregate is used")
        return None
    if kinds & {list, tuple, dict}:
        notes.append(f"{task}: {metric} is not one number a document; only its aggregate is used")
        return None
    for row, value in zip(rows, values, strict=True):
        if not is_finite(value):
            raise ResultsError(
                f"{where}: doc_id {row.doc_id} has {metric} = {short(value)}, which is no score; "
                "evaluate the task again or remove the file to go without its documents"
            )
    return np.array(values, dtype=np.float64)


def _check_means(
    scores: dict[str, np.ndarray],
    kind: str,
    aggregates: Mapping[str, float],
    aggregations: Mapping[str, str],
    where: str,
    notes: list[str],
    task: str,
) -> None:
    """Drop metrics that are no plain means; refuse documents that contradict the aggregate."""
    for metric in list(scores):
        value = aggregates.get(f"{metric},{kind}")
        mean = float(scores[metric].mean())
        if value is None or math.isclose(mean, value, rel_tol=0, abs_tol=TOLERANCE):
            continue
        if metric in PLAIN_MEANS and aggregations.get(metric, "mean") == "mean":
            raise ResultsError(
                f"{where}: the documents' mean {metric} is {mean:.6g} for filter {kind!r}, the "
                f"results say {value:.6g}; the two are not of one run: give those that are"
            )
        del scores[metric]
        notes.append(
            f"{task}: {metric} is not the mean of its documents' values; only its aggregate is used"
        )

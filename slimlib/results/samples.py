"""Every document's score from lm-eval's sample rows, checked against the task's aggregate.

Only what `slimlib.results.row` keeps of the rows is held. Rows without a `filter` are told apart by
their order, which is checked.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from slimlib.common.clusters import cluster_field, shared
from slimlib.common.files import documents_hash
from slimlib.common.values import is_finite, short
from slimlib.results.broken import is_no_number, tell_log_likelihoods, tell_scores
from slimlib.results.raw import Rows
from slimlib.results.requests import CHOICE, guessing_share
from slimlib.results.row import Row, compact, digest, doc_id_of
from slimlib.results.types import ResultsError, Samples

PLAIN_MEANS = {"acc", "acc_norm", "exact_match", "em"}  # aggregates that are means over documents
TOLERANCE = 1e-6  # between an aggregate and the mean of the documents' scores
_MISSING = object()


class TaskSamples(NamedTuple):
    """A task's samples by filter, the rules applied, and how to read its rows again."""

    samples: dict[str, Samples]
    notes: list[str]
    load_rows: Callable[[], Iterable[dict[str, Any]]] | None
    broken: dict[str, str] = {}  # noqa: RUF012  "metric,filter" -> why it is no number
    output_type: str | None = None
    chance: float | None = None  # share right by guessing


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
        aggregates: "metric,filter" -> value, NaN where the results have no number; empty: no
            results file, the rows say the metrics.
        n: documents that the results say were evaluated; None: unknown.
        aggregations: metric -> name of its aggregation, where the file says it.
        task_hash: lm-eval's hash over all rows, which proves them whole where it fits.

    Raises:
        ResultsError: rows are cut off, doubled, no scores, or contradict the aggregate.
    """
    where = f"{rows.label} ({task})"
    kept = compact(rows, where, {_metric(name) for name in aggregates}, cluster_field(task))
    names = tuple(aggregates) or _names(kept)
    filters = list(dict.fromkeys(name.partition(",")[2] for name in names))
    split = _by_filter(kept, filters, aggregates, where)
    samples, notes, broken = {}, [], {}
    first = next(iter(split.values()))
    n = _expected(rows, task, n, len(first), task_hash, notes)
    for kind, chosen in split.items():
        if kind not in filters:
            notes.append(f"{task}: rows of filter {kind!r} have no aggregate and are left out")
            continue
        metrics = [_metric(name) for name in names if name.partition(",")[2] == kind]
        chosen = _in_order(chosen, where, n)
        columns, why = _columns(chosen, metrics, where, notes, task)
        _check_means(columns, kind, aggregates, aggregations or {}, where, notes, task)
        broken |= {f"{metric},{kind}": reason for metric, reason in why.items()}
        if columns or why or any(map(math.isnan, _of(kind, aggregates))):
            samples[kind] = _samples(chosen, columns)
    load = partial(_labelled, rows, None if kept[0].filter is not None else list(split))
    requests = [row.request for row in first]
    kinds = {request.kind for request in requests}
    output_type = kinds.pop() if len(kinds) == 1 else None
    chance = None if _is_a_mass(kept, output_type) else guessing_share(requests)
    return TaskSamples(samples, notes, load, broken, output_type, chance)


def _is_a_mass(rows: list[Row], output_type: str | None) -> bool:
    """Whether accuracies are of no single choice, but the probability of all right ones.

    As in TruthfulQA's mc2, where guessing gets something else in every document.
    """
    scores = (row.scores.get("acc") for row in rows if output_type == CHOICE)
    return any(isinstance(score, float) and 0 < score < 1 for score in scores)


def _of(kind: str, aggregates: Mapping[str, float]) -> list[float]:
    return [value for name, value in aggregates.items() if name.partition(",")[2] == kind]


def _metric(name: str) -> str:
    return name.partition(",")[0]


def _expected(
    rows: Rows, task: str, n: int | None, found: int, task_hash: str | None, notes: list[str]
) -> int | None:
    """How many documents there must be; with --samples some versions say too many."""
    if n is None or n == found or task_hash is None:
        return n
    keys = ("doc_hash", "prompt_hash", "target_hash")
    text = "".join(str(row.get(key)) for row in rows.read() for key in keys)
    if digest(text) != task_hash:
        return n
    notes.append(f"{task}: the results say {n} documents, the rows, which are whole, {found}")
    return found


def _labelled(rows: Rows, filters: list[str] | None) -> Iterator[dict[str, Any]]:
    """The raw rows, one at a time; those of old versions with the `filter` that they lack."""
    seen: Counter[Any] = Counter()
    for row in rows.read():
        row = {**row, "doc_id": doc_id_of(row)}
        if filters is not None:
            row["filter"] = filters[seen[row["doc_id"]]]
            seen[row["doc_id"]] += 1
        yield row


def _names(rows: list[Row]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(f"{m},{row.filter or 'none'}" for row in rows for m in row.scores))


def _by_filter(
    rows: list[Row], filters: list[str], aggregates: Mapping[str, float], where: str
) -> dict[str, list[Row]]:
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
    split: dict[str, list[Row]] = {}
    for row in rows:
        split.setdefault(row.filter, []).append(row)
    return split


def _by_order(
    rows: list[Row], filters: list[str], aggregates: Mapping[str, float], where: str
) -> dict[str, list[Row]]:
    """Rows without a filter: the k-th row of a document belongs to the k-th filter.

    Which filter is k-th is settled by the aggregates; the results' order breaks ties.
    """
    turns: list[list[Row]] = []
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


def _fits(rows: list[Row], kind: str, aggregates: Mapping[str, float]) -> bool:
    for metric in PLAIN_MEANS:
        value = aggregates.get(f"{metric},{kind}")
        scores = [row.scores.get(metric) for row in rows]
        if not is_finite(value) or not all(is_finite(score) for score in scores):
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


def _in_order(rows: list[Row], where: str, n: int | None) -> list[Row]:
    """One filter's rows by document, each there once and none missing."""
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
    return rows


def _samples(rows: list[Row], scores: dict[str, np.ndarray]) -> Samples:
    ids = tuple(row.doc_id for row in rows)
    hashes = tuple(row.doc_hash for row in rows)
    prompts = tuple(row.prompt_hash for row in rows)
    answers = tuple(row.request.answer for row in rows)
    clusters = shared([row.cluster for row in rows])
    return Samples(ids, hashes, prompts, scores, documents_hash(ids, hashes), answers, clusters)


def _columns(
    rows: list[Row], metrics: list[str], where: str, notes: list[str], task: str
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """(documents,) scores of each metric that has them, and why others are no numbers."""
    if unanswered := [row.doc_id for row in rows if not row.request.finite]:
        return {}, dict.fromkeys(metrics, tell_log_likelihoods(unanswered, len(rows)))
    columns, broken = {}, {}
    for metric in metrics:
        values = [row.scores.get(metric, _MISSING) for row in rows]
        pairs = zip(rows, values, strict=True)
        if not _one_each(values, metric, where, notes, task):
            continue
        if lost := [row.doc_id for row, value in pairs if is_no_number(value)]:
            broken[metric] = tell_scores(metric, lost, len(rows))
        else:
            columns[metric] = _numbers(rows, values, metric, where)
    return columns, broken


def _one_each(values: list[Any], metric: str, where: str, notes: list[str], task: str) -> bool:
    """Whether a metric has one value for each document; a note where it has not."""
    kinds = set(map(type, values))
    if kinds == {object}:
        raise ResultsError(
            f"{where}: no row has {metric}, which the results have (rows of another task?); give "
            "the samples file of the same task and run"
        )
    if object in kinds:
        notes.append(f"{task}: {metric} is missing in some documents; only its aggregate is used")
        return False
    if kinds & {list, tuple, dict}:
        notes.append(f"{task}: {metric} is not one number a document; only its aggregate is used")
        return False
    return True


def _numbers(rows: list[Row], values: list[Any], metric: str, where: str) -> np.ndarray:
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
        if value is not None and math.isnan(value):
            del scores[metric]  # the results say themselves that it is no number
            continue
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

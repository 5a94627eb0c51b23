"""A sample row of lm-eval cut down to what is kept of it: ids, hashes, scores, its request."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from slimlib.common.clusters import cluster_of
from slimlib.common.values import is_number
from slimlib.results.raw import Rows
from slimlib.results.requests import Request, read_request
from slimlib.results.types import ResultsError

NO_SCORES = {"doc_id", "filter", "doc", "target", "idx"}  # numbers in old rows that are no scores


class Row(NamedTuple):
    """What one filter made of one document's answer."""

    doc_id: int | str
    filter: str | None
    doc_hash: str | None
    prompt_hash: str | None
    scores: dict[str, Any]
    request: Request
    cluster: str | None


def compact(rows: Rows, where: str, metrics: set[str], cluster: str) -> list[Row]:
    """The rows of a task, cut down.

    Args:
        rows: where they are.
        where: for messages.
        metrics: that the results have; empty: the rows say them.
        cluster: field of a document that names its cluster, or "".

    Raises:
        ResultsError: there are none, or they are no rows of lm-eval.
    """
    kept = []
    for row in rows.read():
        if not _is_row(row):
            raise ResultsError(
                f"{where}: row {len(kept) + 1} has no doc_id, so this is no samples file of "
                "lm-eval; give the samples_*.jsonl that --log_samples wrote"
            )
        kept.append(
            Row(
                doc_id_of(row),
                row.get("filter"),
                row.get("doc_hash") or _doc_hash(row),
                row.get("prompt_hash"),
                {m: row[m] for m in metrics or _metrics(row) if m in row},
                read_request(row),
                cluster_of(row.get("doc"), cluster) if cluster else None,
            )
        )
    if not kept:
        raise ResultsError(f"{where} has no rows; evaluate the task again or remove the file")
    return kept


def _is_row(row: Any) -> bool:
    if not isinstance(row, dict) or not isinstance(row.get("filter"), str | None):
        return False
    doc_id = row.get("doc_id")
    whole = isinstance(doc_id, float) and doc_id.is_integer()
    return whole or isinstance(doc_id, int | str | np.integer)


def doc_id_of(row: Mapping[str, Any]) -> int | str:
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


def _doc_hash(row: Mapping[str, Any]) -> str | None:
    """lm-eval's own hash of a document, for rows of the versions that did not write it."""
    if "doc" not in row:
        return None
    return digest(json.dumps(row["doc"], indent=2, default=_plain, ensure_ascii=False))


def digest(text: str) -> str:
    """lm-eval's hash of a text."""
    # surrogatepass: JSON may have half a character (\\ud83d), which UTF-8 has not
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    return list(value) if isinstance(value, set) else str(value)

"""The record of an arm, which both wings read and write: its schema, its scores, its older forms.

    schema, study, arm, label, compared_with, seed, config, environment,
    stages: finetune, merge, evaluate, each with its status, settings and outcome

    finetune   ... train_loss, last_loss (nats per token), parameters, trainable_parameters
    merge      ... logit_check, quantisation (bits_per_weight, mse, error_share, entropy_bits)
    evaluate   ... tasks: name -> role, n, documents, metrics: "metric,filter" -> value, stderr,
               scores (see `pack_scores`); clusters, a name for each document, where some share one

A sweep that a cell failed in adds `failed`, the reason. Schema 1, of slimlib 0.1, had lists of
scores, no last_loss, and the values of all methods in every adapter.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from slimlib.common.files import sha256

SCHEMA = 2
LAST_STEPS = 10  # the last loss is their mean: within one epoch, of rows not seen before
SHARED_VALUES = (
    *("method", "r", "lora_alpha", "lora_dropout", "target_modules", "keep_scale", "rules"),
)
OWN_VALUES = {  # method -> the values of an adapter that are its own, in schema 1
    "qlora": (),
    "ir-qlora": ("iec_beta",),
    "qa-lora": ("group_size",),
    "q-bara": ("lam",),
    "qa-hira": ("lam1", "lam2"),
}


class SchemaError(ValueError):
    """A record was written by a newer slimlib than this one."""


def pack_scores(scores: Sequence[float]) -> str | list[float]:
    """Scores of 0 and 1 as a text with a digit for each document; others stay a list.

    Example: 1, 0, 1, 1 -> "1011"; 0.5, 1 -> [0.5, 1].
    """
    if all(score in (0, 1) for score in scores):
        return "".join("1" if score else "0" for score in scores)
    return list(scores)


def unpack_scores(scores: str | Sequence[float]) -> np.ndarray:
    """Scores of a record as an array of shape (documents,), float64.

    Raises:
        ValueError: a text of other letters than 0 and 1, or a list of other things than numbers.
    """
    if not isinstance(scores, str):
        return np.array(scores, dtype=np.float64)
    found = np.frombuffer(scores.encode("utf-8"), dtype=np.uint8) - ord("0")
    if np.any(found > 1):
        raise ValueError(f"scores {scores[:20]!r}: must be digits 0 and 1, one per document")
    return found.astype(np.float64)


def last_loss(log: Sequence[Mapping[str, Any]]) -> float | None:
    """Mean training loss of the last steps, nats per token; None for an empty log.

    Args:
        log: rows of log.jsonl, each with step and, unless it is a probe's, loss.
    """
    rows = [row for row in log if "loss" in row]
    losses = [row["loss"] for row in rows if row["step"] > rows[-1]["step"] - LAST_STEPS]
    return round(float(np.mean(losses)), 6) if losses else None


def unfinished(record: Mapping[str, Any]) -> str:
    """Why an arm is not evaluated: how it failed, "cut off" or "not run"; "" for one that is."""
    stages = record["stages"]
    if stages.get("evaluate", {}).get("status") == "done":
        return ""
    return record.get("failed") or ("cut off" if stages else "not run")


# ------------------------------------------------------------------------------------ older schemas


def upgrade(
    record: Mapping[str, Any],
    source: Mapping[str, Any] | None = None,
    log: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """A record of any schema so far in the newest one; one that has it comes back as it is.

    Args:
        record: as it was stored.
        source: record, of any schema, of the arm whose adapter this one takes; what its merge is
            done with is known by that arm's settings.
        log: rows of the fine-tuning's log, for its last loss.

    Raises:
        SchemaError: the schema is newer than this slimlib.
    """
    found = record.get("schema", 1)  # at first records did not say it
    if found == SCHEMA:
        return dict(record)
    if found not in range(1, SCHEMA):
        raise SchemaError(
            f"a record of schema {found!r}, and this slimlib reads those up to {SCHEMA}: "
            "use a newer slimlib"
        )
    stages = {name: _stage(stage) for name, stage in record["stages"].items()}
    _rename(record["stages"], stages, source)
    loss = last_loss(log)
    if "finetune" in stages and loss is not None:
        stages["finetune"].setdefault("last_loss", loss)
    new = {"schema": SCHEMA, **record, "stages": stages}
    if "config" in record:
        new["config"] = _settings(record["config"])
    return new | {"schema": SCHEMA}


def _stage(stage: Mapping[str, Any]) -> dict[str, Any]:
    new = dict(stage)
    if "settings" in stage:
        new["settings"] = _settings(stage["settings"])
    if "tasks" in stage:
        new["tasks"] = {name: upgrade_task(task) for name, task in stage["tasks"].items()}
    return new


def upgrade_task(task: Mapping[str, Any]) -> dict[str, Any]:
    """A task's entry with its scores packed."""
    metrics = {
        name: {**metric, "scores": pack_scores(unpack_scores(metric["scores"]).tolist())}
        for name, metric in task["metrics"].items()
    }
    return {**task, "metrics": metrics}


def _settings(old: Mapping[str, Any]) -> dict[str, Any]:
    """A config, or what a stage read of it: of an adapter its method's own values alone."""
    adapter = old.get("adapter")
    if not isinstance(adapter, Mapping):  # none, or the key of the stage that made it
        return dict(old)
    known = (*SHARED_VALUES, *OWN_VALUES.get(adapter.get("method"), tuple(adapter)))
    return {**old, "adapter": {key: value for key, value in adapter.items() if key in known}}


def _rename(
    old: Mapping[str, Any], new: Mapping[str, Any], source: Mapping[str, Any] | None
) -> None:
    """Stages name the one they stand on by a hash of its settings; those have changed."""
    first = (source["stages"], upgrade(source)["stages"]) if source else (old, new)
    steps = (("finetune", *first, "merge", "adapter"), ("merge", old, new, "evaluate", "weights"))
    for below, before, after, above, key in steps:
        if {"settings"} <= before.get(below, {}).keys() & new.get(above, {}).keys():
            settings = new[above]["settings"]
            if settings.get(key) in _keys(before[below]["settings"]):
                settings[key] = sha256(after[below]["settings"])


def _keys(settings: Mapping[str, Any]) -> set[str]:
    """What slimlib 0.1 called these settings: it hashed every method's values, and 3 is not 3.0."""
    adapter = settings.get("adapter")
    if isinstance(adapter, Mapping):
        defaults = {"lam": 2, "lam1": 4, "lam2": 8, "group_size": 32, "iec_beta": "learned"}
        settings = {**settings, "adapter": defaults | adapter}
    text = json.dumps(settings, sort_keys=True, ensure_ascii=False)
    return {sha256(settings), hashlib.sha256(text.encode()).hexdigest()[:16]}

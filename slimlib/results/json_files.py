"""Load a JSON file that should hold evaluation results; say what a foreign one is instead."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from slimlib.results.types import ResultsError

NOT_JSON = (ValueError, RecursionError)  # broken; a number of 5,000 digits; nested without end
SAMPLES_FILE = "a samples file, one row a document, without the results it belongs to"
WAY_OUT = "give a results JSON of lm-evaluation-harness, its --output_path folder or a slimlib arm"


def load_results_json(path: Path) -> dict[str, Any]:
    """The object in a results file of lm-eval or a record of slimlib.

    Raises:
        ResultsError: the file is empty, binary, cut off, or another tool's; names it and says so.
    """
    data = _load(path)
    if reason := foreign(data):
        raise ResultsError(f"{path}: {reason}; {WAY_OUT}")
    return data


def _load(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ResultsError(f"{path}: a binary file, or not UTF-8 text; {WAY_OUT}") from None
    except OSError as error:
        raise ResultsError(f"{path}: cannot be read ({error.strerror}); {WAY_OUT}") from None
    if not text.strip():
        raise ResultsError(f"{path}: an empty file; {WAY_OUT}")
    try:
        return json.loads(text)
    except NOT_JSON as error:
        raise ResultsError(f"{path}: {_no_json(text, error)}; {WAY_OUT}") from None


def _no_json(text: str, error: Exception) -> str:
    try:
        row = json.loads(text.split("\n", 1)[0])
    except NOT_JSON:
        return f"not valid JSON ({error})"
    if isinstance(row, dict) and "doc_id" in row:
        return SAMPLES_FILE
    return "JSON Lines, not one JSON object"


def foreign(data: Any) -> str | None:
    """Why this is no results file that can be read; None: it is one of lm-eval or slimlib."""
    if isinstance(data, list):
        if data and isinstance(data[0], Mapping) and "doc_id" in data[0]:
            return SAMPLES_FILE
        return "a JSON list (HELM's statistics look so), not lm-eval's object"
    if not isinstance(data, Mapping):
        return "not a JSON object"
    for fits, reason in _KINDS:
        if fits(data):
            return reason
    if is_record(data):
        return None
    rows = data.get("results")
    if not isinstance(rows, Mapping) or not all(isinstance(row, Mapping) for row in rows.values()):
        return 'has no "results" object with one entry a task, so it is not of lm-eval'
    return None if rows else 'its "results" are empty: nothing was evaluated'


def is_record(data: Mapping[str, Any]) -> bool:
    """Whether this is a slimlib record."""
    return "stages" in data and "arm" in data


def _lighteval(data: Mapping[str, Any]) -> bool:
    rows = data.get("results")
    # "leaderboard|arc:challenge|25": suite, task, shots
    named = isinstance(rows, Mapping) and any(re.search(r"\|\d+$", str(name)) for name in rows)
    return named or "config_general" in data


def _opencompass(data: Mapping[str, Any]) -> bool:
    first = next(iter(data.values()), None)
    predictions = isinstance(first, Mapping) and "origin_prompt" in first
    return predictions or ("results" not in data and isinstance(data.get("accuracy"), int | float))


_KINDS: tuple[tuple[Callable[[Mapping[str, Any]], bool], str], ...] = (
    (_lighteval, "a file of lighteval or the Open LLM Leaderboard, whose layout is another"),
    (_opencompass, "a file of OpenCompass, whose layout is another"),
    (
        lambda d: "adapter_spec" in d or "request_states" in d,
        "a file of HELM, whose layout is another",
    ),
    (lambda d: "log_history" in d, "a trainer_state.json: it tells of a training run"),
    (lambda d: "peft_type" in d, "an adapter_config.json: it describes an adapter"),
    (
        lambda d: "architectures" in d or ("model_type" in d and "results" not in d),
        "a config.json: it describes a model",
    ),
    (lambda d: "doc_id" in d and "results" not in d, SAMPLES_FILE),
)

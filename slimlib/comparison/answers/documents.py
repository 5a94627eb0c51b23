"""lm-evaluation-harness's per-document rows: question, right answer and what the model answered.

Reads the layouts of memory and files alike: arguments as lists or "gen_args_0", log-likelihoods as
numbers or texts, the right option as index, letter or text.
"""

from __future__ import annotations

import re
from collections.abc import Container
from typing import Any

import numpy as np

from slimlib.metrics import is_binary
from slimlib.results.types import Samples, TaskResults


def right_documents(task: TaskResults, kind: str, metric: str) -> dict[Any, bool]:
    """doc_id -> whether a filter's answer is right.

    Raises:
        ValueError: no such scores, or others than 0 and 1.
    """
    samples = _samples(task, kind, metric)
    scores = samples.scores[metric]
    if not is_binary(scores):
        raise ValueError(
            f"{task.task}: {metric},{kind} has scores other than 0 and 1, so no answer is simply "
            "right or wrong; choose another metric, or the results of one seed"
        )
    good = 1 if task.higher_is_better.get(metric, True) else 0
    return dict(zip(samples.doc_ids, (scores == good).tolist(), strict=True))


def _samples(task: TaskResults, kind: str, metric: str) -> Samples:
    if not task.samples:
        raise ValueError(
            f"{task.task}: only aggregate scores; this needs per-document samples "
            "(evaluate with --log_samples)"
        )
    if kind not in task.samples or metric not in task.samples[kind].scores:
        known = [f"{m},{k}" for k, samples in task.samples.items() for m in samples.scores]
        raise ValueError(
            f"{task.task} has no {metric},{kind} for its documents; it has: {', '.join(known)}"
        )
    return task.samples[kind]


def rows_by_document(
    task: TaskResults, wanted: Container[Any] | None = None
) -> dict[Any, dict[str, Any]]:
    """doc_id -> its first row: the rows of other filters hold the same response.

    Args:
        task: with rows.
        wanted: doc_ids whose rows are kept; None: all.

    Raises:
        ValueError: no rows, or a row without a document.
    """
    if task.load_rows is None:
        raise ValueError(
            f"{task.task}: the answers themselves are not there, only scores; this needs "
            "per-document samples (evaluate with --log_samples)"
        )
    rows: dict[Any, dict[str, Any]] = {}
    for row in task.load_rows():
        if "doc_id" not in row:
            raise ValueError(f"{task.task}: a row of the samples has no doc_id; evaluate anew")
        if wanted is None or row["doc_id"] in wanted:
            rows.setdefault(row["doc_id"], row)
    return rows


def text_of(row: dict[str, Any]) -> str:
    """The first response of a row; "" where the model gave none."""
    value = row.get("resps", row.get("filtered_resps"))
    while isinstance(value, list | tuple):
        value = value[0] if value else ""
    return value if isinstance(value, str) else ""


def _arguments(row: dict[str, Any]) -> list[list[Any]]:
    """One [context, continuation or settings] per request, from either of lm-eval's layouts."""
    arguments = row.get("arguments") or []
    requests = list(arguments.values()) if isinstance(arguments, dict) else arguments
    requests = requests if isinstance(requests, list | tuple) else []
    requests = [list(r.values()) if isinstance(r, dict) else r for r in requests]
    return [list(r) for r in requests if isinstance(r, list | tuple)]


def _document(row: dict[str, Any]) -> dict[str, Any]:
    """The document's fields; none where it is a bare text."""
    document = row.get("doc")
    return document if isinstance(document, dict) else {}


def length_limit(row: dict[str, Any]) -> int | None:
    """The row's `max_gen_toks`; None: not set, so lm-eval's default held."""
    for request in _arguments(row):
        for settings in request[1:]:
            limit = settings.get("max_gen_toks") if isinstance(settings, dict) else None
            if type(limit) is int and 0 < limit < 10**9:
                return limit
    return None


def question_of(row: dict[str, Any]) -> str:
    """The question as the document has it, else the last 300 characters of the prompt."""
    document = _document(row)
    for key in ("question", "query", "ctx"):
        if isinstance(document.get(key), str):
            return document[key].strip()
    requests = _arguments(row)
    prompt = str(requests[0][0]).strip() if requests and requests[0] else ""
    return prompt if len(prompt) <= 300 else "... " + prompt[-300:]


def _log_likelihoods(row: dict[str, Any]) -> list[float]:
    """One per option; [] where the answer was generated."""
    if any(isinstance(item, dict) for request in _arguments(row) for item in request[1:]):
        return []
    values = []
    responses = row.get("filtered_resps") or row.get("resps")
    for item in responses if isinstance(responses, list | tuple) else []:
        while isinstance(item, list | tuple) and item:
            item = item[0]
        number = re.match(r"[\[(\s]*(-?(?:inf|\d+\.?\d*(?:e[-+]?\d+)?))", str(item))
        if not number:
            return []
        values.append(float(number.group(1)))
    return values if len(values) > 1 else []


def _continuations(row: dict[str, Any], options: int) -> list[str]:
    """What each option was scored by, without the space that joins it to the prompt."""
    texts = [str(request[1]).removeprefix(" ") for request in _arguments(row) if len(request) > 1]
    return texts[:options] if len(texts) >= options else []


def _options(row: dict[str, Any], options: int) -> list[str]:
    """Each option as "B: its text"; "B" alone where its text is not known."""
    document = _document(row)
    listed = document.get("choices", document.get("endings"))
    texts = listed.get("text") if isinstance(listed, dict) else listed
    if texts is None and "option1" in document:  # the options are in the contexts
        texts = [document["option1"], document.get("option2")]
    if not isinstance(texts, list) or len(texts) != options:
        texts = _continuations(row, options)
    letters = _letters(options)
    return (
        [f"{a}: {str(t).strip()}" for a, t in zip(letters, texts, strict=True)]
        if texts
        else letters
    )


def _letters(options: int) -> list[str]:
    return [chr(ord("A") + i) if i < 26 else str(i) for i in range(options)]


def chosen(row: dict[str, Any], metric: str) -> str:
    """The answer: the generated text, or the option with the highest log-likelihood.

    As in lm-eval: acc_norm divides it by the option's characters, acc_bytes by its bytes.
    """
    values = np.array(_log_likelihoods(row))
    if not len(values):
        return text_of(row).strip()
    texts = _continuations(row, len(values))
    if texts and metric == "acc_norm":
        values = values / [max(len(text), 1) for text in texts]
    elif texts and metric == "acc_bytes":
        values = values / [max(len(text.encode()), 1) for text in texts]
    return _options(row, len(values))[int(np.argmax(values))]


def gold_of(row: dict[str, Any]) -> str:
    """The right answer: the text wanted, or the right option."""
    target, count = row.get("target"), len(_log_likelihoods(row))
    if not count:
        return str(target if target is not None else "").strip()
    options = _options(row, count)
    golds = target if isinstance(target, list) else [target]
    places = [_place(gold, _continuations(row, count), count) for gold in golds]
    return " or ".join(
        options[p] if p is not None else str(g) for g, p in zip(golds, places, strict=True)
    )


def _place(gold: Any, texts: list[str], options: int) -> int | None:
    """Position of the right option: from its index (files have it as text), text or letter.

    Digits are an index first: so lm-eval reads them where the options are chosen from.
    """
    text, texts = str(gold).strip(), [t.strip() for t in texts]
    if text.isdecimal() and int(text) < options:
        return int(text)
    if text in texts:
        return texts.index(text)
    letters = _letters(options)
    return letters.index(text) if text in letters else None

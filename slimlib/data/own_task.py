"""One's own questions as a task of lm-evaluation-harness: a JSON Lines file, one question a line.

Three layouts, told by their columns:

    question, answer            the model writes; right if its first line is the answer
    question, choices, answer   right if the answer (the choice itself, a letter, or a place from
                                0, tried in this order) is the likeliest of the choices
    prompt, regex               the model writes; right if the expression is found in it; solved
                                examples show the column answer, where there is one
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from slimlib.common.names import check_name
from slimlib.data.readers import read_file

ENDS = (".jsonl", ".jsonl.gz")
MAX_NEW_TOKENS = 128  # of a written answer
WAYS = "question and answer; question, choices and answer; or prompt and regex"


def own_task(path: Path, shots: int | None = None) -> dict[str, Any]:
    """The configuration of a task over a file of questions, as lm-eval takes it.

    Its name is the file's.

    Args:
        path: of the file.
        shots: solved examples that shall stand before each question.

    Raises:
        ValueError: no such file, a name that cannot be a task's, or a row of no known layout; names
            file and row. Examples of questions whose answers are not known.
    """
    if not path.is_file():
        raise ValueError(f"task file {path} does not exist")
    rows = _read(path)
    layout = next((name for name in LAYOUTS if {*LAYOUTS[name][0]} <= rows[0].keys()), None)
    if layout is None:
        raise ValueError(f"{path} row 1 has {', '.join(rows[0])}; a question has {WAYS}")
    columns, read, config = LAYOUTS[layout]
    documents = []
    for number, row in enumerate(rows, 1):
        if missing := [column for column in columns if column not in row]:
            raise ValueError(f"{path} row {number} has no {missing[0]!r}, as row 1 has")
        try:
            documents.append(read(row))
        except ValueError as error:
            raise ValueError(f"{path} row {number}: {error}") from None
    if shots and not all("answer" in document for document in documents):
        raise ValueError(
            f"{path}: solved examples show an answer, and its rows have a regex alone: give each a "
            "column answer, or leave num_fewshot away"
        )
    if shots and shots >= len(documents):
        raise ValueError(
            f"{path}: num_fewshot={shots} other questions cannot stand before each of its "
            f"{len(documents)}"
        )
    name = path.name.removesuffix(".gz").removesuffix(".jsonl")
    return {
        "task": check_name(name),
        "custom_dataset": functools.partial(_dataset, tuple(documents)),
        "test_split": "test",
        "fewshot_split": "test",  # lm-eval leaves out the question itself
        "metadata": {"version": 1.0},
        **config,
    }


def _dataset(rows: Sequence[Mapping[str, Any]], **_: Any) -> Any:
    from datasets import Dataset, DatasetDict

    return DatasetDict({"test": Dataset.from_list([dict(row) for row in rows])})


def _read(path: Path) -> list[dict[str, Any]]:
    rows = read_file(path)
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise ValueError(f"{path} row {number} is not an object with columns")
    if not rows:
        raise ValueError(f"{path} has no questions")
    return rows


# ----------------------------------------------------------------------------------------- layouts


def _text(row: Mapping[str, Any], column: str) -> str:
    value = row[column]
    if isinstance(value, bool) or not isinstance(value, str | int | float) or value == "":
        raise ValueError(f"{column} is {value!r}: must be a text or a number")
    return str(value)


def _written(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"question": _text(row, "question"), "answer": _text(row, "answer")}


def _chosen(row: Mapping[str, Any]) -> dict[str, Any]:
    choices = row["choices"]
    if not isinstance(choices, list) or len(choices) < 2:
        raise ValueError(f"choices is {choices!r}: must be a list of two or more")
    choices, answer = [str(choice) for choice in choices], str(row["answer"])
    letters = [chr(ord("A") + place) for place in range(len(choices))]
    for names in (choices, letters, [str(place) for place in range(len(choices))]):
        if answer in names:
            place = names.index(answer)
            break
    else:
        raise ValueError(f"answer is {answer!r}: must be one of the choices, a letter or a place")
    return {"question": _text(row, "question"), "choices": choices, "answer": place}


def _searched(row: Mapping[str, Any]) -> dict[str, Any]:
    pattern = _text(row, "regex")
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"regex {pattern!r} is no regular expression ({error})") from None
    shown = {"answer": _text(row, "answer")} if "answer" in row else {}
    return {"prompt": _text(row, "prompt"), "regex": pattern, **shown}


def first_line(document: Mapping[str, Any], answers: Sequence[str]) -> dict[str, float]:
    """Whether the first written line is the answer, but for case, spaces and a full stop."""
    line = next((line for line in answers[0].strip().splitlines() if line.strip()), "")
    return {"exact_match": float(_plain(line) == _plain(document["answer"]))}


def found(document: Mapping[str, Any], answers: Sequence[str]) -> dict[str, float]:
    """Whether the document's regular expression is found in the answer."""
    return {"exact_match": float(re.search(document["regex"], answers[0]) is not None)}


def _plain(text: str) -> str:
    return " ".join(text.split()).rstrip(".").casefold()


def _mean(*names: str) -> list[dict[str, Any]]:
    return [{"metric": name, "aggregation": "mean", "higher_is_better": True} for name in names]


QUESTION = "Question: {{question}}\nAnswer:"


def _writes(prompt: str, target: str, until: list[str], process: Any) -> dict[str, Any]:
    stop = {"until": until, "do_sample": False, "max_gen_toks": MAX_NEW_TOKENS}
    return {
        "output_type": "generate_until",
        "doc_to_text": prompt,
        "doc_to_target": target,
        "generation_kwargs": stop,
        "process_results": process,
        "metric_list": _mean("exact_match"),
    }


# layout -> its columns, how a row is read, what lm-eval does with it; the first that fits is taken
LAYOUTS: dict[str, tuple[tuple[str, ...], Any, dict[str, Any]]] = {
    "choices": (
        ("question", "choices", "answer"),
        _chosen,
        {
            "output_type": "multiple_choice",
            "doc_to_text": QUESTION,
            "doc_to_target": "answer",
            "doc_to_choice": "choices",
            "metric_list": _mean("acc", "acc_norm"),
        },
    ),
    "answer": (
        ("question", "answer"),
        _written,
        _writes(QUESTION, "{{answer}}", ["\nQuestion:"], first_line),
    ),
    "searched": (
        ("prompt", "regex"),
        _searched,
        _writes("{{prompt}}", "{{answer if answer is defined else regex}}", [], found),
    ),
}

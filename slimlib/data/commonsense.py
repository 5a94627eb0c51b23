"""ARC, PIQA and WinoGrande in the layout of their hub copies, from rows in an instruction layout.

LLM-Adapters (Hu et al. 2023) publishes them as instructions: "Please choose the correct answer to
the question: ...", the choices numbered inside the text. What lm-eval's own tasks ask is rebuilt
from that: the question and the choices as they were, spaces at their ends too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from slimlib.data.readers import read_file

ASKED = re.compile(r"Please choose the correct [^:]*: ")
CHOICE = re.compile(r"(?:\n\n| )(?:Answer|Solution|Option)\d: ")
END = re.compile(r"(?:\n\n| )Answer format: [a-z0-9/]+$")
LETTERS = "ABCDE"


def split_row(row: Mapping[str, str]) -> tuple[str, list[str], int]:
    """The question, the choices, and the place of the right one from 0.

    Args:
        row: with "instruction" and "answer" ("answer2": the second).

    Raises:
        ValueError: it has no two choices, or none of the number of the answer.
    """
    text = ASKED.sub("", END.sub("", row["instruction"]), count=1)
    question, *choices = CHOICE.split(text)
    right = re.search(r"\d+$", row["answer"])
    if len(choices) < 2 or right is None or not 1 <= int(right[0]) <= len(choices):
        raise ValueError(
            f"{len(choices)} choices and the answer {row['answer']!r:.40}: must be two or more, "
            "numbered, and one of them"
        )
    return question, choices, int(right[0]) - 1


def _arc(row: Mapping[str, str]) -> dict[str, Any]:
    question, choices, right = split_row(row)
    labels = [*LETTERS[: len(choices)]]
    return {
        "question": question,
        "choices": {"text": choices, "label": labels},
        "answerKey": labels[right],
    }


def _piqa(row: Mapping[str, str]) -> dict[str, Any]:
    goal, (sol1, sol2), right = split_row(row)
    return {"goal": goal, "sol1": sol1, "sol2": sol2, "label": right}


def _winogrande(row: Mapping[str, str]) -> dict[str, Any]:
    sentence, (option1, option2), right = split_row(row)
    return {
        "sentence": sentence,
        "option1": option1,
        "option2": option2,
        "answer": str(right + 1),
    }


def _dataset(data_files: Mapping[str, str], native: Callable[..., dict[str, Any]]) -> Any:
    from datasets import Dataset, DatasetDict

    splits = {}
    for split, path in data_files.items():
        found = []
        for number, row in enumerate(read_file(Path(path)), 1):
            try:
                found.append(native(row))
            except (ValueError, KeyError) as error:
                raise ValueError(f"{path} row {number}: {error}") from None
        splits[split] = Dataset.from_list(found)
    return DatasetDict(splits)


def arc_dataset(data_files: Mapping[str, str], **_: Any) -> Any:
    """ARC as lm-eval reads it: question, choices (text and label), answerKey."""
    return _dataset(data_files, _arc)


def piqa_dataset(data_files: Mapping[str, str], **_: Any) -> Any:
    """PIQA: goal, sol1, sol2, label."""
    return _dataset(data_files, _piqa)


def winogrande_dataset(data_files: Mapping[str, str], **_: Any) -> Any:
    """WinoGrande: sentence, option1, option2, answer ("1" or "2")."""
    return _dataset(data_files, _winogrande)

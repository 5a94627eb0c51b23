"""lm-evaluation-harness tasks over local files.

Each local task is a YAML file made at run time that includes lm-eval's own definition and overrides
only where the rows come from, so prompts, filters and metrics stay lm-eval's.
"""

from __future__ import annotations

import csv
import functools
import logging
from pathlib import Path
from typing import Any

import yaml

from slimlib.common.hub import cached_rows
from slimlib.config import Task
from slimlib.data import alpaca, digits, micro

MMLU_LETTERS = ("A", "B", "C", "D")


def _json(**files: str) -> dict[str, Any]:
    return {"dataset_path": "json", "dataset_name": None, "files": files}


def _commonsense(name: str, split: str, file: str) -> dict[str, Any]:
    function = f"!function slimlib.data.commonsense.{name}_dataset"
    other = {"training_split": None, "validation_split": None, "test_split": None}
    files = {split: f"commonsense/{file}.jsonl.gz"}
    return {"custom_dataset": function, **other, f"{split}_split": split, "files": files}


def _mmlu(subject: str) -> dict[str, Any]:
    files = {"test": f"mmlu/test/{subject}_test.csv", "dev": f"mmlu/dev/{subject}_dev.csv"}
    return {"custom_dataset": "!function slimlib.data.tasks.mmlu_dataset", "files": files}


# source -> what replaces the hub; `files` are relative to the data folder
SOURCES: dict[str, dict[str, Any]] = {
    "gsm8k": _json(train="gsm8k/train.jsonl", test="gsm8k/test.jsonl"),
    "hellaswag": {
        **_json(validation="hellaswag/hellaswag_val_full.jsonl.gz"),
        "training_split": None,
    },
    "mmlu_high_school_computer_science": _mmlu("high_school_computer_science"),
    "mmlu_college_computer_science": _mmlu("college_computer_science"),
    "arc_easy": _commonsense("arc", "test", "arc_easy_test"),
    "arc_challenge": _commonsense("arc", "test", "arc_challenge_test"),
    "piqa": _commonsense("piqa", "validation", "piqa_valid"),
    "winogrande": _commonsense("winogrande", "validation", "winogrande_dev"),
    **{f"digits_{wording}": {"files": {}} for wording in digits.WORDINGS},  # made, not read
    **{f"digits_{wording}_chosen": {"files": {}} for wording in digits.WORDINGS},
    "alpaca_held_out": _json(train="alpaca/alpaca_author_5k.jsonl.gz"),
    "arithmetic": _json(train="arithmetic_train.jsonl", test="arithmetic_test.jsonl"),
    "stories": _json(test="stories_test.jsonl"),
    "facts": _json(test="facts_test.jsonl"),
    "instructions": _json(test="instructions_test.jsonl"),
    "instructions_dev": _json(test="instructions_dev.jsonl"),  # the choice of the rate
}


def quiet_lm_eval() -> None:
    """Keep lm-eval from warning of what is meant here, such as rows that no file holds."""
    logging.getLogger("lm_eval").setLevel(logging.ERROR)


def mmlu_dataset(data_files: dict[str, str], **_: Any) -> Any:
    """MMLU's published CSV files (no header) in the layout of its hub copy.

    Read by Python's csv, not pandas: "None", "007" and "0.10" are answers as they stand.

    Args:
        data_files: split -> path.

    Returns:
        A `datasets.DatasetDict`: question, choices (4 texts), answer (0-3, an integer: lm-eval
        takes a text for the choice itself, and would find no such choice).

    Raises:
        ValueError: a row that is not question, four choices and a letter A-D; names file and row.
    """
    from datasets import Dataset, DatasetDict

    splits = {}
    for split, path in data_files.items():
        with open(path, encoding="utf-8", newline="") as stream:
            rows = [_mmlu_row(row, i, path) for i, row in enumerate(csv.reader(stream), 1)]
        splits[split] = Dataset.from_list(rows)
    return DatasetDict(splits)


def _mmlu_row(row: list[str], number: int, path: str) -> dict[str, Any]:
    if len(row) != 6 or row[5].strip() not in MMLU_LETTERS:
        raise ValueError(f"{path} row {number} is not question, four choices and a letter A-D")
    return {
        "question": row[0],
        "choices": row[1:5],
        "answer": MMLU_LETTERS.index(row[5].strip()),
    }


def stock_yaml(name: str) -> Path:
    """The YAML file of a task: lm-eval's own, or one of ours.

    Raises:
        ValueError: no such task.
    """
    import lm_eval

    for folder in (
        micro.TASKS,
        digits.TASKS,
        alpaca.TASKS,
        Path(lm_eval.__file__).parent / "tasks",
    ):
        for pattern in (f"{name}.yaml", "default.yaml"):  # winogrande/default.yaml, ...
            for path in sorted(folder.rglob(pattern)):
                if _task_name(path) == name:
                    return path
    raise ValueError(f"lm-eval has no task {name!r} in a file of that name, or in a default.yaml")


def _task_name(path: Path) -> str | None:
    return _value(path, "task")


def _value(path: Path, wanted: str) -> str | None:
    """What a YAML file of a task has for a key, read without the code that it may name."""
    for line in path.read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition(":")
        if key.strip("\"' ") == wanted:
            return value.partition(" #")[0].strip("\"' ")
    return None


def hub_documents(task: Task) -> str | None:
    """The commit of a hub task's data set, as it lies in the cache; None: it does not."""
    dataset, config = dataset_of(task.name)
    return cached_rows(dataset, config) if dataset else None


def dataset_of(task: str) -> tuple[str | None, str | None]:
    """The data set that a task of lm-eval reads, and the configuration of it; None: not named."""
    path = str(stock_yaml(task))
    dataset, config = (_inherited(path, key) for key in ("dataset_path", "dataset_name"))
    return dataset, None if config in ("null", "~", "") else config


@functools.cache
def _inherited(path: str, key: str) -> str | None:
    """What a task's YAML file has for a key, or one that it includes."""
    value, included = _value(Path(path), key), _value(Path(path), "include")
    if value is None and included:
        return _inherited(str(Path(path).parent / included), key)
    return value


def task_yaml(task: Task, data_folder: Path | None, folder: Path) -> Path:
    """The YAML file to evaluate: the stock one, or one written to `folder` over local files.

    Raises:
        ValueError: unknown source; a data file is missing (names it).
    """
    stock = stock_yaml(task.name)
    if task.source is None:
        return stock
    files = check_files(task, data_folder)
    source = {key: value for key, value in SOURCES[task.source].items() if key != "files"}
    kwargs = {"dataset_kwargs": {"data_files": files}}
    config = {"include": str(stock), "task": task.name, **source, **kwargs}
    path = folder / f"{task.name}.yaml"
    path.write_text(_yaml(config), encoding="utf-8")
    return path


def check_files(task: Task, data_folder: Path | None) -> dict[str, str]:
    """split -> absolute path of a local task's files; ValueError names the first missing one."""
    if task.source not in SOURCES:
        raise ValueError(f"unknown task source {task.source!r}; known: {', '.join(SOURCES)}")
    if data_folder is None:
        raise ValueError(f"task {task.name}: source {task.source!r} needs a data folder")
    files = {
        split: Path(data_folder) / name for split, name in SOURCES[task.source]["files"].items()
    }
    for path in files.values():
        if not path.is_file():
            raise ValueError(f"task {task.name}: data file {path} does not exist")
    return {split: str(path.resolve()) for split, path in files.items()}


def _yaml(config: dict[str, Any]) -> str:
    functions = {k: v for k, v in config.items() if str(v).startswith("!function")}
    plain = {k: v for k, v in config.items() if k not in functions}
    lines = [f"{key}: {value}\n" for key, value in functions.items()]
    return yaml.safe_dump(plain, sort_keys=False) + "".join(lines)

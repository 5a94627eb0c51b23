"""lm-evaluation-harness tasks over local files.

Each local task is a YAML file made at run time that includes lm-eval's own definition and overrides
only where the rows come from, so prompts, filters and metrics stay lm-eval's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slimlib.config import Task

MMLU_COLUMNS = ["question", "A", "B", "C", "D", "answer"]


def _json(**files: str) -> dict[str, Any]:
    return {"dataset_path": "json", "dataset_name": None, "files": files}


def _mmlu(subject: str) -> dict[str, Any]:
    files = {"test": f"mmlu/test/{subject}_test.csv", "dev": f"mmlu/dev/{subject}_dev.csv"}
    return {
        "dataset_path": "csv",
        "dataset_name": None,
        "files": files,
        # the published files have no header; "None" and "NA" are answers, not missing values
        "dataset_kwargs": {"column_names": MMLU_COLUMNS, "keep_default_na": False},
        "process_docs": "!function slimlib.tasks.mmlu_docs",
    }


# source -> what replaces the hub; `files` are relative to the data folder
SOURCES: dict[str, dict[str, Any]] = {
    "gsm8k": _json(train="gsm8k/train.jsonl", test="gsm8k/test.jsonl"),
    "hellaswag": {
        **_json(validation="hellaswag/hellaswag_val_full.jsonl.gz"),
        "training_split": None,
    },
    "mmlu_high_school_computer_science": _mmlu("high_school_computer_science"),
    "mmlu_college_computer_science": _mmlu("college_computer_science"),
    "arithmetic": _json(train="arithmetic_train.jsonl", test="arithmetic_test.jsonl"),
    "stories": _json(test="stories_test.jsonl"),
    "facts": _json(test="facts_test.jsonl"),
}


def mmlu_docs(dataset: Any) -> Any:
    """MMLU's CSV rows in the layout of its hub copy: choices in a list, the answer as 0-3."""
    return dataset.map(
        lambda row: {
            "question": str(row["question"]),
            "choices": [str(row[letter]) for letter in "ABCD"],
            "answer": "ABCD".index(row["answer"].strip()),
        },
        remove_columns=list("ABCD"),
    )


def stock_yaml(name: str) -> Path:
    """The YAML file of a task: lm-eval's own, or one of the micro world.

    Raises:
        ValueError: no such task.
    """
    import lm_eval

    from slimlib.micro import TASKS

    for folder in (TASKS, Path(lm_eval.__file__).parent / "tasks"):
        for path in sorted(folder.rglob(f"{name}.yaml")):
            if _task_name(path) == name:
                return path
    raise ValueError(f"lm-eval has no task {name!r} in a file of that name")


def _task_name(path: Path) -> str | None:
    for line in path.read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition(":")
        if key.strip("\"' ") == "task":
            return value.strip("\"' ")
    return None


def task_yaml(task: Task, data_folder: Path | None, folder: Path) -> Path:
    """The YAML file to evaluate: the stock one, or one written to `folder` over local files.

    Raises:
        ValueError: unknown source; a data file is missing (names it).
    """
    stock = stock_yaml(task.name)
    if task.source is None:
        return stock
    if task.source not in SOURCES:
        raise ValueError(f"unknown task source {task.source!r}; known: {', '.join(SOURCES)}")
    source = dict(SOURCES[task.source])
    files = check_files(task, data_folder)
    kwargs = {**source.pop("dataset_kwargs", {}), "data_files": files}
    del source["files"]
    config = {"include": str(stock), "task": task.name, **source, "dataset_kwargs": kwargs}
    path = folder / f"{task.name}.yaml"
    path.write_text(_yaml(config), encoding="utf-8")
    return path


def check_files(task: Task, data_folder: Path | None) -> dict[str, str]:
    """split -> absolute path of a local task's files; ValueError names the first missing one."""
    files = {
        split: Path(data_folder) / name for split, name in SOURCES[task.source]["files"].items()
    }
    for path in files.values():
        if not path.is_file():
            raise ValueError(f"task {task.name}: data file {path} does not exist")
    return {split: str(path.resolve()) for split, path in files.items()}


def _yaml(config: dict[str, Any]) -> str:
    import yaml

    functions = {k: v for k, v in config.items() if str(v).startswith("!function")}
    plain = {k: v for k, v in config.items() if k not in functions}
    lines = [f"{key}: {value}\n" for key, value in functions.items()]
    return yaml.safe_dump(plain, sort_keys=False) + "".join(lines)

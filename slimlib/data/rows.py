"""Fine-tuning rows: how they are read, checked, chosen and mixed; `sources` says where they lie.

A row is {"instruction", "input", "output"} or {"messages": [...]}; `prompts` makes text of it.
"""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from slimlib.config import DataConfig
from slimlib.data.sources import DATASETS, ROW_FILES, check_name, local_file, open_text


def load_rows(config: DataConfig, seed: int, folder: Path | None = None) -> list[dict[str, Any]]:
    """Read the rows of a fine-tuning, chosen and mixed by a seed.

    Args:
        config: data set or mixture, number of rows, subset rule.
        seed: of the random subset and of the order of a mixture.
        folder: local folder that replaces the hub (`config.path` goes before it).

    Example:

        arm = slimlib.get_study("paper")["llama-2k"]
        rows = slimlib.load_rows(arm.data, arm.seed)  # [{"instruction": ..., "output": ...}, ...]

    Raises:
        ValueError: unknown data set, missing file, too few rows, or a row that lacks a column.
    """
    folder = Path(config.path) if config.path else folder
    if not config.mixture:
        rows = read_dataset(config.dataset, config.n, folder)
        return choose(rows, config.n, config.subset, seed)
    if config.n is None:
        raise ValueError("a mixture needs data.n, the number of rows in all")
    parts = {name: read_dataset(name, None, folder) for name in config.mixture}
    return mix_datasets(parts, config.mixture, config.n, seed)


def read_dataset(name: str, n: int | None, folder: Path | None) -> list[dict[str, Any]]:
    """All rows of a data set by name, .jsonl file or hub id[@revision], checked."""
    if folder and not folder.exists():
        raise ValueError(f"data path {folder} does not exist")
    if folder and folder.is_file():
        return read_rows_file(folder)
    if name.endswith(ROW_FILES):
        return read_rows_file(Path(name))
    if folder and name in DATASETS:
        return read_rows_file(local_file(name, n, folder))
    return check_rows(_read_hub(name), name)


def read_rows_file(path: Path) -> list[dict[str, Any]]:
    """Rows of a .jsonl (or .jsonl.gz) file, or of a .json list.

    Raises:
        ValueError: no such file, a line that is no JSON object, a row that lacks a column.
    """
    if not path.is_file():
        raise ValueError(f"data file {path} does not exist")
    try:
        with open_text(path) as stream:
            text = stream.read()
    except (UnicodeDecodeError, gzip.BadGzipFile, EOFError) as error:
        raise ValueError(f"{path} is not a whole UTF-8 text file ({error})") from None
    # not splitlines: it would also cut at U+2028, which JSON allows inside a string
    lines = [text] if path.suffix == ".json" else text.split("\n")
    rows = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise ValueError(f"{path} line {number} is not valid JSON ({error})") from None
    return check_rows(rows[0] if path.suffix == ".json" and rows else rows, str(path))


def _read_hub(name: str) -> Iterable[dict[str, Any]]:
    from datasets import load_dataset

    known = DATASETS.get(name)
    if known and not known.hub:
        raise ValueError(f"data set {name!r} is made by the micro study and lies in its run folder")
    if known:
        return load_dataset(known.hub, known.config, revision=known.revision, split="train")
    check_name(name)
    repository, _, revision = name.partition("@")
    return load_dataset(repository, revision=revision or None, split="train")


def check_rows(rows: Iterable[Mapping[str, Any]], where: str) -> list[dict[str, Any]]:
    """Bring rows of the known layouts to one; `question`/`answer` rows become instructions.

    Raises:
        ValueError: no rows, or a row without the columns; names the row and what it has.
    """
    rows = [_as_row(row, number, where) for number, row in enumerate(rows, 1)]
    if not rows:
        raise ValueError(f"{where} has no rows")
    return rows


def _as_row(row: Any, number: int, where: str) -> dict[str, Any]:
    if not isinstance(row, Mapping):
        raise ValueError(f"{where} row {number} is not an object with columns")
    if "messages" in row:
        return {"messages": _messages(row["messages"], f"{where} row {number}")}
    if "instruction" not in row and "question" in row and "answer" in row:
        row = {"instruction": row["question"], "output": row["answer"]}
    for column in ("instruction", "output"):
        if not isinstance(row.get(column), str):
            raise ValueError(
                f"{where} row {number} has no text column {column!r}; it has {sorted(row)}. "
                "Rows need instruction, input (may be empty) and output, or messages"
            )
    return {key: row.get(key) or "" for key in ("instruction", "input", "output")}


def _messages(messages: Any, where: str) -> list[dict[str, str]]:
    try:
        turns = [{"role": m["role"], "content": m["content"]} for m in messages]
    except (TypeError, KeyError):
        turns = []
    if not turns or not all(isinstance(text, str) for turn in turns for text in turn.values()):
        raise ValueError(f"{where}: messages must be a list of objects with role and content")
    return turns


def choose(rows: list[Any], n: int | None, subset: str, seed: int) -> list[Any]:
    """The first n rows ("head") or a seeded sample of n in random order ("random").

    Raises:
        ValueError: fewer rows than asked.
    """
    if n is not None and n > len(rows):
        raise ValueError(f"data.n={n} rows asked, the data set has {len(rows)}")
    if subset == "head":
        return rows[:n]
    return random.Random(seed).sample(rows, len(rows) if n is None else n)


def mix_datasets(
    parts: Mapping[str, list[Any]], weights: Mapping[str, float], n: int, seed: int
) -> list[Any]:
    """Mix n rows by a seed: each part's share by its weight, then shuffled.

    Example:
        >>> parts = {"alpaca": list(range(10)), "gsm8k": list(range(100, 110))}
        >>> mixed = slimlib.mix_datasets(parts, {"alpaca": 0.5, "gsm8k": 0.5}, n=6, seed=0)
        >>> len(mixed), sum(row >= 100 for row in mixed)
        (6, 3)

    Raises:
        ValueError: a part has fewer rows than its share.
    """
    total = sum(weights.values())
    counts = {name: int(n * weight / total) for name, weight in weights.items()}
    by_remainder = sorted(weights, key=lambda k: counts[k] - n * weights[k] / total)
    for name in by_remainder[: n - sum(counts.values())]:
        counts[name] += 1
    mixed = [row for name in weights for row in choose(parts[name], counts[name], "random", seed)]
    random.Random(seed).shuffle(mixed)
    return mixed


def check_local_rows(config: DataConfig, folder: Path | None = None) -> None:
    """Read the rows that lie on this machine, for their errors; the hub is not asked.

    Raises:
        ValueError: as `load_rows`.
    """
    for name in config.names:
        check_name(name)
    if config.path or folder or all(name.endswith(ROW_FILES) for name in config.names):
        load_rows(config, 0, folder)

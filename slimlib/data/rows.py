"""Fine-tuning rows: where they come from, how they are checked, chosen and mixed.

A row is {"instruction", "input", "output"} or {"messages": [...]}; `prompts` makes text of it.
Named data sets lie on the hub by pinned commit, or in a local folder that replaces it.
"""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slimlib.common.files import file_sha256
from slimlib.config import DataConfig


@dataclass(frozen=True)
class Source:
    """Where a named data set lies: on the hub by pinned commit, or in a local folder."""

    hub: str | None
    revision: str | None
    files: tuple[str, ...]  # tried in order; the first that holds enough rows is taken
    config: str | None = None


DATASETS = {
    "alpaca": Source(
        "tatsu-lab/alpaca",
        "dce01c9b08f87459cf36a430d809084718273017",
        (
            "alpaca/alpaca_head_1807.jsonl",  # in the original order
            "alpaca/alpaca_author_5k.jsonl.gz",
            "alpaca/alpaca_random_9229.jsonl.gz",
            "alpaca/alpaca_union_22898.jsonl.gz",
        ),
    ),
    # The train split only: the test split is a benchmark.
    "gsm8k": Source(
        "openai/gsm8k", "e53f048856ff4f594e959d75785d2c2d37b678ee", ("gsm8k/train.jsonl",), "main"
    ),
    "world": Source(None, None, ("instructions.jsonl",)),
    "world-maths": Source(None, None, ("arithmetic_train.jsonl",)),
}
WORLD = tuple(name for name, source in DATASETS.items() if not source.hub)  # made by a study
ROW_FILES = (".jsonl", ".jsonl.gz", ".json")


# ------------------------------------------------------------------------------------------- rows


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


def local_file(name: str, n: int | None, folder: Path) -> Path:
    """The first local file of a named data set that holds at least n rows.

    Raises:
        ValueError: none is there or none is large enough; lists what was found.
    """
    found = [folder / file for file in DATASETS[name].files if (folder / file).is_file()]
    if not found:
        wanted = " or ".join(DATASETS[name].files)
        raise ValueError(f"data set {name!r}: no {wanted} in {folder}")
    for path in found:
        if n is None or n <= _count_lines(path):
            return path
    sizes = ", ".join(f"{path.name}: {_count_lines(path)}" for path in found)
    raise ValueError(f"data set {name!r}: data.n={n} rows asked, {folder} has {sizes}")


def _open(path: Path) -> Any:
    opener = gzip.open if path.suffix == ".gz" else open
    return opener(path, "rt", encoding="utf-8")


def _count_lines(path: Path) -> int:
    with _open(path) as stream:
        return sum(1 for line in stream if line.strip())


def read_rows_file(path: Path) -> list[dict[str, Any]]:
    """Rows of a .jsonl (or .jsonl.gz) file, or of a .json list.

    Raises:
        ValueError: no such file, a line that is no JSON object, a row that lacks a column.
    """
    if not path.is_file():
        raise ValueError(f"data file {path} does not exist")
    try:
        with _open(path) as stream:
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


def check_name(name: str) -> None:
    """ValueError for a data set that is neither known nor a file nor a hub id."""
    if name not in DATASETS and "/" not in name and not name.endswith(ROW_FILES):
        known = ", ".join(DATASETS)
        raise ValueError(f"unknown data set {name!r}; known: {known}, a .jsonl file, or a hub id")


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


def check_in_world(config: DataConfig) -> None:
    """Refuse a named data set that a made-up world does not hold.

    Raises:
        ValueError: naming it and the way out.
    """
    for name in config.names:
        if name in DATASETS and name not in WORLD:
            raise ValueError(
                f"data set {name!r} is not part of this study's made-up world "
                f"({', '.join(WORLD)}); say where it lies with --set data.path=FOLDER"
            )


def check_local_rows(config: DataConfig, folder: Path | None = None) -> None:
    """Read the rows that lie on this machine, for their errors; the hub is not asked.

    Raises:
        ValueError: as `load_rows`.
    """
    for name in config.names:
        check_name(name)
    if config.path or folder or all(name.endswith(ROW_FILES) for name in config.names):
        load_rows(config, 0, folder)


def fingerprint(config: DataConfig, folder: Path | None = None) -> str:
    """What the rows were read from: hashes of local files, or pinned hub commits."""
    folder = Path(config.path) if config.path else folder
    return ", ".join(_fingerprint(name, config, folder) for name in config.names)


def _fingerprint(name: str, config: DataConfig, folder: Path | None) -> str:
    if folder and folder.is_file():
        return f"{folder.name} sha256:{file_sha256(folder)}"
    if name.endswith(ROW_FILES):
        return f"{Path(name).name} sha256:{file_sha256(Path(name))}"
    if folder and name in DATASETS:
        path = local_file(name, None if config.mixture else config.n, folder)
        return f"{path.name} sha256:{file_sha256(path)}"
    known = DATASETS.get(name)
    return f"{known.hub}@{known.revision}" if known else name

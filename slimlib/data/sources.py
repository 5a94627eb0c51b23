"""Where fine-tuning rows lie: on the hub by pinned commit, in files, in a made-up world.

A local folder replaces the hub. What was read is known by a fingerprint, not by its name.
"""

from __future__ import annotations

import gzip
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


def open_text(path: Path) -> Any:
    """A .jsonl or .jsonl.gz file to read as text."""
    opener = gzip.open if path.suffix == ".gz" else open
    return opener(path, "rt", encoding="utf-8")


def _count_lines(path: Path) -> int:
    with open_text(path) as stream:
        return sum(1 for line in stream if line.strip())


def check_name(name: str) -> None:
    """ValueError for a data set that is neither known nor a file nor a hub id."""
    if name not in DATASETS and "/" not in name and not name.endswith(ROW_FILES):
        known = ", ".join(DATASETS)
        raise ValueError(f"unknown data set {name!r}; known: {known}, a .jsonl file, or a hub id")


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

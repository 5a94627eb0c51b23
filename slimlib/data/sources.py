"""Where fine-tuning rows lie: on the hub by pinned commit, in files, in a made-up world.

A local folder replaces the hub. What was read is known by a fingerprint, not by its name.
"""

from __future__ import annotations

import functools
import gzip
import os
import re
from dataclasses import dataclass
from pathlib import Path

from slimlib.common.checked import did_you_mean
from slimlib.common.files import file_sha256, sha256
from slimlib.common.hub import HubError, find_commit
from slimlib.config import DataConfig
from slimlib.data import digits
from slimlib.studies.alignment import CELLS, rows_of


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
    "digits": Source(None, None, ()),
    **{  # the instructions, a quarter of them about each benchmark that is named
        rows_of(on): Source(None, None, (f"{'_'.join(('instructions', *on))}.jsonl",))
        for on in CELLS.values()
        if on
    },
}
MADE = {"digits": digits.rehearsal}  # wherever they are read, always the same rows
WORLD = tuple(n for n, s in DATASETS.items() if not s.hub and n not in MADE)  # made by a study
PLAIN_FILES = (".jsonl", ".json", ".csv", ".tsv")
ROW_FILES = (*PLAIN_FILES, *(f"{ending}.gz" for ending in PLAIN_FILES), ".parquet")
OTHER_FILES = (".txt", ".xlsx", ".xls", ".arrow", ".feather", ".xml", ".yaml", ".yml", ".zip")
OTHER_FILES += (".gz", ".pkl", ".pickle", ".md", ".pdf", ".db", ".sqlite")
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")


def repository_of(name: str) -> tuple[str, str | None]:
    """Hub id and revision of a data set by name, or by hub id[@revision]."""
    if (known := DATASETS.get(name)) and known.hub:
        return known.hub, known.revision
    repository, _, revision = name.partition("@")
    return repository, revision or None


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


def is_path(name: str) -> bool:
    """Whether a name is of a file or a folder, there or not, and of no data set on the hub."""
    if name in DATASETS:
        return False
    ends = name.lower().endswith((*ROW_FILES, *OTHER_FILES))
    looks = ends or name.startswith(("/", ".", "~")) or "\\" in name or os.path.exists(name)
    return looks or (Path(name).suffix[1:].isalpha() and bool(_near(Path(name))))


def refuse_rows(model: str) -> None:
    """Say that a file of rows was given where a model is asked for.

    Raises:
        ValueError: names the order.
    """
    if model.lower().endswith(ROW_FILES):
        raise ValueError(
            f"{model} is a file of rows and no model: the order is slimlib tune MODEL ROWS, "
            "slimlib check BASE TUNED --tasks ROWS"
        )


def find_file(name: str | Path) -> Path:
    """The file of rows at a path.

    Raises:
        ValueError: nothing is there, a folder, or a file that is not read.
    """
    path = Path(name).expanduser()
    kinds = ", ".join(ROW_FILES)
    if path.is_dir():
        raise ValueError(f"data path {path} is a folder; give a file of it ({kinds})")
    if not path.is_file():
        raise ValueError(f"data file {path} does not exist{_near(path)}")
    if not path.name.lower().endswith(ROW_FILES):
        raise ValueError(f"data file {path} is not read: save it as one of {kinds}")
    return path


def _near(path: Path) -> str:
    """ "; did you mean ...?" for the files of rows beside a path that are called nearly so."""
    beside = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    return did_you_mean(path.name, [file for file in beside if file.endswith(ROW_FILES)])


def _count_lines(path: Path) -> int:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as stream:
        return sum(1 for line in stream if line.strip())


def check_name(name: str) -> None:
    """Refuse a data set that is neither known nor a file nor a hub id.

    Raises:
        ValueError: naming it and what is known.
    """
    if name not in DATASETS and not is_path(name) and not HUB_ID.fullmatch(name):
        raise ValueError(
            f"unknown data set {name!r}; known: {', '.join(DATASETS)}, a file of rows "
            f"({', '.join(ROW_FILES)}), or a hub id as owner/name"
        )


def check_in_world(config: DataConfig) -> None:
    """Refuse a named data set that a made-up world does not hold.

    Raises:
        ValueError: naming it and the way out.
    """
    for name in config.names:
        if name in DATASETS and name not in (*WORLD, *MADE):
            raise ValueError(
                f"data set {name!r} is not part of this study's made-up world "
                f"({', '.join(WORLD)}); say where it lies with --set data.path=FOLDER"
            )


def fingerprint(config: DataConfig, folder: Path | None = None) -> str:
    """What the rows were read from: hashes of local files, or pinned hub commits."""
    folder = Path(config.path).expanduser() if config.path else folder
    return ", ".join(_fingerprint(name, config, folder) for name in config.names)


def _fingerprint(name: str, config: DataConfig, folder: Path | None) -> str:
    if name in MADE:
        return f"{name} {sha256(MADE[name]())}"
    if folder and not folder.is_dir():
        return _content(find_file(folder))
    if is_path(name):
        return _content(find_file(name))
    if folder and name in DATASETS:
        return _content(local_file(name, None if config.mixture else config.n, folder))
    known = DATASETS.get(name)
    return f"{known.hub}@{known.revision}" if known else name


def moving_rows(config: DataConfig) -> dict[str, str]:
    """Data set of the hub that names no commit -> the commit that it has now, where it answers."""
    if config.path:
        return {}
    names = [n for n in config.names if n not in DATASETS and not is_path(n)]
    commits = {name: _commit(name) for name in names}
    return {name: commit for name, commit in commits.items() if commit}


@functools.cache
def _commit(name: str) -> str | None:
    try:
        return find_commit(*repository_of(name), "dataset")
    except HubError:
        return None


def _content(path: Path) -> str:
    return f"{path.name} sha256:{file_sha256(path)}"

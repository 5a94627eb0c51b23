"""Fine-tuning rows: how they are read, chosen, split and mixed; `sources` says where they lie.

`layouts` brings every row to {"instruction", "input", "output"}, {"messages"} or {"text"};
`prompts` makes text of it.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from slimlib.common import progress
from slimlib.common.hub import COMMIT, HubError, ask, find_commit
from slimlib.config import DataConfig
from slimlib.data.layouts import Row, as_row
from slimlib.data.readers import frame_rows, read_file, whole_numbers
from slimlib.data.sources import (
    DATASETS,
    MADE,
    check_name,
    find_file,
    is_path,
    local_file,
    repository_of,
)


def load_rows(config: DataConfig, seed: int, folder: Path | None = None) -> list[Row]:
    """Read the rows of a fine-tuning, chosen and mixed by a seed.

    Args:
        config: data set or mixture, number of rows, subset rule.
        seed: of the random subset and of the order of a mixture.
        folder: local folder that replaces the hub (`config.path` goes before it).

    Example:

        arm = slimlib.get_study("paper")["llama-2k"]
        rows = slimlib.load_rows(arm.data, arm.seed)  # [{"instruction": ..., "output": ...}, ...]

    Raises:
        ValueError: unknown data set, missing file, too few rows, or a row of no known layout.
    """
    folder = Path(config.path).expanduser() if config.path else folder
    if not config.mixture:
        rows = read_dataset(config.dataset, config.n, folder)
        return choose(rows, config.n, config.subset, seed)
    if config.n is None:
        raise ValueError("a mixture needs data.n, the number of rows in all")
    parts = {name: read_dataset(name, None, folder) for name in config.mixture}
    return mix_datasets(parts, config.mixture, config.n, seed)


def read_dataset(name: str, n: int | None, folder: Path | None) -> list[Row]:
    """All rows of a data set by name, file or hub id[@revision]."""
    if name in MADE:
        return _as_rows(MADE[name](), name)
    if folder and not folder.is_dir():
        return read_rows(folder)
    if folder and name in DATASETS:
        return read_rows(local_file(name, n, folder))
    return read_rows(name)


def read_rows(source: Any) -> list[Row]:
    """Read rows of any layout, each of which knows where it stood.

    Args:
        source: a file (.jsonl, .json, .csv, .tsv, each also with .gz, or .parquet), a hub
            id[@revision], a `datasets.Dataset` or DatasetDict (its split train), a pandas
            DataFrame, or a list of objects with columns.

    Example:
        >>> slimlib.data.rows.read_rows([{"prompt": "2 + 2?", "completion": 4}])
        [{'instruction': '2 + 2?', 'input': '', 'output': '4'}]

    Raises:
        ValueError: nothing is there, or a row of no known layout; names the file and the row.
    """
    if isinstance(source, Path) or (isinstance(source, str) and is_path(source)):
        path = find_file(source)
        return _as_rows(read_file(path), str(path))
    if isinstance(source, str):
        return _as_rows(_read_hub(source), source)
    if isinstance(source, Mapping):  # a DatasetDict is one
        return read_rows(_train_split(source))
    if hasattr(source, "column_names"):
        return _as_rows(whole_numbers(source.with_format(None)), "the data set")
    if hasattr(source, "to_dict") and hasattr(source, "columns"):
        return _as_rows(frame_rows(source), "the table")
    if isinstance(source, Iterable):
        return _as_rows(source, "the list")
    raise ValueError(f"rows of type {type(source).__name__} are not read: give a file or a list")


def _as_rows(rows: Iterable[Any], where: str) -> list[Row]:
    found = [as_row(row, where, number) for number, row in enumerate(rows, 1)]
    if not found:
        raise ValueError(f"{where} has no rows")
    return found


def _train_split(splits: Mapping[str, Any]) -> Any:
    if not hasattr(splits, "column_names"):
        raise ValueError("the rows are one object: give a list of objects, each a row")
    if "train" not in splits:
        raise ValueError(f"no split train among {', '.join(map(str, splits))}: give one of them")
    if len(splits) > 1:
        progress.say(f"rows: the split train of {', '.join(map(str, splits))}")
    return splits["train"]


def _read_hub(name: str) -> Iterable[dict[str, Any]]:
    from datasets import load_dataset

    known = DATASETS.get(name)
    if known and not known.hub:
        raise ValueError(f"data set {name!r} is made by the micro study and lies in its run folder")
    check_name(name)
    repository, revision = repository_of(name)
    asked = (repository, known.config) if known else (repository,)
    try:
        commit = find_commit(repository, revision, "dataset") or revision
        load = partial(load_dataset, *asked, revision=commit, split="train")
        found = ask(load, repository, revision, "dataset")
    except HubError as error:
        raise ValueError(f"data set {error}") from None
    except (OSError, ValueError) as error:  # no split train, a file that is none
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"rows {name}: there is no such file here, and the hub cannot give it: {reason}"
        ) from None
    _check_commit(found, name, commit)
    return found


def _check_commit(found: Any, name: str, commit: str | None) -> None:
    """Refuse rows of another commit, which datasets takes from its cache when it must."""
    files = [file["filename"] for file in getattr(found, "cache_files", ())]
    if commit and COMMIT.fullmatch(commit) and not all(commit in file for file in files):
        raise ValueError(
            f"data set {name}: commit {commit[:12]} is not in this machine's cache, only another "
            "one is: read it once with the hub at hand (HF_HUB_OFFLINE unset)"
        )


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


def split_rows(
    rows: list[Any], share: float, seed: int, repeated: Collection[int] = ()
) -> tuple[list[Any], list[Any]]:
    """Split rows into those to train on and those that are held out, both in their order.

    Args:
        rows: of the fine-tuning.
        share: of the rows that is held out, from 0 to below 1; one row at least where it is above
            0 and there are two, and never all.
        seed: of the choice.
        repeated: places of rows that are there more than once, which are all trained on: held out,
            they would have been learned.
    """
    most = len(rows) - 1
    count = min(max(round(share * len(rows)), 1), most) if share > 0 and most > 0 else 0
    once = [place for place in range(len(rows)) if place not in repeated]
    chosen = {*random.Random(seed).sample(once, min(count, len(once)))}
    kept = [row for number, row in enumerate(rows) if number not in chosen]
    return kept, [rows[number] for number in sorted(chosen)]


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
    if config.path or folder or all(map(is_path, config.names)):
        load_rows(config, 0, folder)

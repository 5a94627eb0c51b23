"""The made-up world in a run folder: made once, and again where a file of it is lost."""

from __future__ import annotations

from pathlib import Path

from slimlib.common import progress
from slimlib.common.content import Hashes, differing
from slimlib.common.files import atomic_path, file_sha256, read_json, write_json
from slimlib.common.locks import writing
from slimlib.data.micro.world import write_data

SUMS = "sums.json"  # the hash of each file of it


def keep_world(folder: Path, lock: Path, hashes: Hashes) -> Path:
    """The folder of the world; made if it is not there whole.

    Args:
        folder: where it lies.
        lock: that the process which makes it holds.
        hashes: of its files, as far as they are remembered.
    """
    if _lost(folder, hashes):
        with writing(lock, "making the world"):
            if lost := _lost(folder, hashes):  # no other process has made it meanwhile
                if folder.exists():
                    progress.say(f"{folder}: {lost}: made again")
                _make(folder)
    return folder


def _lost(folder: Path, hashes: Hashes) -> str:
    """What is wrong with a world, in words; "" for nothing."""
    if not folder.is_dir():
        return "it is missing"
    try:
        sums = read_json(folder / SUMS)
    except (FileNotFoundError, ValueError):  # of an older slimlib, or damaged
        return f"{SUMS} is missing"
    return differing(hashes.files(folder, _files_in(folder)), sums)


def _make(folder: Path) -> None:
    with atomic_path(folder) as temporary:
        temporary.mkdir()
        write_data(temporary)
        write_json(temporary / SUMS, Hashes().files(temporary, _files_in(temporary)))


def identity_of_world(folder: Path) -> str | None:
    """What a world is, by content; None for none, or one of an older slimlib."""
    return file_sha256(folder / SUMS) if (folder / SUMS).is_file() else None


def _files_in(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_file() and path.name != SUMS]

"""An arm's record.json, and its copy, which stands in for it when it is damaged or missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slimlib.common import progress
from slimlib.common.files import read_json, write_json

RECORD = "record.json"
COPY = ".bak"  # after it


def load(path: Path) -> dict[str, Any] | None:
    """The record of a file or, where that is no whole record, of its copy; else None."""
    return _read(path) or _read(_copy_of(path))


def save(path: Path, record: dict[str, Any]) -> None:
    """Write a record, then its copy."""
    write_json(path, record)
    write_json(_copy_of(path), record)


def is_whole(path: Path) -> bool:
    """Whether a record, or nothing at all, lies at a path."""
    return _read(path) is not None or not (path.exists() or _copy_of(path).exists())


def mend(path: Path) -> None:
    """Put a damaged or missing record back from its copy; without one, set it aside."""
    if is_whole(path):
        return
    if copy := _read(_copy_of(path)):
        what = "is damaged" if path.exists() else "is missing"
        progress.say(f"{path} {what}: put back from its copy")
        write_json(path, copy)
        return
    progress.say(f"{path} is damaged, and so is its copy: the arm begins anew")
    for damaged in (path, _copy_of(path)):
        if damaged.exists():
            damaged.replace(damaged.with_name(f"{damaged.name}.damaged"))


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = read_json(path)
    except (FileNotFoundError, ValueError):
        return None
    return found if isinstance(found, dict) and isinstance(found.get("stages"), dict) else None


def _copy_of(path: Path) -> Path:
    return path.with_name(path.name + COPY)

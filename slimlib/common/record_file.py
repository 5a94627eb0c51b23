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


def is_damaged(path: Path) -> bool:
    """Whether a record was there, or its copy is, and it is no whole record now."""
    return _read(path) is None and (path.exists() or _copy_of(path).exists())


def needs_mending(path: Path) -> bool:
    """Whether a record is damaged, or its copy is not as it is."""
    if _read(path) is None:
        return is_damaged(path)
    copy = _copy_of(path)
    return not copy.is_file() or copy.read_bytes() != path.read_bytes()


def mend(path: Path) -> None:
    """Put a damaged or missing record back from its copy; without one, set it aside."""
    record, copy = _read(path), _read(_copy_of(path))
    if record is not None:  # a kill came between the two
        write_json(_copy_of(path), record)
    elif copy is not None:
        what = "is damaged" if path.exists() else "is missing"
        progress.say(f"{path} {what}: put back from its copy")
        write_json(path, copy)
    elif is_damaged(path):
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

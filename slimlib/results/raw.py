"""The sample rows of lm-eval, in files or in memory, and what counts as a number in them.

JSON Lines since 0.4.3, one JSON array in 0.4.0 to 0.4.2.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from slimlib.results.json_files import NOT_JSON
from slimlib.results.types import ResultsError


class Rows(NamedTuple):
    """Where a task's rows are: what to call the place, and how to read them."""

    label: str
    read: Callable[[], Iterable[Any]]


def embedded_rows(data: Mapping[str, Any], task: str, source: str) -> Rows | None:
    """The rows of a task inside the results object; None: there are none."""
    samples = data.get("samples")
    rows = samples.get(task) if isinstance(samples, Mapping) else None
    return Rows(source, lambda: rows) if isinstance(rows, list | tuple) and rows else None


def file_rows(path: Path) -> Iterator[Any]:
    """The rows of a samples file, JSON Lines or one JSON array.

    Raises:
        ResultsError: the file is not whole; names it and the line.
    """
    try:
        # newline: "\r" or U+2028 inside a string must not end a line
        with open(path, encoding="utf-8-sig", newline="\n") as stream:
            first = stream.readline()
            if first.lstrip().startswith("["):
                yield from _array(first + stream.read(), path)
                return
            for number, line in enumerate(itertools.chain([first], stream), 1):
                if line.strip():
                    yield _parsed(line, path, number)
    except UnicodeDecodeError:
        raise ResultsError(f"{path} is not UTF-8 text; give the file that lm-eval wrote") from None
    except OSError as error:
        raise ResultsError(f"{path} cannot be read ({error.strerror})") from None


def _parsed(line: str, path: Path, number: int) -> Any:
    try:
        return json.loads(line)
    except NOT_JSON:
        raise _half_written(path, number) from None


def _array(text: str, path: Path) -> list[Any]:
    try:
        return json.loads(text)
    except NOT_JSON as error:
        raise _half_written(path, getattr(error, "lineno", 1)) from None


def _half_written(path: Path, line: int) -> ResultsError:
    return ResultsError(
        f"{path} line {line} is not whole JSON (a half-written file?); "
        "evaluate the task again or remove the file to go without its documents"
    )

"""The files of results, opened: one JSON object, or the sample rows beside it.

Rows are JSON Lines since lm-eval 0.4.3, one JSON array in 0.4.0 to 0.4.2.
"""

from __future__ import annotations

import gzip
import itertools
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

from slimlib.results.types import ResultsError

NOT_JSON = (ValueError, RecursionError)  # broken; a number of 5,000 digits; nested without end
SAMPLES_FILE = "a samples file, one row a document, without the results it belongs to"


# --------------------------------------------------------------------------------- results objects


def load_results_json(path: Path) -> dict[str, Any]:
    """The object in a results file of lm-eval or a record of slimlib.

    Raises:
        ResultsError: the file is empty, binary, cut off, or another tool's; names it and says so.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        data = json.loads(text)
    except UnicodeDecodeError:
        raise foreign(path, "a binary file, or not UTF-8 text") from None
    except OSError as error:
        raise foreign(path, f"it cannot be read: {error.strerror}") from None
    except NOT_JSON as error:
        raise foreign(path, _no_json(text, error)) from None
    if reason := why_foreign(data):
        raise foreign(path, reason)
    return data


def foreign(source: Path | str, reason: str) -> ResultsError:
    """The one message about what is no results object."""
    return ResultsError(
        f"{source}: not results of lm-evaluation-harness or slimlib ({reason}); give a results "
        "JSON, the folder of --output_path, what lm_eval.simple_evaluate returned, or a slimlib arm"
    )


def _no_json(text: str, error: Exception) -> str:
    try:
        row = json.loads(text.split("\n", 1)[0])
    except NOT_JSON:
        return f"not valid JSON: {error}" if text.strip() else "an empty file"
    return SAMPLES_FILE if _is_sample(row) else "JSON Lines, not one JSON object"


def _is_sample(row: Any) -> bool:
    return isinstance(row, Mapping) and "doc_id" in row and "results" not in row


def why_foreign(data: Any) -> str | None:
    """Why this is no results object that can be read; None: it is one of lm-eval or slimlib."""
    if _is_sample(data) or (isinstance(data, list) and data and _is_sample(data[0])):
        return SAMPLES_FILE
    if not isinstance(data, Mapping):
        return "a JSON list" if isinstance(data, list) else "not a JSON object"
    if is_record(data):
        return None
    rows = data.get("results")
    if not isinstance(rows, Mapping) or not all(isinstance(row, Mapping) for row in rows.values()):
        if deeper := _one_level_deeper(data):
            return f'its "results" are one level deeper, under {deeper!r}; give that object'
        keys = ", ".join(map(repr, itertools.islice(data, 4))) or "nothing"
        return f'it has no "results" object with one entry a task, but {keys}'[:200]
    if any(re.search(r"\|\d+$", str(name)) for name in rows):  # leaderboard|arc:challenge|25
        return "a file of lighteval, whose layout is another"
    return None if rows else 'its "results" are empty: nothing was evaluated'


def _one_level_deeper(data: Mapping[str, Any]) -> str | None:
    """The key of an object inside that would be results of lm-eval; None: there is none."""
    inner = {str(key)[:60]: value for key, value in data.items() if isinstance(value, Mapping)}
    return next((key for key, value in inner.items() if why_foreign(value) is None), None)


def is_record(data: Mapping[str, Any]) -> bool:
    """Whether this is a slimlib record."""
    return "stages" in data and "arm" in data


# --------------------------------------------------------------------------------------------- rows


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
    """The rows of a samples file, JSON Lines or one JSON array, gzipped or not.

    Raises:
        ResultsError: the file is not whole; names it and the line.
    """
    try:
        with _opened(path) as stream:
            first = stream.readline()
            if first.lstrip().startswith("["):
                yield from _array(first + stream.read(), path)
                return
            for number, line in enumerate(itertools.chain([first], stream), 1):
                if line.strip():
                    yield _parsed(line, path, number)
    except UnicodeDecodeError:
        raise ResultsError(f"{path} is not UTF-8 text; give the file that lm-eval wrote") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ResultsError(
            f"{path} is not a whole gzip file ({error}); give the file that lm-eval wrote"
        ) from None
    except OSError as error:
        raise ResultsError(f"{path} cannot be read ({error.strerror})") from None


def _opened(path: Path) -> IO[str]:
    # newline: "\r" or U+2028 inside a string must not end a line
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="\n")
    return open(path, encoding="utf-8-sig", newline="\n")


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

"""Files and tables of rows as lists of columns: JSON, JSON Lines, CSV, TSV, Parquet, DataFrames."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from slimlib.common.files import parse_json
from slimlib.data.layouts import ANSWERS, QUESTIONS, TURNS

TABLES = {".csv": ",", ".tsv": "\t"}
DELIMITERS = (",", ";", "\t")  # a spreadsheet in a language with decimal commas writes ;


def read_file(path: Path) -> list[Any]:
    """The rows of a file as they stand in it, by its ending.

    Raises:
        ValueError: not whole, or not what its ending says; names the file and the line.
    """
    kind = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    if kind.lower() == ".parquet":
        return _parquet(path)
    text = _text(path)
    if kind.lower() in TABLES:
        return _separated(text, kind.lower(), path)
    return _json(text, path)


def _text(path: Path) -> str:
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8-sig", newline="") as stream:
            return stream.read()
    except (UnicodeDecodeError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(
            f"{path} is not a whole UTF-8 text file ({error}): save it anew, as UTF-8"
        ) from None


# ------------------------------------------------------------------------------------------- JSON


def _json(text: str, path: Path) -> list[Any]:
    """Rows of a list, of lines, or of the one list in an object, whatever the file is called."""
    start = text.lstrip()[:1]
    if start == "[":
        return _parsed(text, path)
    try:
        return _one_list(_parse(text), path) if start == "{" else _lines(text, path)
    except json.JSONDecodeError as error:
        if path.suffix == ".json" and "Extra data" not in str(error):
            raise ValueError(f"{path} line {error.lineno} is not valid JSON ({error})") from None
        return _lines(text, path)  # JSON Lines, under whichever name


def _lines(text: str, path: Path) -> list[Any]:
    # not splitlines: it would also cut at U+2028, which JSON allows inside a string
    numbered = [(n, line) for n, line in enumerate(text.split("\n"), 1) if line.strip()]
    return [_parsed(line, path, number) for number, line in numbered]


def _parsed(text: str, path: Path, number: int | None = None) -> Any:
    try:
        return _parse(text)
    except json.JSONDecodeError as error:
        line = number or error.lineno
        raise ValueError(f"{path} line {line} is not valid JSON ({error})") from None


def _parse(text: str) -> Any:
    """JSON with its numbers as they are written (0.10 stays 0.10), NaN as nothing."""
    return parse_json(text, parse_float=str, parse_int=str, parse_constant=lambda _: None)


def _one_list(value: Mapping[str, Any], path: Path) -> list[Any]:
    """The rows of a file that is one object: its only list of objects, or itself.

    Raises:
        ValueError: it has several such lists, or is a table by columns.
    """
    if {name.lower() for name in value} & {*TURNS, *QUESTIONS, *ANSWERS, "text"}:
        texts = [held for name, held in value.items() if name.lower() not in TURNS]
        if texts and all(map(_is_column, texts)):
            raise ValueError(
                f"{path} is one object of columns, and rows are read: write it as a list of "
                "objects (pandas: to_json(path, orient='records', lines=True))"
            )
        return [value]
    lists = [name for name, held in value.items() if _is_rows(held)]
    if len(lists) > 1:
        raise ValueError(f"{path} holds several lists of rows ({', '.join(lists)}): keep one")
    return list(value[lists[0]]) if lists else [value]


def _is_column(value: Any) -> bool:
    """Whether a value holds one cell of each row, as pandas and `datasets` write tables."""
    cells = [*value.values()] if isinstance(value, Mapping) else value
    return (
        isinstance(cells, list) and cells != [] and not any(isinstance(c, Mapping) for c in cells)
    )


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and value != [] and all(isinstance(v, Mapping) for v in value)


# ----------------------------------------------------------------------------------------- tables


def _separated(text: str, kind: str, path: Path) -> list[dict[str, str]]:
    """Rows of a CSV or TSV file, all as text: an answer of 7 or NA is that, no number."""
    head = text.split("\n", 1)[0]
    delimiter = TABLES[kind]
    if kind == ".csv" and delimiter not in head:
        delimiter = max(DELIMITERS, key=head.count)
    csv.field_size_limit(1 << 30)  # the library's own limit is below a long text
    lines = io.StringIO(text, newline="")
    reader = csv.DictReader(lines, delimiter=delimiter, strict=True)
    rows = []
    try:
        for number, row in enumerate(reader, 1):
            if None in row or None in row.values():
                more = "more" if None in row else "fewer"
                raise ValueError(
                    f"{path} row {number} has {more} fields than the {len(reader.fieldnames)} "
                    "columns of its first line"
                )
            rows.append(row)
    except csv.Error as error:
        raise ValueError(f"{path} row {len(rows) + 1} is no row of a table ({error})") from None
    return rows


def _parquet(path: Path) -> list[dict[str, Any]]:
    import pandas as pd

    try:
        # with Arrow's own types: lists of objects stay that, whole numbers with a gap whole
        return frame_rows(pd.read_parquet(path, dtype_backend="pyarrow"))
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path} is no whole Parquet file ({reason})") from None


def frame_rows(frame: Any) -> list[dict[str, Any]]:
    """The rows of a pandas DataFrame; what is missing is None."""
    cells = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return whole_numbers(_plain(row) for row in cells)


def _plain(value: Any) -> Any:
    """A cell in Python's own types: pandas holds lists of a Parquet file as numpy's arrays."""
    if isinstance(value, Mapping):
        return {name: _plain(held) for name, held in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(held) for held in value]
    return _plain(value.tolist()) if hasattr(value, "tolist") else value


def whole_numbers(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of a table with 7 in the place of 7.0 in columns where every number is whole.

    A column of whole numbers with a gap is held as floats by pandas and by Parquet.
    """
    rows = [dict(row) for row in rows]
    for name in rows[0] if rows else ():
        found = [row[name] for row in rows if isinstance(row.get(name), float)]
        numbers = [value for value in found if value == value]
        if numbers and all(value.is_integer() for value in numbers):
            for row in rows:
                value = row.get(name)
                row[name] = int(value) if isinstance(value, float) and value == value else value
    return rows

"""Text for a terminal: lines that fit it, tables in blocks of columns, no control characters."""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import groupby, zip_longest
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

UNBROKEN = 16  # characters: a shorter cell, as "[-45.72, -28.40]", stays on one line


def plain(text: str) -> str:
    """A text on one line, its control characters written out: they would steer a terminal.

    Example: "a\\x1b[31mb" -> "a\\\\x1b[31mb".
    """
    return visible(" ".join(str(text).split()))


def visible(text: str) -> str:
    """A text with its control characters written out, line ends too."""
    return "".join(map(_visible, text))


def _visible(character: str) -> str:
    """Controls, formats (which turn the direction of writing) and halves of characters."""
    if unicodedata.category(character) not in ("Cc", "Cf", "Cs"):
        return character
    return character.encode("unicode_escape").decode("ascii")


def wrapped(text: str, width: int, first: str = "", further: str = "") -> list[str]:
    """Lines of a text; "95 %" stays together."""
    indents = {"initial_indent": first, "subsequent_indent": further}
    text = plain(text).replace(" %", "\xa0%")
    lines = textwrap.wrap(text, width, break_on_hyphens=False, **indents)
    return [line.replace("\xa0", " ") for line in lines]


def text_table(table: pd.DataFrame, under: str, width: int) -> list[list[str]]:
    """The table in blocks of columns, each as wide as the terminal at most."""
    below = [plain(cell) for cell in table[under]] if under else None
    table = table.drop(columns=under) if under else table
    rows = list(rows_of(table))
    heads = [[*map(plain, (table.index.names[-1] or "", *table.columns))]]
    grouped = table.index.nlevels > 1
    names = [_indented(names[-1], "  " if grouped and names[0] else "") for names, _ in rows]
    lines = [[name, *map(plain, cells)] for name, (_, cells) in zip(names, rows, strict=True)]
    columns = list(zip(*heads, *lines, strict=True))
    groups = [plain(names[0]) if grouped else "" for names, _ in rows]
    least = [_least_width(cells) for cells in columns]
    least[0] = min(max(map(len, columns[0])), max(UNBROKEN, width // 3))
    blocks = _blocks(least, width)
    sentences = [None] * (len(blocks) - 1) + [below]  # below the last block only
    return [
        _block([columns[i] for i in block], [least[i] for i in block], groups, said, width)
        for block, said in zip(blocks, sentences, strict=True)
    ]


def _indented(name: str, indent: str) -> str:
    """A row's name with the spaces that it begins with, or those of a group's rows."""
    return f"{_indent(name) or indent}{plain(name)}"


def _indent(text: str) -> str:
    return text[: len(text) - len(text.lstrip(" "))]


def _least_width(cells: Sequence[str]) -> int:
    """What a column needs: its longest word, or short cell, as a whole."""
    head, *others = cells
    whole = [cell if len(cell) <= UNBROKEN else max(cell.split(), key=len) for cell in others]
    return max(min(len(text), UNBROKEN) for text in (*whole, *head.split(), ""))


def _blocks(widths: Sequence[int], width: int) -> list[list[int]]:
    """Which columns stand side by side; the first, of names, leads every block."""
    blocks = [[0]]
    for column in range(1, len(widths)):
        taken = sum(widths[i] + 2 for i in blocks[-1]) + widths[column]
        if taken > width and len(blocks[-1]) > 1:
            blocks.append([0])
        blocks[-1].append(column)
    return blocks


def _block(
    columns: Sequence[Sequence[str]],
    least: Sequence[int],
    groups: Sequence[str],
    below: Sequence[str] | None,
    width: int,
) -> list[str]:
    """Some columns side by side: heads, a rule, and the rows under their groups' headings."""
    widths = _widened(columns, least, width)
    right = [_is_numeric(cells[1:]) for cells in columns]
    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    head, *rows = (_side_by_side(cells, widths, right) for cells in zip(*columns, strict=True))
    lines = [*head, rule]
    for group, members in groupby(range(len(rows)), key=groups.__getitem__):
        at = list(members)
        if group:
            lines += wrapped(group, width)
        for i in at:
            lines += rows[i]
            last = i == at[-1]
            if below and (last or below[i + 1] != below[i]):  # what rows share is said once
                lines += [*wrapped(below[i], width, "    ", "    "), *([] if last else [""])]
        lines += [rule] if at[-1] + 1 < len(rows) else []
    return lines


def _widened(columns: Sequence[Sequence[str]], least: Sequence[int], width: int) -> list[int]:
    """Share the room that is left among the columns whose cells are still broken."""
    wanted = [max(map(len, cells[1:]), default=0) for cells in columns]
    widths = list(least)
    while hungry := [i for i, found in enumerate(widths) if found < wanted[i]]:
        for i in hungry:
            if sum(widths) + 2 * (len(widths) - 1) >= width:
                return widths
            widths[i] += 1
    return widths


def _is_numeric(cells: Sequence[str]) -> bool:
    """Whether most cells begin as numbers do, and none is a sentence."""
    numbers = sum(cell[:1] in set("+-[<0123456789") for cell in cells)
    return 2 * numbers > len(cells) and max(map(len, cells)) <= UNBROKEN


def _side_by_side(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> list[str]:
    """One row, each cell wrapped in its column."""
    stacks = []
    for cell, width, to_right in zip(cells, widths, right, strict=True):
        lines = wrapped(cell, width, _indent(cell), _indent(cell))
        stacks.append([line.rjust(width) if to_right else line.ljust(width) for line in lines])
    blank = [" " * width for width in widths]
    lines = zip_longest(*stacks)
    return ["  ".join(p or b for p, b in zip(line, blank, strict=True)).rstrip() for line in lines]


def rows_of(table: pd.DataFrame) -> Iterator[tuple[tuple[str, ...], list[str]]]:
    """Each row's names, one for each level of the index, and its cells."""
    for name, cells in zip(table.index, table.to_numpy(), strict=True):
        names = name if isinstance(name, tuple) else (name,)
        yield tuple(map(str, names)), list(map(str, cells))

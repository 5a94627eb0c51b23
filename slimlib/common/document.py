"""One document for all that is shown: title, points, table, notes as text, Markdown or HTML.

Text fits the terminal: sentences are wrapped, cells too, and the columns of a wide table that find
no room go into a further block below. Whatever a model, a task or a file is called, nothing in it
reaches a terminal as a control character, or Markdown and HTML as markup.
"""

from __future__ import annotations

import html
import re
import shutil
import textwrap
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, zip_longest
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

Point = str | tuple[str, Sequence[str]]  # a sentence, or a sentence and what belongs to it

NARROWEST = 40  # columns: in a narrower terminal lines run over its edge
PROSE = 100  # columns: longer lines of text are hard to read
UNBROKEN = 16  # characters: a shorter cell, as "[-45.72, -28.40]", stays on one line


@dataclass(frozen=True)
class Document:
    """What is shown of a result: see `to_text`, `to_markdown` and `to_html`.

    Example:
        document = Document("A result", ["It held."], notes=["n = 200"])
        print(document.to_text(columns=80))
    """

    title: str
    points: Sequence[Point] = ()
    table: pd.DataFrame | None = None  # of texts; the first of two index levels heads its rows
    notes: Sequence[str] = ()
    under: str = ""  # a column of sentences: a terminal has each below its row

    def to_text(self, columns: int | None = None) -> str:
        """The document as text of so many columns (default: the terminal's, else 80)."""
        width = max(columns or shutil.get_terminal_size((80, 24)).columns, NARROWEST)
        prose = min(width, PROSE)
        title = _wrapped(self.title, prose)
        parts = [[*title, "=" * max(map(len, title), default=0)]]
        parts += [_text_points(self.points, prose)]
        parts += _text_table(self.table, self.under, width) if _has_rows(self.table) else []
        parts += [[line for note in self.notes for line in _wrapped(note, prose, "- ", "  ")]]
        return "\n\n".join("\n".join(part) for part in parts if part)

    def to_markdown(self) -> str:
        """The document as Markdown: a heading, a list, a table, a list of notes."""
        lists = []
        for sentence, inner in map(_with_parts, self.points):
            lists.append(f"- {markdown_text(sentence)}")
            lists += [f"  - {markdown_text(part)}" for part in inner]
        parts = [f"### {markdown_text(self.title)}", "\n".join(lists)]
        parts += [markdown_table(self.table)] if _has_rows(self.table) else []
        parts += ["\n".join(f"- {markdown_text(note)}" for note in self.notes)]
        return "\n\n".join(part for part in parts if part)

    def to_html(self) -> str:
        """The document as HTML, for a notebook or a page."""
        parts = [f"<h4>{_html(self.title)}</h4>"]
        if self.points:
            parts.append(f"<ul>{''.join(map(_html_point, self.points))}</ul>")
        parts += [_html_table(self.table)] if _has_rows(self.table) else []
        parts += [f"<p><small>{_html(note)}</small></p>" for note in self.notes]
        return "\n".join(parts)

    def _repr_html_(self) -> str:
        return self.to_html()


class Shown:
    """A result that is shown as a document: its class says what stands in it."""

    def document(self) -> Document:
        """What is shown of it."""
        raise NotImplementedError

    def to_text(self, columns: int | None = None) -> str:
        """As text of so many columns (default: the terminal's, else 80)."""
        return self.document().to_text(columns)

    def to_markdown(self) -> str:
        """As Markdown; names and answers in it are escaped."""
        return self.document().to_markdown()

    def _repr_html_(self) -> str:
        return self.document().to_html()


def plain(text: str) -> str:
    """A text on one line, its control characters written out: they would steer a terminal.

    Example: "a\\x1b[31mb" -> "a\\\\x1b[31mb".
    """
    return "".join(map(_visible, " ".join(str(text).split())))


def _visible(character: str) -> str:
    """Controls, formats (which turn the direction of writing) and halves of characters."""
    if unicodedata.category(character) not in ("Cc", "Cf", "Cs"):
        return character
    return character.encode("unicode_escape").decode("ascii")


def markdown_text(text: str) -> str:
    """Text that neither ends a Markdown cell nor starts a tag, a link or an emphasis."""
    text = plain(text)
    for character in "\\|*`":
        text = text.replace(character, f"\\{character}")
    text = text.replace("](", "]\\(").replace("&", "&amp;")
    return re.sub("<(?=[^ ])", "&lt;", text)  # "< 0.001" starts no tag


def point_lines(points: Sequence[Point]) -> list[str]:
    """The points as lines, unwrapped; what belongs to one is indented below it."""
    pairs = map(_with_parts, points)
    return [line for said, inner in pairs for line in (said, *(f"  {part}" for part in inner))]


def _with_parts(point: Point) -> tuple[str, Sequence[str]]:
    return (point, ()) if isinstance(point, str) else point


def _has_rows(table: pd.DataFrame | None) -> bool:
    return table is not None and len(table) > 0


# ------------------------------------------------------------------------------ HTML and Markdown


def _html(text: str) -> str:
    return html.escape(plain(text))


def _html_point(point: Point) -> str:
    sentence, inner = _with_parts(point)
    below = f"<ul>{''.join(f'<li>{_html(part)}</li>' for part in inner)}</ul>" if inner else ""
    return f"<li>{_html(sentence)}{below}</li>"


def _html_table(table: pd.DataFrame) -> str:
    import pandas as pd

    table = table.map(plain).rename(index=plain, columns=plain)
    table.index.names = [name and plain(name) for name in table.index.names]
    with pd.option_context("display.max_colwidth", None):  # else it cuts texts at 50 characters
        return table.to_html()


def markdown_table(table: pd.DataFrame) -> str:
    levels = [str(name or "") for name in table.index.names]
    lines = [[*levels, *map(str, table.columns)], ["---"] * (len(levels) + table.shape[1])]
    heading = None
    for names, cells in _rows(table):
        first = ["" if names[0] == heading else names[0]] if len(names) > 1 else []
        heading = names[0]
        lines.append([*first, names[-1], *cells])
    return "\n".join(f"| {' | '.join(map(markdown_text, line))} |" for line in lines)


def _rows(table: pd.DataFrame) -> Iterator[tuple[tuple[str, ...], list[str]]]:
    """Each row's names, one for each level of the index, and its cells."""
    for name, cells in zip(table.index, table.to_numpy(), strict=True):
        names = name if isinstance(name, tuple) else (name,)
        yield tuple(map(str, names)), list(map(str, cells))


# ---------------------------------------------------------------------------------------- text


def _wrapped(text: str, width: int, first: str = "", further: str = "") -> list[str]:
    """Lines of a text; "95 %" stays together."""
    indents = {"initial_indent": first, "subsequent_indent": further}
    text = plain(text).replace(" %", "\xa0%")
    lines = textwrap.wrap(text, width, break_on_hyphens=False, **indents)
    return [line.replace("\xa0", " ") for line in lines]


def _text_points(points: Sequence[Point], width: int) -> list[str]:
    lines = []
    for sentence, inner in map(_with_parts, points):
        lines += _wrapped(sentence, width, "", "  ")
        for part in inner:
            lines += _wrapped(part, width, "  ", "    ")
    return lines


def _text_table(table: pd.DataFrame, under: str, width: int) -> list[list[str]]:
    """The table in blocks of columns, each as wide as the terminal at most."""
    below = [plain(cell) for cell in table[under]] if under else None
    table = table.drop(columns=under) if under else table
    rows = list(_rows(table))
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
            lines += _wrapped(group, width)
        for i in at:
            lines += rows[i]
            last = i == at[-1]
            if below and (last or below[i + 1] != below[i]):  # what rows share is said once
                lines += [*_wrapped(below[i], width, "    ", "    "), *([] if last else [""])]
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
        lines = _wrapped(cell, width, _indent(cell), _indent(cell))
        stacks.append([line.rjust(width) if to_right else line.ljust(width) for line in lines])
    blank = [" " * width for width in widths]
    lines = zip_longest(*stacks)
    return ["  ".join(p or b for p, b in zip(line, blank, strict=True)).rstrip() for line in lines]

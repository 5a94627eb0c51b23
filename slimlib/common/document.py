"""One document for all that is shown: title, points, table, notes as text, Markdown or HTML.

Text fits the terminal: sentences are wrapped, cells too, and the columns of a wide table that find
no room go into a further block below. Whatever a model, a task or a file is called, nothing in it
reaches a terminal as a control character, or Markdown and HTML as markup.
"""

from __future__ import annotations

import html
import re
import shutil
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from slimlib.common.layout import plain, rows_of, text_table, wrapped

if TYPE_CHECKING:
    import pandas as pd

Point = str | tuple[str, Sequence[str]]  # a sentence, or a sentence and what belongs to it

NARROWEST = 40  # columns: in a narrower terminal lines run over its edge
# What a formula begins with, in a notebook, on GitHub or on the hub; &#92; is a backslash.
FORMULA = re.compile(r"\$|(?:\\|&#92;)(?=[(\[]|begin\b)")
PROSE = 100  # columns: longer lines of text are hard to read


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
        title = wrapped(self.title, prose)
        parts = [[*title, "=" * max(map(len, title), default=0)]]
        parts += [_text_points(self.points, prose)]
        parts += text_table(self.table, self.under, width) if _has_rows(self.table) else []
        parts += [[line for note in self.notes for line in wrapped(note, prose, "- ", "  ")]]
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
        return without_formulas("\n".join(parts))

    def _repr_html_(self) -> str:
        return self.to_html()


class Shown(ABC):
    """A result that is shown as a document: its class says what stands in it."""

    @abstractmethod
    def document(self) -> Document:
        """What is shown of it."""

    def to_text(self, columns: int | None = None) -> str:
        """As text of so many columns (default: the terminal's, else 80)."""
        return self.document().to_text(columns)

    def to_markdown(self) -> str:
        """As Markdown; names and answers in it are escaped."""
        return self.document().to_markdown()

    def _repr_html_(self) -> str:
        return self.document().to_html()


def markdown_text(text: str) -> str:
    """Text that neither ends a Markdown cell nor starts a tag, a link, an emphasis or a formula."""
    text = plain(text).replace("&", "&amp;")
    text = re.sub("<(?=[^ ])", "&lt;", text)  # "< 0.001" starts no tag
    text = without_formulas(text.replace("\\", "&#92;"))
    for character in "|*`":
        text = text.replace(character, f"\\{character}")
    return text.replace("](", "]\\(")


def without_formulas(page: str) -> str:
    """HTML or Markdown in which no MathJax or KaTeX takes a text for a formula.

    They look for pairs of dollars or brackets within one element, so each opening one gets its own.
    A backslash before a dollar does not stop GitHub: its documentation names this way.
    """
    return FORMULA.sub(r"<span>\g<0></span>", page)


def point_lines(points: Sequence[Point]) -> list[str]:
    """The points as lines, unwrapped; what belongs to one is indented below it."""
    pairs = map(_with_parts, points)
    return [line for said, inner in pairs for line in (said, *(f"  {part}" for part in inner))]


def _with_parts(point: Point) -> tuple[str, Sequence[str]]:
    return (point, ()) if isinstance(point, str) else point


def _text_points(points: Sequence[Point], width: int) -> list[str]:
    lines = []
    for sentence, inner in map(_with_parts, points):
        lines += wrapped(sentence, width, "", "  ")
        for part in inner:
            lines += wrapped(part, width, "  ", "    ")
    return lines


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
    """Write a table of texts in Markdown, a group's name once; cells are escaped."""
    levels = [str(name or "") for name in table.index.names]
    lines = [[*levels, *map(str, table.columns)], ["---"] * (len(levels) + table.shape[1])]
    heading = None
    for names, cells in rows_of(table):
        first = ["" if names[0] == heading else names[0]] if len(names) > 1 else []
        heading = names[0]
        lines.append([*first, names[-1], *cells])
    return "\n".join(f"| {' | '.join(map(markdown_text, line))} |" for line in lines)

"""Flips on a page: both answers beside the right one, with the parts that differ marked."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator
from difflib import SequenceMatcher
from typing import TYPE_CHECKING

from slimlib.common.document import without_formulas
from slimlib.common.layout import visible
from slimlib.comparison.answers.flips import GAINED, LOST

if TYPE_CHECKING:
    import pandas as pd
    from IPython.display import HTML

BOTH = "both"
DIRECTIONS = (BOTH, LOST, GAINED)
SEARCHED = ("question", "gold", "base_answer", "tuned_answer")
HEADS = ("right answer", "before", "after")
CELL = "white-space:pre-wrap;text-align:left;vertical-align:top;overflow-wrap:anywhere"
MARK = "background:{};color:black;text-decoration:underline"
COLOURS = "#F8D9C4", "#C9E3F5"  # pale tones of lost and gained (`comparison.plots`)
MOST_STEPS = 250_000  # pieces of one answer times pieces of the other: more is compared roughly


def show_flips(
    frame: pd.DataFrame, k: int = 5, change: str = BOTH, text: str = "", page: int = 1
) -> HTML:
    """Show flips side by side in a notebook: the right answer, the one before, the one after.

    Marked is what only one of the two models says. All text is escaped.

    Args:
        frame: as `flips` returns it.
        k: documents of each direction on a page.
        change: "both", or one direction: "right -> wrong" or "wrong -> right".
        text: what question or answers must hold, in capital letters or not.
        page: which page, from 1; beyond the last one it is the last one.

    Example:

        show_flips(slimlib.flips("results-before/", "results-after/", "gsm8k"), text="apples")

    Raises:
        ValueError: another change.
    """
    from IPython.display import HTML

    if change not in DIRECTIONS:
        raise ValueError(f"change {change!r}: must be {', '.join(DIRECTIONS)}")
    directions = DIRECTIONS[1:] if change == BOTH else (change,)
    found = frame[_holds(frame, text) & frame["change"].isin(directions)]
    parts = ["<table style='table-layout:fixed;width:100%'>", _row("th", HEADS)]
    for direction in directions:
        parts += _direction(found[found["change"] == direction], direction, k, page)
    parts.append("</table>" if len(found) else f"</table><p>{_none(frame, change, text)}</p>")
    return HTML(without_formulas("".join(parts)))


def _holds(frame: pd.DataFrame, text: str) -> pd.Series:
    """Which documents hold a text, letter by letter: it is no pattern."""
    import pandas as pd

    found = pd.Series(not text, index=frame.index)
    for column in SEARCHED if text else ():
        found |= frame[column].str.casefold().str.contains(text.casefold(), regex=False)
    return found


def _none(frame: pd.DataFrame, change: str, text: str) -> str:
    if not len(frame):
        return "No flips."
    held = f" that holds {html.escape(visible(text))}" if text else ""
    return f"No document{held} went {'either way' if change == BOTH else html.escape(change)}."


def _direction(found: pd.DataFrame, direction: str, k: int, page: int) -> Iterator[str]:
    """A heading with how many there are, and a page of them."""
    if not len(found):
        return
    start = k * (min(page, -(-len(found) // k)) - 1)
    shown = found.iloc[start : start + k]
    of = "" if len(shown) == len(found) else f", {start + 1:,} to {start + len(shown):,}"
    plural = "s" if len(found) > 1 else ""
    heading = html.escape(f"{direction}: {len(found):,} document{plural}{of}")
    yield f"<tr><th colspan='{len(HEADS)}' style='text-align:left'>{heading}</th></tr>"
    for row in shown.itertuples():
        asked = f"<small>document {_text(row.doc_id)}</small> {_text(row.question)}"
        yield f"<tr><td colspan='{len(HEADS)}' style='{CELL}'>{asked}</td></tr>"
        yield _row("td", (_text(row.gold), *marked(row.base_answer, row.tuned_answer)))


def _row(tag: str, cells: Iterable[str]) -> str:
    return f"<tr>{''.join(f'<{tag} style={CELL!r}>{cell}</{tag}>' for cell in cells)}</tr>"


def _text(value: object) -> str:
    """Data as HTML, line by line; nothing in it is markup or turns the direction of writing."""
    return "\n".join(html.escape(visible(line)) for line in str(value).expandtabs().split("\n"))


# ---------------------------------------------------------------------------------- what differs


def marked(before: str, after: str) -> tuple[str, str]:
    """Two texts as HTML, with what only one of them says in marks.

    Example: "so 12 apples", "so 15 apples": 12 is marked in the first, 15 in the second.
    """
    sides: tuple[list[str], list[str]] = ([], [])
    for same, *parts in differences(before, after):
        for side, part, colour in zip(sides, parts, COLOURS, strict=True):
            plain = same or not part.strip()
            shown = _text(part)
            side.append(shown if plain else f"<mark style='{MARK.format(colour)}'>{shown}</mark>")
    return "".join(sides[0]), "".join(sides[1])


def differences(before: str, after: str) -> Iterator[tuple[bool, str, str]]:
    """(whether both say it, part of the first, part of the second), in order.

    Of words, numbers and signs. Very long texts are compared from both ends only.
    """
    a, b = (re.findall(r"\s+|[\d.,]*\d|\w+|[^\w\s]", text) for text in (before, after))
    start = _common(a, b)
    end = _common(a[start:][::-1], b[start:][::-1])
    middle = a[start : len(a) - end], b[start : len(b) - end]
    yield True, "".join(a[:start]), "".join(b[:start])
    if len(middle[0]) * len(middle[1]) > MOST_STEPS:
        yield False, "".join(middle[0]), "".join(middle[1])
    else:
        for kind, i, i_end, j, j_end in SequenceMatcher(None, *middle, False).get_opcodes():
            parts = "".join(middle[0][i:i_end]), "".join(middle[1][j:j_end])
            yield kind == "equal", *parts
    yield True, "".join(a[len(a) - end :]), "".join(b[len(b) - end :])


def _common(a: list[str], b: list[str]) -> int:
    """How many pieces are the same from the start on."""
    pairs = zip(a, b, strict=False)
    return next((i for i, (one, other) in enumerate(pairs) if one != other), min(len(a), len(b)))

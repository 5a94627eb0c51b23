"""One look for all figures, what they say in words, and how they are written.

Every figure is 6.4 inches wide: 1,280 pixels as it is written, and at 600 pixels its smallest
letters are still 9 pixels high. What a figure says is its title; what it shows is read off it by
`alt_text`, for whoever cannot see it.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from slimlib.common.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, DPI = 6.4, 200
SMALL = 7  # points of the smallest letters
SVG = "{http://www.w3.org/2000/svg}"

# Okabe and Ito's colours, which colour-blind readers can tell apart; their yellow, too pale for
# lines on white, is replaced by grey.
PALETTE = ("#000000", "#0072B2", "#56B4E9", "#D55E00", "#E69F00", "#CC79A7", "#009E73", "#999999")


STYLE = {
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "slimlib",  # the same element ids in every run
}


def as_written(text: str) -> str:
    """A name as it is: matplotlib would read what stands between two dollars as a formula."""
    return text.replace("$", r"\$")


def wrap(label: str, width: int = 26) -> str:
    """Break a label of an axis into lines."""
    return textwrap.fill(as_written(label), width, break_on_hyphens=False)


def entitle(figure: Figure, message: str, of: str = "", note: str = "") -> None:
    """Write a figure's message above it, what it is of in the next line, a note at its foot.

    Args:
        figure: with the constrained layout, which makes room for both.
        message: what the numbers say, and no more than their intervals do.
        of: the study, or whatever was measured.
        note: how to read it, and what it does not say.
    """
    inches = figure.get_figwidth()
    lines = [_fill(text, inches, 9.5) for text in (_sentence(message), of) if text]
    figure.suptitle("\n".join(lines), fontsize=9.5, x=0.01, ha="left", linespacing=1.25)
    if note:
        said = _fill(note, inches, SMALL)
        figure.supxlabel(said, fontsize=SMALL, color="#555555", x=0.01, ha="left")


def _fill(text: str, inches: float, points: float) -> str:
    """Break a text into lines that are as wide as the figure."""
    letters = int(inches * 72 / (0.56 * points))
    return textwrap.fill(as_written(text), letters, break_on_hyphens=False)


def listed(names: Sequence[str]) -> str:
    """Names in a sentence; such as have a comma themselves are kept apart by strokes."""
    return (" / " if any("," in name for name in names) else ", ").join(names)


def subplots(width: float, height: float) -> Axes:
    """New axes in our style, shown by a notebook like any others."""
    from matplotlib import pyplot as plt

    with plt.rc_context(STYLE):
        _, ax = plt.subplots(figsize=(width, height), layout="constrained")
        interactive = plt.isinteractive()
    # A notebook's backend, loaded by its first figure, turns this on; the context took it back, and
    # no later figure would be shown.
    if interactive:
        plt.ion()
    return ax


def draw_beside(ax: Axes, row: float, text: str, **style: Any) -> None:
    """Write a row's numbers right of the axes, where no line or bar can run through them."""
    where = {"transform": ax.get_yaxis_transform(), "va": "center", "fontsize": 7.5}
    ax.text(1.02, row, text, **{**where, **style})


def alt_text(figure: Figure) -> str:
    """Say what a figure shows: its title, then panel by panel every row with its numbers.

    Read off the figure as it is drawn, so that both say the same. A row is a label of the vertical
    axis with the texts at its height; what belongs to no row is said after them.

    Example: "Lost: arithmetic. % right: base: 79.0; tuned: 12.5."
    """
    panels = [_panel_text(ax) for ax in figure.axes]
    legends = ["; ".join(text.get_text() for text in key.get_texts()) for key in figure.legends]
    said = [figure.get_suptitle(), *panels, *legends, figure.get_supxlabel()]
    return " ".join(_sentence(text) for text in said if text)


def _sentence(text: str) -> str:
    said = " ".join(text.replace(r"\$", "$").split())
    return said if said.endswith((".", "?", "!")) else f"{said}."


def _panel_text(ax: Axes) -> str:
    """A panel's title and axes, its rows with their numbers, then its other texts."""
    names = (ax.get_title(loc="left"), ax.get_title(), ax.get_ylabel(), ax.get_xlabel())
    labels = _row_labels(ax)
    rows: dict[str, list[str]] = {label: [] for label in labels.values()}
    others: list[str] = []
    for text in ax.texts:
        height = None if text.get_transform() is ax.transAxes else round(text.get_position()[1])
        said = f"{text.get_label()} {text.get_text()}".strip()  # the label says what a number is
        rows.get(labels.get(height, ""), others).append(said)
    legend = ax.get_legend()
    others += [text.get_text() for text in legend.get_texts()] if legend else []
    said = [f"{label}: {', '.join(filter(None, some))}" for label, some in rows.items() if some]
    head = ", ".join(filter(None, names)) if ax.axison else ""
    return ": ".join(filter(None, (head, "; ".join([*said, *filter(None, others)]))))


def _row_labels(ax: Axes) -> dict[int, str]:
    """Height -> label of each row; of panels that share an axis, only one has its labels shown."""
    from matplotlib.ticker import ScalarFormatter

    axis = ax.yaxis
    if isinstance(formatter := axis.get_major_formatter(), ScalarFormatter):
        return {}  # an axis of numbers
    places = axis.get_majorticklocs()
    labels = zip(map(round, places), formatter.format_ticks(places), strict=True)
    return {row: label for row, label in labels if label}


def save_figure(figure: Figure, folder: Path, name: str) -> tuple[Path, Path]:
    """Write name.png (200 dpi) and name.svg, each whole or not at all, without dates.

    Both carry `alt_text`: the PNG as its description, the SVG as its title.
    """
    from matplotlib import rc_context

    png, svg = folder / f"{name}.png", folder / f"{name}.svg"
    said = alt_text(figure)
    with rc_context(STYLE):
        with atomic_path(png) as temporary:
            about = {"Software": None, "Description": said}
            figure.savefig(temporary, format="png", dpi=DPI, metadata=about)
        with atomic_path(svg) as temporary:
            about = {"Date": None, "Creator": None, "Title": said}
            figure.savefig(temporary, format="svg", metadata=about)
    return png, svg


def show(path: Path) -> Any:
    """A written PNG, for a notebook to display inline, with what the SVG beside it says."""
    from IPython.display import Image

    svg = path.with_suffix(".svg")
    said = ElementTree.parse(svg).findtext(f"{SVG}title", "") if svg.exists() else ""
    return Image(filename=str(path), width=900, metadata={"alt": said})

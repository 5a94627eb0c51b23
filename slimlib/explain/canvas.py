"""What the pictures of this room share: a page, its message, and the drawing of small matrices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from slimlib.common.style import PALETTE, STYLE, WIDTH, as_written, entitle

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FROZEN, TRAINED, DATA = "#CFCFCF", PALETTE[4], "#A9D8F5"
INK, QUIET = "#222222", "#6A6A6A"
DARK_RED, DARK_YELLOW = "#B34700", "#8F6400"  # of letters: the palette's own are pale on white
ON_WHITE = {"facecolor": "white", "edgecolor": "none", "pad": 1}  # keeps a line off a label


def page(message: str, height: float, rows: int = 1, columns: int = 1, **how: Any) -> Figure:
    """An empty figure with its message on top, and its axes, which are `figure.axes`.

    Args:
        message: what the figure says; its title.
        height: in inches.
        rows, columns: of axes.
        **how: as of matplotlib's `subplots`.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        entitle(figure, message)
        figure.subplots(rows, columns, squeeze=False, **how)
    return figure


def bare(ax: Axes, x: tuple[float, float], y: tuple[float, float]) -> Axes:
    """Axes without frame and ticks, to draw on."""
    ax.set(xlim=x, ylim=y)
    ax.axis("off")
    return ax


def draw_matrix(
    ax: Axes,
    values: np.ndarray,
    at: tuple[float, float],
    colour: str,
    name: str,
    form: str = "{:g}",
) -> None:
    """A small matrix as cells with their numbers, its name above; one cell is one unit.

    Args:
        ax: with equal units on both sides.
        values: (rows, columns).
        at: its left and upper corner.
        colour: of the cells.
        name: above it.
        form: of a number.
    """
    from matplotlib.patches import Rectangle

    left, top = at
    for row, numbers in enumerate(values):
        for column, number in enumerate(numbers):
            corner = (left + column, top - row - 1)
            ax.add_patch(
                Rectangle(corner, 1, 1, facecolor=colour, edgecolor="white", linewidth=1.5)
            )
            middle = (corner[0] + 0.5, corner[1] + 0.47)
            ax.text(*middle, form.format(number), ha="center", va="center", fontsize=9)
    name_at = (left + values.shape[1] / 2, top + 0.2)
    ax.text(*name_at, name, ha="center", va="bottom", fontsize=10, fontweight="bold")


def label_bars(ax: Axes, names: Sequence[str]) -> None:
    """Names of horizontal bars at the left, the first on top, nothing else."""
    ax.set_yticks(range(len(names)), [as_written(name) for name in names], fontsize=9)
    ax.tick_params(axis="y", length=0)
    ax.invert_yaxis()

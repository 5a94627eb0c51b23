"""Pictures of changes and answers: a waterfall of steps, changes with intervals, kinds of answers.

Each draws plain data on one matplotlib axes and returns it; the study's pictures are in
`report.figures`. matplotlib is imported when something is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from slimlib.common.style import as_written, subplots, wrap, wrap_title
from slimlib.comparison.change import GAINS, LOSSES, NO_VERDICT, STAYED, UNKNOWN, Change
from slimlib.comparison.sentences import STEP_WORDS, level
from slimlib.comparison.validity import NOTHING
from slimlib.metrics.text import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LOST, GAINED, NOISE, TOTAL = "#D55E00", "#0072B2", "#BBBBBB", "#444444"
SAME_AS_BEFORE, NO_ABILITY, INVALID = "#009E73", "#E69F00", "#CC79A7"
VERDICT_COLOURS = {
    **dict.fromkeys(LOSSES, LOST),
    **dict.fromkeys(GAINS, GAINED),
    **dict.fromkeys(STAYED, SAME_AS_BEFORE),
    **dict.fromkeys(NO_VERDICT, INVALID),
    NOTHING: NO_ABILITY,
    UNKNOWN: NOISE,
}
ANSWER_COLOURS = {  # kind of answer (`answers.KINDS`) -> colour, in the bars' order
    "right": "#009E73",
    "right, then ran on": "#8FD3BD",
    "format": "#56B4E9",
    "right number, lost format": "#F0E442",
    "wrong arithmetic": "#D55E00",
    "wrong reasoning": "#E69F00",
    "wrong, no equations": "#CC79A7",
    "no answer line": "#0072B2",
    "rambling": "#999999",
    "empty": "#000000",
}


class Rung(NamedTuple):
    """One row of a waterfall: an accuracy, a change from the row above, or nothing."""

    label: str
    accuracy: float | None = None  # per cent
    change: Change | None = None
    missing: str | None = None  # said after the "-" of a row without results


def plot_waterfall(rungs: Sequence[Rung], title: str, metric: str, ax: Axes) -> Axes:
    """Draw how one benchmark's accuracy changes step by step, top to bottom.

    An accuracy is a bar from 0; a step a bar from the level before it, with its paired 95 %
    interval, coloured by its verdict (after Holm's correction over all steps), grey where it may be
    chance. A row without results is a "-".
    """
    level = 0.0
    for row, rung in enumerate(rungs):
        if rung.accuracy is not None:
            level = rung.accuracy
            _draw_total(ax, row, level)
        elif rung.change is not None:
            _draw_step(ax, row, level, rung.change)
            level += rung.change.difference.value
        elif rung.missing is not None:
            draw_missing(ax, row, rung.missing)
    return finish(ax, title, metric, [rung.label for rung in rungs])


def _draw_total(ax: Axes, row: int, value: float) -> None:
    ax.barh(row, value, height=0.45, color=TOTAL)
    ax.text(value + 1.5, row, f"{value:.1f}", va="center", fontsize=8)


def _draw_step(ax: Axes, row: int, level: float, change: Change) -> None:
    """A bar from the old level to the new, the interval on its moving end, the numbers above."""
    value, low, high = change.difference
    colour = VERDICT_COLOURS[change.verdict]
    ax.barh(row, value, left=level, height=0.45, color=colour)
    ax.plot([level, level], [row - 0.77, row - 0.22], color=TOTAL, linewidth=0.8, zorder=0)
    ax.plot([level + low, level + high], [row, row], color="black", linewidth=1.2)
    middle = min(max(level + value / 2, 26), 80)  # keeps the text inside the axes
    box = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
    texts = [number(limit, 1, "+") for limit in (value, low, high)]
    numbers = f"{texts[0]} [{texts[1]}, {texts[2]}]"
    ax.text(middle, row - 0.28, numbers, ha="center", va="bottom", fontsize=7.5, bbox=box)


def plot_changes(
    changes: Sequence[Change], margin: float, title: str, alpha: float, ax: Axes | None = None
) -> Axes:
    """Draw each task's change in points with its interval, coloured by its verdict.

    The grey band is the margin within which a change counts as kept once it is shown to be smaller.
    """
    ax = ax or subplots(6.8, 1.5 + 0.55 * len(changes))
    ax.axvspan(-margin, margin, color="#EEEEEE", zorder=0)
    ax.axvline(0, color=TOTAL, linewidth=0.8, zorder=1)
    for row, change in enumerate(changes):
        value, low, high = change.difference
        colour = VERDICT_COLOURS[change.verdict]
        said = change.verdict if change.verdict != UNKNOWN else STEP_WORDS[UNKNOWN]
        if change.verdict in NO_VERDICT:  # its numbers mean nothing
            ax.text(0, row, said, ha="center", va="center", fontsize=8, color=colour)
            continue
        ax.plot([low, high], [row, row], color=colour, linewidth=2.2)
        ax.plot(value, row, "o", color=colour, markersize=6)
        said = f"{number(value, 1, '+')}, {said}"
        ax.text(value, row - 0.2, said, ha="center", va="bottom", fontsize=8)
    ax.set_yticks(range(len(changes)), [wrap(change.title) for change in changes])
    ax.set(ylim=(len(changes) - 0.5, -0.8), xlabel=f"tuned - base, points, with {level(alpha)}s")
    ax.margins(x=0.18)
    ax.set_title(wrap_title(title), loc="left", fontweight="bold", fontsize=9)
    return ax


def plot_answers(
    names: Sequence[str], kinds: Sequence[Mapping[str, int]], ax: Axes | None = None
) -> Axes:
    """Draw models' kinds of answers as stacked bars, in per cent of the documents.

    Args:
        names: of the models, top to bottom.
        kinds: for each model kind of answer -> documents; each adds up to the same number.
        ax: where to draw; default a new figure.
    """
    ax = ax or subplots(6.4, 3.0)
    n, rows = sum(kinds[0].values()), range(len(names))
    left = np.zeros(len(names))
    for kind, colour in ANSWER_COLOURS.items():
        counts = np.array([found[kind] for found in kinds], dtype=float)
        if counts.any():
            shares = 100 * counts / n
            ax.barh(rows, shares, left=left, height=0.6, color=colour, label=kind)
            _write_shares(ax, left, shares, colour)
            left = left + shares
    ax.set_yticks(rows, [wrap(name) for name in names])
    ax.set(xlim=(0, 100), ylim=(len(names) - 0.5, -0.5), xlabel=f"% of {n:,} answers")
    ax.legend(frameon=False, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.3), fontsize=8)
    return ax


def _write_shares(ax: Axes, left: np.ndarray, shares: np.ndarray, colour: str) -> None:
    """The per cent inside each part of a bar, where there is room for it."""
    ink = "black" if colour in ("#E69F00", "#56B4E9", "#CC79A7", "#999999", "#8FD3BD") else "white"
    for row, (start, share) in enumerate(zip(left, shares, strict=True)):
        if share >= 4:
            ax.text(start + share / 2, row, f"{share:.0f}", ha="center", va="center", color=ink)


def draw_missing(ax: Axes, row: int, why: str = "") -> None:
    """A "-" in a row without results."""
    ax.text(2, row, f"-{why}", va="center", fontsize=8)


def finish(ax: Axes, title: str, metric: str, labels: Sequence[str]) -> Axes:
    """One row per label, top to bottom, on an axis of per cent."""
    ax.set_yticks(range(len(labels)), labels)
    ax.tick_params(axis="y", length=0, pad=8)
    ax.set(xlim=(0, 112), ylim=(len(labels) - 0.5, -0.8), xlabel=f"{metric}, % right")
    ax.set_xticks(range(0, 101, 25))
    ax.set_title(as_written(title), loc="left", fontweight="bold")
    return ax


def new_axes(title: str) -> Axes:
    """New axes under a figure's title."""
    ax = subplots(6.4, 4.2)
    ax.figure.suptitle(as_written(title), fontsize=10)
    return ax

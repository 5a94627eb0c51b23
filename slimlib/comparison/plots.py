"""Pictures of changes and answers: a waterfall of steps, changes with intervals, kinds of answers.

Each draws plain data on one matplotlib axes and returns it; the study's pictures are in
`report.figures`. matplotlib is imported when something is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from slimlib import metrics
from slimlib.common.style import STYLE, WIDTH, as_written, draw_beside, entitle, subplots, wrap
from slimlib.comparison.change import GAINS, LOSSES, NO_VERDICT, STAYED, UNKNOWN, Change
from slimlib.comparison.sentences import STEP_WORDS, answer, level
from slimlib.comparison.validity import NOTHING
from slimlib.metrics.text import interval, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHOWN = (*LOSSES, *GAINS)  # verdicts that say something changed
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


def plot_waterfall(rungs: Sequence[Rung], title: str, ax: Axes) -> Axes:
    """Draw how one benchmark's accuracy changes step by step, top to bottom.

    An accuracy is a bar from 0; a step a bar from the level before it, with its paired 95 %
    interval, coloured by its verdict (after Holm's correction over all steps). Its numbers and the
    verdict stand right of the axes. A row without results is a "-".
    """
    level = 0.0
    for row, rung in enumerate(rungs):
        if rung.accuracy is not None:
            level = rung.accuracy
            ax.barh(row, level, height=0.5, color=TOTAL)
            draw_beside(ax, row, f"{level:.1f} %")
        elif rung.change is not None:
            _draw_step(ax, row, level, rung.change)
            level += rung.change.difference.value
        elif rung.missing is not None:
            draw_missing(ax, row, rung.missing)
    return finish(ax, title, [rung.label for rung in rungs])


def _draw_step(ax: Axes, row: int, level: float, change: Change) -> None:
    """A bar from the old level to the new, the interval on its moving end, the numbers beside."""
    value, low, high = change.difference
    colour = VERDICT_COLOURS[change.verdict]
    ax.plot([level, level], [row - 0.75, row - 0.25], color=TOTAL, linewidth=0.8, zorder=0)
    ax.barh(row, value, left=level, height=0.5, color=colour)
    ax.plot([level + low, level + high], [row, row], color="black", linewidth=1.2)
    said = f"{_numbers(change)} {STEP_WORDS[change.verdict]}"
    draw_beside(ax, row, said, fontweight="bold" if change.verdict in SHOWN else "normal")


def _numbers(change: Change) -> str:
    """ "-35.7 [-43.9, -27.4]"; without an interval the difference alone."""
    value, low, _ = change.difference
    limits = "" if np.isnan(low) else f" {interval(change.difference, '+', 1)}"
    return number(value, 1, "+") + limits


def plot_changes(
    changes: Sequence[Change], margin: float, title: str, alpha: float, ax: Axes | None = None
) -> Axes:
    """Draw each task's change in points with its interval, coloured by its verdict.

    The grey band is the margin within which a change counts as kept once it is shown to be smaller.
    """
    if ax is None:
        ax = subplots(WIDTH, 1.6 + 0.42 * len(changes))
        entitle(ax.figure, answer(changes) or "Nothing compared", title, band_note(margin))
    else:
        ax.set_title(as_written(title), loc="left", fontweight="bold")
    ax.axvspan(-margin, margin, color="#EEEEEE", zorder=0)
    ax.axvline(0, color=TOTAL, linewidth=0.8, zorder=1)
    for row, change in enumerate(changes):
        value, low, high = change.difference
        colour = VERDICT_COLOURS[change.verdict]
        if change.verdict in NO_VERDICT:  # its numbers mean nothing
            draw_beside(ax, row, change.verdict, color=colour)
            continue
        ax.plot([low, high], [row, row], color=colour, linewidth=2.2)
        ax.plot(value, row, "o", color=colour, markersize=6)
        draw_beside(ax, row, f"{_numbers(change)}\n{_word(change)}")
    ax.set_yticks(range(len(changes)), [_label(change) for change in changes])
    ax.set(ylim=(len(changes) - 0.5, -0.5), xlabel=f"tuned - base, points, with {level(alpha)}s")
    return ax


def _label(change: Change) -> str:
    return wrap(change.title) + (f"\nn = {change.n:,}" if change.n else "")


def _word(change: Change) -> str:
    return STEP_WORDS[UNKNOWN] if change.verdict == UNKNOWN else change.verdict


def band_note(margin: float) -> str:
    """What the grey band of `plot_changes` is."""
    return f"Grey band: changes within {margin:g} points, which count as kept once shown."


def plot_answers(
    names: Sequence[str], kinds: Sequence[Mapping[str, int]], ax: Axes | None = None
) -> Axes:
    """Draw models' kinds of answers as stacked bars, in per cent of the documents.

    Args:
        names: of the models, top to bottom.
        kinds: for each model kind of answer -> documents; each adds up to the same number.
        ax: where to draw; default a new figure.
    """
    n, rows = sum(kinds[0].values()), range(len(names))
    if ax is None:
        ax = subplots(WIDTH, 2.6)
        entitle(ax.figure, _right(names, kinds, n))
    left, parts = np.zeros(len(names)), []
    for kind, colour in ANSWER_COLOURS.items():
        counts = np.array([found[kind] for found in kinds], dtype=float)
        if counts.any():
            shares = 100 * counts / n
            bars = ax.barh(rows, shares, left=left, height=0.6, color=colour, label=kind)
            parts.append(bars)
            _write_shares(ax, left, shares, kind)
            left = left + shares
    ax.set_yticks(rows, [wrap(name) for name in names])
    ax.set(xlim=(0, 100), ylim=(len(names) - 0.5, -0.5), xlabel=f"% of {n:,} answers")
    where = {"loc": "outside lower left", "ncols": 3, "frameon": False, "fontsize": 7.5}
    ax.figure.legend(handles=parts, **where)
    return ax


def _right(names: Sequence[str], kinds: Sequence[Mapping[str, int]], n: int) -> str:
    """How many answers of each model are right, with Wilson's 95 % intervals."""
    said = []
    for name, found in zip(names, kinds, strict=True):
        counts = found["right"] + found["right, then ran on"]
        share = metrics.wilson_interval(counts, n)
        said.append(f"{name} {share.value:.0f} % {interval(share, '', 0)}")
    return f"Right answers: {'; '.join(said)}"


def _write_shares(ax: Axes, left: np.ndarray, shares: np.ndarray, kind: str) -> None:
    """The per cent inside each part of a bar, where there is room for it."""
    dark = ("#D55E00", "#0072B2", "#009E73", "#000000")
    ink = "white" if ANSWER_COLOURS[kind] in dark else "black"
    style = {"ha": "center", "va": "center", "color": ink, "label": kind}
    for row, (start, share) in enumerate(zip(left, shares, strict=True)):
        if share >= 4:
            ax.text(start + share / 2, row, f"{share:.0f}", **style)


def draw_missing(ax: Axes, row: int, why: str = "") -> None:
    """A "-" in a row without results."""
    ax.text(2, row, f"-{why}", va="center", fontsize=7.5)


def finish(ax: Axes, title: str, labels: Sequence[str]) -> Axes:
    """One row per label, top to bottom, on an axis of per cent."""
    ax.set_yticks(range(len(labels)), labels)
    ax.tick_params(axis="y", length=0, pad=6)
    ax.set(xlim=(0, 100), ylim=(len(labels) - 0.5, -0.7))
    ax.set_xticks(range(0, 101, 25), ["0", "25", "50", "75", "100 %"])
    size = STYLE["axes.titlesize"]  # drawn alone, outside a figure of the study, too
    ax.set_title(as_written(title), loc="left", fontweight="bold", fontsize=size)
    return ax

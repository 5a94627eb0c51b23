"""The study's figures, made from records and loss logs: scores, forgetting waterfall, loss curves.

`plot_*` draw on one matplotlib axes and return it; `make_figures` writes all of them as PNG (200
dpi) and SVG, the same bytes from the same records. Every picture carries the study's title and note
("micro" is on it). matplotlib is imported when something is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes

from slimlib.common.style import PALETTE, subplots, wrap, wrap_title
from slimlib.comparison.benchmarks import BENCHMARKS
from slimlib.comparison.change import FORGOT, IMPROVED, KEPT, UNKNOWN, Change
from slimlib.comparison.sentences import title
from slimlib.config import Study
from slimlib.metrics.text import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from slimlib.comparison.answers import FormatOrAbility
    from slimlib.comparison.ladder import Attribution
    from slimlib.comparison.two_models import Comparison
    from slimlib.config import Study

LOST, GAINED, NOISE, TOTAL = "#D55E00", "#0072B2", "#BBBBBB", "#444444"
VERDICT_COLOURS = {FORGOT: LOST, IMPROVED: GAINED, KEPT: "#009E73", UNKNOWN: NOISE}
ANSWER_COLOURS = {  # kind of answer (`answers.KINDS`) -> colour, in the bars' order
    "right": "#009E73",
    "right, then ran on": "#8FD3BD",
    "format": "#56B4E9",
    "wrong arithmetic": "#D55E00",
    "wrong reasoning": "#E69F00",
    "wrong, no equations": "#CC79A7",
    "no answer line": "#0072B2",
    "rambling": "#999999",
    "empty": "#000000",
}


def plot_waterfall(attribution: Attribution, role: str, ax: Axes | None = None) -> Axes:
    """Draw how one benchmark's accuracy changes along the attribution ladder, top to bottom.

    First and last bar are accuracies; each bar between is one step's change with its paired 95 %
    interval, coloured by its verdict (after Holm's correction over all steps), grey where it may be
    chance. A missing arm is a "-"; its part of the change falls to the step after it.
    """
    study = attribution.study
    ax = ax or new_axes(study)
    steps = {step.after: step.change for step in attribution.steps.get(role, ())}
    first = attribution.steps[role][0].before if steps else None
    level = None
    for row, arm in enumerate(study.ladder):
        if arm == first:
            level = attribution.steps[role][0].change.base
            _draw_total(ax, row, level)
        elif arm in steps:
            _draw_step(ax, row, level, steps[arm])
            level += steps[arm].difference.value
        else:
            counted_below = level is not None and any(a in steps for a in study.ladder[row:])
            draw_missing(ax, row, " (in the next step)" if counted_below else "")
    if steps and study.ladder[-1] in steps:
        _draw_total(ax, len(study.ladder), level)
    styles = arm_styles(study)
    start, *others = study.ladder
    causes = [wrap(f"\u2192 {study.causes.get(arm, arm)}") for arm in others]
    return finish(ax, study, role, [styles[start][0], *causes, "= result"])


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


def plot_changes(comparison: Comparison, ax: Axes | None = None) -> Axes:
    """Draw each task's change in points with its 95 % interval, coloured by its verdict.

    The grey band is the margin within which a change counts as kept once it is shown to be smaller.
    """
    changes = comparison.headlines or comparison.changes
    ax = ax or subplots(6.8, 1.5 + 0.55 * len(changes))
    ax.axvspan(-comparison.margin, comparison.margin, color="#EEEEEE", zorder=0)
    ax.axvline(0, color=TOTAL, linewidth=0.8, zorder=1)
    for row, change in enumerate(changes):
        value, low, high = change.difference
        colour = VERDICT_COLOURS[change.verdict]
        ax.plot([low, high], [row, row], color=colour, linewidth=2.2)
        ax.plot(value, row, "o", color=colour, markersize=6)
        said = change.verdict if change.verdict != UNKNOWN else "may be chance"
        said = f"{number(value, 1, '+')}, {said}"
        ax.text(value, row - 0.2, said, ha="center", va="bottom", fontsize=8)
    ax.set_yticks(range(len(changes)), [wrap(change.title) for change in changes])
    ax.set(ylim=(len(changes) - 0.5, -0.8), xlabel="tuned - base, points, with 95 % intervals")
    ax.margins(x=0.18)
    ax.set_title(wrap_title(title(comparison)), loc="left", fontweight="bold", fontsize=9)
    return ax


def plot_answers(answers: FormatOrAbility, ax: Axes | None = None) -> Axes:
    """Draw both models' kinds of answers as stacked bars, in per cent of the documents."""
    ax = ax or subplots(6.4, 3.0)
    table, left = answers.table(), np.zeros(2)
    for kind, colour in ANSWER_COLOURS.items():
        counts = table.loc[kind, ["base", "tuned"]].to_numpy(dtype=float)
        if counts.any():
            shares = 100 * counts / answers.n
            ax.barh([0, 1], shares, left=left, height=0.6, color=colour, label=kind)
            _write_shares(ax, left, shares, colour)
            left = left + shares
    ax.set_yticks([0, 1], [wrap(answers.base), wrap(answers.tuned)])
    ax.set(xlim=(0, 100), ylim=(1.5, -0.5), xlabel=f"% of {answers.n:,} answers")
    ax.legend(frameon=False, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.3), fontsize=8)
    return ax


def _write_shares(ax: Axes, left: np.ndarray, shares: np.ndarray, colour: str) -> None:
    """The per cent inside each part of a bar, where there is room for it."""
    ink = "black" if colour in ("#E69F00", "#56B4E9", "#CC79A7", "#999999", "#8FD3BD") else "white"
    for row, (start, share) in enumerate(zip(left, shares, strict=True)):
        if share >= 4:
            ax.text(start + share / 2, row, f"{share:.0f}", ha="center", va="center", color=ink)


def draw_missing(ax: Axes, row: int, why: str = "") -> None:
    ax.text(2, row, f"-{why}", va="center", fontsize=8)


def finish(ax: Axes, study: Study, role: str, labels: Sequence[str]) -> Axes:
    """One row per label, top to bottom, on an axis of per cent."""
    ax.set_yticks(range(len(labels)), labels)
    ax.tick_params(axis="y", length=0, pad=8)
    metric = BENCHMARKS[role].metrics[BENCHMARKS[role].headline]
    ax.set(xlim=(0, 112), ylim=(len(labels) - 0.5, -0.8), xlabel=f"{metric}, % right")
    ax.set_xticks(range(0, 101, 25))
    ax.set_title(study.task_labels[role], loc="left", fontweight="bold")
    return ax


def arm_styles(study: Study) -> dict[str, tuple[str, str]]:
    """Arm -> (label, colour), in the study's order: the one mapping that all figures use."""
    pairs = zip(study.arms, cycle(PALETTE), strict=False)
    return {arm.name: (wrap(arm.label), colour) for arm, colour in pairs}


def new_axes(study: Study) -> Axes:
    ax = subplots(6.4, 4.2)
    ax.figure.suptitle(study.title, fontsize=10)
    return ax

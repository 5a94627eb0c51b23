"""The article's figures as grouped bars with intervals, from a grid's records alone.

One panel per model and method; bars stand together by what was changed, coloured by rank, hatched
where they are a control. Intervals are 95 %, over documents and runs; each seed is a dot. The
number in a bar is the training loss of its last steps. A cell that is missing is a "-".
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from slimlib.common.style import PALETTE, STYLE, save_figure
from slimlib.config import ADAPTERS
from slimlib.methods import METHODS
from slimlib.papers.key_variables.article_tables import PLACES, spread_of
from slimlib.papers.key_variables.cells import Grid
from slimlib.papers.key_variables.contrasts import score_interval, score_matrix
from slimlib.studies.design import Bar, Experiment

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RANK_COLOURS = (PALETTE[2], PALETTE[1], PALETTE[0])  # light to dark with the rank
HATCHES = ("", "////", "....", "xxxx")
_Series = tuple[int, str]  # rank, control


def plot_experiment(grid: Grid, id: str, role: str | None = None) -> Figure:
    """Draw one experiment.

    Args:
        grid: the records.
        id: "E1" to "E7", or a place in the article ("Figure 2").
        role: one benchmark; None: the mean of all.

    Raises:
        ValueError: no such experiment or benchmark.
    """
    from matplotlib import pyplot as plt

    study = grid.design.study
    if role is not None and role not in study.task_labels:
        raise ValueError(f"role {role!r}: must be one of {', '.join(study.task_labels)}")
    experiment = grid.design[PLACES.get(id, id)]
    panels = list(dict.fromkeys((bar.model, bar.method) for bar in experiment.bars))
    labels = [list(dict.fromkeys(b.label for b in _of(experiment, p))) for p in panels]
    widths = [1.6 + 0.85 * len(some) for some in labels]
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            1,
            len(panels),
            figsize=(min(max(sum(widths), 7.0), 16.0), 4.6),
            width_ratios=widths,
            sharey=True,
            squeeze=False,
            layout="constrained",
        )
        for panel, some, ax in zip(panels, labels, axes[0], strict=True):
            _draw_panel(ax, grid, experiment, panel, some, role)
        what = study.task_labels[role] if role else "mean of the benchmarks"
        axes[0][0].set(ylabel=f"{what}, % right", ylim=(0, 100))
        _legend(axes[0][0], experiment)
        _text(figure, grid, experiment)
        interactive = plt.isinteractive()
    if interactive:  # a notebook's backend turned it on; the context took it back
        plt.ion()
    return figure


def _of(experiment: Experiment, panel: tuple[str, str]) -> list[Bar]:
    return [bar for bar in experiment.bars if (bar.model, bar.method) == panel]


def series_of(bars: Sequence[Bar]) -> list[_Series]:
    """Rank and control of each bar in a group: the article's by rank, then the controls."""
    found = dict.fromkeys((bar.r, bar.control) for bar in bars)
    controls = list(dict.fromkeys(bar.control for bar in bars))
    return sorted(found, key=lambda s: (controls.index(s[1]), s[0]))


def _style(series: _Series, bars: Sequence[Bar]) -> tuple[str, str]:
    """Colour by rank, hatch by control."""
    ranks = sorted({bar.r for bar in bars})
    controls = list(dict.fromkeys(bar.control for bar in bars))
    colours = RANK_COLOURS if len(ranks) > 1 else RANK_COLOURS[1:]
    return colours[ranks.index(series[0]) % len(colours)], HATCHES[controls.index(series[1])]


def _draw_panel(
    ax: Axes,
    grid: Grid,
    experiment: Experiment,
    panel: tuple[str, str],
    labels: Sequence[str],
    role: str | None,
) -> None:
    bars = _of(experiment, panel)
    for place, label in enumerate(labels):
        group = [bar for bar in bars if bar.label == label]
        series = series_of(group)
        width = 0.8 / max(len(series), 2)
        for bar in group:
            at = place + width * (series.index((bar.r, bar.control)) - (len(series) - 1) / 2)
            colour, hatch = _style((bar.r, bar.control), experiment.bars)
            _draw_bar(ax, grid, bar.cell, (at, 0.92 * width), (colour, hatch), role)
    _draw_untuned(ax, grid, bars[0].cell, role)
    ticks = [
        textwrap.fill(label, 11) + bits
        for label, bits in zip(labels, _bits(grid, bars, labels), strict=True)
    ]
    ax.set_xticks(range(len(labels)), ticks)
    ax.tick_params(axis="x", length=0, labelsize=8)
    model, method = panel
    several = len({bar.model for bar in experiment.bars}) > 1
    title = f"{model}, {METHODS[method].label}" if several else METHODS[method].label
    ax.set_title(title, loc="left", fontweight="bold")


def _bits(grid: Grid, bars: Sequence[Bar], labels: Sequence[str]) -> list[str]:
    """A line with the bits per weight of each group's first bar, where they are not all one."""
    first = [next(bar.cell for bar in bars if bar.label == label) for label in labels]
    stored = [cells[0].bits if (cells := grid.of(c)) else None for c in first]
    bits = [f"{found:.2f} bits" if found else "" for found in stored]
    return [f"\n{text}" if len({*bits}) > 1 else "" for text in bits]


def _draw_bar(
    ax: Axes,
    grid: Grid,
    cell: str,
    place: tuple[float, float],
    look: tuple[str, str],
    role: str | None,
) -> None:
    (at, width), (colour, hatch) = place, look
    cells = grid.of(cell)
    if not cells:
        ax.text(at, 1, "-", ha="center")
        return
    value, low, high = score_interval(cells, spread_of(grid, cell, role), role)
    ax.bar(at, value, width, color=colour, hatch=hatch, edgecolor="white", linewidth=0)
    ax.plot([at, at], [low, high], color="black", linewidth=1.2)
    loss = np.mean([found.loss for found in cells])
    if np.isfinite(loss):
        ink = "black" if colour == RANK_COLOURS[0] else "white"
        text = {"rotation": 90, "ha": "center", "va": "bottom", "fontsize": 7, "color": ink}
        box = {"facecolor": colour, "edgecolor": "none", "pad": 1} if hatch else None
        ax.text(at, 2, f"{loss:.2f}", bbox=box, **text)
    seeds = 100 * score_matrix(cells, role).mean(axis=1)
    dots = {"markersize": 3, "markerfacecolor": "white", "markeredgewidth": 0.7}
    ax.plot([at] * len(seeds), seeds, "o", color="black", **dots)


def _draw_untuned(ax: Axes, grid: Grid, cell: str, role: str | None) -> None:
    """A dotted line: the first cell's quantised model before any fine-tuning."""
    untuned = grid.design.study[cell].compared_with
    cells = grid.of(untuned) if untuned else []
    if cells:
        value = score_interval(cells, None, role).value
        ax.axhline(value, color="grey", linestyle=":", linewidth=1.2, zorder=0)
        ax.annotate(
            f"untuned, quantised: {value:.1f}",
            (1, value),
            xycoords=("axes fraction", "data"),
            xytext=(0, 2),
            textcoords="offset points",
            ha="right",
            fontsize=7.5,
            color="dimgrey",
        )


def _legend(ax: Axes, experiment: Experiment) -> None:
    """Ranks and controls, in a row above the first panel."""
    from matplotlib.patches import Patch

    ranked = any("r" in ADAPTERS[bar.method].ruled for bar in experiment.bars)
    handles = []
    for rank, control in series_of(experiment.bars):
        colour, hatch = _style((rank, control), experiment.bars)
        parts = [f"r {rank}"] * ranked + [control] * bool(control)
        label = ", ".join(parts) or "as in the article"
        handles.append(Patch(facecolor=colour, hatch=hatch, edgecolor="white", label=label))
    where = {"loc": "lower left", "bbox_to_anchor": (0, 1.07), "borderaxespad": 0}
    ax.legend(handles=handles, frameon=False, ncols=5, fontsize=8, **where)


def _text(figure: Figure, grid: Grid, experiment: Experiment) -> None:
    """Title above, the study's note below."""
    study = grid.design.study
    title = f"{experiment.title} ({experiment.figure})"
    figure.suptitle(f"{title}\n{study.title}", fontsize=10, x=0.01, ha="left")
    seeds = f"{len(grid.seeds)} seeds (dots), intervals 95 % over documents and runs; in the bars "
    seeds += "the training loss of the last steps, nats a token"
    note = textwrap.fill(f"{seeds}. {study.note}", int(15 * figure.get_figwidth()))
    figure.supxlabel(note, fontsize=8, color="dimgrey", x=0.01, ha="left")


def make_figures(grid: Grid, folder: Path) -> list[Path]:
    """Write every experiment's figure as PNG and SVG; returns the paths."""
    from matplotlib import pyplot as plt

    written: list[Path] = []
    for experiment in grid.design.experiments:
        figure = plot_experiment(grid, experiment.id)
        written += save_figure(figure, folder, experiment.id.lower())
        plt.close(figure)
    return written

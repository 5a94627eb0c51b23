"""The article's figures as rows of dots with intervals, from a grid's records alone.

A row is a cell: left its score (mean of the benchmarks) with its 95 % interval over documents and
runs, right the training loss of its last steps, so that what learnt less is seen to have learnt
less. One panel per model and method, each method in its own colour; a control is hollow. A cell
that is missing is a "-". `plot_tradeoff` holds scores against losses over the whole grid.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from slimlib.common.style import (
    PALETTE,
    SMALL,
    STYLE,
    WIDTH,
    draw_beside,
    entitle,
    listed,
    save_figure,
    wrap,
)
from slimlib.comparison.benchmarks import MARGIN
from slimlib.config import ADAPTERS
from slimlib.methods import METHODS
from slimlib.metrics import Estimate
from slimlib.metrics.text import interval, number
from slimlib.papers.key_variables.article_tables import PLACES, spread_of
from slimlib.papers.key_variables.cells import Grid
from slimlib.papers.key_variables.claims import UNDECIDED, Claims, judge_claims
from slimlib.papers.key_variables.contrasts import (
    rank_correlation,
    score_contrast,
    score_interval,
    score_matrix,
)
from slimlib.papers.key_variables.hypotheses import PART, hypotheses
from slimlib.studies.design import Bar, Experiment

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

METHOD_COLOURS = dict(zip(METHODS, (PALETTE[1], *PALETTE[3:7]), strict=True))
DOTS = "Small dots: single seeds. Hollow: controls that the article lacks."
LOSS = "Loss: training loss of the last steps, nats a token; more means that less was learnt."


def plot_experiment(
    grid: Grid, id: str, role: str | None = None, claims: Claims | None = None
) -> Figure:
    """Draw one experiment.

    Args:
        grid: the records.
        id: "E1" to "E7", or a place in the article ("Figure 2").
        role: one benchmark; None: the mean of all.
        claims: those of the grid, where they are at hand; default they are judged anew.

    Raises:
        ValueError: no such experiment or benchmark.
    """
    from matplotlib import pyplot as plt

    study = grid.design.study
    if role is not None and role not in study.task_labels:
        raise ValueError(f"role {role!r}: must be one of {', '.join(study.task_labels)}")
    experiment = grid.design[PLACES.get(id, id)]
    panels = list(dict.fromkeys((bar.model, bar.method) for bar in experiment.bars))
    sizes = [len(_of(experiment, panel)) + 2.5 for panel in panels]
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            len(panels),
            2,
            figsize=(WIDTH, 1.8 + 0.2 * sum(sizes)),
            width_ratios=(2.4, 1),
            height_ratios=sizes,
            sharey="row",
            sharex="col",
            squeeze=False,
            layout="constrained",
        )
        for panel, pair in zip(panels, axes, strict=True):
            _draw_panel(pair, grid, experiment, panel, role)
        what = study.task_labels[role] if role else "mean of the benchmarks"
        axes[-1][0].set(xlabel=f"{what}, % right, {_size(grid)}")
        axes[-1][1].set(xlabel="loss, nats a token")
        said = "" if role else message(grid, experiment, claims or judge_claims(grid))
        of = f"{experiment.title} ({experiment.figure}). {study.title}"
        entitle(figure, said or experiment.title, of, f"{_lines(grid)} {DOTS} {LOSS} {study.note}")
        interactive = plt.isinteractive()
    if interactive:  # a notebook's backend turned it on; the context took it back
        plt.ion()
    return figure


def _of(experiment: Experiment, panel: tuple[str, str]) -> list[Bar]:
    """A panel's bars: those of one change together, the article's before the controls."""
    bars = [bar for bar in experiment.bars if (bar.model, bar.method) == panel]
    labels = list(dict.fromkeys(bar.label for bar in bars))
    controls = list(dict.fromkeys(bar.control for bar in bars))
    return sorted(bars, key=lambda b: (labels.index(b.label), controls.index(b.control), b.r))


def _size(grid: Grid) -> str:
    """ "n = 600, 3 seeds": the documents of all benchmarks together."""
    cell = next(iter(grid.cells.values()))
    documents = sum(len(scores) for scores in cell.scores.values())
    return f"n = {documents:,}, {len(grid.seeds)} seed{'s' if len(grid.seeds) > 1 else ''}"


def _lines(grid: Grid) -> str:
    runs = " and runs" if len(grid.seeds) > 1 else ""
    return f"Lines: 95 % intervals over documents{runs}."


def _draw_panel(
    axes: Sequence[Axes],
    grid: Grid,
    experiment: Experiment,
    panel: tuple[str, str],
    role: str | None,
) -> None:
    bars, (model, method) = _of(experiment, panel), panel
    for row, bar in enumerate(bars):
        _draw_row(axes, grid, row, bar, role)
        if row and bar.label != bars[row - 1].label:
            for ax in axes:
                ax.axhline(row - 0.5, color="#DDDDDD", linewidth=0.6, zorder=0)
    _draw_untuned(axes[0], grid, bars[0].cell, role)
    axes[0].set_yticks(range(len(bars)), [*_labels(grid, bars)])
    axes[0].set(xlim=(0, 100), ylim=(len(bars) - 0.5, -1.2))
    axes[1].margins(x=0.12)
    for ax in axes:
        ax.tick_params(axis="y", length=0)
    several = len({bar.model for bar in experiment.bars}) > 1
    title = f"{model}, {METHODS[method].label}" if several else METHODS[method].label
    axes[0].set_title(title, loc="left", fontweight="bold")


def _labels(grid: Grid, bars: Sequence[Bar]) -> Iterator[str]:
    """What each bar is: its change; rank, control and bits where the bars differ in them."""
    ranked = "r" in ADAPTERS[bars[0].method].ruled and len({bar.r for bar in bars}) > 1
    stored = [cells[0].bits if (cells := grid.of(bar.cell)) else None for bar in bars]
    for bar, bits in zip(bars, stored, strict=True):
        parts = [bar.label] + [f"r {bar.r}"] * ranked
        parts += [bar.control] if bar.control and bar.control not in bar.label else []
        parts += [f"{bits:.2f} bits"] if bits and len({*stored}) > 1 else []
        yield wrap(", ".join(parts), 48)


def _draw_row(axes: Sequence[Axes], grid: Grid, row: int, bar: Bar, role: str | None) -> None:
    """A cell's score with its interval and seeds, and its loss."""
    cells = grid.of(bar.cell)
    if not cells:
        axes[0].text(1, row, "-", va="center")
        return
    colour = METHOD_COLOURS[bar.method]
    face = {"color": colour, "markerfacecolor": "white" if bar.control else colour}
    value, low, high = score_interval(cells, spread_of(grid, bar.cell, role), role)
    axes[0].plot([low, high], [row, row], color=colour, linewidth=1.8)
    seeds = 100 * score_matrix(cells, role).mean(axis=1)
    axes[0].plot(seeds, [row] * len(seeds), ".", color="black", markersize=3, zorder=4)
    axes[0].plot(value, row, "o", markersize=5, zorder=3, **face)
    draw_beside(axes[0], row, f"{value:.1f}")
    loss = np.mean([found.loss for found in cells])
    if np.isfinite(loss):
        axes[1].plot(loss, row, "o", markersize=5, **face)
        draw_beside(axes[1], row, f"{loss:.2f}")


def _draw_untuned(ax: Axes, grid: Grid, cell: str, role: str | None) -> None:
    """A dotted line: the first cell's quantised model before any fine-tuning."""
    untuned = grid.design.study[cell].compared_with
    cells = grid.of(untuned) if untuned else []
    if cells:
        value = score_interval(cells, None, role).value
        ax.axvline(value, color="grey", linestyle=":", linewidth=1.2, zorder=0)
        text = {"va": "center", "fontsize": SMALL, "color": "#555555"}
        side = {"ha": "right", "x": value - 1} if value > 50 else {"ha": "left", "x": value + 1}
        ax.text(y=-0.85, s=f"untuned, quantised: {value:.1f}", **side, **text)


# ---------------------------------------------------------------------------------------- messages


def message(grid: Grid, experiment: Experiment, claims: Claims) -> str:
    """What an experiment says of the article's claim, part by part, each with its interval.

    An experiment that no claim is about is told by its ends: what learnt least and most.
    """
    inside = {
        h.text: [{*pair} <= {*experiment.cells} for pair in h.pairs]
        for h in hypotheses(grid.design)
    }
    parts = [f for f in claims.findings if f.kind == PART and any(inside[f.text]) and f.effect]
    if not parts:
        return _ends(grid, experiment)
    more = {text: "" if all(pairs) else ", over all methods" for text, pairs in inside.items()}
    said = [f"{f.text}{more[f.text]}: {_points(f.effect.difference)}, {f.verdict}" for f in parts]
    decided = [text for text, f in zip(said, parts, strict=True) if f.verdict != UNDECIDED]
    return ". ".join([*decided, *(text for text in said if text not in decided)])


def _points(effect: Estimate) -> str:
    return f"{number(effect.value, 1, '+')} points {interval(effect, '+', 1)}"


def _ends(grid: Grid, experiment: Experiment) -> str:
    """The cells with the highest and the lowest loss, and how their scores differ."""
    bars = {bar.cell: bar for bar in experiment.bars if grid.of(bar.cell)}
    losses = [(_loss(grid, cell), bar) for cell, bar in bars.items()]
    if len(losses) < 2:
        return ""
    (low, most), (high, least) = (f(losses, key=lambda x: x[0]) for f in (min, max))
    effect = score_contrast(grid, [(least.cell, most.cell)], MARGIN)
    if effect is None:
        return ""
    return (
        f"{_name(least).capitalize()} learnt least (loss {high:.2f}), {_name(most)} most "
        f"({low:.2f}): the first keeps {_points(effect.difference)} of the score against the second"
    )


def _name(bar: Bar) -> str:
    return f"{bar.label}, r {bar.r}"


# ----------------------------------------------------------------- score against loss, and files


def plot_tradeoff(grid: Grid) -> Figure:
    """Draw every fine-tuned cell's score against its training loss, a colour for each method."""
    from matplotlib import pyplot as plt

    study = grid.design.study
    by_method: dict[str, list[str]] = {}
    for arm in study.arms:
        if arm.trains and grid.of(arm.name):
            by_method.setdefault(arm.adapter.method, []).append(arm.name)
    with plt.rc_context(STYLE):
        figure, ax = plt.subplots(figsize=(WIDTH, 4.6), layout="constrained")
        for method, cells in by_method.items():
            label = f"{METHODS[method].label}: {_correlation(grid, cells)}"
            _draw_cloud(ax, grid, cells, METHOD_COLOURS[method], label)
        key = {"title": "rank correlation within a method", "title_fontsize": 7.5}
        ax.legend(frameon=False, loc="lower right", fontsize=7.5, **key)
        ax.set(ylabel=f"mean of the benchmarks, % right, {_size(grid)}")
        ax.set(xlabel="training loss of the last steps, nats a token (right: less was learnt)")
        note = f"Each dot is a cell, mean over seeds. {_lines(grid)} Correlations: over cells."
        said = _tradeoff_message(grid, by_method)
        entitle(figure, said, study.title, f"{note} {study.note}")
        interactive = plt.isinteractive()
    if interactive:
        plt.ion()
    return figure


def _draw_cloud(ax: Axes, grid: Grid, cells: Sequence[str], colour: str, label: str) -> None:
    """One method's cells: loss to the right, score with its interval upwards."""
    for cell in cells:
        value, low, high = score_interval(grid.of(cell), spread_of(grid, cell))
        loss = _loss(grid, cell)
        ax.plot([loss, loss], [low, high], color=colour, linewidth=0.8, alpha=0.5)
        ax.plot(loss, value, "o", color=colour, markersize=4, label=label)
        label = "_"  # one entry in the legend


def _loss(grid: Grid, cell: str) -> float:
    return float(np.mean([found.loss for found in grid.of(cell)]))


def _tradeoff_message(grid: Grid, by_method: Mapping[str, Sequence[str]]) -> str:
    """Whether the cells that learnt less keep more, by the ranks of both, and within which method.

    What differs between methods alone is not what a method's own cells show.
    """
    everything = [cell for cells in by_method.values() for cell in cells]
    found = _rank_correlation(grid, everything)
    alike = [
        METHODS[method].label
        for method, cells in by_method.items()
        if _rank_correlation(grid, cells).low > 0
    ]
    within = f"within {listed(alike)} too" if alike else "within no single method is that shown"
    said = "whether cells that learnt less keep more is not told"
    if found.low > 0:
        said = "cells that learnt less keep more of the score"
    if found.high < 0:
        said = "cells that learnt less keep less of the score"
    return f"Over all methods, {said} (rank correlation {_correlation(grid, everything)}); {within}"


def _rank_correlation(grid: Grid, cells: Sequence[str]) -> Estimate:
    scores = [score_interval(grid.of(cell)).value for cell in cells]
    return rank_correlation([_loss(grid, cell) for cell in cells], scores)


def _correlation(grid: Grid, cells: Sequence[str]) -> str:
    """ "+0.68 [+0.51, +0.80], 70 cells"."""
    found = _rank_correlation(grid, cells)
    return f"{number(found.value, 2, '+')} {interval(found, '+')}, {len(cells)} cells"


def make_figures(grid: Grid, folder: Path) -> list[Path]:
    """Write every experiment's figure and score against loss, as PNG and SVG; returns paths."""
    from matplotlib import pyplot as plt

    written: list[Path] = []
    for name, figure in grid_figures(grid):
        written += save_figure(figure, folder, name)
        plt.close(figure)
    return written


def grid_figures(grid: Grid) -> Iterator[tuple[str, Figure]]:
    """(name, figure) of what `make_figures` writes, one by one; `alt_text` says what each shows."""
    claims = judge_claims(grid)
    for experiment in grid.design.experiments:
        yield experiment.id.lower(), plot_experiment(grid, experiment.id, claims=claims)
    yield "tradeoff", plot_tradeoff(grid)

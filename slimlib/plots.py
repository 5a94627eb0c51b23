"""The study's figures, made from records and loss logs: scores, forgetting waterfall, loss curves.

`plot_*` draw on one matplotlib axes and return it; `make_figures` writes all of them as PNG (200
dpi) and SVG, the same bytes from the same records. Every picture carries the study's title and note
("micro" is on it). matplotlib is imported when something is drawn.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from slimlib import metrics
from slimlib.attribution import attribution_of
from slimlib.benchmarks import BENCHMARKS
from slimlib.changes import FORGOT, IMPROVED, KEPT, UNKNOWN, Change
from slimlib.files import atomic_path
from slimlib.formats import number
from slimlib.losses import Record, by_arm, results_of
from slimlib.verdicts import title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from slimlib.answers import FormatOrAbility
    from slimlib.attribution import Attribution
    from slimlib.comparison import Comparison
    from slimlib.config import Study

# Okabe and Ito's colours, which colour-blind readers can tell apart, in the order of the arms;
# their yellow, too pale for lines on white, is replaced by grey.
PALETTE = ("#000000", "#0072B2", "#56B4E9", "#D55E00", "#E69F00", "#CC79A7", "#009E73", "#999999")
LOST, GAINED, NOISE, TOTAL = "#D55E00", "#0072B2", "#BBBBBB", "#444444"
VERDICT_COLOURS = {FORGOT: LOST, IMPROVED: GAINED, KEPT: "#009E73", UNKNOWN: NOISE}
ANSWER_COLOURS = {  # kind of answer (`slimlib.answers.KINDS`) -> colour, in the order of the bars
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
STYLE = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "slimlib",  # the same element ids in every run
}


def arm_styles(study: Study) -> dict[str, tuple[str, str]]:
    """Arm -> (label, colour), in the study's order: the one mapping that all figures use."""
    pairs = zip(study.arms, cycle(PALETTE), strict=False)
    return {arm.name: (_wrap(arm.label), colour) for arm, colour in pairs}


def _wrap(label: str) -> str:
    return textwrap.fill(label, 26, break_on_hyphens=False)


def plot_scores(records: Sequence[Record], study: Study, role: str, ax: Axes | None = None) -> Axes:
    """Draw one benchmark's accuracy by arm with Wilson's 95 % intervals and the chance level.

    An arm with several seeds is their mean, each seed a small tick. A missing result is a "-".
    """
    ax = ax or _new_axes(study)
    groups, styles, benchmark = by_arm(records, study), arm_styles(study), BENCHMARKS[role]
    for row, (name, (_, colour)) in enumerate(styles.items()):
        results = results_of(groups.get(name, []), role, benchmark.headline)
        if results:
            _draw_score(ax, row, results, colour)
        else:
            _draw_missing(ax, row)
    if benchmark.chance:
        ax.axvline(benchmark.chance, color="grey", linestyle="--", linewidth=1, zorder=0)
        ax.text(benchmark.chance, -0.5, " chance", color="grey", fontsize=8)
    return _finish(ax, study, role, [label for label, _ in styles.values()])


def _draw_score(ax: Axes, row: int, results: Sequence[Mapping[str, Any]], colour: str) -> None:
    values = [100 * result["value"] for result in results]
    mean, n = float(np.mean(values)), results[0]["n"]
    _, low, high = metrics.wilson_interval(round(n * mean / 100), n)
    ax.plot([low, high], [row, row], color=colour, linewidth=2)
    ax.plot(mean, row, "o", color=colour, markersize=6, clip_on=False)
    if len(values) > 1:
        ax.plot(values, [row] * len(values), "|", color=colour, markersize=11)
    ax.text(max(high + 1.5, mean + 4), row, f"{mean:.1f}", va="center", fontsize=8)


def plot_waterfall(attribution: Attribution, role: str, ax: Axes | None = None) -> Axes:
    """Draw how one benchmark's accuracy changes along the attribution ladder, top to bottom.

    First and last bar are accuracies; each bar between is one step's change with its paired 95 %
    interval, coloured by its verdict (after Holm's correction over all steps), grey where it may be
    chance. A missing arm is a "-"; its part of the change falls to the step after it.
    """
    study = attribution.study
    ax = ax or _new_axes(study)
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
            _draw_missing(ax, row, " (in the next step)" if counted_below else "")
    if steps and study.ladder[-1] in steps:
        _draw_total(ax, len(study.ladder), level)
    styles = arm_styles(study)
    start, *others = study.ladder
    causes = [_wrap(f"\u2192 {study.causes.get(arm, arm)}") for arm in others]
    return _finish(ax, study, role, [styles[start][0], *causes, "= result"])


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
    ax = ax or _subplots(6.8, 1.5 + 0.55 * len(changes))
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
    ax.set_yticks(range(len(changes)), [_wrap(change.title) for change in changes])
    ax.set(ylim=(len(changes) - 0.5, -0.8), xlabel="tuned - base, points, with 95 % intervals")
    ax.margins(x=0.18)
    ax.set_title(_wrap_title(title(comparison)), loc="left", fontweight="bold", fontsize=9)
    return ax


def _wrap_title(text: str) -> str:
    return textwrap.fill(text, 80)


def plot_answers(answers: FormatOrAbility, ax: Axes | None = None) -> Axes:
    """Draw both models' kinds of answers as stacked bars, in per cent of the documents."""
    ax = ax or _subplots(6.4, 3.0)
    table, left = answers.table(), np.zeros(2)
    for kind, colour in ANSWER_COLOURS.items():
        counts = table.loc[kind, ["base", "tuned"]].to_numpy(dtype=float)
        if counts.any():
            shares = 100 * counts / answers.n
            ax.barh([0, 1], shares, left=left, height=0.6, color=colour, label=kind)
            _write_shares(ax, left, shares, colour)
            left = left + shares
    ax.set_yticks([0, 1], [_wrap(answers.base), _wrap(answers.tuned)])
    ax.set(xlim=(0, 100), ylim=(1.5, -0.5), xlabel=f"% of {answers.n:,} answers")
    ax.legend(frameon=False, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.3), fontsize=8)
    return ax


def _write_shares(ax: Axes, left: np.ndarray, shares: np.ndarray, colour: str) -> None:
    """The per cent inside each part of a bar, where there is room for it."""
    ink = "black" if colour in ("#E69F00", "#56B4E9", "#CC79A7", "#999999", "#8FD3BD") else "white"
    for row, (start, share) in enumerate(zip(left, shares, strict=True)):
        if share >= 4:
            ax.text(start + share / 2, row, f"{share:.0f}", ha="center", va="center", color=ink)


def plot_losses(
    logs: Mapping[str, Sequence[Mapping[str, Any]]], study: Study, ax: Axes | None = None
) -> Axes:
    """Draw the training loss of each trained arm over the epochs: as logged, and a running mean.

    Args:
        logs: arm -> rows of its log.jsonl, each with `epoch` and `loss` (nats per token).
        study: gives labels, colours and order.
        ax: where to draw; default a new figure.

    Raises:
        ValueError: a log of an arm that the study does not have.
    """
    styles = arm_styles(study)
    unknown = [arm for arm in logs if arm not in styles]
    if unknown:
        raise ValueError(f"study {study.name} has no arm {', '.join(unknown)}")
    ax = ax or _new_axes(study)
    for arm, (label, colour) in styles.items():
        rows = [row for row in logs.get(arm, ()) if row.get("loss") is not None]
        if rows:
            epochs, losses = (np.array([row[key] for row in rows]) for key in ("epoch", "loss"))
            smooth, middle = _running_mean(losses), _running_mean(epochs)
            ax.plot(epochs, losses, color=colour, linewidth=0.8, alpha=0.3)
            ax.plot(middle, smooth, color=colour, linewidth=2, label=label.replace("\n", " "))
    if ax.lines:
        ax.legend(frameon=False)
    ax.set(xlabel="epoch", ylabel="training loss, nats per token")
    return ax


def _running_mean(values: np.ndarray) -> np.ndarray:
    """Mean over a window of a tenth of the values (whole windows only, so shorter than given)."""
    window = max(1, len(values) // 10)
    return np.convolve(values, np.full(window, 1 / window), mode="valid")


def _draw_missing(ax: Axes, row: int, why: str = "") -> None:
    ax.text(2, row, f"-{why}", va="center", fontsize=8)


def _finish(ax: Axes, study: Study, role: str, labels: Sequence[str]) -> Axes:
    """One row per label, top to bottom, on an axis of per cent."""
    ax.set_yticks(range(len(labels)), labels)
    ax.tick_params(axis="y", length=0, pad=8)
    metric = BENCHMARKS[role].metrics[BENCHMARKS[role].headline]
    ax.set(xlim=(0, 112), ylim=(len(labels) - 0.5, -0.8), xlabel=f"{metric}, % right")
    ax.set_xticks(range(0, 101, 25))
    ax.set_title(study.task_labels[role], loc="left", fontweight="bold")
    return ax


def _new_axes(study: Study) -> Axes:
    ax = _subplots(6.4, 4.2)
    ax.figure.suptitle(study.title, fontsize=10)
    return ax


def _subplots(width: float, height: float) -> Axes:
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


def make_figures(
    records: Sequence[Record],
    study: Study,
    folder: Path,
    logs: Mapping[str, Sequence[Mapping[str, Any]]],
) -> list[Path]:
    """Write scores, waterfall and losses into a folder, each as PNG and SVG.

    Returns:
        The paths written.

    Raises:
        ValueError: as `report.table2` and `plot_losses`.
    """
    from matplotlib import rc_context

    ladder = attribution_of(records, study)
    with rc_context(STYLE):
        figures = {
            "scores": _by_task(
                partial(plot_scores, records, study), study, "Scores with 95 % intervals"
            ),
            "waterfall": _by_task(
                partial(plot_waterfall, ladder),
                study,
                "What each step changed, with paired 95 % intervals "
                "(orange: lost, blue: gained, green: kept, grey: may be chance)",
            ),
            "losses": _losses_figure(logs, study),
        }
        saved = [save_figure(figure, folder, name) for name, figure in figures.items()]
    return [path for paths in saved for path in paths]


def _by_task(plot: Callable[..., Axes], study: Study, heading: str) -> Figure:
    """One panel per benchmark, side by side, with the rows' labels at the left."""
    roles = list(study.task_labels)
    figure = _figure(study, heading, width=2.0 + 2.9 * len(roles), height=4.6)
    axes = figure.subplots(1, len(roles), sharey=True, squeeze=False)[0]
    for role, ax in zip(roles, axes, strict=True):
        plot(role, ax)
    return figure


def _losses_figure(logs: Mapping[str, Sequence[Mapping[str, Any]]], study: Study) -> Figure:
    figure = _figure(study, "Training loss", width=6.4, height=4.2)
    plot_losses(logs, study, figure.subplots())
    return figure


def _figure(study: Study, heading: str, width: float, height: float) -> Figure:
    """An empty figure with its heading, the study's title and, below, the study's note."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    figure.suptitle(f"{heading}\n{study.title}", fontsize=11, x=0.01, ha="left")
    note = textwrap.fill(study.note, int(width * 15))
    figure.supxlabel(note, fontsize=8, color="dimgrey", x=0.01, ha="left")
    return figure


def save_figure(figure: Figure, folder: Path, name: str) -> tuple[Path, Path]:
    """Write name.png (200 dpi) and name.svg, each whole or not at all, without dates."""
    png, svg = folder / f"{name}.png", folder / f"{name}.svg"
    from matplotlib import rc_context

    with rc_context(STYLE):
        with atomic_path(png) as temporary:
            figure.savefig(temporary, format="png", dpi=200, metadata={"Software": None})
        with atomic_path(svg) as temporary:
            figure.savefig(temporary, format="svg", metadata={"Date": None, "Creator": None})
    return png, svg


def show(path: Path) -> Any:
    """A written picture, for a notebook to display inline."""
    from IPython.display import Image

    return Image(filename=str(path), width=900)

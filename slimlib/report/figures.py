"""A study's figures, made from records and loss logs: scores, forgetting waterfall, loss curves."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from slimlib import metrics
from slimlib.common.style import PALETTE, STYLE, as_written, save_figure, wrap
from slimlib.comparison.arms import Record, by_arm, results_of
from slimlib.comparison.benchmarks import BENCHMARKS
from slimlib.comparison.ladder import attribution_of
from slimlib.comparison.plots import draw_missing, finish, new_axes
from slimlib.config import Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def arm_styles(study: Study) -> dict[str, tuple[str, str]]:
    """Arm -> (label, colour), in the study's order: the one mapping that all figures use."""
    pairs = zip(study.arms, cycle(PALETTE), strict=False)
    return {arm.name: (wrap(arm.label), colour) for arm, colour in pairs}


def plot_scores(records: Sequence[Record], study: Study, role: str, ax: Axes | None = None) -> Axes:
    """Draw one benchmark's accuracy by arm with Wilson's 95 % intervals and the chance level.

    An arm with several seeds is their mean, each seed a small tick. A missing result is a "-".
    """
    ax = ax or new_axes(study.title)
    groups, styles, benchmark = by_arm(records, study), arm_styles(study), BENCHMARKS[role]
    for row, (name, (_, colour)) in enumerate(styles.items()):
        results = results_of(groups.get(name, []), role, benchmark.headline)
        if results:
            _draw_score(ax, row, results, colour)
        else:
            draw_missing(ax, row)
    if benchmark.chance:
        ax.axvline(benchmark.chance, color="grey", linestyle="--", linewidth=1, zorder=0)
        ax.text(benchmark.chance, -0.5, " chance", color="grey", fontsize=8)
    metric, labels = benchmark.metrics[benchmark.headline], [label for label, _ in styles.values()]
    return finish(ax, study.task_labels[role], metric, labels)


def _draw_score(ax: Axes, row: int, results: Sequence[Mapping[str, Any]], colour: str) -> None:
    values = [100 * result["value"] for result in results]
    mean, n = float(np.mean(values)), results[0]["n"]
    _, low, high = metrics.wilson_interval(round(n * mean / 100), n)
    ax.plot([low, high], [row, row], color=colour, linewidth=2)
    ax.plot(mean, row, "o", color=colour, markersize=6, clip_on=False)
    if len(values) > 1:
        ax.plot(values, [row] * len(values), "|", color=colour, markersize=11)
    ax.text(max(high + 1.5, mean + 4), row, f"{mean:.1f}", va="center", fontsize=8)


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
    ax = ax or new_axes(study.title)
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


def plot_probes(
    logs: Mapping[str, Sequence[Mapping[str, Any]]], study: Study, task: str, ax: Axes
) -> Axes:
    """Draw what the arms in training could of one task, with Wilson's 95 % intervals.

    Args:
        logs: arm -> rows of its log.jsonl, of which the probes' have `epoch`, `probe` and `n`.
        study: gives labels and colours.
        task: of the probes.
        ax: where to draw.
    """
    for arm, (label, colour) in arm_styles(study).items():
        rows = [row for row in logs.get(arm, ()) if task in row.get("probe", ())]
        if not rows:
            continue
        found = [_wilson(row["probe"][task], row["n"][task]) for row in rows]
        values, low, high = (np.array(column) for column in zip(*found, strict=True))
        ax.errorbar(
            [row["epoch"] for row in rows],
            values,
            [values - low, high - values],
            color=colour,
            marker="o",
            markersize=4,
            capsize=2,
            linewidth=1.4,
            label=label.replace("\n", " "),
        )
    roles = {t.name: t.role for arm in study.arms for t in arm.evaluate.tasks}
    title = study.task_labels.get(roles.get(task, ""), task)
    ax.set_title(as_written(title), loc="left", fontsize=9)
    ax.set(xlabel="epoch", ylabel="% right", ylim=(-3, 103))
    return ax


def _wilson(share: float, n: int) -> tuple[float, float, float]:
    _, low, high = metrics.wilson_interval(round(share * n), n)
    return 100 * share, low, high


def probed_tasks(logs: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """The tasks that any arm was probed on while it was trained."""
    return [*dict.fromkeys(t for rows in logs.values() for r in rows for t in r.get("probe", ()))]


def _running_mean(values: np.ndarray) -> np.ndarray:
    """Mean over a window of a tenth of the values (whole windows only, so shorter than given)."""
    window = max(1, len(values) // 10)
    return np.convolve(values, np.full(window, 1 / window), mode="valid")


def make_figures(
    records: Sequence[Record],
    study: Study,
    folder: Path,
    logs: Mapping[str, Sequence[Mapping[str, Any]]],
) -> list[Path]:
    """Write scores, waterfall and, of what was trained, losses into a folder, as PNG and SVG.

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
                ladder.plot,
                study,
                "What each step changed, with paired 95 % intervals "
                "(orange: lost, blue: gained, green: kept, grey: may be chance)",
            ),
        }
        if any(logs.values()):
            figures["losses"] = _losses_figure(logs, study)
        saved = [save_figure(figure, folder, name) for name, figure in figures.items()]
    return [path for paths in saved for path in paths]


def _by_task(plot: Callable[..., Axes], study: Study, heading: str) -> Figure:
    """One panel per benchmark, side by side, with the rows' labels at the left."""
    roles = list(study.task_labels)
    height = max(4.6, 0.36 * len(study.arms))
    figure = _figure(study, heading, width=2.0 + 2.9 * len(roles), height=height)
    axes = figure.subplots(1, len(roles), sharey=True, squeeze=False)[0]
    for role, ax in zip(roles, axes, strict=True):
        plot(role, ax)
    return figure


def _losses_figure(logs: Mapping[str, Sequence[Mapping[str, Any]]], study: Study) -> Figure:
    tasks = probed_tasks(logs)
    heading = "Training loss" + (", and probes along the way" if tasks else "")
    figure = _figure(study, heading, width=6.4, height=4.2 + 2.0 * len(tasks))
    heights = [1.6, *(1.0 for _ in tasks)]
    first, *others = figure.subplots(
        1 + len(tasks), sharex=True, squeeze=False, height_ratios=heights
    )[:, 0]
    plot_losses(logs, study, first)
    for task, ax in zip(tasks, others, strict=True):
        plot_probes(logs, study, task, ax)
    for ax in (first, *others):
        ax.label_outer()
    return figure


def _figure(study: Study, heading: str, width: float, height: float) -> Figure:
    """An empty figure with its heading, the study's title and, below, the study's note."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    figure.suptitle(as_written(f"{heading}\n{study.title}"), fontsize=11, x=0.01, ha="left")
    note = textwrap.fill(as_written(study.note), int(width * 15))
    figure.supxlabel(note, fontsize=8, color="dimgrey", x=0.01, ha="left")
    return figure

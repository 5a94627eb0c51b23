"""A study's figures, made from records and loss logs: scores, forgetting waterfall, loss curves."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from slimlib import metrics
from slimlib.common.style import (
    PALETTE,
    SMALL,
    STYLE,
    WIDTH,
    as_written,
    draw_beside,
    entitle,
    listed,
    save_figure,
    subplots,
    wrap,
)
from slimlib.comparison.arms import Record, by_arm, judge_arms, results_of
from slimlib.comparison.benchmarks import BENCHMARKS
from slimlib.comparison.change import LOSSES
from slimlib.comparison.ladder import attribution_of
from slimlib.comparison.plots import draw_missing, finish
from slimlib.config import Arm, Study
from slimlib.methods.shapes import shape_of_model
from slimlib.studies.get import STUDIES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLACK, BLUE, SKY, RED, AMBER, PINK, GREEN, GREY = PALETTE
COLUMNS = 3  # benchmarks side by side
SEEDS = "Ticks: single seeds."
INTERVALS = "Lines: Wilson's 95 % intervals over questions."
STEPS = "Black lines: paired 95 % intervals over questions and seeds, each at the step's end."


def arm_styles(study: Study) -> dict[str, tuple[str, str]]:
    """Arm -> (label, colour), one mapping for all figures: a colour says what was done to an arm.

    Blue is the base that is fine-tuned, black and green are other checkpoints; light blue is
    quantised and not tuned; red is the fine-tuned arm that the study is about, pink and grey are
    others; amber is re-quantised after the merge, green merged into 16 bit. A study with fewer arms
    keeps the colours of the whole one.
    """
    whole = STUDIES[study.name]() if study.name in STUDIES else study
    main = next((arm for arm in whole.arms if arm.trains), whole.arms[0])
    base = main.compared_with or main.name
    others, trained = cycle((BLACK, GREEN)), cycle((PINK, GREY))
    colours = {}
    for arm in {arm.name: arm for arm in (*whole.arms, *study.arms)}.values():
        if arm.adapter_from:
            colours[arm.name] = GREEN if arm.merge.merge_base == "16bit" else AMBER
        elif arm.adapter:
            colours[arm.name] = RED if arm.name == main.name else next(trained)
        elif arm.quantise:
            colours[arm.name] = SKY
        else:
            colours[arm.name] = BLUE if arm.name == base else next(others)
    return {arm.name: (wrap(arm.label), colours[arm.name]) for arm in study.arms}


# ------------------------------------------------------------------------------------------ scores


def plot_scores(records: Sequence[Record], study: Study, role: str, ax: Axes | None = None) -> Axes:
    """Draw one benchmark's accuracy by arm with Wilson's 95 % intervals and the chance level.

    An arm with several seeds is their mean, each seed a small tick. A missing result is a "-".
    """
    if ax is None:
        ax = subplots(WIDTH, 1.6 + 0.25 * len(study.arms))
        said = scores_message(records, study, role)
        entitle(ax.figure, said, study.title, _scores_note(records, study))
    groups, styles, benchmark = by_arm(records, study), arm_styles(study), BENCHMARKS[role]
    sizes = set()
    for row, (name, (_, colour)) in enumerate(styles.items()):
        results = results_of(groups.get(name, []), role, benchmark.headline)
        sizes |= {result["n"] for result in results}
        if results:
            _draw_score(ax, row, results, colour)
        else:
            draw_missing(ax, row)
    if benchmark.chance:
        ax.axvline(benchmark.chance, color=GREY, linestyle="--", linewidth=1, zorder=0)
        ax.text(benchmark.chance + 2, -0.62, "chance", color="#555555", fontsize=SMALL, va="center")
    ax.set_ylim(len(study.arms) - 0.5, -1)
    n = f", n = {' or '.join(f'{size:,}' for size in sorted(sizes))}" if sizes else ""
    title = f"{study.task_labels[role]}: {benchmark.metrics[benchmark.headline]}{n}"
    return finish(ax, title, [label for label, _ in styles.values()])


def _draw_score(ax: Axes, row: int, results: Sequence[Mapping[str, Any]], colour: str) -> None:
    values = [100 * result["value"] for result in results]
    mean, n = float(np.mean(values)), results[0]["n"]
    _, low, high = metrics.wilson_interval(round(n * mean / 100), n)
    ax.plot([low, high], [row, row], color=colour, linewidth=2)
    ax.plot(mean, row, "o", color=colour, markersize=5, clip_on=False)
    if len(values) > 1:
        ax.plot(values, [row] * len(values), "|", color=colour, markersize=9, clip_on=False)
    draw_beside(ax, row, f"{mean:.1f}")


def scores_message(records: Sequence[Record], study: Study, *roles: str) -> str:
    """How many arms are shown to score less than the arm that they come from, and which are not.

    Judged as one family: every arm on every benchmark.
    """
    changes = judge_arms(by_arm(records, study), study)
    asked = [arm for arm in study.arms if any(name == arm.name for name, _ in changes)]
    some = roles or tuple(study.task_labels)
    lost = {arm for (arm, role), c in changes.items() if role in some and c.verdict in LOSSES}
    where = f" on {study.task_labels[roles[0]]}" if roles else " on some benchmark"
    if not asked:
        return "No arm stands beside the one that it comes from"
    if not lost:
        return f"No arm is shown to score less{where} than the one that it comes from"
    kept = [arm.label for arm in asked if arm.name not in lost]
    said = f"{len(lost)} of {len(asked)} arms are shown to score less{where} than the one that "
    return said + f"they come from{f'; not so: {listed(kept)}' if kept else ''}"


def _scores_note(records: Sequence[Record], study: Study) -> str:
    several = any(len(group) > 1 for group in by_arm(records, study).values())
    return " ".join(filter(None, (INTERVALS, SEEDS if several else "", study.note)))


# ------------------------------------------------------------------------------------------ losses


def plot_losses(
    logs: Mapping[str, Sequence[Mapping[str, Any]]], study: Study, ax: Axes | None = None
) -> Axes:
    """Draw the training loss of each trained arm over the epochs: as logged, and a running mean.

    The dashed line is the loss of a uniform guess over the model's vocabulary, where it is known
    and no higher than all that was logged.

    Args:
        logs: arm -> rows of its log.jsonl, each with `epoch` and `loss` (nats per token).
        study: gives labels, colours and order.
        ax: where to draw; default a new figure.

    Raises:
        ValueError: a log of an arm that the study does not have.
    """
    styles = arm_styles(study)
    if unknown := [arm for arm in logs if arm not in styles]:
        raise ValueError(f"study {study.name} has no arm {', '.join(unknown)}")
    curves = dict(_curves(logs, study))
    if ax is None:
        ax = subplots(WIDTH, 3.6)
        entitle(ax.figure, losses_message(logs, study), study.title, _losses_note(logs, study))
    for arm, (epochs, losses) in curves.items():
        _, colour = styles[arm]
        ax.plot(epochs, losses, color=colour, linewidth=0.8, alpha=0.35)
        ax.plot(_running_mean(epochs), _running_mean(losses), color=colour, linewidth=2)
    ax.set(xlabel="epoch", ylabel="training loss, nats per token")
    if curves:
        ax.set_ylim(0, 1.08 * max(losses.max() for _, losses in curves.values()))
        _draw_guess(ax, study, curves)
        ends = {arm: float(_running_mean(losses)[-1]) for arm, (_, losses) in curves.items()}
        _label_curves(ax, ends, styles)
    return ax


Curve = tuple[np.ndarray, np.ndarray]  # epochs, losses


def _curves(
    logs: Mapping[str, Sequence[Mapping[str, Any]]], study: Study
) -> Iterator[tuple[str, Curve]]:
    """(arm, its curve) of each arm that has a logged loss, in the study's order."""
    for arm in study.arms:
        rows = [row for row in logs.get(arm.name, ()) if row.get("loss") is not None]
        if rows:
            epochs, losses = (np.array([row[key] for row in rows]) for key in ("epoch", "loss"))
            yield arm.name, (epochs, losses)


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
    styles, ends, asked = arm_styles(study), {}, 0
    for arm, (_, colour) in styles.items():
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
            linewidth=1.4,
        )
        ends[arm], asked = float(values[-1]), rows[-1]["n"][task]
    roles = {t.name: t.role for arm in study.arms for t in arm.evaluate.tasks}
    title = study.task_labels.get(roles.get(task, ""), task)
    ax.set_title(as_written(f"probe of {title}, n = {asked:,}"), loc="left")
    ax.set(xlabel="epoch", ylabel="% right", ylim=(-3, 103))
    _label_curves(ax, ends, styles)
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


def _guess(arm: Arm) -> float | None:
    """The loss of a model that takes all tokens to be equally likely; None: size not known."""
    shape = shape_of_model(arm.model.name)
    return math.log(shape.vocab_size) if shape else None


def _draw_guess(ax: Axes, study: Study, arms: Iterable[str]) -> None:
    known = {_guess(study[arm]) for arm in arms} - {None}
    top = ax.get_ylim()[1]
    for loss in (loss for loss in known if loss < top):  # else it lies beyond all that is drawn
        ax.axhline(loss, color=GREY, linestyle="--", linewidth=1, zorder=0)
        said = f"uniform guess over {math.exp(loss):,.0f} tokens: {loss:.2f}"
        ax.text(0.99, loss, said, transform=ax.get_yaxis_transform(), **GUESS_TEXT)


GUESS_TEXT = {"ha": "right", "va": "bottom", "fontsize": 7.5, "color": "#555555"}


def _label_curves(
    ax: Axes, ends: Mapping[str, float], styles: Mapping[str, tuple[str, str]]
) -> None:
    """Each curve's name and last value at its end, moved apart where they would touch."""
    low, gap = 0.0, 0.105 * ax.get_ylim()[1]
    for arm, value in sorted(ends.items(), key=lambda item: item[1]):
        height = max(value, low)
        label, colour = styles[arm]
        text = f"{wrap(label, 20)}\n{value:.2f}"
        draw_beside(ax, height, text, color=colour, fontweight="bold", va="bottom")
        low = height + gap * (1 + 0.5 * text.count("\n"))


def losses_message(logs: Mapping[str, Sequence[Mapping[str, Any]]], study: Study) -> str:
    """Where each arm's loss ends."""
    ends = [
        f"{_running_mean(losses)[-1]:.2f} ({study[arm].label})"
        for arm, (_, losses) in _curves(logs, study)
    ]
    return f"Training loss ends at {listed(ends)}" if ends else "No training loss"


def _losses_note(logs: Mapping[str, Sequence[Mapping[str, Any]]], study: Study) -> str:
    """What the lines are; and why a loss may start above that of a guess."""
    note = "Thin: as logged, one run an arm. Thick: mean over a tenth of the run."
    above = [
        a for a, (_, losses) in _curves(logs, study) if losses[0] > (_guess(study[a]) or math.inf)
    ]
    if above:
        note += (
            " A loss above the dashed line: the model gives the tokens of these rows less "
            "probability than a uniform guess would, since it expects others with confidence."
        )
    return f"{note} {study.note}"


# ------------------------------------------------------------------------------------------- files


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
    figures = study_figures(records, study, logs)
    saved = [save_figure(figure, folder, name) for name, figure in figures.items()]
    return [path for paths in saved for path in paths]


def study_figures(
    records: Sequence[Record],
    study: Study,
    logs: Mapping[str, Sequence[Mapping[str, Any]]],
) -> dict[str, Figure]:
    """The figures that `make_figures` writes, by name; `alt_text` says what each shows."""
    from matplotlib import rc_context

    with rc_context(STYLE):
        figures = {"scores": _scores_figure(records, study)}
        if study.ladder:  # none: no arm of it was asked for
            figures["waterfall"] = _waterfall_figure(records, study)
        if any(logs.values()):
            figures["losses"] = _losses_figure(logs, study)
    return figures


def _scores_figure(records: Sequence[Record], study: Study) -> Figure:
    """Benchmarks side by side, three in a row, with the arms' labels at the left."""
    roles = [*study.task_labels]
    rows = math.ceil(len(roles) / COLUMNS)
    figure = _figure(rows * (0.9 + 0.23 * len(study.arms)) + 1)
    entitle(figure, scores_message(records, study), study.title, _scores_note(records, study))
    columns = min(COLUMNS, len(roles))
    axes = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    for ax in axes[len(roles) :]:
        ax.remove()
    for role, ax in zip(roles, axes, strict=False):
        plot_scores(records, study, role, ax)
        ax.set_title(_narrow(ax.get_title(loc="left")), loc="left", fontweight="bold", fontsize=7.5)
        ax.set_xticks((0, 50, 100), ("0", "50", "100 %"))
    return figure


def _narrow(title: str) -> str:
    """The title of a panel of a third of the width: name, then metric and n in a line."""
    name, _, rest = title.rpartition(": ")
    return f"{wrap(name, 22)}\n{rest}"


def _waterfall_figure(records: Sequence[Record], study: Study) -> Figure:
    """One benchmark under the other, since a row's numbers take their place."""
    ladder, roles = attribution_of(records, study), [*study.task_labels]
    figure = _figure(1 + len(roles) * (0.5 + 0.27 * (len(study.ladder) + 1)))
    entitle(figure, ladder.message(), study.title, f"{STEPS} {study.note}")
    for role, ax in zip(roles, figure.subplots(len(roles), 1, squeeze=False).ravel(), strict=True):
        ladder.plot(role, ax)
    return figure


def _losses_figure(logs: Mapping[str, Sequence[Mapping[str, Any]]], study: Study) -> Figure:
    tasks = probed_tasks(logs)
    figure = _figure(3.8 + 1.6 * len(tasks))
    entitle(figure, losses_message(logs, study), study.title, _losses_note(logs, study))
    heights = [2, *(1 for _ in tasks)]
    first, *others = figure.subplots(
        1 + len(tasks), sharex=True, squeeze=False, height_ratios=heights
    )[:, 0]
    plot_losses(logs, study, first)
    for task, ax in zip(tasks, others, strict=True):
        plot_probes(logs, study, task, ax)
    for ax in (first, *others):
        ax.label_outer()
    return figure


def _figure(height: float) -> Figure:
    """An empty figure of the one width."""
    from matplotlib.figure import Figure

    return Figure(figsize=(WIDTH, height), layout="constrained")

"""Pictures of what fine-tunings learn against what they lose, and of shares of an adapter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from slimlib.common.style import SMALL, WIDTH, as_written, entitle, listed, subplots
from slimlib.comparison.knobs import Mitigation, Place, pareto_front, scale_paths
from slimlib.comparison.plots import NOISE, TOTAL
from slimlib.report.figures import arm_styles

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PLAIN, FRONT = "#D55E00", "#0072B2"
MOST = 3  # arms that the heading names
MEANING = (
    "With 95 % intervals; blue: on the Pareto front by the values alone, orange: the plain arm, "
    "grey: the others."
)


def plot_tradeoff(found: Mitigation, ax: Axes | None = None) -> Axes:
    """Draw each fine-tuned arm: learned to the right, kept upwards, both against the base.

    The Pareto front is of the arms of which no other learned and kept more.

    Raises:
        ValueError: no record says what was learned or what was kept.
    """
    places = found.places()
    if not places:
        raise ValueError(
            f"study {found.study.name}: nothing to draw: its records need the base, a benchmark of "
            f"{', '.join(found.study.learned) or 'what is learned'} and one of what can be lost"
        )
    front, labels = pareto_front(places), {p.arm: found.study[p.arm].label for p in places}
    if ax is None:
        ax = subplots(WIDTH, 6.6)
        _entitle(ax, found, [labels[arm] for arm in front])
    ax.axhline(0, color=TOTAL, linewidth=0.8, zorder=0)
    ax.axvline(0, color=TOTAL, linewidth=0.8, zorder=0)
    for number, place in enumerate(places, 1):
        colour = PLAIN if place.arm == found.plain else FRONT if place.arm in front else NOISE
        _draw_place(ax, place, colour, number)
    line = sorted((p for p in places if p.arm in front), key=lambda p: p.learned.difference.value)
    xs, ys = ([getattr(p, side).difference.value for p in line] for side in ("learned", "kept"))
    ax.plot(xs, ys, color=FRONT, linewidth=1, linestyle="--", zorder=1)
    _draw_key(ax, [f"{n}  {label}" for n, label in enumerate(labels.values(), 1)])
    ax.set(xlabel="learned, points against the base", ylabel="kept, points against the base")
    return ax


def _entitle(ax: Axes, found: Mitigation, front: Sequence[str]) -> None:
    """Say above the figure which arms are on the front, and below it what was measured."""
    more = f", and {len(front) - MOST} more" if len(front) > MOST else ""
    message = f"No arm learned and kept more than: {listed(front[:MOST])}{more}"
    learned, kept = (
        ", ".join(found.study.task_labels[role] for role in roles)
        for roles in (found.learned, found.abilities)
    )
    note = f"Learned: {learned}. Kept: the mean of {kept}. {MEANING} {found.study.note}"
    entitle(ax.figure, message, found.study.title, note)


def _draw_key(ax: Axes, names: Sequence[str]) -> None:
    """Write the numbered names below the axes, in two columns."""
    half = -(-len(names) // 2)
    for x, column in ((0.0, names[:half]), (0.52, names[half:])):
        text = as_written("\n".join(column))
        ax.text(x, -0.14, text, transform=ax.transAxes, va="top", fontsize=SMALL)


def _draw_place(ax: Axes, place: Place, colour: str, number: int) -> None:
    x, y = place.learned.difference, place.kept.difference
    order = 2 if colour == NOISE else 3
    ax.plot([x.low, x.high], [y.value] * 2, color=colour, linewidth=0.9, alpha=0.5, zorder=order)
    ax.plot([x.value] * 2, [y.low, y.high], color=colour, linewidth=0.9, alpha=0.5, zorder=order)
    ax.plot(x.value, y.value, "o", color=colour, markersize=11, zorder=order)
    style = {"ha": "center", "va": "center", "fontsize": 7, "zorder": order + 1}
    ax.text(x.value, y.value, str(number), color="black" if colour == NOISE else "white", **style)


def plot_scale_paths(found: Mitigation, ax: Axes | None = None) -> Axes:
    """Draw what is kept against the base as more of one adapter is added, a line for each merge.

    Raises:
        ValueError: the study has no arms that differ in merge.scale alone, or none has results.
    """
    places = {place.arm: place for place in found.places()}
    colours = {arm: colour for arm, (_, colour) in arm_styles(found.study).items()}
    paths = {
        key: [arm for arm in arms if arm.name in places]
        for key, arms in scale_paths(found.study).items()
    }
    paths = {key: arms for key, arms in paths.items() if len(arms) > 1}
    if not paths:
        raise ValueError(f"study {found.study.name} has no results at several merge.scale")
    if ax is None:
        ax, message = subplots(WIDTH, 3.8), "What a share of the fine-tuning keeps and learns"
        entitle(ax.figure, message, found.study.title, f"With 95 % intervals. {found.study.note}")
    ax.axhline(0, color=TOTAL, linewidth=0.8, zorder=0)
    for key, arms in paths.items():
        for side, style in (("kept", "-"), ("learned", ":")):
            points = [getattr(places[arm.name], side).difference for arm in arms]
            values = [point.value for point in points]
            limits = [[p.value - p.low for p in points], [p.high - p.value for p in points]]
            ax.errorbar(
                [arm.merge.scale for arm in arms],
                values,
                limits,
                color=colours[arms[-1].name],
                linestyle=style,
                marker="o",
                capsize=2,
                label=as_written(f"{key}: {side}"),
            )
    ax.set(xlabel="share of dW that is added (merge.scale)", ylabel="points against the base")
    ax.legend(frameon=False, fontsize=8)
    return ax

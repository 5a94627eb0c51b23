"""A training while it runs: its loss, probes, speed and time left, drawn from its log alone.

So it can be drawn by whoever comes back to a run, or from another process.
"""

from __future__ import annotations

import base64
import contextlib
import html
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from slimlib import metrics
from slimlib.common import progress
from slimlib.common.files import read_jsonl
from slimlib.common.picture import Picture, described
from slimlib.common.style import PALETTE, STYLE, as_written

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NOW = 10  # logged steps that speed and time left are taken from
SMOOTHED = 0.7  # of the smoothed loss stays at each logged step
LIVE_DPI = 100  # the live picture is sent every few seconds

Row = Mapping[str, Any]


def training_view(run: Any, arm: str) -> Picture:
    """Draw a training from its log: loss, probes, speed, memory and time left.

    Args:
        run: the run, which may be at work in another process.
        arm: one that is trained.

    Example:

        slimlib.training_view(slimlib.open_run("runs/micro"), "llama-2k")

    Raises:
        ValueError: no such arm, or nothing of it is logged yet.
    """
    return view(run.arm_folder(arm) / "log.jsonl")


@contextlib.contextmanager
def live_training() -> Iterator[None]:
    """Show each training of the block in a notebook's cell, as it goes on.

    Example:

        with slimlib.live_training():
            slimlib.finetune_arm(run, "llama-2k")
    """
    with progress.drawn_by(as_html):
        yield


def view(log: Path) -> Picture:
    """The picture of one log.

    Raises:
        ValueError: it is not there, or holds no loss.
    """
    if not log.is_file():
        raise ValueError(f"{log} does not exist: nothing of this arm was trained yet")
    rows = read_jsonl(log)
    if not losses_of(rows):
        raise ValueError(f"{log} holds no loss yet: wait for its first step")
    return described(draw(rows), sentence(log.parent.name, rows))


def as_html(log: Path) -> str:
    """The picture of one log for a page, with its sentence as alternative text; "" before any."""
    if not log.is_file() or not losses_of(read_jsonl(log)):
        return ""
    picture = view(log)
    data = base64.b64encode(picture.png(LIVE_DPI)).decode()
    source = f"data:image/png;base64,{data}"
    return f"<img style='max-width:100%' alt='{html.escape(picture.text)}' src='{source}'>"


# ------------------------------------------------------------------------------------ what it says


def losses_of(rows: Sequence[Row]) -> list[Row]:
    """The lines of a log that hold a loss; others hold a probe."""
    return [row for row in rows if row.get("loss") is not None]


def smoothed(losses: Sequence[float]) -> np.ndarray:
    """The exponential mean of the losses so far, without the pull of its start.

    Each loss weighs 0.7 times the next one; divided by the sum of the weights, as in Adam (Kingma
    and Ba, 2015, section 3). The last point is of the last step, which a centred mean has not.

    Example: 2, 1 -> 2, (0.7 * 2 + 1) / 1.7 = 1.412.
    """
    sums = weights = 0.0
    found = []
    for loss in losses:
        sums, weights = SMOOTHED * sums + loss, SMOOTHED * weights + 1
        found.append(sums / weights)
    return np.array(found)


def pace(rows: Sequence[Row], what: str) -> float | None:
    """So much of "step" or "tokens" a second, over the last logged steps; None: not known."""
    last = [row for row in losses_of(rows) if what in row and "seconds" in row][-NOW:]
    if not last:
        return None
    first = last[0] if len(last) > 1 else {what: 0, "seconds": 0.0}
    seconds = last[-1]["seconds"] - first["seconds"]
    return (last[-1][what] - first[what]) / seconds if seconds > 0 else None


def seconds_left(rows: Sequence[Row]) -> float | None:
    """At this pace; None where it or the number of steps is not known."""
    last, steps = losses_of(rows)[-1], pace(rows, "step")
    return (last["max_steps"] - last["step"]) / steps if steps and "max_steps" in last else None


def sentence(arm: str, rows: Sequence[Row]) -> str:
    """Where a training is, in words."""
    losses = losses_of(rows)
    last, left, speed = losses[-1], seconds_left(rows), pace(rows, "tokens")
    steps = f"{last['step']:,} of {last['max_steps']:,}" if "max_steps" in last else last["step"]
    parts = [f"loss {smoothed([row['loss'] for row in losses])[-1]:.2f}, smoothed"]
    parts += [f"{speed:,.0f} tokens/s"] if speed else []
    parts += [f"{last['peak_memory_gb']:.2f} GB at most"] if "peak_memory_gb" in last else []
    parts += [f"{progress.duration(left)} left"] if left else []
    parts += [
        f"{task} {100 * share:.0f} % of {n}" for task, (share, n) in last_probes(rows).items()
    ]
    return f"{arm}, step {steps}: {', '.join(parts)}"


def last_probes(rows: Sequence[Row]) -> dict[str, tuple[float, int]]:
    """Task -> share right and documents, as they were last probed."""
    found = {}
    for row in rows:
        found |= {task: (share, row["n"][task]) for task, share in row.get("probe", {}).items()}
    return found


# ----------------------------------------------------------------------------------------- drawing


def draw(rows: Sequence[Row]) -> Figure:
    """Loss over steps, raw and smoothed; below it the probes; checkpoints as dotted lines."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    tasks = [*last_probes(rows)]
    with rc_context(STYLE):
        figure = Figure(figsize=(6.4, 5.0 if tasks else 2.8), layout="constrained")
        axes = figure.subplots(2 if tasks else 1, 1, sharex=True, squeeze=False)[:, 0]
        _draw_losses(axes[0], losses_of(rows))
        for ax in axes:
            _draw_checkpoints(ax, [row["checkpoint"] for row in rows if "checkpoint" in row])
        for task, colour, marker in zip(tasks, cycle(PALETTE[1:]), cycle("os^D"), strict=False):
            _draw_probe(axes[-1], task, rows, {"color": colour, "marker": marker})
        if tasks:
            axes[-1].legend(frameon=False, ncols=2, loc="upper left", bbox_to_anchor=(0, -0.3))
        steps = losses_of(rows)[-1].get("max_steps", rows[-1]["step"])
        axes[-1].set(xlabel="step", xlim=(0, 1.02 * steps))
    return figure


def _draw_losses(ax: Axes, rows: Sequence[Row]) -> None:
    steps, losses = [row["step"] for row in rows], [row["loss"] for row in rows]
    smooth = smoothed(losses)
    ax.plot(steps, losses, color=PALETTE[0], linewidth=0.8, alpha=0.35)
    ax.plot(steps, smooth, color=PALETTE[0], linewidth=2)
    ax.plot(steps[-1], smooth[-1], "o", color=PALETTE[0], markersize=5)
    title = f"training loss {smooth[-1]:.2f}, smoothed; thin: as logged"
    ax.set_title(title, loc="left", fontweight="bold")
    ax.set_ylabel("nats per token")
    ax.margins(y=0.12)


def _draw_checkpoints(ax: Axes, steps: Sequence[int]) -> None:
    for step in steps:
        ax.axvline(step, color="grey", linestyle=":", linewidth=1, zorder=0)
    if steps and ax.get_subplotspec().is_first_row():
        said = "dotted: checkpoint" + ("s" if len(steps) > 1 else "")
        ax.set_title(said, loc="right", color="grey", fontsize=8)


def _draw_probe(ax: Axes, task: str, rows: Sequence[Row], look: Mapping[str, str]) -> None:
    """One task's share right at each probe, with Wilson's 95 % interval."""
    probed = [row for row in rows if task in row.get("probe", {})]
    shares = np.array([100 * row["probe"][task] for row in probed])
    counts = [(round(row["probe"][task] * row["n"][task]), row["n"][task]) for row in probed]
    limits = np.array([metrics.wilson_interval(*count)[1:] for count in counts]).T
    label = as_written(f"{task}: {shares[-1]:.0f} % of {counts[-1][1]}")
    steps = [row["step"] for row in probed]
    ax.errorbar(steps, shares, abs(limits - shares), ms=4, capsize=2, label=label, **look)
    ax.set(ylabel="% right", ylim=(-3, 103))
    ax.set_title("probes, with 95 % intervals", loc="left", fontweight="bold")

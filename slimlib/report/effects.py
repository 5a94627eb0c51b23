"""What switches do to each benchmark, from the records of a factorial study: table and picture.

The records' cells have two seeds or more; p-values are corrected (Holm) over all effects and
benchmarks together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from slimlib.common.style import STYLE, WIDTH, as_written, entitle, listed
from slimlib.comparison.arms import Record, by_arm, results_of
from slimlib.comparison.benchmarks import ALPHA, BENCHMARKS
from slimlib.comparison.factorial import Switches, measure_effects
from slimlib.comparison.plots import GAINED, LOST, NOISE, TOTAL
from slimlib.config import Study
from slimlib.metrics import holm
from slimlib.metrics.text import number, p_cell

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ACROSS = 2  # panels side by side
MOST = 3  # effects that the heading names
MEANING = (
    "With 95 % intervals; blue: raises the score, orange: lowers it, grey: may be chance (p after "
    "Holm's correction over all effects)."
)


def effects_table(
    records: Sequence[Record],
    study: Study,
    cells: Mapping[str, Switches],
    factors: Sequence[str],
) -> pd.DataFrame:
    """Every effect on every benchmark: points, 95 % limits, p, and p after Holm's correction.

    Args:
        records: of all seeds.
        study: gives the benchmarks.
        cells: arm -> switches that are on in it.
        factors: the switches.

    Raises:
        ValueError: a cell is missing or has one seed.
    """
    groups, rows = by_arm(records, study), []
    for role, label in study.task_labels.items():
        scores = {}
        for arm, on in cells.items():
            found = results_of(groups.get(arm, []), role, BENCHMARKS[role].headline)
            if found:
                scores[on] = np.stack([result["scores"] for result in found])
        for effect, c in measure_effects(scores, factors).items():
            points, low, high = c.difference
            row = {"benchmark": label, "effect": " x ".join(effect), "points": points}
            row |= {"low": low, "high": high, "p": c.p_value, "detectable": c.detectable}
            rows.append(row | {"documents": c.documents, "seeds": c.seeds})
    table = pd.DataFrame(rows)
    table.insert(table.columns.get_loc("p") + 1, "p (Holm)", holm(table["p"]))
    return table


def effects_in_words(table: pd.DataFrame) -> pd.DataFrame:
    """The effects as text: a row each, a column for each benchmark."""
    texts = [
        f"{number(row.points, 1, '+')} [{number(row.low, 1, '+')}, {number(row.high, 1, '+')}], "
        f"p {p_cell(row['p (Holm)'])}"
        for _, row in table.iterrows()
    ]
    wide = table.assign(text=texts).pivot(index="effect", columns="benchmark", values="text")
    return wide.loc[table["effect"].unique(), table["benchmark"].unique()]


def cells_in_words(records: Sequence[Record], study: Study) -> pd.DataFrame:
    """Each arm's per cent right on each benchmark, the mean over seeds and their SD, as text."""
    groups, rows = by_arm(records, study), {}
    for arm in study.arms:
        row = {}
        for role, label in study.task_labels.items():
            found = results_of(groups.get(arm.name, []), role, BENCHMARKS[role].headline)
            values = [100 * result["value"] for result in found]
            row[label] = number(float(np.mean(values)), 1) if values else "-"
            if len(values) > 1:
                row[label] += f" (SD {number(float(np.std(values, ddof=1)), 1)})"
        rows[arm.label] = row
    table = pd.DataFrame(rows).T
    table.index.name = "arm, % right"
    return table


def plot_effects(table: pd.DataFrame, study: Study) -> Figure:
    """Draw all effects, a panel for each benchmark: points with 95 % intervals.

    Args:
        table: of `effects_table`.
        study: gives the title and the note.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    benchmarks = list(table["benchmark"].unique())
    rows = -(-len(benchmarks) // ACROSS)
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 1.1 + 3.2 * rows), layout="constrained")
        panels = [*figure.subplots(rows, ACROSS, sharey=True, sharex=True, squeeze=False).flat]
        for benchmark, ax in zip(benchmarks, panels, strict=False):
            _draw_effects(ax, table[table["benchmark"] == benchmark].to_dict("records"), benchmark)
        for ax in panels[len(benchmarks) :]:
            ax.remove()
        n = ", ".join(sorted({f"{count:,}" for count in table["documents"]}))
        entitle(figure, effects_message(table), study.title, f"n = {n}. {MEANING} {study.note}")
    return figure


def effects_message(table: pd.DataFrame) -> str:
    """Which effects are shown, the largest first: "... maths +31.0 on arithmetic"."""
    shown = table[table["p (Holm)"] < ALPHA].sort_values("points", key=abs, ascending=False)
    if shown.empty:
        return "No effect of what is rehearsed is shown"
    said = [
        f"{row.effect} {number(row.points, 1, '+')} on {row.benchmark}"
        for row in shown.head(MOST).itertuples()
    ]
    more = f"; {len(shown) - MOST} more effects are shown" if len(shown) > MOST else ""
    return f"Points that are shown: {listed(said)}{more}"


def _draw_effects(ax: Axes, rows: Sequence[Mapping[str, Any]], title: str) -> None:
    for place, row in enumerate(rows):
        colour = GAINED if row["points"] > 0 else LOST
        colour = colour if row["p (Holm)"] < ALPHA else NOISE
        ax.plot([row["low"], row["high"]], [place, place], color=colour, linewidth=2)
        ax.plot(row["points"], place, "o", color=colour, markersize=6)
        text = number(row["points"], 1, "+")
        ax.text(row["points"], place - 0.2, text, ha="center", va="bottom", fontsize=8)
    ax.axvline(0, color=TOTAL, linewidth=0.8, zorder=0)
    ax.set_yticks(range(len(rows)), [row["effect"] for row in rows])
    ax.tick_params(axis="y", length=0, pad=8)
    ax.set(ylim=(len(rows) - 0.5, -0.8), xlabel="points")
    ax.set_title(as_written(title), loc="left", fontweight="bold")

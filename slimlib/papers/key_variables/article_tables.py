"""The article's tables and figures as DataFrames, made from a grid's records alone.

Scores are per cent, differences points; intervals are 95 %, over documents and runs. The article's
figures and tables are images: what they hold is read from its text. Table 1 is the layers that get
an adapter and their dimensions, Table 2 the list of the experiments; Tables 3 and 4 (0-shot
commonsense) belong to E1 and E6. The methods and their baselines side by side are this project's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from slimlib.comparison.benchmarks import MARGIN
from slimlib.config import MLP
from slimlib.methods import METHODS, NF4_BITS
from slimlib.methods.shapes import get_shape
from slimlib.metrics import Spread
from slimlib.papers.key_variables.cells import Grid
from slimlib.papers.key_variables.contrasts import (
    group_of,
    run_spread,
    score_contrast,
    score_interval,
)
from slimlib.studies.design import Bar, Design, Experiment

PLACES = {  # of the article -> experiment
    "Table 3": "E1",
    "Table 4": "E6",
    "Figure 2": "E1",
    "Figure 3": "E2",
    "Figure 4": "E4",
    "Figure 5": "E6",
    "Figure A1": "E3",
    "Figure A2": "E5",
}


def experiment_table(grid: Grid, id: str, margin: float = MARGIN) -> pd.DataFrame:
    """One experiment as numbers: a row per bar, in the order of the figure.

    Columns: what was changed; trainable parameters and the per cent saved against the baseline;
    bits per weight of the quantised base; the training loss of the last steps; seeds; score with
    its interval and the SD over seeds; the change against the baseline with interval and p (not
    corrected: `claims` has the tests that decide); each benchmark. A missing cell is NaN.

    Args:
        grid: the records.
        id: "E1" to "E7", or a place in PLACES ("Figure 2", "Table 3").
        margin: points, of the equivalence test.

    Raises:
        ValueError: no such experiment.
    """
    experiment = grid.design[PLACES.get(id, id)]
    rows = [_bar_row(grid, experiment, bar, margin) for bar in experiment.bars]
    index = ["model", "method", "r", "changed", "control"]
    table = pd.DataFrame(rows).set_index(index)
    table.attrs = {"title": f"{experiment.id}. {experiment.title} ({experiment.figure})"}
    table.attrs["note"] = grid.design.study.note
    return table


def _bar_row(grid: Grid, experiment: Experiment, bar: Bar, margin: float) -> dict[str, Any]:
    row: dict[str, Any] = {"model": bar.model, "method": bar.method, "r": bar.r}
    row |= {"changed": bar.label, "control": bar.control, "cell": bar.cell}
    base = baseline(experiment, bar)
    row |= cell_row(grid, bar.cell)
    plan = grid.design.plan(bar)
    row |= {"saturated %": 100 * len(plan.saturated) / len(plan), "saved %": np.nan}
    if base is None or not grid.of(bar.cell) or not grid.of(base.cell):
        return row
    own, whole = (grid.of(c)[0].parameters for c in (bar.cell, base.cell))
    row["saved %"] = 100 * (1 - own / whole)
    effect = score_contrast(grid, [(bar.cell, base.cell)], margin)
    if effect and base.cell != bar.cell:
        change = dict(zip(("change", "change low", "change high"), effect.difference, strict=True))
        row |= change | {"p": effect.p_value, "p equivalence": effect.p_equivalence}
    return row


def baseline(experiment: Experiment, bar: Bar) -> Bar | None:
    """The bar that a bar is a change of: same model, method and rank; E5 and E7: their default."""
    default = {"q-bara": ("", "lam 2"), "qa-lora": ("", "group 32")}.get(bar.method, ("",))
    for other in experiment.bars:
        same = (other.model, other.method, other.r) == (bar.model, bar.method, bar.r)
        if same and other.where == "all" and other.change in default and not other.control:
            return other
    return None


def bits(grid: Grid, cell: str) -> float:
    """Bits per weight of a cell's quantised base; NaN where nothing is quantised or nothing there.

    bitsandbytes' own NF4 leaves no report: its bits follow from its blocks.
    """
    arm, cells = grid.design.study[cell], grid.of(cell)
    if not cells or not (arm.trains or arm.quantise):
        return np.nan
    if cells[0].bits is not None:
        return cells[0].bits
    return NF4_BITS if arm.model.quantiser == "nf4" else np.nan


def cell_row(grid: Grid, cell: str) -> dict[str, Any]:
    """A cell's numbers over its seeds; NaN where none is there."""
    cells = grid.of(cell)
    if not cells:
        return {"seeds": 0, "score": np.nan}
    value, low, high = score_interval(cells, spread_of(grid, cell))
    scores = [cell.score for cell in cells]
    row = {
        "parameters": cells[0].parameters,
        "bits": bits(grid, cell),
        "loss": float(np.mean([found.loss for found in cells])),
        "seeds": len(cells),
        "score": value,
        "low": low,
        "high": high,
        "sd seeds": float(np.std(scores, ddof=1)) if len(cells) > 1 else np.nan,
    }
    roles = cells[0].accuracy
    return row | {role: float(np.mean([c.accuracy[role] for c in cells])) for role in roles}


def spread_of(grid: Grid, cell: str, role: str | None = None) -> Spread | None:
    """The spread between runs that a cell's interval takes; None for an untuned cell."""
    if not grid.design.study[cell].trains:
        return None
    value = (lambda found: found.accuracy[role]) if role else (lambda found: found.score)
    return run_spread(grid, value).get(group_of(grid, cell))


def cells_table(grid: Grid) -> pd.DataFrame:
    """A row for each cell of the grid, missing ones too."""
    names = [arm.name for arm in grid.design.study.arms]
    rows = []
    for name in names:
        shown = ", ".join(grid.design.experiments_of(name)) or "reference"
        rows.append({"cell": name, "experiments": shown} | cell_row(grid, name))
    return pd.DataFrame(rows).set_index("cell")


ARTICLE_MODELS = ("LLaMA-7B", "LLaMA-13B")  # LLaMA-2's are of the same dimensions


def layers_table(models: Sequence[str] = ARTICLE_MODELS) -> pd.DataFrame:
    """Table 1: the layers that get an adapter, and their dimensions, "inputs x outputs".

    Args:
        models: names in `slimlib.methods.shapes.SHAPES`, a column each; default the article's.

    Example: q_proj of the attention is 4,096 x 4,096 in LLaMA-7B; down_proj 11,008 x 4,096.
    """
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for model in models:
        shape = get_shape(model)
        for name, (d_in, d_out) in shape.linears().items():
            kind = "MLP" if name in MLP else "attention"
            rows.setdefault((kind, name), {})[model] = f"{d_in:,} x {d_out:,}"
        rows.setdefault(("all", "decoder layers"), {})[model] = str(shape.layers)
    table = pd.DataFrame(rows.values(), index=pd.MultiIndex.from_tuples(rows))
    table.index.names = ["module", "layer"]
    return table


def experiments_table(design: Design) -> pd.DataFrame:
    """Table 2: the list of the experiments, where the article shows them, and this grid's cells."""
    rows = []
    for experiment in design.experiments:
        methods = dict.fromkeys(METHODS[bar.method].label for bar in experiment.bars)
        controls = dict.fromkeys(bar.control for bar in experiment.bars if bar.control)
        rows.append(
            {
                "experiment": experiment.id,
                "methods": ", ".join(methods),
                "what is varied": experiment.title.partition(": ")[2],
                "in the article": experiment.figure,
                "ranks": ", ".join(map(str, sorted({bar.r for bar in experiment.bars}))),
                "cells": len(experiment.cells),
                "controls": ", ".join(controls) or "-",
            }
        )
    return pd.DataFrame(rows).set_index("experiment")


def methods_table(grid: Grid) -> pd.DataFrame:
    """The five methods side by side, from a baseline cell of each.

    Columns: quantiser and its block, what is trained, rank of dW in the attention's q at most,
    whether it merges into the quantised format.
    """
    rows = []
    for bar in baselines(grid):
        arm, method = grid.design.study[bar.cell], METHODS[bar.method]
        entry = next(iter(grid.design.plan(bar).values()))
        rows.append(
            {
                "method": method.label,
                "quantiser": arm.model.quantiser,
                "bits": bits(grid, bar.cell),
                "parameters": next((cell.parameters for cell in grid.of(bar.cell)), 0),
                "rank of dW in q at most": entry.max_rank,
                "merges into the quantised format": "yes" if entry.block else "no",
                "plain PEFT export": "yes" if method.exports else "no (merged)",
            }
        )
    return pd.DataFrame(rows).drop_duplicates("method").set_index("method")


def baselines(grid: Grid) -> list[Bar]:
    """The five methods' bars without any change, at the rank that all have."""
    found = []
    for id, method in (("E1", "qlora"), *(("E3", m) for m in ("ir-qlora", "qa-lora", "q-bara"))):
        found += [b for b in grid.design[id].bars if b.method == method and not b.change]
    found += [b for b in grid.design["E6"].bars if not b.change]
    common = set.intersection(
        *({b.r for b in found if b.method == m} for m in {b.method for b in found})
    )
    return [bar for bar in found if bar.r in common]


def baselines_table(grid: Grid, margin: float = MARGIN) -> pd.DataFrame:
    """The untuned model, each quantised one, and each method at its baseline.

    `change` is against the same model untuned and quantised alike (of a quantised one: against the
    model as it is).
    """
    study = grid.design.study
    names = [arm.name for arm in study.arms if not arm.trains]
    names += [bar.cell for bar in baselines(grid)]
    rows = [{"cell": name} | cell_row(grid, name) for name in names]
    table = pd.DataFrame(rows).set_index("cell")
    table["compared with"] = [study[name].compared_with or "-" for name in names]
    scores = table["score"]
    table["change"] = [
        scores[name] - scores.get(study[name].compared_with, np.nan) for name in names
    ]
    return table


def paper_tables(grid: Grid) -> dict[str, pd.DataFrame]:
    """Every table and figure of the article by its place, as numbers."""
    tables = {"Table 1": layers_table(), "Table 2": experiments_table(grid.design)}
    return tables | {place: experiment_table(grid, id) for place, id in PLACES.items()}

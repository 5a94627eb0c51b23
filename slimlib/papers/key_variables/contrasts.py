"""Contrasts of a grid's cells: the mean over pairs of first cell minus second cell.

A score is the mean of the benchmarks' per cents. A cell has only a few runs, one per seed, so the
variance between runs is pooled over all fine-tuned cells of a model and method, and runs of one
seed count as independent (what they share makes a difference less variable, so this errs on the
safe side). How the variances of documents and runs are joined: `slimlib.comparison.contrast`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from slimlib import metrics
from slimlib.comparison.contrast import (
    Contrast,
    contrast,
    document_variance,
    over_runs,
    pooled,
)
from slimlib.metrics import Estimate, Spread
from slimlib.papers.key_variables.cells import Cell, Grid

Pairs = Sequence[tuple[str, str]]


def score_matrix(cells: Sequence[Cell], role: str | None = None) -> np.ndarray:
    """Scores of one cell's seeds, shape (seeds, documents), whose row means are `Cell.score` / 100.

    A document of a benchmark with few documents weighs more, so that each benchmark weighs the
    same; where all have equally many, scores stay 0 and 1. Or of one benchmark alone.
    """
    roles = [role] if role else list(cells[0].scores)
    total = sum(len(cells[0].scores[role]) for role in roles)
    rows = []
    for cell in cells:
        parts = [cell.scores[r] * (total / (len(roles) * len(cell.scores[r]))) for r in roles]
        rows.append(np.concatenate(parts))
    return np.stack(rows)


def run_spread(
    grid: Grid, value: Callable[[Cell], float] = lambda cell: cell.score
) -> dict[tuple[str, str], Spread]:
    """(model, method) -> variance between seeds of a cell's value, pooled over its cells.

    Models and methods of which no cell has two seeds are left out.
    """
    groups: dict[tuple[str, str], list[np.ndarray]] = {}
    for arm in grid.design.study.arms:
        values = np.array([value(cell) for cell in grid.of(arm.name)])
        if arm.trains and len(values) > 1:
            groups.setdefault(group_of(grid, arm.name), []).append(values)
    return {group: pooled(several) for group, several in groups.items()}


def group_of(grid: Grid, cell: str) -> tuple[str, str]:
    """The model and method of a fine-tuned cell: what its run variance is pooled over."""
    arm = grid.design.study[cell]
    return arm.model.name, arm.adapter.method


def score_contrast(grid: Grid, pairs: Pairs, margin: float) -> Contrast | None:
    """The mean over pairs of first cell minus second cell, in points of the score.

    Args:
        grid: the records.
        pairs: names of fine-tuned cells; those of which one is missing are left out.
        margin: points, of the equivalence test.

    Returns:
        None unless at least two seeds have all the cells.
    """
    weights, cells, usable = _weighted(grid, pairs)
    if not weights:
        return None
    terms = [(weight, score_matrix(cells[name])) for name, weight in weights.items()]
    runs = _runs(grid, weights, len(terms[0][1]), run_spread(grid))
    return replace(contrast(terms, margin, runs=runs), pairs=usable)


def loss_contrast(grid: Grid, pairs: Pairs) -> Contrast | None:
    """The same of the training loss of the last steps, in nats per token, over runs alone."""
    weights, cells, usable = _weighted(grid, pairs)
    if not weights:
        return None
    losses = {name: np.array([cell.loss for cell in cells[name]]) for name in weights}
    values = sum(weight * losses[name] for name, weight in weights.items())
    if not np.all(np.isfinite(values)):
        return None
    spreads = run_spread(grid, lambda cell: cell.loss)
    return replace(over_runs(values, _runs(grid, weights, len(values), spreads)), pairs=usable)


def _weighted(grid: Grid, pairs: Pairs) -> tuple[dict[str, float], dict[str, list[Cell]], int]:
    """Each cell's weight in the mean over pairs, its runs of the common seeds, and how many pairs.

    Nothing where fewer than two seeds have all the cells.
    """
    usable = [pair for pair in pairs if all(grid.of(cell) for cell in pair)]
    names = list(dict.fromkeys(name for pair in usable for name in pair))
    seeds = [{cell.seed for cell in grid.of(name)} for name in names]
    common = set.intersection(*seeds) if seeds else set()
    if len(common) < 2:
        return {}, {}, 0
    weights = dict.fromkeys(names, 0.0)
    for first, second in usable:
        weights[first] += 1 / len(usable)
        weights[second] -= 1 / len(usable)
    cells = {name: [c for c in grid.of(name) if c.seed in common] for name in names}
    return weights, cells, len(usable)


def _runs(
    grid: Grid, weights: dict[str, float], seeds: int, spreads: dict[tuple[str, str], Spread]
) -> list[Spread]:
    """What the runs of each model and method add to the variance of a weighted sum of cells."""
    squares: dict[tuple[str, str], float] = {}
    for name, weight in weights.items():
        group = group_of(grid, name)
        squares[group] = squares.get(group, 0.0) + weight**2 / seeds
    return [Spread(s * spreads[g].variance, spreads[g].df) for g, s in squares.items()]


def score_interval(
    cells: Sequence[Cell], spread: Spread | None = None, role: str | None = None
) -> Estimate:
    """A cell's score in per cent, with a 95 % interval over documents and runs.

    Args:
        cells: one per seed.
        spread: between runs (see `run_spread`); None: documents alone, as for an untuned cell.
        role: one benchmark; None: the mean of all.
    """
    documents = 100 * score_matrix(cells, role).mean(axis=0)
    parts = [Spread(document_variance(documents) / len(documents), len(documents) - 1)]
    parts += [Spread(spread.variance / len(cells), spread.df)] if spread else []
    return metrics.cochran_cox(float(documents.mean()), parts)


def rank_correlation(one: Sequence[float], other: Sequence[float]) -> Estimate:
    """Spearman's rank correlation with a 95 % interval; without limits for fewer than four.

    The interval is Fisher's, with Bonett and Wright's variance (2000, Psychometrika 65, 23-28).

    Example: ranks 1 to 10 against themselves with the last two exchanged -> 0.99 [0.95, 1.00].
    """
    from scipy import stats

    n = len(one)
    if n < 4:
        return Estimate(float("nan"), float("nan"), float("nan"))
    value = float(stats.spearmanr(one, other).statistic)
    error = np.sqrt((1 + value**2 / 2) / (n - 3))
    middle = np.arctanh(np.clip(value, -1 + 1e-12, 1 - 1e-12))
    low, high = np.tanh(middle + metrics.Z95 * error * np.array([-1, 1]))
    return Estimate(value, float(low), float(high))

"""The difference between two sets of cells, with what chance may have in it.

A score is the mean of the benchmarks' per cents. Two things vary by chance: which documents were
asked, and what each fine-tuning run came to. Documents are paired (every cell answers the same). A
cell has only a few runs, one per seed, so the variance between runs is pooled over all fine-tuned
cells of a model and method, and runs of one seed count as independent (what they share makes a
difference less variable, so this errs on the safe side). Both variances are added: documents and
seeds are crossed, and the sum is an upper bound of the contrast's own (Owen 2007, Annals of Applied
Statistics 1, 386-411).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from scipy import stats

from slimlib import metrics
from slimlib.metrics import Estimate
from slimlib.metrics.scores import unseen
from slimlib.papers.key_variables.cells import Cell, Grid


@dataclass(frozen=True)
class Effect:
    """A difference, first cells minus second: points of the score, or nats of the loss."""

    difference: Estimate  # with its 95 % interval
    p_value: float  # two-sided t
    p_equivalence: float  # two one-sided tests within the margin
    detectable: float  # what the test finds in 80 % of repetitions
    sd_seeds: float  # SD over seeds of the difference
    seeds: int
    pairs: int  # of cells
    documents: int = 0
    p_documents: float = math.nan  # paired t over documents alone: of these very runs


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


class Spread(NamedTuple):
    """Variance between the runs of a cell, in points squared, and its degrees of freedom."""

    variance: float
    df: int


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
    found = {}
    for group, several in groups.items():
        df = sum(len(values) - 1 for values in several)
        squares = sum(float(((values - values.mean()) ** 2).sum()) for values in several)
        found[group] = Spread(squares / df, df)
    return found


def group_of(grid: Grid, cell: str) -> tuple[str, str]:
    """The model and method of a fine-tuned cell: what its run variance is pooled over."""
    arm = grid.design.study[cell]
    return arm.model.name, arm.adapter.method


def contrast(grid: Grid, pairs: Sequence[tuple[str, str]], margin: float) -> Effect | None:
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
    by_seed = 100 * sum(weight * score_matrix(cells[name]) for name, weight in weights.items())
    runs = _runs(grid, weights, len(by_seed), run_spread(grid))
    documents = by_seed.mean(axis=0)
    own = Spread(_document_variance(documents) / len(documents), len(documents) - 1)
    p_documents = metrics.paired_t_test(np.zeros(len(documents)), documents).p_value
    effect = measure(by_seed.mean(axis=1), [own, *runs], margin, usable)
    return replace(effect, documents=len(documents), p_documents=p_documents)


def loss_contrast(grid: Grid, pairs: Sequence[tuple[str, str]]) -> Effect | None:
    """The same of the training loss of the last steps, in nats per token, over runs alone."""
    weights, cells, usable = _weighted(grid, pairs)
    if not weights:
        return None
    losses = {name: np.array([cell.loss for cell in cells[name]]) for name in weights}
    values = sum(weight * losses[name] for name, weight in weights.items())
    if not np.all(np.isfinite(values)):
        return None
    spreads = run_spread(grid, lambda cell: cell.loss)
    return measure(values, _runs(grid, weights, len(values), spreads), math.inf, usable)


def _weighted(
    grid: Grid, pairs: Sequence[tuple[str, str]]
) -> tuple[dict[str, float], dict[str, list[Cell]], int]:
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


def measure(
    values: np.ndarray, parts: Sequence[Spread], margin: float = math.inf, pairs: int = 1
) -> Effect:
    """A contrast's value, interval and tests.

    Args:
        values: the contrast, one per seed.
        parts: what each source of chance adds to the variance of its mean.
        margin: of the equivalence test.
        pairs: of cells, for the record.

    Example: values 1, 2, 3 and one part of variance 1 with 4 degrees of freedom -> 2 with limits
    -0.78 and 4.78, p = 0.116.
    """
    value = float(np.mean(values))
    total = sum(part.variance for part in parts)
    squares = sum(part.variance**2 / part.df for part in parts)
    df = total**2 / squares if squares else math.inf  # Satterthwaite
    error = math.sqrt(total) or math.ulp(0.0)  # nothing varies: p is 0 or 1
    return Effect(
        difference=_interval(value, error, df),
        p_value=float(2 * stats.t.sf(abs(value) / error, df)),
        p_equivalence=float(stats.t.sf((margin - abs(value)) / error, df)),
        detectable=float(stats.t.ppf(0.975, df) + stats.t.ppf(0.8, df)) * error,
        sd_seeds=float(np.std(values, ddof=1)),
        seeds=len(values),
        pairs=pairs,
    )


def _document_variance(differences: np.ndarray) -> float:
    """Variance over documents in points squared.

    Where no document differs it is not 0: Wilson's upper limit for 0 of n documents stands in.
    """
    if np.ptp(differences) == 0:
        return 100 * unseen(len(differences), 0.95)
    return float(np.var(differences, ddof=1))


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
    of_documents = _document_variance(documents) / len(documents)
    of_runs = spread.variance / len(cells) if spread else 0.0
    return _interval(float(documents.mean()), math.sqrt(of_documents + of_runs), math.inf)


def _interval(value: float, error: float, df: float) -> Estimate:
    reach = float(stats.t.ppf(0.975, df)) * error
    return Estimate(value, value - reach, value + reach)

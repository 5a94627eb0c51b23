"""The difference between two sets of cells, with what chance may have in it.

A score is the mean of the benchmarks' per cents. Two things vary by chance: which documents were
asked, and what each fine-tuning run came to. Documents are paired (every cell answers the same);
the variance between runs is pooled over the cells compared, each of which has one run per seed, as
if runs of one seed were independent (what they share makes a difference less variable, so this
errs on the safe side). Both variances are added: documents and seeds are crossed, and the sum is an
upper bound of the contrast's own (Owen 2007, Annals of Applied Statistics 1, 386-411).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from slimlib import metrics
from slimlib.metrics import Estimate
from slimlib.metrics.scores import unseen
from slimlib.variables.records import Cell, Grid


@dataclass(frozen=True)
class Effect:
    """A difference in points, first cells minus second."""

    difference: Estimate  # with the 95 % interval over documents and runs
    p_value: float  # two-sided t over documents and runs
    p_equivalence: float  # two one-sided tests within the margin
    p_documents: float  # paired t over documents alone: of these very runs
    sd_seeds: float  # SD over seeds of the difference
    seeds: int
    documents: int
    pairs: int  # of cells


def score_matrix(cells: Sequence[Cell]) -> np.ndarray:
    """Scores of one cell's seeds, shape (seeds, documents), whose row means are `Cell.score` / 100.

    A document of a benchmark with few documents weighs more, so that each benchmark weighs the
    same; where all have equally many, scores stay 0 and 1.
    """
    roles = list(cells[0].scores)
    total = sum(len(cells[0].scores[role]) for role in roles)
    rows = []
    for cell in cells:
        parts = [cell.scores[r] * (total / (len(roles) * len(cell.scores[r]))) for r in roles]
        rows.append(np.concatenate(parts))
    return np.stack(rows)


def contrast(
    grid: Grid, pairs: Sequence[tuple[str, str]], margin: float
) -> tuple[Effect | None, list[tuple[str, str]]]:
    """The mean over pairs of first cell minus second cell.

    Args:
        grid: the records.
        pairs: names of cells.
        margin: points, of the equivalence test.

    Returns:
        The effect over the pairs of which both cells are there, with at least two seeds in
        common; None where there is none. And the pairs that were used.
    """
    usable = [pair for pair in pairs if all(grid.of(cell) for cell in pair)]
    common = _common_seeds(grid, usable)
    if len(common) < 2:
        return None, []
    weights: dict[str, float] = {}
    for first, second in usable:
        weights[first] = weights.get(first, 0.0) + 1 / len(usable)
        weights[second] = weights.get(second, 0.0) - 1 / len(usable)
    scores = {
        cell: score_matrix([c for c in grid.of(cell) if c.seed in common]) for cell in weights
    }
    effect = measure(list(scores.values()), list(weights.values()), margin, len(usable))
    return effect, usable


def _common_seeds(grid: Grid, pairs: Sequence[tuple[str, str]]) -> list[int]:
    seeds = [{cell.seed for cell in grid.of(name)} for pair in pairs for name in pair]
    return sorted(set.intersection(*seeds)) if seeds else []


def measure(
    scores: Sequence[np.ndarray], weights: Sequence[float], margin: float, pairs: int = 1
) -> Effect:
    """A weighted sum of cells' scores.

    Args:
        scores: of each cell, shape (seeds, documents), from 0 to about 1.
        weights: of each cell; they sum to 0.
        margin: points.
        pairs: of cells, for the record.

    Example: two cells, two seeds, four documents, 3 of 4 right against 2 of 4 in every run: +25
    points; the runs of a cell do not vary, so only documents do.
    """
    by_seed = 100 * sum(w * s for w, s in zip(weights, scores, strict=True))
    values = by_seed.mean(axis=1)
    error, df = _error(by_seed.mean(axis=0), scores, weights)
    value = float(values.mean())
    nothing = np.zeros(by_seed.shape[1])
    return Effect(
        difference=_interval(value, error, df),
        p_value=_two_sided(value, error, df),
        p_equivalence=_equivalence(value, error, df, margin),
        p_documents=metrics.paired_t_test(nothing, by_seed.mean(axis=0)).p_value,
        sd_seeds=float(np.std(values, ddof=1)),
        seeds=len(values),
        documents=by_seed.shape[1],
        pairs=pairs,
    )


def _error(
    documents: np.ndarray, scores: Sequence[np.ndarray], weights: Sequence[float]
) -> tuple[float, float]:
    """Standard error of a contrast in points, and its degrees of freedom (Satterthwaite)."""
    n, seeds = len(documents), len(scores[0])
    of_documents = _document_variance(documents) / n
    runs = [float(np.var(100 * s.mean(axis=1), ddof=1)) for s in scores]
    of_runs = float(np.mean(runs)) * sum(w * w for w in weights) / seeds
    total = of_documents + of_runs
    df_runs = len(scores) * (seeds - 1)
    return math.sqrt(total), total**2 / (of_documents**2 / (n - 1) + of_runs**2 / df_runs)


def _document_variance(differences: np.ndarray) -> float:
    """Variance over documents in points squared.

    Where no document differs it is not 0: Wilson's upper limit for 0 of n documents stands in.
    """
    if np.ptp(differences) == 0:
        return 100 * unseen(len(differences), 0.95)
    return float(np.var(differences, ddof=1))


def score_interval(cells: Sequence[Cell], spread: float | None = None) -> Estimate:
    """A cell's score in per cent, with a 95 % interval over documents and, of several seeds, runs.

    Args:
        cells: one per seed.
        spread: variance between runs in points squared, pooled over an experiment's cells; None:
            documents alone.
    """
    documents = 100 * score_matrix(cells).mean(axis=0)
    error = _document_variance(documents) / len(documents) + (spread or 0.0) / len(cells)
    return _interval(float(documents.mean()), math.sqrt(error), math.inf)


def run_variance(groups: Sequence[Sequence[Cell]]) -> float | None:
    """Variance of a cell's score between seeds, in points squared, pooled over cells.

    None where no cell has two seeds.
    """
    several = [[cell.score for cell in cells] for cells in groups if len(cells) > 1]
    if not several:
        return None
    degrees = [len(scores) - 1 for scores in several]
    return float(np.average([np.var(s, ddof=1) for s in several], weights=degrees))


def _interval(value: float, error: float, df: float) -> Estimate:
    reach = float(stats.t.ppf(0.975, df)) * error
    return Estimate(value, value - reach, value + reach)


def _two_sided(value: float, error: float, df: float) -> float:
    return float(2 * stats.t.sf(abs(value) / error, df))


def _equivalence(value: float, error: float, df: float, margin: float) -> float:
    """p of "the difference lies outside the margin"."""
    return float(stats.t.sf((margin - abs(value)) / error, df))

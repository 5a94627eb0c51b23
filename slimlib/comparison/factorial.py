"""Main effects and interactions of switches that are on or off in the cells of a full design.

The effect of a switch is the mean over cells where it is on minus that where it is off. The
interaction of two is half the difference between the effect of one with the other on and off, and
so on: with k switches each cell has the weight +-1 / 2^(k-1), so that all effects are measured
equally well (Box, Hunter and Hunter 2005, Statistics for Experimenters, chapter 5). How documents
and seeds make up the chance in it: `slimlib.comparison.contrast`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from math import prod

import numpy as np

from slimlib.comparison.benchmarks import ALPHA, MARGIN
from slimlib.comparison.contrast import Contrast, contrast, pooled
from slimlib.metrics import Spread

Switches = tuple[str, ...]  # those that are on


def effects_of(factors: Sequence[str]) -> list[Switches]:
    """Every main effect and interaction, the main effects first.

    Example: ("a", "b") -> [("a",), ("b",), ("a", "b")].
    """
    sizes = range(1, len(factors) + 1)
    return [effect for size in sizes for effect in combinations(factors, size)]


def weights(cells: Sequence[Switches], effect: Switches) -> dict[Switches, float]:
    """The weight of each cell in an effect.

    Args:
        cells: which switches are on in each cell of a full design.
        effect: one switch, or those whose interaction it is.

    Example: cells (), (a), (b), (a, b) and effect (a, b) -> 1/2, -1/2, -1/2, 1/2.
    """
    signs = {on: prod(1 if factor in on else -1 for factor in effect) for on in cells}
    return {on: sign / (len(cells) / 2) for on, sign in signs.items()}


def measure_effects(
    cells: Mapping[Switches, np.ndarray], factors: Sequence[str], alpha: float = ALPHA
) -> dict[Switches, Contrast]:
    """Measure all effects on one benchmark, in points.

    The variance between seeds is pooled over the cells, and runs count as independent.

    Args:
        cells: switches that are on -> scores of shape (seeds, documents), in 0 to 1.
        factors: the switches; every combination is a cell.
        alpha: level of the tests, which are not corrected here.

    Raises:
        ValueError: a combination is missing, or a cell has fewer than two seeds.
    """
    if len(cells) != 2 ** len(factors):
        raise ValueError(f"{len(cells)} cells: {len(factors)} switches need {2 ** len(factors)}")
    if few := [on for on, scores in cells.items() if len(scores) < 2]:
        raise ValueError(f"cell {'+'.join(few[0]) or 'none'} has one seed: two or more are needed")
    between = pooled([100 * scores.mean(axis=1) for scores in cells.values()])
    found = {}
    for effect in effects_of(factors):
        weighed = weights(list(cells), effect)
        share = sum(weight**2 / len(cells[on]) for on, weight in weighed.items())
        runs = [Spread(share * between.variance, between.df)]
        terms = [(weight, cells[on]) for on, weight in weighed.items()]
        found[effect] = contrast(terms, MARGIN, alpha, runs)
    return found

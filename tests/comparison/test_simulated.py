"""Whole verdicts, drawn anew again and again at fixed truths: how often they are false.

Everything from scores to verdict is the package's own; only the scores are drawn. Each truth is
fixed, and every draw counts.
"""

from collections.abc import Iterator

import numpy as np
import pytest

from slimlib.comparison.change import FORGOT, IMPROVED, KEPT, Change
from slimlib.comparison.judging import judge
from slimlib.comparison.measuring import Pairing, measure_change
from slimlib.results import Score, TaskResults

pytestmark = pytest.mark.slow
DRAWS = 600


def measured(base: np.ndarray, tuned: np.ndarray) -> Change:
    """The change of one task from (seeds, documents) scores."""
    task = TaskResults("own", {"acc,none": Score(0.5, None)}, {}, n=base.shape[1])
    return measure_change(task, task, "acc,none", Pairing(base, tuned), margin=2.0)


def at_most(count: int, level: float) -> bool:
    """Whether so many of all draws are no more than a level gives, up to three of its errors."""
    return count / DRAWS <= level + 3 * np.sqrt(level * (1 - level) / DRAWS)


def documents(rng: np.random.Generator, n: int, flips: tuple[float, float], right: float):
    """Two models' answers, (1, n) each: lost and gained with these shares of all documents."""
    lost, gained = flips
    kind = rng.choice(4, n, p=[right - lost, lost, gained, 1 - right - gained])
    return (kind < 2).astype(float)[None], ((kind == 0) | (kind == 2)).astype(float)[None]


@pytest.mark.parametrize(("n", "share"), [(20, 0.02), (20, 0.15), (100, 0.15), (400, 0.02)])
def test_three_tasks_without_any_effect(n, share):
    """Holm over three: in at most 5 % of draws one of them is called a loss or a gain."""
    rng = np.random.default_rng(n)
    false = 0
    for _ in range(DRAWS):
        changes = [measured(*documents(rng, n, (share, share), 0.5)) for _ in range(3)]
        false += any(c.verdict in (FORGOT, IMPROVED) for c in judge(changes, 0.05, 2.0))
    assert at_most(false, 0.05)


@pytest.mark.parametrize("n", [150, 600])
@pytest.mark.parametrize("flips", [(0.02, 0.0), (0.06, 0.04)])
def test_a_change_of_the_margin_is_rarely_called_kept(n, flips):
    rng = np.random.default_rng(n)
    false = 0
    for _ in range(DRAWS):
        (change,) = judge([measured(*documents(rng, n, flips, 0.6))], 0.05, 2.0)
        false += change.verdict == KEPT
    assert at_most(false, 0.055)


def recipes(rng: np.random.Generator, n: int, sd: float, sides: tuple[int, int]) -> Iterator[tuple]:
    """Seeds that move each run's accuracy, normally with this SD in points; no effect."""
    difficulty = rng.normal(0.5, 0.15, n)
    for _ in range(DRAWS):
        drawn = []
        for seeds in sides:
            moved = rng.normal(0, sd / 100, (seeds, 1)) if seeds > 1 else np.zeros((1, 1))
            right = np.clip(difficulty + moved, 0.02, 0.98)
            drawn.append((rng.random((seeds, n)) < right).astype(float))
        yield tuple(drawn)


@pytest.mark.parametrize("sd", [0.0, 2.0, 6.5])
@pytest.mark.parametrize("n", [200, 1319])
@pytest.mark.parametrize("sides", [(1, 3), (3, 3)])
def test_three_seeds_without_any_effect(sd, n, sides):
    """A base without seeds, and one with three: the recipe's verdict is false in at most 5.5 %."""
    rng = np.random.default_rng(int(10 * sd) + n)
    false = 0
    for base, tuned in recipes(rng, n, sd, sides):
        (change,) = judge([measured(base, tuned)], 0.05, 2.0)
        false += change.verdict in (FORGOT, IMPROVED)
    assert at_most(false, 0.055)

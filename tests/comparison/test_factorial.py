"""Effects of switches: hand-computed, and against least squares and a simulated null."""

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats

from slimlib.comparison.benchmarks import MARGIN
from slimlib.comparison.contrast import contrast
from slimlib.comparison.factorial import effects_of, measure_effects, weights
from slimlib.metrics import Spread

TWO = [(), ("a",), ("b",), ("a", "b")]
THREE = [(), ("a",), ("b",), ("c",), ("a", "b"), ("a", "c"), ("b", "c"), ("a", "b", "c")]


def test_effects_are_main_effects_then_interactions():
    assert effects_of(("a",)) == [("a",)]
    assert effects_of(("a", "b", "c")) == THREE[1:]


def test_weights_by_hand():
    assert weights(TWO, ("a",)) == {(): -0.5, ("a",): 0.5, ("b",): -0.5, ("a", "b"): 0.5}
    assert weights(TWO, ("a", "b")) == {(): 0.5, ("a",): -0.5, ("b",): -0.5, ("a", "b"): 0.5}
    for effect in THREE[1:]:
        assert sum(weights(THREE, effect).values()) == 0


def scores(right, seeds=2, documents=10):
    """So many of the first documents right, by every seed."""
    return np.tile(np.arange(documents) < right, (seeds, 1)).astype(float)


def test_two_switches_by_hand():
    """20, 30, 20 and 70 per cent: a adds 10 alone and 50 with b, b adds 0 alone and 40 with a."""
    cells = {on: scores(right) for on, right in zip(TWO, (2, 3, 2, 7), strict=True)}
    found = measure_effects(cells, ("a", "b"))
    values = {effect: c.difference.value for effect, c in found.items()}
    assert values == pytest.approx({("a",): 30, ("b",): 20, ("a", "b"): 20})
    assert {c.documents for c in found.values()} == {10}
    # no seed differs from another: the documents alone are chance, so p is the paired t-test's
    assert found["a",].p_value == pytest.approx(found["a",].p_documents)


def test_effects_are_those_of_least_squares():
    """Coded -1 and 1, an effect is twice the coefficient; its run variance is the pooled one."""
    rng = np.random.default_rng(0)
    cells = {on: (rng.random((3, 40)) < 0.3 + 0.1 * len(on)).astype(float) for on in THREE}
    rows = [(on, 100 * mean) for on, some in cells.items() for mean in some.mean(axis=1)]
    effects = effects_of(("a", "b", "c"))
    design = [[1, *(np.prod([1 if f in on else -1 for f in e]) for e in effects)] for on, _ in rows]
    fit = sm.OLS([value for _, value in rows], np.array(design, float)).fit()
    found = measure_effects(cells, ("a", "b", "c"))
    limit = stats.t.ppf(0.975, fit.df_resid)
    for effect, coefficient, error in zip(effects, fit.params[1:], fit.bse[1:], strict=True):
        value, _, high = found[effect].difference
        assert value == pytest.approx(2 * coefficient)
        assert high - value > limit * 2 * error  # the variance over documents comes on top


def test_of_nothing_hardly_ever_something_is_found():
    rng, hits, times = np.random.default_rng(1), 0, 60
    for _ in range(times):
        easy = rng.random(60)
        cells = {
            on: (rng.random((3, 60)) < easy + rng.normal(0, 0.05, (3, 1))).astype(float)
            for on in TWO
        }
        found = measure_effects(cells, ("a", "b"))
        hits += sum(c.p_value < 0.05 for c in found.values())
    assert hits <= 0.05 * 3 * times + 3 * (0.05 * 0.95 * 3 * times) ** 0.5  # 3 sd above the level


def test_a_missing_cell_or_a_single_seed_is_refused():
    cells = {on: scores(3) for on in TWO}
    with pytest.raises(ValueError, match="3 cells: 2 switches need 4"):
        measure_effects({on: cells[on] for on in TWO[:3]}, ("a", "b"))
    with pytest.raises(ValueError, match="cell a has one seed: two or more are needed"):
        measure_effects(cells | {("a",): scores(3, seeds=1)}, ("a", "b"))


def test_what_runs_add_is_by_hand():
    """Seeds of 20 and 30 per cent in each cell: 50 points squared, times 4 * (1/2)^2 / 2."""
    cells = {on: np.vstack([scores(2, 1), scores(3, 1)]) for on in TWO}
    found = measure_effects(cells, ("a", "b"))["a",]
    terms = [(weight, cells[on]) for on, weight in weights(TWO, ("a",)).items()]
    by_hand = contrast(terms, MARGIN, 0.05, [Spread(25.0, 4)])
    assert found.difference == pytest.approx(by_hand.difference)
    assert found.difference.high > 10

"""Contrasts of cells against hand computation."""

import math

import numpy as np
import pytest
from grid_records import DOCUMENTS, draw
from scipy import stats

from slimlib.common.schema import pack_scores
from slimlib.papers.key_variables.cells import Cell, read_grid
from slimlib.papers.key_variables.contrasts import (
    loss_contrast,
    rank_correlation,
    run_spread,
    score_contrast,
    score_interval,
    score_matrix,
)
from slimlib.studies.design import Job

CUT = "qlora-r4-mlp-r2"


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    """Nothing makes a difference."""
    return read_grid(draw(tmp_path_factory.mktemp("grid"), runs_sd=0.05))


def cell(**roles):
    """A cell with these right and wrong answers."""
    tasks = {
        role: {"role": role, "metrics": {"acc,none": {"scores": pack_scores(scores)}}}
        for role, scores in roles.items()
    }
    return Cell({"seed": 1, "stages": {"evaluate": {"status": "done", "tasks": tasks}}})


def test_every_benchmark_weighs_the_same():
    some = cell(mmlu=[1, 1, 0, 0], boolq=[1, 0])  # 50 % and 50 %
    other = cell(mmlu=[1, 1, 1, 1], boolq=[0, 0])
    for one in (some, other):
        assert score_matrix([one]).mean() == pytest.approx(one.score / 100)
    assert other.score == 50
    # 6 documents, 2 benchmarks: a document of 4 counts 6 / 8, one of 2 counts 6 / 4
    assert score_matrix([some])[0].tolist() == [0.75, 0.75, 0, 0, 1.5, 0]
    assert score_matrix([some], "boolq")[0].tolist() == [1, 0]


def test_run_spread_is_the_pooled_variance_between_seeds(grid):
    scores = [
        [c.score for c in grid.of(a.name)]
        for a in grid.design.study.arms
        if a.adapter and a.adapter.method == "qa-hira"
    ]
    found = run_spread(grid)["micro:base", "qa-hira"]
    assert found.variance == pytest.approx(np.mean([np.var(s, ddof=1) for s in scores]))
    assert found.df == 2 * len(scores)


def test_a_contrast_is_the_mean_over_pairs_with_both_sources_of_chance(grid):
    pairs = [(CUT, "qlora-r4"), ("qlora-r16-mlp-r8", "qlora-r16")]
    effect = score_contrast(grid, pairs, margin=2.0)
    first, second = ([c.score for a, b in pairs for c in grid.of((a, b)[i])] for i in (0, 1))
    assert effect.difference.value == pytest.approx(np.mean(first) - np.mean(second))
    assert (effect.pairs, effect.seeds, effect.documents) == (2, 3, 3 * DOCUMENTS)
    mean = {n: score_matrix(grid.of(n)).mean(axis=0) for pair in pairs for n in pair}
    documents = 50 * sum(mean[a] - mean[b] for a, b in pairs)
    of_documents = np.var(documents, ddof=1) / len(documents)
    of_runs = run_spread(grid)["micro:base", "qlora"].variance * 4 * 0.25 / 3  # 4 cells at 1/2
    half = (effect.difference.high - effect.difference.low) / 2
    assert half == pytest.approx(math.sqrt(of_documents + of_runs) * 1.97, rel=0.02)
    assert effect.p_documents == pytest.approx(stats.ttest_1samp(documents, 0).pvalue)


def test_pairs_with_a_missing_cell_are_left_out(tmp_path):
    gaps = {Job(s, CUT): "cut off" for s in (1, 2, 3)} | {Job(1, "qlora-r16"): "cut off"}
    grid = read_grid(draw(tmp_path, missing=gaps))
    both = [(CUT, "qlora-r4"), ("qlora-r16-mlp-r8", "qlora-r16")]
    effect = score_contrast(grid, both, 2.0)
    assert (effect.pairs, effect.seeds) == (1, 2)  # seeds 2 and 3 have all that is left
    assert score_contrast(grid, both[:1], 2.0) is None
    assert score_contrast(grid, [], 2.0) is None


def test_equal_answers_are_no_certainty(tmp_path):
    """All right in every run: no document differs, and still the interval has a width."""
    grid = read_grid(draw(tmp_path, score=lambda name: 2.0))
    effect = score_contrast(grid, [(CUT, "qlora-r4")], 2.0)
    assert effect.difference.value == 0 and effect.difference.high > 0.5
    assert effect.p_value == 1
    assert score_interval(grid.of(CUT)).low < 100


def test_the_loss_is_compared_over_runs(grid):
    effect = loss_contrast(grid, [(CUT, "qlora-r4")])
    losses = [np.mean([c.loss for c in grid.of(name)]) for name in (CUT, "qlora-r4")]
    assert effect.difference.value == pytest.approx(losses[0] - losses[1])
    assert effect.documents == 0


def test_rank_correlation_by_hand():
    """Two of ten ranks exchanged: rho = 1 - 6 x 2 / (10 x 99) = 0.98788."""
    ranks = np.arange(10.0)
    found = rank_correlation(ranks, [*ranks[:8], 9.0, 8.0])
    assert found.value == pytest.approx(1 - 12 / 990)
    error = np.sqrt((1 + found.value**2 / 2) / 7)
    limits = np.tanh(np.arctanh(found.value) + 1.959964 * error * np.array([-1, 1]))
    assert [found.low, found.high] == pytest.approx([*limits], rel=1e-4)
    assert rank_correlation(ranks, -(ranks**3)).value == pytest.approx(-1)
    assert np.isnan(rank_correlation([1, 2, 3], [1, 2, 3]).value)

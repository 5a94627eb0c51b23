"""One difference with its tests, against hand computation, the paired tests, and simulation."""

import math
import warnings

import numpy as np
import pytest
from scipy import stats

from slimlib import metrics
from slimlib.comparison.contrast import (
    contrast,
    document_variance,
    over_runs,
    pooled,
)
from slimlib.metrics import Spread


def test_measure_is_the_t_test_of_its_parts():
    effect = over_runs(np.array([1.0, 2.0, 3.0]), [Spread(1.0, 4)], margin=3.0)
    assert effect.difference == pytest.approx((2, 2 - 2.7764, 2 + 2.7764), abs=1e-4)
    assert effect.p_value == pytest.approx(0.1161, abs=1e-4)
    assert effect.p_equivalence == pytest.approx(stats.t.sf(1, 4))
    assert effect.sd_seeds == 1 and effect.seeds == 3
    # the t-test with 4 degrees finds a shift of so many standard errors in 80 % of repetitions
    limit = stats.t.ppf(0.975, 4)
    found = stats.nct.sf(limit, 4, effect.detectable) + stats.nct.cdf(-limit, 4, effect.detectable)
    assert found == pytest.approx(0.8, abs=0.005)
    # two equal parts of 4 degrees each have the quantile of 4 degrees (Cochran and Cox)
    both = over_runs(np.array([2.0, 2.0]), [Spread(1.0, 4), Spread(1.0, 4)])
    assert both.p_value == pytest.approx(2 * stats.t.sf(2 / math.sqrt(2), 4))
    assert math.isnan(both.p_equivalence)  # no margin was given


def test_where_nothing_varies_p_is_0_or_1():
    for value, p in ((0.0, 1.0), (0.5, 0.0)):
        assert over_runs(np.array([value, value]), [Spread(0.0, 4)]).p_value == p


def test_false_alarms_are_as_rare_as_the_level():
    """Documents and runs drawn anew: p below 0.05 in about 5 % of grids, over documents in more."""
    generator = np.random.default_rng(1)
    alarms, naive, repeats = 0, 0, 1500
    for _ in range(repeats):
        runs = generator.normal(0, 4, (10, 3))  # 10 cells, 3 seeds, 4 points between runs
        difficulty = generator.normal(0, 30, (2, 1, 200))  # each cell has its own hard documents
        by_seed = (
            (runs[0] - runs[1])[:, None]
            + difficulty[0]
            - difficulty[1]
            + generator.normal(0, 20, (3, 200))
        )
        documents = by_seed.mean(axis=0)
        own = Spread(np.var(documents, ddof=1) / 200, 199)
        spread = Spread(np.mean(np.var(runs, axis=1, ddof=1)) * 2 / 3, 20)
        alarms += over_runs(by_seed.mean(axis=1), [own, spread]).p_value < 0.05
        naive += stats.ttest_1samp(documents, 0).pvalue < 0.05
    assert 0.02 < alarms / repeats < 0.065
    assert naive / repeats > 0.15


def rows(*scores):
    """(1, documents): one seed."""
    return np.array([scores], dtype=float)


def test_two_models_are_told_apart_by_the_exact_test():
    """2 lost, 0 gained of 4: p = 2 * 0.5^2; -50 points."""
    found = contrast([(-1, rows(1, 1, 1, 0)), (1, rows(0, 0, 1, 0))], margin=2)
    assert (found.test, found.lost, found.gained) == ("exact McNemar", 2, 0)
    assert found.p_value == pytest.approx(0.5) and found.documents == 4
    assert found.difference == metrics.paired_difference([1, 1, 1, 0], [0, 0, 1, 0])
    assert found.p_documents == pytest.approx(0.1817, abs=1e-4)


def test_means_over_seeds_are_told_apart_by_the_t_test():
    base = np.array([[1, 1, 1, 0], [1, 1, 0, 0]])
    tuned = np.array([[0, 1, 1, 0], [0, 0, 0, 0]])
    found = contrast([(-1, base), (1, tuned)], margin=2)
    t = stats.ttest_rel(tuned.mean(axis=0), base.mean(axis=0))
    assert (found.test, found.lost) == ("paired t", None)
    assert found.p_value == found.p_documents == pytest.approx(t.pvalue)
    assert found.difference.value == pytest.approx(-37.5)


def test_weights_make_a_mean_of_pairs():
    """Two pairs at one half each: the mean difference, document by document."""
    a, b, c, d = (rows(*x) for x in ((1, 1, 0, 1), (0, 1, 0, 0), (1, 0, 1, 1), (0, 0, 0, 1)))
    found = contrast([(0.5, a), (-0.5, b), (0.5, c), (-0.5, d)], margin=2)
    each = (a - b + c - d)[0] / 2
    assert found.difference.value == pytest.approx(100 * each.mean())
    assert found.p_value == pytest.approx(stats.ttest_1samp(each, 0).pvalue)


def test_runs_add_to_the_documents_variance():
    base = np.array([[1, 1, 1, 0], [1, 1, 0, 0]])
    tuned = np.array([[0, 1, 1, 0], [0, 0, 0, 0]])
    found = contrast([(-1, base), (1, tuned)], margin=2, runs=[Spread(9.0, 2)])
    documents = 100 * (tuned - base).mean(axis=0)
    total = np.var(documents, ddof=1) / 4 + 9
    # the p at which the weighted quantile is the difference's own t
    tail = found.p_value / 2
    quantile = ((total - 9) * stats.t.isf(tail, 3) + 9 * stats.t.isf(tail, 2)) / total
    assert quantile == pytest.approx(37.5 / math.sqrt(total))
    assert (found.seeds, found.documents) == (2, 4)
    assert found.sd_seeds == pytest.approx(np.std([-25, -50], ddof=1))
    assert found.p_documents == pytest.approx(stats.ttest_1samp(documents, 0).pvalue)


def test_a_level_that_leaves_no_power_has_no_detectable_size():
    both = [(-1, rows(*[1] * 60, *[0] * 40)), (1, rows(*[1] * 55, *[0] * 45))]
    assert (
        contrast(both, 2, alpha=0.9).detectable is contrast(both, 2, alpha=0.8).detectable is None
    )
    assert over_runs(np.array([2.0, 2.0]), [Spread(1.0, 4)], alpha=0.8).detectable is None
    assert contrast(both, 2, alpha=0.05).detectable > contrast(both, 2, alpha=0.2).detectable


def test_seeds_of_unlike_number_leave_their_means():
    base, tuned = np.array([[1, 0], [1, 1]]), np.array([[0, 0], [1, 0], [0, 0]])
    found = contrast([(-1, base), (1, tuned)], margin=2, runs=[Spread(1.0, 2)])
    assert found.difference.value == pytest.approx(100 * (1 / 6 - 3 / 4))
    assert math.isnan(found.sd_seeds)


def test_the_variance_of_several_sets_is_pooled():
    assert pooled([np.array([1.0, 3.0]), np.array([5.0, 5.0, 8.0])]) == (pytest.approx(8 / 3), 3)


def test_documents_that_do_not_differ_are_no_certainty():
    """Wilson's upper limit for 0 of 100: z^2 / (n + z^2) = 3.70 %."""
    assert document_variance(np.zeros(100)) == pytest.approx(370, abs=0.5)
    assert document_variance(np.array([0.0, 100.0])) == 5000


def test_equivalence_is_of_both_sides():
    """Of 100 answers one is lost and one gained: within 5 points with p = 0.019 (Tango)."""
    base, tuned = rows(1, 0, *[1] * 98), rows(0, 1, *[1] * 98)
    found = contrast([(-1, base), (1, tuned)], margin=5)
    assert found.p_equivalence == pytest.approx(0.019, abs=0.0005)
    # documents and runs of 3 degrees of freedom each: one t of 3 degrees
    base, tuned = rows(1, 1, 1, 0), rows(0, 0, 1, 0)
    found = contrast([(-1, base), (1, tuned)], margin=40, alpha=0.1, runs=[Spread(900.0, 3)])
    error = math.sqrt(np.var([-100, -100, 0, 0], ddof=1) / 4 + 900)
    assert found.p_equivalence == pytest.approx(stats.t.sf((40 - 50) / error, 3))
    assert found.difference.high == pytest.approx(-50 + stats.t.isf(0.05, 3) * error)


def test_mcnemar_is_for_right_and_wrong_on_both_sides():
    whole, halves = rows(1, 1, 0, 1), rows(0.5, 0, 0, 1)
    for base, tuned in ((whole, halves), (halves, whole)):
        found = contrast([(-1, base), (1, tuned)], margin=2)
        assert (found.test, found.lost, found.gained) == ("paired t", None, None)
        assert found.p_value == pytest.approx(stats.ttest_rel(base[0], tuned[0]).pvalue)


def test_what_is_not_said_of_a_contrast():
    runs = over_runs(np.array([2.0, 3.0]), [Spread(1.0, 4)])
    assert (runs.documents, runs.seeds, runs.pairs) == (0, 2, 1)
    one = contrast([(-1, rows(1, 1, 0)), (1, rows(0, 1, 0))], margin=2)
    assert (one.documents, one.seeds, one.pairs) == (3, 1, 1)


def test_the_detectable_size_is_that_of_both_sides():
    base, tuned = rows(*[1] * 60, *[0] * 40), rows(*[1] * 45, *[0] * 50, *[1] * 5)
    found = contrast([(-1, base), (1, tuned)], margin=2, alpha=0.1)
    assert found.detectable == metrics.minimum_detectable_difference(base[0], tuned[0], alpha=0.1)
    assert found.detectable != metrics.minimum_detectable_difference(base[0], base[0], alpha=0.1)


def test_a_set_without_weight_counts_for_nothing():
    base, tuned = rows(1, 1, 1, 0), rows(0, 0, 1, 0)
    two, three = ([(-1, base), (1, tuned), *more] for more in ([], [(0, rows(0, 1, 0, 1))]))
    assert contrast(two, margin=2) == contrast(three, margin=2)


def test_a_single_run_has_no_spread_over_seeds():
    with warnings.catch_warnings(action="error"):
        assert math.isnan(over_runs(np.array([2.0]), [Spread(1.0, 4)]).sd_seeds)

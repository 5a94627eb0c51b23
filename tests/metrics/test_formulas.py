"""The paper's formulas against its own numbers."""

import math

import numpy as np
import pytest
from scipy import stats

from slimlib import metrics

NAN = math.nan


# ---- degenerate input ----


@pytest.mark.parametrize("bad", [-0.1, 100.1, NAN, math.inf])
@pytest.mark.parametrize(
    "formula", [metrics.forgetting_rate, metrics.delta_a, lambda *both: metrics.delta_k(*both, 9)]
)
def test_an_impossible_accuracy_is_named(formula, bad):
    for both in ((50.0, bad), (bad, 50.0)):
        with pytest.raises(ValueError, match=str(bad)):
            formula(*both)


@pytest.mark.parametrize("n", [0, -3])
def test_no_documents_is_an_error(n):
    with pytest.raises(ValueError, match=f"n={n}"):
        metrics.standard_error(50.0, n)
    with pytest.raises(ValueError, match=f"n={n}"):
        metrics.delta_k(50.0, 50.0, 10, n)


def test_nothing_to_forget_is_nan():
    assert math.isnan(metrics.forgetting_rate(0.0, 0.0))


def test_one_document_has_no_standard_error():
    assert math.isnan(metrics.standard_error(100.0, 1))


# ---- worked numbers of the docstrings ----


def test_forgetting_rate_of_the_paper():
    assert metrics.forgetting_rate(33.51, 3.71) == pytest.approx(88.93, abs=0.005)
    exact = metrics.forgetting_rate(100 * 442 / 1319, 100 * 49 / 1319)
    assert exact == pytest.approx(88.91, abs=0.005)
    assert metrics.forgetting_rate(20.0, 30.0) == pytest.approx(-50)


def test_delta_a_of_the_paper():
    assert metrics.delta_a(60.77, 61.20) == pytest.approx(0.43)


def test_delta_k_of_the_paper_contains_zero():
    value, low, high = metrics.delta_k(47.0, 34.0, 100)
    assert value == 13
    assert (high - low) / 2 == pytest.approx(13.55, abs=0.005)
    assert (low, high) == pytest.approx((-0.55, 26.55), abs=0.005)


def test_delta_k_takes_two_sample_sizes():
    half = metrics.delta_k(47.0, 34.0, 100, 400).high - 13
    expected = 1.96 * math.hypot(math.sqrt(47 * 53 / 99), math.sqrt(34 * 66 / 399))
    assert half == pytest.approx(expected)


@pytest.mark.parametrize(
    ("percent", "n", "expected"),
    [
        *((33.51, 1319, 1.30), (60.77, 10042, 0.49), (47.0, 100, 5.02), (0.0, 10, 0.0)),
        (50.0, 2, 50.0),
    ],
)
def test_standard_errors_of_the_paper(percent, n, expected):
    assert metrics.standard_error(percent, n) == pytest.approx(expected, abs=0.005)


def test_standard_error_is_that_of_the_mean():
    right = np.random.default_rng(1).random(57) < 0.3
    assert metrics.standard_error(100 * right.mean(), 57) == pytest.approx(100 * stats.sem(right))

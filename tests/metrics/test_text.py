"""Numbers as text: each kind of number, known or not."""

import math

import pytest

from slimlib.metrics import Estimate
from slimlib.metrics.text import interval, number, p_cell, p_text


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ((None,), "-"),
        ((math.nan,), "undefined"),
        ((math.inf,), "unbounded"),
        ((-math.inf, 1), "unbounded"),
        ((1.236,), "1.24"),
        ((-0.004,), "0.00"),
        ((-0.06, 1), "-0.1"),
        ((12.0, 0), "12"),
        ((1.25, 2, "+"), "+1.25"),
        ((-0.004, 2, "+"), "+0.00"),
    ],
)
def test_a_number(given, text):
    assert number(*given) == text


@pytest.mark.parametrize(
    ("p", "text", "cell"),
    [
        (None, "p unknown", "-"),
        (0.0, "p < 0.001", "< 0.001"),
        (0.00099, "p < 0.001", "< 0.001"),
        (0.001, "p = 0.001", "0.001"),
        (0.0604, "p = 0.060", "0.060"),
        (1.0, "p = 1.000", "1.000"),
    ],
)
def test_a_p_value(p, text, cell):
    assert (p_text(p), p_cell(p)) == (text, cell)


def test_an_interval():
    assert interval(Estimate(13, -0.554, 26.55)) == "[-0.55, 26.55]"
    assert interval(Estimate(13, -0.55, 26.55), "+", 1) == "[-0.6, +26.6]"
    assert interval(Estimate(13, -math.inf, 26.55)) == "[unbounded, 26.55]"
    assert interval(Estimate(13, math.nan, 26.55)) == "-"
    assert interval(Estimate(13, -0.5, math.nan)) == "[-0.50, undefined]"

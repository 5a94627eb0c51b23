"""Equations inside a text, one rule of reading at a time."""

import pytest

from slimlib.comparison.answers.equations import check_equations


@pytest.mark.parametrize(
    ("text", "right", "wrong"),
    [
        # numbers
        (f"{10**29} + 0 = {10**29}", 1, 0),
        (f"{10**30} + 0 = {10**30}", 0, 0),  # more than 30 digits are not read
        (".5 + .25 = 0.75", 1, 0),
        ("1,500 / 2 = 750", 1, 0),
        # a minus: a sign at a start, after "=" and before a number; else it takes away
        ("it is: -3 + 5 = 2", 1, 0),
        ("or? -3 + 5 = 2", 0, 0),
        ("2 * -3 = -6", 1, 0),
        ("(-3) + 5 = 2", 1, 0),
        ("3 - 5 = -2 + 1 = -1", 2, 0),
        ("3 - 5 = -2 * 1 = -3", 1, 1),
        # where a number stands alone after "="
        ("3 + 4 = 7", 1, 0),
        ("3 + 4 = 7 + and so on", 1, 0),
        ("3 + 4 = 8 + and so on", 0, 1),
        ("3 + 4 = (7)", 1, 0),
        ("3 + 4 = (8)", 0, 1),
        ("5 * (2 + 1) = 5 * 3 = 15", 2, 0),
        ("2 + 2 = 4 + 1", 0, 1),  # nothing follows: the whole side counts
        # tolerance and rounding
        ("0 + 0.01 = 0.00", 0, 1),
        ("0 + 0.0099 = 0.00", 1, 0),
        ("1 + 0.0099 = 1.00", 1, 0),  # to two decimals 1.01
        ("0 + 0.01 = 0 * 5", 0, 1),
        ("0 + 0.0099 = 0 * 5", 1, 0),
        ("10 / 3 = 3.3", 1, 0),
        ("10 / 3 = 3.32", 0, 1),
        ("7 / 4 = 1.8", 1, 0),
        ("7 / 4 = 1.7", 0, 1),
        ("4.999 / 2 = 2", 1, 0),  # 2.4995 is no half
        ("0 - 7 / 2 = -4", 1, 0),
        ("5 / 0 = 5", 0, 1),
        # per cent: a hundredth, or the number itself
        ("20% * 12.5% = 2.5%", 1, 0),
        ("0.4% * 3 = 2%", 0, 1),
        ("5% + 3% = 8% + 1% = 9%", 2, 0),
        ("20% * 12.5% = 2.5% + 10% = 12.5%", 2, 0),
        ("50% * 8 = 4", 1, 0),
        ("50% * 8 = 400", 1, 0),
        ("50% * 8 = 40", 0, 1),
        # one or two fractions
        ("1 + 2 / 1/4 = 9", 1, 0),
        ("1 + 2 / 1/4 = 1.5", 1, 0),
        ("2 / 1/4 / 2 = 4", 1, 0),
        ("12 / 3 * 2 = 8", 1, 0),
        ("12 / 3 * 2 = 2", 0, 1),
        # what is no whole expression is no equation
        ("3 4 + 5 = 9", 0, 0),
        ("5 + % = 5", 0, 0),
        ("3 + = 3", 0, 0),
        ("* 3 + 1 = 4", 1, 0),  # a list's mark
        ("so * 3 + 1 = 4", 0, 0),
        ("3 + 4 = 7 8", 0, 0),
        ("3 + 4 = 7 (8)", 0, 0),
        ("3 + 4 = 2^3", 0, 0),
        ("3) + 4 = 7", 0, 0),
        ("(3 + 4 = 7", 1, 0),
        ("((1 + 2) * 2 + 1) * (3 - 1) = 14", 1, 0),
        # precedence, from the left
        ("2 + 3 * 4 = 14", 1, 0),
        ("20 - 5 - 3 = 12", 1, 0),
        ("20 / 5 / 2 = 2", 1, 0),
        ("-2 * 3 + 10 = 4", 1, 0),
        # units: up to three words between a number and an operator
        ("18 eggs laid daily * 7 = 126", 1, 0),
        ("18 eggs laid every day * 7 = 126", 0, 0),
        ("6 * 7 = 42 eggs", 1, 0),
        ("eggs 6 * 7 = 42", 1, 0),
        ("6 * eggs 7 = 42", 0, 0),
        ("(6 eggs) * 7 = 42", 1, 0),
        ("50% eggs * 8 = 4", 1, 0),
        # "of"
        ("20% of 50 = 10", 1, 0),
        ("2 of 5 + 1 = 6", 0, 0),
        ("a total of 2 + 1 = 3", 1, 0),
        ("half of the 16 + 2 = 18", 0, 0),
    ],
)
def test_one_rule(text, right, wrong):
    assert check_equations(text) == (right, wrong)

"""How a wrong whole number differs from the right one."""

import pytest

from slimlib.comparison.answers.slips import SLIPS, count_slips, slip_of

CASES = [
    (" twelve", "12", "no number"),
    ("", "12", "no number"),
    (" 9", "12", "another length"),
    ("-12", "12", "another length"),
    (" 13", "12", "off by one"),
    ("11, since 12", "12", "off by one"),  # its first number, as the filter takes it
    (" 4", "3", "off by one"),
    (" 18", "12", "first digit right"),
    (" 42", "12", "last digit right"),
    (" 972", "342", "last digit right"),
    (" 21", "12", "another number"),
    (" 7", "3", "another number"),
]


@pytest.mark.parametrize(("said", "right", "slip"), CASES)
def test_each_wrong_answer_has_its_slip(said, right, slip):
    assert slip_of(said, right) == slip


def test_they_are_counted():
    counts = count_slips((said, right) for said, right, _ in CASES)
    assert [*counts.values()] == [2, 2, 3, 1, 2, 2] and [*counts] == [*SLIPS]
    assert {slip for *_, slip in CASES} == {*SLIPS}


def test_a_right_answer_is_none():
    with pytest.raises(ValueError, match="12 is right"):
        slip_of(" 12", "12")

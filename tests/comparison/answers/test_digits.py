"""Numbers in one plain form: words, multiples, fractions, and what is no number."""

import pytest

from slimlib.comparison.answers.digits import plain_numbers, without_units

ONES = "one two three four five six seven eight nine".split()
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
TEENS = "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen".split()


def words(number: int) -> str:
    """A number below a milliard in words, as people write it."""
    for value, name in ((10**6, "million"), (1000, "thousand"), (100, "hundred")):
        if number >= value:
            head, rest = divmod(number, value)
            joined = " and " if name == "hundred" and rest else " "
            return f"{words(head)} {name}{joined}{words(rest) if rest else ''}".strip()
    if number >= 20:
        ten, one = divmod(number, 10)
        return TENS[ten - 2] + (f"-{ONES[one - 1]}" if one else "")
    return ["zero", *ONES, *TEENS][number]


@pytest.mark.parametrize(
    "number",
    [*range(101), 110, 200, 305, 999, 1000, 1001, 1319, 20_000, 205_003, 640_110, 10**6,
     3_200_005, 12_000_012, 999_999_999],
)  # fmt: skip
def test_number_words(number):
    text = words(number)
    assert plain_numbers(f"{text}, she has") == f"{number}, she has"
    assert plain_numbers(text.replace("-", " ").replace(" and ", " ").title()) == str(number)


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("5 hundred, 5 hundreds, 2 thousand", "500, 500, 2000"),
        ("1.5 million, 2 billion, 1,500 million", "1500000, 2000000000, 1500000000"),
        ("1.2345678k, 0.001k, 0.5K", "1234.5678, 1, 500"),
        ("10 hundred or 10k", "1000 or 10000"),
        ("0.0000125 hundred", "0.00125"),
        ("3 1/2, 3 0/2, 3 2/2, 3 3/2, 2 1/4", "3.5, 3 0/2, 3 2/2, 3 3/2, 2.25"),
        ("1 234 567 but 12 3456", "1234567 but 12 3456"),
        (r"\dfrac{3}{4} \text{ of it} and \tfrac{1}{2}", " 3/4   of it and  1/2"),
        ("# Part 2 - Problem (3) and steps 4", "#  - ) and "),
        ("* 5\n2) 6\n10. 7", "5\n6\n7"),
    ],
)
def test_other_forms(text, plain):
    assert plain_numbers(text) == plain


@pytest.mark.parametrize(
    "text",
    ["a one", "a one, long and wide", "another one", "each one", "one of", "one should", "the one"],
)
def test_one_may_be_no_number(text):
    assert plain_numbers(text) == text


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("one", "1"),
        ("for one", "for 1"),
        ("one apple", "1 apple"),
        ("the twenty-one", "the 21"),
        ("no two of them", "no 2 of them"),
    ],
)
def test_or_one(text, plain):
    assert plain_numbers(text) == plain


def test_units():
    assert without_units("64g, 64 g, 5 dozens, 3x, 7 g-force") == "64, 64, 5 , 3x, 7 g-force"

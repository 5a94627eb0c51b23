"""Kinds of answers: what ran on, by brute force; which kind a document is of; what can be read."""

import random
import warnings

import pytest
from test_outcome import gsm8k, samples

from slimlib.comparison.answers.kinds import (
    COLUMNS,
    _loops,
    answer_table,
    classify,
    has_answers,
    ran_on,
)
from slimlib.results import TaskResults


def loops(text: str) -> bool:
    """The definition: the end is one text 3 times or more, 24 characters or more in all."""
    for period in range(1, len(text) // 3 + 1):
        for long in range(max(3 * period, 24), len(text) + 1):
            end = text[-long:]
            if all(end[i] == end[i - period] for i in range(period, long)):
                return True
    return False


def test_loops_are_found_as_by_definition():
    draw, found = random.Random(0), 0
    for _ in range(600):
        piece = "".join(draw.choices("aab", k=draw.randint(1, 11)))
        text = "".join(draw.choices("ab", k=draw.randint(0, 9))) + piece * draw.randint(1, 8)
        text = text[: len(text) - draw.choice((0, 0, 1, 5))] + draw.choice(("", "", "b"))
        assert _loops(text) == loops(text), text
        found += loops(text)
    assert 150 < found < 450


@pytest.mark.parametrize(
    ("text", "limit", "ran"),
    [
        ("one two three four five six seven eight nine.", 10, True),  # 10 of 10
        ("one two three four five six seven eight.", 10, True),  # 9 of 10: the 9/10 that it takes
        ("a b c d e f g h.", 10, True),  # 9 exactly
        ("a b c d e f g.", 10, False),
        ("a b c", 9, True),  # 1/3 exactly, and it breaks off
        ("one two three four five six seven.", 10, False),  # 34 characters: 8.5
        ("abcd abcd abcd abcd abcd, bcd, cd.", 9, True),
        ("one two three", 10, False),  # breaks off at 3.25 of 10
        ("one two three.", 10, False),
        ("one two three four", 10, True),  # 4.5 of 10
        ("one two three four 5", 10, False),  # a digit is an end
        ("a" * 340 + " b", None, True),  # by its bytes 85.5 of 256: 1/3 and more
        ("a" * 338 + " b", None, False),  # 85
        ("\u00e9" * 170 + " b", None, True),  # two bytes each
        ("a b c d " * 30 + "x", 0, True),  # a limit of 0 is none: 256
    ],
)
def test_how_long_an_answer_ran(text, limit, ran):
    assert (ran_on(text, limit) and not _loops(text)) == ran


def test_a_category_is_the_first_that_fits():
    words = "He has 18 of them and"
    assert classify(words, True, True) == classify(words, True, False) == "right"
    assert classify(words, False, True) == "format"
    assert classify(words, False, False, gold="#### 18") == "right number, lost format"
    assert classify(words, False, False, gold="#### 18", question="18 or 17 or 16?") == (
        "right number, lost format"
    )
    assert classify("12 and 18", False, False, gold="18", question="12?") == (
        "right number, lost format"
    )
    assert classify("12 and 18", False, False, gold="12", question="12?") == "no answer line"
    assert classify(words, False, False, 6) == "rambling"
    assert classify(words, False, False) == "no answer line"


def test_the_table_s_columns():
    (row,) = answer_table(gsm8k(["1 + 1 = 2\n1 + 2 = 4\n#### 4"], [3])).to_dict("records")
    assert row == {
        "doc_id": 0,
        "category": "wrong",
        "kind": "wrong arithmetic",
        "strict": False,
        "flexible": False,
        "equations_right": 1,
        "equations_wrong": 1,
        "question": "q0",
        "answer": "1 + 1 = 2\n1 + 2 = 4\n#### 4",
        "gold": "#### 3",
    }
    assert tuple(row) == COLUMNS


def test_a_document_without_a_score_of_the_other_filter_is_named():
    whole = gsm8k(["#### 2", "#### 3"], [2, 2])
    parts = {**whole.samples, "flexible-extract": samples([0], exact_match=[1])}
    with pytest.raises(ValueError, match="document 1 lacks a score of flexible-extract; eval"):
        answer_table(TaskResults("gsm8k", {}, parts, load_rows=whole.load_rows))


def test_what_can_be_read():
    whole = gsm8k(["#### 2"], [2])

    def has(rows=whole.load_rows, **parts):
        kept = {name.replace("_", "-"): found for name, found in parts.items()}
        return has_answers(TaskResults("gsm8k", {}, kept or whole.samples, load_rows=rows))

    right, half, other = (samples([0], **s) for s in ({"exact_match": [1]}, {"exact_match": [0.5]},
                                                      {"acc": [1]}))  # fmt: skip
    assert has() and not has(rows=None)
    assert has(strict_match=right, flexible_extract=right)
    for bad in (half, other):
        assert not has(strict_match=right, flexible_extract=bad)
        assert not has(strict_match=bad, flexible_extract=right)
    assert not has(strict_match=right) and not has(flexible_extract=right)
    with warnings.catch_warnings(action="error"):
        assert not has(none=other)


def test_a_bare_number_is_wrong_where_no_answer_line_is_wanted():
    """One-digit arithmetic wants "12" and no "#### 12": "13" lacks nothing but the right number."""
    assert classify(" 13", False, False, gold="12", question="7 + 5 =") == "wrong"
    assert classify("13", False, False, gold="5 + 7 = 12\n#### 12") == "no answer line"
    assert classify("13", False, False) == "no answer line"

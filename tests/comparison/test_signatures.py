"""Failure signatures: by the whole interval, and only where the benchmark was measured."""

from dataclasses import replace

import pytest
from test_sentences import CHANGE

from slimlib.comparison.change import BROKEN
from slimlib.comparison.signatures import (
    ABSENT,
    PRESENT,
    SIGNATURES,
    UNDECIDED,
    check_signatures,
)
from slimlib.metrics import Estimate

MATHS = replace(CHANGE, role="gsm8k", title="GSM8K, flexible")
FACTS = replace(CHANGE, role="mmlu_cs", title="MMLU-CS", measure="dK")


def test_the_lines_are_those_of_the_review():
    assert [(s.role, s.measure, s.line) for s in SIGNATURES] == [
        ("gsm8k", "FR", 80.0),
        ("mmlu_cs", "dK", 10.0),
    ]


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (Estimate(88.9, 86.9, 91.0), PRESENT),
        (Estimate(84.2, 77.5, 89.1), UNDECIDED),  # above the line, but its interval holds the line
        (Estimate(80.0, 80.0, 80.0), ABSENT),  # "above" is more than 80
        (Estimate(20.0, 5.0, 40.0), ABSENT),
        (Estimate(float("nan"), float("nan"), float("nan")), UNDECIDED),
    ],
)
def test_maths_is_present_above_80_per_cent_by_its_interval(found, verdict):
    (check,) = check_signatures([replace(MATHS, forgetting=found)])
    assert check.verdict == verdict
    assert check.to_dict()["verdict"] == verdict


@pytest.mark.parametrize(
    ("difference", "verdict"),
    [
        (Estimate(-30.0, -38.7, -20.9), PRESENT),  # a loss of 20.9 points at least
        (Estimate(-13.0, -26.6, 0.6), UNDECIDED),  # the paper's own
        (Estimate(-2.0, -6.0, 2.0), ABSENT),
    ],
)
def test_knowledge_is_present_above_ten_points(difference, verdict):
    (check,) = check_signatures([replace(FACTS, difference=difference)])
    assert check.verdict == verdict


def test_the_sentence_names_line_number_interval_and_verdict():
    (check,) = check_signatures([replace(MATHS, forgetting=Estimate(88.91, 86.9, 91.0))])
    assert check.sentence() == (
        "catastrophic forgetting of mathematics (GSM8K, FR above 80 %): present, "
        "88.91 % [86.90, 91.00]"
    )


def test_nothing_is_looked_for_where_nothing_was_measured():
    other = replace(CHANGE, role="hellaswag")
    assert check_signatures([other, replace(MATHS, verdict=BROKEN)]) == []
    assert check_signatures([replace(MATHS, family="subtask")]) == []


def test_knowledge_is_held_against_ten_points_and_no_more():
    (check,) = check_signatures([replace(FACTS, difference=Estimate(-15.0, -18.0, -12.0))])
    assert check.verdict == PRESENT
    found = check.to_dict()
    assert (found["value"], found["low"], found["high"]) == (15.0, 12.0, 18.0)
    unknown = Estimate(-15.0, float("nan"), float("nan"))
    (check,) = check_signatures([replace(FACTS, difference=unknown)])
    assert check.to_dict()["low"] is None and check.to_dict()["value"] == 15.0

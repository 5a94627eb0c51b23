"""A change as numbers: its row, its JSON, and what a claim of it is about."""

import math
from dataclasses import replace

import pytest
from test_sentences import CHANGE

from slimlib.comparison.change import finite
from slimlib.metrics import Estimate

LOSS = replace(CHANGE, p_t=2e-8, p_equivalence=0.9, p_equivalence_holm=0.95, chance=25.0)


def test_a_row_has_each_number_in_its_column():
    assert LOSS.row() == {
        "n": 200,
        "base": 40.0,
        "tuned": 10.0,
        "difference": -30.0,
        "low": -37.0,
        "high": -23.0,
        "test": "exact McNemar",
        "p_value": 1e-9,
        "p_holm": 3e-9,
        "p_t": 2e-8,
        "lost": 64,
        "gained": 4,
        "measure": "FR",
        "measure_value": 75.0,
        "measure_low": 62.0,
        "measure_high": 84.0,
        "detectable": 9.0,
        "verdict": "forgot",
    }


def test_json_has_each_number_under_its_name():
    change = replace(LOSS, seeds=(1, 3), reason="why", caveat="unlike")
    assert change.to_dict() == {
        "task": "gsm8k",
        "metric": "exact_match,flexible-extract",
        "title": "GSM8K, flexible",
        "family": "headline",
        "paired": True,
        "n": 200,
        "seeds": [1, 3],
        "subject": "this recipe",
        "base": 40.0,
        "tuned": 10.0,
        "chance": 25.0,
        "difference": {"value": -30.0, "low": -37.0, "high": -23.0},
        "test": "exact McNemar",
        "p_value": 1e-9,
        "p_holm": 3e-9,
        "p_paired_t": 2e-8,
        "p_equivalence": 0.9,
        "p_equivalence_holm": 0.95,
        "right_to_wrong": 64,
        "wrong_to_right": 4,
        "measure": "FR",
        "forgetting_rate": {"value": 75.0, "low": 62.0, "high": 84.0},
        "delta_a": {"value": -30.0, "low": -37.0, "high": -23.0},
        "delta_k": {"value": 30.0, "low": 23.0, "high": 37.0, "plus_minus": 8.0},
        "detectable": 9.0,
        "verdict": "forgot",
        "reason": "why",
        "caveat": "unlike",
    }


def test_what_is_not_said_of_a_change():
    assert (CHANGE.seeds, CHANGE.tests, CHANGE.may_be_kept) == ((1, 1), 1, True)
    assert (CHANGE.cluster, CHANGE.chance, CHANGE.limits) == ("", None, None)


def test_what_json_cannot_hold_is_null():
    unknown = replace(LOSS, base=math.nan, tuned=math.inf, forgetting=Estimate(1, -math.inf, 2))
    found = unknown.to_dict()
    assert (found["base"], found["tuned"]) == (None, None)
    assert found["forgetting_rate"] == {"value": 1.0, "low": None, "high": 2.0}
    assert str(finite(-0.0)) == "0.0"


@pytest.mark.parametrize(
    ("measure", "value"),
    [("FR", (75.0, 62.0, 84.0)), ("dA", (-30.0, -37.0, -23.0)), ("dK", (30.0, 23.0, 37.0))],
)
def test_each_measure_is_its_own_number(measure, value):
    assert replace(LOSS, measure=measure).measured == value


@pytest.mark.parametrize(
    ("seeds", "subject"),
    [
        ((1, 1), "this run"),
        ((1, 3), "this recipe"),
        ((3, 1), "this recipe"),
        ((2, 2), "these recipes"),
    ],
)
def test_a_claim_is_about_a_run_or_a_recipe(seeds, subject):
    assert replace(LOSS, seeds=seeds).subject == subject

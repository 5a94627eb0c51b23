"""Words and cells of a change: what is said, and that no more is said than is known."""

import math
from dataclasses import replace

import pytest

from slimlib.comparison import change as changes
from slimlib.comparison.change import FORGOT, IMPROVED, KEPT, UNKNOWN, WORSE, Change
from slimlib.comparison.sentences import answer, change_table, level, verdict_sentence
from slimlib.comparison.validity import BROKEN, INCOMPARABLE, NOTHING
from slimlib.metrics import Estimate

CHANGE = Change(
    task="gsm8k",
    metric="exact_match,flexible-extract",
    title="GSM8K, flexible",
    family=changes.HEADLINE,
    role="gsm8k",
    paired=True,
    n=200,
    base=40.0,
    tuned=10.0,
    difference=Estimate(-30.0, -37.0, -23.0),
    forgetting=Estimate(75.0, 62.0, 84.0),
    measure="FR",
    plus_minus=8.0,
    test="exact McNemar",
    p_value=1e-9,
    p_t=1e-9,
    p_equivalence=1.0,
    detectable=9.0,
    lost=64,
    gained=4,
    p_holm=3e-9,
    p_equivalence_holm=1.0,
    verdict=FORGOT,
)


def said(change, margin=2.0, alpha=0.05):
    return verdict_sentence(change, margin, alpha)


def test_a_loss_in_full():
    assert said(CHANGE) == (
        "GSM8K, flexible: forgot. 40.00 -> 10.00 % (-30.00 points, 95 % interval [-37.00, "
        "-23.00]); n = 200, 64 answers lost and 4 gained, exact McNemar p < 0.001 (Holm p < "
        "0.001); forgetting rate FR = 75.00 % [62.00, 84.00]. The loss of this run is real. "
        "Catastrophic, by the paper's own line (FR above 50 %)."
    )


@pytest.mark.parametrize(
    ("forgetting", "words"),
    [
        ((60.0, 45.0, 75.0), "FR is above 50 %, the paper's line of catastrophe, but its interval"),
        ((50.0, 45.0, 75.0), None),
        ((math.nan,) * 3, None),
    ],
)
def test_catastrophic_is_said_only_as_far_as_the_interval_says_it(forgetting, words):
    text = said(replace(CHANGE, forgetting=Estimate(*forgetting)))
    assert "Catastrophic" not in text and (words is None or words in text)
    assert ("50 %, the paper" in text) == (words is not None)


@pytest.mark.parametrize("measure", ["FR", "dK"])
def test_a_gain_is_called_a_gain_and_has_no_forgetting_rate(measure):
    gain = replace(
        CHANGE,
        base=10.0,
        tuned=40.0,
        difference=Estimate(30.0, 23.0, 37.0),
        forgetting=Estimate(-300.0, -math.inf, -100.0),
        measure=measure,
        verdict=IMPROVED,
    )
    text = said(gain)
    assert "The gain of this run is real." in text
    assert "FR" not in text and "dK" not in text and "forgetting" not in text
    assert change_table([gain], 0.05)["measure"].iloc[0] == "gain"


def test_a_claim_over_seeds_is_of_the_recipe():
    assert "The loss of this recipe is real." in said(replace(CHANGE, seeds=(1, 3)))
    assert "The loss of these recipes is real." in said(replace(CHANGE, seeds=(3, 3)))
    assert "n = 200, 3 seeds, " in said(replace(CHANGE, seeds=(1, 3)))


def test_an_interval_without_0_that_holm_does_not_bear_out_is_said():
    text = said(replace(CHANGE, verdict=UNKNOWN, p_value=0.03, p_holm=0.09, tests=3))
    assert (
        "The difference is not established: its own 95 % interval is without 0, but Holm's "
        "correction over 3 tests leaves p at 0.090" in text
    )
    without = said(replace(CHANGE, verdict=UNKNOWN, p_value=0.06, p_holm=0.09, tests=3))
    assert "The difference is not established: with these results the test" in without


def test_where_kept_is_out_of_reach_it_is_said():
    few = replace(CHANGE, verdict=UNKNOWN, p_value=0.5, p_holm=0.5, may_be_kept=False)
    assert "cannot show a change of less than 2 points, even without one." in said(few)
    assert "cannot show" not in said(replace(few, may_be_kept=True))


def test_small_and_real_is_both_said():
    small = said(replace(CHANGE, p_equivalence_holm=0.01))
    assert "is real, and small: within 2 points (TOST, Holm p = 0.010)." in small
    assert "small" not in said(replace(CHANGE, p_equivalence_holm=0.06))


def test_kept_and_nothing_to_lose():
    kept = replace(CHANGE, verdict=KEPT, p_equivalence_holm=0.01)
    assert "This run changed nothing, within 2 points (TOST, Holm p = 0.010)." in said(kept)
    nothing = said(replace(CHANGE, verdict=NOTHING, reason="base is at most 1.50 %"))
    assert nothing.endswith("There was no ability to lose: base is at most 1.50 %.")


@pytest.mark.parametrize(
    ("detectable", "chance", "words"),
    [
        (9.0, None, "would find a change of 9.0 points"),
        (30.0, 25.0, "would find a gain of 30.0 points 80 % of the time; from 40.00 % no loss"),
        (61.0, None, "no change could have been shown: from 40.00 %"),
        (None, None, "no change could have been shown: from 40.00 %"),
    ],
)
def test_what_could_be_shown_is_cut_by_the_room(detectable, chance, words):
    unknown = replace(CHANGE, verdict=UNKNOWN, p_value=0.5, p_holm=0.5)
    assert words in said(replace(unknown, detectable=detectable, chance=chance))


def test_the_answer_names_each_task_once_and_the_worst_first():
    named = [
        replace(CHANGE, title=f"{name}, acc", verdict=verdict)
        for name, verdict in (
            ("stories", KEPT),
            ("arithmetic", FORGOT),
            ("facts", UNKNOWN),
            ("sums", FORGOT),
            ("chat", INCOMPARABLE),
            ("maths", BROKEN),
            ("code", NOTHING),
            ("french", WORSE),
        )
    ]
    assert answer(named) == (
        "Measurement broken: maths. Not comparable: chat. Lost: arithmetic, sums. Worse: french. "
        "Kept: stories. Nothing to lose: code. Cannot tell: facts."
    )
    assert answer([]) == ""


@pytest.mark.parametrize(("alpha", "words"), [(0.05, "95 %"), (0.01, "99 %"), (0.001, "99.9 %")])
def test_an_interval_is_called_by_its_level(alpha, words):
    assert level(alpha) == f"{words} interval"
    assert f"{words} interval [" in said(CHANGE, alpha=alpha)
    assert f"{words} interval" in change_table([CHANGE], alpha).columns

"""Words and cells of a change: what is said, and that no more is said than is known."""

import math
from dataclasses import replace

import pytest

from slimlib.comparison import change as changes
from slimlib.comparison.change import BETTER, FORGOT, IMPROVED, KEPT, SAME, UNKNOWN, WORSE, Change
from slimlib.comparison.sentences import (
    STEP_WORDS,
    answer,
    brief,
    change_table,
    from_to,
    level,
    rules,
    step_cells,
    verdict_sentence,
)
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


@pytest.mark.parametrize(
    ("verdict", "kind"), [(FORGOT, "loss"), (WORSE, "loss"), (IMPROVED, "gain"), (BETTER, "gain")]
)
def test_each_verdict_is_of_a_loss_or_a_gain(verdict, kind):
    assert f"The {kind} of this run is real." in said(replace(CHANGE, verdict=verdict))
    assert "changed nothing" in said(replace(CHANGE, verdict=SAME))


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


# ---- each number in its place ----


def test_a_measurement_without_a_verdict_says_why():
    broken = replace(CHANGE, verdict=BROKEN, reason="3 scores are not numbers")
    assert said(broken) == (
        "GSM8K, flexible: measurement broken: 3 scores are not numbers. No verdict on the model."
    )


def test_what_was_not_asked_alike_is_said_after_the_claim():
    text = said(replace(CHANGE, caveat="n-shot 0 against 5"))
    assert text.endswith("(FR above 50 %). Not asked alike: n-shot 0 against 5.")


def test_aggregates_are_called_weaker_and_clusters_by_their_field():
    test = {"test": "unpaired z", "paired": False, "lost": None, "gained": None}
    assert "; unpaired z p < 0.001 (Holm p < 0.001), weaker than a paired test; forg" in said(
        replace(CHANGE, n=None, **test)
    )
    assert "n = 12,345, t over clusters (passage) p < 0.001 (Holm p < 0.001); forg" in said(
        replace(CHANGE, n=12345, test="t over clusters", cluster="passage", lost=None)
    )
    assert "weaker" not in said(CHANGE) and "(passage)" not in said(CHANGE)
    many = said(replace(CHANGE, lost=1234, gained=5678))
    assert "1,234 answers lost and 5,678 gained" in many


def test_without_a_test_its_absence_is_said():
    nowhere = Estimate(-30.0, math.nan, math.nan)
    unknown = replace(
        CHANGE,
        verdict=UNKNOWN,
        test="none: no number",
        p_value=None,
        p_holm=None,
        difference=nowhere,
        forgetting=Estimate(75.0, math.nan, math.nan),
    )
    assert said(unknown) == (
        "GSM8K, flexible: not enough data to tell. 40.00 -> 10.00 % (-30.00 points); test: no "
        "number; forgetting rate FR = 75.00 %. The difference is not established."
    )


def test_measures_in_the_sentence():
    up = {"difference": Estimate(0.43, -0.7, 1.5), "verdict": UNKNOWN, "p_value": 0.5}
    assert "; ability augmentation dA = +0.43 points. The" in said(
        replace(CHANGE, measure="dA", **up)
    )
    assert "; knowledge loss dK = 30.00 ± 8.00 points. The" in said(replace(CHANGE, measure="dK"))
    assert "; knowledge loss dK = 30.00 points. The" in said(
        replace(CHANGE, measure="dK", plus_minus=None)
    )
    still = replace(CHANGE, difference=Estimate(0.0, -1.0, 1.0), forgetting=Estimate(0, -2, 2))
    assert "FR = 0.00 % [-2.00, 2.00]. No difference was seen: with" in said(
        replace(still, verdict=UNKNOWN, p_value=1.0)
    )
    assert "FR" not in said(replace(CHANGE, forgetting=Estimate(math.nan, math.nan, math.nan)))


def test_a_small_gain_in_full():
    up = replace(
        CHANGE,
        tuned=40.43,
        difference=Estimate(0.43, -0.7, 1.56),
        verdict=UNKNOWN,
        p_value=0.4,
        p_holm=0.8,
        seeds=(2, 1),
    )
    assert said(up).startswith(
        "GSM8K, flexible: not enough data to tell. 40.00 -> 40.43 % (+0.43 points, 95 % interval "
        "[-0.70, +1.56]); n = 200, 2 seeds, 64 answers lost and 4 gained, exact McNemar p = 0.400 "
        "(Holm p = 0.800). The difference is not established: with these results"
    )


def test_catastrophe_is_a_matter_of_fr_and_of_losses():
    for other in ({"measure": "dK"}, {"verdict": UNKNOWN, "p_value": 0.5}):
        assert "atastroph" not in said(replace(CHANGE, **other))
    at = said(replace(CHANGE, forgetting=Estimate(75.0, 50.0, 84.0)))
    assert "but its interval is not" in at
    assert "Catastrophic" in said(replace(CHANGE, verdict=WORSE))


def test_small_is_below_the_level():
    assert "small" not in said(replace(CHANGE, p_equivalence_holm=0.05))
    assert "small" in said(replace(CHANGE, p_equivalence_holm=0.05), alpha=0.06)
    raw = replace(CHANGE, p_equivalence=0.01, p_equivalence_holm=0.06)
    assert "small" not in said(raw)
    assert "small" not in said(replace(CHANGE, p_equivalence_holm=None))


def test_a_reason_stands_where_nothing_is_claimed():
    unclear = replace(CHANGE, verdict=UNKNOWN, reason="base is not told from chance")
    assert said(unclear).endswith("Nothing is claimed: base is not told from chance.")


def test_an_interval_at_the_level_is_not_without_0():
    at = replace(CHANGE, verdict=UNKNOWN, p_value=0.05, p_holm=0.05)
    assert "The difference is not established: with these" in said(at)


@pytest.mark.parametrize(
    ("detectable", "chance", "words"),
    [
        (15.0, 25.0, "would find a change of 15.0 points 80 % of the time."),
        (15.1, 25.0, "would find a gain of 15.1 points 80 % of the time; from 40.00 % no loss"),
        (40.0, None, "would find a change of 40.0 points 80 % of the time."),
        (41.0, None, "would find a gain of 41.0 points 80 % of the time; from 40.00 % no loss"),
        (60.0, None, "would find a gain of 60.0 points"),
        (60.1, None, ", and no change could have been shown: from 40.00 % not even the largest"),
    ],
)
def test_the_room_is_down_to_chance_and_up_to_100(detectable, chance, words):
    unknown = replace(CHANGE, verdict=UNKNOWN, p_value=0.5, p_holm=0.5)
    assert words in said(replace(unknown, detectable=detectable, chance=chance))
    high = replace(unknown, base=60.0, detectable=41.0)
    assert "find a loss of 41.0 points 80 % of the time; from 60.00 % no gain could" in said(high)


def test_every_verdict_has_its_word_in_the_answer():
    words = {IMPROVED: "Gained", BETTER: "Better", SAME: "The same"}
    for verdict, word in words.items():
        assert answer([replace(CHANGE, verdict=verdict)]) == f"{word}: GSM8K."
    assert answer([], ["cola", "wmt\x1b"]).startswith("Not judged: cola, wmt")


def test_every_verdict_has_its_word_beside_a_step():
    words = {FORGOT: "lost", IMPROVED: "gained", KEPT: "kept", UNKNOWN: "may be chance"}
    same = (WORSE, BETTER, SAME, NOTHING, BROKEN, INCOMPARABLE)
    assert STEP_WORDS == words | dict(zip(same, same, strict=True))


def test_the_rules_say_how_it_was_compared():
    first, last = rules([CHANGE], 2.0, 0.05, None)
    assert first == (
        "Compared document by document. p: how often chance alone shows as much; Holm p: corrected "
        "for the number of tasks. Forgot, improved (worse, better): Holm p below 0.05; other "
        "metrics and subtasks are families of their own, and three families at 0.05 are not one at "
        "0.05. Kept: a change of 2 points or more is ruled out (two one-sided tests, corrected "
        "likewise)."
    )
    assert last == "One run a side: claims are of this run; other seeds of it may differ."
    both = rules([CHANGE, replace(CHANGE, paired=False)], 2.0, 0.05, 3)[0]
    assert both.startswith(
        "Look 3: every level is a fifth of what was asked for. Compared document by document; from "
        "aggregates where answers are missing (unpaired, weaker). p: how"
    )
    broken = replace(CHANGE, verdict=BROKEN, paired=False)
    assert rules([broken], 2.0, 0.05, None)[0].startswith("p: how")
    assert rules([CHANGE, broken], 2.0, 0.05, None)[0].startswith("Compared document by document.")
    for seeds in ((1, 2), (2, 1)):
        assert rules([CHANGE, replace(CHANGE, seeds=seeds)], 2, 0.05, None)[1].startswith("Over s")
    assert len(rules([], 2.0, 0.05, None)) == 1


def test_a_row_of_the_table_in_full():
    table = change_table([CHANGE], 0.05)
    assert table.index.tolist() == ["GSM8K, flexible"]
    assert table.iloc[0].to_dict() == {
        "base": "40.00",
        "tuned": "10.00",
        "change": "-30.00",
        "95 % interval": "[-37.00, -23.00]",
        "p (Holm)": "< 0.001",
        "verdict": FORGOT,
        "p": "< 0.001",
        "test": "McNemar",
        "lost": "64",
        "gained": "4",
        "measure": "FR 75.00 [62.00, 84.00]",
        "n": "200",
    }
    up = change_table([replace(CHANGE, difference=Estimate(0.43, -0.7, 1.56))], 0.05).iloc[0]
    assert (up["change"], up["95 % interval"]) == ("+0.43", "[-0.70, +1.56]")
    other = replace(CHANGE, family=changes.OTHER, test="none: no number", p_value=0.01, p_holm=0.02)
    other = replace(other, n=None, lost=None, gained=None, measure="dK")
    table = change_table([other], 0.05)
    assert table.index.tolist() == ["  GSM8K, flexible"]
    row = table.iloc[0]
    assert (row["n"], row["lost"], row["gained"], row["test"]) == ("-", "-", "-", "none")
    assert (row["p"], row["p (Holm)"], row["measure"]) == ("0.010", "0.020", "dK 30.00 ± 8.00")


@pytest.mark.parametrize(
    ("difference", "measure", "cell"),
    [
        (0.43, "dA", "dA +0.43"),
        (-0.43, "dA", "dA -0.43"),
        (0.43, "dK", "gain"),
        (0.43, "FR", "gain"),
        (0.0, "dK", "dK 0.00 ± 8.00"),
    ],
)
def test_the_measure_s_cell(difference, measure, cell):
    change = replace(CHANGE, difference=Estimate(difference, -1.0, 1.0), measure=measure)
    assert change_table([change], 0.05)["measure"].iloc[0] == cell


def test_a_change_in_a_few_words():
    change = replace(CHANGE, p_value=0.01, p_holm=0.02)
    assert brief(change) == "-30.0 points [-37.0, -23.0], Holm p = 0.020"
    assert brief(change, holm=False) == "-30.0 points [-37.0, -23.0]"
    assert from_to(change) == "40.0 -> 10.0 %"
    assert step_cells(change) == {
        "before": "40.0",
        "after": "10.0",
        "change": "-30.0",
        "95 % interval": "[-37.0, -23.0]",
        "p (Holm)": "0.020",
    }


def test_a_step_is_called_by_its_verdict_where_nothing_was_forgotten():
    same = (WORSE, BETTER, SAME, NOTHING, BROKEN, INCOMPARABLE)
    assert [STEP_WORDS[verdict] for verdict in same] == [*same]

"""From measured changes to verdicts: corrected p-values decide, and nothing else does."""

from dataclasses import replace

import pytest
from test_sentences import CHANGE

from slimlib.comparison.change import (
    BETTER,
    FORGOT,
    HEADLINE,
    IMPROVED,
    KEPT,
    OTHER,
    SAME,
    SUBTASK,
    UNKNOWN,
    WORSE,
)
from slimlib.comparison.judging import judge
from slimlib.comparison.validity import BROKEN, NOTHING
from slimlib.metrics import Estimate

MEASURED = replace(CHANGE, p_holm=None, p_equivalence_holm=None, verdict=UNKNOWN)


def judged(*p_values, **more):
    """Verdicts of changes with these (p of a difference, p of equivalence)."""
    changes = [replace(MEASURED, p_value=p, p_equivalence=e) for p, e in p_values]
    return judge(changes, 0.05, 2.0, **more)


def test_nothing_measured_is_nothing_judged():
    assert judge([], 0.05, 2.0) == ()
    (change,) = judged((None, None))
    assert (change.verdict, change.p_holm, change.p_equivalence_holm) == (UNKNOWN, None, None)


def test_the_corrected_p_decides_on_a_loss():
    """0.03 alone is below 0.05; three of them are 0.09 each, and 0.012 is 0.036."""
    assert [c.verdict for c in judged((0.03, 1.0))] == [FORGOT]
    assert [c.verdict for c in judged(*[(0.03, 1.0)] * 3)] == [UNKNOWN] * 3
    three = judged((0.012, 1.0), (0.03, 1.0), (0.5, 1.0))
    assert [c.verdict for c in three] == [FORGOT, UNKNOWN, UNKNOWN]
    assert [c.p_holm for c in three] == pytest.approx([0.036, 0.06, 0.5])


def test_the_corrected_p_decides_on_kept():
    assert [c.verdict for c in judged((0.9, 0.03))] == [KEPT]
    assert [c.verdict for c in judged(*[(0.9, 0.03)] * 3)] == [UNKNOWN] * 3
    three = judged((0.9, 0.012), (0.9, 0.03), (0.9, 0.5))
    assert [c.verdict for c in three] == [KEPT, UNKNOWN, UNKNOWN]


def test_a_level_is_not_reached_by_being_equal_to_it():
    assert judged((0.05, 1.0))[0].verdict == UNKNOWN
    assert judged((0.9, 0.05))[0].verdict == UNKNOWN


def test_a_real_change_within_the_margin_is_real_first():
    assert judged((0.01, 0.01))[0].verdict == FORGOT


def test_the_sign_says_which_way():
    up = replace(MEASURED, difference=Estimate(30.0, 20.0, 40.0), p_value=0.001)
    assert judge([up], 0.05, 2.0)[0].verdict == IMPROVED


@pytest.mark.parametrize(
    ("p", "difference", "verdict"),
    [((0.001, 1.0), -30.0, WORSE), ((0.001, 1.0), 30.0, BETTER), ((0.9, 0.001), 0.1, SAME)],
)
def test_two_models_that_are_not_before_and_after_have_words_of_their_own(p, difference, verdict):
    change = replace(MEASURED, difference=Estimate(difference, 0, 0))
    change = replace(change, p_value=p[0], p_equivalence=p[1])
    assert judge([change], 0.05, 2.0, related=False)[0].verdict == verdict
    assert judge([change], 0.05, 2.0)[0].verdict not in (WORSE, BETTER, SAME)


def test_each_family_is_corrected_for_itself():
    families = (HEADLINE, HEADLINE, OTHER, SUBTASK)
    changes = [replace(MEASURED, family=f, p_value=0.03) for f in families]
    found = judge(changes, 0.05, 2.0)
    assert [c.p_holm for c in found] == pytest.approx([0.06, 0.06, 0.03, 0.03])
    assert [c.tests for c in found] == [2, 2, 1, 1]


def test_a_fault_keeps_its_verdict_and_its_place_in_the_count():
    broken = replace(MEASURED, verdict=BROKEN, reason="no number", p_value=None)
    first, other = judge([broken, replace(MEASURED, p_value=0.03)], 0.05, 2.0)
    assert (first.verdict, first.reason, first.p_holm) == (BROKEN, "no number", None)
    assert other.p_holm == pytest.approx(0.06) and other.verdict == UNKNOWN


def test_a_fault_with_numbers_counts_with_them():
    fault = replace(MEASURED, verdict=BROKEN, p_value=0.001)
    _, other = judge([fault, replace(MEASURED, p_value=0.03)], 0.05, 2.0)
    assert other.p_holm == pytest.approx(0.03)


def test_the_corrected_p_decides_on_a_gain():
    up = replace(MEASURED, difference=Estimate(0.5, 0.1, 0.9), p_value=0.03)
    assert [c.verdict for c in judge([up], 0.05, 2.0)] == [IMPROVED]
    assert [c.verdict for c in judge([up] * 3, 0.05, 2.0)] == [UNKNOWN] * 3
    assert judge([replace(up, p_value=0.05)], 0.05, 2.0)[0].verdict == UNKNOWN


def with_limits(base, tuned, difference=-30.0, **more):
    """The change of a significant p, with both accuracies' limits and guessing at 25 %."""
    limits = tuple(Estimate(sum(side) / 2, *side) for side in (base, tuned))
    change = replace(MEASURED, p_value=0.001, difference=Estimate(difference, difference, 0.0))
    return judge([replace(change, **{"chance": 25.0, "limits": limits} | more)], 0.05, 2.0)[0]


def test_a_base_within_the_margin_of_guessing_had_nothing_to_lose():
    nothing = with_limits((20.0, 27.0), (0.0, 5.0))
    assert nothing.verdict == NOTHING
    assert nothing.reason == "base is at most 27.00 %, guessing gives 25.00 %"
    assert with_limits((26.0, 27.1), (0.0, 5.0)).verdict == FORGOT
    none_right = with_limits((0.0, 2.0), (0.0, 1.0), chance=None)
    assert none_right.verdict == NOTHING
    assert none_right.reason == "base is at most 2.00 %, as good as none right"
    assert with_limits((0.1, 2.5), (0.0, 1.0), chance=None).verdict == FORGOT


def test_only_what_is_clearly_above_guessing_is_lost_or_gained():
    unclear = with_limits((25.0, 40.0), (0.0, 5.0))
    assert (unclear.verdict, unclear.reason) == (
        UNKNOWN,
        "base is not told from chance (at most 40.00 %)",
    )
    assert with_limits((25.1, 40.0), (0.0, 5.0)).verdict == FORGOT
    gain = with_limits((10.0, 20.0), (25.0, 45.0), difference=20.0)
    assert (gain.verdict, gain.reason) == (
        UNKNOWN,
        "the tuned model is not told from chance (at most 45.00 %)",
    )
    assert with_limits((10.0, 20.0), (25.1, 45.0), difference=20.0).verdict == IMPROVED

"""What must hold of any answers: found by hypothesis, not by examples."""

import math

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from slimlib import metrics
from slimlib.metrics.two_by_two import (
    Flips,
    mcnemar_p,
    score_difference,
    score_equivalence,
    score_forgetting,
)

COUNT = st.one_of(st.integers(0, 12), st.integers(0, 3000))
TABLE = st.builds(Flips, COUNT, COUNT, COUNT, COUNT).filter(lambda flips: flips.n > 0)
LEVEL = st.floats(0.5, 0.999)
ANSWERS = st.lists(st.tuples(st.sampled_from((0, 1)), st.sampled_from((0, 1))), min_size=1)
SEVERAL = settings(max_examples=60, deadline=None)


def excludes_0(estimate) -> bool:
    return estimate.low > 0 or estimate.high < 0


@SEVERAL
@given(TABLE, LEVEL)
def test_verdict_difference_and_fr_agree(flips, level):
    rejected = mcnemar_p(flips) < 1 - level
    assert excludes_0(score_difference(flips, level)) == rejected
    if flips.kept + flips.lost:
        rate = score_forgetting(flips, level)
        assert excludes_0(rate) == rejected
        assert rate.low <= rate.value + 1e-9 and rate.value <= rate.high + 1e-9


@SEVERAL
@given(TABLE, LEVEL)
def test_swapping_the_sides_flips_signs_only(flips, level):
    value, low, high = score_difference(flips, level)
    assert score_difference(flips.swapped, level) == (-value, -high, -low)
    assert mcnemar_p(flips.swapped) == mcnemar_p(flips)
    assert score_equivalence(flips.swapped, 2.0) == score_equivalence(flips, 2.0)


@SEVERAL
@given(TABLE, LEVEL)
def test_swapping_the_sides_inverts_the_ratio(flips, level):
    assume(flips.kept > 0)
    there, back = score_forgetting(flips, level), score_forgetting(flips.swapped, level)
    for one, other in ((there.low, back.high), (there.high, back.low)):
        assert math.isclose((1 - one / 100) * (1 - other / 100), 1, rel_tol=1e-6)


@SEVERAL
@given(TABLE, LEVEL, st.floats(0.0005, 0.2))
def test_more_confidence_is_never_a_narrower_interval(flips, level, more):
    for interval in (score_difference, score_forgetting):
        narrow, wide = (interval(flips, x) for x in (level, level + (1 - level) * more))
        if not math.isnan(narrow.low):
            assert wide.low <= narrow.low + 1e-7 * abs(narrow.low) + 1e-9
            assert wide.high >= narrow.high - 1e-9


@SEVERAL
@given(TABLE, st.integers(1, 500), LEVEL)
def test_more_equal_answers_draw_the_limits_to_0_and_change_no_verdict(flips, more, level):
    larger = flips._replace(neither=flips.neither + more)
    assert mcnemar_p(larger) == mcnemar_p(flips)
    few, many = (score_difference(one, level) for one in (flips, larger))
    assert max(-many.low, many.high) <= max(-few.low, few.high) + 1e-9
    assert score_equivalence(larger, 2.0) <= score_equivalence(flips, 2.0) + 1e-12


@SEVERAL
@given(TABLE, st.floats(0.1, 50), st.floats(1.01, 3))
def test_a_wider_margin_is_easier_kept(flips, margin, times):
    wider = score_equivalence(flips, min(margin * times, 100))
    assert wider <= score_equivalence(flips, margin) + 1e-12


@SEVERAL
@given(ANSWERS, st.randoms())
def test_the_order_of_documents_does_not_matter(answers, random):
    shuffled = random.sample(answers, len(answers))
    (base, tuned), (other_base, other_tuned) = (np.array(x, float).T for x in (answers, shuffled))
    for function in (
        metrics.paired_difference,
        metrics.mcnemar_test,
        metrics.minimum_detectable_difference,
        lambda *pair: metrics.equivalence_test(*pair, 2.0),
    ):
        assert function(base, tuned) == function(other_base, other_tuned)

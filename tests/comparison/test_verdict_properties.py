"""What must hold of any two models' answers: order is nothing, and sides may change places."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_validity import results

from slimlib.comparison.change import FORGOT, IMPROVED
from slimlib.comparison.two_models import compare

ANSWERS = st.lists(st.sampled_from([(0, 0), (0, 1), (1, 0), (1, 1)]), min_size=1, max_size=60)
LEVELS = st.sampled_from([0.001, 0.01, 0.05, 0.1, 0.3])
SWAPPED = {FORGOT: IMPROVED, IMPROVED: FORGOT}
ONLY = settings(max_examples=60, deadline=None, derandomize=True)


def change_of(answers, alpha, order=None):
    base, tuned = (np.array(side, dtype=float) for side in zip(*answers, strict=True))
    sides = []
    for name, scores in (("a", base), ("b", tuned)):
        side = results(scores, name)
        if order is not None:
            task = side.tasks["own_task"]
            samples = task.samples["none"]
            moved = {
                key: tuple(getattr(samples, key)[i] for i in order)
                for key in ("doc_ids", "doc_hashes", "prompt_hashes", "answer_hashes")
            }
            scores = {"acc": samples.scores["acc"][order]}
            side.tasks["own_task"].samples["none"] = type(samples)(**moved, scores=scores)
        sides.append(side)
    (change,) = compare(*sides, alpha=alpha).changes
    return change


@ONLY
@given(ANSWERS, LEVELS)
def test_the_verdict_and_the_interval_are_one(answers, alpha):
    change = change_of(answers, alpha)
    without_0 = change.difference.low > 0 or change.difference.high < 0
    assert (change.p_value < alpha) == without_0
    assert (change.verdict in SWAPPED) == without_0


@ONLY
@given(ANSWERS, LEVELS)
def test_models_that_change_places_change_the_sign_alone(answers, alpha):
    there = change_of(answers, alpha)
    back = change_of([(tuned, base) for base, tuned in answers], alpha)
    value, low, high = there.difference
    np.testing.assert_allclose(back.difference, (-value, -high, -low), atol=1e-9)
    assert back.verdict == SWAPPED.get(there.verdict, there.verdict)
    assert (back.lost, back.gained, back.p_value) == (there.gained, there.lost, there.p_value)
    assert (back.detectable, back.p_equivalence) == (there.detectable, there.p_equivalence)


@ONLY
@given(ANSWERS, st.randoms(use_true_random=False))
def test_the_order_of_documents_does_not_matter(answers, random):
    order = [*range(len(answers))]
    random.shuffle(order)
    moved, change = change_of(answers, 0.05, order), change_of(answers, 0.05)
    assert replace(moved, p_t=None) == replace(change, p_t=None)
    assert moved.p_t == pytest.approx(change.p_t)  # a sum in another order


@ONLY
@given(ANSWERS, LEVELS)
def test_more_documents_that_nobody_changed_never_make_a_claim_of_change(answers, alpha):
    """Exact McNemar looks at what changed; the interval can only narrow around less."""
    more = [*answers, *[(1, 1)] * len(answers)]
    assert change_of(more, alpha).p_value == change_of(answers, alpha).p_value

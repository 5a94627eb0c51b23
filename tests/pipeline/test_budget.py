"""Documents for a time: shared so that the changes are known best, in an order that grows."""

from types import SimpleNamespace

import pytest

from slimlib.metrics.power import mcnemar_power
from slimlib.pipeline.budget import Need, by_task, can_show, order_documents, share_out


def unit(**sizes):
    return SimpleNamespace(name="a group", sizes=sizes)


def test_an_order_has_each_document_once_and_depends_on_the_seed_alone():
    order = order_documents(unit(one=5, two=3), seed=1)
    assert sorted(order) == [(t, i) for t, n in (("one", 5), ("two", 3)) for i in range(n)]
    assert order == order_documents(unit(one=5, two=3), seed=1)
    assert order != order_documents(unit(one=5, two=3), seed=2)


def test_every_task_of_a_group_is_asked_from_the_first_documents_on():
    order = order_documents(unit(large=1000, small=10, single=1), seed=3)
    assert {task for task, _ in order[:3]} == {"large", "small", "single"}
    half = by_task(order[: len(order) // 2])
    assert len(half["large"]) == pytest.approx(500, abs=10) and len(half["small"]) >= 3


def test_tasks_that_are_alike_share_alike():
    needs = {name: Need(size=1000, have=0, seconds=0.1) for name in ("a", "b")}
    assert share_out(needs, 40) == {"a": 200, "b": 200}


def test_a_task_of_a_ninth_of_the_time_gets_three_times_as_many():
    needs = {
        "slow": Need(size=10_000, have=0, seconds=0.9),
        "fast": Need(size=10_000, have=0, seconds=0.1),
        "small": Need(size=10, have=0, seconds=1.0),
    }
    # 10 of small take 10 s; slow x and fast 3 x: 0.9 x + 0.3 x = 120
    assert share_out(needs, 130) == {"slow": 100, "fast": 300, "small": 10}


def test_a_very_slow_task_does_not_starve_the_others():
    """Measured: long answers of 10 s a document beside multiple choice of 0.13 s, 5 minutes."""
    needs = {
        "gsm8k": Need(size=1_319, have=0, seconds=10.0),
        "hellaswag": Need(size=10_042, have=0, seconds=0.13),
    }
    shared = share_out(needs, 300)
    assert shared["hellaswag"] > 200 and shared["gsm8k"] > 20


def test_no_other_way_to_spend_the_time_tells_more():
    """The summed variance, flipping / documents, grows with each exchange at the same cost."""
    needs = {
        "a": Need(size=10**6, have=0, seconds=0.5, flipping=0.1),
        "b": Need(size=10**6, have=0, seconds=0.05, flipping=0.3),
        "c": Need(size=10**6, have=0, seconds=2.0, flipping=0.02),
    }
    shared = share_out(needs, 3_000)

    def variance(documents):
        return sum(needs[n].flipping / documents[n] for n in needs)

    for more, less in ((x, y) for x in needs for y in needs if x != y):
        seconds = 0.1 * shared[less] * needs[less].seconds
        moved = shared | {
            less: 0.9 * shared[less],
            more: shared[more] + seconds / needs[more].seconds,
        }
        assert variance(moved) > variance(shared)


def test_a_task_whose_answers_flip_more_gets_more():
    needs = {
        "calm": Need(size=10_000, have=0, seconds=0.1, flipping=0.1),
        "wild": Need(size=10_000, have=0, seconds=0.1, flipping=0.4),
    }
    assert share_out(needs, 30) == {"calm": 100, "wild": 200}


@pytest.mark.parametrize("seconds", [0, -5, 0.01])
def test_without_time_nothing_is_added_and_nothing_lost(seconds):
    needs = {"a": Need(size=100, have=30, seconds=1), "b": Need(size=100, have=0, seconds=1)}
    assert share_out(needs, seconds) == {"a": 30, "b": 0}


def test_with_time_for_all_each_document_is_asked():
    needs = {"a": Need(size=100, have=30, seconds=1), "b": Need(size=7, have=7, seconds=1)}
    assert share_out(needs, 71) == {"a": 100, "b": 7}


def test_what_documents_can_show_is_found_by_the_exact_test_in_80_per_cent():
    points = can_show(500, 0.2, alpha=0.01)
    assert mcnemar_power(500, 0.1, points / 100, 0.01) >= 0.8
    assert mcnemar_power(500, 0.1, points / 100 - 0.005, 0.01) < 0.8


def test_few_documents_show_nothing():
    assert can_show(0, 0.2, 0.01) is None and can_show(3, 0.2, 0.01) is None

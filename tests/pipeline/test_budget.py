"""Documents for a time: shared so that all tasks can show the same, in an order that grows."""

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


def test_slow_tasks_get_as_many_and_small_ones_leave_their_time_to_others():
    needs = {
        "slow": Need(size=10_000, have=0, seconds=0.9),
        "fast": Need(size=10_000, have=0, seconds=0.1),
        "small": Need(size=10, have=0, seconds=1.0),
    }
    shared = share_out(needs, 110)
    assert shared == {"slow": 100, "fast": 100, "small": 10}


def test_a_task_whose_answers_flip_more_gets_more():
    needs = {
        "calm": Need(size=10_000, have=0, seconds=0.1, flipping=0.1),
        "wild": Need(size=10_000, have=0, seconds=0.1, flipping=0.3),
    }
    assert share_out(needs, 40) == {"calm": 100, "wild": 300}


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

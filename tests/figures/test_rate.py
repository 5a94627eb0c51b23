"""The search of micro's fine-tuning keeps its rule: an interior optimum of the held-out loss."""

import math

import pytest

pytest.importorskip("torch")

import rate  # noqa: E402


def searched(best):
    """The search with a loss that is lowest at a rate of its own for each rows and epochs."""
    asked = []

    def measure(steps, value):
        asked.append((steps, value))
        return {"loss": abs(math.log(value / best[steps]))}

    return rate.search(measure), asked


def test_the_first_rows_see_the_whole_grid_and_the_others_its_best_part():
    first, *others = rate.STEPS
    rows, asked = searched({first: 4.1e-3, **dict.fromkeys(others, 3.9e-3)})
    about = [(steps, r) for steps in others for r in (2e-3, 4e-3, 8e-3)]
    assert asked == [(first, r) for r in rate.RATES] + about
    assert {(row["steps"], row["rate"]) for row in rows} == set(asked)


@pytest.mark.parametrize("best", [1e-4, 0.2])
def test_a_grid_goes_on_until_its_best_rate_is_not_at_its_edge(best):
    rows, asked = searched(dict.fromkeys(rate.STEPS, best))
    assert len(asked) == len(set(asked))
    for steps in rate.STEPS:
        losses = {row["rate"]: row["loss"] for row in rows if row["steps"] == steps}
        lowest = min(losses, key=losses.get)
        assert min(losses) < lowest < max(losses)
        assert lowest / best == pytest.approx(1, abs=0.42)  # no other rate of the grid is nearer


def test_the_seed_is_none_of_the_studys():
    assert rate.SEED not in (1, 2, 3407)
    assert rate.DEV.source.endswith("_dev")

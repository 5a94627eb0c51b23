"""How many documents of each task fit into the minutes that somebody has.

Documents are a seeded random sample: of each task the first so many of one random order, so that a
later look keeps those of the earlier ones. The time is shared so that the changes of all tasks
together are known best: a task gets more documents where its answers flip more by chance, as far
as is known, and where one document takes less time.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

from slimlib.comparison.contrast import POWER
from slimlib.data.named_tasks import Unit
from slimlib.metrics.power import detectable_by_mcnemar
from slimlib.metrics.two_by_two import Flips

PILOT = 8  # documents of each task on which the speed is measured first
FLIPPING = 0.2  # share of answers that flip, lost and gained together, until a look has shown it
LEAST_FLIPPING = 0.02
INSTANT = 1e-6  # seconds: a document whose time is not known yet
LARGEST_SCALE = 1e9  # of documents to sqrt(flipping / seconds): every document of any task


@dataclass(frozen=True)
class Need:
    """What is known of one task when the time is shared out."""

    size: int  # documents that it has
    have: int  # that both sides have answered
    seconds: float  # for one more, of both sides together
    flipping: float = FLIPPING


def order_documents(unit: Unit, seed: int) -> list[tuple[str, int]]:
    """All documents of a unit, (task, place), in a random order that keeps a group's proportions.

    The first of each of its tasks come first: lm-eval cannot leave one out.
    """
    draw = random.Random(f"{seed} {unit.name}")
    placed = []
    for task, size in unit.sizes.items():
        ids = draw.sample(range(size), size)
        placed += [
            ((i + draw.random()) / size if i else -1.0, task, at) for i, at in enumerate(ids)
        ]
    return [(task, at) for _, task, at in sorted(placed, key=lambda row: row[0])]


def by_task(documents: list[tuple[str, int]]) -> dict[str, list[int]]:
    """(task, place) pairs as task -> places."""
    found: dict[str, list[int]] = {}
    for task, at in documents:
        found.setdefault(task, []).append(at)
    return found


def share_out(needs: Mapping[str, Need], seconds: float) -> dict[str, int]:
    """Documents of each task that fit into some seconds, by Neyman's allocation.

    A task gets documents in proportion to sqrt(flipping / seconds for one): no other way to spend
    the time makes the summed variance of the tasks' changes smaller (W. G. Cochran, Sampling
    Techniques, 3rd ed., section 5.5). A slow task gets fewer, and does not starve the fast ones.

    Args:
        needs: by task.
        seconds: that are left.

    Returns:
        Documents by task, never fewer than it has and never more than there are.

    Example: two tasks of 1,000 documents, none answered yet, one at 0.1 s a document and one at
    0.9 s, 80 s -> 200 and 67: three times as many where one takes a ninth of the time.
    """

    def documents(scale: float) -> dict[str, int]:
        wanted = {
            name: scale * (need.flipping / max(need.seconds, INSTANT)) ** 0.5
            for name, need in needs.items()
        }
        return {n: round(min(max(wanted[n], needs[n].have), needs[n].size)) for n in needs}

    def cost(scale: float) -> float:
        found = documents(scale)
        return sum((found[n] - need.have) * need.seconds for n, need in needs.items())

    fits, too_much = 0.0, LARGEST_SCALE
    if cost(too_much) <= seconds:
        return documents(too_much)
    for _ in range(80):
        middle = (fits + too_much) / 2
        fits, too_much = (middle, too_much) if cost(middle) <= seconds else (fits, middle)
    return documents(fits)


def can_show(documents: int, flipping: float, alpha: float) -> float | None:
    """Points of change that so many documents show in 80 % of repetitions; None: no change.

    Args:
        documents: that both sides answer.
        flipping: share of answers that flip by chance, lost and gained together.
        alpha: level of the test.
    """
    lost = round(documents * flipping / 2)
    flips = Flips(documents - 2 * lost, lost, lost, 0)
    return detectable_by_mcnemar(flips, POWER, alpha) if documents and alpha < POWER else None

"""How a wrong whole number differs from the right one: a digit, a place, or no number at all."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

WHOLE_NUMBER = re.compile(r"-?\d+")
SLIPS = (
    *("no number", "another length", "off by one"),
    *("first digit right", "last digit right", "another number"),
)


def slip_of(said: str, right: str) -> str:
    """Tell how an answer is wrong; the first of SLIPS that fits.

    Args:
        said: what was answered.
        right: the right whole number.

    Example: "13" for "12" is "off by one", "18" "first digit right", "9" "another length".

    Raises:
        ValueError: it is right.
    """
    found = WHOLE_NUMBER.search(said)  # the first, as the tasks' own filter takes it
    if found is None:
        return "no number"
    number = found[0]
    if number == right:
        raise ValueError(f"{number} is right: no slip")
    if len(number) != len(right):
        return "another length"
    if abs(int(number) - int(right)) == 1:
        return "off by one"
    if number[0] == right[0]:
        return "first digit right"
    return "last digit right" if number[-1] == right[-1] else "another number"


def count_slips(answers: Iterable[tuple[str, str]]) -> dict[str, int]:
    """How many answers are wrong in each way of SLIPS.

    Args:
        answers: what was answered, and what is right.
    """
    counts = Counter(slip_of(said, right) for said, right in answers)
    return {slip: counts[slip] for slip in SLIPS}

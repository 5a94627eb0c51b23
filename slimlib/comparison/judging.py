"""From measured changes to verdicts: Holm's correction, then what each may claim.

A claim of change needs its corrected p-value; a claim of sameness an equivalence test (TOST), not
the absence of a difference. A loss is claimed only of an ability that was there: of a base clearly
above guessing. Whatever is gated stays in its family's count.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from slimlib import metrics
from slimlib.comparison.change import (
    BETTER,
    FORGOT,
    HEADLINE,
    IMPROVED,
    KEPT,
    NO_VERDICT,
    OTHER,
    SAME,
    SUBTASK,
    UNKNOWN,
    WORSE,
    Change,
)
from slimlib.comparison.validity import NOTHING
from slimlib.metrics.text import number

LOOKS = 5  # at most so many at growing data, each at alpha / 5
BETWEEN = {FORGOT: WORSE, IMPROVED: BETTER, KEPT: SAME}


def judge(
    changes: Iterable[Change], alpha: float, margin: float, *, related: bool = True
) -> tuple[Change, ...]:
    """Correct the p-values within each family (Holm) and give each change its verdict.

    Args:
        changes: measured; those with a fault have their verdict already, and count all the same.
        alpha: level of every claim.
        margin: points, within which a base counts as not above guessing.
        related: the two are before and after of one another; else worse and better are said.
    """
    changes = list(changes)
    for family in (HEADLINE, OTHER, SUBTASK):
        for raw, corrected in _HOLM.items():
            rows = [i for i, c in enumerate(changes) if c.family == family and _counts(c, raw)]
            given = [getattr(changes[i], raw) for i in rows]
            p_values = metrics.holm([1.0 if p is None else p for p in given])
            for i, p, known in zip(rows, p_values, given, strict=True):
                p_holm = None if known is None else p
                changes[i] = replace(changes[i], tests=len(rows), **{corrected: p_holm})
    return tuple(_judged(change, alpha, margin, related) for change in changes)


_HOLM = {"p_equivalence": "p_equivalence_holm", "p_value": "p_holm"}


def _counts(change: Change, raw: str) -> bool:
    """Whether a change is one of its family's tests: a broken measurement would have been one."""
    return getattr(change, raw) is not None or change.verdict in NO_VERDICT


def _judged(change: Change, alpha: float, margin: float, related: bool) -> Change:
    if change.verdict in NO_VERDICT:
        return change
    verdict, reason = _verdict(change, alpha, margin)
    return replace(
        change, verdict=verdict if related else BETWEEN.get(verdict, verdict), reason=reason
    )


def _verdict(change: Change, alpha: float, margin: float) -> tuple[str, str]:
    """The verdict, and why it is no stronger one."""
    lost = change.difference.value < 0
    if change.p_holm is not None and change.p_holm < alpha and not lost:
        unclear = _not_above(change, 1)
        return (UNKNOWN, f"the tuned model is {unclear}") if unclear else (IMPROVED, "")
    floor = change.chance or 0.0
    if change.limits and change.limits[0].high <= floor + margin:
        return NOTHING, f"base is at most {number(change.limits[0].high)} %, {_guessing(change)}"
    if unclear := _not_above(change, 0):
        return UNKNOWN, f"base is {unclear}"
    if change.p_holm is not None and change.p_holm < alpha:
        return FORGOT, ""
    if change.p_equivalence_holm is not None and change.p_equivalence_holm < alpha:
        return KEPT, ""
    return UNKNOWN, ""


def _not_above(change: Change, side: int) -> str:
    """Where a side is not told from guessing, in words; "" where it is, or nothing is known."""
    if not change.chance or change.limits is None or change.limits[side].low > change.chance:
        return ""
    return f"not told from chance (at most {number(change.limits[side].high)} %)"


def _guessing(change: Change) -> str:
    return f"guessing gives {number(change.chance)} %" if change.chance else "as good as none right"

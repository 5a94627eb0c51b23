"""A change in words and in cells: every sentence is made from a `Change`, none is typed in.

A claim always carries its interval, its p-value and the test; what is not established says so and
how large a change these results could have shown.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from slimlib.comparison.benchmarks import MEASURES
from slimlib.comparison.change import FORGOT, HEADLINE, IMPROVED, KEPT, UNKNOWN, Change
from slimlib.metrics.text import interval, number, p_cell, p_text

if TYPE_CHECKING:
    import pandas as pd

LEGEND = (
    "Accuracies in per cent, differences tuned - base in points; 95 % intervals, each for itself. "
    "FR is the forgetting rate, dA the ability augmentation, dK the knowledge loss (its ± is 1.96 "
    "unpaired standard errors, as the paper defines it). lost: right -> wrong, gained: the reverse."
)
# What a verdict is called beside a step, and between two models that are not before and after of
# one another: there nothing was forgotten.
STEP_WORDS = {FORGOT: "lost", IMPROVED: "gained", KEPT: "kept", UNKNOWN: "may be chance"}
BETWEEN_WORDS = {
    FORGOT: "worse",
    IMPROVED: "better",
    KEPT: "the same within the margin",
    UNKNOWN: UNKNOWN,
}


def verdict_sentence(change: Change, margin: float, alpha: float) -> str:
    """One change in words: verdict, numbers, test, measure, and what it cannot say."""
    return (
        f"{change.title}: {change.verdict}. {_numbers(change)}. {_meaning(change, margin, alpha)}"
    )


def _numbers(change: Change) -> str:
    known = not math.isnan(change.difference.low)
    limits = f", 95 % interval {interval(change.difference, '+')}" if known else ""
    return (
        f"{number(change.base)} -> {number(change.tuned)} % "
        f"({number(change.difference.value, sign='+')} points{limits}); {_test(change)}; "
        f"{_measure(change)}"
    )


def _test(change: Change) -> str:
    if change.p_value is None:
        return f"test: {change.test.removeprefix('none: ')}"
    weaker = ", weaker than a paired test" if not change.paired else ""
    count = f"n = {change.n:,}, " if change.n else ""
    flips = ""
    if change.lost is not None:
        flips = f"{change.lost:,} answers lost and {change.gained:,} gained, "
    return (
        f"{count}{flips}{change.test} {p_text(change.p_value)} "
        f"(Holm {p_text(change.p_holm)}){weaker}"
    )


def _measure(change: Change) -> str:
    """The paper's measure, named, with its unit."""
    estimate = change.measured
    name = f"{MEASURES[change.measure]} {change.measure} ="
    if change.measure == "FR":
        limits = interval(estimate)
        return f"{name} {number(estimate.value)} %" + (f" {limits}" if limits != "-" else "")
    spread = change.plus_minus
    if change.measure == "dK" and spread is not None:
        return f"{name} {number(estimate.value)} ± {number(spread)} points"
    return f"{name} {number(estimate.value, sign='+')} points"


def _meaning(change: Change, margin: float, alpha: float) -> str:
    within = f"within {margin:g} points (TOST, Holm {p_text(change.p_equivalence_holm)})"
    if change.verdict in (FORGOT, IMPROVED):
        kind = "loss" if change.verdict == FORGOT else "gain"
        small = change.p_equivalence_holm is not None and change.p_equivalence_holm < alpha
        return f"The {kind} is real" + (f", and small: {within}." if small else ".")
    if change.verdict == KEPT:
        return f"The same {within}."
    same = change.difference.value == 0
    seen = "No difference was seen" if same else "The difference is not established"
    return f"{seen}{_could_show(change)}."


def _could_show(change: Change) -> str:
    """The smallest change that the test finds 80 % of the time, as far as base has room for it."""
    points, base = change.detectable, number(change.base)
    if points is None:
        return ""
    losable, gainable = points <= change.base, points <= 100 - change.base
    if not (losable or gainable) or points >= 100:  # 100 stands for 100 or more
        return (
            f", and no change could have been shown: from {base} % not even the largest is found "
            "80 % of the time"
        )
    what = "change" if losable and gainable else "loss" if losable else "gain"
    text = (
        f": with these results the test, before Holm's correction, would find a {what} of "
        f"{number(points, 1)} points 80 % of the time"
    )
    other = {"loss": "gain", "gain": "loss"}.get(what)
    return text + (f"; from {base} % no {other} could have been shown" if other else "")


def change_table(changes: Sequence[Change]) -> pd.DataFrame:
    """One row per task and metric, as text; index: the row's title."""
    import pandas as pd

    rows = [
        {
            "task and metric": ("  " if c.family != HEADLINE else "") + c.title,
            "base": number(c.base),
            "tuned": number(c.tuned),
            "change": number(c.difference.value, sign="+"),
            "95 % interval": interval(c.difference, "+"),
            "p (Holm)": p_cell(c.p_holm),
            "verdict": c.verdict,
            "p": p_cell(c.p_value),
            "test": c.test.partition(":")[0].removeprefix("exact "),
            "lost": "-" if c.lost is None else f"{c.lost:,}",
            "gained": "-" if c.gained is None else f"{c.gained:,}",
            "measure": _measure_cell(c),
            "n": "-" if c.n is None else f"{c.n:,}",
        }
        for c in changes
    ]
    return pd.DataFrame(rows).set_index("task and metric")


def _measure_cell(change: Change) -> str:
    estimate = change.measured
    if change.measure == "FR":
        limits = interval(estimate)
        return f"FR {number(estimate.value)}" + (f" {limits}" if limits != "-" else "")
    spread = change.plus_minus if change.measure == "dK" else None
    value = number(estimate.value, sign="+" if change.measure == "dA" else "")
    return f"{change.measure} {value}" + (f" ± {number(spread)}" if spread is not None else "")


def brief(change: Change, holm: bool = True) -> str:
    """A change's numbers in a few words: "-35.0 points [-43.4, -25.7], Holm p < 0.001"."""
    value = number(change.difference.value, 1, "+")
    corrected = f", Holm {p_text(change.p_holm)}" if holm else ""
    return f"{value} points {interval(change.difference, '+', 1)}{corrected}"


def from_to(change: Change) -> str:
    """Both accuracies: "70.5 -> 35.5 %"."""
    return f"{number(change.base, 1)} -> {number(change.tuned, 1)} %"


def step_cells(change: Change) -> dict[str, str]:
    """A change as cells of a table of steps, with one decimal."""
    return {
        "before": number(change.base, 1),
        "after": number(change.tuned, 1),
        "change": number(change.difference.value, 1, "+"),
        "95 % interval": interval(change.difference, "+", 1),
        "p (Holm)": p_cell(change.p_holm),
    }

"""A change in words and in cells: every sentence is made from a `Change`, none is typed in.

A claim always carries its interval, its p-value and the test, and says what it is about: this run,
or the recipe. What is not established says so, and how large a change these results could show.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from slimlib.common.layout import plain
from slimlib.comparison.benchmarks import MEASURES
from slimlib.comparison.change import (
    BETTER,
    CATASTROPHIC,
    FORGOT,
    GAINS,
    HEADLINE,
    IMPROVED,
    KEPT,
    LOSSES,
    NO_VERDICT,
    SAME,
    STAYED,
    UNKNOWN,
    WORSE,
    Change,
)
from slimlib.comparison.validity import BROKEN, INCOMPARABLE, NOTHING
from slimlib.metrics.text import interval, number, p_cell, p_text

if TYPE_CHECKING:
    import pandas as pd

LEGEND = (
    "Accuracies in per cent, differences tuned - base in points; each interval stands for itself. "
    "FR is the forgetting rate (undefined where nothing was right before), dA the ability "
    "augmentation, dK the knowledge loss (its ± is 1.96 unpaired standard errors, as the paper "
    "defines it); FR and dK are of losses only. lost: right -> wrong, gained: the reverse."
)
# What a verdict is called beside a step.
STEP_WORDS = {
    **{FORGOT: "lost", IMPROVED: "gained", KEPT: "kept", UNKNOWN: "may be chance"},
    **{verdict: verdict for verdict in (WORSE, BETTER, SAME, NOTHING, BROKEN, INCOMPARABLE)},
}
# The first line's words, in its order.
ANSWERS = {
    BROKEN: "Measurement broken",
    INCOMPARABLE: "Not comparable",
    FORGOT: "Lost",
    WORSE: "Worse",
    IMPROVED: "Gained",
    BETTER: "Better",
    KEPT: "Kept",
    SAME: "The same",
    NOTHING: "Nothing to lose",
    UNKNOWN: "Cannot tell",
}


def answer(changes: Sequence[Change], not_judged: Sequence[str] = ()) -> str:
    """The answer in one line: "Lost: arithmetic. Kept: stories. Cannot tell: facts."."""
    found = {
        word: [c.title.partition(",")[0] for c in changes if c.verdict == verdict]
        for verdict, word in ANSWERS.items()
    }
    found["Not judged"] = [plain(task) for task in not_judged]
    return " ".join(f"{word}: {', '.join(tasks)}." for word, tasks in found.items() if tasks)


def level(alpha: float) -> str:
    """What an interval at 1 - alpha is called: "95 % interval"."""
    return f"{100 * (1 - alpha):.6g} % interval"


def verdict_sentence(change: Change, margin: float, alpha: float) -> str:
    """One change in words: verdict, numbers, test, measure, and what it cannot say."""
    if change.verdict in NO_VERDICT:
        return f"{change.title}: {change.verdict}: {change.reason}. No verdict on the model."
    numbers, meaning = _numbers(change, alpha), _meaning(change, margin, alpha)
    caveat = f" Not asked alike: {change.caveat}." if change.caveat else ""
    return f"{change.title}: {change.verdict}. {numbers}. {meaning}{caveat}"


def rules(changes: Sequence[Change], margin: float, alpha: float, look: int | None) -> list[str]:
    """The rules that the verdicts follow."""
    paired = {c.paired for c in changes if c.verdict not in NO_VERDICT}
    how = ["document by document"] * (True in paired)
    how += ["from aggregates where answers are missing (unpaired, weaker)"] * (False in paired)
    compared = f"Compared {'; '.join(how)}. " if how else ""
    at = f"Look {look}: every level is a fifth of what was asked for. " if look else ""
    found = [
        f"{at}{compared}p: how often chance alone shows as much; Holm p: corrected for the number "
        f"of tasks. Forgot, improved (worse, better): Holm p below {alpha:g}; other metrics and "
        f"subtasks are families of their own, and three families at {alpha:g} are not one at "
        f"{alpha:g}. Kept: a change of {margin:g} points or more is ruled out (two one-sided "
        "tests, corrected likewise)."
    ]
    if any(max(c.seeds) > 1 for c in changes):
        found.append(
            "Over seeds: the variance between them is added to that over documents (Cochran and "
            "Cox). It holds for seeds that are roughly normal, not for a recipe that collapses in "
            "one run of six. Three seeds find about 3.3 of their standard deviations, five 1.7."
        )
    elif changes:
        found.append("One run a side: claims are of this run; other seeds of it may differ.")
    return found


def _numbers(change: Change, alpha: float) -> str:
    known = not math.isnan(change.difference.low)
    limits = f", {level(alpha)} {interval(change.difference, '+')}" if known else ""
    measure = _measure(change)
    return (
        f"{number(change.base)} -> {number(change.tuned)} % "
        f"({number(change.difference.value, sign='+')} points{limits}); {_test(change)}"
        f"{'; ' + measure if measure else ''}"
    )


def _test(change: Change) -> str:
    if change.p_value is None:
        return f"test: {change.test.removeprefix('none: ')}"
    weaker = ", weaker than a paired test" if not change.paired else ""
    count = f"n = {change.n:,}, " if change.n else ""
    seeds = f"{max(change.seeds)} seeds, " if max(change.seeds) > 1 else ""
    flips = ""
    if change.lost is not None:
        flips = f"{change.lost:,} answers lost and {change.gained:,} gained, "
    by = f" ({change.cluster})" if change.cluster else ""
    return (
        f"{count}{seeds}{flips}{change.test}{by} {p_text(change.p_value)} "
        f"(Holm {p_text(change.p_holm)}){weaker}"
    )


def _measure(change: Change) -> str:
    """The paper's measure, named, with its unit; FR and dK of a loss only."""
    estimate = change.measured
    name = f"{MEASURES[change.measure]} {change.measure} ="
    if change.measure == "dA":
        return f"{name} {number(estimate.value, sign='+')} points"
    if change.difference.value > 0 or math.isnan(estimate.value):
        return ""
    if change.measure == "FR":
        limits = interval(estimate)
        return f"{name} {number(estimate.value)} %" + (f" {limits}" if limits != "-" else "")
    spread = "" if change.plus_minus is None else f" ± {number(change.plus_minus)}"
    return f"{name} {number(estimate.value)}{spread} points"


def _meaning(change: Change, margin: float, alpha: float) -> str:
    within = f"within {margin:g} points (TOST, Holm {p_text(change.p_equivalence_holm)})"
    if change.verdict in (*LOSSES, *GAINS):
        kind = "loss" if change.verdict in LOSSES else "gain"
        small = change.p_equivalence_holm is not None and change.p_equivalence_holm < alpha
        real = f"The {kind} of {change.subject} is real"
        return real + (f", and small: {within}." if small else ".") + _catastrophe(change)
    if change.verdict in STAYED:
        return f"{change.subject.capitalize()} changed nothing, {within}."
    if change.verdict == NOTHING:
        return f"There was no ability to lose: {change.reason}."
    if change.reason:
        return f"Nothing is claimed: {change.reason}."
    return f"{_unestablished(change, alpha)}{_could_show(change)}.{_never_kept(change, margin)}"


def _catastrophe(change: Change) -> str:
    """Whether the paper would call a loss catastrophic, as far as the interval says so."""
    value, low, _ = change.forgetting
    if change.measure != "FR" or change.verdict not in LOSSES or not value > CATASTROPHIC:
        return ""
    if low > CATASTROPHIC:
        return " Catastrophic, by the paper's own line (FR above 50 %)."
    return " FR is above 50 %, the paper's line of catastrophe, but its interval is not."


def _unestablished(change: Change, alpha: float) -> str:
    if change.difference.value == 0:
        return "No difference was seen"
    if change.p_value is not None and change.p_value < alpha:
        return (
            f"The difference is not established: its own {level(alpha)} is without 0, but Holm's "
            f"correction over {change.tests} tests leaves p at {p_cell(change.p_holm)}"
        )
    return "The difference is not established"


def _never_kept(change: Change, margin: float) -> str:
    if change.may_be_kept:
        return ""
    return (
        f" So few documents cannot show a change of less than {margin:g} points, even without one."
    )


def _could_show(change: Change) -> str:
    """The smallest change that the test finds 80 % of the time, as far as base has room for it."""
    points, base = change.detectable, number(change.base)
    if change.p_value is None:
        return ""
    room = change.base - (change.chance or 0.0)
    losable, gainable = (points is not None and points <= r for r in (room, 100 - change.base))
    if not (losable or gainable):
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


def change_table(changes: Sequence[Change], alpha: float) -> pd.DataFrame:
    """One row per task and metric, as text; index: the row's title."""
    import pandas as pd

    rows = [
        {
            "task and metric": ("  " if c.family != HEADLINE else "") + c.title,
            "base": number(c.base),
            "tuned": number(c.tuned),
            "change": number(c.difference.value, sign="+"),
            level(alpha): interval(c.difference, "+"),
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
    if change.measure != "dA" and change.difference.value > 0:
        return "gain"
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

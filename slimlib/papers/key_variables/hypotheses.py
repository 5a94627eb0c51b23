"""The contrasts of cells that the article's four claims speak of, their breakdowns and controls."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from slimlib.studies.design import Bar, Design
from slimlib.studies.grid import EQUAL, FIXED_BLOCK, FIXED_SCALE, RANDOM

HIGHER, LOWER, SAME, HARMLESS = "higher", "lower", "same", "harmless"  # what a part says of A - B
PART, LOSS, BREAKDOWN, CONTROL = "part", "loss", "breakdown", "control"

CLAIMS = {
    1: "Rank: cutting the MLP's rank costs less than cutting the attention's.",
    2: "Depth: the first and the second half of the layers make no difference.",
    3: "Lambda: 2 is best, then 1, larger is worse; layer type and depth do not matter.",
    4: "QA-HiRA: (4, 8) to (8, 8) costs nothing on the MLP, and something on the attention.",
}
Pairs = list[tuple[str, str]]


class Hypothesis(NamedTuple):
    """One contrast: what a claim expects of the mean of first cells minus second cells."""

    claim: int
    text: str  # "MLP cut minus attention cut"
    expected: str  # HIGHER, LOWER, SAME or HARMLESS
    kind: str  # PART, BREAKDOWN or CONTROL
    pairs: Pairs


def hypotheses(design: Design) -> Iterator[Hypothesis]:
    """Every contrast that the claims need, those included of which the grid has no cells."""
    bars = {e.id: e.bars for e in design.experiments}
    yield from _rank(bars.get("E1", ()), bars.get("E3", ()))
    yield from _depth(bars.get("E2", ()))
    yield from _lambda(bars.get("E5", ()), bars.get("E4", ()))
    yield from _hira(bars.get("E6", ()))


def pair_up(
    bars: Sequence[Bar], first: Callable[[Bar], bool], second: Callable[[Bar], bool], change: bool
) -> Pairs:
    """Pairs of bars that agree in model, method and rank and, if asked, in the change."""

    def key(bar: Bar) -> tuple[Any, ...]:
        return (bar.model, bar.method, bar.r, *([bar.change] if change else []))

    others: dict[tuple[Any, ...], list[Bar]] = {}
    for bar in filter(second, bars):
        others.setdefault(key(bar), []).append(bar)
    return [(a.cell, b.cell) for a in filter(first, bars) for b in others.get(key(a), ())]


def _is(where: str, control: str = "", change: str | None = None) -> Callable[[Bar], bool]:
    """Whether a bar shows this place, control and change."""

    def fits(bar: Bar) -> bool:
        at = bar.where == where or (where == RANDOM and bar.control == RANDOM)
        wanted = RANDOM if where == RANDOM else control
        return at and bar.control == wanted and change in (None, bar.change)

    return fits


def _rank(first: Sequence[Bar], others: Sequence[Bar]) -> Iterator[Hypothesis]:
    text, bars = "MLP cut minus attention cut", [*first, *others]
    mlp, attention = _is("mlp"), _is("attention")
    yield Hypothesis(1, text, HIGHER, PART, pair_up(bars, mlp, attention, True))
    for method in dict.fromkeys(bar.method for bar in bars):
        some = [bar for bar in bars if bar.method == method]
        yield Hypothesis(
            1, f"{text}, {method}", HIGHER, BREAKDOWN, pair_up(some, mlp, attention, True)
        )
    equal = pair_up(bars, _is("mlp", EQUAL), attention, True)
    yield Hypothesis(1, f"{text} that saves as many parameters", HIGHER, CONTROL, equal)
    fixed = pair_up(bars, _is("mlp", FIXED_SCALE), _is("attention", FIXED_SCALE), True)
    yield Hypothesis(1, f"{text}, both at a fixed scale", HIGHER, CONTROL, fixed)


def _depth(bars: Sequence[Bar]) -> Iterator[Hypothesis]:
    first, second, random = _is("first_half"), _is("second_half"), _is(RANDOM)
    pairs = pair_up(bars, first, second, True)
    yield Hypothesis(2, "First half cut minus second half cut", SAME, PART, pairs)
    for name, half in (("First", first), ("Second", second)):
        text = f"{name} half cut minus random halves cut"
        yield Hypothesis(2, text, SAME, CONTROL, pair_up(bars, half, random, True))
    draws = list(dict.fromkeys(bar.where for bar in bars if bar.control == RANDOM))[:2]
    if len(draws) == 2:
        one, two = (_is(draw, RANDOM) for draw in draws)
        text = "One random half cut minus another"
        yield Hypothesis(2, text, SAME, CONTROL, pair_up(bars, one, two, True))


def _lambda(whole: Sequence[Bar], parts: Sequence[Bar]) -> Iterator[Hypothesis]:
    for better, worse in ((2, 1), (1, 4), (4, 8)):
        first, second = _is("all", change=f"lam {better}"), _is("all", change=f"lam {worse}")
        text = f"Lambda {better} minus lambda {worse}"
        yield Hypothesis(3, text, HIGHER, PART, pair_up(whole, first, second, False))
        for r in dict.fromkeys(bar.r for bar in whole):
            some = [bar for bar in whole if bar.r == r]
            pairs = pair_up(some, first, second, False)
            yield Hypothesis(3, f"{text}, rank {r}", HIGHER, BREAKDOWN, pairs)
    for text, one, other in (
        ("Attention's lambda changed minus the MLP's", "attention", "mlp"),
        ("First half's lambda changed minus the second's", "first_half", "second_half"),
    ):
        yield Hypothesis(3, text, SAME, PART, pair_up(parts, _is(one), _is(other), True))


def _hira(bars: Sequence[Bar]) -> Iterator[Hypothesis]:
    base = _is("all", change="")
    for control, kind, how in (("", PART, ""), (FIXED_BLOCK, CONTROL, ", tiles kept at 32")):
        for where, name, expected in (
            ("mlp", "MLP", HARMLESS),
            ("attention", "Attention", LOWER),
        ):
            pairs = pair_up(bars, _is(where, control), base, False)
            yield Hypothesis(4, f"{name} at (8, 8) minus all at (4, 8){how}", expected, kind, pairs)
    pairs = pair_up(bars, _is("mlp"), _is("attention"), False)
    yield Hypothesis(4, "MLP at (8, 8) minus attention at (8, 8)", HIGHER, CONTROL, pairs)

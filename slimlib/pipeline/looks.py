"""Looks at a growing sample of documents: what fits into the minutes, what was asked before.

A look asks both models a random sample; the next one asks more and keeps what there is. Verdicts
pay for each look, so they are counted here, whatever tasks they were about.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from slimlib.common import progress
from slimlib.common.document import Document
from slimlib.common.files import read_json, sha256, write_json
from slimlib.comparison.judging import LOOKS
from slimlib.comparison.two_models import Comparison
from slimlib.data.named_tasks import Unit
from slimlib.metrics.text import number
from slimlib.pipeline.budget import (
    FLIPPING,
    LEAST_FLIPPING,
    Need,
    by_task,
    can_show,
    order_documents,
    share_out,
)

FILE = "looks.json"
RESULTS = "results.json"  # of a side, in its folder: see `evaluate.asking.Side.write`
SEED = 3407  # of the random sample
WARM_UP, PILOT = 2, 8  # documents of each task: before the speed is measured, and after
PILOT_SHARE = 0.3  # of the time that the pilot may take at most
FIRST = 0.4  # share of a look after which the speed is measured again
RESERVE = 0.04  # of the time: reading the answers and writing the report

Count = Annotated[int, Field(ge=0)]


@dataclass
class Looks:
    """What earlier looks at the same two models asked, and what they showed; kept in looks.json."""

    taken: Count = 0
    of: dict[str, str] = field(default_factory=dict)  # side -> what it is, by content
    asked: dict[str, Count] = field(default_factory=dict)  # unit's key -> documents
    target: dict[str, Count] = field(default_factory=dict)  # likewise, of a look that is not done
    flipping: dict[str, float] = field(default_factory=dict)  # unit's name -> share of answers

    @classmethod
    def at(cls, sides: Mapping[str, str], folder: Path) -> Looks:
        """Those at these sides, by content; none where a side is another model now.

        Its answers are others, so what was seen of the former one says nothing of it.
        """
        looks = cls.read(folder)
        if looks.of not in ({}, sides):  # {}: by an older slimlib
            progress.say(f"{folder / FILE} is of other models: the looks at these begin at 1")
            looks = cls()
        looks.of = {**sides}
        return looks

    @classmethod
    def read(cls, folder: Path) -> Looks:
        """Those of a folder; none where it has no looks.json.

        Raises:
            ValueError: the file is damaged.
        """
        path = folder / FILE
        if not path.exists():
            return cls()
        try:
            return TypeAdapter(cls).validate_python(vars(cls(**read_json(path))))
        except (TypeError, ValidationError):  # other fields, or other kinds of values
            raise ValueError(f"{path} is no {FILE} of slimlib: move it away") from None

    def write(self, folder: Path) -> None:
        """Keep them."""
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / FILE, asdict(self))

    def learn(self, comparison: Comparison, folder: Path) -> None:
        """Keep how many answers flipped: what a task needs next time follows from it."""
        for change in comparison.headlines:
            if change.n and change.lost is not None:
                seen = (change.lost + change.gained) / change.n
                self.flipping[change.task] = max(seen, LEAST_FLIPPING)
        self.write(folder)


def ask_sides(
    sides: Mapping[str, Any],
    units: Sequence[Unit],
    folder: Path,
    seconds: float | None,
    limit: int | None,
    alpha: float,
) -> tuple[dict[str, Path], Looks | None]:
    """Ask every side alike: a random sample that fits into the time, or whole tasks.

    Args:
        sides: by name, each an `evaluate.asking.Side`.
        units: what they are asked.
        folder: of the results; each side has a folder of its name in it.
        seconds: that one more look may take; None: no look, the documents do not grow.
        limit: without a look, the first so many documents of each task; None: all.
        alpha: level of the verdicts.

    Returns:
        Where each side's results lie; and the looks that were taken, None without one.
    """
    _say_changed(sides, folder)
    if seconds is not None:
        looks = Looks.at({name: side.identity for name, side in sides.items()}, folder)
        found = Sampling([*sides.values()], units, looks, folder, alpha).run(seconds)
        several = zip(sides.items(), found, strict=True)
        return {name: side.write(r, folder / name) for (name, side), r in several}, looks
    paths = {}
    for name, side in sides.items():
        results = [side.ask(unit, limit=limit or 0) for unit in units]
        paths[name] = side.write(results, folder / name)
        side.rest()
    return paths, None


def _say_changed(sides: Mapping[str, Any], folder: Path) -> None:
    """Say which side is another model than the one whose results lie there."""
    for name, side in sides.items():
        before: Any = None
        with contextlib.suppress(OSError, ValueError):  # none, or damaged: it is written anew
            before = read_json(folder / name / RESULTS)
        if isinstance(before, dict) and before.get("identity") not in (None, side.identity):
            progress.say(f"{folder / name} was of another model: {side.label} is asked anew")


class Sampling:
    """Both sides asked a random sample of each unit, as far as the time goes.

    Args:
        sides: the models, each an `evaluate.asking.Side`.
        units: what they are asked.
        looks: earlier ones; this one is added.
        folder: where looks.json lies.
        alpha: level of the verdicts, before it is shared among the looks.
    """

    def __init__(
        self,
        sides: Sequence[Any],
        units: Sequence[Unit],
        looks: Looks,
        folder: Path,
        alpha: float,
    ) -> None:
        self.sides, self.units, self.looks, self.folder = sides, units, looks, folder
        self.alpha = alpha
        self.orders = {unit.name: order_documents(unit, SEED) for unit in units}
        self.keys = {unit.name: self._key(unit) for unit in units}
        self.seconds: dict[str, float] = {}  # for one more document of both sides
        self.beside = 0.0  # seconds of one round that no answer took: loading, reading, counting
        self.answered = dict.fromkeys(self.orders, 0)  # of this process
        self.results: list[dict[str, Any]] = [{} for _ in sides]

    def _key(self, unit: Unit) -> str:
        how = [unit.identity, asdict(self.sides[0].config)]
        return f"{unit.name} {sha256(how)[:12]}"

    def run(self, seconds: float) -> list[list[dict[str, Any]]]:
        """Take one more look; go on with one that was cut off.

        Args:
            seconds: that it may take.

        Returns:
            Of each side, what lm-eval returns for each unit.
        """
        end = time.monotonic() + seconds * (1 - RESERVE)
        have = {name: self.looks.asked.get(key, 0) for name, key in self.keys.items()}
        target = {n: self.looks.target[k] for n, k in self.keys.items() if k in self.looks.target}
        if len(target) == len(self.units):
            progress.say("goes on with the look that was cut off")
            self._ask(target)
        elif all(have[unit.name] == unit.documents for unit in self.units):
            progress.say("every document was asked before: nothing is left to look at")
            self._ask(have)
            return self._results()
        else:
            self._pilot(have, end)
            target = self._planned(have, end, rounds=2)
            self._keep(target)
            progress.show(self.plan(target, self.looks.taken + 1))
            done = dict(self.answered)  # by the pilot, which a small target may hardly exceed
            self._ask({n: round(done[n] + FIRST * (target[n] - done[n])) for n in target})
            target = self._planned(self.answered, end, rounds=1)
            self._keep(target)
            self._ask(target)
        self.looks.asked |= {self.keys[name]: n for name, n in target.items()}
        self.looks.taken += 1
        self._keep({})
        return self._results()

    def _keep(self, target: Mapping[str, int]) -> None:
        self.looks.target = {self.keys[name]: n for name, n in target.items()}
        self.looks.write(self.folder)

    def _results(self) -> list[list[dict[str, Any]]]:
        return [[found[unit.name] for unit in self.units] for found in self.results]

    def _pilot(self, have: Mapping[str, int], end: float) -> None:
        """Measure the speed on the first documents that no look has asked.

        Some are asked in any case: the time may be over before anything is loaded. Answers that a
        look left behind when it was cut off tell no speed: more are asked until some are new.
        """
        target = self._further(have, WARM_UP)
        self._ask(target)
        cost = (PILOT - WARM_UP) * sum(self.seconds.values()) + self.beside
        if cost <= PILOT_SHARE * (end - time.monotonic()):  # else two tell enough
            target = self._further(have, PILOT)
            self._ask(target)
        while unknown := {
            unit.name: min(2 * target[unit.name], unit.documents)
            for unit in self.units
            if unit.name not in self.seconds and target[unit.name] < unit.documents
        }:
            target |= unknown
            self._ask(target)

    def _further(self, have: Mapping[str, int], more: int) -> dict[str, int]:
        """So many documents of each unit beyond those that there are, at least one of each task."""
        return {
            unit.name: min(max(have[unit.name] + more, len(unit.sizes)), unit.documents)
            for unit in self.units
        }

    def _planned(self, have: Mapping[str, int], end: float, rounds: int) -> dict[str, int]:
        """Documents of each unit that fit, if they are asked in so many rounds."""
        needs = {
            unit.name: Need(
                size=unit.documents,
                have=max(have[unit.name], self.answered[unit.name]),
                seconds=self.seconds.get(unit.name, 0.0),
                flipping=self._flipping(unit),
            )
            for unit in self.units
        }
        return share_out(needs, end - time.monotonic() - (rounds + 1) * self.beside)

    def _flipping(self, unit: Unit) -> float:
        """Share of a unit's answers that flip, as far as a look has shown it."""
        return self.looks.flipping.get(unit.name, FLIPPING)

    def _ask(self, target: Mapping[str, int]) -> None:
        """Both sides answer so many documents of each unit."""
        begin, answering = time.monotonic(), 0.0
        paces: dict[str, list[float]] = {name: [] for name in target}  # of sides that were asked
        for found, side in zip(self.results, self.sides, strict=True):
            for unit in self.units:
                if unit.name in found and self.answered[unit.name] == target[unit.name]:
                    continue
                seconds, asked = side.seconds, side.asked
                chosen = by_task(self.orders[unit.name][: target[unit.name]])
                found[unit.name] = side.ask(unit, chosen)
                answering += side.seconds - seconds
                if side.asked > asked:
                    paces[unit.name].append((side.seconds - seconds) / (side.asked - asked))
            side.rest()
        self.beside = time.monotonic() - begin - answering
        for name, some in paces.items():
            if some:  # a side whose answers were all kept is taken to be as fast as the other
                self.seconds[name] = len(self.sides) * sum(some) / len(some)
            self.answered[name] = target[name]

    def plan(self, target: Mapping[str, int], look: int) -> Document:
        """What this look asks, and what it can show, said beforehand."""
        import pandas as pd

        level = self.alpha / LOOKS
        rows = []
        for unit in self.units:
            n = target[unit.name]
            shown = can_show(n, self._flipping(unit), level)
            seconds = self.seconds.get(unit.name, 0.0) * (n - self.answered[unit.name])
            rows.append(
                {
                    "task": unit.name,
                    "documents": f"{n:,}",
                    "of": f"{unit.documents:,}",
                    "time": progress.duration(max(seconds, 0.0)),
                    "can show": "nothing" if shown is None else f"{number(shown)} points",
                }
            )
        points = [
            f"a random sample; each of at most {LOOKS} looks is judged at {level:g} "
            f"({self.alpha:g} / {LOOKS})",
            "can show: the change that is found in 80 % of repetitions, if "
            + ", ".join(f"{100 * self._flipping(u):.0f} % of {u.name}" for u in self.units)
            + " flip by chance",
        ]
        return Document(f"look {look} of {LOOKS}", points, pd.DataFrame(rows).set_index("task"))

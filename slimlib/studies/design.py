"""What a grid is: bars that show cells, experiments that consist of bars, a study with experiments.

A bar names the cell that it shows and what was changed there; a cell is an arm of the study. One
cell may stand in several experiments.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from slimlib.config import Study
from slimlib.methods import Plan, compile_plan
from slimlib.methods.shapes import get_shape

WORDS = {
    "all": "all",
    "attention": "attention",
    "mlp": "MLP",
    "first_half": "first half",
    "second_half": "second half",
}


@dataclass(frozen=True)
class Bar:
    """One bar of a figure: a cell, and what was changed there."""

    cell: str  # name of the arm
    model: str  # label of the model
    method: str
    r: int  # before any change
    where: str = "all"  # layer type or depth that was changed
    change: str = ""  # "/2", "lam 4", "(8, 8)", "group 64"; "" is the baseline
    control: str = ""  # "" for a bar of the article

    @property
    def label(self) -> str:
        """Where and what, for the axis of a figure."""
        if not self.change:
            return "baseline"
        where = WORDS.get(self.where) or self.where.replace("_half:", " half ")
        return self.change if self.where == "all" else f"{where} {self.change}"


@dataclass(frozen=True)
class Experiment:
    """One figure or table of the article, and its controls."""

    id: str
    title: str
    figure: str  # of the article
    bars: tuple[Bar, ...]

    @property
    def cells(self) -> tuple[str, ...]:
        """Names of the cells that it shows, each once."""
        return tuple(dict.fromkeys(bar.cell for bar in self.bars))


@dataclass(frozen=True)
class Design:
    """A study and the experiments that its arms are cells of."""

    study: Study
    experiments: tuple[Experiment, ...]
    shapes: Mapping[str, str]  # label of a model -> its name in slimlib.methods.shapes.SHAPES

    def plan(self, bar: Bar) -> Plan:
        """What each module of a bar's cell gets."""
        modules = get_shape(self.shapes[bar.model]).modules()
        return compile_plan(modules, self.study[bar.cell].adapter)

    def __getitem__(self, name: str) -> Experiment:
        for experiment in self.experiments:
            if experiment.id == name:
                return experiment
        known = ", ".join(experiment.id for experiment in self.experiments)
        raise ValueError(f"study {self.study.name} has no experiment {name!r}; it has: {known}")

    def experiments_of(self, cell: str) -> tuple[str, ...]:
        """Ids of the experiments that show a cell; none for an untuned reference."""
        return tuple(e.id for e in self.experiments if cell in e.cells)

    def select(self, names: str) -> tuple[str, ...]:
        """Cells by name or by experiment ("E1,base-nf4"), in the study's order.

        Raises:
            ValueError: neither a cell nor an experiment.
        """
        wanted: set[str] = set()
        for name in (part.strip() for part in names.split(",")):
            known = [e for e in self.experiments if e.id == name]
            wanted |= {*known[0].cells} if known else {self.study[name].name}
        return tuple(arm.name for arm in self.study.arms if arm.name in wanted)


def restrict(design: Design, study: Study) -> Design:
    """The design for a study with fewer arms or other settings; bars without an arm go."""
    there = {arm.name for arm in study.arms}
    experiments = (
        replace(e, bars=tuple(bar for bar in e.bars if bar.cell in there))
        for e in design.experiments
    )
    return Design(study, tuple(e for e in experiments if e.bars), design.shapes)


class Job(NamedTuple):
    """One cell of the grid with one seed."""

    seed: int
    cell: str


def jobs(study: Study, seeds: Sequence[int], cells: Sequence[str] = ()) -> list[Job]:
    """Everything that a grid consists of, or some of its cells.

    An untuned reference knows no seed and is evaluated once, with the lowest.

    Raises:
        ValueError: no seed, one given twice, or one below 0.
    """
    if not seeds or len({*seeds}) < len(seeds) or min(seeds) < 0:
        raise ValueError(f"seeds {list(seeds)}: give each once, 0 or more, as in 1,2,3")
    chosen = [arm for arm in study.arms if not cells or arm.name in cells]
    first = min(seeds)
    return [Job(s, arm.name) for s in seeds for arm in chosen if arm.adapter or s == first]

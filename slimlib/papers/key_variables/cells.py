"""A grid's records, read from a file per seed and held against the compiled grid.

A cell is an arm of the grid's study with one seed, and its record is that of any arm. What is here
is a view of it: right and wrong by benchmark, the score, the loss, what was trained and stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from slimlib.common.files import PACKAGE
from slimlib.common.schema import unfinished, unpack_scores
from slimlib.comparison.arms import Record, tasks_of
from slimlib.comparison.benchmarks import headline
from slimlib.config import to_dict
from slimlib.results.record import read_records
from slimlib.studies.design import Design, Job, jobs
from slimlib.studies.get import get_design

SETTINGS = ("model", "adapter", "data", "train", "merge", "evaluate")  # that make a cell this one


@dataclass(frozen=True)
class Cell:
    """One cell of a grid with one seed, as measured."""

    record: Record

    @property
    def seed(self) -> int:
        """Of the fine-tuning."""
        return self.record["seed"]

    @cached_property
    def scores(self) -> dict[str, np.ndarray]:
        """Role -> right (1) or wrong (0) of each document, by the headline metric.

        The tasks that play one role (MMLU's 57) follow one another.
        """
        found: dict[str, list[np.ndarray]] = {}
        for task in tasks_of(self.record).values():
            metric = task["metrics"][headline(task["role"], task["metrics"])]
            found.setdefault(task["role"], []).append(unpack_scores(metric["scores"]))
        return {role: np.concatenate(parts) for role, parts in found.items()}

    @property
    def accuracy(self) -> dict[str, float]:
        """Role -> per cent right."""
        return {role: 100 * float(scores.mean()) for role, scores in self.scores.items()}

    @property
    def score(self) -> float:
        """The mean of the benchmarks' per cents, each counting the same."""
        return float(np.mean(list(self.accuracy.values())))

    @property
    def loss(self) -> float:
        """Mean training loss of the last steps, nats per token; NaN of an untuned model."""
        return float(self._stage("finetune").get("last_loss") or np.nan)

    @property
    def parameters(self) -> int:
        """Trainable parameters; 0 of an untuned model."""
        return self._stage("finetune").get("trainable_parameters", 0)

    @property
    def bits(self) -> float | None:
        """Bits per weight of the quantised base; None where the record has no report of it."""
        for name in ("merge", "finetune"):
            if report := self._stage(name).get("quantisation"):
                return report["bits_per_weight"]
        return None

    def _stage(self, name: str) -> Mapping[str, Any]:
        return self.record["stages"].get(name, {})


@dataclass(frozen=True)
class Grid:
    """What is there of a grid, and what is not: see `read_grid`."""

    design: Design
    seeds: tuple[int, ...]
    cells: Mapping[Job, Cell]
    missing: Mapping[Job, str]  # -> reason

    def __len__(self) -> int:
        return len(self.cells)

    def of(self, cell: str) -> list[Cell]:
        """A cell's measurements, one per seed; an untuned reference has one."""
        return [self.cells[Job(s, cell)] for s in self.seeds if Job(s, cell) in self.cells]

    def sentence(self) -> str:
        """How much of the compiled grid is there; a line for each cell that is missing."""
        total = len(self.cells) + len(self.missing)
        seeds = ", ".join(map(str, self.seeds))
        first = f"{len(self.cells)} of {total} cells of the grid are there (seeds {seeds})"
        lines = [f"missing: seed {j.seed} {j.cell}: {why}" for j, why in self.missing.items()]
        return "\n".join([first, *lines])

    def record(self, cell: str, seed: int) -> Record:
        """A cell's record, under a label that says where it is from.

        Raises:
            ValueError: the cell is missing; says why.
        """
        job = Job(seed, cell)
        if job not in self.cells:
            why = self.missing.get(job, "the grid has no such cell and seed")
            raise ValueError(f"seed {seed} {cell}: {why}")
        return self.cells[job].record | {"label": f"{cell} (committed, seed {seed})"}


def seed_files(folder: str | Path) -> dict[int, Path]:
    """Seed -> file of a grid's records in a folder; none where it holds no grid."""
    paths = sorted(Path(folder).glob("seed-*.jsonl*"))  # of a seed's two the newer, gzipped one
    files = {int(path.name.split(".")[0].removeprefix("seed-")): path for path in paths}
    return dict(sorted(files.items()))


def committed_folder(study: str) -> Path:
    """The records of a grid that came with slimlib: a checkout's, or an installed package's copy.

    Raises:
        ValueError: this grid has none.
    """
    for records in (PACKAGE.parent / "figures" / "records", PACKAGE / "records"):
        if seed_files(records / study):
            return records / study
    raise ValueError(f"no records of {study!r} came with slimlib; run `slimlib sweep`")


def read_grid(folder: str | Path, design: Design | None = None) -> Grid:
    """Read the records of a grid, and hold them against the compiled grid.

    Args:
        folder: with seed-S.jsonl.gz, as `slimlib sweep` leaves it; of slimlib 0.1 too.
        design: the grid; default the one that the records name.

    Example:

        grid = slimlib.read_grid("figures/records/key_variables_micro")

    Raises:
        ValueError: no records there; records of several studies, or of other documents in one task
            than in another cell; a cell that the grid does not have.
    """
    files = seed_files(folder)
    records = [record for path in files.values() for record in read_records(path)]
    names = {record["study"] for record in records}
    if not files or not (names or design):
        raise ValueError(f"{folder} holds no seed-*.jsonl.gz; make them with `slimlib sweep`")
    if len(names) > 1:
        raise ValueError(f"{folder} holds records of {', '.join(sorted(names))}; one can be read")
    design = design or get_design(names.pop())
    found = {Job(record["seed"], record["arm"]): record for record in records}
    asked = jobs(design.study, list(files))
    if unknown := [job for job in found if job not in asked]:
        raise ValueError(f"{folder}: study {design.study.name} has no cell {unknown[0].cell!r}")
    missing = {job: why for job in asked if (why := _why_missing(found.get(job), design, job))}
    cells = {job: Cell(found[job]) for job in asked if job not in missing}
    _check_documents(cells, folder)
    return Grid(design, tuple(files), cells, missing)


def _why_missing(record: Record | None, design: Design, job: Job) -> str:
    """Why a cell is not there; "" for one that is, made by the settings that the grid asks for."""
    if record is None:
        return "not run"
    if why := unfinished(record):
        return why
    asked, made = to_dict(design.study[job.cell]), record["config"]
    for key in SETTINGS:
        if made[key] is None or asked[key] is None:
            differing = [] if made[key] == asked[key] else [key]
        else:  # a field that came later than the record is not held against it
            differing = [f"{key}.{k}" for k, v in made[key].items() if asked[key].get(k, v) != v]
        if differing:
            return f"made by other settings ({', '.join(differing)})"
    return ""


def _check_documents(cells: Mapping[Job, Cell], folder: str | Path) -> None:
    """Refuse cells that answered other documents: nothing could be paired."""
    first: dict[str, tuple[str, Job]] = {}
    for job, cell in cells.items():
        for name, task in tasks_of(cell.record).items():
            known, other = first.setdefault(name, (task["documents"], job))
            if task["documents"] != known:
                raise ValueError(
                    f"{folder}: {name}: seed {job.seed} {job.cell} and seed {other.seed} "
                    f"{other.cell} answered different documents"
                )

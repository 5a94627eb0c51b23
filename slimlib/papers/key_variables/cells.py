"""The compact records of a grid: a file per seed, a line per cell, a bit per document.

seed-S.jsonl begins with a header: study, seed, environment, and the settings that the cells share.
Each further line is a cell: what differs from those settings, what was trained and measured, and
for each task the headline score with right and wrong per document as hexadecimal digits, four
documents each. A cell that is missing has a line with its reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from slimlib.common.files import PACKAGE, read_jsonl
from slimlib.config import to_dict
from slimlib.studies.design import SHARED, Design, Job, jobs

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Cell:
    """One cell of a grid with one seed, as measured."""

    seed: int
    line: Mapping[str, Any]
    scores: Mapping[str, np.ndarray]  # role -> right (1) or wrong (0), one per document

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
        """Mean training loss of the last ten steps, nats per token; NaN of an untuned model."""
        return float(self.line.get("last_loss") or np.nan)


@dataclass(frozen=True)
class Grid:
    """What is there of a grid, and what is not: see `read_grid`."""

    design: Design
    seeds: tuple[int, ...]
    cells: Mapping[Job, Cell]
    missing: Mapping[Job, str]  # -> reason
    heads: Mapping[int, Mapping[str, Any]]  # seed -> header of its file

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

    def table(self) -> pd.DataFrame:
        """A row for each cell: experiments, seeds, parameters, bits per weight, scores."""
        from slimlib.papers.key_variables.article_tables import cells_table

        return cells_table(self)

    def record(self, cell: str, seed: int) -> dict[str, Any]:
        """A cell as a record that `slimlib.compare` reads (headline metrics only).

        Raises:
            ValueError: the cell is missing; says why.
        """
        job = Job(seed, cell)
        if job not in self.cells:
            why = self.missing.get(job, "the grid has no such cell and seed")
            raise ValueError(f"seed {seed} {cell}: {why}")
        found, head = self.cells[job], self.heads[seed]
        return {
            "study": self.design.study.name,
            "arm": cell,
            "label": f"{cell} (committed, seed {seed})",
            "compared_with": found.line["compared_with"],
            "seed": seed,
            "config": {"evaluate": head["config"]["evaluate"], "model": head["config"]["model"]},
            "environment": head["environment"],
            "stages": {"evaluate": {"status": "done", "tasks": dict(_entries(found.line))}},
        }


def _entries(line: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, task in line["tasks"].items():
        scores = unpack(task["bits"], task["n"])
        metric = {"value": float(scores.mean()), "stderr": None, "scores": scores.tolist()}
        about = {key: task[key] for key in ("role", "version", "num_fewshot", "n", "documents")}
        yield name, {**about, "task": name, "truncated": 0, "metrics": {task["metric"]: metric}}


def seed_files(folder: str | Path) -> list[Path]:
    """The files of a grid's records in a folder, by seed; none where it holds no grid."""
    files = Path(folder).glob("seed-*.jsonl")
    return sorted(files, key=lambda path: int(path.stem.split("-")[1]))


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
        folder: with seed-S.jsonl.
        design: the grid; default the one that the records name.

    Example:

        grid = slimlib.read_grid("figures/records/key_variables_micro")

    Raises:
        ValueError: no records there; records of several studies, or of other documents in one task
            than in another cell; a cell that the grid does not have.
    """
    files = seed_files(folder)
    if not files:
        raise ValueError(f"{folder} holds no seed-*.jsonl; make them with `slimlib sweep`")
    parts = [read_jsonl(path) for path in files]
    names = {part[0]["study"] for part in parts}
    if len(names) > 1:
        raise ValueError(f"{folder} holds records of {', '.join(sorted(names))}; one can be read")
    if design is None:
        from slimlib.studies.get import get_design

        design = get_design(names.pop())
    heads = {part[0]["seed"]: part[0] for part in parts}
    found = {Job(part[0]["seed"], line["arm"]): line for part in parts for line in part[1:]}
    asked = jobs(design.study, list(heads))
    if unknown := [job for job in found if job not in asked]:
        raise ValueError(f"{folder}: study {design.study.name} has no cell {unknown[0].cell!r}")
    missing = {job: _why_missing(found.get(job), heads[job.seed], design, job) for job in asked}
    missing = {job: why for job, why in missing.items() if why}
    cells = {
        job: Cell(job.seed, found[job], _by_role(found[job])) for job in asked if job not in missing
    }
    _check_documents(cells, folder)
    return Grid(design, tuple(heads), cells, missing, heads)


def _why_missing(
    line: Mapping[str, Any] | None, head: Mapping[str, Any], design: Design, job: Job
) -> str:
    """Why a cell is not there; "" for one that is, made by the settings that the grid asks for."""
    if line is None:
        return "not run"
    if "missing" in line:
        return line["missing"]
    asked = to_dict(design.study[job.cell])
    for key in SHARED:
        own = line["config"].get(key, {})
        if own == "none" or asked[key] is None:
            differing = [] if (own == "none") == (asked[key] is None) else [key]
        else:  # a field that came later than the record is not held against it
            made = {**head["config"][key], **own}
            differing = [f"{key}.{k}" for k, v in made.items() if asked[key].get(k, v) != v]
        if differing:
            return f"made by other settings ({', '.join(differing)})"
    return ""


def _by_role(line: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The documents of the tasks that play a role (MMLU's 57), one after another."""
    found: dict[str, list[np.ndarray]] = {}
    for task in line["tasks"].values():
        found.setdefault(task["role"], []).append(unpack(task["bits"], task["n"]))
    return {role: np.concatenate(parts) for role, parts in found.items()}


def _check_documents(cells: Mapping[Job, Cell], folder: str | Path) -> None:
    """Refuse cells that answered other documents: nothing could be paired."""
    first: dict[str, tuple[str, Job]] = {}
    for job, cell in cells.items():
        for name, task in cell.line["tasks"].items():
            known, other = first.setdefault(name, (task["documents"], job))
            if task["documents"] != known:
                raise ValueError(
                    f"{folder}: {name}: seed {job.seed} {job.cell} and seed {other.seed} "
                    f"{other.cell} answered different documents"
                )


def unpack(digits: str, n: int) -> np.ndarray:
    """The first n documents of `pack`, as an array of 0.0 and 1.0.

    Raises:
        ValueError: too few digits, or too many.
    """
    if len(digits) != -(-n // 4):
        raise ValueError(f"{len(digits)} hexadecimal digits cannot hold {n} documents")
    bits = "".join(f"{int(digit, 16):04b}" for digit in digits)
    return np.array([float(bit) for bit in bits[:n]])

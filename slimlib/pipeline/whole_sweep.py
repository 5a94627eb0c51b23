"""A sweep from a word of the command line to its tables.

The word is a grid's name, or a file that `slimlib.studies.spec` reads. What was asked for and what
came of it lie in runs/records/<name>/: sweep.json, which can be given again, the records of each
seed, and the tables, which are made of these and hold no time: a sweep that was killed ends with
the tables of an undisturbed one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from slimlib.common.document import Document
from slimlib.common.files import write_json
from slimlib.config import Study
from slimlib.folder import default_root
from slimlib.papers.key_variables.cells import read_grid
from slimlib.pipeline.on_ray import ray_cluster
from slimlib.pipeline.one_cell import run_cell, seed_run
from slimlib.pipeline.preflight import check_arms, check_writable, needs_gpu
from slimlib.pipeline.sweep import (
    Plan,
    gather_records,
    plan_sweep,
    records_of,
    sweep_grid,
)
from slimlib.pipeline.workers import local_engine
from slimlib.report.tables import document, table2, write_tables
from slimlib.studies.design import Design, Job
from slimlib.studies.get import get_design
from slimlib.studies.spec import SPEC_FILE, Spec, compile_spec, is_spec, read_spec

SEEDS = (1, 2, 3)  # of a grid


@dataclass(frozen=True)
class Sweep:
    """What is to be run: a grid, or what a spec was compiled to."""

    study: Study
    seeds: tuple[int, ...]
    cells: tuple[str, ...]  # none: all
    root: Path
    source: Design | Spec

    @property
    def folder(self) -> Path:
        """Where its records and tables go."""
        return self.root / "records" / self.study.name

    def plan(self, workers: int = 1) -> Plan:
        """What is done and what is left."""
        return plan_sweep(self.study, self.root, self.seeds, workers, self.cells)


def open_sweep(
    asked: str,
    seeds: Sequence[int] = (),
    cells: str = "",
    runs: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Sweep:
    """Read what is asked for, and refuse what cannot be made; nothing is written.

    Args:
        asked: name of a grid, or path of a spec.
        seeds: of the fine-tuning; none: 1, 2, 3 of a grid, the spec's own of a spec.
        cells: names separated by commas; of a grid, experiments, too.
        runs: parent folder of the runs; default SLIMLIB_RUNS, else ./runs.
        overrides: KEY -> VALUE for all arms.

    Raises:
        ValueError: in one line, what is wrong.
    """
    if is_spec(asked):
        source: Design | Spec = read_spec(asked, overrides)
        study = compile_spec(source)
        seeds = seeds or source.seeds or (study.arms[0].seed,)
        chosen = [study[name.strip()].name for name in cells.split(",")] if cells else []
    else:
        source = get_design(asked, **(overrides or {}))
        study, seeds = source.study, seeds or SEEDS
        chosen = source.select(cells) if cells else []
    root = Path(runs) if runs else default_root()
    found = Sweep(study, tuple(seeds), tuple(chosen), root, source)
    found.plan()  # refuses bad seeds, and a training by other settings
    check_writable(root)
    check_arms(seed_run(study, min(seeds), root))
    return found


def run_sweep(
    sweep: Sweep,
    workers: int = 1,
    keep_weights: bool = False,
    engine: str = "local",
    address: str = "",
    num_cpus: float | None = None,
    num_gpus: float | None = None,
) -> dict[Job, str]:
    """Run what is missing of a sweep, and write its records and tables.

    Args:
        sweep: as `open_sweep` gave it.
        workers: at the same time, on this machine.
        keep_weights: keep adapters and merged weights of finished arms.
        engine: "local", or "ray" for Ray.
        address, num_cpus, num_gpus: as `slimlib.pipeline.on_ray.ray_cluster` has them.

    Returns:
        What is missing -> why.

    Raises:
        ValueError: bad numbers, or Ray is not there.
    """
    how = (workers, sweep.cells, keep_weights)
    gpus = float(needs_gpu(sweep.study)) if num_gpus is None else num_gpus
    with contextlib.ExitStack() as stack:
        if engine == "ray":
            made = stack.enter_context(ray_cluster(address, workers, num_cpus, gpus))
        else:
            made = local_engine(workers)
        if isinstance(sweep.source, Spec):
            write_json(sweep.folder / SPEC_FILE, asdict(sweep.source))
        missing = sweep_grid(sweep.study, sweep.root, sweep.seeds, *how, run_cell, made)
    gather_records(sweep.study, sweep.root, sweep.seeds, sweep.folder)
    if isinstance(sweep.source, Spec):
        write_tables(_records(sweep), sweep.study, sweep.folder)
    return missing


def _records(sweep: Sweep) -> list[dict[str, Any]]:
    found = records_of(sweep.study, sweep.root, sweep.seeds)
    return [record for records in found.values() for record in records]


def answer(sweep: Sweep) -> str:
    """What a sweep came to: the table of its arms, or the first sentence of a grid's claims."""
    if isinstance(sweep.source, Design):
        return read_grid(sweep.folder, sweep.source).sentence().splitlines()[0]
    shown: Document = document(table2(_records(sweep), sweep.study))
    return replace(shown, title=sweep.study.title).to_text()

"""Running a sweep: a plan of what is missing, an engine that makes it, and the records of all.

A cell goes through the stages of any arm (fine-tune, merge, evaluate), in runs/seed-S/<study>/
<cell>/, and is skipped when it is done; weights are deleted when nothing needs them. One that fails
leaves its reason in its record, and the others go on. An arm that takes another's adapter waits
for that one. Cells are made by worker processes of this machine or by Ray, on one machine or many
that see the same folder of runs. The cells' records, gathered by seed, are what tables read.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slimlib.common import progress
from slimlib.common.document import Document, plain
from slimlib.common.files import write_jsonl
from slimlib.common.schema import unfinished
from slimlib.config import Study
from slimlib.pipeline.one_cell import Cells, Engine, Outcome, is_done, run_cell, seed_run
from slimlib.pipeline.pace import estimate
from slimlib.pipeline.workers import local_engine
from slimlib.run import Run
from slimlib.studies.design import Job, jobs


@dataclass(frozen=True)
class Plan:
    """What a sweep consists of, and what is left of it."""

    study: Study
    root: Path  # of the runs
    asked: tuple[Job, ...]
    todo: tuple[Job, ...]  # those that train before those that take their adapters
    seconds: Mapping[Job, float]  # that each job to do will take
    source: str  # of these
    workers: int

    @property
    def after(self) -> dict[Job, Job]:
        """Job to do -> the one to do that trains the adapter which it takes."""
        sources = {job: Job(job.seed, self.study[job.cell].adapter_from) for job in self.todo}
        return {job: source for job, source in sources.items() if source in self.todo}

    def run(self, job: Job) -> Run:
        """The run folder that a job works in."""
        return seed_run(self.study, job.seed, self.root)

    def needed(self) -> str:
        """How long what is left will take."""
        total = sum(self.seconds.values())
        each = total / len(self.todo) if self.todo else 0.0
        about = progress.duration(total / min(self.workers, max(1, len(self.todo))))
        return f"{len(self.todo)} to do: about {about} ({each:.0f} s a cell, {self.source})"

    def document(self) -> Document:
        """The plan as a table: each job, how it gets its adapter, and where it stands."""
        import pandas as pd

        rows = {(f"seed {job.seed}", job.cell): self._row(job) for job in self.asked}
        table = pd.DataFrame.from_dict(rows, orient="index", columns=["adapter", "state", "about"])
        table.index = pd.MultiIndex.from_tuples(rows, names=["seed", "arm"])
        return Document(self.study.title, [self.head(), self.needed()], table)

    def head(self) -> str:
        """How much there is, and how much of it is done."""
        done = len(self.asked) - len(self.todo)
        return f"{self.study.name}: {len(self.asked)} cells asked for, {done} are done already"

    def _row(self, job: Job) -> list[str]:
        arm = self.study[job.cell]
        adapter = f"of {arm.adapter_from}" if arm.adapter_from else "trained" * arm.trains
        if job not in self.seconds:
            return [adapter, "done", ""]
        return [adapter, "to do", progress.duration(self.seconds[job])]


def plan_sweep(
    study: Study, root: Path, seeds: Sequence[int], workers: int = 1, cells: Sequence[str] = ()
) -> Plan:
    """What is done of a sweep and what is not; nothing is written.

    Args:
        study: a grid, or a study that a spec was compiled to.
        root: folder of the runs.
        seeds: of the fine-tuned cells; the lowest is also that of the untuned references.
        workers: that work at the same time.
        cells: names; none means all, and with them come those whose adapters they take.

    Raises:
        ValueError: bad seeds; a training by other settings.
    """
    sources = [study[cell].adapter_from for cell in cells]
    asked = jobs(study, seeds, [*cells, *filter(None, sources)])
    runs = {seed: seed_run(study, seed, root) for seed in seeds}
    todo = [job for job in asked if not is_done(runs[job.seed], job.cell)]
    todo.sort(key=lambda job: study[job.cell].adapter_from is not None)
    done = [runs[job.seed].record(job.cell) for job in asked if job not in todo]
    seconds, source = estimate(study, [job.cell for job in todo], done)
    each = dict(zip(todo, seconds, strict=True))
    return Plan(study, root, tuple(asked), tuple(todo), each, source, workers)


def sweep_grid(
    study: Study,
    root: Path,
    seeds: Sequence[int],
    workers: int = 1,
    cells: Sequence[str] = (),
    keep_weights: bool = False,
    work: Callable[[Run, str, bool], None] = run_cell,
    engine: Engine | None = None,
) -> dict[Job, str]:
    """Run what is not done yet of a grid, or of some of its cells.

    Args:
        study, root, seeds, workers, cells: as `plan_sweep` has them.
        keep_weights: keep adapters and merged weights of finished cells.
        work: what is done with a cell; importable, as it goes to another process.
        engine: what has cells made; None: so many worker processes of this machine.

    Returns:
        What is missing of the jobs asked for -> why.

    Raises:
        ValueError: bad numbers; several workers on one GPU; a training by other settings.
    """
    engine = engine or local_engine(workers)  # refuses bad numbers before anything is written
    plan = plan_sweep(study, root, seeds, workers, cells)
    print(plan.head())
    root.mkdir(parents=True, exist_ok=True)
    if plan.todo:
        print(plan.needed(), flush=True)
        for seed in dict.fromkeys(job.seed for job in plan.todo):
            run = seed_run(study, seed, root)
            run.clear()
            run.data_folder()  # once, here: the workers would wait for each other
        _follow(plan, engine(plan.todo, plan.after, Cells(study, root, keep_weights, work)))
    missing = [job for job in plan.asked if not is_done(plan.run(job), job.cell)]
    return {job: unfinished(plan.run(job).record(job.cell)) for job in missing}


def _follow(plan: Plan, outcomes: Iterable[Outcome]) -> None:
    """Say what comes of each job and how long the rest will take; record failures."""
    begin, left, total = time.perf_counter(), dict(plan.seconds), sum(plan.seconds.values())
    for done, (job, failure, seconds) in enumerate(outcomes, 1):
        left.pop(job)
        rest = sum(left.values())
        minutes = (time.perf_counter() - begin) * rest / max(total - rest, 1e-9) / 60
        outcome = f"failed: {failure}" if failure else "done"
        which = f"[{done}/{len(plan.todo)}] seed {job.seed} {job.cell}"
        print(plain(f"{which}: {outcome} ({seconds:.0f} s; {minutes:.0f} min left)"), flush=True)
        if failure:
            plan.run(job).fail(job.cell, failure)


def gather_records(study: Study, root: Path, seeds: Sequence[int], folder: Path) -> list[Path]:
    """Write the records of a grid's cells, as their runs have them, into a file per seed.

    Args:
        study: the grid.
        root: of the runs.
        seeds: of the files.
        folder: where seed-S.jsonl.gz go.
    """
    paths = []
    for seed, records in records_of(study, root, seeds).items():
        paths.append(folder / f"seed-{seed}.jsonl.gz")
        write_jsonl(paths[-1], records)
    return paths


def records_of(study: Study, root: Path, seeds: Sequence[int]) -> dict[int, list[dict[str, Any]]]:
    """Seed -> the records of a sweep's cells, as their runs have them."""
    asked = jobs(study, seeds)
    found = {seed: seed_run(study, seed, root).records() for seed in seeds}
    return {s: [r for r in records if Job(s, r["arm"]) in asked] for s, records in found.items()}

"""Running a grid: worker processes that take one cell after another, and what is missing.

Each worker imports torch once and is bound to its share of the cores. A cell goes through the
stages of any arm (fine-tune, merge, evaluate), in runs/seed-S/<study>/<cell>/, and is skipped when
it is done; its weights are deleted then. One that fails leaves its reason in its record, and the
others go on. The cells' records, gathered by seed, are what `papers.key_variables` reads.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from slimlib.common import progress
from slimlib.common.document import plain
from slimlib.common.files import write_jsonl
from slimlib.common.hardware import find_device
from slimlib.common.schema import unfinished
from slimlib.config import Study
from slimlib.pipeline.preflight import needs_gpu
from slimlib.run import Run
from slimlib.studies.design import Job, jobs
from slimlib.studies.overrides import override

GUESS = {"T4": 1200.0, "CPU": 25.0}  # seconds a cell: of the 1B models, and measured of micro


def seed_run(study: Study, seed: int, root: Path) -> Run:
    """The run folder of one seed: root/seed-S/<study>."""
    return Run(override(study, {"seed": seed}), root / f"seed-{seed}")


def is_done(run: Run, cell: str) -> bool:
    """Whether every stage of a cell is done.

    Raises:
        SettingsError: a training by other settings lies there.
    """
    return all([run.done(cell, stage) for stage in run.stages(cell)])


def gather_records(study: Study, root: Path, seeds: Sequence[int], folder: Path) -> list[Path]:
    """Write the records of a grid's cells, as their runs have them, into a file per seed.

    Args:
        study: the grid.
        root: of the runs.
        seeds: of the files.
        folder: where seed-S.jsonl.gz go.
    """
    asked = jobs(study, seeds)
    paths = []
    for seed in seeds:
        records = seed_run(study, seed, root).records()
        paths.append(folder / f"seed-{seed}.jsonl.gz")
        write_jsonl(paths[-1], [r for r in records if Job(seed, r["arm"]) in asked])
    return paths


def run_cell(run: Run, cell: str, keep_weights: bool = False) -> None:
    """All stages of one cell; its weights go when it is evaluated."""
    from slimlib.evaluate.harness import evaluate_arm
    from slimlib.merge.plain import merge_arm
    from slimlib.train import finetune_arm

    if not is_done(run, cell):
        finetune_arm(run, cell)
        merge_arm(run, cell)
        evaluate_arm(run, cell)
    if not keep_weights:
        run.drop(cell, "finetune", "merge")


# ----------------------------------------------------------------------------------------- workers


@dataclass
class Worker:
    """A process, the pipe to it, and the job it has."""

    process: Any
    pipe: Connection
    log: Path
    job: Job | None = None
    since: float = 0.0

    def give(self, job: Job) -> None:
        """Send it a job."""
        self.job, self.since = job, time.perf_counter()
        self.pipe.send(job)

    def stop(self) -> None:
        """Let it end; one that is still at work is cut off."""
        self.pipe.close()
        self.process.join(0 if self.job else 10)
        self.process.terminate()
        self.process.join(10)

    def answer(self) -> str | None:
        """Why its job failed; None: it did not. A worker that died says so."""
        try:
            return self.pipe.recv()
        except EOFError:
            self.process.join()
            lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            last = lines[-1] if lines else "it said nothing"
            return f"the process ended with code {self.process.exitcode}: {last}"[:500]


def start_worker(number: int, root: Path, threads: int, *work: Any) -> Worker:
    """A fresh Python with so many threads; what it prints goes to root/worker-N.log.

    Args:
        number: of the worker.
        root: of the runs.
        threads: that torch may use.
        *work: study, keep_weights and what to do with a cell, as `sweep_grid` has them.
    """
    ours, theirs = get_context("spawn").Pipe()
    log = root / f"worker-{number}.log"
    about = (theirs, str(root), str(log), *work)
    process = get_context("spawn").Process(target=_work, args=about, daemon=True)
    asked = os.environ.get("OMP_NUM_THREADS", str(threads))  # the user's own limit wins
    limits = {"OMP_NUM_THREADS": asked, "TOKENIZERS_PARALLELISM": "false"}
    before = {name: os.environ.get(name) for name in limits}
    os.environ.update(limits)  # torch reads it when it is imported, in the new process
    try:
        process.start()
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
    theirs.close()
    return Worker(process, ours, log)


def _work(
    pipe: Connection, root: str, log: str, study: Study, keep: bool, work: Callable[..., None]
) -> None:
    """What a worker does: jobs until the pipe closes."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    stream = open(log, "a", encoding="utf-8")  # noqa: SIM115  for the life of the process
    os.dup2(stream.fileno(), 1)
    os.dup2(stream.fileno(), 2)
    while True:
        try:
            job = pipe.recv()
        except EOFError:
            return
        failure = None
        try:
            work(seed_run(study, job.seed, Path(root)), job.cell, keep)
        except (ValueError, RuntimeError, OSError) as error:  # any other ends the process
            traceback.print_exc()
            failure = f"{type(error).__name__}: {error}"[:500]
        sys.stderr.flush()
        pipe.send(failure)


def _end_with_parent() -> None:
    """A worker whose sweep was killed would go on in a cell that another sweep takes."""
    parent_process().join()
    os._exit(1)


def sweep_grid(
    study: Study,
    root: Path,
    seeds: Sequence[int],
    workers: int = 1,
    cells: Sequence[str] = (),
    keep_weights: bool = False,
    work: Callable[[Run, str, bool], None] = run_cell,
) -> dict[Job, str]:
    """Run what is not done yet of a grid, or of some of its cells.

    Args:
        study: a grid.
        root: folder of the runs.
        seeds: of the fine-tuned cells; the lowest is also that of the untuned references.
        workers: processes; each gets an equal share of the cores.
        cells: names; none means all.
        keep_weights: keep adapters and merged weights of finished cells.
        work: what is done with a cell; importable, as it goes to another process.

    Returns:
        What is missing of the jobs asked for -> why.

    Raises:
        ValueError: bad numbers; several workers on one GPU; a training by other settings.
    """
    asked = jobs(study, seeds, cells)
    runs = {seed: seed_run(study, seed, root) for seed in seeds}
    todo = deque(job for job in asked if not is_done(runs[job.seed], job.cell))
    threads = share_of_cores(workers)
    print(f"{study.name}: {len(asked)} cells asked for, {len(asked) - len(todo)} are done already")
    done = [runs[job.seed].record(job.cell) for job in asked if job not in todo]
    if todo:
        print(time_needed(len(todo), done, workers, needs_gpu(study)), flush=True)
    root.mkdir(parents=True, exist_ok=True)
    for run in runs.values() if todo else ():
        run.clear()
        run.data_folder()  # once, here: the workers would wait for each other
    team: list[Worker] = []
    try:
        about = (root, threads, study, keep_weights, work)
        for number in range(1, min(workers, len(todo)) + 1):
            team.append(start_worker(number, *about))
        _run_all(team, todo, runs, about)
    finally:
        for worker in team:
            worker.stop()
    missing = [job for job in asked if not is_done(runs[job.seed], job.cell)]
    return {job: unfinished(runs[job.seed].record(job.cell)) for job in missing}


def time_needed(cells: int, done: Sequence[Mapping[str, Any]], workers: int, on_gpu: bool) -> str:
    """How long the cells to do will take, by the records of those that are done, else a guess."""
    measured = [sum(s.get("seconds", 0.0) for s in r["stages"].values()) for r in done]
    each = sum(measured) / len(measured) if measured else GUESS["T4" if on_gpu else "CPU"]
    source = (
        f"as the {len(measured)} that are done took"
        if measured
        else ("a guess, as on a T4" if on_gpu else "a guess, as on two CPU cores")
    )
    total = progress.duration(each * -(-cells // workers))
    return f"{cells} to do: about {total} ({each:.0f} s a cell, {source})"


def _run_all(
    team: list[Worker], todo: deque[Job], runs: Mapping[int, Run], about: tuple[Any, ...]
) -> None:
    """Give jobs out until none is left; replace a worker that died."""
    total, done, begin = len(todo), 0, time.perf_counter()
    for worker in team:
        worker.give(todo.popleft())
    while busy := {worker.pipe: n for n, worker in enumerate(team) if worker.job}:
        for pipe in wait(list(busy)):
            n = busy[pipe]
            worker, job = team[n], team[n].job
            failure = worker.answer()
            done += 1
            seconds = time.perf_counter() - worker.since
            outcome = f"failed: {failure}" if failure else "done"
            which = f"[{done}/{total}] seed {job.seed} {job.cell}"
            minutes = (time.perf_counter() - begin) / done * (total - done) / 60
            timing = f"{seconds:.0f} s; {minutes:.0f} min left"
            print(plain(f"{which}: {outcome} ({timing})"), flush=True)
            if failure:
                runs[job.seed].fail(job.cell, failure)
            worker.job = None
            if todo and worker.process.exitcode is not None:
                team[n] = worker = start_worker(n + 1, *about)
            if todo:
                worker.give(todo.popleft())


def share_of_cores(workers: int) -> int:
    """Threads of each worker.

    Raises:
        ValueError: fewer than one worker, more than cores, or several where there is a GPU.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if not 1 <= workers <= cores:
        raise ValueError(f"workers={workers}: must be from 1 to {cores}, the cores of this machine")
    if workers > 1 and find_device().kind == "cuda":
        raise ValueError(f"workers={workers}: the cells of a GPU run one at a time; give 1")
    return cores // workers

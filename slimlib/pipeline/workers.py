"""Cells on this machine: worker processes that take one after another.

Each imports torch once and is bound to its share of the cores. One that dies is replaced.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from slimlib.common.hardware import find_device
from slimlib.pipeline.one_cell import Cells, Engine, Outcome, no_adapter, write_to
from slimlib.studies.design import Job


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

    def take(self) -> Outcome:
        """What came of its job."""
        job, self.job = self.job, None
        return Outcome(job, self._answer(), time.perf_counter() - self.since)

    def stop(self) -> None:
        """Let it end; one that is still at work is cut off."""
        self.pipe.close()
        self.process.join(0 if self.job else 10)
        self.process.terminate()
        self.process.join(10)

    def _answer(self) -> str | None:
        """Why its job failed; None: it did not. A worker that died says so."""
        try:
            return self.pipe.recv()
        except EOFError:
            self.process.join()
            lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            last = lines[-1] if lines else "it said nothing"
            return f"the process ended with code {self.process.exitcode}: {last}"[:500]


def start_worker(number: int, cells: Cells, threads: int) -> Worker:
    """A fresh Python with so many threads; what it prints goes to worker-N.log."""
    ours, theirs = get_context("spawn").Pipe()
    log = cells.root / f"worker-{number}.log"
    process = get_context("spawn").Process(target=_work, args=(theirs, log, cells), daemon=True)
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


def _work(pipe: Connection, log: Path, cells: Cells) -> None:
    """What a worker does: jobs until the pipe closes."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    write_to(log)
    while True:
        try:
            job = pipe.recv()
        except EOFError:
            return
        pipe.send(cells.make(job))


def _end_with_parent() -> None:
    """A worker whose sweep was killed would go on in a cell that another sweep takes."""
    parent_process().join()
    os._exit(1)


def local_engine(count: int) -> Engine:
    """What has cells made by so many worker processes of this machine.

    Raises:
        ValueError: a number that does not fit this machine.
    """
    threads = share_of_cores(count)
    if count > 1 and find_device().kind == "cuda":
        raise ValueError(f"workers={count}: the cells of a GPU run one at a time; give 1")
    return partial(make_here, count=count, threads=threads)


def make_here(
    todo: Sequence[Job], after: Mapping[Job, Job], cells: Cells, count: int, threads: int
) -> Iterator[Outcome]:
    """Have worker processes make cells, and yield what comes of each.

    Args:
        todo: the jobs, in the order in which they are begun.
        after: job -> the job that makes the adapter which it takes.
        cells: what a worker must know.
        count: of the workers.
        threads: of each.
    """
    waiting, failed = [*todo], set[Job]()
    unfinished = {*todo}
    team: list[Worker] = []
    try:
        while unfinished:
            for job in [job for job in waiting if after.get(job) not in unfinished]:
                if after.get(job) in failed:
                    waiting.remove(job)
                    unfinished.remove(job)
                    failed.add(job)
                    yield Outcome(job, no_adapter(after[job].cell), 0.0)
                elif worker := _free(team, count, cells, threads):
                    waiting.remove(job)
                    worker.give(job)
            busy = {worker.pipe: worker for worker in team if worker.job}
            for pipe in wait(list(busy)) if busy else ():
                outcome = busy[pipe].take()
                unfinished.remove(outcome.job)
                failed |= {outcome.job} if outcome.failure else set()
                yield outcome
    finally:
        for worker in team:
            worker.stop()


def _free(team: list[Worker], count: int, cells: Cells, threads: int) -> Worker | None:
    """A worker without a job: one that waits, a new one, or the successor of one that died."""
    for n, worker in enumerate(team):
        if worker.job is None:
            if worker.process.exitcode is not None:
                team[n] = worker = start_worker(n + 1, cells, threads)
            return worker
    if len(team) == count:
        return None
    team.append(start_worker(len(team) + 1, cells, threads))
    return team[-1]


def share_of_cores(workers: int) -> int:
    """Threads of each worker.

    Raises:
        ValueError: fewer than one worker, or more than cores.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if not 1 <= workers <= cores:
        raise ValueError(f"workers={workers}: must be from 1 to {cores}, the cores of this machine")
    return cores // workers

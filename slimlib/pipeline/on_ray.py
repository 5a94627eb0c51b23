"""Cells made by Ray, on a cluster of its own on this machine or on one that is given.

Ray places each cell where the CPUs and GPUs that it asks for are free, hands an adapter's trainer
to those that wait for it, and begins a cell again whose process or machine died: it goes on from
its last checkpoint. All machines must see the same folder of runs and have the same slimlib.
"""

from __future__ import annotations

import contextlib
import importlib.util
import math
import os
import signal
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from slimlib.common import progress
from slimlib.common.hardware import find_device
from slimlib.pipeline.one_cell import Cells, Engine, Outcome, no_adapter, write_to
from slimlib.pipeline.workers import share_of_cores
from slimlib.studies.design import Job

RETRIES = 3  # of a cell whose process died, as Ray's own default
STORE = 100 * 2**20  # bytes of Ray's shared memory, which nothing large goes through
HERE = "local"  # Ray's word for a new cluster


@contextlib.contextmanager
def ray_cluster(
    address: str, workers: int, num_cpus: float | None, num_gpus: float
) -> Iterator[Engine]:
    """A cluster as long as the block runs, and what has cells made there.

    Args:
        address: of a cluster, such as "auto" or "ray://HOST:10001"; "" starts one here.
        workers: at the same time, of a cluster that is started here.
        num_cpus: of a cell; None: a worker's share of the cores here, 1 elsewhere.
        num_gpus: of a cell; it may be a part of one.

    Raises:
        ValueError: Ray is not installed, not reached, or the numbers do not fit this machine.
    """
    if num_cpus is None:
        num_cpus = 1 if address else share_of_cores(workers)
    if not (0 < num_cpus < math.inf and 0 <= num_gpus < math.inf):
        asked = f"num_cpus={num_cpus:g}, num_gpus={num_gpus:g}"
        raise ValueError(f"{asked}: give CPUs above 0, and GPUs of 0 or more")
    if num_gpus and not address and find_device().kind != "cuda":
        raise ValueError(f"num_gpus={num_gpus:g}: torch sees no CUDA GPU here; give 0")
    if importlib.util.find_spec("ray") is None:
        raise ValueError("--engine ray needs Ray: pip install 'slimlib[ray]'")
    how: dict[str, Any] = {"address": address or HERE, "log_to_driver": False}
    how |= {"logging_level": "error"}
    if not address:
        how |= {"num_cpus": math.ceil(num_cpus * workers), "include_dashboard": False}
        how |= {"num_gpus": None if num_gpus else 0, "object_store_memory": STORE}
    with _connected(how):
        _say_what_waits(num_cpus, num_gpus)
        yield partial(_make_there, {"num_cpus": num_cpus, "num_gpus": num_gpus})


FAILS = (OSError, RuntimeError, ValueError)  # what Ray raises where it cannot be reached


@contextlib.contextmanager
def _connected(how: Mapping[str, Any]) -> Iterator[None]:
    """Ray, connected; it leaves the handlers of signals as they were."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to others
    import ray

    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(**how)
    except Exception as error:  # Ray raises no narrower one where its processes do not come up
        ray.shutdown()
        if not (type(error) is Exception or isinstance(error, FAILS)):
            raise
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(f"Ray ({how['address']}): {reason or type(error).__name__}") from None
    finally:
        signal.signal(signal.SIGTERM, before)
    try:
        yield
    finally:
        ray.shutdown()
        signal.signal(signal.SIGTERM, before)


def _say_what_waits(num_cpus: float, num_gpus: float) -> None:
    """Say it where no machine has what a cell asks for: an autoscaler may still bring one."""
    import ray

    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    asked = {"CPU": num_cpus, "GPU": num_gpus}
    if not any(all(m.get(k, 0.0) >= v for k, v in asked.items()) for m in machines):
        progress.say(
            f"no machine of the cluster has {num_cpus:g} CPUs and {num_gpus:g} GPUs: cells wait"
        )


def _make_there(
    asks: Mapping[str, float], todo: Sequence[Job], after: Mapping[Job, Job], cells: Cells
) -> Iterator[Outcome]:
    """Hand all jobs to Ray, and yield what comes of each when it is there."""
    import ray

    cells = cells._replace(root=cells.root.resolve())
    shared = ray.put(cells)
    task = ray.remote(_make).options(max_retries=RETRIES, **asks)
    made: dict[Job, Any] = {}
    for job in todo:
        made[job] = task.remote(shared, job, made.get(after.get(job)))
    waiting = {reference: job for job, reference in made.items()}
    while waiting:
        (reference,), _ = ray.wait([*waiting], num_returns=1)
        job = waiting.pop(reference)
        try:
            yield ray.get(reference)
        except ray.exceptions.RayError as error:  # its process died again and again
            lines = str(error).strip().splitlines()
            yield Outcome(job, f"{type(error).__name__}: {lines[-1] if lines else ''}"[:500], 0.0)


def _make(cells: Cells, job: Job, source: Outcome | None) -> Outcome:
    """What a worker of Ray does; `source`: what came of the arm whose adapter is taken."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    begin = time.perf_counter()
    write_to(cells.root / f"worker-{socket.gethostname()}-{os.getpid()}.log")
    failed = source is not None and source.failure
    failure = no_adapter(source.job.cell) if failed else cells.make(job)
    return Outcome(job, failure, time.perf_counter() - begin)

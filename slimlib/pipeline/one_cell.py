"""One cell of a grid, one arm of a sweep: its run folder, whether it is done, how it is made."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from slimlib.config import Study
from slimlib.run import Run
from slimlib.studies.design import Job
from slimlib.studies.overrides import override


class Outcome(NamedTuple):
    """What came of a job."""

    job: Job
    failure: str | None  # why it failed; None: it did not
    seconds: float


class Cells(NamedTuple):
    """What a worker must know to make any cell of a sweep."""

    study: Study
    root: Path  # of the runs
    keep_weights: bool
    work: Callable[[Run, str, bool], None]  # importable: other processes call it

    def make(self, job: Job) -> str | None:
        """Make a cell; why it failed, or None. An error of another kind ends the process."""
        try:
            self.work(seed_run(self.study, job.seed, self.root), job.cell, self.keep_weights)
        except (ValueError, RuntimeError, OSError) as error:
            traceback.print_exc()
            return f"{type(error).__name__}: {error}"[:500]
        finally:
            sys.stderr.flush()
        return None


# Has jobs made, each after the one whose adapter it takes, and yields what comes of them.
Engine = Callable[[Sequence[Job], Mapping[Job, Job], Cells], Iterable[Outcome]]


def write_to(log: Path) -> None:
    """From now on all that this process prints goes to the end of a file."""
    with open(log, "a", encoding="utf-8") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)


def seed_run(study: Study, seed: int, root: Path) -> Run:
    """The run folder of one seed: root/seed-S/<study>."""
    return Run(override(study, {"seed": seed}), root / f"seed-{seed}")


def is_done(run: Run, cell: str) -> bool:
    """Whether every stage of a cell is done.

    Raises:
        SettingsError: a training by other settings lies there.
    """
    return all([run.done(cell, stage) for stage in run.stages(cell)])


def run_cell(run: Run, cell: str, keep_weights: bool = False) -> None:
    """All stages of one cell; weights go when nothing needs them any more."""
    from slimlib.evaluate.harness import evaluate_arm
    from slimlib.merge.plain import merge_arm
    from slimlib.train.finetune import finetune_arm

    if not is_done(run, cell):
        finetune_arm(run, cell)
        merge_arm(run, cell)
        evaluate_arm(run, cell)
    if not keep_weights:
        _drop_weights(run, cell)


def _drop_weights(run: Run, cell: str) -> None:
    """Drop what a cell was evaluated by, and its adapter once all that take it are evaluated."""
    run.drop(cell, "merge")
    source = run.study[cell].adapter_from or cell
    takers = [arm.name for arm in run.study.arms if source in (arm.name, arm.adapter_from)]
    if all(run.done(taker, "evaluate") for taker in takers):
        run.drop(source, "finetune")


def no_adapter(source: str) -> str:
    """Why an arm fails whose adapter another arm could not train."""
    return f"it takes the adapter of {source}, which failed"

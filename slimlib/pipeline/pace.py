"""How long an arm will take: a guess by its size, put right by the arms that are done.

The guesses are of this project's own records and runs: seconds on two CPU cores, and for models of
about 1B parameters on a T4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from slimlib.config import Arm, Study
from slimlib.methods.shapes import base_parameters
from slimlib.pipeline.preflight import needs_gpu, shape_of

WHOLE = 1000  # rows or documents of what is taken whole


class Pace(NamedTuple):
    """Seconds of the parts of an arm."""

    arm: float  # whatever it does: loading models and tasks
    row: float  # of training, each time it is read
    merge: float
    document: float


# Of figures/records/micro: 400 rows three times in 35 to 47 s, 600 documents in 9 to 22 s.
MICRO = Pace(3.0, 0.035, 2.0, 0.022)
# Measured of smol: 500 rows in 10 to 15 minutes, 753 sums in 40 s, 1,000 of HellaSwag in 130 s.
SMOL = Pace(15.0, 1.5, 15.0, 0.1)
# A guess: 20 minutes for a cell of key_variables, 2,000 rows and 9,850 documents.
LARGE = Pace(60.0, 0.2, 60.0, 0.08)


SMALL = 20_000_000  # weights of the largest model that has micro's pace


def pace_of(study: Study) -> tuple[Pace, str]:
    """The pace of a study's largest models, and on which machine."""
    if needs_gpu(study):
        return LARGE, "a T4"
    largest = max(base_parameters(shape_of(arm.model.name)) for arm in study.arms)
    return (SMOL if largest > SMALL else MICRO), "two CPU cores"


def guess(study: Study, arm: Arm) -> float:
    """Seconds that an arm may take."""
    pace, _ = pace_of(study)
    documents = sum(task.limit or WHOLE for task in arm.evaluate.tasks)
    rows = 0.0
    if arm.trains:
        train = arm.train
        a_step = train.per_device_train_batch_size * train.gradient_accumulation_steps
        rows = (arm.data.n or WHOLE) * train.num_train_epochs
        rows = train.max_steps * a_step if train.max_steps > 0 else rows
    merged = arm.writes_weights * pace.merge
    return pace.arm + rows * pace.row + merged + documents * pace.document


def estimate(
    study: Study, arms: Sequence[str], done: Sequence[Mapping[str, Any]]
) -> tuple[list[float], str]:
    """Seconds of each of some arms, and by what they are known.

    Args:
        study: that has the arms.
        arms: their names.
        done: records of arms that are done.
    """
    guessed = [guess(study, study[name]) for name in arms]
    measured = sum(s.get("seconds", 0.0) for r in done for s in r["stages"].values())
    expected = sum(guess(study, study[record["arm"]]) for record in done)
    if measured and expected:
        factor = measured / expected
        return [factor * g for g in guessed], f"as the {len(done)} that are done took"
    return guessed, f"a guess, as on {pace_of(study)[1]}"

"""What lies in run folders: `status` says how far it is and how it goes on, `doctor` reads it all.

Neither changes a thing, and neither loads a model.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from slimlib.common import progress, record_file
from slimlib.common.checked import from_dict
from slimlib.common.content import Hashes
from slimlib.common.document import Document
from slimlib.common.files import read_json
from slimlib.common.locks import holder_of
from slimlib.common.record_file import RECORD
from slimlib.common.schema import upgrade
from slimlib.config import Arm, Study
from slimlib.folder import STAGES, default_root
from slimlib.pipeline.study import STUDY_FILE, read_study
from slimlib.run import Run
from slimlib.studies.get import GRIDS
from slimlib.studies.mine import KINDS
from slimlib.studies.spec import SPEC_FILE

UNKNOWN = "done (by an older slimlib, which did not say what it made)"


class Stage(NamedTuple):
    """One stage of an arm as it is found."""

    arm: str
    stage: str
    word: str  # as `slimlib.standing.State` has it, or "refused"
    told: str
    gigabytes: float
    seconds: float | None
    by: str  # the process that works at the arm


def status(runs: str | Path | None = None) -> list[Document]:
    """Say of each run folder how far it is, what is missing or stale, and how it goes on.

    Args:
        runs: a run folder, or the parent of some; default SLIMLIB_RUNS, else ./runs.

    Raises:
        ValueError: no run folder is there.
    """
    return [_document(run, list(_stages(run))) for run in open_runs(runs or default_root())]


def doctor(run: str | Path) -> tuple[Document, bool]:
    """Read every file of a run folder again, and say what is damaged.

    Args:
        run: a run folder, or the parent of some.

    Returns:
        What was found, and whether all that is done is whole.

    Raises:
        ValueError: no run folder is there.
    """
    with tempfile.TemporaryDirectory() as memory:  # a new one: each file is read, and once
        found = [_examine(opened, Path(memory)) for opened in open_runs(run)]
    healthy = not any(bad for _, bad, _ in found)
    notes = [f"made again by: {command}" for _, bad, command in found if bad]
    title = "All that is done is whole" if healthy else "Some of it is damaged, stale or cut off"
    return Document(title, [(head, bad) for head, bad, _ in found], notes=notes), healthy


def _examine(run: Run, memory: Path) -> tuple[str, list[str], str]:
    """A run in words, what is wrong with it, and the command that goes on."""
    run.hashes = Hashes(memory / "hashes.json")
    found = list(_stages(run))
    bad = [f"{s.stage} {s.arm}: {s.told}" for s in found if s.word not in ("done", "not done")]
    done = sum(s.word == "done" for s in found)
    head = f"{run.folder}: {done} of {len(found)} stages are done and whole"
    return head, bad + _damaged_records(run), go_on(run)


def open_runs(folder: str | Path) -> list[Run]:
    """The runs in a folder: itself, or those in the folders below, a grid's by seed.

    Raises:
        ValueError: there is none.
    """
    folder = Path(folder)
    places = [folder, *sorted(folder.glob("*")), *sorted(folder.glob("seed-*/*"))]
    found = [_open(place) for place in places if _is_run(place)]
    if not found:
        raise ValueError(f"{folder} holds no run: no folder in it has a {STUDY_FILE} or a {RECORD}")
    return found


def _is_run(folder: Path) -> bool:
    return (folder / STUDY_FILE).is_file() or any(folder.glob(f"*/{RECORD}*"))


def _open(folder: Path) -> Run:
    if (folder / STUDY_FILE).is_file():
        return Run(read_study(folder), folder.resolve().parent)
    arms = tuple(_recorded_arm(path) for path in sorted(folder.glob(f"*/{RECORD}")))
    data = "world" if (folder / "data").is_dir() else "hub"
    study = Study(folder.resolve().name, title=folder.name, arms=arms, ladder=(), data=data)
    return Run(study, folder.resolve().parent)


def _recorded_arm(path: Path) -> Arm:
    record = record_file.load(path)
    if record is None:
        raise ValueError(f"{path} is damaged, and so is its copy")
    return from_dict(Arm, upgrade(record)["config"])


def _stages(run: Run) -> Iterator[Stage]:
    for arm in run.study.arms:
        by = holder_of(run.lock_path(arm.name))
        for stage in run.stages(arm.name):
            if stage == "evaluate" and not arm.evaluate.tasks:
                continue  # `slimlib tune` asks in its own way
            entry = run.record(arm.name)["stages"].get(stage, {})
            size = _gigabytes(run.arm_folder(arm.name) / STAGES[stage])
            try:
                word, why = run.state(arm.name, stage)
            except ValueError as error:  # a training by other settings
                word, why = "refused", str(error)
            told = _told(word, why, entry)
            yield Stage(arm.name, stage, word, told, size, entry.get("seconds"), by)


def _told(word: str, why: str, entry: dict[str, Any]) -> str:
    if word == "done" and "content" not in entry:
        return UNKNOWN
    if word == "done" and entry.get("dropped"):
        return "done, its weights are dropped"
    return why or word


def _gigabytes(folder: Path) -> float:
    size = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # someone works there
                size += os.stat(os.path.join(place, name)).st_size
    return size / 2**30


def _document(run: Run, stages: list[Stage]) -> Document:
    import pandas as pd

    rows = {
        (s.arm, s.stage): {"state": s.told, "size": _size(s.gigabytes), "time": _time(s.seconds)}
        for s in stages
    }
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index = pd.MultiIndex.from_tuples(rows, names=["arm", "stage"])
    done = sum(s.word == "done" for s in stages)
    points = [f"{done} of {len(stages)} stages are done."]
    points += [f"At work: {by}." for by in dict.fromkeys(s.by for s in stages if s.by)]
    if _damaged_records(run):
        points.append((f"It has damaged records, put back by: {go_on(run)}", _damaged_records(run)))
    elif done < len(stages):
        points.append(f"It goes on by: {go_on(run)}")
    return Document(f"{run.folder}", points, table)


def _damaged_records(run: Run) -> list[str]:
    paths = [run.arm_folder(arm.name) / RECORD for arm in run.study.arms]
    return [
        f"{path.parent.name}/{RECORD} is damaged" for path in paths if record_file.is_damaged(path)
    ]


def _size(gigabytes: float) -> str:
    if not gigabytes:
        return ""
    return f"{gigabytes:.1f} GB" if gigabytes >= 1 else f"{gigabytes * 2**10:.1f} MB"


def _time(seconds: float | None) -> str:
    return "" if seconds is None else progress.duration(seconds)


# ---- how it goes on ----


def go_on(run: Run) -> str:
    """The command that does what is left in a run folder."""
    path = run.folder / STUDY_FILE
    if path.is_file():
        asked = read_json(path)
        words = ["slimlib", "run", "--study", asked["study"], "--runs", str(run.root)]
        words += ["--data", asked["data"]] if asked["data"] else []
        for key, value in asked["overrides"].items():
            words += ["--set", f"{key}={_typed(value)}"]
        return shlex.join(words)
    if run.study.name in GRIDS:
        seed = run.root.name.removeprefix("seed-")
        words = ["slimlib", "sweep", run.study.name, "--seeds", seed]
        return shlex.join([*words, "--runs", str(run.root.parent)])
    spec = run.root.parent / "records" / run.study.name / SPEC_FILE
    if spec.is_file():
        words = ["slimlib", "sweep", str(spec), "--runs", str(run.root.parent)]
        return shlex.join(words)
    if {arm.name.partition("-seed-")[0] for arm in run.study.arms} <= {*KINDS}:
        tuned = next((arm for arm in run.study.arms if arm.trains), run.study.arms[0])
        rows = tuned.data.path or tuned.data.dataset
        command = shlex.join(["slimlib", "tune", tuned.model.name, rows, "--runs", str(run.root)])
        return f"{command} (with the options that it was started with)"
    return "the script that began it"


def _typed(value: Any) -> str:
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return ",".join(value)
    return value if isinstance(value, str) else json.dumps(value)

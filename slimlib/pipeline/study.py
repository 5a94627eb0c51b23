"""A study from its settings to its answer, without a notebook.

A run folder's study.json says what was asked for (study, data, overrides), so that whoever opens
the folder next need not say it again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic_core import to_jsonable_python

from slimlib.common.files import read_json, write_json
from slimlib.common.hardware import find_device, unsloth_loaded, use_colab_secret
from slimlib.config import Arm, Study
from slimlib.folder import default_root
from slimlib.model.load import choose_backend
from slimlib.pipeline.preflight import check_input
from slimlib.report.figures import make_figures
from slimlib.report.tables import results_document, write_tables
from slimlib.run import Run, in_clean_process
from slimlib.studies.get import GRIDS, STUDIES, get_study

STUDY_FILE = "study.json"


def run_study(study: str | Study = "auto", runs: str | Path | None = None) -> Run:
    """Run every stage of every arm that is not done yet, and print the answer.

    All in this process, but for fine-tuning with Unsloth, which changes transformers for the
    process that it is loaded in.

    Args:
        study: the study, or its name.
        runs: parent folder of the run; default SLIMLIB_RUNS, else ./runs.

    Returns:
        The run: its records, and table1.csv, table2.csv and figures/ in its folder.

    Example:

        run = slimlib.run_study("micro")
        slimlib.attribute(run.study, run.records())

    Raises:
        ValueError: bad settings, rows or files, before anything is written.
    """
    study = get_study(study) if isinstance(study, str) else study
    if study.name in GRIDS:
        n = len(study.arms)
        raise ValueError(f"{study.name} is a grid of {n} cells: slimlib sweep {study.name}")
    run = Run(study, runs)
    check_input(run)
    run.clear()
    write_study(run)
    for stages in _stages():
        for arm in study.arms:
            for stage in stages:
                stage(run, arm.name)
    _write_results(run)
    print_answer(run)
    return run


def _stages() -> tuple[tuple[Callable[[Run, str], Any], ...], ...]:
    """All is trained first; then each arm is merged and evaluated, and its weights may go."""
    from slimlib.evaluate.harness import evaluate_arm
    from slimlib.merge.plain import merge_arm

    return (finetune,), (merge_arm, evaluate_arm)


def finetune(run: Run, arm: str) -> None:
    """Fine-tune here, or with Unsloth in a process of its own, which leaves this one clean."""
    from slimlib.train.finetune import finetune_arm

    config: Arm = run.study[arm]
    apart = config.trains and choose_backend(config.model.backend) == "unsloth"
    if apart and not unsloth_loaded() and not run.done(arm, "finetune"):
        in_clean_process(finetune_arm, run, arm)
    finetune_arm(run, arm)


def _write_results(run: Run) -> None:
    records = run.records()
    write_tables(records, run.study, run.folder)
    make_figures(records, run.study, run.figures, run.logs())


def print_answer(run: Run) -> None:
    """Print the verdict on the fine-tuned arm, its part of Table 2, and where the files are."""
    print(f"\n{results_document(run.records(), run.study).to_text()}\n")
    for path in (run.folder / "table1.csv", run.folder / "table2.csv", run.figures):
        print(path)


# ----------------------------------------------------------------------------------- study.json


def open_run(
    study: str = "auto",
    data: str | None = None,
    runs: str | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Run:
    """Open a study's run folder, and say what was chosen and why.

    Args:
        study: name of a study, or "auto"; or a run folder, whose study.json says all the rest.
        data: local folder that replaces the hub; "" or None for the study's own.
        runs: parent folder; "" or None for SLIMLIB_RUNS, else ./runs.
        overrides: KEY -> VALUE, as --set on the command line.

    Example:

        run = slimlib.open_run("micro", overrides={"llama-2k.train.max_steps": 100})
        run = slimlib.open_run("runs/micro")  # later, once `write_study` has been there

    Raises:
        ValueError: unknown study, key or value; a folder without a study.json that can be read.
    """
    use_colab_secret()
    if _is_folder(study):
        folder = Path(study)
        run, why = Run(read_study(folder), folder.parent), f"{folder / STUDY_FILE} says so"
    else:
        run = Run(get_study(study, data or None, **(overrides or {})), runs or None)
        why = run.study.reason or "asked for by name"
    device = find_device()
    print(f"study   {run.study.name}: {run.study.title}")
    print(f"why     {why}")
    print(f"device  {device.name}; {device.reason}")
    print(f"folder  {run.folder}")
    return run


def _is_folder(study: str) -> bool:
    return "/" in study or "\\" in study or (Path(study) / STUDY_FILE).exists()


def last_run(runs: str | Path | None = None) -> str:
    """The run folder whose study.json was written last.

    Args:
        runs: parent folder; "" or None for SLIMLIB_RUNS, else ./runs.

    Raises:
        ValueError: there is none.
    """
    root = Path(runs) if runs else default_root()
    found = sorted(root.glob(f"*/{STUDY_FILE}"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise ValueError(f"{root} holds no run: no folder in it has a {STUDY_FILE}")
    return str(found[-1].parent)


def write_study(run: Run) -> Path | None:
    """Write study.json into a run folder, once nothing there was trained by other settings.

    Returns:
        Its path; None for a study that `get_study` does not give, which no file can name.

    Raises:
        ValueError: a training by other settings lies there.
    """
    run.check()
    study = run.study
    asked = {"study": study.name, "data": str(run.local_data.resolve()) if run.local_data else ""}
    asked["overrides"] = to_jsonable_python(study.overrides)
    if study.name not in STUDIES:
        return None
    named = replace(_named(asked), reason=study.reason, overrides=study.overrides)
    if named != study:
        return None
    path = run.folder / STUDY_FILE
    write_json(path, asked)
    return path


def read_study(folder: Path) -> Study:
    """The study that a run folder's study.json names.

    Raises:
        ValueError: no such file, or not one of a study; says what to do.
    """
    path = folder / STUDY_FILE
    if not path.is_file():
        raise ValueError(f"{path} does not exist: run notebook 01, or slimlib run, first")
    asked = read_json(path)
    if not isinstance(asked, dict) or asked.keys() != {"study", "data", "overrides"}:
        raise ValueError(f"{path} is no {STUDY_FILE} of slimlib: delete it and run notebook 01")
    try:
        study = _named(asked)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from None
    if study.name != folder.resolve().name:
        raise ValueError(f"{path} is of study {study.name}: call its folder {study.name}")
    return study


def _named(asked: Mapping[str, Any]) -> Study:
    return get_study(asked["study"], asked["data"] or None, **asked["overrides"])

"""A study from its settings to its tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slimlib.common.hardware import find_device, use_colab_secret
from slimlib.report.tables import results_document
from slimlib.run import Run
from slimlib.studies.get import get_study


def open_run(
    study: str = "auto",
    data: str | None = None,
    runs: str | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Run:
    """A study's run folder, for the head of a notebook: says what it chose and why.

    Args:
        study: name of a study, or "auto".
        data: local folder that replaces the hub; "" or None for the study's own.
        runs: parent folder; "" or None for SLIMLIB_RUNS, else ./runs.
        overrides: KEY -> VALUE, as --set on the command line.

    Example:

        run = slimlib.open_run("micro", overrides={"llama-2k.train.max_steps": 100})
    """
    use_colab_secret()
    run = Run(get_study(study, data or None, **(overrides or {})), runs or None)
    device = find_device()
    print(f"study   {run.study.name}: {run.study.title}")
    print(f"why     {run.study.reason or 'asked for by name'}")
    print(f"device  {device.name}; {device.reason}")
    print(f"folder  {run.folder}")
    return run


def print_tables(run: Run) -> None:
    """Print the answer and Table 2, and say where the files are."""
    records = run.records()
    if not any("evaluate" in record["stages"] for record in records):
        return
    print(results_document(records, run.study).to_text())
    for path in (run.folder / "table1.csv", run.folder / "table2.csv", run.figures):
        if path.exists():
            print(path)

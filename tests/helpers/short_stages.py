"""Stages that take no time, for the tests of a run's folder."""

import json
import os
import sys

from slimlib.run import Run
from slimlib.studies.get import get_study


def work(**outcome):
    """A stage that ends at once with this outcome."""
    return lambda: outcome


def failing():
    """A stage that is cut off."""
    raise RuntimeError("the kernel was cut off")


def rerun(run: Run, **overrides) -> Run:
    """The same folder, other settings."""
    return Run(get_study("micro", **overrides), run.root)


def note_modules(run: Run, arm: str) -> None:
    """A stage for `in_clean_process`: leaves a note of what its process had imported."""
    run.folder.mkdir(parents=True, exist_ok=True)
    (run.folder / "note").write_text(json.dumps([os.getpid(), "unsloth" in sys.modules]))


def stop(run: Run, arm: str) -> None:
    """A stage that fails."""
    raise ValueError("no such luck")

"""A run is a folder: where its parts lie, and the records in it.

runs/<study>/<arm>/  record.json  adapter/  merged/  eval/<task>/  log.jsonl
runs/<study>/        hashes.json  locks/
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

from slimlib.common import locks, progress, record_file
from slimlib.common.content import Hashes
from slimlib.common.files import read_jsonl
from slimlib.common.record_file import RECORD
from slimlib.common.schema import SCHEMA, SchemaError, upgrade
from slimlib.config import Study, to_dict
from slimlib.model.load import resolve_name

STAGES = {"finetune": "adapter", "merge": "merged", "evaluate": "eval"}  # and their folders
CHECKPOINTS = "checkpoints"  # folder of a training that is not done


def default_root() -> Path:
    """SLIMLIB_RUNS, else ./runs; from within the notebooks' folder, the runs/ beside it."""
    if "SLIMLIB_RUNS" in os.environ:
        return Path(os.environ["SLIMLIB_RUNS"])
    in_notebooks = Path("01_setup.ipynb").exists()
    return Path("../runs" if in_notebooks else "runs")


class Folder:
    """The folder of one study.

    Args:
        study: the study whose arms are run.
        root: parent folder; default `default_root()`.
    """

    def __init__(self, study: Study, root: str | Path | None = None):
        self.study = study
        self.root = Path(root) if root else default_root()
        self.folder = self.root / study.name
        self.hashes = Hashes(self.folder / "hashes.json")

    def arm_folder(self, arm: str) -> Path:
        """The folder of one arm (which need not exist yet)."""
        return self.folder / self.study[arm].name

    @property
    def figures(self) -> Path:
        """Where the study's pictures are written."""
        return self.folder / "figures"

    @property
    def local_data(self) -> Path | None:
        """The user's folder of benchmarks and rows; None for the hub and for a made-up world."""
        return Path(self.study.data) if self.study.data not in ("hub", "world") else None

    def adapter_folder(self, arm: str) -> Path:
        """Where the adapter of an arm lies: its own, or that of the arm it takes it from."""
        return self.arm_folder(self.study[arm].adapter_from or arm) / "adapter"

    def model_path(self, arm: str) -> str:
        """What is evaluated: the merged folder, or the checkpoint itself."""
        config = self.study[arm]
        if config.writes_weights:
            return str(self.arm_folder(arm) / "merged")
        return resolve_name(config.model.name)

    def stages(self, arm: str) -> tuple[str, ...]:
        """The stages that an arm goes through, in order."""
        config = self.study[arm]
        return (
            *(("finetune",) if config.trains else ()),
            *(("merge",) if config.writes_weights else ()),
            "evaluate",
        )

    def record(self, arm: str) -> dict[str, Any]:
        """The record of one arm; a new one when nothing is done yet."""
        config = self.study[arm]
        if found := self._found(arm):
            # compared_with depends on which arms were asked for, then and now
            asked = {"label": config.label, "compared_with": config.compared_with}
            return self._upgraded(arm, found) | asked
        return {
            "schema": SCHEMA,
            "study": self.study.name,
            "arm": arm,
            "label": config.label,
            "compared_with": config.compared_with,
            "seed": config.seed,
            "config": to_dict(config),
            "stages": {},
        }

    def _found(self, arm: str) -> dict[str, Any] | None:
        """The record of an arm as it was stored."""
        return record_file.load(self._record_path(arm))

    def _upgraded(self, arm: str, found: dict[str, Any]) -> dict[str, Any]:
        """A stored record in today's schema."""
        if found.get("schema") == SCHEMA:
            return found
        other, log = self.study[arm].adapter_from, self.arm_folder(arm) / "log.jsonl"
        try:
            source = self._found(other) if other else None
            return upgrade(found, source, read_jsonl(log) if log.exists() else ())
        except SchemaError as error:
            raise SchemaError(f"{self._record_path(arm)}: {error}") from None

    def _write(self, arm: str, record: dict[str, Any]) -> None:
        record_file.save(self._record_path(arm), record)

    def _record_path(self, arm: str) -> Path:
        return self.arm_folder(arm) / RECORD

    def records(self) -> list[dict[str, Any]]:
        """The records that exist, in the order of the study's arms."""
        return [self.record(a.name) for a in self.study.arms if self._found(a.name)]

    def logs(self) -> dict[str, list[dict[str, Any]]]:
        """arm -> rows of its loss log, for the arms that were trained."""
        paths = {a.name: self.arm_folder(a.name) / "log.jsonl" for a in self.study.arms}
        found = {}
        for name, path in paths.items():
            try:
                found |= {name: read_jsonl(path)} if path.exists() else {}
            except ValueError as error:  # the weights do not stand on it
                progress.say(f"{error}: left out")
        return found

    def _writing(self, arm: str, what: str) -> contextlib.AbstractContextManager[None]:
        """Hold the lock of an arm."""
        return locks.writing(self.lock_path(arm), what)

    def lock_path(self, name: str) -> Path:
        """The lock of an arm, or of "data"."""
        return self.folder / "locks" / f"{name}.lock"

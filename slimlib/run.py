"""A run is a folder: records, and what is already done.

    runs/<study>/<arm>/  record.json  adapter/  merged/  eval/<task>/  log.jsonl

A stage (finetune, merge, evaluate) is skipped when its record says that it is done with the same
settings, and refuses to go on in a folder that other settings made.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from slimlib.common import progress
from slimlib.common.files import atomic_path, file_sha256, read_json, read_jsonl, sha256, write_json
from slimlib.common.hardware import environment
from slimlib.common.schema import SCHEMA, SchemaError, upgrade
from slimlib.config import Arm, Study, to_dict
from slimlib.data.micro.world import write_data
from slimlib.data.sources import WORLD, fingerprint
from slimlib.data.tasks import check_files
from slimlib.model.load import resolve_name

# Fields of the data that came later, as they were before: a run of that time keeps its key.
LATER = {"learn": "all", "held_out": 0.0, "system": "refuse"}


class SettingsError(ValueError):
    """A run folder was made by other settings than the ones asked for."""


def default_root() -> Path:
    """SLIMLIB_RUNS, else ./runs; from within the notebooks' folder, the runs/ beside it."""
    if "SLIMLIB_RUNS" in os.environ:
        return Path(os.environ["SLIMLIB_RUNS"])
    in_notebooks = Path("01_setup.ipynb").exists()
    return Path("../runs" if in_notebooks else "runs")


class Run:
    """The folder of one study.

    Args:
        study: the study whose arms are run.
        root: parent folder; default `default_root()`.

    Example:
        >>> run = slimlib.Run(slimlib.get_study("micro"), root="runs")
        >>> run.arm_folder("llama-2k").as_posix(), run.stages("llama-2k")
        ('runs/micro/llama-2k', ('finetune', 'merge', 'evaluate'))
    """

    def __init__(self, study: Study, root: str | Path | None = None):
        self.study = study
        self.root = Path(root) if root else default_root()
        self.folder = self.root / study.name

    def arm_folder(self, arm: str) -> Path:
        """The folder of one arm (which need not exist yet)."""
        return self.folder / self.study[arm].name

    @property
    def figures(self) -> Path:
        """Where the study's pictures are written."""
        return self.folder / "figures"

    def data_folder(self) -> Path | None:
        """Local folder of benchmarks and rows; None when they come from the hub."""
        if self.study.data != "world":
            return self.local_data
        folder = self.folder / "data"
        if not folder.exists():
            with atomic_path(folder) as temporary:
                temporary.mkdir()
                write_data(temporary)
        return folder

    def adapter_folder(self, arm: str) -> Path:
        """Where the adapter of an arm lies: its own, or that of the arm it takes it from."""
        return self.arm_folder(self.study[arm].adapter_from or arm) / "adapter"

    def model_path(self, arm: str) -> str:
        """What is evaluated: the merged folder, or the checkpoint itself."""
        config = self.study[arm]
        if config.writes_weights:
            return str(self.arm_folder(arm) / "merged")
        return resolve_name(config.model.name)

    def record(self, arm: str) -> dict[str, Any]:
        """The record of one arm; a new one when nothing is done yet."""
        config = self.study[arm]
        if self._record_path(arm).exists():
            # compared_with depends on which arms were asked for, then and now
            asked = {"label": config.label, "compared_with": config.compared_with}
            return self._stored(arm) | asked
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

    def _stored(self, arm: str) -> dict[str, Any]:
        """The record of an arm as it lies there, in today's schema."""
        path, other = self._record_path(arm), self.study[arm].adapter_from
        source = self._record_path(other) if other else None
        log = self.arm_folder(arm) / "log.jsonl"
        try:
            return upgrade(
                read_json(path),
                read_json(source) if source and source.exists() else None,
                read_jsonl(log) if log.exists() else (),
            )
        except SchemaError as error:
            raise SchemaError(f"{path}: {error}") from None

    def fail(self, arm: str, reason: str) -> None:
        """Leave the reason why an arm could not be finished in its record."""
        write_json(self._record_path(arm), self.record(arm) | {"failed": reason})

    def records(self) -> list[dict[str, Any]]:
        """The records that exist, in the order of the study's arms."""
        return [self.record(a.name) for a in self.study.arms if self._record_path(a.name).exists()]

    def logs(self) -> dict[str, list[dict[str, Any]]]:
        """arm -> rows of its loss log, for the arms that were trained."""
        paths = {a.name: self.arm_folder(a.name) / "log.jsonl" for a in self.study.arms}
        return {name: read_jsonl(path) for name, path in paths.items() if path.exists()}

    def _record_path(self, arm: str) -> Path:
        return self.arm_folder(arm) / "record.json"

    def settings(self, arm: str, stage: str) -> dict[str, Any]:
        """The fields that a stage reads, and the key of the stage it stands on."""
        config = self.study[arm]
        whole = to_dict(config)
        if stage == "finetune":
            read = {k: whole[k] for k in ("model", "adapter", "data", "train", "seed")}
            read["data"] = {k: v for k, v in whole["data"].items() if v != LATER.get(k, ...)}
            read["rows"] = self._rows_read(config)
        elif stage == "merge":
            read = {k: whole[k] for k in ("model", "merge", "quantise")}
            if config.adapter:
                source = config.adapter_from or arm
                read["adapter"] = sha256(self.settings(source, "finetune"))
        else:
            read = {"evaluate": whole["evaluate"], "model": whole["model"]}
            read["documents"] = self._documents_read(config)
            if config.writes_weights:
                read["weights"] = sha256(self.settings(arm, "merge"))
        return read

    @property
    def local_data(self) -> Path | None:
        """The user's folder of benchmarks and rows; None for the hub and for a made-up world."""
        return Path(self.study.data) if self.study.data not in ("hub", "world") else None

    def _rows_read(self, config: Arm) -> str:
        in_world = self.study.data == "world" and not config.data.path
        if in_world and {*config.data.names} <= {*WORLD}:
            return "world"
        return fingerprint(config.data, self.local_data)

    def _documents_read(self, config: Arm) -> str:
        if self.local_data is None:
            return self.study.data
        tasks = [task for task in config.evaluate.tasks if task.source]
        return file_sha256(*(f for t in tasks for f in check_files(t, self.local_data).values()))

    def stages(self, arm: str) -> tuple[str, ...]:
        """The stages that an arm goes through, in order."""
        config = self.study[arm]
        return (
            *(("finetune",) if config.trains else ()),
            *(("merge",) if config.writes_weights else ()),
            "evaluate",
        )

    def done(self, arm: str, stage: str) -> bool:
        """Whether a stage is done with these settings.

        Raises:
            SettingsError: it was done with others; names what differs and the ways out.
        """
        stored = self.record(arm)["stages"].get(stage)
        if stored is None:
            return False
        asked = self.settings(arm, stage)
        if stored["settings"] != asked:
            what = "; ".join(_differences(stored["settings"], asked))
            raise SettingsError(
                f"{self.arm_folder(arm)} was made by other settings ({stage}: {what}). "
                f"Choose another --runs folder, or delete {self.arm_folder(arm)}"
            )
        return stored["status"] == "done"

    def check(self) -> None:
        """Refuse, before anything is written, a folder that other settings made."""
        for arm in self.study.arms:
            for stage in self.stages(arm.name):
                self.done(arm.name, stage)

    def stage(self, arm: str, stage: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Run `work` once: skip it when done, record its outcome and its seconds.

        Returns:
            The stage's part of the record.
        """
        if self.done(arm, stage):
            progress.say(f"{stage} {arm}: already done, skipped")
            return self.record(arm)["stages"][stage]
        with progress.line(f"{stage} {arm}"):
            begin = time.perf_counter()
            self._store(arm, stage, {"status": "started"})
            outcome = work()
            seconds = round(time.perf_counter() - begin, 3)
            return self._store(arm, stage, {"status": "done", "seconds": seconds, **outcome})

    def _store(self, arm: str, stage: str, entry: dict[str, Any]) -> dict[str, Any]:
        record = self.record(arm)
        entry = {"settings": self.settings(arm, stage), **entry}
        record.pop("failed", None)
        record["environment"] = environment()
        record["stages"][stage] = entry
        write_json(self._record_path(arm), record)
        return entry


def _differences(old: Any, new: Any, prefix: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [*old, *(key for key in new if key not in old)]
        found = [
            _differences(old.get(key), new.get(key), f"{prefix}.{key}" if prefix else key)
            for key in keys
            if old.get(key) != new.get(key)
        ]
        return [line for lines in found for line in lines]
    return [f"{prefix} was {_short(old)}, now {_short(new)}"]


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def in_clean_process(stage: Callable[[Run, str], Any], run: Run, arm: str) -> None:
    """Run one stage in a new Python: Unsloth changes transformers for the whole process.

    Raises:
        RuntimeError: the stage failed there; its output was shown.
    """
    code = "import pickle, sys; stage, run, arm = pickle.load(sys.stdin.buffer); stage(run, arm)"
    work = pickle.dumps((stage, run, arm))
    if subprocess.run([sys.executable, "-c", code], input=work).returncode:
        raise RuntimeError(f"{stage.__name__} {arm} failed in its own process; see above")

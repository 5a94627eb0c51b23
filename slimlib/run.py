"""Doing each stage of a run once, by one process at a time.

A stage that is not done, or whose content or output is no longer what it was, is made again, which
is said; `slimlib.standing` tells which, `slimlib.folder` where all of it lies.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from slimlib.common import locks, progress, record_file
from slimlib.common.files import clear_leftovers, on_drive, remove
from slimlib.common.hardware import environment
from slimlib.data.micro.kept import keep_world
from slimlib.folder import CHECKPOINTS, STAGES
from slimlib.model.opened import model_files
from slimlib.standing import Standing, State

AGAIN = {"finetune": "trains", "merge": "merges", "evaluate": "evaluates"}


class Run(Standing):
    """The folder of one study.

    Args:
        study: the study whose arms are run.
        root: parent folder; default `default_root()`.

    Example:
        >>> run = slimlib.Run(slimlib.get_study("micro"), root="runs")
        >>> run.arm_folder("llama-2k").as_posix(), run.stages("llama-2k")
        ('runs/micro/llama-2k', ('finetune', 'merge', 'evaluate'))
    """

    def data_folder(self) -> Path | None:
        """Local folder of benchmarks and rows; None when they come from the hub."""
        if self.study.data != "world":
            return self.local_data
        return keep_world(self.folder / "data", self.lock_path("data"), self.hashes)

    def fail(self, arm: str, reason: str) -> None:
        """Leave the reason why an arm could not be finished in its record."""
        with self._writing(arm, f"record {arm}"):
            self._write(arm, self.record(arm) | {"failed": reason})

    def _mend_record(self, arm: str) -> None:
        path = self._record_path(arm)
        if record_file.needs_mending(path):
            with self._writing(arm, f"record {arm}"):
                record_file.mend(path)

    def check(self) -> None:
        """Refuse, before anything is written, a folder with trainings by other settings."""
        for arm in self.study.arms:
            for stage in self.stages(arm.name):
                self.done(arm.name, stage)

    def stage(self, arm: str, stage: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Run `work` once: skip it when done, record its outcome and its seconds.

        Another process that works at the arm is waited for.

        Returns:
            The stage's part of the record.
        """
        self._mend_record(arm)
        if not self.done(arm, stage):
            with self._writing(arm, f"{stage} {arm}"):
                state = self.state(arm, stage)  # another process may have done it
                if not state.done:
                    return self._do(arm, stage, state, work)
        progress.say(f"{stage} {arm}: already done, skipped")
        self._adopt(arm, stage)
        self._tidy(arm, stage)
        return self.record(arm)["stages"][stage]

    def _do(
        self, arm: str, stage: str, state: State, work: Callable[[], dict[str, Any]]
    ) -> dict[str, Any]:
        if state.again:
            progress.say(f"{stage} {arm}: {state.why}: {AGAIN[stage]} again")
        clear_leftovers(self.arm_folder(arm), owned=True)
        with progress.line(f"{stage} {arm}"):
            begin = time.perf_counter()
            read = self._begin(arm, stage)
            outcome = work()
            seconds = round(time.perf_counter() - begin, 3)
            found = self.content(arm, stage)
            # made, or downloaded anew, by the stage that reads them
            content = {**found, **{k: v for k, v in read.items() if v and k != "documents"}}
            made = self._files_made(arm, stage)
            entry = {"content": content, "status": "done", "seconds": seconds, **outcome, **made}
            entry = self._store(arm, stage, entry)
        self._tidy(arm, stage)
        return entry

    def _begin(self, arm: str, stage: str) -> dict[str, str | None]:
        """Record that a stage is begun, and of what content; no other training is gone on with."""
        stored = self.record(arm)["stages"].get(stage)
        checkpoints = self.arm_folder(arm) / CHECKPOINTS
        if stage == "finetune" and checkpoints.exists():
            other = self._other(arm, stage, stored) if stored else "nobody knows whose they are"
            if other:
                progress.say(f"{stage} {arm}: {other}: its checkpoints are left, it begins anew")
                remove(checkpoints)
        content = self.content(arm, stage)
        self._store(arm, stage, {"content": content, "status": "started"})
        return content

    def _files_made(self, arm: str, stage: str) -> dict[str, Any]:
        """The hashes of what a stage made; a record's tasks have those of their results."""
        if stage == "evaluate":
            return {}
        return {"made": model_files(self.arm_folder(arm) / STAGES[stage], self.hashes)}

    def _store(self, arm: str, stage: str, entry: dict[str, Any]) -> dict[str, Any]:
        record = self.record(arm)
        entry = {"settings": self.settings(arm, stage), **entry}
        record.pop("failed", None)
        record["environment"] = environment()
        record["stages"][stage] = entry
        self._write(arm, record)
        return entry

    def _adopt(self, arm: str, stage: str) -> None:
        """Give an older record the content of what it stands on, as it is found now."""
        stored = self.record(arm)["stages"][stage]
        if "content" in stored:
            return
        with self._writing(arm, f"{stage} {arm}"):
            record = self.record(arm)
            stored = record["stages"][stage]
            stored["content"] = self.content(arm, stage)
            made = self._files_made(arm, stage)
            record["stages"][stage] = stored | (made if made.get("made") else {})
            self._write(arm, record)

    def _tidy(self, arm: str, stage: str) -> None:
        """Delete what a done stage needs no longer."""
        checkpoints = self.arm_folder(arm) / CHECKPOINTS
        if stage == "finetune" and checkpoints.exists():
            with self._writing(arm, f"{stage} {arm}"):  # who has just trained deletes them, too
                remove(checkpoints)
        if stage == "evaluate" and not self._keeps_merged(arm):
            self.drop(arm, "merge")

    def _keeps_merged(self, arm: str) -> bool:
        keep = self.study[arm].merge.keep_merged
        return not on_drive(self.folder) if keep is None else keep

    def drop(self, arm: str, *stages: str) -> None:
        """Delete what stages of an arm made; it is made again when it is needed."""
        folders = {stage: self.arm_folder(arm) / STAGES[stage] for stage in stages}
        if not any(folder.exists() for folder in folders.values()):
            return
        with self._writing(arm, f"drop {arm}"):
            record = self.record(arm)
            for stage in folders.keys() & record["stages"].keys():
                record["stages"][stage]["dropped"] = True
            self._write(arm, record)
            for folder in folders.values():
                remove(folder)

    def clear(self) -> None:
        """Remove what killed processes left in the folder."""
        if self.folder.is_dir():
            clear_leftovers(self.folder)
            locks.clear_holders(self.folder / "locks")


def in_clean_process(stage: Callable[[Run, str], Any], run: Run, arm: str) -> None:
    """Run one stage in a new Python: Unsloth changes transformers for the whole process.

    Raises:
        RuntimeError: the stage failed there; its output was shown.
    """
    code = "import pickle, sys; stage, run, arm = pickle.load(sys.stdin.buffer); stage(run, arm)"
    work = pickle.dumps((stage, run, arm))
    if subprocess.run([sys.executable, "-c", code], input=work).returncode:
        raise RuntimeError(f"{stage.__name__} {arm} failed in its own process; see above")

"""A run is a folder: records, and what is already done.

    runs/<study>/<arm>/  record.json  adapter/  merged/  eval/<task>/  log.jsonl
    runs/<study>/        hashes.json  locks/

A stage (finetune, merge, evaluate) is done when its record says so, by the same settings and from
the same content, and what it made is there and whole; else it is made again, which is said. Its
record has, beside its settings, `content`, what it read by hash, and `made`, what it wrote, file by
file. A training by other settings is never replaced: the folder is refused.

One process works at an arm at a time.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from slimlib.common import locks, progress, record_file
from slimlib.common.content import Hashes, differing, identity_of, in_short
from slimlib.common.files import clear_leftovers, file_sha256, read_jsonl, remove, sha256
from slimlib.common.hardware import environment
from slimlib.common.record_file import RECORD
from slimlib.common.schema import SCHEMA, SchemaError, upgrade
from slimlib.config import Arm, Study, to_dict
from slimlib.data.micro.kept import identity_of_world, keep_world
from slimlib.data.sources import WORLD, fingerprint, moving_rows
from slimlib.data.tasks import check_files
from slimlib.model.load import hub_revision, resolve_name
from slimlib.model.opened import model_files, weights_identity

# Fields that came later, as they were before: a run of that time keeps its key.
LATER = {
    "data": {"learn": "all", "held_out": 0.0, "system": "refuse"},
    "model": {"block_offset": 0, "error_scale": 1.0},
}
STAGES = {"finetune": "adapter", "merge": "merged", "evaluate": "eval"}  # and their folders
AGAIN = {"finetune": "trains", "merge": "merges", "evaluate": "evaluates"}
CHECKPOINTS = "checkpoints"  # folder of a training that is not done
# Settings that stand for content, and what they are of.
OF_CONTENT = {
    "rows": "rows",
    "documents": "documents",
    "adapter": "adapter's settings",
    "weights": "merged weights' settings",
}


class SettingsError(ValueError):
    """A run folder was made by other settings than the ones asked for."""


def default_root() -> Path:
    """SLIMLIB_RUNS, else ./runs; from within the notebooks' folder, the runs/ beside it."""
    if "SLIMLIB_RUNS" in os.environ:
        return Path(os.environ["SLIMLIB_RUNS"])
    in_notebooks = Path("01_setup.ipynb").exists()
    return Path("../runs" if in_notebooks else "runs")


class State(NamedTuple):
    """Where a stage stands: done, not done, cut off, stale (of other content), or lost."""

    word: str
    why: str = ""  # it is stale or lost

    @property
    def done(self) -> bool:
        """Whether nothing is left to do."""
        return self.word == "done"

    @property
    def again(self) -> bool:
        """Whether it was done once, and has to be made again."""
        return self.word in ("stale", "lost")


DONE = State("done")


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
        self.hashes = Hashes(self.folder / "hashes.json")

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
        return keep_world(self.folder / "data", self.lock_path("data"), self.hashes)

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

    def fail(self, arm: str, reason: str) -> None:
        """Leave the reason why an arm could not be finished in its record."""
        with self._writing(arm, f"record {arm}"):
            self._write(arm, self.record(arm) | {"failed": reason})

    def _write(self, arm: str, record: dict[str, Any]) -> None:
        record_file.save(self._record_path(arm), record)

    def _mend_record(self, arm: str) -> None:
        path = self._record_path(arm)
        if record_file.needs_mending(path):
            with self._writing(arm, f"record {arm}"):
                record_file.mend(path)

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

    def _record_path(self, arm: str) -> Path:
        return self.arm_folder(arm) / RECORD

    def settings(self, arm: str, stage: str) -> dict[str, Any]:
        """The fields that a stage reads, and the key of the stage it stands on."""
        config = self.study[arm]
        whole = to_dict(config)
        for section, later in LATER.items():
            if values := whole[section]:
                whole[section] = {k: v for k, v in values.items() if v != later.get(k, ...)}
        if stage == "finetune":
            read = {k: whole[k] for k in ("model", "adapter", "data", "train", "seed")}
            read["rows"] = self._rows_read(config)
        elif stage == "merge":
            read = {k: whole[k] for k in ("model", "merge", "quantise")}
            del read["merge"]["keep_merged"]  # which changes no weight
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

    # ---- what is done ----

    def content(self, arm: str, stage: str) -> dict[str, str | None]:
        """What a stage reads, by content; None: nobody knows, as while the hub is out of reach."""
        config = self.study[arm]
        world = identity_of_world(self.folder / "data") if self.study.data == "world" else None
        if stage == "evaluate":
            weights = "merged weights" if config.writes_weights else "model"
            made = self._made(arm, "merge") if config.writes_weights else self._model(config)
            return {weights: made, "documents": world}
        read = {"base model": self._model(config)}
        quantiser, _, folder = config.model.quantiser.partition(":")
        if quantiser == "gptq":
            read["quantised model"] = weights_identity(folder, None, self.hashes)
        if stage == "finetune":
            rows = moving_rows(config.data)
            read["rows"] = sha256(rows) if rows else world
        elif config.adapter:
            read["adapter"] = self._made(config.adapter_from or arm, "finetune")
        return read

    def _model(self, config: Arm) -> str | None:
        try:
            name = resolve_name(config.model.name)
            return weights_identity(name, hub_revision(config.model), self.hashes)
        except OSError:  # of a hub that does not answer: what stands on it may be whole
            return None

    def _made(self, arm: str, stage: str) -> str | None:
        """What a stage of an arm made, by its record."""
        made = self.record(arm)["stages"].get(stage, {}).get("made")
        return identity_of(made) if made else None

    def state(self, arm: str, stage: str) -> State:
        """Where a stage stands, by its settings, by what it read and by what it made.

        Raises:
            SettingsError: a training by other settings lies there.
        """
        stored = self.record(arm)["stages"].get(stage)
        if stored is None:
            return State("not done")
        other = self._other(arm, stage, stored)
        if stored["status"] != "done":
            return State("cut off")
        if other:
            return State("stale", other)
        lost = self._lost(arm, stage, stored)
        return State("lost", lost) if lost else DONE

    def _other(self, arm: str, stage: str, stored: dict[str, Any]) -> str:
        """What a stage was made of that is other now, in words; "" for nothing."""
        asked, was = self.settings(arm, stage), stored["settings"]
        changed = [key for key in asked if was.get(key) != asked[key]]
        own = [key for key in changed if not (key in OF_CONTENT and isinstance(asked[key], str))]
        said = "; ".join(_differences(*({key: s.get(key) for key in own} for s in (was, asked))))
        if own and stage == "finetune" and self._holds_training(arm, stored):
            raise SettingsError(
                f"{self.arm_folder(arm)} was made by other settings ({stage}: {said}), and its "
                "training is kept: choose another --runs folder"
            )
        before, now = stored.get("content", {}), self.content(arm, stage)
        moved = [key for key in now if None not in (before.get(key), now[key])]
        names = {key: None for key in moved if before[key] != now[key]}
        names |= {OF_CONTENT[key]: None for key in changed if key not in own}
        return "; ".join([*([said] if own else []), *(f"{name} changed" for name in names)])

    def _holds_training(self, arm: str, stored: dict[str, Any]) -> bool:
        begun = (self.arm_folder(arm) / CHECKPOINTS).glob("checkpoint-*")
        return stored["status"] == "done" or any(begun)

    def _lost(self, arm: str, stage: str, stored: dict[str, Any]) -> str:
        """What is missing or damaged of what a stage made; "" for nothing."""
        if stage == "evaluate":
            return self._lost_results(arm, stored)
        made, folder = stored.get("made"), self.arm_folder(arm) / STAGES[stage]
        if made == {}:
            return ""
        if folder.is_dir():
            found = model_files(folder, self.hashes) if made else {}
            lost = differing(found, made or {}, more=stage == "merge")
            return f"{folder.name}/{lost}" if lost else ""
        dropped = stored.get("dropped", False)
        if (dropped or made is None) and not self._needed(arm, stage):
            return ""  # older records do not say what was made
        return f"{folder.name}/ was dropped" if dropped else f"{folder.name}/ is missing"

    def _needed(self, arm: str, stage: str) -> bool:
        """Whether something that stands on a stage is not done."""
        if stage == "merge":
            return not self.done(arm, "evaluate")
        takers = [a.name for a in self.study.arms if arm in (a.name, a.adapter_from)]
        return not all(self.done(taker, "merge") for taker in takers)

    def _lost_results(self, arm: str, stored: dict[str, Any]) -> str:
        wrong = []
        for name, task in stored.get("tasks", {}).items():
            folder, wanted = self.arm_folder(arm) / "eval" / name, task.get("files", {})
            there = [folder / file for file in wanted if (folder / file).is_file()]
            lost = differing(self.hashes.files(folder, there), wanted)
            wrong += [f"eval/{name}/{lost}"] if lost else []
        return in_short(wrong)

    def done(self, arm: str, stage: str) -> bool:
        """Whether a stage is done with these settings, from this content, and is whole.

        Raises:
            SettingsError: a training by other settings lies there; says the way out.
        """
        return self.state(arm, stage).done

    def check(self) -> None:
        """Refuse, before anything is written, a folder with trainings by other settings."""
        for arm in self.study.arms:
            for stage in self.stages(arm.name):
                self.done(arm.name, stage)

    # ---- doing ----

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
            found = self.content(arm, stage).items()  # the world is made by the first that reads it
            content = {key: now if read[key] is None else read[key] for key, now in found}
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
        if stage == "finetune":
            remove(self.arm_folder(arm) / CHECKPOINTS)
        if stage == "evaluate" and not self._keeps_merged(arm):
            self.drop(arm, "merge")

    def _keeps_merged(self, arm: str) -> bool:
        keep = self.study[arm].merge.keep_merged
        return not locks.on_drive(self.folder) if keep is None else keep

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

    def _writing(self, arm: str, what: str) -> contextlib.AbstractContextManager[None]:
        """Hold the lock of an arm."""
        return locks.writing(self.lock_path(arm), what)

    def lock_path(self, name: str) -> Path:
        """The lock of an arm, or of "data"."""
        return self.folder / "locks" / f"{name}.lock"


def _differences(old: Any, new: Any, prefix: str = "") -> list[str]:
    old, new = _by_name(old), _by_name(new)
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [*old, *(key for key in new if key not in old)]
        found = [
            _differences(old.get(key), new.get(key), f"{prefix}.{key}" if prefix else key)
            for key in keys
            if old.get(key) != new.get(key)
        ]
        return [line for lines in found for line in lines]
    return [f"{prefix} was {_short(old)}, now {_short(new)}"]


def _by_name(value: Any) -> Any:
    """A list of what has names, as tasks have, by these."""
    named = isinstance(value, list) and all(isinstance(v, dict) and "name" in v for v in value)
    return {v["name"]: v for v in value} if named and value else value


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

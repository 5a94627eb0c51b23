"""Where a stage stands: what it reads, by settings and content, and whether what it made is whole.

A stage (finetune, merge, evaluate) is done when its record says so, by the same settings and from
the same content, and what it made is there and whole. Its record has, beside its settings,
`content`, what it read by hash, and `made`, what it wrote, file by file. A training by other
settings is never replaced: the folder is refused.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from slimlib.common.content import differing, identity_of, in_short
from slimlib.common.files import file_sha256, sha256
from slimlib.config import Arm, DataConfig, to_dict
from slimlib.data.micro.kept import identity_of_world
from slimlib.data.sources import WORLD, fingerprint, moving_rows
from slimlib.data.tasks import check_files, hub_documents
from slimlib.folder import CHECKPOINTS, STAGES, Folder
from slimlib.model.load import hub_revision, resolve_name
from slimlib.model.opened import model_files, weights_identity

# Fields that came later, with what was done before there was a choice: a run of that time keeps
# its key.
LATER = {
    "model": {"block_offset": 0, "error_scale": 1.0, "keep": []},
    "adapter": {"rslora": False},
    "data": {
        **{"learn": "all", "held_out": 0.0, "system": "refuse"},
        **{"replay": 0.0, "replay_from": None},
    },
    "train": {
        **{"kl_weight": 0.0, "padding_free": False},
        **{"probe_steps": 0, "probe_limit": 50, "probes": []},
    },
    "merge": {"scale": 1.0},
}
# Settings that stand for content, and what they are of.
OF_CONTENT = {
    "rows": "rows",
    "documents": "documents",
    "adapter": "adapter's settings",
    "weights": "merged weights' settings",
}


class SettingsError(ValueError):
    """A run folder was made by other settings than the ones asked for."""


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


class Standing(Folder):
    """The folder of one study, and where each stage of its arms stands."""

    def settings(self, arm: str, stage: str) -> dict[str, Any]:
        """The fields that a stage reads, and the key of the stage it stands on."""
        config = self.study[arm]
        whole = {part: _as_before(part, values) for part, values in to_dict(config).items()}
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

    def _rows_read(self, config: Arm) -> str:
        return "; ".join(self._source(data) for data in config.data.sets)

    def _source(self, data: DataConfig) -> str:
        in_world = self.study.data == "world" and not data.path
        if in_world and {*data.names} <= {*WORLD}:
            return "world"
        return fingerprint(data, self.local_data)

    def _documents_read(self, config: Arm) -> str:
        if self.local_data is None:
            return self.study.data
        tasks = [task for task in config.evaluate.tasks if task.source]
        return file_sha256(*(f for t in tasks for f in check_files(t, self.local_data).values()))

    def content(self, arm: str, stage: str) -> dict[str, str | None]:
        """What a stage reads, by content; None: nobody knows, as while the hub is out of reach."""
        config = self.study[arm]
        world = identity_of_world(self.folder / "data") if self.study.data == "world" else None
        if stage == "evaluate":
            weights = "merged weights" if config.writes_weights else "model"
            made = self._made(arm, "merge") if config.writes_weights else self._model(config)
            return {weights: made, "documents": world or self._hub_documents(config)}
        read = {"base model": self._model(config)}
        quantiser, _, folder = config.model.quantiser.partition(":")
        if quantiser == "gptq":
            read["quantised model"] = weights_identity(folder, None, self.hashes)
        if stage == "finetune":
            rows = {k: v for data in config.data.sets for k, v in moving_rows(data).items()}
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

    def _hub_documents(self, config: Arm) -> str | None:
        """The commits of the data sets that tasks of the hub were last read from, as one hash."""
        commits = {t.name: hub_documents(t) for t in config.evaluate.tasks if not t.source}
        return sha256(commits) if any(commits.values()) else None

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

    def done(self, arm: str, stage: str) -> bool:
        """Whether a stage is done with these settings, from this content, and is whole.

        Raises:
            SettingsError: a training by other settings lies there; says the way out.
        """
        return self.state(arm, stage).done

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


def _as_before(part: str, values: Any) -> Any:
    """A part of a config without the later fields that say what was done before them."""
    later = LATER.get(part)
    if not later or values is None:
        return values
    return {k: v for k, v in values.items() if v != later.get(k, ...)}


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

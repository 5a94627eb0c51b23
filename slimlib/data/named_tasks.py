"""Any task that somebody names: lm-eval's tasks, groups and tags, a YAML file, one's own questions.

A name that has local files (`tasks.SOURCES`) reads those where a data folder is given.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slimlib.common import progress
from slimlib.common.checked import did_you_mean
from slimlib.common.content import Hashes
from slimlib.common.files import file_sha256
from slimlib.common.hub import HubError, ask
from slimlib.config import Task
from slimlib.data.micro.kept import keep_world
from slimlib.data.own_task import ENDS, own_task
from slimlib.data.tasks import SOURCES, check_files, quiet_lm_eval, stock_yaml, task_yaml
from slimlib.studies.slimming import MICRO_TASKS

YAML = (".yaml", ".yml")
MICRO = {task.name: task.source for task in MICRO_TASKS}


@dataclass(frozen=True)
class Unit:
    """What was named and gets one verdict: a task, or a group of them."""

    name: str
    built: Any  # lm-eval's Task or Group
    sizes: dict[str, int]  # documents of each task in it
    identity: str  # hash of the local files, or the name alone

    @property
    def tasks(self) -> list[Any]:
        """lm-eval's tasks in it."""
        return _inside(self.built)

    @property
    def documents(self) -> int:
        """Documents of all its tasks."""
        return sum(self.sizes.values())


def load_units(
    names: Sequence[str], data: Path | None, world: Path, shots: int | None = None
) -> list[Unit]:
    """Build what is named, with its documents.

    Args:
        names: tasks, groups and tags of lm-eval, the micro world's tasks, or paths that end with
            .yaml (a task of lm-eval) or .jsonl (`own_task`).
        data: folder of local files that replace the hub for the tasks in SOURCES.
        world: folder in which the micro world's documents are made where they are asked for.
        shots: solved examples that shall stand before each question; None: each task's own.

    Raises:
        ValueError: nothing is named, something twice, an unknown name, or a file that is missing or
            broken; the hub does not answer.
    """
    names = list(dict.fromkeys(names))
    if not names:
        raise ValueError("no task is named: give lm-eval's names, a .yaml or a .jsonl file")
    with progress.no_other_bars():
        units = [unit for name in names for unit in _units(name, data, world, shots)]
    seen: dict[str, str] = {}
    for unit in units:
        for task in unit.sizes:
            if task in seen:
                raise ValueError(f"task {task} is in {seen[task]} and in {unit.name}: name one")
            seen[task] = unit.name
        if shots and any(task.get_config("num_fewshot") == 0 for task in unit.tasks):
            progress.say(f"{unit.name}: asked without examples, as its own settings fix it")
    return units


def _units(name: str, data: Path | None, world: Path, shots: int | None) -> list[Unit]:
    from lm_eval.tasks import TaskManager

    quiet_lm_eval()
    with tempfile.TemporaryDirectory() as temporary:
        spec, identity = _spec(name, data, world, Path(temporary), shots)
        if spec is None:
            progress.say(f"{name}: looked up in lm-eval's whole list of tasks")
            manager = TaskManager()
            known = [*manager.all_tasks, *manager.all_groups, *manager.all_tags]
            if name not in known:
                near = did_you_mean(name, known)
                raise ValueError(f"lm-eval has no task, group or tag {name!r}{near}")
            spec = name
        else:
            group = _group_in(name) if name.endswith(YAML) else None
            spec = group or spec
            around = str(Path(name).parent) if group else None
            manager = TaskManager(include_path=around, include_defaults=group is not None)
        try:
            loaded = ask(lambda: manager.load([spec]), name, kind="dataset")
        except HubError as error:
            raise type(error)(error.problem, f"{error.way_out}; {_without_hub(name)}") from None
        except (KeyError, TypeError, AttributeError) as error:  # what lm-eval raises of a bad file
            raise ValueError(f"{name}: lm-eval cannot build it ({error})") from None
    tasks, groups = loaded["tasks"], loaded["groups"]
    inner = {child for children in loaded["group_map"].values() for child in children}
    tops = [group for key, group in groups.items() if key not in inner] or list(tasks.values())
    return [_unit(top, identity) for top in tops]


def _without_hub(name: str) -> str:
    """The way to ask a task, or something like it, of a machine without the hub."""
    if name not in SOURCES:
        return (
            "or take tasks that are read from a folder, --panel paper --data FOLDER, or questions "
            "of your own, in a .jsonl file: --tasks FILE"
        )
    files = SOURCES[name]["files"].values()
    return f"or read it from a folder: --data FOLDER, with {' and '.join(files)} in it"


def _unit(built: Any, identity: str) -> Unit:
    sizes = {task.task_name: len(task.eval_docs) for task in _inside(built)}
    return Unit(getattr(built, "name", None) or built.task_name, built, sizes, identity)


def _inside(built: Any) -> list[Any]:
    return built.get_all_tasks() if hasattr(built, "get_all_tasks") else [built]


def _spec(
    name: str, data: Path | None, world: Path, temporary: Path, shots: int | None
) -> tuple[str | dict[str, Any] | None, str]:
    """What lm-eval is given for a name, and what tells its documents; None: look it up."""
    if name.endswith(ENDS):
        config = own_task(Path(name), shots)
        return config, file_sha256(Path(name))
    if name.endswith(YAML):
        if not os.path.isfile(name):
            raise ValueError(f"task file {name} does not exist")
        return str(Path(name).resolve()), file_sha256(Path(name))
    if name in MICRO:
        data, source = _world(world), MICRO[name]
    else:
        source = name if data and name in SOURCES else None
    if source:
        task = Task(name, role=name, num_fewshot=0, batch_size=1, source=source)
        files = sorted(check_files(task, data).values())
        return str(task_yaml(task, data, temporary)), file_sha256(*map(Path, files))
    try:
        return str(stock_yaml(name)), name
    except ValueError:
        return None, name


def _group_in(path: str) -> str | None:
    """The name of the group that a YAML file is of, whose tasks may lie anywhere; None: a task."""
    found = re.search(r"^group:\s*(\S+)", Path(path).read_text(encoding="utf-8"), re.M)
    return found[1].strip("\"'") if found else None


def _world(folder: Path) -> Path:
    return keep_world(folder, folder.with_name(f"{folder.name}.lock"), Hashes())

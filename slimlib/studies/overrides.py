"""KEY=VALUE: change a study's fields by their dotted names.

`override(study, {"adapter.r": "8"})` is what `get_study(**overrides)` and --set KEY=VALUE do. A
value is parsed and checked by its field (`slimlib.config`); here is what a field cannot know: which
arms a key reaches, short keys, and the keys that speak of a whole study.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

from slimlib.common.checked import ConfigError, allowed, did_you_mean, fields_of, shown, typed
from slimlib.common.parse import parse
from slimlib.config import (
    ADAPTERS,
    Arm,
    DataConfig,
    EvalConfig,
    MergeConfig,
    ModelConfig,
    Study,
    Task,
    TrainConfig,
    each_arm,
)
from slimlib.studies.slimming import HYPERPARAMETERS
from slimlib.studies.whole import WHOLE

SHORT_KEYS = {
    "dataset": "data.dataset",
    "r": "adapter.r",
    "n": "data.n",
    "evaluator": "evaluate.evaluator",
}
METHOD = "adapter.method"
TASK_KEYS = ("limit", "batch_size")  # of every task, or of one, as hellaswag.limit
SHARED = ("model", "adapter", "data", "train")  # sections that made the adapter which an arm takes
SECTIONS: dict[str, tuple[type, ...]] = {
    "model": (ModelConfig,),
    "adapter": tuple(ADAPTERS.values()),
    "data": (DataConfig,),
    "train": (TrainConfig,),
    "merge": (MergeConfig,),
    "evaluate": (EvalConfig,),
}


def override(study: Study, values: Mapping[str, Any]) -> Study:
    """Set fields of every arm that has them, e.g. `adapter.r=16` or `llama-2k.data.n=500`.

    The order of different keys is nothing. What speaks of the whole study comes first: `model` puts
    the main arms on another checkpoint and drops the arms that stand on a third one;
    `hyperparameters` takes a preset of HYPERPARAMETERS for llama-2k, else for all; `arms` and
    `tasks` keep some (comma-separated; an arm without a kept task goes too). Then the method, then
    all other fields at once; `limit` and `batch_size` go to every task, `hellaswag.limit` to one,
    whatever all get.

    Raises:
        ValueError: an unknown key, or a value that its field refuses, in one line that names the
            arm, the key, the value and what is allowed.
    """
    names = [arm.name for arm in study.arms]
    tasks = {task.name for arm in study.arms for task in arm.evaluate.tasks}
    wanted = [Wanted(key, *_split(key, names, tasks), value) for key, value in values.items()]
    for field, change in WHOLE.items():
        for item in wanted:
            study = change(study, item.value) if item.field == field else study
    wanted = [item for item in wanted if item.field not in WHOLE]
    for item in wanted:  # before the fields that the method has
        study = _set(study, [item]) if item.field == METHOD else study
    return _set(study, [item for item in wanted if item.field != METHOD])


class Wanted(NamedTuple):
    """One KEY=VALUE."""

    key: str  # as given
    arm: str | None  # the only one that is meant
    field: str  # the whole key, without the arm
    value: Any


def _split(key: str, arms: list[str], tasks: Container[str]) -> tuple[str | None, str]:
    """The arm that a key names, if it does, and its field."""
    head, _, rest = key.partition(".")
    if head in tasks and rest in TASK_KEYS:
        return None, key
    only = head if head in arms else None
    field = rest if only else key
    field = SHORT_KEYS.get(field, field)
    known = settable_keys()
    if field not in known:
        others = [f"{arm}.{rest}" for arm in arms] if rest in known else []
        near = did_you_mean(key if others else field, [*others, *known])
        raise ValueError(f"unknown key '{shown(key)}'{near}; `slimlib keys` lists all")
    if only and field in (*WHOLE, *TASK_KEYS):
        hint = f"{only}.model.name is one arm's" if field == "model" else "it is of all arms"
        raise ValueError(f"key {key!r}: give {field} without an arm; {hint}")
    return only, field


def _set(study: Study, wanted: list[Wanted]) -> Study:
    """The study with fields set; each section of an arm is built once, with all its new values."""
    by_arm: dict[str, list[Wanted]] = {arm.name: [] for arm in study.arms}
    for item in wanted:
        for name in _reached(study, item):
            by_arm[name].append(item)
    return each_arm(study, lambda arm: _set_arm(arm, by_arm[arm.name]))


def _reached(study: Study, item: Wanted) -> list[str]:
    """The arms that a key goes to.

    Raises:
        ValueError: there is none.
    """
    # an arm that takes another's adapter takes the settings that made it, too
    shared = item.field.partition(".")[0] in SHARED
    names = [arm.adapter_from or arm.name if shared else arm.name for arm in study.arms]
    arms = [
        arm
        for arm, name in zip(study.arms, names, strict=True)
        if item.arm in (None, arm.name, name)
    ]
    found = [arm.name for arm in arms if _has(arm, item.field)]
    if not found:
        section, _, name = item.field.rpartition(".")
        adapters = [arm.adapter for arm in arms if arm.adapter and section == "adapter"]
        why = f": {adapters[0].why_not(name)}" if adapters else ""
        raise ValueError(f"no arm of study {study.name!r} has a field {item.key!r}{why}")
    return found


def _has(arm: Arm, field: str) -> bool:
    section, _, name = field.rpartition(".")
    if not section or name in TASK_KEYS:
        return not section or section in [task.name for task in arm.evaluate.tasks]
    return name in fields_of(type(getattr(arm, section)))


def _set_arm(arm: Arm, wanted: list[Wanted]) -> Arm:
    sections: dict[str, dict[str, Any]] = {}
    for item in wanted:
        section, _, name = item.field.rpartition(".")
        if name in TASK_KEYS:
            section, name = "evaluate", item.field
        sections.setdefault(section, {})[name] = item.value
    try:
        changes = sections.pop("", {})
        if "seed" in changes:
            changes["seed"] = parse(Arm, "seed", changes["seed"])
        for section, values in sections.items():
            changes[section] = _changed(getattr(arm, section), section, values)
        return replace(arm, **changes) if changes else arm
    except ConfigError as error:
        raise error.inside("", f"arm {arm.name}") from None


def _changed(held: Any, section: str, values: Mapping[str, Any]) -> Any:
    """A section of an arm with new values; limit and batch_size are of its tasks."""
    asked = {key: field for key in values if (field := key.rpartition(".")[2]) in TASK_KEYS}
    of_tasks = {key: parse(Task, field, values[key]) for key, field in asked.items()}
    try:
        if "method" in values:
            return held.as_method(values["method"])
        own = {key: parse(type(held), key, values[key]) for key in values if key not in asked}
        if of_tasks:
            own["tasks"] = tuple(_changed_task(task, of_tasks) for task in held.tasks)
        return replace(held, **own)
    except ConfigError as error:
        raise error.inside(section) from None


def _changed_task(task: Task, values: Mapping[str, Any]) -> Task:
    """A task with what all get, and over that what it gets alone."""
    of_all = {key: values[key] for key in TASK_KEYS if key in values}
    alone = {key: values[name] for key in TASK_KEYS if (name := f"{task.name}.{key}") in values}
    return replace(task, **of_all | alone)


# ----------------------------------------------------------------------------------------- keys


class Key(NamedTuple):
    """One key of --set, for a table."""

    name: str
    allowed: str  # type and limits, in words
    default: str  # "" where a study always says it
    about: str  # unit or source


def keys(pattern: str = "") -> list[Key]:
    """The keys that `override` takes, with what they allow.

    Args:
        pattern: a part of the name or of the description, such as "adapter" or "tokens".
    """
    text = pattern.lower()
    return [key for key in _keys() if text in key.name.lower() or text in key.about.lower()]


def settable_keys() -> list[str]:
    """Every dotted key that `override` accepts."""
    return [key.name for key in _keys()]


@cache
def _keys() -> tuple[Key, ...]:
    presets = " or ".join(HYPERPARAMETERS)
    found = [
        Key("arms", "names of arms, as llama-base,llama-2k", "", "the arms that are kept"),
        Key("tasks", "names of tasks, as hellaswag,gsm8k", "", "the tasks that are kept"),
        Key("model", "a hub id or folder", "", "puts the main arms on another checkpoint"),
        Key("hyperparameters", presets, "as-run", "the author's, the paper's, paper B's"),
        _key("seed", Arm, "seed"),
        *(_key(name, Task, name) for name in TASK_KEYS),
    ]
    for section, classes in SECTIONS.items():
        owners: dict[str, type] = {}
        for cls in classes:
            owners |= {name: cls for name in fields_of(cls) if name not in owners}
        found += [_key(f"{section}.{n}", cls, n) for n, cls in owners.items() if n != "tasks"]
    by_name = {key.name: key for key in found}
    by_name[METHOD] = by_name[METHOD]._replace(
        allowed=" or ".join(ADAPTERS), about="starts from the method's defaults"
    )
    short = [by_name[full]._replace(name=s, about=f"as {full}") for s, full in SHORT_KEYS.items()]
    return (*by_name.values(), *short)


def _key(key: str, cls: type, name: str) -> Key:
    field = fields_of(cls)[name]
    default = "" if field.is_required() else typed(field.get_default(call_default_factory=True))
    return Key(key, allowed(field), default, field.description or "")

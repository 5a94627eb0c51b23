"""The compiled plan of an adapter: one entry for each module, from the config and the shapes alone.

Rules (rank, lambda or lambda1 and lambda2 by layer type, projection or depth) have no order: two
that give one module different values are an error. No weights and no torch are needed.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING

from slimlib.config import ADAPTERS, ATTENTION, EVERY_LINEAR, MLP, AdapterConfig, Rule
from slimlib.methods.definitions import METHODS, Entry

if TYPE_CHECKING:
    import pandas as pd

# How the parts of a layer are called; what is in neither is of neither type (LFM2's convolution).
LAYER_TYPES = {
    "attention": (*ATTENTION, "attn", "self_attn", "attention", "self_attention"),
    "mlp": (*MLP, "mlp", "feed_forward", "ffn", "fc1", "fc2", "block_sparse_moe"),
}
# They choose among experts, whose weights the adapter changes; all-linear leaves them out.
ROUTERS = ("gate", "router", "shared_expert_gate")
THIRDS = ("first_third", "middle_third", "last_third")  # of the decoder's layers
ENTRY_VALUES = {f.name for f in fields(Entry)}


class Plan(Mapping[str, Entry]):
    """Module path -> entry, in the model's order; prints as a table."""

    def __init__(self, entries: list[Entry]):
        self._entries = {entry.name: entry for entry in entries}

    def __getitem__(self, name: str) -> Entry:
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def parameters(self) -> int:
        """Numbers that are trained in all modules."""
        return sum(entry.parameters for entry in self.values())

    @property
    def saturated(self) -> list[str]:
        """Modules whose extra width adds no rank."""
        return [name for name, entry in self.items() if entry.saturated]

    def warning(self) -> str:
        """One line on the saturated modules; "" where there are none."""
        if not self.saturated:
            return ""
        entry = self[self.saturated[0]]
        return (
            f"{len(self.saturated)} of {len(self)} modules are wider than the rank they can reach, "
            f"such as {entry.name}: width {entry.width}, rank at most {entry.max_rank}"
        )

    def table(self) -> pd.DataFrame:
        """Module, shape, rank, values of the method, parameters and saturation of each entry."""
        import pandas as pd

        rows = []
        for entry in self.values():
            rows.append(
                {
                    "module": entry.name,
                    "shape": f"{entry.d_out} x {entry.d_in}",
                    **{name: getattr(entry, name) for name in ADAPTERS[entry.method].ruled},
                    "s": entry.scaling,
                    "width": entry.width,
                    "rank at most": entry.max_rank,
                    "parameters": entry.parameters,
                    "saturated": "yes" if entry.saturated else "",
                }
            )
        return pd.DataFrame(rows).set_index("module")

    def __repr__(self) -> str:
        lines = [self.table().to_string(), f"{self.parameters:,} parameters in {len(self)} modules"]
        return "\n".join([*lines, self.warning()]).rstrip()

    def _repr_html_(self) -> str:
        warning = f"<p>{self.warning()}</p>" if self.warning() else ""
        total = f"<p>{self.parameters:,} parameters in {len(self)} modules</p>"
        return self.table().to_html() + total + warning


def compile_plan(linears: Mapping[str, tuple[int, int]], config: AdapterConfig) -> Plan:
    """Give every target module its own entry.

    Args:
        linears: module path -> (d_in, d_out) of the linear modules, in the model's order.
        config: method, values and rules.

    Example:
        >>> linears = {"layers.0.self_attn.q_proj": (192, 192), "layers.0.mlp.up_proj": (192, 512)}
        >>> plan = slimlib.compile_plan(linears, slimlib.AdapterConfig(r=8))
        >>> [entry.parameters for entry in plan.values()]
        [3072, 5632]

    Raises:
        ValueError: no module is targeted; a rule that matches nothing or contradicts another;
            values that do not fit a module (named, with its shape).
    """
    targets = targeted(linears, config.target_modules)
    if not targets:
        check_names(linears, config.target_modules)
    layers = 1 + max((_layer(name) for name in linears), default=0)
    matches = [_matching(rule, targets, layers) for rule in config.rules]
    values = {f.name: getattr(config, f.name) for f in fields(config) if f.name in ENTRY_VALUES}
    entries = []
    for name in targets:
        rules = [r for r, found in zip(config.rules, matches, strict=True) if name in found]
        own = values | _ruled(name, rules)
        own["lora_alpha"] = config.alpha(own["r"])
        d_in, d_out = linears[name]
        entries.append(Entry(name=name, d_in=d_in, d_out=d_out, **own))
        METHODS[config.method].check(entries[-1])
    return Plan(entries)


def targeted(names: Iterable[str], target_modules: Iterable[str]) -> list[str]:
    """The module paths that target_modules names, as PEFT matches them, or every one.

    A name is the last part of a path, or more of its end: "mlp.c_proj" is GPT-2's second c_proj.
    """
    wanted = tuple(target_modules)
    if EVERY_LINEAR in wanted:
        return [name for name in names if _leaf(name) not in ROUTERS]
    return [name for name in names if f".{name}".endswith(tuple(f".{end}" for end in wanted))]


def kept(names: Iterable[str], keep: Iterable[str]) -> list[str]:
    """The module paths that stay un-quantised.

    Args:
        names: of all linear modules, in the model's order.
        keep: of `ModelConfig`: a layer type, a third of the layers, layers as 0-9, or the end of
            paths.

    Raises:
        ValueError: one that matches nothing, or all together leave nothing to quantise.
    """
    names = [*names]
    found: set[str] = set()
    for wanted in keep:
        some = _kept(names, wanted)
        if not some:
            there = ", ".join(dict.fromkeys(map(_leaf, names)))
            raise ValueError(f"model.keep={wanted} matches no linear layer; there are {there}")
        found.update(some)
    if found and len(found) == len(names):
        raise ValueError("model.keep leaves nothing to quantise: set model.load_in_4bit=false")
    return [name for name in names if name in found]


def _kept(names: list[str], wanted: str) -> list[str]:
    if wanted in LAYER_TYPES:
        return [name for name in names if _of_type(name, wanted)]
    if wanted in THIRDS or re.fullmatch(r"\d+(-\d+)?", wanted):
        depths = _depths(wanted, 1 + max(map(_layer, names), default=0))
        return [name for name in names if _layer(name) in depths]
    return targeted(names, [wanted])


def check_names(linears: Iterable[str], target_modules: Iterable[str]) -> None:
    """Refuse a name that matches nothing: what it was meant for would stay as it is, unsaid.

    Args:
        linears: paths of all the linear modules of a model.
        target_modules: of the adapter.

    Raises:
        ValueError: naming what matches nothing, and what there is.
    """
    names = [*linears]
    absent = [end for end in target_modules if not targeted(names, [end])]
    if absent:
        there = ", ".join(dict.fromkeys(map(_leaf, names)))
        raise ValueError(
            f"target_modules {', '.join(absent)}: no such linear layer inside the decoder; there "
            f"are {there}; or {EVERY_LINEAR}, which takes every one"
        )


def _ruled(name: str, rules: Iterable[Rule]) -> dict[str, int]:
    """What the rules give one module, which none may contradict."""
    found: dict[str, int] = {}
    for rule in rules:
        for key, value in rule.sets.items():
            if found.setdefault(key, value) != value:
                raise ValueError(
                    f"{name}: rules contradict each other, {key} is "
                    f"{sorted((found[key], value))}; they have no order, so let each module match "
                    "one"
                )
    return found


def _matching(rule: Rule, targets: list[str], layers: int) -> set[str]:
    """The modules that a rule speaks of."""
    depths = _depths(rule.layers, layers)
    found = {
        name
        for name in targeted(targets, rule.projection or (EVERY_LINEAR,))
        if _layer(name) in depths and _of_type(name, rule.layer_type)
    }
    absent = [end for end in rule.projection if not targeted(targets, [end])]
    if absent or not found:
        what = f" by the name {', '.join(absent)}" if absent else ""
        raise ValueError(f"{rule} matches none of the {len(targets)} target modules{what}")
    return found


def _of_type(name: str, layer_type: str | None) -> bool:
    """Whether a module is of a layer type, by the nearest part of its path that says it."""
    if layer_type is None:
        return True
    said = (t for part in reversed(name.split(".")) for t, n in LAYER_TYPES.items() if part in n)
    return next(said, None) == layer_type


def _depths(layers: str | None, count: int) -> set[int]:
    """The decoder layers that a rule's `layers` names."""
    half = count // 2
    if layers is None:
        return {*range(count)}
    if layers in THIRDS:
        third = THIRDS.index(layers)
        return {*range(third * count // 3, (third + 1) * count // 3)}
    if layers in ("first_half", "second_half"):
        return {*range(half)} if layers == "first_half" else {*range(half, count)}
    if match := re.fullmatch(r"random_half:(\d+)", layers):
        return {*random.Random(int(match[1])).sample(range(count), half)}
    first, _, last = layers.partition("-")
    return {*range(int(first), int(last or first) + 1)} & {*range(count)}


def _layer(name: str) -> int:
    match = re.search(r"\.(\d+)\.", name)
    return int(match[1]) if match else 0


def _leaf(name: str) -> str:
    return name.rsplit(".", 1)[-1]

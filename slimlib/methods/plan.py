"""The compiled plan of an adapter: one entry for each module, from the config and the shapes alone.

Rules (rank, lambda or lambda1 and lambda2 by layer type, projection or depth) have no order: two
that give one module different values are an error. No weights and no torch are needed.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

from slimlib.config import ATTENTION, MLP, AdapterConfig, Rule
from slimlib.methods.definitions import METHODS, Entry

if TYPE_CHECKING:
    import pandas as pd

LAYER_TYPES = {"attention": ATTENTION, "mlp": MLP}
RULED = ("r", "lam", "lam1", "lam2")  # what a rule can set


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
            f"such as {entry.name}: width {METHODS[entry.method].width(entry)}, rank at most "
            f"{entry.max_rank}"
        )

    def table(self) -> pd.DataFrame:
        """Module, shape, rank, values of the method, parameters and saturation of each entry."""
        import pandas as pd

        rows = []
        for entry in self.values():
            method = METHODS[entry.method]
            values = asdict(entry)
            rows.append(
                {
                    "module": entry.name,
                    "shape": f"{entry.d_out} x {entry.d_in}",
                    **{name: values[name] for name in method.fields},
                    "s": entry.scaling,
                    "width": method.width(entry),
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
        ValueError: unknown method; no module is targeted; a rule that is malformed, matches nothing
            or contradicts another; values that do not fit a module (named, with its shape).
    """
    if config.method not in METHODS:
        raise ValueError(f"unknown method {config.method!r}; known: {', '.join(METHODS)}")
    if config.r < 1:
        raise ValueError(f"r={config.r}: must be 1 or more")
    targets = targeted(linears, config.target_modules)
    if not targets:
        there = ", ".join(dict.fromkeys(map(_leaf, linears)))
        asked = ", ".join(config.target_modules)
        raise ValueError(f"target_modules {asked}: no such module; there are {there}")
    layers = 1 + max((_layer(name) for name in linears), default=0)
    matches = [_matching(rule, targets, layers, config) for rule in config.rules]
    entries = []
    for name in targets:
        rules = [r for r, found in zip(config.rules, matches, strict=True) if name in found]
        entries.append(_entry(name, linears[name], config, rules))
        METHODS[config.method].check(entries[-1])
    return Plan(entries)


def targeted(names: Iterable[str], target_modules: Iterable[str]) -> list[str]:
    """The module paths whose last part is among target_modules, as PEFT matches them."""
    return [name for name in names if _leaf(name) in target_modules]


def _entry(name: str, dims: tuple[int, int], config: AdapterConfig, rules: list[Rule]) -> Entry:
    values = {key: getattr(config, key) for key in RULED}
    for key in RULED:
        given = {getattr(rule, key) for rule in rules} - {None}
        if len(given) > 1:
            raise ValueError(
                f"{name}: rules contradict each other, {key} is {sorted(given)}; they have no "
                "order, so let each module match one"
            )
        values[key] = given.pop() if given else values[key]
    scale = values["r"] / config.r if config.keep_scale else 1
    return Entry(
        name=name,
        method=config.method,
        d_in=dims[0],
        d_out=dims[1],
        lora_alpha=config.lora_alpha * scale,
        group_size=config.group_size,
        iec_beta=config.iec_beta,
        **values,
    )


def _matching(rule: Rule, targets: list[str], layers: int, config: AdapterConfig) -> set[str]:
    """The modules that a rule speaks of."""
    if not isinstance(rule, Rule):
        raise ValueError(f"rules holds {rule!r}: give a slimlib.Rule(layer_type='mlp', r=8)")
    if isinstance(rule.projection, str):
        raise ValueError(f"projection={rule.projection!r}: give a tuple, as ({rule.projection!r},)")
    given = [key for key in RULED if getattr(rule, key) is not None]
    known = METHODS[config.method].fields
    if not given or not {*given} <= {*known}:
        has = ", ".join(given) or "nothing"
        raise ValueError(f"{rule} sets {has}; {config.method} takes {', '.join(known)}")
    if low := [key for key in given if getattr(rule, key) < 1]:
        raise ValueError(f"{rule}: {low[0]} must be 1 or more")
    if rule.layer_type not in (None, *LAYER_TYPES):
        raise ValueError(f"layer_type={rule.layer_type!r}: must be {' or '.join(LAYER_TYPES)}")
    names = {*LAYER_TYPES.get(rule.layer_type, config.target_modules)}
    names &= {*(rule.projection or names)}
    depths = _depths(rule.layers, layers)
    found = {n for n in targets if _leaf(n) in names and _layer(n) in depths}
    if not found:
        raise ValueError(f"{rule} matches none of the {len(targets)} target modules")
    return found


def _depths(layers: str | None, count: int) -> set[int]:
    """The decoder layers that a rule's `layers` names."""
    half = count // 2
    if layers is None:
        return {*range(count)}
    if layers in ("first_half", "second_half"):
        return {*range(half)} if layers == "first_half" else {*range(half, count)}
    if match := re.fullmatch(r"random_half:(\d+)", layers):
        return {*random.Random(int(match[1])).sample(range(count), half)}
    if match := re.fullmatch(r"(\d+)(?:-(\d+))?", layers):
        return {*range(int(match[1]), int(match[2] or match[1]) + 1)} & {*range(count)}
    raise ValueError(
        f"layers={layers!r}: must be first_half, second_half, random_half:SEED, or a range as 0-7"
    )


def _layer(name: str) -> int:
    match = re.search(r"\.(\d+)\.", name)
    return int(match[1]) if match else 0


def _leaf(name: str) -> str:
    return name.rsplit(".", 1)[-1]

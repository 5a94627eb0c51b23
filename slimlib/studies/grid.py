"""The study of the key variables as data: experiments E1 to E7, compiled into one arm per cell.

An experiment is a list of bars; a bar names the cell that it shows and what was changed there. A
cell that several experiments show exists once, under a name that says its values, such as
`q-bara-r16-lam2-mlp-lam4`. Two studies: `key_variables` (Llama 3.2 1B and TinyLlama, for a T4) and
its miniature `key_variables_micro`. The grids are read from Shen et al. 2025, whose figures give
no numbers; the ranks, and every control, are this project's choice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

from slimlib.config import AdapterConfig, Arm, ModelConfig, Rule, Study
from slimlib.methods.definitions import METHODS
from slimlib.methods.shapes import equal_cut
from slimlib.studies.design import Bar, Design, Experiment

SHORT = {"attention": "attn", "first_half": "first", "second_half": "second"}
DIVISORS = (2, 4)
RANDOM_HALVES = ("random_half:0", "random_half:1")  # two draws; neither is the first or second half
GROUPS = ("attention", "mlp", "first_half", "second_half")
LAMS = (1, 2, 4, 8)
COARSE = (8, 8)  # QA-HiRA's lambdas after the change; (4, 8) before
FIXED_SCALE, EQUAL = "fixed scale", "equal parameters"
RANDOM, FIXED_BLOCK = "random half", "tiles kept at 32"


@dataclass(frozen=True)
class Scale:
    """One model's share of a grid: what differs between a 1B model and the miniature."""

    label: str
    shape: str  # in slimlib.methods.shapes.SHAPES
    model: ModelConfig
    prefix: str  # of the cells' names
    ranks: tuple[int, ...]
    rank: int  # of the experiments that are made at one rank
    groups: tuple[int, ...]  # QA-LoRA's group sizes
    every_rank: tuple[str, ...] = ()  # experiments made at all ranks, not at `rank` alone
    shared: Mapping[str, Any] = field(default_factory=dict)  # fields of every arm

    def ranks_of(self, experiment: str) -> tuple[int, ...]:
        """The ranks at which an experiment is made."""
        return self.ranks if experiment in self.every_rank else (self.rank,)


class Cells:
    """Collects the arms of one scale: each combination of values once, under one name."""

    def __init__(self, scale: Scale, training: Mapping[str, Any]):
        self.scale, self.training = scale, training
        self.arms: dict[str, Arm] = {}
        self.add_untuned("", scale.model, quantise=False)

    def add_untuned(self, what: str, model: ModelConfig, quantise: bool = True) -> str:
        """The untuned model, quantised as some cell needs it."""
        name = f"{self.scale.prefix}base{what}"
        label = f"{self.scale.label} base{what.replace('-', ' ')}"
        base = None if not quantise else f"{self.scale.prefix}base"
        arm = Arm(name, label, model, base, quantise=quantise, **self.scale.shared)
        return self._put(arm)

    def add(self, adapter: AdapterConfig, block: int | None = None) -> str:
        """A fine-tuned cell; `block` fixes the quantiser's block instead of the method's own."""
        method = METHODS[adapter.method]
        quantiser, size = method.quantiser, block or method.block_size
        model = replace(self.scale.model, quantiser=quantiser, block_size=size)
        untuned = self._untuned(adapter, quantiser, size)
        name = self.scale.prefix + cell_name(adapter) + (f"-block{block}" if block else "")
        label = name.replace("-", " ")
        settings = {**self.training, **self.scale.shared}
        return self._put(Arm(name, label, model, untuned, adapter=adapter, **settings))

    def _untuned(self, adapter: AdapterConfig, quantiser: str, size: int | None) -> str:
        """The untuned model in the blocks of most of the cell's modules."""
        size = size or prod(METHODS[adapter.method].block(adapter))
        model = replace(self.scale.model, quantiser=quantiser, block_size=size)
        return self.add_untuned(f"-{quantiser}-{size}", model)

    def _put(self, arm: Arm) -> str:
        if self.arms.setdefault(arm.name, arm) != arm:
            raise ValueError(f"two different cells are called {arm.name!r}")
        return arm.name


def cell_name(adapter: AdapterConfig) -> str:
    """The values of an adapter as a name.

    Example: QLoRA of rank 16 with the MLP at 8 and fixed scale -> "qlora-r16-mlp-r8-keep".
    """
    code = METHODS[adapter.method].code
    parts = [adapter.method, code.format_map(vars(adapter))]
    for rule in adapter.rules:
        where = rule.layer_type or rule.layers or ""
        parts.append(SHORT.get(where, where.replace("_half:", "")))
        parts += [f"r{rule.r}"] if rule.r else []
        parts += [f"lam{rule.lam}"] if rule.lam else []
        parts += [f"{rule.lam1}x{rule.lam2}"] if rule.lam1 else []
    return "-".join(parts + ["keep"] * adapter.keep_scale)


def changed(adapter: AdapterConfig, where: str, **values: Any) -> AdapterConfig:
    """The adapter with other values for one layer type or depth; of all modules, itself changed."""
    if where == "all":
        return replace(adapter, **values)
    by_type = where in ("attention", "mlp")
    rule = Rule(**{"layer_type" if by_type else "layers": where}, **values)
    return replace(adapter, rules=(*adapter.rules, rule))


# ------------------------------------------------------------------------------------ experiments


def rank_cuts(cells: Cells, id: str, method: str, places: tuple[str, ...]) -> list[Bar]:
    """The baseline, and the rank of one group of modules divided by 2 and by 4."""
    bars = []
    for r in cells.scale.ranks_of(id):
        adapter = AdapterConfig(method, r=r)
        bars.append(Bar(cells.add(adapter), cells.scale.label, method, r))
        for where in places:
            control = RANDOM if where in RANDOM_HALVES else ""
            for divisor in DIVISORS:
                cut = cells.add(changed(adapter, where, r=divided(r, divisor)))
                change = f"/{divisor}"
                bars.append(Bar(cut, cells.scale.label, method, r, where, change, control))
    return bars


def divided(r: int, divisor: int) -> int:
    """A rank over a divisor, never below 1; says so where that makes the cut smaller."""
    if r < divisor:
        print(f"rank {r} / {divisor} is below 1: taken as 1")
    return max(1, r // divisor)


def rank_controls(cells: Cells, id: str, method: str) -> list[Bar]:
    """The same cuts at a fixed scale s, and MLP cuts that save what the attention cuts save."""
    bars, label = [], cells.scale.label
    for r in cells.scale.ranks_of(id):
        adapter = AdapterConfig(method, r=r)
        for divisor in DIVISORS:
            for where in ("attention", "mlp") if r == cells.scale.rank else ():
                cut = changed(adapter, where, r=divided(r, divisor))
                cell = cells.add(replace(cut, keep_scale=True))
                bars.append(Bar(cell, label, method, r, where, f"/{divisor}", FIXED_SCALE))
            if r % divisor == 0:
                cut = equal_cut(cells.scale.shape, adapter, "attention", divisor)
                cell = cells.add(changed(adapter, "mlp", r=cut.nearest))
                bars.append(Bar(cell, label, method, r, "mlp", f"/{divisor}", EQUAL))
    return bars


def one_group_lam(cells: Cells) -> list[Bar]:
    """Q-BaRA at lambda 2, with one group of modules at 1 or 4."""
    bars, label = [], cells.scale.label
    for r in cells.scale.ranks_of("E4"):
        adapter = AdapterConfig("q-bara", r=r)
        bars.append(Bar(cells.add(adapter), label, "q-bara", r))
        for lam in (1, 4):
            for where in GROUPS:
                cell = cells.add(changed(adapter, where, lam=lam))
                bars.append(Bar(cell, label, "q-bara", r, where, f"lam {lam}"))
    return bars


def all_lams(cells: Cells) -> list[Bar]:
    """Q-BaRA with one lambda for all modules."""
    return [
        Bar(cells.add(adapter), cells.scale.label, "q-bara", r, change=f"lam {lam}")
        for r in cells.scale.ranks_of("E5")
        for lam in LAMS
        for adapter in [AdapterConfig("q-bara", r=r, lam=lam)]
    ]


def coarser(cells: Cells) -> list[Bar]:
    """QA-HiRA from (4, 8) to (8, 8); the quantiser's tiles follow (32 -> 64), or stay at 32."""
    label, r = cells.scale.label, cells.scale.rank
    adapter = AdapterConfig("qa-hira", r=r)
    bars = [Bar(cells.add(adapter), label, "qa-hira", r)]
    lam1, lam2 = COARSE
    for block, control in ((None, ""), (adapter.lam1 * adapter.lam2, FIXED_BLOCK)):
        for where in (*GROUPS, "all"):
            cell = cells.add(changed(adapter, where, lam1=lam1, lam2=lam2), block)
            bars.append(Bar(cell, label, "qa-hira", r, where, f"({lam1}, {lam2})", control))
    return bars


def group_sizes(cells: Cells) -> list[Bar]:
    """QA-LoRA with several group sizes, the quantiser's along with it, at several ranks."""
    return [
        Bar(cells.add(adapter), cells.scale.label, "qa-lora", r, change=f"group {size}")
        for r in cells.scale.ranks_of("E7")
        for size in cells.scale.groups
        for adapter in [AdapterConfig("qa-lora", r=r, group_size=size)]
    ]


def bars_of(cells: Cells) -> dict[str, list[Bar]]:
    """Experiment -> its bars for one model."""
    layer_types, halves = ("attention", "mlp"), ("first_half", "second_half")
    methods = ("ir-qlora", "qa-lora", "q-bara")
    return {
        "E1": rank_cuts(cells, "E1", "qlora", layer_types) + rank_controls(cells, "E1", "qlora"),
        "E2": rank_cuts(cells, "E2", "qlora", (*halves, *RANDOM_HALVES)),
        "E3": [bar for m in methods for bar in rank_cuts(cells, "E3", m, layer_types)],
        "E4": one_group_lam(cells),
        "E5": all_lams(cells),
        "E6": coarser(cells),
        "E7": group_sizes(cells),
    }


EXPERIMENTS: dict[str, tuple[str, str]] = {  # id -> title, place in the article
    "E1": ("QLoRA: the rank of one layer type cut", "Fig. 2, Table 3"),
    "E2": ("QLoRA: the rank of one half of the layers cut", "Fig. 3"),
    "E3": ("IR-QLoRA, QA-LoRA, Q-BaRA: the rank of one layer type cut", "Fig. A1"),
    "E4": ("Q-BaRA: lambda of one group changed from 2", "Fig. 4"),
    "E5": ("Q-BaRA: one lambda for all, by rank", "Fig. A2"),
    "E6": ("QA-HiRA: (4, 8) to (8, 8)", "Fig. 5, Table 4"),
    "E7": ("QA-LoRA: group size by rank", "not in the article"),
}


def compile_design(scales: tuple[Scale, ...], training: Mapping[str, Any], **study: Any) -> Design:
    """Compile the experiments of some models into one study.

    Args:
        scales: one per model.
        training: data and train of the fine-tuned arms.
        **study: name, title, task_labels, data and note of the study.
    """
    arms: list[Arm] = []
    bars: dict[str, list[Bar]] = {id: [] for id in EXPERIMENTS}
    for scale in scales:
        cells = Cells(scale, training)
        for id, some in bars_of(cells).items():
            bars[id] += some
        untuned = [arm for arm in cells.arms.values() if not arm.trains]
        arms += untuned + [arm for arm in cells.arms.values() if arm.trains]
    experiments = [Experiment(id, *EXPERIMENTS[id], tuple(some)) for id, some in bars.items()]
    shapes = {scale.label: scale.shape for scale in scales}
    return Design(Study(arms=tuple(arms), ladder=(), **study), tuple(experiments), shapes)

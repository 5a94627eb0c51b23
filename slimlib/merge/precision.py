"""What 4 bit costs a grid's model, and what is left of an adapter that is merged inside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from slimlib.adapters.modules import linear_shapes
from slimlib.adapters.saving import load_adapter
from slimlib.config import Arm
from slimlib.merge.inside import adapter_cores, merge_model_inside
from slimlib.methods import compile_plan
from slimlib.model.load import blocks, load_base
from slimlib.model.quantise import QUANTISERS, quantise_linears, summarise
from slimlib.studies.design import Design

if TYPE_CHECKING:
    import pandas as pd

STORAGES = ("float32", "float16", "bfloat16", "int")


def quantiser_table(design: Design) -> pd.DataFrame:
    """Bits per weight, squared error and entropy of each quantiser on a grid's first model.

    One row for each untuned quantised reference of that model; means over all weights that were
    quantised, the entropy in bits within a block.
    """
    import pandas as pd

    references = [arm.model for arm in design.study.arms if arm.quantise and not arm.trains]
    plain = load_base(replace(references[0], load_in_4bit=False))
    linears, rows = linear_shapes(plain), {}
    for model in references:
        if model.name != references[0].name:
            continue
        stored = quantise_linears(plain, model.quantiser, blocks(model, linears, None))
        reports = {name: s.report(plain.get_submodule(name).weight) for name, s in stored.items()}
        label = f"{QUANTISERS[model.quantiser].label}, blocks of {model.block_size}"
        rows[label] = summarise(reports, linears)
    return pd.DataFrame(rows).T


def storage_table(
    arm: Arm, adapter: Path, folder: Path, storages: Sequence[str] = STORAGES
) -> pd.DataFrame:
    """Merge an arm's adapter inside its 4-bit format, its constants stored in several precisions.

    Args:
        arm: QA-LoRA on int4 groups, or QA-HiRA on tiles.
        adapter: its adapter folder.
        folder: gets one merged model for each storage.
        storages: of the merged zero points or offsets; "int" only where zero points are.

    Returns:
        A row for each storage: bits per weight, and the share of dW that is lost (relative root
        mean square; means over the modules). Empty where dW varies inside a block: such an adapter
        merges into 16 bit only.
    """
    import pandas as pd

    plain = load_base(replace(arm.model, load_in_4bit=False))
    linears = linear_shapes(plain)
    plan = compile_plan(linears, arm.adapter)
    if not all(entry.block for entry in plan.values()):
        return pd.DataFrame(columns=["bits per weight", "share of dW lost"])
    stored = quantise_linears(plain, arm.model.quantiser, blocks(arm.model, linears, arm.adapter))
    cores = adapter_cores(load_adapter(load_base(arm.model, arm.adapter), adapter))
    zeros = all(quantised.form == "zero" for quantised in stored.values())
    rows = {}
    for storage in storages:
        if storage == "int" and not zeros:
            continue
        made = merge_model_inside(plain, stored, plan, cores, folder / storage, storage)
        means = made[["bits_per_weight", "retained_error"]].mean()
        rows[storage] = {"bits per weight": means.iloc[0], "share of dW lost": means.iloc[1]}
    return pd.DataFrame(rows).T

"""The study of one's own model and rows.

Arms: the base; the base in 4 bit, where it is trained so; the fine-tuned model, merged into the
weights that it was trained on; and, where these are in 4 bit, the same adapter merged into the
un-quantised base, which is the paper's own formula, W_base + dW (eq. 1.3). A checkpoint that comes
in 4 bit has no un-quantised weights, and so neither the second arm nor the last. With several seeds
each fine-tuned arm exists once for each.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from slimlib.common.checked import fields_of
from slimlib.config import (
    EVERY_LINEAR,
    AdapterConfig,
    Arm,
    DataConfig,
    MergeConfig,
    ModelConfig,
    Study,
    TrainConfig,
)
from slimlib.studies.overrides import override
from slimlib.studies.slimming import MICRO_TRAIN

KINDS = BASE, QUANTISED, TUNED, TUNED_16BIT = "base", "base-nf4", "tuned", "tuned-16bit"
SEEDS = (3407, 1, 2, 3, 4, 5, 6, 7, 8, 9)  # the author's first
HELD_OUT = 0.05
TRAIN = TrainConfig(num_train_epochs=3)  # the author's values; three times through the rows
WINDOW = {"micro": 512}  # tokens, of models that have fewer places than ModelConfig's default


def mine(
    model: str,
    rows: str,
    *,
    seeds: int = 1,
    load_in_4bit: bool = True,
    has_16bit: bool = True,
    merged_dtype: str = "float16",
    overrides: Mapping[str, Any] | None = None,
) -> Study:
    """Make the study of a model and rows.

    Args:
        model: hub id[@revision], folder or embedded checkpoint.
        rows: file of rows, data set by name, or hub id[@revision].
        seeds: fine-tunings, 1 to 10, each with another seed.
        load_in_4bit: train on NF4 weights (QLoRA), else on 16-bit ones (LoRA).
        has_16bit: whether the model's un-quantised weights are there to be merged into.
        merged_dtype: of the merged weights.
        overrides: KEY -> VALUE as for the command line's --set.

    Raises:
        ValueError: a number of seeds out of range, or a value that its field refuses.
    """
    if not 1 <= seeds <= len(SEEDS):
        raise ValueError(f"seeds={seeds}: must be 1 to {len(SEEDS)}")
    embedded = model.startswith("micro:")
    here = embedded or os.path.exists(model)  # a folder's name may have an @
    name, _, revision = (model, "", "") if here else model.partition("@")
    config = ModelConfig(name, revision or None, load_in_4bit=load_in_4bit)
    if embedded:
        config = replace(config, max_seq_length=WINDOW["micro"])
    data = DataConfig(
        rows, n=None, template="auto", append_eos=True, learn="answer", held_out=HELD_OUT
    )
    made = {
        "model": config,
        "adapter": AdapterConfig(target_modules=(EVERY_LINEAR,)),
        "data": data,
        "train": MICRO_TRAIN if embedded else TRAIN,
        "merge": MergeConfig(dtype=merged_dtype),
    }
    base = Arm(BASE, label="base", model=config)
    arms = [base]
    if load_in_4bit and has_16bit:  # else the base itself is the one in 4 bit
        arms.append(Arm(QUANTISED, label="base in 4 bit", model=config, quantise=True))
    for seed in SEEDS[:seeds]:
        tuned = Arm(_seeded(TUNED, seed), label="fine-tuned", compared_with=BASE, seed=seed, **made)
        arms.append(tuned)
        if load_in_4bit and has_16bit:
            whole = replace(made["merge"], merge_base="16bit")
            other = {"name": _seeded(TUNED_16BIT, seed), "label": "fine-tuned, into 16 bit"}
            arms.append(replace(tuned, **other, adapter_from=tuned.name, merge=whole))
    study = Study(
        name=slug(model, rows),
        title=f"{Path(name).name if here else model}, fine-tuned on {Path(rows).name}",
        arms=tuple(arms),
        ladder=tuple(arm.name for arm in arms),
    )
    return override(study, overrides or {})


def unlike_defaults() -> dict[str, Any]:
    """The keys of --set whose value for one's own model and rows is not the field's default."""
    tuned = mine("model", "rows")[TUNED]
    found = {}
    for section in ("model", "adapter", "data", "train", "merge"):
        part = getattr(tuned, section)
        for name, field in fields_of(type(part)).items():
            value = getattr(part, name)
            if not field.is_required() and value != field.get_default(call_default_factory=True):
                found[f"{section}.{name}"] = value
    return found


def _seeded(name: str, seed: int) -> str:
    return name if seed == SEEDS[0] else f"{name}-seed-{seed}"


def of_seeds(study: Study, name: str) -> Sequence[Arm]:
    """The arms of one kind, TUNED or TUNED_16BIT, one for each seed; none where there is none."""
    pattern = re.compile(rf"{re.escape(name)}(-seed-\d+)?")
    return [arm for arm in study.arms if pattern.fullmatch(arm.name)]


def slug(model: str, rows: str) -> str:
    """A folder's name for a model and rows."""
    parts = [text.rstrip("/").rsplit("/", 1)[-1] for text in (model, rows)]
    parts[1] = parts[1].partition(".")[0]
    return "-on-".join(re.sub(r"[^A-Za-z0-9.]+", "-", part).strip("-.")[:40] for part in parts)

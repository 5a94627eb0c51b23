"""Checks of a study's values, before they would fail late, on the user's GPU time."""

from __future__ import annotations

import math
from typing import Any

from slimlib.config import DTYPES, EVALUATORS, MERGE_BASES, QUANTISERS, TEMPLATES, Arm, Study


def validate(study: Study) -> Study:
    """Check the values that would otherwise fail late, on the user's GPU time.

    Raises:
        ValueError: naming the arm, the field, the value and what is allowed.
    """
    names = [arm.name for arm in study.arms]
    for arm in study.arms:
        if names.count(arm.name) > 1:
            raise ValueError(f"arm {arm.name!r} is named twice")
        _check(arm.seed >= 0, arm, "seed", "0 or more")
        _check(arm.model.dtype in ("auto", *DTYPES), arm, "model.dtype", ("auto", *DTYPES))
        _check(arm.model.max_seq_length >= 1, arm, "model.max_seq_length", "1 or more")
        _check(arm.merge.merge_base in MERGE_BASES, arm, "merge.merge_base", MERGE_BASES)
        _check(arm.merge.dtype in DTYPES, arm, "merge.dtype", DTYPES)
        _check_quantiser(arm)
        _check_adapter(arm)
        _check_data(arm)
        _check_train(arm)
        _check_evaluate(arm)
    return study


def _check_quantiser(arm: Arm) -> None:
    quantiser, block = arm.model.quantiser, arm.model.block_size
    known = (*QUANTISERS, "gptq:FOLDER, a checkpoint made by slimlib.model.quantise.load_gptq")
    gptq = quantiser.startswith("gptq:") and len(quantiser) > len("gptq:")
    _check(quantiser in QUANTISERS or gptq, arm, "model.quantiser", known)
    _check(block is None or block >= 1, arm, "model.block_size", "1 or more, or None")
    if quantiser == "nf4":
        _check(block == 64, arm, "model.block_size", "64, the block of NF4")
    elif arm.writes_weights:  # PEFT can only quantise again what bitsandbytes quantised
        bases = tuple(base for base in MERGE_BASES if base != "requantised")
        _check(arm.merge.merge_base in bases, arm, "merge.merge_base", bases)


def _check_adapter(arm: Arm) -> None:
    if arm.adapter is None:
        return
    from slimlib.methods import METHODS

    _check(arm.adapter.method in METHODS, arm, "adapter.method", tuple(METHODS))
    for name in ("r", "lam", "lam1", "lam2", "group_size"):
        _check(getattr(arm.adapter, name) >= 1, arm, f"adapter.{name}", "1 or more")
    _check(arm.adapter.lora_alpha > 0, arm, "adapter.lora_alpha", "above 0")
    _check(0 <= arm.adapter.lora_dropout < 1, arm, "adapter.lora_dropout", "in [0, 1)")
    modules = arm.adapter.target_modules
    _check(modules != () and all(modules), arm, "adapter.target_modules", "names of modules")
    beta = arm.adapter.iec_beta
    fixed = isinstance(beta, int | float) and math.isfinite(beta)
    _check(beta == "learned" or fixed, arm, "adapter.iec_beta", "learned, or a number")


def _check_data(arm: Arm) -> None:
    if arm.data is None:
        return
    n, mixture = arm.data.n, arm.data.mixture
    _check(n is None or n >= 1, arm, "data.n", "1 or more")
    _check(n is not None or not mixture, arm, "data.n", "a number of rows, for a mixture")
    _check(all(0 < w < math.inf for w in mixture.values()), arm, "data.mixture", "above 0")
    _check(arm.data.template in TEMPLATES, arm, "data.template", TEMPLATES)
    _check(arm.data.subset in ("head", "random"), arm, "data.subset", "head or random")


def _check_train(arm: Arm) -> None:
    train = arm.train
    if train is None:
        return
    _check(0 < train.learning_rate < math.inf, arm, "train.learning_rate", "above 0")
    _check(0 <= train.warmup_ratio <= 1, arm, "train.warmup_ratio", "in [0, 1]")
    _check(0 < train.num_train_epochs < math.inf, arm, "train.num_train_epochs", "above 0")
    steps = train.max_steps
    _check(steps == -1 or steps >= 1, arm, "train.max_steps", "-1 (by epochs) or 1 or more")
    sizes = ("per_device_train_batch_size", "gradient_accumulation_steps")
    for name in (*sizes, "save_steps", "logging_steps"):
        _check(getattr(train, name) >= 1, arm, f"train.{name}", "1 or more")


def _check_evaluate(arm: Arm) -> None:
    dtypes = ("auto", *DTYPES)
    _check(arm.evaluate.dtype in dtypes, arm, "evaluate.dtype", dtypes)
    _check(arm.evaluate.evaluator in EVALUATORS, arm, "evaluate.evaluator", EVALUATORS)
    _check(arm.evaluate.max_length >= 1, arm, "evaluate.max_length", "1 or more")
    for task in arm.evaluate.tasks:
        if task.limit is not None and task.limit < 1:
            raise ValueError(f"limit={task.limit} of task {task.name}: must be 1 or more")
        if task.batch_size < 1:
            raise ValueError(f"batch_size={task.batch_size}: must be 1 or more")


def _check(ok: bool, arm: Arm, key: str, allowed: Any) -> None:
    if not ok:
        value: Any = arm
        for part in key.split("."):
            value = getattr(value, part)
        allowed = " or ".join(allowed) if isinstance(allowed, tuple) else allowed
        raise ValueError(f"{key}={value} (arm {arm.name}): must be {allowed}")

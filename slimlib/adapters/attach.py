"""Attaching an adapter to a quantised model, under PEFT alone or under Unsloth."""

from __future__ import annotations

from typing import Any

from slimlib.adapters.methods import METHODS
from slimlib.adapters.plan import Plan, compile_plan, targeted
from slimlib.config import AdapterConfig
from slimlib.hardware import find_device
from slimlib.model import linear_shapes, unsloth_loaded


def attach(model: Any, config: AdapterConfig, seed: int, max_seq_length: int) -> Any:
    """Attach a trainable adapter, its weights in float32; with dW = 0 the model is unchanged.

    Args:
        model: from `load_model`, by either backend.
        config: method and values (r, lora_alpha, target_modules, rules, ...).
        seed: of the initial A (B starts at zero).
        max_seq_length: tokens; Unsloth sizes its buffers by it.

    Raises:
        ValueError: no module has a name in target_modules, one that has it is no linear layer of
            the decoder, or the values do not fit one (named, with its shape); no weight has been
            touched.
    """
    import torch

    plan = compile_plan(linear_shapes(model), config)
    _check_targets(model, plan, config)
    if plan.warning():
        print(plan.warning())
    lora = {
        "r": config.r,
        "lora_alpha": config.lora_alpha,
        "lora_dropout": config.lora_dropout,
        "target_modules": list(config.target_modules),
        "bias": "none",
    }
    torch.manual_seed(seed)
    if not unsloth_loaded():
        model = _attach_peft(model, plan, lora)
    elif METHODS[config.method].structured:
        model = _attach_unsloth_structured(model, plan, lora)
    else:
        model = _attach_unsloth(model, plan, lora, seed, max_seq_length)
    trainables_to_float32(model)
    return model


def _check_targets(model: Any, plan: Plan, config: AdapterConfig) -> None:
    """Refuse a target that PEFT would adapt outside the plan, such as lm_head."""
    for name in targeted((name for name, _ in model.named_modules()), config.target_modules):
        if name not in plan:
            raise ValueError(
                f"{name} is no linear layer inside the decoder: leave it out of target_modules"
            )


def _attach_peft(model: Any, plan: Plan, lora: dict[str, Any]) -> Any:
    from peft import get_peft_model, prepare_model_for_kbit_training

    from slimlib.adapters.layers import peft_config

    checkpointing = find_device().kind == "cuda"  # trades time for memory; a CPU has memory
    model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=checkpointing)
    return get_peft_model(model, peft_config(plan, lora))


def _attach_unsloth(
    model: Any, plan: Plan, lora: dict[str, Any], seed: int, max_seq_length: int
) -> Any:
    from unsloth import FastLanguageModel

    from slimlib.adapters.layers import patterns

    return FastLanguageModel.get_peft_model(
        model,
        use_gradient_checkpointing=_checkpointing(),
        random_state=seed,
        max_seq_length=max_seq_length,
        **lora,
        **patterns(plan, lora["r"], lora["lora_alpha"]),
    )


def _attach_unsloth_structured(model: Any, plan: Plan, lora: dict[str, Any]) -> Any:
    """Unsloth's own call takes plain LoRA only; its patches read `.weight`, which is right."""
    from peft import get_peft_model
    from unsloth import FastLanguageModel

    from slimlib.adapters.layers import peft_config

    model = get_peft_model(model, peft_config(plan, lora))
    if find_device().kind == "cpu":  # nothing to patch: Unsloth leaves PEFT's layers as they are
        return model
    return FastLanguageModel.patch_peft_model(model, _checkpointing())


def _checkpointing() -> str | bool:
    return "unsloth" if find_device().kind == "cuda" else False


def trainables_to_float32(model: Any) -> None:
    """Store the trainable weights in float32, whatever the frozen ones are in.

    fp16's GradScaler needs them so, and bfloat16 would round most steps of Adam away. TRL casts the
    adapter of a quantised model to bfloat16, so this is done once more when the trainer is built.
    """
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()

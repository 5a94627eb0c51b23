"""The structured methods inside PEFT: a LoraConfig that carries the plan, and PEFT's own layers.

Nothing of PEFT is changed: its layers are subclassed, registered through the config, and the saved
config has a type of its own, so that PEFT without slimlib refuses it instead of loading an
untrained adapter. Importing this module lets `PeftModel.from_pretrained` read such a folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import bitsandbytes
import torch
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from peft.tuners.lora import Linear, Linear4bit
from torch import nn

from slimlib.adapters.modules import linear_shapes, transposed
from slimlib.adapters.structure import build_pair
from slimlib.common import progress
from slimlib.common.hardware import find_device, unsloth_loaded
from slimlib.config import EVERY_LINEAR, AdapterConfig
from slimlib.methods.definitions import METHODS, Entry
from slimlib.methods.plan import Plan, check_names, compile_plan, targeted

SAVED_TYPE = "SLIMLIB_LORA"  # of the files; PEFT's LORA in memory
OWN_INIT = "slimlib"  # init_lora_weights: PEFT's own layers refuse to start from it


@dataclass
class SlimLoraConfig(LoraConfig):
    """LoRA with tied entries: PEFT's config and one entry of the plan for each module.

    Raises:
        ValueError: combined with what reads or rescales the plain matrices (rslora, DoRA, another
            initialisation, a bias), naming the first module and its shape.
    """

    slim: list[dict[str, Any]] = field(default_factory=list)  # a list: order survives sorted keys

    def __post_init__(self):
        super().__post_init__()
        self._entries = {values["name"]: Entry(**values) for values in self.slim}
        refused = {
            "use_rslora": self.use_rslora,
            "use_dora": self.use_dora,
            "lora_bias": self.lora_bias,
            "init_lora_weights": self.init_lora_weights not in (True, OWN_INIT),
        }
        for name, on in refused.items():
            if on and self._entries:
                where = next(iter(self._entries.values())).where
                raise ValueError(f"{where}: {name}={getattr(self, name)} does not go with it")
        # else a layer that has a plain adapter already would take this one for plain, untrained
        self.init_lora_weights = OWN_INIT
        self._register_custom_module({bitsandbytes.nn.Linear4bit: Slim4bit, nn.Linear: SlimLinear})

    def entry(self, module: str, layer: nn.Module) -> Entry:
        """The plan's entry of a module.

        Raises:
            ValueError: the plan was made for another model.
        """
        return self._fitting(module, (layer.in_features, layer.out_features))

    def check(self, model: Any) -> None:
        """Raise ValueError unless the plan was made for this model; nothing is attached yet."""
        shapes = linear_shapes(model)
        for module in [*self._entries, *targeted(shapes, self.target_modules)]:
            self._fitting(module, shapes.get(module))

    def _fitting(self, module: str, dims: tuple[int, int] | None) -> Entry:
        entry = self._entries.get(module)
        if entry is None or (entry.d_in, entry.d_out) != dims:
            there = f"is {dims[1]} x {dims[0]}" if dims else "is not in the model"
            made = f"{entry.d_out} x {entry.d_in}" if entry else "no entry"
            raise ValueError(
                f"{module} {there}, and the adapter's plan has {made} for it: "
                "take the model that the adapter was trained on"
            )
        return entry

    def to_dict(self) -> dict[str, Any]:
        return super().to_dict() | {"peft_type": SAVED_TYPE}


class _Structured:
    """What both layers share: matrices built from the plan's entry in place of plain ones."""

    def __init__(self, base_layer, adapter_name, config, r=0, lora_alpha=1, **kwargs):
        self.module = kwargs["target_name"]  # Linear4bit drops it on the way to update_layer
        super().__init__(base_layer, adapter_name, config, r=r, lora_alpha=lora_alpha, **kwargs)

    def update_layer(self, adapter_name, r, lora_alpha, config, **kwargs):
        if not isinstance(config, SlimLoraConfig):  # a plain adapter beside a structured one
            super().update_layer(adapter_name, r, lora_alpha=lora_alpha, config=config, **kwargs)
            return
        entry = config.entry(self.module, self.get_base_layer())
        super().update_layer(
            adapter_name, entry.r, lora_alpha=entry.lora_alpha, config=config, **kwargs
        )
        pair = build_pair(entry)
        self.lora_A[adapter_name], self.lora_B[adapter_name] = pair
        self._move_adapter_to_device_of_base_layer(adapter_name)
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    def reset_lora_parameters(self, adapter_name, init_lora_weights):
        # of the plain pair, which `update_layer` is about to replace by one that starts by itself
        super().reset_lora_parameters(
            adapter_name, init_lora_weights == OWN_INIT or init_lora_weights
        )


class SlimLinear(_Structured, Linear):
    """A structured adapter on a plain linear layer."""


class Slim4bit(_Structured, Linear4bit):
    """A structured adapter on a 4-bit linear layer of bitsandbytes."""


PEFT_TYPE_TO_CONFIG_MAPPING.setdefault(SAVED_TYPE, SlimLoraConfig)


def peft_config(plan: Plan, lora: Mapping[str, Any]) -> LoraConfig:
    """PEFT's config of a plan: its own for plain LoRA, ours for the structured methods.

    Args:
        plan: the compiled entries, all of one method.
        lora: r, lora_alpha, lora_dropout, target_modules, bias.
    """
    entries = list(plan.values())
    if METHODS[entries[0].method].structured:
        slim = [asdict(entry) for entry in entries]
        return SlimLoraConfig(task_type="CAUSAL_LM", slim=slim, **lora)
    return LoraConfig(
        task_type="CAUSAL_LM", **lora, **patterns(plan, lora["r"], lora["lora_alpha"])
    )


def patterns(plan: Plan, r: int, lora_alpha: float) -> dict[str, dict[str, Any]]:
    """PEFT's rank_pattern and alpha_pattern, one exact key for each module that differs."""
    return {
        "rank_pattern": exact_pattern({name: entry.r for name, entry in plan.items()}, r),
        "alpha_pattern": exact_pattern(
            {name: entry.lora_alpha for name, entry in plan.items()}, lora_alpha
        ),
    }


def exact_pattern(values: Mapping[str, Any], common: Any) -> dict[str, Any]:
    """PEFT's pattern dict: for each module whose value is not the common one, a key of its own.

    PEFT takes the first pattern that matches and saves them sorted, so patterns that overlap would
    change their meaning when they are read back.
    """
    return {
        "^" + module.replace(".", r"\."): value
        for module, value in values.items()
        if value != common
    }


def attach(model: Any, config: AdapterConfig, seed: int, max_seq_length: int) -> Any:
    """Attach a trainable adapter, its weights in float32.

    With dW = 0 the model is unchanged.

    Args:
        model: from `load_model`, by either backend.
        config: method and values (r, lora_alpha, target_modules, rules, ...).
        seed: of the initial A (B starts at zero).
        max_seq_length: tokens; Unsloth sizes its buffers by it.

    Example:

        adapter = slimlib.AdapterConfig(method="q-bara", r=16, lam=2)
        model = slimlib.attach(model, adapter, seed=3407, max_seq_length=1024)

    Raises:
        ValueError: a name in target_modules that no linear layer of the decoder has, or values that
            do not fit one (named, with its shape); no weight has been touched.
    """
    linears = linear_shapes(model)
    check_names(linears, config.target_modules)
    plan = compile_plan(linears, config)
    check_layers(model, plan, config)
    if plan.warning():
        progress.say(plan.warning())
    lora = {
        "r": config.r,
        "lora_alpha": config.alpha(config.r),
        "lora_dropout": config.lora_dropout,
        "target_modules": peft_targets(model, plan, config),
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


def check_layers(model: Any, plan: Plan, config: AdapterConfig) -> None:
    """Refuse a structured method on GPT-2's Conv1D, for which it has no layer."""
    method = METHODS[config.method]
    if method.structured and (names := plan.keys() & transposed(model)):
        raise ValueError(
            f"{method.label} does not go on {min(names)}, a Conv1D, which stores its weight "
            "transposed: take method='qlora'"
        )


def peft_targets(model: Any, plan: Plan, config: AdapterConfig) -> list[str]:
    """The plan's modules as PEFT is to be told them.

    The last parts of their paths, as people write them, unless those name other modules too: a
    vision tower has a q_proj of its own. Then whole paths.
    """
    every = EVERY_LINEAR in config.target_modules
    short = dict.fromkeys(n.rsplit(".", 1)[-1] for n in plan) if every else config.target_modules
    there = targeted((name for name, _ in model.named_modules()), short)
    return [*short] if {*there} == {*plan} else [*plan]


def _attach_peft(model: Any, plan: Plan, lora: dict[str, Any]) -> Any:
    checkpointing = find_device().kind == "cuda"  # trades time for memory; a CPU has memory
    # float16 sums of whole layers may overflow, so what runs between them stays in float32
    if getattr(model, "is_loaded_in_4bit", False) or model.dtype == torch.float16:
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=checkpointing)
    elif checkpointing:  # PEFT's preparation would store bfloat16 in float32, too
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()
    return get_peft_model(model, peft_config(plan, lora))


def _attach_unsloth(
    model: Any, plan: Plan, lora: dict[str, Any], seed: int, max_seq_length: int
) -> Any:
    from unsloth import FastLanguageModel  # patches transformers for the whole process

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
    from unsloth import FastLanguageModel

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

    Example:

        slimlib.trainables_to_float32(trainer.model)  # after SFTTrainer(model=model, ...)
    """
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()

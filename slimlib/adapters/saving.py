"""An adapter's folder: plain LoRA that stock PEFT loads, and beside it the structured form.

    adapter/                  adapter_config.json, adapter_model.safetensors: plain LoRA
    adapter/slimlib/          the structured form, to train on or to load with slimlib

The plain form computes the same with A_eff and B_eff written out (Q-BaRA: rank lam r, alpha lam
alpha). QA-HiRA has none, since its rank is up to a quarter of the layer: it is shared merged.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftConfig, PeftModel
from safetensors.torch import save_file

from slimlib.adapters.layers import (
    SlimLoraConfig,  # its import lets PEFT read the structured form
    exact_pattern,
)
from slimlib.adapters.modules import adapted_layers
from slimlib.adapters.places import STRUCTURED, WEIGHTS_FILE, adapter_path
from slimlib.methods.definitions import METHODS


def save_adapter(model: Any, folder: str | Path) -> None:
    """Write a trained adapter: the plain form, and the structured one if it has one.

    Args:
        model: with the adapter attached by `attach` (or by PEFT with a SlimLoraConfig).
        folder: is created; an `atomic_path` keeps half-written ones away.

    Example:

        slimlib.save_adapter(model, "my-adapter")

    Raises:
        ValueError: a weight of it is no finite number; nothing is written.
    """
    folder = Path(folder)
    check_finite(model)
    method = _method(model)
    config = model.active_peft_config
    if isinstance(config.target_modules, set):  # its order is another one in each process
        config.target_modules = sorted(config.target_modules)
    if not method.structured:
        model.save_pretrained(folder)
        return
    model.save_pretrained(folder / STRUCTURED)
    (folder / STRUCTURED / "README.md").unlink(missing_ok=True)  # PEFT's card, which it is not
    if method.exports:
        export_plain(model, folder)


def load_adapter(
    model: Any, folder: str | Path, trainable: bool = False, scale: float = 1.0
) -> Any:
    """Put a saved adapter on a model, in its structured form where it has one.

    Args:
        model: that it was trained on.
        folder: of the adapter.
        trainable: whether its weights are to be trained on.
        scale: share of dW that is added: between 0, the base, and 1, what was trained, lie models
            that learned less and lost less. Source: weight interpolation, Wortsman et al. (2022),
            "Robust fine-tuning of zero-shot models", arXiv 2109.01903.

    Example:

        base, tokenizer = slimlib.load_model(config)
        tuned = slimlib.load_adapter(base, "my-adapter")

    Raises:
        ValueError: the folder holds no adapter, one of numbers that are not finite, or a structured
            one that another model has.
    """
    folder = adapter_path(folder)
    config = PeftConfig.from_pretrained(str(folder))
    if isinstance(config, SlimLoraConfig):
        config.check(model)
    adapted = PeftModel.from_pretrained(model, folder, is_trainable=trainable)
    check_finite(adapted, f"{folder}: ")
    if scale != 1:
        for _, layer in adapted_layers(adapted):
            layer.scale_layer(scale)
    return adapted


def check_finite(model: Any, where: str = "") -> None:
    """Refuse an adapter of which a weight is no finite number.

    Args:
        model: with the adapter.
        where: said first, such as the file's name.

    Raises:
        ValueError: names the weight.
    """
    for name, weight in model.named_parameters():
        if "lora_" in name or weight.requires_grad:
            if not bool(torch.isfinite(weight).all()):
                raise ValueError(
                    f"{where}the adapter's {name} is not finite: its training diverged; train "
                    "again with a lower learning_rate, or with max_grad_norm=1"
                )


def export_plain(model: Any, folder: str | Path) -> None:
    """Write a structured adapter as plain LoRA: A_eff and B_eff, the same s, any PEFT loads it.

    Args:
        model: a PEFT model with one adapter of QLoRA, IR-QLoRA, QA-LoRA or Q-BaRA.
        folder: for adapter_config.json and adapter_model.safetensors.

    Raises:
        ValueError: QA-HiRA, which as plain LoRA would be as large as a quarter of the weights.
    """
    if not _method(model).exports:
        raise ValueError(f"{_method(model).label} has no plain LoRA form: ship it merged")
    name, config = model.active_adapter, model.active_peft_config
    tensors, ranks, alphas = {}, {}, {}
    for path, layer in adapted_layers(model):
        a, b = (getattr(layer, part)[name].weight.detach() for part in ("lora_A", "lora_B"))
        for part, weight in (("lora_A", a), ("lora_B", b)):
            tensors[f"base_model.model.{path}.{part}.weight"] = weight.cpu().contiguous()
        ranks[path] = len(a)
        alphas[path] = _whole(layer.scaling[name] * len(a))
    r, alpha = _most_common(ranks), _most_common(alphas)
    plain = LoraConfig(
        task_type="CAUSAL_LM",
        base_model_name_or_path=config.base_model_name_or_path,
        r=r,
        lora_alpha=alpha,
        lora_dropout=config.lora_dropout,
        target_modules=sorted(config.target_modules),
        rank_pattern=exact_pattern(ranks, r),
        alpha_pattern=exact_pattern(alphas, alpha),
        inference_mode=True,
    )
    plain.save_pretrained(str(folder))
    save_file(tensors, Path(folder) / WEIGHTS_FILE, metadata={"format": "pt"})


def _method(model: Any) -> Any:
    slim = getattr(model.active_peft_config, "slim", None)
    return METHODS[slim[0]["method"] if slim else "qlora"]


def _whole(number: float) -> int | float:
    return int(number) if float(number).is_integer() else number


def _most_common(values: dict[str, Any]) -> Any:
    found = list(values.values())
    return max(set(found), key=found.count)

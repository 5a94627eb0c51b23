"""A model's linear modules, plain and adapted."""

from __future__ import annotations

from typing import Any


def linear_shapes(model: Any) -> dict[str, tuple[int, int]]:
    """The linear modules inside a model's decoder: path -> (d_in, d_out), in the model's order."""
    from torch.nn import Linear

    head = model.get_output_embeddings()
    return {
        name: (module.in_features, module.out_features)
        for name, module in model.named_modules()
        if isinstance(module, Linear) and module is not head
    }


def adapted_layers(model: Any) -> list[tuple[str, Any]]:
    """(path in the base model, layer) of every adapted linear layer."""
    from peft.tuners.lora import LoraLayer

    named = model.get_base_model().named_modules()
    return [(path, module) for path, module in named if isinstance(module, LoraLayer)]

"""A model's linear modules, plain and adapted."""

from __future__ import annotations

from typing import Any


def linear_shapes(model: Any) -> dict[str, tuple[int, int]]:
    """The linear modules of a model's decoder: path -> (d_in, d_out), in the model's order.

    That is the language model alone: of a multimodal one neither the vision tower nor the layers
    that lead from it to the text; and never the head. GPT-2's Conv1D is linear by another name.
    """
    from torch.nn import Linear
    from transformers.pytorch_utils import Conv1D

    head = model.get_output_embeddings()
    shapes = {}
    for name, module in _decoder_modules(model):
        if isinstance(module, Linear) and module is not head:
            shapes[name] = module.in_features, module.out_features
        elif isinstance(module, Conv1D):
            shapes[name] = tuple(module.weight.shape)  # stored as (d_in, d_out)
    return shapes


def transposed(model: Any) -> list[str]:
    """Paths of the linear modules that are GPT-2's Conv1D, whose weight is (d_in, d_out).

    In 4 bit they are bitsandbytes' layers, which remember what they were made from.
    """
    from transformers.pytorch_utils import Conv1D

    return [
        name
        for name, module in _decoder_modules(model)
        if isinstance(module, Conv1D) or getattr(module, "source_cls", None) is Conv1D
    ]


def refuse_transposed_4bit(model: Any) -> None:
    """Refuse a quantised model of Conv1D layers: dequantised, their weights would lie transposed.

    Raises:
        ValueError: names the first such layer and the way out.
    """
    if names := transposed(model):
        raise ValueError(
            f"{names[0]} is a Conv1D, which stores its weight transposed: 4-bit weights of it "
            "cannot be written back. Set load_in_4bit=false (slimlib tune --no-4bit)"
        )


def adapted_layers(model: Any) -> list[tuple[str, Any]]:
    """(path in the base model, layer) of every adapted linear layer."""
    from peft.tuners.lora import LoraLayer

    named = model.get_base_model().named_modules()
    return [(path, module) for path, module in named if isinstance(module, LoraLayer)]


def _decoder_modules(model: Any) -> list[tuple[str, Any]]:
    """(path in the model, module) of all that the language model is made of."""
    decoder = model.get_decoder()
    named = [*model.named_modules()]
    prefix = next((f"{name}." for name, module in named if module is decoder and name), "")
    return [(name, module) for name, module in named if name.startswith(prefix)]

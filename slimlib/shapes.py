"""The linear layers of the models that the papers and this project use, from their dimensions.

A decoder layer has seven: q, k, v, o of the attention and gate, up, down of the MLP. From them
follow the frozen weights and the parameters that LoRA trains on them.
"""

from __future__ import annotations

from typing import NamedTuple

MLP = ("gate_proj", "up_proj", "down_proj")


class Shape(NamedTuple):
    """Dimensions of a model, as in its config.json."""

    hidden: int
    intermediate: int
    kv_out: int  # outputs of k and v: num_key_value_heads x head_dim
    layers: int

    def linears(self) -> dict[str, tuple[int, int]]:
        """The linear modules of one layer: name -> (d_in, d_out)."""
        attention = {name: (self.hidden, self.hidden) for name in ("q_proj", "o_proj")}
        attention |= {name: (self.hidden, self.kv_out) for name in ("k_proj", "v_proj")}
        mlp = {name: (self.hidden, self.intermediate) for name in ("gate_proj", "up_proj")}
        return attention | mlp | {"down_proj": (self.intermediate, self.hidden)}


SHAPES: dict[str, Shape] = {
    "LLaMA-7B": Shape(4_096, 11_008, 4_096, 32),
    "LLaMA-13B": Shape(5_120, 13_824, 5_120, 40),
    "Llama-3.2-1B": Shape(2_048, 8_192, 512, 16),
    "TinyLlama-1.1B": Shape(2_048, 5_632, 256, 22),
}


def lora_parameters(d_in: int, d_out: int, r: int) -> int:
    """What LoRA of rank r trains on one matrix: r (d_in + d_out), paper A's formula (1.2).

    Example: 1,000 x 1,000 with r = 10 -> 20,000 instead of 1,000,000.
    """
    return r * (d_in + d_out)


def trainable_parameters(shape: Shape, r: int) -> int:
    """What LoRA of rank r trains on all seven linear modules of every layer.

    Example: Llama-3.2-1B with r = 16 -> 11,272,192.
    """
    return shape.layers * sum(lora_parameters(*dims, r) for dims in shape.linears().values())


def mlp_saving(shape: Shape, divisor: int, of: str = "trainable") -> float:
    """Per cent of the adapter that goes when only the MLP's rank is divided by `divisor`.

    Args:
        shape: of the model.
        divisor: 2 halves the rank, 4 quarters it.
        of: "trainable" counts LoRA's parameters, r (d_in + d_out) for each matrix; "frozen" counts
            the matrices themselves, d_in d_out, as is right for an adapter of that form (QA-HiRA).

    Example: LLaMA-7B, 2 -> 29.02 of the trainable, 33.42 of the frozen.

    Raises:
        ValueError: a divisor below 1, or another `of`.
    """
    if divisor < 1:
        raise ValueError(f"divisor={divisor}: must be 1 or more")
    sizes = {"trainable": lambda i, o: i + o, "frozen": lambda i, o: i * o}
    if of not in sizes:
        raise ValueError(f"of={of!r}: must be one of {', '.join(sizes)}")
    counts = {name: sizes[of](*dims) for name, dims in shape.linears().items()}
    share = sum(counts[name] for name in MLP) / sum(counts.values())
    return 100 * share * (1 - 1 / divisor)

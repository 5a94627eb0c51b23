"""INT4, asymmetric and group-wise, rounded to nearest: W ~ scale * (code - zero), codes 0 to 15.

The base of QA-LoRA (Xu et al. 2024). The zero points are floating-point numbers by default, which
is what lets its adapter be merged into them; integers, as in packed GPTQ checkpoints, are a choice.
Scale and zero are rounded to their storage before the codes are made, so nothing is lost after.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slimlib.model.quantise.blocks import Block, check_shape, pack, to_blocks
from slimlib.model.quantise.numbers import Numbers
from slimlib.model.quantise.storage import Quantised

if TYPE_CHECKING:
    import torch

# The scale is at least the block's peak over this: a block that hardly varies then keeps a zero
# point of about a thousand, which fits 16 bit, and errs by half a part in a thousand at most.
LARGEST_ZERO = 1024
SMALLEST_SCALE = 2.0**-24  # the smallest positive float16


def quantise_int4(
    weight: torch.Tensor, block: Block, scales: str = "float16", zeros: str = "float16"
) -> Quantised:
    """Round to nearest between each block's smallest and largest weight.

    Args:
        weight: (d_out, d_in).
        block: (1, group_size), or a tile.
        scales: their storage.
        zeros: storage of the zero points; "int" packs them in 4 bit each.

    Raises:
        ValueError: a block that does not divide the weight; numbers too large for their storage.
    """
    import torch

    check_shape(weight.shape, block, "int4")
    blocks = to_blocks(weight.float(), block)
    low, high = blocks.amin(dim=1), blocks.amax(dim=1)
    if zeros == "int":  # an integer in 0 to 15 stands for the weight 0: it must be in the range
        low, high = low.clamp_max(0), high.clamp_min(0)
    peak = torch.maximum(low.abs(), high.abs())
    step = torch.maximum((high - low) / 15, peak / LARGEST_ZERO).clamp_min(SMALLEST_SCALE)
    scale = Numbers.of(step, scales, "the scales")
    rounded = scale.values(torch.float32)
    zero = Numbers.of(-low / rounded, zeros, "the zero points")
    codes = blocks / rounded[:, None] + zero.values(torch.float32)[:, None]
    packed = pack(codes.round().clamp(0, 15))
    return Quantised("int4", tuple(weight.shape), block, packed, scale, zero, "zero")

"""NF4 with double quantisation, through bitsandbytes: on runs of inputs, or on tiles.

NF4 (QLoRA, Dettmers et al. 2023) has 16 levels, one absmax per block and no zero point; absmax is
itself stored in 8 bit. Tiles are NF4 in which a block is rows x cols and may carry an offset: zero
when quantised, so not stored, until an adapter that is constant on tiles (QA-HiRA) is merged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slimlib.config import NF4_BLOCKS
from slimlib.model.quantise.blocks import Block, check_shape, to_blocks
from slimlib.model.quantise.numbers import Numbers
from slimlib.model.quantise.storage import Quantised

if TYPE_CHECKING:
    import torch


def quantise_nf4(weight: torch.Tensor, block: Block) -> Quantised:
    """NF4 on runs of inputs, equal to bitsandbytes' own round trip.

    Where the block does not divide the inputs it runs on over the end of a row.

    Args:
        weight: (d_out, d_in).
        block: (1, n), n one of NF4_BLOCKS.

    Raises:
        ValueError: a tile, or a size that bitsandbytes has not.
    """
    if block[0] != 1:
        raise ValueError(f"nf4: blocks of {block[0]} x {block[1]}: tiles are quantiser 'tiles'")
    codes, scale = encode(to_flat(weight), block)
    return Quantised("nf4", tuple(weight.shape), block, codes, scale)


def quantise_tiles(weight: torch.Tensor, block: Block) -> Quantised:
    """NF4 on tiles that can take an offset each.

    Args:
        weight: (d_out, d_in).
        block: (rows, cols) that divide it; rows * cols one of NF4_BLOCKS.

    Raises:
        ValueError: a tile that does not divide the weight, or of a size that bitsandbytes has not.
    """
    check_shape(weight.shape, block, "tiles")
    codes, scale = encode(to_blocks(weight.float(), block).reshape(-1), block)
    return Quantised("tiles", tuple(weight.shape), block, codes, scale, form="offset")


def to_flat(weight: torch.Tensor) -> torch.Tensor:
    """A weight as one float32 row."""
    return weight.float().contiguous().reshape(-1)


def encode(flat: torch.Tensor, block: Block) -> tuple[torch.Tensor, Numbers]:
    """Packed NF4 codes and the double-quantised absmax of a flat float32 tensor.

    Raises:
        ValueError: a block size that bitsandbytes has not.
    """
    from bitsandbytes.functional import quantize_4bit

    size = block[0] * block[1]
    if size not in NF4_BLOCKS:
        raise ValueError(
            f"a block of {block[0]} x {block[1]} = {size} weights: bitsandbytes quantises "
            f"{', '.join(map(str, NF4_BLOCKS))}; choose sides with such a product"
        )
    codes, state = quantize_4bit(flat, blocksize=size, quant_type="nf4")
    return codes.view(-1), Numbers.of(state.absmax, "8bit+mean", "the scales")

"""Blocks of a weight matrix that share a scale, and codes packed two to a byte.

A block is (rows, cols): rows outputs by cols inputs. (1, 64) is a run of 64 inputs of one row, the
usual kind; (8, 4) is a tile. In block order a matrix is (blocks, rows * cols), blocks row by row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

Block = tuple[int, int]


def check_shape(shape: tuple[int, ...], block: Block, where: str) -> None:
    """Refuse a block that does not divide the matrix.

    Raises:
        ValueError: naming `where`, the shape and the block.
    """
    rows, cols = block
    if len(shape) != 2:
        raise ValueError(f"{where}: a weight of shape {tuple(shape)}: must be (outputs, inputs)")
    if rows < 1 or cols < 1:
        raise ValueError(f"{where}: block {rows} x {cols}: both sides must be 1 or more")
    if shape[0] % rows or shape[1] % cols:
        raise ValueError(
            f"{where}: blocks of {rows} outputs x {cols} inputs do not divide a weight of "
            f"{shape[0]} x {shape[1]}; choose sides that do"
        )


def to_blocks(matrix: Tensor, block: Block) -> Tensor:
    """A matrix in block order, (blocks, rows * cols).

    Blocks of one row are cut from the flattened matrix: where cols does not divide the inputs they
    run on over the end of a row, as bitsandbytes' do, and the last one is filled up with zeros.
    """
    from torch.nn.functional import pad

    rows, cols = block
    if rows == 1:
        return pad(matrix.reshape(-1), (0, -matrix.numel() % cols)).view(-1, cols)
    d_out, d_in = matrix.shape
    tiles = matrix.reshape(d_out // rows, rows, d_in // cols, cols).permute(0, 2, 1, 3)
    return tiles.reshape(-1, rows * cols)


def from_blocks(blocks: Tensor, shape: tuple[int, int], block: Block) -> Tensor:
    """The inverse of `to_blocks`: (blocks, rows * cols) -> (d_out, d_in)."""
    rows, cols = block
    d_out, d_in = shape
    if rows == 1:
        return blocks.reshape(-1)[: d_out * d_in].view(d_out, d_in)
    tiles = blocks.view(d_out // rows, d_in // cols, rows, cols).permute(0, 2, 1, 3)
    return tiles.reshape(d_out, d_in)


def pack(codes: Tensor) -> Tensor:
    """Codes 0 to 15 as bytes, the first of each pair in the high half, as bitsandbytes packs them.

    Example: [1, 2, 3] -> [0x12, 0x30].
    """
    import torch
    from torch.nn.functional import pad

    flat = codes.reshape(-1).to(torch.uint8)
    pairs = pad(flat, (0, flat.numel() % 2)).view(-1, 2)
    return (pairs[:, 0] << 4) | pairs[:, 1]


def unpack(packed: Tensor, count: int) -> Tensor:
    """The first `count` codes of packed bytes, uint8."""
    import torch

    return torch.stack((packed >> 4, packed & 15), dim=1).view(-1)[:count]


def code_entropy(codes: Tensor, size: int) -> Tensor:
    """Shannon entropy of the 16 codes within each block, in bits.

    Args:
        codes: (n), in block order; the last block may be shorter.
        size: codes in a block.

    Returns:
        (blocks); at most 4, and at most log2 of the block's size.
    """
    import torch

    blocks = -(-codes.numel() // size)
    block = torch.arange(codes.numel(), device=codes.device) // size
    counts = torch.bincount(block * 16 + codes.long(), minlength=blocks * 16).view(blocks, 16)
    share = counts.double() / counts.sum(dim=1, keepdim=True)
    return -(share * share.clamp_min(1e-300).log2()).sum(dim=1)

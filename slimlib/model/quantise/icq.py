"""ICQ: NF4 after a shift of each block that makes its 16 codes as evenly used as possible.

Information calibration quantisation of IR-QLoRA (Qin et al. 2024), in the form of its published
code: candidates around the block's median, the entropy of the codes as criterion, the first of the
best taken. W ~ absmax * level[code] + tau. Unlike there tau is rounded to its storage before the
codes are made, the last group may be short, and the candidates are counted on the sorted block: a
core does about 1.5 million weights a second with the published 201 candidates, 5 million with 21
(a model of 1e9 weights in 11 or 3 minutes; not measured on a GPU).

The search does not try "no shift": about one block in twenty ends below plain NF4's entropy, the
mean above it. The squared error need not fall.
"""

from __future__ import annotations

from statistics import NormalDist
from typing import TYPE_CHECKING

from slimlib.model.quantise.blocks import Block
from slimlib.model.quantise.nf4 import encode, to_flat
from slimlib.model.quantise.numbers import Numbers
from slimlib.model.quantise.storage import Quantised

if TYPE_CHECKING:
    import torch

# absmax over this is the sigma of the search: NF4's outermost quantile (1.848) taken for absmax
QUANTILE = NormalDist().inv_cdf(0.9677083)
UNIT = 2**20  # entropies are compared as integers, so that equal ones are equal


def quantise_icq(
    weight: torch.Tensor,
    block: Block,
    n: int = 100,
    tau_lambda: float = 0.1,
    offsets: str = "8bit",
) -> Quantised:
    """NF4 with the entropy-maximising shift of each block.

    Args:
        weight: (d_out, d_in); its weights must fill whole blocks.
        block: (1, size), size one that bitsandbytes quantises.
        n: candidates on each side of the median; 10 finds nearly as much.
        tau_lambda: reach of the candidates, in sigmas.
        offsets: storage of the shifts; "8bit" (double-quantised) as published.

    Raises:
        ValueError: a tile, or blocks that do not fill the weight.
    """
    import torch

    if block[0] != 1:
        raise ValueError(f"icq: blocks of {block[0]} x {block[1]}: it takes runs of inputs, (1, n)")
    if weight.numel() % block[1]:
        raise ValueError(
            f"icq: blocks of {block[1]} do not fill a weight of {weight.shape[0]} x "
            f"{weight.shape[1]}; choose a size that divides {weight.numel()}"
        )
    blocks = to_flat(weight).view(-1, block[1])
    tau = Numbers.of(best_shift(blocks, n, tau_lambda), offsets, "the shifts")
    shifted = blocks - tau.values(torch.float32)[:, None]
    codes, scale = encode(shifted.view(-1), block)
    return Quantised("icq", tuple(weight.shape), block, codes, scale, tau, "offset")


def best_shift(blocks: torch.Tensor, n: int = 100, tau_lambda: float = 0.1) -> torch.Tensor:
    """The candidate shift of each block whose NF4 codes have the highest entropy.

    Args:
        blocks: (blocks, size), float32.
        n: 2 n + 1 candidates, evenly spaced around the median.
        tau_lambda: the outermost are this many sigmas away from it.

    Returns:
        (blocks), float32, not rounded to any storage.

    Raises:
        ValueError: n below 1, or a negative reach.
    """
    import torch

    if n < 1 or tau_lambda < 0:
        raise ValueError(f"n={n}, tau_lambda={tau_lambda}: must be 1 or more and 0 or more")
    reach = tau_lambda / QUANTILE
    steps = torch.linspace(-reach, reach, 2 * n + 1, device=blocks.device)
    size = blocks.shape[1]
    # 2^25 borders at a time stay below 1 GB; a CPU is faster with what its cache holds
    budget = 2**25 if blocks.is_cuda else 2**18
    chunk = max(1, budget // (15 * len(steps)))
    count = torch.arange(size + 1, device=blocks.device, dtype=torch.float64)
    cost = (
        (UNIT * count * count.clamp_min(1).log2())
        .round()
        .to(torch.int32 if size < 256 else torch.int64)
    )
    return torch.cat([_best_of(part, steps, cost) for part in blocks.split(chunk)])


def _best_of(blocks: torch.Tensor, steps: torch.Tensor, cost: torch.Tensor) -> torch.Tensor:
    """`best_shift` of a few blocks: the entropy is log2 n - sum(k log2 k) / n over the counts k."""
    import torch
    from bitsandbytes.functional import get_4bit_type

    ordered = blocks.sort(dim=1).values
    low, high = ordered[:, :1], ordered[:, -1:]
    median = ordered[:, (blocks.shape[1] - 1) // 2, None]
    shifts = median + steps * torch.maximum(high - median, median - low)
    absmax = torch.maximum(high - shifts, shifts - low)
    level = get_4bit_type("nf4", device=blocks.device)
    borders = (level[1:] + level[:-1]) / 2
    edges = shifts[..., None] + borders * absmax[..., None]
    below = torch.searchsorted(ordered, edges.flatten(1), right=True, out_int32=True)
    below = below.view(edges.shape)
    ends = below.new_tensor([0, blocks.shape[1]]).expand(*below.shape[:2], 2)
    counts = torch.diff(below, prepend=ends[..., :1], append=ends[..., 1:])
    wasted = cost[counts].sum(dim=-1)
    return shifts.gather(1, wasted.argmin(dim=1, keepdim=True)).squeeze(1)

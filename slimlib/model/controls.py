"""What a quantiser's damage is held against: other errors of the weights, of known size and kind.

    int8          round to nearest on 255 levels of a block's absmax: hardly any error
    q4_1          GGUF's Q4_1; what came from such a file is left as it is, up to rounding
    noise:SEED    normal noise, in each block as long as NF4's error there: another draw of it
    offset        NF4 on blocks that begin elsewhere: another draw of NF4's own error
    error_scale   W + t (Q(W) - W): a part of an error, or more than all of it

One quantisation is one draw of an error. Whether a quantiser is better than another, or its error
worse than noise, can be judged only against the spread of such draws. These leave plain weights,
not codes: nothing here is a storage.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from slimlib.config import ModelConfig
from slimlib.model.quantise import quantise, resolve_block
from slimlib.model.quantise.blocks import Block, check_shape, from_blocks, to_blocks

if TYPE_CHECKING:
    import torch


def int8(weight: torch.Tensor, block: Block) -> torch.Tensor:
    """Round to nearest between minus and plus a block's absmax, as GGUF's Q8_0 does.

    The scale, absmax / 127, is stored in float16 as there; codes are -127 to 127.

    Args:
        weight: (d_out, d_in).
        block: that divides it.
    """
    import torch

    check_shape(weight.shape, block, "int8")
    blocks = to_blocks(weight.float(), block)
    step = blocks.abs().amax(dim=1, keepdim=True) / 127
    codes = torch.where(step > 0, blocks / step, 0).round()
    return from_blocks(codes * step.half().float(), tuple(weight.shape), block)


def q4_1(weight: torch.Tensor, block: Block) -> torch.Tensor:
    """GGUF's Q4_1, as llama.cpp quantises: codes 0 to 15 from a block's smallest weight up.

    W ~ step * code + smallest, both in float16; codes are made before these are rounded. Blocks are
    of 32 there. A block that was dequantised from Q4_1 reaches from code 0 to code 15, so that it
    comes out as it went in, up to float16.

    Args:
        weight: (d_out, d_in).
        block: that divides it.
    """
    import torch

    check_shape(weight.shape, block, "q4_1")
    blocks = to_blocks(weight.float(), block)
    low, high = blocks.amin(dim=1, keepdim=True), blocks.amax(dim=1, keepdim=True)
    step = (high - low) / 15
    codes = torch.where(step > 0, (blocks - low) / step, 0).add(0.5).floor().clamp(0, 15)
    made = codes * step.half().float() + low.half().float()
    return from_blocks(made, tuple(weight.shape), block)


def nf4(weight: torch.Tensor, block: Block, offset: int = 0) -> torch.Tensor:
    """NF4 whose first block ends after `offset` weights; 0: where bitsandbytes' own ends.

    Args:
        weight: (d_out, d_in).
        block: (1, size).
        offset: 0 to size - 1.
    """
    from torch.nn.functional import pad

    if offset == 0:
        return quantise(weight, "nf4", block).dequantize()
    before = block[1] - offset  # zeros fill the first block up, and change no absmax
    flat = pad(weight.float().reshape(1, -1), (before, 0))
    return quantise(flat, "nf4", block).dequantize()[0, before:].view(weight.shape)


def noise(weight: torch.Tensor, block: Block, source: torch.Generator) -> torch.Tensor:
    """The weight and normal noise that is, in each block, as long as NF4's error there.

    Args:
        weight: (d_out, d_in).
        block: (1, size).
        source: of the draw, on the CPU.
    """
    import torch

    errors = to_blocks(nf4(weight, block) - weight.float(), block)
    drawn = torch.randn(errors.shape, generator=source).to(weight.device)
    length = errors.norm(dim=1, keepdim=True) / drawn.norm(dim=1, keepdim=True)
    return weight.float() + from_blocks(drawn * length, tuple(weight.shape), block)


FIXED = {"int8": int8, "q4_1": q4_1}  # by the weight and the block alone


def perturbed(
    weight: torch.Tensor, config: ModelConfig, block: int | Block, source: torch.Generator
) -> torch.Tensor:
    """What a configuration leaves of a weight: W + error_scale (Q(W) - W), float32.

    Args:
        weight: (d_out, d_in).
        config: its quantiser, block_offset and error_scale.
        block: weights that share a scale.
        source: of noise.
    """
    import torch

    kind = config.quantiser.partition(":")[0]
    sides = resolve_block(kind, block)
    if kind == "nf4":
        whole = nf4(weight, sides, config.block_offset)
    elif kind == "noise":
        whole = noise(weight, sides, source)
    elif kind in FIXED:
        whole = FIXED[kind](weight, sides)
    else:
        whole = quantise(weight, kind, sides).dequantize()
    return torch.lerp(weight.float(), whole, config.error_scale)  # at 1 exactly Q(W)


def perturb_model_(
    model: Any, config: ModelConfig, blocks: Mapping[str, int | Block]
) -> dict[str, dict[str, float]]:
    """Replace the weights of linear layers, in place, by `perturbed` ones.

    Args:
        model: with nn.Linear modules.
        config: of the model.
        blocks: full module path -> block; the output layer (lm_head) is left out even if named.

    Returns:
        module -> mse, the mean squared error; error_share, the error's length over the weight's.

    Raises:
        ValueError: a block that does not fit; names the module.
    """
    import torch

    seed = config.quantiser.partition(":")[2]
    source = torch.Generator().manual_seed(int(seed or 0))
    reports = {}
    for name, block in blocks.items():
        if name.rpartition(".")[2] == "lm_head":
            continue
        weight = model.get_submodule(name).weight.data
        before = weight.to(torch.float64, copy=True)
        try:
            weight.copy_(perturbed(weight, config, block, source))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
        error = weight.double() - before  # as the model's dtype rounds it
        reports[name] = {
            "mse": error.square().mean().item(),
            "error_share": (error.norm() / before.norm().clamp_min(1e-300)).item(),
        }
    return reports

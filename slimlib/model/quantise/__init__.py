"""Quantisers: each makes of one weight (d_out, d_in) a `Quantised`, 4-bit codes and what they need.

quantise(weight, "icq", 64).report(weight)    bits per weight, error, entropy of the codes
quantise_model_(model, "nf4", blocks)         the linear layers replaced by what is left of them
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from slimlib.methods.definitions import NF4_BITS
from slimlib.model.quantise.blocks import Block
from slimlib.model.quantise.gptq import load_gptq, quantise_gptq, read_gptq
from slimlib.model.quantise.icq import quantise_icq
from slimlib.model.quantise.int4 import quantise_int4
from slimlib.model.quantise.nf4 import quantise_nf4, quantise_tiles
from slimlib.model.quantise.storage import Quantised

if TYPE_CHECKING:
    import torch

__all__ = [
    "NF4_BITS",
    "QUANTISERS",
    "TILES",
    "Quantised",
    "Quantiser",
    "load_gptq",
    "quantise",
    "quantise_linears",
    "quantise_model_",
    "read_gptq",
    "replace_weights_",
    "resolve_block",
    "summarise",
]


class Quantiser(NamedTuple):
    """What one name in QUANTISERS stands for."""

    function: Callable[..., Quantised]
    label: str
    mergeable: bool  # whether a constant per block can be added inside the format


QUANTISERS: dict[str, Quantiser] = {
    "nf4": Quantiser(quantise_nf4, "NF4, double quantisation (bitsandbytes)", False),
    "icq": Quantiser(quantise_icq, "NF4 after the shift of highest entropy (ICQ)", True),
    "int4": Quantiser(quantise_int4, "INT4, asymmetric groups, rounded to nearest", True),
    "gptq": Quantiser(quantise_gptq, "INT4, asymmetric groups, GPTQ (gptqmodel)", True),
    "tiles": Quantiser(quantise_tiles, "NF4 on tiles, an offset each", True),
}
TILES: dict[int, Block] = {32: (8, 4), 64: (8, 8)}  # outputs x inputs, by the size of a block


def resolve_block(quantiser: str, block: int | Block) -> Block:
    """A block as (rows, cols): a number means a run of inputs, and for tiles one of TILES.

    Raises:
        ValueError: a number for which no tile is agreed, or no block at all.
    """
    if not isinstance(block, int):
        rows, cols = block
        return int(rows), int(cols)
    if block < 1:
        raise ValueError(f"block {block}: must be 1 or more")
    if quantiser != "tiles":
        return 1, block
    if block not in TILES:
        raise ValueError(f"tiles of {block} weights: give (outputs, inputs), or {set(TILES)}")
    return TILES[block]


def quantise(weight: torch.Tensor, quantiser: str, block: int | Block, **options: Any) -> Quantised:
    """Quantise one weight to 4 bit.

    Args:
        weight: (d_out, d_in), any floating type.
        quantiser: a name in QUANTISERS.
        block: weights that share a scale: a run of inputs, or (outputs, inputs).
        **options: of the quantiser's own function (n, offsets, scales, zeros).

    Raises:
        ValueError: an unknown quantiser, a block it cannot take, a weight that is not finite.
    """
    if quantiser not in QUANTISERS:
        raise ValueError(f"unknown quantiser {quantiser!r}; known: {', '.join(QUANTISERS)}")
    if weight.dim() != 2 or not weight.numel():
        raise ValueError(f"a weight of shape {tuple(weight.shape)}: must be (outputs, inputs)")
    if not weight.isfinite().all():
        raise ValueError(
            f"a weight of {weight.shape[0]} x {weight.shape[1]} holds NaN or infinity: "
            "check the checkpoint"
        )
    weight = weight.detach()
    return QUANTISERS[quantiser].function(weight, resolve_block(quantiser, block), **options)


def quantise_linears(
    model: Any, quantiser: str, blocks: Mapping[str, int | Block], **options: Any
) -> dict[str, Quantised]:
    """Quantise linear layers of a model, which keeps its weights.

    Args:
        model: with nn.Linear modules.
        quantiser: a name in QUANTISERS.
        blocks: full module path -> block; linear modules not named are left out, and so is the
            output layer (lm_head) even if it is.
        **options: of the quantiser.

    Returns:
        module -> `Quantised`, in the order of `blocks`.

    Raises:
        ValueError: a name that is no linear layer; else as `quantise`, naming the module.
    """
    from torch import nn

    modules = dict(model.named_modules())
    for name in blocks:
        if not isinstance(modules.get(name), nn.Linear):
            raise ValueError(f"{name} is not a linear layer (nn.Linear) of the model")
    quantised = {}
    for name, block in blocks.items():
        if name.rpartition(".")[2] == "lm_head":
            continue
        try:
            quantised[name] = quantise(modules[name].weight, quantiser, block, **options)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return quantised


def quantise_model_(
    model: Any, quantiser: str, blocks: Mapping[str, int | Block], **options: Any
) -> dict[str, dict[str, float]]:
    """Replace the weights of linear layers, in place, by what quantising leaves of them.

    The model stays a plain one (same modules, same dtype): what training, merging into 16 bit and
    evaluation stand on. No weight is touched unless all could be quantised.

    Args:
        model: with nn.Linear modules.
        quantiser: a name in QUANTISERS.
        blocks: full module path -> block, as for `quantise_linears`.
        **options: of the quantiser.

    Returns:
        module -> bits_per_weight, mse, error_share, entropy_bits.

    Raises:
        ValueError: as `quantise_linears`.
    """
    return replace_weights_(model, quantise_linears(model, quantiser, blocks, **options))


def replace_weights_(model: Any, quantised: Mapping[str, Quantised]) -> dict[str, dict[str, float]]:
    """Put dequantised weights into a model's linear layers, in place and in their dtype.

    Args:
        model: with nn.Linear modules that still hold the original weights.
        quantised: module -> `Quantised`.

    Returns:
        module -> bits_per_weight, mse, error_share, entropy_bits.

    Raises:
        ValueError: a module that the model has not, or of another shape.
    """
    modules = dict(model.named_modules())
    for name, stored in quantised.items():
        weight = getattr(modules.get(name), "weight", None)
        if weight is None or tuple(weight.shape) != stored.shape:
            raise ValueError(
                f"{name}: the model has no weight of {stored.shape[0]} x {stored.shape[1]} there"
            )
    reports = {}
    for name, stored in quantised.items():
        weight = modules[name].weight
        reports[name] = stored.report(weight.data)
        weight.data.copy_(stored.dequantize(weight.dtype))
    return reports


def summarise(
    reports: Mapping[str, Mapping[str, float]], shapes: Mapping[str, tuple[int, int]]
) -> dict[str, float]:
    """The reports of a model's modules as one: means over the weights.

    Args:
        reports: module -> report, from `quantise_model_`.
        shapes: module -> (d_in, d_out).
    """
    sizes = {name: shapes[name][0] * shapes[name][1] for name in reports}
    total = sum(sizes.values())
    keys = next(iter(reports.values()))
    return {key: sum(reports[n][key] * sizes[n] for n in reports) / total for key in keys}

"""One storage for every quantiser: 4-bit codes, a scale per block, a constant per block or none.

    offset   W = scale * level[code] + offset     NF4 codes: ICQ's shift, the offset of tiles
    zero     W = scale * (code - zero)            INT4 with zero points
    none     W = scale * level[code]              NF4 as bitsandbytes has it

A matrix that is constant on every block can be added to the constant alone, codes and scales
untouched: that is the merge inside the quantised format of QA-LoRA and QA-HiRA. INT4 can state its
constant either way; as an offset (the group's midpoint, scale * (7.5 - zero)) it survives 16 bit
four to six times better than as a zero point.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from slimlib.model.quantise.blocks import Block, check_shape, code_entropy, from_blocks, unpack
from slimlib.model.quantise.numbers import Numbers

if TYPE_CHECKING:
    import torch

MIDDLE = 7.5  # of the codes 0 to 15


@dataclass(frozen=True, eq=False)
class Quantised:
    """One weight (d_out, d_in) in 4 bit, packed."""

    quantiser: str
    shape: tuple[int, int]
    block: Block
    codes: torch.Tensor  # uint8, two codes a byte, in block order
    scale: Numbers  # one per block
    constant: Numbers | None = None  # one per block; None with form "offset" is zero, not stored
    form: str = "none"  # "none", "offset" or "zero"

    def unpacked(self) -> torch.Tensor:
        """The codes, uint8 (d_out * d_in), in block order."""
        return unpack(self.codes, self.shape[0] * self.shape[1])

    def dequantize(self, dtype: torch.dtype | None = None) -> torch.Tensor:
        """The weight (d_out, d_in) that the stored numbers stand for.

        Args:
            dtype: default float32. float64 is computed in float64, everything else in float32.
        """
        import torch
        from torch.nn.functional import pad

        dtype = dtype or torch.float32
        exact = torch.float64 if dtype == torch.float64 else torch.float32
        size = self.block[0] * self.block[1]
        codes = self.unpacked()
        codes = pad(codes, (0, -codes.numel() % size)).view(-1, size)
        blocks = levels(self)[codes.int()].to(exact)
        scale = self.scale.values(exact)[:, None]
        constant = None if self.constant is None else self.constant.values(exact)[:, None]
        if self.form == "zero":
            blocks = (blocks - constant).mul_(scale)
        else:
            blocks = blocks.mul_(scale)
            blocks = blocks if constant is None else blocks.add_(constant)
        return from_blocks(blocks, self.shape, self.block).to(dtype)

    @property
    def bits_per_weight(self) -> float:
        """Everything stored, over the weights: codes, scales, constants, double quantisation."""
        constant = self.constant.bits if self.constant else 0
        return (8 * self.codes.numel() + self.scale.bits + constant) / (
            self.shape[0] * self.shape[1]
        )

    def report(self, weight: torch.Tensor) -> dict[str, float]:
        """What the quantisation cost.

        Args:
            weight: (d_out, d_in), the original.

        Returns:
            bits_per_weight; mse, the mean squared error; error_share, the length of the error over
            that of the weight; entropy_bits, the Shannon entropy of the codes within a block,
            averaged over the blocks (what ICQ raises).
        """
        error = self.dequantize().double() - weight.double()
        entropy = code_entropy(self.unpacked(), self.block[0] * self.block[1])
        return {
            "bits_per_weight": self.bits_per_weight,
            "mse": error.square().mean().item(),
            "error_share": (error.norm() / weight.double().norm().clamp_min(1e-300)).item(),
            "entropy_bits": entropy.mean().item(),
        }

    def add_constant(
        self, delta: torch.Tensor, dtype: str | torch.dtype = "float32", form: str | None = None
    ) -> Quantised:
        """Add one number to every weight of a block, in the stored constants alone.

        Args:
            delta: (d_out / rows, d_in / cols), one number per block.
            dtype: storage of the new constants: float64, float32, float16, bfloat16, "8bit", or
                "int" for packed integer zero points, which round a small change away.
            form: "zero" or "offset"; default as it is stored now.

        Raises:
            ValueError: a format without a constant, another shape, a storage that does not hold.
        """
        import torch

        form = form or self.form
        dtype = str(dtype).removeprefix("torch.")
        self._check_constant(delta, dtype, form)
        delta = delta.to(self.codes.device, torch.float64).reshape(-1)
        scale = self.scale.values(torch.float64)
        old = 0.0 if self.constant is None else self.constant.values(torch.float64)
        if form == "zero":
            new = old - delta / scale
        elif self.form == "zero":
            new = scale * (MIDDLE - old) + delta
        else:
            new = old + delta
        return replace(self, constant=Numbers.of(new, dtype, f"the {form}s"), form=form)

    def _check_constant(self, delta: torch.Tensor, dtype: str, form: str) -> None:
        """Refuse what `add_constant` cannot do."""
        if self.form == "none":
            raise ValueError(
                f"{self.quantiser} has no constant per block to add to: quantise with tiles, int4 "
                "or icq, or merge into 16 bit"
            )
        if form not in ("zero", "offset") or (form == "zero" and self.form != "zero"):
            raise ValueError(f"form={form!r}: {self.quantiser} stores its constant as {self.form}")
        if dtype == "int" and form != "zero":
            raise ValueError("integers hold zero points only: choose float32 for offsets")
        check_shape(self.shape, self.block, "one constant per block")
        grid = (self.shape[0] // self.block[0], self.shape[1] // self.block[1])
        if tuple(delta.shape) != grid:
            raise ValueError(
                f"constants of shape {tuple(delta.shape)} for a weight of {self.shape[0]} x "
                f"{self.shape[1]} in blocks of {self.block[0]} x {self.block[1]}: must be {grid}"
            )

    def tensors(self) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
        """The stored tensors by name, and the rest as text: both as safetensors takes them."""
        tensors = {"codes": self.codes}
        kinds = {}
        for name, numbers in (("scale", self.scale), ("constant", self.constant)):
            if numbers is not None:
                kinds[name] = json.dumps([numbers.kind, numbers.count])
                tensors |= {f"{name}.{key}": t for key, t in numbers.tensors().items()}
        text = {"quantiser": self.quantiser, "form": self.form}
        return tensors, text | {
            "shape": json.dumps(self.shape),
            "block": json.dumps(self.block),
            **kinds,
        }

    @classmethod
    def from_tensors(
        cls, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]
    ) -> Quantised:
        """The inverse of `tensors`."""
        numbers = {}
        for name in ("scale", "constant"):
            if name in metadata:
                kind, count = json.loads(metadata[name])
                stored = {
                    key.removeprefix(f"{name}."): tensor
                    for key, tensor in tensors.items()
                    if key.startswith(f"{name}.")
                }
                numbers[name] = Numbers(kind, count, **stored)
        shape, block = (tuple(json.loads(metadata[name])) for name in ("shape", "block"))
        return cls(
            metadata["quantiser"],
            shape,
            block,
            tensors["codes"],
            form=metadata["form"],
            **numbers,
        )


def levels(quantised: Quantised) -> torch.Tensor:
    """The 16 numbers that the codes stand for, float32: NF4's, or the integers (centred)."""
    import torch

    device = quantised.codes.device
    if quantised.quantiser in ("int4", "gptq"):
        integers = torch.arange(16.0, device=device)
        return integers if quantised.form == "zero" else integers - MIDDLE
    from bitsandbytes.functional import get_4bit_type

    return get_4bit_type("nf4", device=device)

"""One number per block (a scale, a zero point, an offset) in the precision in which it is stored.

Besides the floating-point types there are "8bit" (bitsandbytes' dynamic 8-bit codes in groups of
256 with one float32 for each group: double quantisation), "8bit+mean" (the same after the mean is
taken away, as bitsandbytes stores absmax) and "int" (0 to 15 in four bits, as packed zero points).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from slimlib.model.quantise.blocks import pack, unpack

if TYPE_CHECKING:
    import torch

FLOATS = ("float64", "float32", "float16", "bfloat16")
KINDS = (*FLOATS, "8bit", "8bit+mean", "int")
GROUP = 256  # numbers that share one float32 under double quantisation (QLoRA, section 3)


@dataclass(frozen=True, eq=False)
class Numbers:
    """A vector as stored; `Numbers.of` rounds one to a storage, `values` reads it back."""

    kind: str  # one of KINDS
    count: int
    data: torch.Tensor  # the numbers themselves, 8-bit codes, or packed 4-bit ones
    absmax: torch.Tensor | None = None  # (groups), float32: under double quantisation
    mean: torch.Tensor | None = None  # float32 scalar: "8bit+mean" only

    @classmethod
    def of(cls, values: torch.Tensor, kind: str, what: str = "the numbers") -> Numbers:
        """Round a vector to a storage.

        Args:
            values: (n), any floating type.
            kind: one of KINDS.
            what: they are, for messages.

        Raises:
            ValueError: an unknown kind, or a value too large for it.
        """
        import torch

        if kind not in KINDS:
            raise ValueError(f"storage {kind!r} of {what}: must be one of {', '.join(KINDS)}")
        values = values.reshape(-1)
        if kind in FLOATS:
            numbers = cls(kind, values.numel(), values.to(getattr(torch, kind)))
        elif kind == "int":
            numbers = cls(kind, values.numel(), pack(values.round().clamp(0, 15)))
        else:
            numbers = cls._in_eight_bits(values.float(), kind)
        if not (values.isfinite().all() and numbers.values().isfinite().all()):
            raise ValueError(f"{what} do not fit into {kind}: store them in float32")
        return numbers

    @classmethod
    def _in_eight_bits(cls, values: torch.Tensor, kind: str) -> Numbers:
        from bitsandbytes.functional import quantize_blockwise

        mean = values.mean() if kind == "8bit+mean" else None
        centred = values if mean is None else values - mean
        codes, state = quantize_blockwise(centred, blocksize=GROUP)
        return cls(kind, values.numel(), codes, state.absmax, mean)

    def values(self, dtype: torch.dtype | None = None) -> torch.Tensor:
        """The numbers read back, (n): float32, or float64 where they are stored so or asked for."""
        import torch

        if self.kind == "int":
            numbers = unpack(self.data, self.count).float()
        elif self.kind in FLOATS:
            numbers = self.data if self.kind == "float64" else self.data.float()
        else:
            from bitsandbytes.functional import dequantize_blockwise

            numbers = dequantize_blockwise(
                self.data, absmax=self.absmax, code=_dynamic_map(self.data.device), blocksize=GROUP
            ).to(torch.float32)
            if self.mean is not None:
                numbers = numbers + self.mean
        return numbers if dtype is None else numbers.to(dtype)

    @property
    def bits(self) -> int:
        """Everything stored, in bits; the dynamic map itself is a constant and not counted."""
        return sum(8 * t.numel() * t.element_size() for t in self.tensors().values())

    def tensors(self) -> dict[str, torch.Tensor]:
        """The stored tensors by name."""
        named = {field.name: getattr(self, field.name) for field in fields(self)[2:]}
        return {name: tensor for name, tensor in named.items() if tensor is not None}


def _dynamic_map(device: Any) -> torch.Tensor:
    from bitsandbytes.functional import create_dynamic_map

    return create_dynamic_map().to(device)

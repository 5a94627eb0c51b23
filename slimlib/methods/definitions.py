"""The five methods: what each trains, what fits it, and which pair of matrices it is.

Every method is an ordinary LoRA pair whose entries are tied: dW = s B_eff A_eff, with P_k the mean
of k consecutive entries and R_k the repetition of each entry k times.

    QLoRA      A                      B                       arXiv 2305.14314
    IR-QLoRA   A + b1 P_{d_in/r}      B + b2 R_{d_out/r}      arXiv 2402.05445
    QA-LoRA    A_G P_G                B                       arXiv 2309.14717
    Q-BaRA     A' P_lam               R_lam B'                Shen et al. 2025
    QA-HiRA    P_lam1 (no weights)    R_lam2 C                Shen et al. 2025
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


class QLoRA:
    """y = W x + s B (A x): plain LoRA on a quantised W."""

    label = "QLoRA"
    caption = "a low-rank pair"  # what is special about it
    quantiser = "nf4"  # of the method's paper
    structured = False  # PEFT's own layers compute it
    exports = True  # stock PEFT can hold it as plain LoRA
    fields: tuple[str, ...] = ("r",)  # what a rule can change
    text = "r {r}"  # its values in a table
    mean = ""  # the field that says how many inputs are averaged before A
    repeat = ""  # ... how many outputs have one value after B
    beside: tuple[str, ...] = ()  # what passes A and B, times b1 and b2

    def describe(self, adapter: Mapping[str, Any]) -> str:
        """Name and values, for a table; `adapter` is an AdapterConfig as a dict.

        Example: "Q-BaRA, r 16, lambda 2".
        """
        ruled = ", by rules" if adapter.get("rules") else ""
        return f"{self.label}, {self.text.format_map(adapter)}{ruled}"

    def check(self, entry: Entry) -> None:
        """Raise ValueError, naming module and shape, where the method does not fit the module."""
        most = min(entry.d_in, entry.d_out)
        if "r" in self.fields and entry.r < 1:
            raise ValueError(f"{entry.where}: r={entry.r} must be 1 or more")
        if "r" in self.fields and entry.r > most:
            raise ValueError(f"{entry.where}: r={entry.r} exceeds the layer; at most {most}")
        for field, what, size in (
            (self.mean, "inputs", entry.d_in),
            (self.repeat, "outputs", entry.d_out),
        ):
            if field:
                _check_divides(entry, field, what, size)

    def width(self, entry: Entry) -> int:
        """Inner width: rows of A_eff."""
        return entry.r

    def matrices(self, entry: Entry) -> dict[str, tuple[int, int]]:
        """Letter -> (inputs, outputs) of the matrices that are trained, in the data's order."""
        inner = self.width(entry)
        return {"A": (entry.averaged_inputs, inner), "B": (inner, entry.distinct_outputs)}

    def parameters(self, entry: Entry) -> int:
        """Numbers that are trained in one module."""
        betas = len(self.beside) if entry.iec_beta == "learned" else 0
        return sum(rows * columns for rows, columns in self.matrices(entry).values()) + betas

    def max_rank(self, entry: Entry) -> int:
        """The highest rank that dW can reach."""
        return min(size for shape in self.matrices(entry).values() for size in shape)

    def block(self, entry: Entry) -> tuple[int, int] | None:
        """(rows, columns) on which dW is constant; None where it varies from weight to weight."""
        return None


class IRQLoRA(QLoRA):
    """Information elastic connection: averages of x and of A x join the low-rank path.

    b1 and b2 are one number per module each, from 0 (the authors' code); a fixed number is the form
    of Shen et al. eq. 4, which has none (1), and changes the model before the first step.
    """

    label = "IR-QLoRA"
    caption = "averages past A and B"
    quantiser = "icq"
    structured = True
    beside = ("mean", "repeat")

    def check(self, entry: Entry) -> None:
        super().check(entry)
        beta = entry.iec_beta
        if beta != "learned" and not (isinstance(beta, int | float) and math.isfinite(beta)):
            raise ValueError(f"{entry.where}: iec_beta={beta!r} must be 'learned' or a number")


class QALoRA(QLoRA):
    """The input is averaged over the quantiser's groups, so that dW merges into zero points."""

    label = "QA-LoRA"
    caption = "averaged inputs, shorter A"
    quantiser = "int4"
    structured = True
    text = "r {r}, groups of {group_size}"
    mean = "group_size"

    def block(self, entry: Entry) -> tuple[int, int] | None:
        return 1, entry.group_size


class QBaRA(QLoRA):
    """lam times the rank for the same parameters: A' and B' are lam times narrower."""

    label = "Q-BaRA"
    caption = "shorter A and B, higher rank"
    structured = True
    fields = ("r", "lam")
    text = "r {r}, lambda {lam}"
    mean = repeat = "lam"

    def width(self, entry: Entry) -> int:
        return entry.lam * entry.r


class QAHiRA(QLoRA):
    """One matrix C between averaged inputs and repeated outputs: dW is constant on tiles.

    No rank exists; r only stands in the scale s = lora_alpha / r, as in the authors' code. C starts
    at zero, where theirs visibly starts at random and so changes the model before the first step.
    """

    label = "QA-HiRA"
    caption = "one matrix instead of a pair"
    quantiser = "tiles"
    structured = True
    exports = False
    fields = ("lam1", "lam2")
    text = "({lam1}, {lam2})"
    mean, repeat = fields

    def width(self, entry: Entry) -> int:
        return entry.averaged_inputs

    def matrices(self, entry: Entry) -> dict[str, tuple[int, int]]:
        return {"C": (entry.averaged_inputs, entry.distinct_outputs)}

    def block(self, entry: Entry) -> tuple[int, int] | None:
        return entry.lam2, entry.lam1


METHODS = {
    "qlora": QLoRA(),
    "ir-qlora": IRQLoRA(),
    "qa-lora": QALoRA(),
    "q-bara": QBaRA(),
    "qa-hira": QAHiRA(),
}


def _check_divides(entry: Entry, field: str, what: str, size: int) -> None:
    value = getattr(entry, field)
    if value < 1 or size % value:
        raise ValueError(
            f"{entry.where}: {field}={value} does not divide its {size} {what}; choose a divisor, "
            f"such as {_nearest_divisor(value, size)}"
        )


def _nearest_divisor(value: int, size: int) -> int:
    divisors = [d for d in range(1, size + 1) if size % d == 0]
    return min(divisors, key=lambda d: abs(d - value))


@dataclass(frozen=True)
class Entry:
    """What one module gets."""

    name: str  # full path, such as model.layers.0.self_attn.q_proj
    method: str
    d_in: int
    d_out: int
    r: int
    lora_alpha: float
    lam: int
    lam1: int
    lam2: int
    group_size: int
    iec_beta: str | float

    @property
    def where(self) -> str:
        """The module and its shape, for messages."""
        return f"{METHODS[self.method].label} on {self.name} ({self.d_out} x {self.d_in})"

    @property
    def scaling(self) -> float:
        """s = lora_alpha / r, with the base r also where the inner width is lam r."""
        return self.lora_alpha / self.r

    @property
    def averaged_inputs(self) -> int:
        """How many means of inputs the method reads; d_in where it averages none."""
        field = METHODS[self.method].mean
        return self.d_in // (getattr(self, field) if field else 1)

    @property
    def distinct_outputs(self) -> int:
        """How many outputs differ before they are repeated; d_out where none is."""
        field = METHODS[self.method].repeat
        return self.d_out // (getattr(self, field) if field else 1)

    @property
    def parameters(self) -> int:
        """Numbers that are trained."""
        return METHODS[self.method].parameters(self)

    @property
    def max_rank(self) -> int:
        """The highest rank that dW can reach."""
        return METHODS[self.method].max_rank(self)

    @property
    def saturated(self) -> bool:
        """Whether the inner width exceeds the rank that dW can reach (lam^2 r > min(d_in, d_out)).

        QA-HiRA has no rank to waste.
        """
        method = METHODS[self.method]
        return "r" in method.fields and method.width(self) > self.max_rank

    @property
    def block(self) -> tuple[int, int] | None:
        """(rows, columns) on which dW is constant; None where it varies from weight to weight."""
        return METHODS[self.method].block(self)

    def merges_into(self, block: tuple[int, int]) -> bool:
        """Whether dW is constant on each of a quantiser's blocks of (rows, columns)."""
        own = self.block
        return own is not None and own[0] % block[0] == 0 and own[1] % block[1] == 0


# codes, a byte of absmax per block of 64, a float32 per 256 of those
NF4_BITS = 4 + 8 / 64 + 32 / (64 * 256)

"""The five methods: what each trains, what fits it, and which pair of matrices it is.

Every method is an ordinary LoRA pair whose entries are tied: dW = s B_eff A_eff, with P_k the mean
of k consecutive entries and R_k the repetition of each entry k times.

    QLoRA      A                      B                       arXiv 2305.14314
    IR-QLoRA   A + b1 P_{d_in/r}      B + b2 R_{d_out/r}      arXiv 2402.05445
    QA-LoRA    A_G P_G                B                       arXiv 2309.14717
    Q-BaRA     A' P_lam               R_lam B'                Shen et al. 2025
    QA-HiRA    P_lam1 (no weights)    R_lam2 C                Shen et al. 2025

A method is described here once, as the boxes that its input goes through (`path`); what it trains,
its widths and ranks, its modules in torch and its picture follow from them. Its values and their
limits stand in `slimlib.config`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from slimlib.config import ADAPTERS, AdapterConfig

# codes, a byte of absmax per block of 64, a float32 per 256 of those
NF4_BITS = 4 + 8 / 64 + 32 / (64 * 256)
MATRICES = ("A", "B", "C")


class Box(NamedTuple):
    """One linear map from d_in to d_out numbers."""

    kind: str  # "A", "B" or "C": a trained matrix; "mean" or "repeat" of consecutive numbers
    d_in: int
    d_out: int
    # of a way past the matrix before it, added to its result: "learned" or a number
    beta: str | float | None = None

    @property
    def parameters(self) -> int:
        """Numbers that are trained."""
        if self.kind in MATRICES:
            return self.d_in * self.d_out
        return int(self.beta == "learned")

    @property
    def factor(self) -> int:
        """How many numbers are averaged into one, or how often each is repeated."""
        return max(self.d_in, self.d_out) // min(self.d_in, self.d_out)


class QLoRA:
    """y = W x + s B (A x): plain LoRA on a quantised W."""

    label = "QLoRA"
    caption = "a low-rank pair"  # what is special about it
    quantiser = "nf4"  # of the method's paper
    block_size: int | None = 64  # weights that share a scale there; None: its own groups
    structured = False  # PEFT's own layers compute it
    exports = True  # stock PEFT can hold it as plain LoRA
    init = "kaiming"  # of A, as LoRA's
    text = "r {r}"  # its values in a table
    code = "r{r}"  # and in the name of a cell

    def describe(self, adapter: Mapping[str, Any]) -> str:
        """Name and values, for a table; `adapter` is an AdapterConfig as a dict.

        Example: "Q-BaRA, r 16, lambda 2".
        """
        ruled = ", by rules" if adapter.get("rules") else ""
        return f"{self.label}, {self.text.format_map(adapter)}{ruled}"

    def path(self, entry: Entry) -> tuple[Box, ...]:
        """The boxes between x and B A x, in the order of the data."""
        return Box("A", entry.d_in, entry.r), Box("B", entry.r, entry.d_out)

    def check(self, entry: Entry) -> None:
        """Raise ValueError, naming module and shape, where the method does not fit the module."""
        most = min(entry.d_in, entry.d_out)
        if entry.r > most:
            raise ValueError(f"{entry.where}: r={entry.r} exceeds the layer; at most {most}")

    def block(self, values: Entry | AdapterConfig) -> tuple[int, int] | None:
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

    def path(self, entry: Entry) -> tuple[Box, ...]:
        down, up = super().path(entry)
        mean = Box("mean", entry.d_in, entry.r, entry.iec_beta)
        return down, mean, up, Box("repeat", entry.r, entry.d_out, entry.iec_beta)


class QALoRA(QLoRA):
    """The input is averaged over the quantiser's groups, so that dW merges into zero points."""

    label = "QA-LoRA"
    caption = "averaged inputs, shorter A"
    quantiser = "int4"
    block_size = None
    structured = True
    init = "xavier"  # as in the authors' code
    text = "r {r}, groups of {group_size}"
    code = "r{r}-g{group_size}"

    def path(self, entry: Entry) -> tuple[Box, ...]:
        groups = entry.d_in // entry.group_size
        mean = Box("mean", entry.d_in, groups)
        return mean, Box("A", groups, entry.r), Box("B", entry.r, entry.d_out)

    def check(self, entry: Entry) -> None:
        super().check(entry)
        _divides("group_size", entry.group_size, entry, inputs=True)

    def block(self, values: Entry | AdapterConfig) -> tuple[int, int] | None:
        return 1, values.group_size


class QBaRA(QLoRA):
    """lam times the rank for the same parameters: A' and B' are lam times narrower."""

    label = "Q-BaRA"
    caption = "shorter A and B, higher rank"
    structured = True
    text = "r {r}, lambda {lam}"
    code = "r{r}-lam{lam}"

    def path(self, entry: Entry) -> tuple[Box, ...]:
        inputs, outputs = entry.d_in // entry.lam, entry.d_out // entry.lam
        inner = entry.lam * entry.r
        pair = Box("A", inputs, inner), Box("B", inner, outputs)
        return Box("mean", entry.d_in, inputs), *pair, Box("repeat", outputs, entry.d_out)

    def check(self, entry: Entry) -> None:
        super().check(entry)
        _divides("lam", entry.lam, entry, inputs=True, outputs=True)


class QAHiRA(QLoRA):
    """One matrix C between averaged inputs and repeated outputs: dW is constant on tiles.

    No rank exists; r only stands in the scale s = lora_alpha / r, as in the authors' code. C starts
    at zero, where theirs visibly starts at random and so changes the model before the first step.
    """

    label = "QA-HiRA"
    caption = "one matrix instead of a pair"
    quantiser = "tiles"
    block_size = None
    structured = True
    exports = False
    text = "({lam1}, {lam2})"
    code = "{lam1}x{lam2}"

    def path(self, entry: Entry) -> tuple[Box, ...]:
        inputs, outputs = entry.d_in // entry.lam1, entry.d_out // entry.lam2
        mean, repeat = Box("mean", entry.d_in, inputs), Box("repeat", outputs, entry.d_out)
        return mean, Box("C", inputs, outputs), repeat

    def check(self, entry: Entry) -> None:
        _divides("lam1", entry.lam1, entry, inputs=True)
        _divides("lam2", entry.lam2, entry, outputs=True)

    def block(self, values: Entry | AdapterConfig) -> tuple[int, int] | None:
        return values.lam2, values.lam1


METHODS = {
    "qlora": QLoRA(),
    "ir-qlora": IRQLoRA(),
    "qa-lora": QALoRA(),
    "q-bara": QBaRA(),
    "qa-hira": QAHiRA(),
}


def _divides(
    name: str, value: int, entry: Entry, inputs: bool = False, outputs: bool = False
) -> None:
    sizes = [("inputs", entry.d_in)] * inputs + [("outputs", entry.d_out)] * outputs
    for what, size in sizes:
        if size % value:
            raise ValueError(
                f"{entry.where}: {name}={value} does not divide its {size} {what}; choose a "
                f"divisor, such as {_nearest_divisor(value, size)}"
            )


def _nearest_divisor(value: int, size: int) -> int:
    divisors = [d for d in range(1, size + 1) if size % d == 0]
    return min(divisors, key=lambda d: abs(d - value))


@dataclass(frozen=True)
class Entry:
    """What one module gets; a value that its method has not is None."""

    name: str  # full path, such as model.layers.0.self_attn.q_proj
    method: str
    d_in: int
    d_out: int
    r: int
    lora_alpha: float
    lam: int | None = None
    lam1: int | None = None
    lam2: int | None = None
    group_size: int | None = None
    iec_beta: str | float | None = None

    @property
    def where(self) -> str:
        """The module and its shape, for messages."""
        return f"{METHODS[self.method].label} on {self.name} ({self.d_out} x {self.d_in})"

    @property
    def scaling(self) -> float:
        """s = lora_alpha / r, with the base r also where the inner width is lam r."""
        return self.lora_alpha / self.r

    @property
    def path(self) -> tuple[Box, ...]:
        """The boxes between x and B A x, in the order of the data."""
        return METHODS[self.method].path(self)

    @property
    def parameters(self) -> int:
        """Numbers that are trained."""
        return sum(box.parameters for box in self.path)

    @property
    def width(self) -> int:
        """Inner width: rows of A_eff, which is what comes before B or C."""
        return next(box.d_in for box in self.path if box.kind in ("B", "C"))

    @property
    def max_rank(self) -> int:
        """The highest rank that dW can reach: no more than the narrowest place on the way."""
        return min(min(box.d_in, box.d_out) for box in self.path)

    @property
    def saturated(self) -> bool:
        """Whether the inner width exceeds the rank that dW can reach (lam^2 r > min(d_in, d_out)).

        QA-HiRA has no rank to waste.
        """
        return "r" in ADAPTERS[self.method].ruled and self.width > self.max_rank

    @property
    def block(self) -> tuple[int, int] | None:
        """(rows, columns) on which dW is constant; None where it varies from weight to weight."""
        return METHODS[self.method].block(self)

    def merges_into(self, block: tuple[int, int]) -> bool:
        """Whether dW is constant on each of a quantiser's blocks of (rows, columns)."""
        own = self.block
        return own is not None and own[0] % block[0] == 0 and own[1] % block[1] == 0

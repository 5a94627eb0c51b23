"""LoRA's two matrices with tied entries, as modules whose `.weight` is the matrix in effect.

PEFT, TRL, Unsloth's fused kernels, its decoding and every merge read `.weight` of lora_A and lora_B
and so stay right without knowing a method; `forward` computes the same, cheaper. What is trained is
called `core` (and `beta`). P_k is the mean of k consecutive entries, R_k repeats each k times.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional

from slimlib.methods.definitions import METHODS, Box, Entry


class Dense(nn.Module):
    """A matrix without structure, (rows, columns); the ends of a structured pair derive from it."""

    bias = None  # as on nn.Linear: PEFT and Unsloth ask for it

    def __init__(self, rows: int, columns: int, zero: bool = False, init: str = "kaiming"):
        super().__init__()
        self.core = nn.Parameter(torch.empty(rows, columns))
        if zero:
            nn.init.zeros_(self.core)
        elif init == "xavier":
            nn.init.xavier_uniform_(self.core)
        else:  # as nn.Linear and LoRA
            nn.init.kaiming_uniform_(self.core, a=math.sqrt(5))

    @property
    def weight(self) -> Tensor:
        """The matrix in effect, differentiable."""
        return self.core

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.core)


class Pooled(Dense):
    """core P_k: a matrix (rows, d_in) that sees only the means of k inputs."""

    def __init__(self, rows: int, d_in: int, k: int, init: str = "kaiming"):
        super().__init__(rows, d_in // k, init=init)
        self.k = k

    @property
    def weight(self) -> Tensor:
        return self.core.repeat_interleave(self.k, 1) / self.k

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(means(x, self.k), self.core)


class Spread(Dense):
    """R_k core: a matrix (d_out, columns) that gives k outputs the same value; starts at zero."""

    def __init__(self, d_out: int, columns: int, k: int):
        super().__init__(d_out // k, columns, zero=True)
        self.k = k

    @property
    def weight(self) -> Tensor:
        return self.core.repeat_interleave(self.k, 0)

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.core).repeat_interleave(self.k, -1)


class Pooling(nn.Module):
    """P_k itself, (d_in / k, d_in), with nothing to train.

    Args:
        d_in: inputs.
        k: inputs averaged together; divides d_in.
        beside: the other end of the pair, whose dtype and device this follows: PEFT casts the
            trained weights to float32 on a 16-bit base, and what has none must agree with them.
    """

    bias = None

    def __init__(self, d_in: int, k: int, beside: Dense):
        super().__init__()
        self.d_in, self.k = d_in, k
        self.beside = (beside,)  # in a tuple: no submodule of this one

    @property
    def weight(self) -> Tensor:
        shared = pooling_matrix(self.d_in, self.k, *_like(self.beside[0].core))
        # a new tensor over the same numbers: Unsloth's decoding keeps its 16-bit copies of A and B
        # on the A it is given, and would take another layer's B from a shared one
        return shared.detach()

    def forward(self, x: Tensor) -> Tensor:
        return means(x, self.k)


class Averaged(Dense):
    """core + b1 M, M the r means of the input (IR-QLoRA's elastic connection, input side)."""

    def __init__(self, r: int, d_in: int, beta: str | float):
        super().__init__(r, d_in)
        _add_beta(self, beta)

    @property
    def weight(self) -> Tensor:
        return self.core + self.beta * input_means(*self.core.shape, *_like(self.core))

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight)


class Repeated(Dense):
    """core + b2 M, M the repetition of the r inner values (the same, output side)."""

    def __init__(self, d_out: int, r: int, beta: str | float):
        super().__init__(d_out, r, zero=True)
        _add_beta(self, beta)

    @property
    def weight(self) -> Tensor:
        return self.core + self.beta * output_repeats(*self.core.shape, *_like(self.core))

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight)


def _add_beta(module: nn.Module, beta: str | float) -> None:
    """A trained number that starts at 0, or a fixed one; 1 x 1, since PEFT warns of vectors."""
    module.beta = nn.Parameter(torch.zeros(1, 1)) if beta == "learned" else float(beta)


def means(x: Tensor, k: int) -> Tensor:
    """P_k x along the last dimension: (..., d) -> (..., d / k)."""
    return x.unflatten(-1, (-1, k)).mean(-1)


def _like(tensor: Tensor) -> tuple[torch.dtype, torch.device]:
    return tensor.dtype, tensor.device


def _kept(build: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Keep the last 16 results, ordinary tensors even where the first call came in inference mode.

    Autograd refuses to save an inference tensor, so one built while generating would end training.
    """
    return lru_cache(maxsize=16)(torch.inference_mode(False)(build))


@_kept
def pooling_matrix(d: int, k: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """P_k as a matrix (d / k, d)."""
    return torch.eye(d // k, dtype=dtype, device=device).repeat_interleave(k, 1) / k


@_kept
def input_means(r: int, d_in: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """IR-QLoRA's r means of d_in inputs, (r, d_in).

    Where r divides d_in, the mean of d_in / r consecutive inputs, as the authors' code has it; else
    their paper's form: with g = gcd(d_in, r), entry i is the mean of inputs i mod g, g + i mod g...
    """
    if d_in % r == 0:
        return pooling_matrix(d_in, d_in // r, dtype, device)
    return _same_residue(r, d_in, device).to(dtype) * math.gcd(r, d_in) / d_in


@_kept
def output_repeats(d_out: int, r: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """IR-QLoRA's repetition of r values over d_out outputs, (d_out, r).

    Where r divides d_out, each value d_out / r times in a row; else, with g = gcd(d_out, r), output
    o is the mean of the values whose place agrees with o modulo g.
    """
    if d_out % r == 0:
        return torch.eye(r, dtype=dtype, device=device).repeat_interleave(d_out // r, 0)
    return _same_residue(d_out, r, device).to(dtype) * math.gcd(d_out, r) / r


def _same_residue(rows: int, columns: int, device: torch.device) -> Tensor:
    g = math.gcd(rows, columns)
    i, j = torch.arange(rows, device=device), torch.arange(columns, device=device)
    return (i % g)[:, None] == (j % g)[None]


def build_pair(entry: Entry) -> tuple[nn.Module, nn.Module]:
    """The modules lora_A and lora_B of one module's entry, dW = 0.

    lora_A is the boxes of its path before B or C, lora_B the others.
    """
    boxes = {box.kind: box for box in entry.path}
    matrix, repeat = boxes.get("B") or boxes["C"], boxes.get("repeat")
    if repeat is None:
        up = Dense(matrix.d_out, matrix.d_in, zero=True)
    elif repeat.beta is None:
        up = Spread(repeat.d_out, matrix.d_in, repeat.factor)
    else:
        up = Repeated(repeat.d_out, repeat.d_in, repeat.beta)
    return _down(boxes, METHODS[entry.method].init, up), up


def _down(boxes: dict[str, Box], init: str, up: Dense) -> nn.Module:
    matrix, mean = boxes.get("A"), boxes.get("mean")
    if mean is None:
        return Dense(matrix.d_out, matrix.d_in, init=init)
    if mean.beta is not None:
        return Averaged(matrix.d_out, matrix.d_in, mean.beta)
    if matrix is None:
        return Pooling(mean.d_in, mean.factor, beside=up)
    return Pooled(matrix.d_out, mean.d_in, mean.factor, init=init)

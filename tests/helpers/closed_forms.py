"""The five methods' dW written out from their formulas alone, as an oracle for the tests.

s = lora_alpha / r; P_k is the mean of k consecutive entries, R_k repeats each entry k times:

    QLoRA s B A    IR-QLoRA s (B + b2 R)(A + b1 P)    QA-LoRA s B A P    Q-BaRA s R B A P
    QA-HiRA s R C P
"""

import math

import torch
from torch import Tensor, nn

ALPHA = 16


class Net(nn.Module):
    """One linear layer without bias, float64, under a name that adapters target."""

    def __init__(self, d_in: int, d_out: int):
        super().__init__()
        self.q_proj = nn.Linear(d_in, d_out, bias=False, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        return self.q_proj(x)


def mean_matrix(d: int, k: int) -> Tensor:
    """P_k, (d / k, d), entry by entry."""
    matrix = torch.zeros(d // k, d, dtype=torch.float64)
    for column in range(d):
        matrix[column // k, column] = 1 / k
    return matrix


def repeat_matrix(d: int, k: int) -> Tensor:
    """R_k, (d, d / k), entry by entry."""
    matrix = torch.zeros(d, d // k, dtype=torch.float64)
    for row in range(d):
        matrix[row, row // k] = 1
    return matrix


def elastic_matrix(rows: int, columns: int) -> Tensor:
    """What IR-QLoRA adds to A (rows = r) or to B (columns = r), without its beta.

    Where the smaller side divides the larger it is the authors' code: means of neighbours on the
    way in, repetition on the way out. Else it is their paper: with g the greatest common divisor
    the input is cut into chunks of g, the chunks are averaged, and the result is tiled.
    """
    if columns % rows == 0:
        return mean_matrix(columns, columns // rows)
    if rows % columns == 0:
        return repeat_matrix(rows, rows // columns)
    g = math.gcd(rows, columns)
    averaged = torch.eye(g, dtype=torch.float64).tile(1, columns // g) / (columns // g)
    return averaged.tile(rows // g, 1)


def delta(method: str, parts: dict[str, Tensor], d_in: int, d_out: int, values: dict) -> Tensor:
    """dW, (d_out, d_in), differentiable.

    Args:
        method: a name in METHODS.
        parts: what is trained: "A" and "B" (QA-HiRA: "B" alone), and "b1", "b2" for IR-QLoRA.
        d_in: inputs.
        d_out: outputs.
        values: r, lam, lam1, lam2, group_size.
    """
    r, lam = values["r"], values.get("lam")
    if method == "qlora":
        product = parts["B"] @ parts["A"]
    elif method == "ir-qlora":
        a = parts["A"] + parts["b1"] * elastic_matrix(r, d_in)
        product = (parts["B"] + parts["b2"] * elastic_matrix(d_out, r)) @ a
    elif method == "qa-lora":
        product = parts["B"] @ parts["A"] @ mean_matrix(d_in, values["group_size"])
    elif method == "q-bara":
        core = parts["B"] @ parts["A"]
        product = repeat_matrix(d_out, lam) @ core @ mean_matrix(d_in, lam)
    else:
        core = repeat_matrix(d_out, values["lam2"]) @ parts["B"]
        product = core @ mean_matrix(d_in, values["lam1"])
    return ALPHA / r * product


def trained_parts(model: nn.Module, module: str = "q_proj") -> dict[str, nn.Parameter]:
    """The trained tensors of one module, under the names that `delta` takes."""
    names = {
        "lora_A.default.weight": "A",
        "lora_B.default.weight": "B",
        "lora_A.default.core": "A",
        "lora_B.default.core": "B",
        "lora_A.default.beta": "b1",
        "lora_B.default.beta": "b2",
    }
    found = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and f"{module}." in name:
            found[names[name.split(f"{module}.", 1)[1]]] = parameter
    return found


def randomise(model: nn.Module, size: float = 1.0, seed: int = 0) -> nn.Module:
    """Give every trained tensor random values, as if the adapter had been trained."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        if parameter.requires_grad:
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.data.copy_(size * noise)
    return model

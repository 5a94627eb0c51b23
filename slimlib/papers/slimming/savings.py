"""The numbers of trained parameters that the papers print, counted again."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace as Facts

from slimlib.config import AdapterConfig, Rule
from slimlib.methods.shapes import lora_parameters, saving
from slimlib.papers.slimming import published
from slimlib.papers.slimming.findings import AGREES, judge


def lora_example() -> Iterator[Facts]:
    """Formula (1.2) of paper A on its worked example."""
    example = published.LORA_EXAMPLE
    trainable = lora_parameters(example.d_in, example.d_out, example.r)
    frozen = example.d_in * example.d_out
    yield Facts(example=example, trainable=trainable, frozen=frozen, share=100 * trainable / frozen)


def mlp_savings() -> Iterator[Facts]:
    """What smaller MLP ranks save in paper B, which prints shares of the frozen weights."""
    for (model, divisor), printed in published.MLP_RANK_SAVINGS.items():
        frozen = _frozen_saving(model, divisor)
        yield Facts(
            model=model,
            divisor=divisor,
            printed=printed,
            trainable=_mlp_saving(model, divisor),
            frozen=frozen,
            cut="" if judge(printed, frozen, 2) == AGREES else f" ({frozen:.4f}, cut off)",
            here=", ".join(
                f"{_mlp_saving(small, divisor):.2f} % ({small})"
                for small in ("Llama-3.2-1B", "TinyLlama-1.1B")
            ),
        )


def _mlp_saving(model: str, divisor: int) -> float:
    """Per cent of LoRA's parameters that go when the MLP's rank is divided; no rank changes it."""
    r = 4 * divisor
    return saving(model, AdapterConfig(r=r), Rule(layer_type="mlp", r=r // divisor))


def _frozen_saving(model: str, divisor: int) -> float:
    """The same share of the frozen weights, which is QA-HiRA's: C has d_in d_out / 32 entries."""
    hira = AdapterConfig(method="qa-hira", lam1=4, lam2=8)
    return saving(model, hira, Rule(layer_type="mlp", lam1=4 * divisor))

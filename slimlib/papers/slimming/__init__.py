"""The papers' arithmetic done again: every published number that follows from other published ones.

`audit()` recomputes the standard errors, intervals, losses and tests of paper A's Table 2 and the
savings that paper B prints, from the data in `published` alone; with the author's result files it
also checks those (`author_files`). Nothing recomputed is typed in. Tests are unpaired
unless a row says otherwise, since no per-document answers are public.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from slimlib.config import AdapterConfig, Rule
from slimlib.methods.shapes import lora_parameters, saving
from slimlib.papers.slimming import published, recomputed, statements
from slimlib.papers.slimming.author_files import file_findings
from slimlib.papers.slimming.findings import AGREES, DIFFERS, Audit, Finding, judge


def audit(files: Sequence[str | Path] = ()) -> Audit:
    """Recompute what the papers print and say of each claim whether it holds.

    Args:
        files: the author's result files (`published.RECORDS`), or folders that hold them; without
            them what only they show is marked as not checked.

    Example:

        print(slimlib.audit().to_text())  # among others: dK = 13.00 +- 6.93 is +- 13.55 as defined

    Raises:
        ValueError: a path that is missing or is no lm-eval result; names it.
    """
    paper_a = (
        *recomputed.plus_minus(),
        *recomputed.documents(),
        *recomputed.forgetting_rate(),
        *recomputed.ability_augmentation(),
        *recomputed.knowledge_loss(),
        *statements.stars(),
        statements.formats(),
        *statements.against("tinyllama-50k", "base"),
        *statements.against("tinyllama-50k", "llama-2k"),
        _lora_example(),
    )
    return Audit((*paper_a, *file_findings(files), *_paper_b()))


def _lora_example() -> Finding:
    """Formula (1.2) on its worked example."""
    example = published.LORA_EXAMPLE
    trainable = lora_parameters(example.d_in, example.d_out, example.r)
    frozen = example.d_in * example.d_out
    same = (trainable, frozen) == (example.trainable, example.frozen)
    return Finding(
        "A",
        f"LoRA with r = {example.r} on a {example.d_in:,} x {example.d_out:,} matrix",
        f"{example.trainable:,} of {example.frozen:,}",
        f"{trainable:,} of {frozen:,}",
        AGREES if same else DIFFERS,
        f"r (d_in + d_out): {100 * trainable / frozen:g} % of the matrix.",
    )


def _paper_b() -> Iterator[Finding]:
    """What smaller MLP ranks save: printed are shares of the frozen weights."""
    for (model, divisor), printed in published.MLP_RANK_SAVINGS.items():
        trainable, frozen = _mlp_saving(model, divisor), _frozen_saving(model, divisor)
        cut = "" if judge(printed, frozen, 2) == AGREES else f" ({frozen:.4f}, cut off)"
        yield Finding(
            "B",
            f"{model}: MLP rank / {divisor} saves trainable parameters",
            f"{printed:.2f} %",
            f"{trainable:.2f} %; of the frozen weights {frozen:.2f} %",
            judge(printed, trainable, 2),
            f"What is printed are shares of the frozen weights{cut}, d_in d_out for each matrix; "
            "LoRA trains r (d_in + d_out). They would be right for QA-HiRA. On our models "
            f"it is {_savings_here(divisor)}.",
        )


def _mlp_saving(model: str, divisor: int) -> float:
    """Per cent of LoRA's parameters that go when the MLP's rank is divided; no rank changes it."""
    r = 4 * divisor
    return saving(model, AdapterConfig(r=r), Rule(layer_type="mlp", r=r // divisor))


def _frozen_saving(model: str, divisor: int) -> float:
    """The same share of the frozen weights, which is QA-HiRA's: C has d_in d_out / 32 entries."""
    hira = AdapterConfig(method="qa-hira", lam1=4, lam2=8)
    return saving(model, hira, Rule(layer_type="mlp", lam1=4 * divisor))


def _savings_here(divisor: int) -> str:
    """The same saving on the two small models."""
    models = ("Llama-3.2-1B", "TinyLlama-1.1B")
    return ", ".join(f"{_mlp_saving(model, divisor):.2f} % ({model})" for model in models)

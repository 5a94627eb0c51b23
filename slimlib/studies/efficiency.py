"""What "efficient" is measured against, and both of TinyLlama's checkpoints.

Paper A calls QLoRA efficient without another fine-tuning beside it, says that ranks of 8 to 64 are
usual without trying them, and calls the Chat model TinyLlama's base. Here: QLoRA at ranks 8, 16, 32
and 64 and LoRA on un-quantised weights, on the paper's three benchmarks; and the 50,000 rows on
TinyLlama's Chat checkpoint, as the author ran them, beside the one that was only pretrained. Full
fine-tuning, the other comparator, is no adapter and is not among them. Smaller: `smol` has LoRA
without 4 bit beside QLoRA, and any study takes `--set llama-2k.model.load_in_4bit=false`.
"""

from __future__ import annotations

from dataclasses import replace

from slimlib.config import Arm, EvalConfig, ModelConfig, Study
from slimlib.studies.slimming import (
    ALPACA_2K,
    AS_RUN,
    LLAMA,
    PAPER_LABELS,
    PAPER_TASKS,
    TINY_ADAPTER,
    TINY_TRAIN,
    TINYLLAMA,
)

RANKS = (8, 16, 32, 64)
# Pretrained on 3 trillion tokens, neither tuned to follow instructions nor to chat.
TINYLLAMA_PRETRAINED = ModelConfig(
    "TinyLlama/TinyLlama-1.1B-intermediate-step-1431k-3T",
    "59f6f375b26bde864a6ca194a9a3044570490064",
)
ROLES = ("hellaswag", "gsm8k", "mmlu_cs")  # the paper's three


def _ranks_and_lora(base: Arm, name: str) -> tuple[Arm, ...]:
    """QLoRA by rank, and LoRA of rank 16 on the weights as they are."""
    plain = replace(base.model, load_in_4bit=False)
    lora = {"model": plain, "merge": replace(base.merge, merge_base="16bit")}
    tuned = replace(base, compared_with=base.name, **AS_RUN)
    return (
        *(
            replace(
                tuned,
                name=f"qlora-r{r}",
                label=f"{name}, QLoRA r {r}",
                adapter=replace(tuned.adapter, r=r),
            )
            for r in RANKS
        ),
        replace(tuned, name="lora-r16", label=f"{name}, LoRA r 16, not quantised", **lora),
    )


def _pair(name: str, label: str, model: ModelConfig, evaluate: EvalConfig) -> tuple[Arm, Arm]:
    """A TinyLlama checkpoint, untuned and tuned on 50,000 rows."""
    base = Arm(f"{name}-base", f"{label}, untuned", model, evaluate=evaluate)
    made = {"adapter": TINY_ADAPTER, "train": TINY_TRAIN, "data": replace(ALPACA_2K, n=50_000)}
    tuned = {"name": f"{name}-50k", "label": f"{label}, 50,000 rows", "compared_with": base.name}
    return base, replace(base, **tuned, **made)


def _efficiency() -> Study:
    evaluate = EvalConfig(tasks=tuple(task for task in PAPER_TASKS if task.role in ROLES))
    base = Arm("base", "Llama 3.2 1B base", LLAMA, evaluate=evaluate)
    return Study(
        name="efficiency",
        title="What QLoRA is efficient against: ranks, LoRA, two TinyLlamas",
        arms=(
            base,
            *_ranks_and_lora(base, "Llama 3.2 1B"),
            *_pair("tinyllama-chat", "TinyLlama Chat (the author's)", TINYLLAMA, evaluate),
            *_pair("tinyllama-plain", "TinyLlama, only pretrained", TINYLLAMA_PRETRAINED, evaluate),
        ),
        ladder=("base", "qlora-r16"),
        causes={"qlora-r16": "QLoRA, quantised and fine-tuned"},
        task_labels={role: PAPER_LABELS[role] for role in ROLES},
    )


STUDIES = {"efficiency": _efficiency}

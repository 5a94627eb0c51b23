"""The studies `mitigation_smol`, `mitigation_micro` and `mitigation`: what prevents the loss?

One plain fine-tuning, as the paper's author ran it (QLoRA, merged into the weights that it was
trained on), and beside it arms that change one thing each: a knob is one field. Where only the
merge differs the arm takes the plain arm's adapter. Where each knob comes from stands with its
field (`slimlib keys`). Knobs are data; adding one is a line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from slimlib.config import (
    AdapterConfig,
    Arm,
    DataConfig,
    EvalConfig,
    MergeConfig,
    ModelConfig,
    Study,
    Task,
    TrainConfig,
)
from slimlib.studies.slimming import (
    AS_RUN,
    LLAMA,
    MICRO_DATA,
    MICRO_LABELS,
    MICRO_NOTE,
    MICRO_TASKS,
    MICRO_TRAIN,
    PAPER_LABELS,
    PAPER_TASKS,
)
from slimlib.studies.smol import LABELS, NOTE, SHARED_TASKS, model_of_smol

PLAIN = "plain"
ALPACA = Task("alpaca_held_out", "alpaca", num_fewshot=0, batch_size=16, limit=400)
LEARNED = ("alpaca", "instructions")  # roles of what rows teach: Alpaca's, and the made-up world's
CAUSES = {"nf4": "quantisation to NF4", PLAIN: "fine-tuning"}


class Knob(NamedTuple):
    """What an arm changes of the plain one: section -> field -> value."""

    name: str
    label: str
    changes: Mapping[str, Mapping[str, Any]]


def _merge(name: str, label: str, **values: Any) -> Knob:
    return Knob(name, label, {"merge": values})


def _rehearse(share: float, source: str, what: str) -> Knob:
    name = f"replay-{source.removeprefix('own-')}-{share:g}"
    values = {"replay": share, "replay_from": source}
    return Knob(name, f"rehearses {what}, {share:g} a row", {"data": values})


INTO_16BIT = _merge("into-16bit", "into the un-quantised base", merge_base="16bit")
SCALES = tuple(_merge(f"scale-{s:g}", f"{s:g} of dW", scale=s) for s in (0.25, 0.5, 0.75))
KL = tuple(
    Knob(f"kl-{w:g}", f"KL to the base, {w:g}", {"train": {"kl_weight": w}}) for w in (0.1, 1)
)
RANKS = tuple(  # alpha as the rank, so that the scale stays 1
    Knob(f"r-{r}", f"rank {r}, same scale", {"adapter": {"r": r, "lora_alpha": r}}) for r in (4, 64)
)
RSLORA = Knob("rslora", "rsLoRA", {"adapter": {"rslora": True}})
TARGETS = tuple(
    Knob(name, f"{label} only", {"adapter": {"target_modules": name}})
    for name, label in (("qkv", "Q, K, V"), ("attention", "attention"), ("mlp", "MLP"))
)
ANSWER = Knob("answer-only", "loss on the answer only", {"data": {"learn": "answer"}})
KEPT = tuple(
    Knob(f"keep-{part.replace('_', '-')}", f"{label} un-quantised", {"model": {"keep": (part,)}})
    for part, label in (
        ("first_third", "first third"),
        ("middle_third", "middle third"),
        ("last_third", "last third"),
        ("attention", "attention"),
        ("mlp", "MLP"),
    )
)
QUANTISERS = (
    Knob("icq", "ICQ instead of NF4", {"model": {"quantiser": "icq"}}),
    Knob("blocks-32", "NF4, blocks of 32", {"model": {"block_size": 32}}),
)
NO_4BIT = Knob("lora", "no 4 bit (LoRA)", {"model": {"load_in_4bit": False}})
OWN_TEXT = _rehearse(0.1, "own-text", "the base's own text")
OWN_ANSWERS = _rehearse(0.1, "own-answers", "the base's own answers")


def _rates(rate: float) -> tuple[Knob, ...]:
    return tuple(
        Knob(f"rate-{share:g}", f"{share:g} of the learning rate", {"train": {"learning_rate": lr}})
        for share, lr in ((s, s * rate) for s in (0.5, 0.25))
    )


def _turned(plain: Arm, knob: Knob) -> Arm:
    """The plain arm with one knob turned; nothing is trained where the merge alone differs."""
    sections = {
        section: replace(getattr(plain, section), **values)
        for section, values in knob.changes.items()
    }
    if {*knob.changes} == {"merge"}:
        return replace(plain, name=knob.name, label=knob.label, adapter_from=plain.name, **sections)
    sections["train"] = replace(sections.get("train", plain.train), probe_steps=0)
    return replace(plain, name=knob.name, label=knob.label, **sections)


def _study(
    model: ModelConfig, train: TrainConfig, probe_steps: int, knobs: Sequence[Knob], **about: Any
) -> Study:
    """Base, NF4, the plain arm and its knobs. The plain arm alone is probed while it is trained."""
    evaluate = about.pop("evaluate")
    merge = MergeConfig(dtype=evaluate.dtype)
    base = Arm("base", "base", model, merge=merge, evaluate=evaluate)
    plain = replace(
        base,
        name=PLAIN,
        label="plain fine-tuning (QLoRA)",
        compared_with="base",
        adapter=AdapterConfig(),
        data=about.pop("rows"),
        train=replace(train, probe_steps=probe_steps),
    )
    return Study(
        arms=(
            base,
            replace(base, name="nf4", label="NF4", compared_with="base", quantise=True),
            plain,
            *(_turned(plain, knob) for knob in knobs),
        ),
        ladder=("base", "nf4", PLAIN),
        causes=CAUSES,
        learned=LEARNED,
        **about,
    )


def _mitigation_micro() -> Study:
    return _study(
        ModelConfig("micro:base", dtype="float32", max_seq_length=512),
        MICRO_TRAIN,
        probe_steps=25,
        knobs=(
            *(INTO_16BIT, *SCALES, *KL, OWN_TEXT, OWN_ANSWERS),
            _rehearse(0.1, "world-maths", "arithmetic"),
            *(*RANKS, RSLORA, *TARGETS, *_rates(MICRO_TRAIN.learning_rate), ANSWER),
            *(*KEPT, *QUANTISERS, NO_4BIT),
        ),
        rows=MICRO_DATA,
        evaluate=EvalConfig(tasks=MICRO_TASKS, dtype="float32", max_length=4096),
        name="mitigation_micro",
        title="What prevents the loss? (micro)",
        task_labels=MICRO_LABELS,
        data="world",
        note=MICRO_NOTE,
    )


def _mitigation_smol() -> Study:
    train = TrainConfig(logging_steps=2, padding_free=True)
    return _study(
        model_of_smol(),
        train,
        probe_steps=8,
        knobs=(
            *(INTO_16BIT, *SCALES[1:], KL[0], OWN_TEXT, _rehearse(0.1, "digits", "larger sums")),
            *(RANKS[0], RSLORA, TARGETS[1], _rates(train.learning_rate)[0], ANSWER, *KEPT[:3]),
        ),
        rows=DataConfig(n=500),
        evaluate=EvalConfig(tasks=(*SHARED_TASKS, ALPACA), dtype="float32"),
        name="mitigation_smol",
        title="What prevents the loss? (SmolLM2-135M-Instruct)",
        task_labels={
            **{t.role: LABELS[t.role] for t in SHARED_TASKS},
            "alpaca": "held-out Alpaca answers",
        },
        note=NOTE.replace("smol:", "mitigation_smol:"),
    )


def _mitigation() -> Study:
    tasks = (*PAPER_TASKS, *(t for t in SHARED_TASKS if t.role in ("digits_equation", "piqa")))
    train = AS_RUN["train"]
    return _study(
        replace(LLAMA, backend="transformers"),  # Unsloth returns no hidden states to the KL
        train,
        probe_steps=0,
        knobs=(
            *(INTO_16BIT, *SCALES[1:], KL[0], OWN_TEXT, _rehearse(0.1, "gsm8k", "GSM8K's rows")),
            *(_rehearse(0.01, "gsm8k", "GSM8K's rows"), RANKS[0], RSLORA, TARGETS[0], TARGETS[1]),
            *(_rates(train.learning_rate)[0], ANSWER, NO_4BIT),
        ),
        rows=AS_RUN["data"],
        evaluate=EvalConfig(tasks=(*tasks, ALPACA)),
        name="mitigation",
        title="What prevents the loss? (Llama 3.2 1B)",
        task_labels={
            **PAPER_LABELS,
            **{t.role: LABELS[t.role] for t in tasks if t.role in LABELS},
            "alpaca": "held-out Alpaca answers",
        },
    )


STUDIES = {
    "mitigation": _mitigation,
    "mitigation_micro": _mitigation_micro,
    "mitigation_smol": _mitigation_smol,
}

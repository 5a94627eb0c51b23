"""Studies are data: frozen dataclasses, the named presets and the overrides that change them.

One `Arm` is one arm: a model, how it is fine-tuned, merged and evaluated. One `Study` is a
tuple of arms, the order of the attribution ladder and the labels of its tables. Every field states
its unit or its source; "as run" is what the paper's author ran (their public records), "as written"
is what the paper says (arXiv 2506.10885). Nothing outside this module tests for a study's name.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

ROLES = ("gsm8k", "hellaswag", "mmlu_cs", "mmlu_cs_college")
MERGE_BASES = ("dequant_nf4", "16bit", "requantised")
TEMPLATES = ("as-run", "alpaca")
DTYPES = ("float16", "bfloat16", "float32")
EVALUATORS = ("slim", "hf")
QUANTISERS = ("nf4", "icq", "int4", "tiles")  # and gptq:FOLDER
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
MLP = ("gate_proj", "up_proj", "down_proj")
ALL_LINEAR = (*ATTENTION, *MLP)


@dataclass(frozen=True)
class ModelConfig:
    """A checkpoint and how it is loaded."""

    name: str  # hub id, folder, or "micro:base" for an embedded checkpoint
    revision: str | None = None  # pinned hub commit; None for folders
    dtype: str = "auto"  # auto: float16 on a T4, bfloat16 from 8.0 up, float32 on a CPU
    load_in_4bit: bool = True
    quantiser: str = "nf4"  # what 4 bit means: one of QUANTISERS; "gptq:FOLDER" reads a checkpoint
    block_size: int | None = 64  # weights that share a scale; None: as the adapter's own groups
    max_seq_length: int = 1024  # tokens; as run
    backend: str = "auto"  # "unsloth" on a GPU, "transformers" elsewhere


@dataclass(frozen=True)
class Rule:
    """Which modules of an adapter get other values than the rest; all that is given must match."""

    layer_type: str | None = None  # "attention" (q, k, v, o) or "mlp" (gate, up, down)
    projection: tuple[str, ...] = ()  # such as ("q_proj", "k_proj")
    layers: str | None = None  # "first_half", "second_half", "0-7" (inclusive), "random_half:SEED"
    r: int | None = None
    lam: int | None = None
    lam1: int | None = None
    lam2: int | None = None


@dataclass(frozen=True)
class AdapterConfig:
    """The adapter, under the names of PEFT; the structured methods' own values below."""

    method: str = "qlora"  # a name in slimlib.adapters.METHODS
    r: int = 16  # as run; the paper says "typically r = 8"
    lora_alpha: int = 16  # as run
    lora_dropout: float = 0.0  # as run
    target_modules: tuple[str, ...] = ALL_LINEAR  # as run; the paper says Q/K/V
    lam: int = 2  # Q-BaRA: inputs averaged and outputs repeated together
    lam1: int = 4  # QA-HiRA: inputs averaged together
    lam2: int = 8  # QA-HiRA: outputs repeated together
    group_size: int = 32  # QA-LoRA: inputs averaged together, the quantiser's group
    iec_beta: str | float = "learned"  # IR-QLoRA: from 0; a number: the article's fixed form
    keep_scale: bool = False  # a rule's rank keeps lora_alpha / r of the whole
    rules: tuple[Rule, ...] = ()  # per layer type, projection or depth; none may contradict


@dataclass(frozen=True)
class DataConfig:
    """The rows of the fine-tuning and how they are written as text."""

    dataset: str = "alpaca"  # a name in data.DATASETS, a .jsonl file, or hub-id[@revision]
    path: str | None = None  # folder or .jsonl file that replaces the hub
    n: int | None = 2000  # rows; None takes all
    subset: str = "head"  # "head": first n in file order (as run); "random": seeded
    mixture: Mapping[str, float] = field(default_factory=dict)  # {"alpaca": 0.5, "gsm8k": 0.5}
    template: str = "as-run"  # or "alpaca": Stanford's two prompts
    append_eos: bool = False  # as run: no end-of-text, so the model never learns to stop

    @property
    def names(self) -> tuple[str, ...]:
        """The data sets that are read: the parts of the mixture, or the one."""
        return tuple(self.mixture) or (self.dataset,)


@dataclass(frozen=True)
class TrainConfig:
    """The fine-tuning, under the names of transformers."""

    per_device_train_batch_size: int = 4  # as run
    gradient_accumulation_steps: int = 4  # as run: 16 rows a step
    learning_rate: float = 2e-4  # as run
    lr_scheduler_type: str = "cosine"  # as run
    warmup_ratio: float = 0.05  # as run; share of the steps
    num_train_epochs: float = 1.0  # as run: 2,000 rows = 125 steps
    max_steps: int = -1  # -1: by epochs
    optim: str = "adamw_torch"  # as run
    weight_decay: float = 0.0  # transformers' default, as run
    max_grad_norm: float = 1.0  # transformers' default, as run
    save_steps: int = 100  # steps between checkpoints; what a disconnect may lose
    logging_steps: int = 5


@dataclass(frozen=True)
class MergeConfig:
    """What the adapter is added to."""

    merge_base: str = "dequant_nf4"  # or "16bit", or "requantised" (as run: PEFT's merge on 4 bit)
    dtype: str = "float16"  # of the written weights; bfloat16 would lose a quarter of a small dW


@dataclass(frozen=True)
class Task:
    """One benchmark as lm-evaluation-harness runs it."""

    name: str  # lm-eval's task name
    role: str  # which of the paper's benchmarks it plays
    num_fewshot: int
    batch_size: int  # of lm-eval's HFLM, where that is what runs
    limit: int | None = None  # documents; None takes the whole split
    source: str | None = None  # layout of local files in data.TASK_FILES; None reads the hub


@dataclass(frozen=True)
class EvalConfig:
    """The evaluation, equal for all arms that are compared."""

    tasks: tuple[Task, ...] = ()
    dtype: str = "float16"  # as run
    max_length: int = 2048  # tokens; explicit, since Llama 3.2's own 131,072 breaks memory probes
    fewshot_seed: int = 1234  # lm-eval's default
    evaluator: str = "slim"  # slimlib.evaluate.scoring's SlimLM; "hf": lm-eval's own HFLM


@dataclass(frozen=True)
class Arm:
    """One arm of a study."""

    name: str
    label: str
    model: ModelConfig
    compared_with: str | None = None  # the arm its losses are measured against
    quantise: bool = False  # evaluate the NF4-quantised model (written out dequantised)
    adapter: AdapterConfig | None = None
    adapter_from: str | None = None  # take this arm's adapter instead of training one
    data: DataConfig | None = None
    train: TrainConfig | None = None
    merge: MergeConfig = MergeConfig()
    evaluate: EvalConfig = EvalConfig()
    seed: int = 3407  # as run, for LoRA; here also for the subset and the order of rows

    @property
    def trains(self) -> bool:
        """Whether this arm makes an adapter of its own."""
        return self.adapter is not None and self.adapter_from is None

    @property
    def writes_weights(self) -> bool:
        """Whether this arm writes a merged/ folder (else the model is evaluated as it is)."""
        return self.quantise or self.adapter is not None


class Question(NamedTuple):
    """A comparison that a study makes beside each arm's `compared_with`."""

    base: str  # arm
    tuned: str  # arm
    text: str


@dataclass(frozen=True)
class Study:
    """Arms, what is compared with what, and how the tables call them."""

    name: str
    title: str
    arms: tuple[Arm, ...]
    ladder: tuple[str, ...]  # attribution: each step's change is one cause
    causes: Mapping[str, str] = field(default_factory=dict)  # arm of the ladder -> what it changes
    comparisons: tuple[Question, ...] = ()
    task_labels: Mapping[str, str] = field(default_factory=dict)  # role -> row title
    paper_columns: Mapping[str, str] = field(default_factory=dict)  # arm -> published column
    data: str = "hub"  # "hub", "world" (generated into the run folder) or a local folder
    note: str = ""  # printed under every table
    reason: str = ""  # why get_study("auto") chose it

    def __getitem__(self, name: str) -> Arm:
        for arm in self.arms:
            if arm.name == name:
                return arm
        raise ValueError(f"study {self.name!r} has no arm {name!r}; it has: {self.arm_names}")

    @property
    def tuned(self) -> Arm:
        """The arm that the study is about: the first that is fine-tuned.

        Raises:
            ValueError: none is.
        """
        for arm in self.arms:
            if arm.trains:
                return arm
        raise ValueError(f"no arm among {self.arm_names} is fine-tuned: keep one that is")

    @property
    def arm_names(self) -> str:
        """The arms' names in order, for messages."""
        return ", ".join(arm.name for arm in self.arms)


def each_arm(study: Study, change: Callable[[Arm], Arm]) -> Study:
    """The study with `change` applied to every arm."""
    return replace(study, arms=tuple(change(arm) for arm in study.arms))


def to_dict(config: Any) -> dict[str, Any]:
    """A config as plain JSON types (tuples become lists)."""
    return json.loads(json.dumps(dataclasses.asdict(config)))

"""Studies are data: frozen dataclasses that check their values, each field with its limits.

One `Arm` is one arm: a model, how it is fine-tuned, merged and evaluated. One `Study` is a
tuple of arms, the order of the attribution ladder and the labels of its tables. Every field states
its unit or its source; "as run" is what the paper's author ran (their public records), "as written"
is what the paper says (arXiv 2506.10885). What lies outside a field's limits is a `ConfigError`.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, get_args

from pydantic import AfterValidator, BeforeValidator, Field, TypeAdapter

from slimlib.common.checked import Allowed, ConfigError, checked, did_you_mean, fields_of, shown
from slimlib.common.files import parse_json
from slimlib.common.names import check_name, check_text

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
MLP = ("gate_proj", "up_proj", "down_proj")
ALL_LINEAR = (*ATTENTION, *MLP)  # by name, as Llama's family has them
EVERY_LINEAR = "all-linear"  # as target module: whatever the architecture calls them
# One word for several target modules, by the names of Llama's family.
TARGETS = {"qkv": ATTENTION[:3], "attention": ATTENTION, "mlp": MLP, "all": ALL_LINEAR}
OWN_ANSWERS, OWN_TEXT = "own-answers", "own-text"  # rows that the base itself writes

Dtype = Literal["float16", "bfloat16", "float32"]
Evaluator = Literal["slim", "hf"]
EVALUATORS = get_args(Evaluator)
ADAPTER_FILE = "adapter_config.json"  # of PEFT
UNNAMED = "a model that it does not name"
CONTROLS = ("int8", "q4_1")  # and noise:SEED; what a quantiser is held against
QUANTISERS = ("nf4", "icq", "int4", "tiles", *CONTROLS)  # and gptq:FOLDER
# bitsandbytes' own NF4, as QLoRA trains on it and as checkpoints store it
OWN_NF4 = {"quantiser": "nf4", "block_size": 64, "block_offset": 0, "error_scale": 1}
IN_WORDS = ", ".join(f"{key}={value}" for key, value in OWN_NF4.items())
NF4_BLOCKS = (32, 64, 128, 256, 512, 1024, 2048, 4096)  # that bitsandbytes quantises to 4 bit
# transformers' SchedulerType without those that need arguments of their own or an evaluation
Schedule = Literal[
    *("linear", "cosine", "cosine_with_restarts", "polynomial", "constant"),
    *("constant_with_warmup", "inverse_sqrt"),
]
# transformers' OptimizerNames that run on torch and bitsandbytes alone
Optimizer = Literal[
    *("adamw_torch", "adamw_torch_fused", "adafactor", "ademamix", "sgd", "adagrad"),
    *("adamw_bnb_8bit", "adamw_8bit", "ademamix_8bit", "lion_8bit", "lion_32bit"),
    *("paged_adamw_32bit", "paged_adamw_8bit", "paged_ademamix_32bit", "paged_ademamix_8bit"),
    *("paged_lion_32bit", "paged_lion_8bit"),
    *("rmsprop", "rmsprop_bnb", "rmsprop_bnb_8bit", "rmsprop_bnb_32bit"),
]

Name = Annotated[str, AfterValidator(check_name)]  # becomes a folder
Text = Annotated[str, AfterValidator(check_text), Field(min_length=1, max_length=4_096)]
Count = Annotated[int, Field(ge=1, le=10_000_000)]
Tokens = Annotated[int, Field(ge=1, le=10_000_000)]


def _check_model(name: str) -> str:
    """Refuse a folder that holds no model, before anything is loaded from it."""
    if "://" in name:
        raise ValueError("must be a hub id or a folder, no address")
    folder = Path(name)
    if not os.path.isdir(name):  # unlike Path's it bears a name that is too long for a file
        return name
    if base := _base_of_adapter(folder):
        raise ValueError(
            f"must be a model, and this folder holds an adapter of {base}: give that model; "
            "slimlib check takes the adapter itself"
        )
    if (folder / "config.json").exists() or any(folder.glob("*.gguf")):
        return name
    raise ValueError("must be a hub id, or a folder with a config.json, which this one has not")


def _base_of_adapter(folder: Path) -> str | None:
    """The model that an adapter's folder names as its base; None for another folder."""
    for path in (folder / ADAPTER_FILE, folder / "slimlib" / ADAPTER_FILE):
        if path.is_file():
            try:
                base = parse_json(path.read_text(encoding="utf-8"))["base_model_name_or_path"]
                return check_text(base or UNNAMED)
            except (ValueError, KeyError, TypeError):
                return UNNAMED
    return None


def _check_quantiser(name: str) -> str:
    kind, _, rest = name.partition(":")
    if name in QUANTISERS or (kind == "gptq" and rest) or re.fullmatch(r"noise:\d{1,9}", name):
        return name
    gptq = "gptq:FOLDER, a checkpoint made by slimlib.model.quantise.load_gptq"
    known = (*QUANTISERS, "noise:SEED", gptq)
    raise ValueError(f"must be {' or '.join(known)}{did_you_mean(name, QUANTISERS)}")


def _several(names: Any) -> Any:
    """One name as a tuple of it."""
    return (names,) if isinstance(names, str) else tuple(names) if type(names) is list else names


@checked
class ModelConfig:
    """A checkpoint and how it is loaded.

    Example:
        >>> slimlib.ModelConfig("micro:base", load_in_4bit=False).max_seq_length  # tokens
        1024
    """

    name: Annotated[Text, AfterValidator(_check_model), Allowed("a hub id or a folder")] = Field(
        description='hub id, folder, "micro:base" (embedded), or "wheel:PACKAGE" for its GGUF file'
    )
    revision: Text | None = Field(None, description="pinned hub commit; none for folders")
    dtype: Dtype | Literal["auto"] = Field(
        "auto", description="auto: float16 on a T4, bfloat16 from 8.0 up, float32 on a CPU"
    )
    load_in_4bit: bool = Field(True, description="quantise the frozen weights; as run")
    quantiser: Annotated[
        str,
        AfterValidator(_check_quantiser),
        Allowed(f"{' or '.join(QUANTISERS)} or noise:SEED or gptq:FOLDER"),
    ] = Field("nf4", description='what 4 bit means; "gptq:FOLDER" reads a checkpoint')
    block_size: Count | None = Field(
        64, description="weights that share a scale; none: as the adapter's own groups"
    )
    block_offset: int = Field(
        0, ge=0, le=4095, description="weights of NF4's first block; 0: whole, as bitsandbytes has"
    )
    error_scale: float = Field(
        1.0, ge=0, le=4, description="t in W + t (Q(W) - W): the share of the quantiser's error"
    )
    max_seq_length: Tokens = Field(1024, description="tokens; as run")
    keep: Annotated[
        tuple[Text, ...],
        BeforeValidator(_several),
        Allowed("attention, mlp, first_third, middle_third, last_third, layers as 0-9, or names"),
    ] = Field(
        (),
        description="modules that stay un-quantised; more bits where a model is sensitive: "
        "Dong 2019 (HAWQ), arXiv 1905.03696",
    )
    backend: Literal["auto", "unsloth", "transformers"] = Field(
        "auto", description="auto: Unsloth on a GPU where it is installed, else transformers"
    )

    def __post_init__(self) -> None:
        if self.quantiser == "nf4" and self.block_size not in NF4_BLOCKS:
            problem = f"must be {', '.join(map(str, NF4_BLOCKS))} for nf4, as bitsandbytes has them"
            raise ConfigError("block_size", self.block_size, problem)
        if self.block_offset and (self.quantiser != "nf4" or self.block_offset >= self.block_size):
            problem = "must be 0, or with nf4 less than block_size"
            raise ConfigError("block_offset", self.block_offset, problem)
        if self.error_scale != 1 and self.quantiser.startswith("gptq:"):
            problem = "must be 1 with gptq, whose folder is read as it is"
            raise ConfigError("error_scale", self.error_scale, problem)
        if self.quantiser == "nf4":
            return
        if self.block_size is None and self.is_control:
            raise ConfigError("block_size", None, f"must be a number with {self.quantiser}")

    @property
    def by_bitsandbytes(self) -> bool:
        """Whether the quantised weights are bitsandbytes' own, as QLoRA trains on them."""
        return not self.unlike_bitsandbytes

    @property
    def unlike_bitsandbytes(self) -> str:
        """What differs from bitsandbytes' own NF4, as KEY=VALUE for messages; empty: nothing."""
        odd = [key for key, value in OWN_NF4.items() if getattr(self, key) != value]
        return ", ".join(f"{key}={shown(getattr(self, key))}" for key in odd)

    @property
    def is_control(self) -> bool:
        """Whether weights are left in no format: a control, or a part of a quantiser's error."""
        kind = self.quantiser.partition(":")[0]
        moved = self.block_offset > 0 or self.error_scale != 1
        return kind in (*CONTROLS, "noise") or moved


Factor = Annotated[int, Field(ge=1, le=1_024)]
Rank = Annotated[int, Field(ge=1, le=8_192)]  # the width of a 70B model


@checked
class Rule:
    """Which modules of an adapter get other values than the rest.

    All that is given must match.

    Example:
        >>> slimlib.Rule(layer_type="mlp", layers="first_half", r=8).sets
        {'r': 8}
    """

    layer_type: Literal["attention", "mlp"] | None = None  # q, k, v, o; gate, up, down
    projection: Annotated[tuple[Text, ...], Allowed('names as ("q_proj", "k_proj")')] = ()
    layers: Annotated[
        str | None,
        Field(pattern=r"^(first_half|second_half|random_half:\d{1,9}|\d{1,4}(-\d{1,4})?)$"),
        Allowed("first_half, second_half, random_half:SEED, or a range as 0-7"),
    ] = None  # decoder layers, from 0; a range is inclusive
    r: Rank | None = None
    lam: Factor | None = None
    lam1: Factor | None = None
    lam2: Factor | None = None

    @property
    def sets(self) -> dict[str, int]:
        """The values that the rule changes."""
        values = {key: getattr(self, key) for key in RULED}
        return {key: value for key, value in values.items() if value is not None}

    def __repr__(self) -> str:
        given = {name: getattr(self, name) for name in fields_of(Rule)}
        parts = (f"{name}={value!r}" for name, value in given.items() if value not in (None, ()))
        return f"Rule({', '.join(parts)})"


RULED = ("r", "lam", "lam1", "lam2")  # what a rule can set, where the method has it


def _alone(names: Any) -> Any:
    """Names as a tuple, a word of TARGETS as what it stands for; all-linear stands alone."""
    short = isinstance(names, str) and names in (EVERY_LINEAR, *TARGETS)
    names = (names,) if short else tuple(names) if type(names) is list else names
    if not isinstance(names, tuple) or not all(isinstance(name, str) for name in names):
        return names  # for the field's own type to refuse
    if EVERY_LINEAR in names and len(names) > 1:
        raise ValueError("all-linear is every linear module already: give it alone")
    parts = (TARGETS.get(name, (name,)) for name in names)
    return tuple(dict.fromkeys(part for some in parts for part in some))


@checked
class AdapterConfig:
    """The adapter, under the names of PEFT: what all methods share.

    Calling it builds the class of the method, in `ADAPTERS`, which has the method's own values
    beside these; a value of another method is an error.

    Example:
        >>> slimlib.AdapterConfig("q-bara", r=16, lam=4)
        QBaRAConfig(method='q-bara', r=16, lora_alpha=16, ..., lam=4)
    """

    method: str = "qlora"
    r: Rank = Field(16, description='rank; as run; the paper says "typically r = 8"')
    lora_alpha: int = Field(16, ge=1, le=1_000_000, description="scale s = lora_alpha / r; as run")
    lora_dropout: float = Field(0.0, ge=0, lt=1, description="share of inputs dropped; as run")
    target_modules: Annotated[
        tuple[Text, ...],
        BeforeValidator(_alone),
        Field(min_length=1),
        Allowed("names of modules, as q_proj,v_proj, or qkv, attention, mlp, all or all-linear"),
    ] = Field(
        ALL_LINEAR,
        description="all, as run; the paper says qkv; all-linear: whatever they are called; which "
        "ones keep most: Biderman 2024, arXiv 2405.09673",
    )
    keep_scale: bool = Field(False, description="a rule's rank keeps lora_alpha / r of the whole")
    rules: Annotated[
        tuple[Rule, ...], Allowed('a list of rules, as [{"layer_type": "mlp", "r": 8}]')
    ] = Field((), description="per layer type, projection or depth; none may contradict")

    ruled: ClassVar[tuple[str, ...]] = ("r",)  # what a rule may set

    def alpha(self, r: int) -> float:
        """What a module of rank r has over r as its scale s."""
        return self.lora_alpha * (r / self.r if self.keep_scale else 1)

    def __new__(cls, method: Any = "qlora", *args: Any, **values: Any) -> AdapterConfig:
        if cls is AdapterConfig:
            if method not in [*ADAPTERS]:  # a list, since anything may be given
                near = did_you_mean(method, ADAPTERS)
                raise ConfigError("method", method, f"must be {' or '.join(ADAPTERS)}{near}")
            cls = ADAPTERS[method]
        own = fields_of(cls)["method"].default
        if method not in (own, "qlora"):  # "qlora" stands there where none was given
            problem = f"this configuration is of {own}; ask as_method({method!r})"
            raise ConfigError("method", method, problem)
        for name in values.keys() - fields_of(cls).keys():
            raise ConfigError(name, values[name], cls.why_not(name))
        return object.__new__(cls)

    def __post_init__(self) -> None:
        for rule in self.rules:
            if not rule.sets or not {*rule.sets} <= {*self.ruled}:
                has, takes = ", ".join(rule.sets) or "nothing", ", ".join(self.ruled)
                problem = f"sets {has}; a rule of {self.method} sets {takes}"
                raise ConfigError("rules", rule, problem)

    @classmethod
    def why_not(cls, name: str) -> str:
        """What is wrong with a field that this method has not, in words."""
        names, owners = [*fields_of(cls)], [m for m, c in ADAPTERS.items() if name in fields_of(c)]
        method = fields_of(cls)["method"].default
        if owners:
            return f"{method} has no {name}; it is a value of {' and '.join(owners)}"
        return f"no such field{did_you_mean(name, names)}; {method} has {', '.join(names)}"

    def as_method(self, method: str) -> AdapterConfig:
        """The adapter under another method: its defaults, and what was set here of shared values.

        Raises:
            ConfigError: an unknown method, or rules that set what it has not.
        """
        shared = {name: getattr(self, name) for name in fields_of(AdapterConfig)}
        plain = type(self)()
        kept = {name: value for name, value in shared.items() if value != getattr(plain, name)}
        return AdapterConfig(method, **kept)


@checked
class QLoRAConfig(AdapterConfig):
    """Plain LoRA on a quantised model.

    rsLoRA's scale keeps what a module learns from shrinking as its rank grows: Kalajdzievski
    (2023), "A rank stabilization scaling factor for fine-tuning with LoRA", arXiv 2312.03732.
    """

    method: Literal["qlora"] = "qlora"
    rslora: bool = Field(False, description="s = lora_alpha / sqrt(r), as PEFT's use_rslora")

    def alpha(self, r: int) -> float:
        """What a module of rank r has over r as its scale s."""
        return super().alpha(r) * (r**0.5 if self.rslora else 1)


@checked
class IRQLoRAConfig(AdapterConfig):
    """Averages of the input and of the inner values join the low-rank path."""

    method: Literal["ir-qlora"] = "ir-qlora"
    iec_beta: Literal["learned"] | float = Field(
        "learned", description="IR-QLoRA: from 0; a number: the article's fixed form"
    )


@checked
class QALoRAConfig(AdapterConfig):
    """The input is averaged over the quantiser's groups."""

    method: Literal["qa-lora"] = "qa-lora"
    group_size: Factor = Field(
        32, description="QA-LoRA: inputs averaged together, the quantiser's group"
    )


@checked
class QBaRAConfig(AdapterConfig):
    """More rank for the same parameters."""

    method: Literal["q-bara"] = "q-bara"
    lam: Factor = Field(2, description="Q-BaRA: inputs averaged and outputs repeated together")

    ruled: ClassVar[tuple[str, ...]] = ("r", "lam")


@checked
class QAHiRAConfig(AdapterConfig):
    """One matrix on tiles; r stands in the scale alone."""

    method: Literal["qa-hira"] = "qa-hira"
    lam1: Factor = Field(4, description="QA-HiRA: inputs averaged together")
    lam2: Factor = Field(8, description="QA-HiRA: outputs repeated together")

    ruled: ClassVar[tuple[str, ...]] = ("lam1", "lam2")


ADAPTERS: dict[str, type[AdapterConfig]] = {
    "qlora": QLoRAConfig,
    "ir-qlora": IRQLoRAConfig,
    "qa-lora": QALoRAConfig,
    "q-bara": QBaRAConfig,
    "qa-hira": QAHiRAConfig,
}
Adapter = Annotated[
    QLoRAConfig | IRQLoRAConfig | QALoRAConfig | QBaRAConfig | QAHiRAConfig,
    Field(discriminator="method"),
]
Share = Annotated[float, Field(gt=0, le=1_000_000)]


@checked
class DataConfig:
    """The rows of the fine-tuning and how they are written as text."""

    dataset: Annotated[Text, Allowed("a name, a file or a hub id")] = Field(
        "alpaca", description="a name in data.DATASETS, a file of rows, or hub-id[@revision]"
    )
    path: Annotated[Text | None, Allowed("a folder or a file")] = Field(
        None, description="folder or file of rows that replaces the hub"
    )
    n: Count | None = Field(2000, description="rows; none takes all")
    subset: Literal["head", "random"] = Field(
        "head", description="head: first n in file order (as run); random: seeded"
    )
    mixture: Annotated[
        Mapping[str, Share],
        Allowed('shares above 0, at most 1,000,000, as {"alpaca": 0.5, "gsm8k": 0.5}'),
    ] = Field(default_factory=dict, description="data sets that are mixed, and their shares")
    template: Literal["as-run", "alpaca", "auto"] = Field(
        "as-run",
        description="the author's prompt; alpaca: Stanford's two prompts; auto: the tokenizer's "
        "chat template, else alpaca",
    )
    append_eos: bool = Field(
        False, description="as run: no end-of-text, so the model never learns to stop"
    )
    learn: Literal["all", "answer"] = Field(
        "all",
        description="tokens that the loss counts: all (as run), or the answers with their end",
    )
    held_out: float = Field(0.0, ge=0, lt=1, description="share of the rows kept out of training")
    system: Literal["refuse", "to-user"] = Field(
        "refuse",
        description="a system turn that the chat template refuses; to-user: before the "
        "first user turn",
    )

    replay: float = Field(
        0.0,
        ge=0,
        le=100,
        description="rehearsed rows for each row of n, beside them: Robins 1995, Connection "
        "Science 7, 123-146; 0.01 may do: Scialom 2022, arXiv 2205.12393",
    )
    replay_from: Annotated[
        Text | None, Allowed("digits, own-answers, own-text, or as data.dataset")
    ] = Field(
        None,
        description="rows that are rehearsed; digits: larger sums than its tasks ask; own-answers, "
        "own-text: what the base writes, to prompts or from nothing (arXiv 2403.01244)",
    )

    def __post_init__(self) -> None:
        if self.n is None and self.mixture:
            raise ConfigError("n", None, "must be a number of rows, for a mixture")
        if self.replay and self.replay_from is None:
            problem = f"must be given with replay, as digits, {OWN_ANSWERS} or {OWN_TEXT}"
            raise ConfigError("replay_from", None, problem)

    @property
    def names(self) -> tuple[str, ...]:
        """The data sets that are read: the parts of the mixture, or the one."""
        return tuple(self.mixture) or (self.dataset,)

    @property
    def sets(self) -> tuple[DataConfig, ...]:
        """What is read: the rows, and those that are rehearsed, unless the base writes these."""
        if not self.replay or self.replay_from in (OWN_ANSWERS, OWN_TEXT):
            return (self,)
        folder = self.path if self.path and os.path.isdir(self.path) else None
        return self, DataConfig(self.replay_from, folder, n=None, subset="random")


def _check_steps(steps: int) -> int:
    if steps == 0:
        raise ValueError("must be -1 (by epochs), or 1 or more")
    return steps


@checked
class TrainConfig:
    """The fine-tuning, under the names of transformers."""

    per_device_train_batch_size: Count = Field(4, description="rows; as run")
    gradient_accumulation_steps: Count = Field(4, description="as run: 16 rows a step")
    learning_rate: float = Field(2e-4, gt=0, le=1_000_000, description="as run")
    lr_scheduler_type: Schedule = Field("cosine", description="as run")
    warmup_ratio: float = Field(0.05, ge=0, le=1, description="share of the steps; as run")
    num_train_epochs: float = Field(
        1.0, gt=0, le=10_000, description="as run: 2,000 rows = 125 steps"
    )
    max_steps: Annotated[
        int, AfterValidator(_check_steps), Allowed("-1 (by epochs), or 1 to 10,000,000")
    ] = Field(-1, ge=-1, le=10_000_000, description="-1: by epochs")
    optim: Optimizer = Field("adamw_torch", description="as run")
    weight_decay: float = Field(0.0, ge=0, le=1, description="transformers' default, as run")
    max_grad_norm: float = Field(
        1.0, ge=0, description="transformers' default, as run; 0: no clipping"
    )
    save_steps: Count = Field(
        100, description="steps between checkpoints; what a disconnect may lose"
    )
    logging_steps: Count = Field(5, description="steps between losses in the log")
    kl_weight: float = Field(
        0.0,
        ge=0,
        le=1000,
        description="adds so much of KL(base || tuned) on what is learned to the loss; 0: none",
    )
    probe_steps: int = Field(
        0,
        ge=0,
        le=10_000_000,
        description="steps between probes of what the model can, into the log; 0: none; as the "
        "curves of Biderman 2024, arXiv 2405.09673",
    )
    probe_limit: Count = Field(50, description="documents of each task in a probe, the first ones")
    probes: Annotated[
        tuple[Text, ...], BeforeValidator(_several), Allowed("names of the arm's tasks")
    ] = Field((), description="tasks that are probed; none named: all of the arm's")
    padding_free: bool = Field(
        False, description="the rows of a pass behind one another instead of padded side by side"
    )


@checked
class MergeConfig:
    """What the adapter is added to."""

    merge_base: Literal["dequant_nf4", "16bit", "requantised"] = Field(
        "dequant_nf4",
        description="16bit where load_in_4bit is false; requantised is as run: PEFT's merge on "
        "4 bit",
    )
    dtype: Dtype = Field(
        "float16", description="of the written weights; bfloat16 would lose a quarter of a small dW"
    )
    scale: float = Field(
        1.0, ge=0, le=1, description="share of dW that is added: 0 is the base, 1 what was trained"
    )
    keep_merged: bool | None = Field(
        None,
        description="keep merged/ once it is evaluated, else it is made again when it is needed; "
        "none: not on Drive",
    )


@checked
class Task:
    """One benchmark as lm-evaluation-harness runs it."""

    name: Name = Field(description="lm-eval's task name")
    role: Name = Field(description="which of the paper's benchmarks it plays")
    num_fewshot: int = Field(ge=0, le=1_000, description="solved examples in the prompt")
    batch_size: Count = Field(description="of lm-eval's HFLM, where that is what runs")
    limit: Count | None = Field(None, description="documents; none takes the whole split")
    source: Text | None = Field(
        None, description="layout of local files in data.TASK_FILES; none reads the hub"
    )


@checked
class EvalConfig:
    """The evaluation, equal for all arms that are compared."""

    tasks: tuple[Task, ...] = ()
    dtype: Dtype | Literal["auto"] = Field("float16", description="as run")
    max_length: Tokens = Field(
        2048, description="tokens; explicit, since Llama 3.2's own 131,072 breaks memory probes"
    )
    fewshot_seed: int = Field(1234, ge=0, le=2**32 - 1, description="lm-eval's default")
    evaluator: Evaluator = Field(
        "slim", description="slimlib.scoring's SlimLM; hf: lm-eval's own HFLM"
    )


@checked
class AskConfig:
    """How a check asks its models: all of them alike.

    Example:
        >>> slimlib.config.AskConfig(num_fewshot=5).max_length  # tokens
        2048
    """

    num_fewshot: int | None = Field(
        None, ge=0, le=1_000, description="solved examples in the prompt; none: the task's own"
    )
    apply_chat_template: bool = Field(False, description="ask through the model's chat template")
    dtype: Dtype | Literal["auto"] = Field("auto", description="as ModelConfig.dtype")
    max_length: Tokens = Field(2048, description="tokens; fewer where the model has fewer places")
    fewshot_seed: int = Field(1234, ge=0, le=2**32 - 1, description="lm-eval's default")
    evaluator: Evaluator = Field("slim", description="as EvalConfig.evaluator")


@checked
class Arm:
    """One arm of a study: a model, how it is made and how it is evaluated.

    Example:
        >>> base = slimlib.Arm("base", label="before", model=slimlib.ModelConfig("micro:base"))
        >>> base.trains, base.writes_weights
        (False, False)
    """

    name: Name
    label: Text
    model: ModelConfig
    compared_with: Name | None = None  # the arm its losses are measured against
    quantise: bool = False  # evaluate the NF4-quantised model (written out dequantised)
    adapter: Adapter | None = None
    adapter_from: Name | None = None  # take this arm's adapter instead of training one
    data: DataConfig | None = None
    train: TrainConfig | None = None
    merge: MergeConfig = MergeConfig()
    evaluate: EvalConfig = EvalConfig()
    seed: int = Field(  # numpy takes no greater one
        3407,
        ge=0,
        le=2**32 - 1,
        description="as run, for LoRA; here also for the subset and the order of rows",
    )

    def __post_init__(self) -> None:
        base = self.merge.merge_base
        if base == "requantised" and self.writes_weights:
            self._check_requantised()
        if base == "dequant_nf4" and self.adapter and not self.model.load_in_4bit:
            # an adapter never goes into quantised weights, which it has not seen
            object.__setattr__(self, "merge", replace(self.merge, merge_base="16bit"))
        tasks = [task.name for task in self.evaluate.tasks]
        for name in self.train.probes if self.train else ():
            if name not in tasks:
                problem = f"must be of the arm's tasks: {', '.join(tasks)}"
                raise ConfigError("train.probes", name, problem, f"arm {self.name}")

    def _check_requantised(self) -> None:
        problem = ""
        if odd := self.model.unlike_bitsandbytes:  # PEFT quantises again what that has, no more
            problem = (
                f"must be dequant_nf4 or 16bit with {odd}; only bitsandbytes' own NF4 ({IN_WORDS}) "
                "is requantised"
            )
        elif not self.model.load_in_4bit:
            problem = "must be 16bit with load_in_4bit=false; or leave this arm out with arms=..."
        if problem:
            raise ConfigError("merge.merge_base", "requantised", problem, f"arm {self.name}")

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


@checked
class Study:
    """Arms, what is compared with what, and how the tables call them.

    Example:
        >>> base = slimlib.Arm("base", label="before", model=slimlib.ModelConfig("micro:base"))
        >>> study = slimlib.Study("mine", title="My model", arms=(base,), ladder=("base",))
        >>> study["base"].model.name
        'micro:base'
    """

    name: Name
    title: str
    arms: tuple[Arm, ...]
    ladder: tuple[str, ...]  # attribution: each step's change is one cause
    causes: Mapping[str, str] = Field(default_factory=dict)  # arm of the ladder -> what it changes
    comparisons: tuple[Question, ...] = ()
    task_labels: Mapping[str, str] = Field(default_factory=dict)  # role -> row title
    learned: tuple[str, ...] = ()  # roles of what the rows teach; the others may be lost
    paper_columns: Mapping[str, str] = Field(default_factory=dict)  # arm -> published column
    data: str = "hub"  # "hub", "world" (generated into the run folder) or a local folder
    note: str = ""  # printed under every table
    note_of_any_model: str = ""  # what stays of it with model=NAME
    reason: str = ""  # why get_study("auto") chose it
    # as get_study was given them; the arms say what they come to
    overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        names = [arm.name for arm in self.arms]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ConfigError("arms", twice[0], "is named twice", f"study {self.name}")

    def __getitem__(self, name: str) -> Arm:
        for arm in self.arms:
            if arm.name == name:
                return arm
        raise ValueError(f"study {self.name!r} has no arm {name!r}; it has: {self.arm_names}")

    @property
    def tuned(self) -> Arm:
        """The arm that the study is about: the first that is fine-tuned, else the first compared.

        Raises:
            ValueError: none is fine-tuned, nor compared with another.
        """
        compared = (arm for arm in self.arms if arm.compared_with)
        for arm in (*(arm for arm in self.arms if arm.trains), *compared):
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
    """A config as plain JSON types (tuples become lists); `from_dict` reads it back."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def config_schema() -> dict[str, Any]:
    """The JSON schema of a study: every field with its type, limits, default and source."""
    return TypeAdapter(Study).json_schema()

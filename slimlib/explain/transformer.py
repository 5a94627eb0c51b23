"""A transformer's layer in numpy, and the four places where something can be tuned.

Paper A, section 2.2: attention is softmax(Q K^T / sqrt(d_k)) V; a feed-forward network follows; x
is carried past both. Llama normalises before each of them, as the boxes here do; the paper's
formula is the older form, which normalises after the sum. Its FFN has one GeLU too many: Llama's
is W_down (SiLU(W_gate x) * W_up x).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from slimlib.common.files import read_json
from slimlib.common.picture import Picture, described
from slimlib.common.style import as_written
from slimlib.config import ATTENTION, MLP, AdapterConfig
from slimlib.explain.canvas import DATA, FROZEN, INK, QUIET, TRAINED, bare, page
from slimlib.explain.weights import read_weight
from slimlib.methods.shapes import Shape, base_parameters, count_parameters, get_shape

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SOFTMAX = r"softmax(Q K$^T$ / $\sqrt{d_k}$)"
GATED = "$W_{down}$(SiLU($W_{gate}$x) $W_{up}$x)"
TUNED_BY_LORA = ("q_proj", "k_proj", "v_proj")  # paper A, section 2.2.2


def softmax(scores: np.ndarray) -> np.ndarray:
    """Turn each row into shares that add up to one.

    Example: [0, log 3] -> [0.25, 0.75].
    """
    raised = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return raised / raised.sum(axis=-1, keepdims=True)


def attention_shares(queries: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """How much each token attends to itself and to those before it: softmax(Q K^T / sqrt(d_k)).

    Args:
        queries, keys: (tokens, d_k).

    Example: a first token attends to itself alone: the first row is 1, 0, 0, ...
    """
    scores = queries @ keys.T / np.sqrt(queries.shape[-1])
    later = np.triu(np.ones(scores.shape, bool), 1)
    return softmax(np.where(later, -np.inf, scores))


def adapter_layer(x: np.ndarray, down: np.ndarray, up: np.ndarray) -> np.ndarray:
    """Compute an adapter layer: x + W_up GeLU(W_down x) (Houlsby et al. 2019).

    Args:
        x: (d).
        down: (bottleneck, d).
        up: (d, bottleneck).

    Example: with W_up of zeros, as it begins, -> x.
    """
    inner = down @ x
    gelu = 0.5 * inner * (1 + np.tanh(np.sqrt(2 / np.pi) * (inner + 0.044715 * inner**3)))
    return x + up @ gelu


def first_attention(folder: str | Path, text: str, head: int = 0) -> tuple[list[str], np.ndarray]:
    """Compute one head of a Llama's first layer on a text.

    Returns:
        The tokens, and (tokens, tokens): how much the token of a row attends to that of a column.

    Raises:
        ValueError: no such head.
    """
    from tokenizers import Tokenizer

    folder = Path(folder)
    config = read_json(folder / "config.json")
    heads, groups = config["num_attention_heads"], config["num_key_value_heads"]
    if not 0 <= head < heads:
        raise ValueError(f"head={head}: must be 0 to {heads - 1}")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    ids = tokenizer.encode(text).ids
    x = read_weight(folder, "model.embed_tokens.weight")[ids].astype(float)
    x /= np.sqrt((x**2).mean(axis=1, keepdims=True) + config["rms_norm_eps"])
    x *= read_weight(folder, "model.layers.0.input_layernorm.weight")
    size = config.get("head_dim") or config["hidden_size"] // heads
    found = []
    for name, number in (("q_proj", head), ("k_proj", head * groups // heads)):
        weight = read_weight(folder, f"model.layers.0.self_attn.{name}.weight")
        found.append(_turned(x @ weight[number * size : (number + 1) * size].T, _theta(config)))
    return [tokenizer.decode([i], skip_special_tokens=False) for i in ids], attention_shares(*found)


def _theta(config: dict) -> float:
    return (config.get("rope_parameters") or config)["rope_theta"]


def _turned(vectors: np.ndarray, theta: float) -> np.ndarray:
    """Turn pairs of numbers by angles that grow with the token's place (rotary embedding)."""
    tokens, size = vectors.shape
    angles = np.arange(tokens)[:, None] * theta ** (-np.arange(0, size, 2) / size)
    first, second = vectors[:, : size // 2], vectors[:, size // 2 :]
    cos, sin = np.cos(angles), np.sin(angles)
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=1)


class Way(NamedTuple):
    """One of the four ways to tune, and what it trains."""

    name: str
    trained: int
    formula: str
    after: str  # what the tuned model costs beside the base


def ways(
    model: Shape | str = "Llama-3.2-1B", r: int = 16, bottleneck: int = 64, prefix: int = 30
) -> list[Way]:
    """Count what each of the four ways of paper A's section 2.1 trains.

    The last layer is vocabulary x hidden; adapter layers are two in each layer, two matrices each;
    a prefix is so many keys and values in each layer; LoRA stands on q, k and v.

    Args:
        model: a shape, or its name.
        r: LoRA's rank.
        bottleneck: inner width of the adapter layers.
        prefix: tokens of the prefix.

    Example: `ways("Llama-3.2-1B")[0].trained` -> 262,668,288.
    """
    shape = get_shape(model)
    adapters = 2 * shape.layers * 2 * shape.hidden * bottleneck
    lora = count_parameters(shape, AdapterConfig(r=r, target_modules=TUNED_BY_LORA))
    return [
        Way("Last layer", shape.vocab_size * shape.hidden, r"$y = W_{out}\,h$",
            "the model keeps its size;\nthe layers below learn nothing"),
        Way("Adapter layers", adapters, r"$x + W_{up}\,GeLU(W_{down}\,x)$",
            f"{2 * shape.layers} more modules in a row:\neach answer takes longer"),
        Way("Prefix", 2 * shape.layers * prefix * shape.kv_out,
            "$K' = [P_k; K]$\n$V' = [P_v; V]$",
            f"{prefix} more keys and values\nin each layer, for each answer"),
        Way("LoRA", lora, r"$W\,x + B\,(A\,x)$",
            "merged into W: the model\nkeeps its size and speed"),
    ]  # fmt: skip


# --------------------------------------------------------------------------------------- pictures


def attention(folder: str | Path, text: str, head: int = 0) -> Picture:
    """Draw which earlier tokens each token attends to, in the first layer of a real model.

    Args:
        folder: of a checkpoint of Llama's kind, with its tokenizer.
        text: of some ten tokens.
        head: of the first layer.

    Example: `attention(CHECKPOINTS["base"], "Tom has 3 apples.")`.

    Raises:
        ValueError: no such head.
    """
    tokens, shares = first_attention(folder, text, head)
    names = [as_written(token.strip() or "\u2423") for token in tokens]
    last = int(shares[-1].argmax())
    message = (
        f'Attention mixes tokens: here "{names[-1]}" takes {100 * shares[-1, last]:.0f} % of what '
        f'it reads from "{names[last]}"'
    )
    figure = page(message, 4.6)
    (ax,) = figure.axes
    later = np.triu(np.ones(shares.shape, bool), 1)
    ax.imshow(np.ma.masked_array(shares, later), cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (row, column), share in np.ndenumerate(shares):
        if column <= row:
            colour = "white" if share > 0.55 else INK
            ax.text(
                column,
                row,
                f"{100 * share:.0f}",
                ha="center",
                va="center",
                fontsize=8,
                color=colour,
            )
    ax.set_xticks(range(len(names)), names, rotation=45, ha="right")
    ax.set_yticks(range(len(names)), names)
    ax.set(xlabel="from this token (key, value)", ylabel="this token reads (query)")
    ax.text(0.99, 0.97, f"{SOFTMAX}, in %\nof each row; what comes later\nis not seen",
            transform=ax.transAxes, ha="right", va="top", fontsize=10)  # fmt: skip
    text_of = (
        f"Head {head} of the first layer on {text!r}: the last token reads most, "
        f"{100 * shares[-1, last]:.0f} %, from token {last + 1} of {len(tokens)}; the first can "
        f"read from itself alone."
    )
    return described(figure, text_of)


def block(model: Shape | str = "Llama-3.2-1B") -> Picture:
    """Draw one layer of a transformer: two parts, each normalised before and added after.

    Args:
        model: a shape, or its name, whose weights are counted.

    Example: `block("LLaMA-7B")`.
    """
    shape = get_shape(model)
    counts = {name: d_in * d_out for name, (d_in, d_out) in shape.linears().items()}
    attends, feeds = (sum(counts[name] for name in names) for names in (ATTENTION, MLP))
    share = 100 * feeds / (attends + feeds)
    message = (
        f"One of {shape.layers} layers: attention looks at other tokens, the FFN holds {share:.0f} "
        f"% of the weights, and x is carried past both"
    )
    figure = page(message, 2.7)
    (ax,) = figure.axes
    bare(ax, (0, 28.4), (-2.9, 3.9))
    boxes = [
        (2.0, 2.6, "norm", "#EFEFEF", ""),
        (5.6, 5.6, "attention", DATA, f"{attends / 1e6:,.1f} million\n{SOFTMAX} V"),
        (14.6, 2.6, "norm", "#EFEFEF", ""),
        (18.2, 5.6, "FFN", "#F6D28B", f"{feeds / 1e6:,.1f} million\n{GATED}"),
    ]  # fmt: skip
    for left, width, name, colour, said in boxes:
        _box(ax, (left, -0.9), width, 1.8, name, colour)
        ax.text(left + width / 2, -1.25, said, ha="center", va="top", fontsize=9)
    ends = [
        (0.8, 2.0),
        (4.6, 5.6),
        (11.2, 12.45),
        (13.35, 14.6),
        (17.2, 18.2),
        (23.8, 25.05),
        (25.95, 27.4),
    ]
    for begin, end in ends:
        _arrow(ax, (begin, 0), (end, 0))
    for begin, end in ((1.3, 12.9), (13.9, 25.5)):
        ax.plot([begin, begin, end], [0, 2.6, 2.6], color="black", linewidth=1.2)
        _arrow(ax, (end, 2.6), (end, 0.45))
        ax.text(end, 0, "+", ha="center", va="center", fontsize=11,
                bbox={"boxstyle": "circle,pad=0.15", "facecolor": "white"})  # fmt: skip
    for left, name in ((7.1, "x itself (residual connection)"), (19.7, "the sum itself")):
        ax.text(left, 2.85, name, ha="center", va="bottom", fontsize=9, color=QUIET)
    ax.text(0.4, 0, "x", ha="center", va="center", fontsize=12, style="italic")
    ax.text(27.9, 0, "x'", ha="center", va="center", fontsize=12, style="italic")
    text = (
        f"A layer adds attention ({attends:,} weights) and then a feed-forward network ({feeds:,} "
        f"weights, {share:.0f} %) to x; there are {shape.layers} such layers."
    )
    return described(figure, text)


def four_ways(
    model: str = "Llama-3.2-1B", r: int = 16, bottleneck: int = 64, prefix: int = 30
) -> Picture:
    """Draw four ways to tune side by side: what is trained, where, and what it costs afterwards.

    Args: as `ways`.

    Example: `four_ways("Llama-3.2-1B", r=16)`.
    """
    found, whole = ways(model, r, bottleneck, prefix), base_parameters(model)
    shares = [100 * way.trained / whole for way in found]
    message = (
        f"Four ways to tune {model}: LoRA trains {shares[3]:.2g} % of its weights, in every layer, "
        "and costs nothing once it is merged"
    )
    figure = page(message, 6.4, 2, 2)
    for ax, way, share in zip(figure.axes, found, shares, strict=True):
        bare(ax, (-0.6, 10.2), (-2.0, 9.3))
        ax.text(-0.4, 8.9, way.name, fontsize=11, fontweight="bold", va="center")
        said = f"{way.trained / 1e6:,.1f} million ({share:.2g} %)"
        ax.text(10.1, 8.9, said, fontsize=9, va="center", ha="right")
        _stack(ax, way.name)
        ax.text(5.3, -1.1, way.after, fontsize=9, va="center", ha="center", color=INK)
    for ax, way, at in zip(
        figure.axes, found, ((5.7, 7.35), (5.6, 3.75), (6.3, 2.1), (5.7, 2.1)), strict=True
    ):
        ax.text(*at, way.formula, fontsize=9.5, va="center")
    each = ", ".join(
        f"{w.name.lower()} {w.trained:,} ({s:.2g} %)" for w, s in zip(found, shares, strict=True)
    )
    each = each.replace("lora", "LoRA")
    text = f"Trained numbers on {model}, of {whole:,}: {each}. Orange is trained, grey is frozen."
    return described(figure, text)


def _stack(ax: Axes, name: str) -> None:
    """Attention, feed-forward network and output layer from below, with what is trained."""
    _box(ax, (1.5, 1.0), 3.9, 2.2, "" if name == "LoRA" else "attention", FROZEN)
    _box(ax, (1.5, 4.3), 3.9, 1.3, "FFN", FROZEN)
    last = TRAINED if name == "Last layer" else FROZEN
    _box(ax, (1.5, 6.8), 3.9, 1.1, "output layer", last)
    for begin, end in ((0.2, 1.0), (3.2, 4.3), (5.6, 6.8)):
        _arrow(ax, (3.45, begin), (3.45, end))
    ax.plot([1.0, 0.8, 0.8, 1.0], [0.7, 0.7, 6.2, 6.2], color=QUIET, linewidth=0.9)
    ax.text(0.55, 3.45, "each layer", rotation=90, ha="right", va="center", fontsize=8, color=QUIET)
    if name == "Adapter layers":
        for bottom in (3.45, 5.85):
            _box(ax, (2.2, bottom), 2.5, 0.6, "adapter", TRAINED, 8)
    if name == "Prefix":
        _box(ax, (4.8, 1.15), 1.2, 0.85, "$P_k$", TRAINED, 9)
        _box(ax, (4.8, 2.2), 1.2, 0.85, "$P_v$", TRAINED, 9)
    if name == "LoRA":
        for place, letter in enumerate("qkv"):
            left = 1.65 + 1.25 * place
            _box(ax, (left, 1.25), 0.62, 1.7, f"$W_{letter}$", "#E8E8E8", 8)
            _box(ax, (left + 0.66, 2.15), 0.42, 0.8, "B", TRAINED, 8)
            _box(ax, (left + 0.66, 1.25), 0.42, 0.8, "A", TRAINED, 8)


def _box(
    ax: Axes, at: tuple[float, float], width: float, height: float, name: str, colour: str,
    size: float = 10,
) -> None:  # fmt: skip
    from matplotlib.patches import Rectangle

    ax.add_patch(
        Rectangle(at, width, height, facecolor=colour, edgecolor="black", linewidth=0.8, zorder=2)
    )
    middle = (at[0] + width / 2, at[1] + height / 2)
    ax.text(*middle, name, ha="center", va="center", fontsize=size, zorder=3)


def _arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    style = {"arrowstyle": "-|>", "color": "black", "linewidth": 1.2, "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", end, start, arrowprops=style, zorder=1)

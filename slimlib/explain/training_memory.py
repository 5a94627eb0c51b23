"""What three ways of fine-tuning keep in a GPU's memory, before the first token is read.

Weights, gradients and Adam's two moments, by bytes for each number: full fine-tuning in mixed
precision keeps 16 (weights and gradients in 16 bit; weights and both moments in float32:
Rajbhandari et al. 2020, ZeRO, section 3.1); LoRA keeps frozen weights in 16 bit, and 16 bytes for
each number of the adapter, all float32; QLoRA the same with the linear weights in 4.127 bits. Left
out: activations, logits and buffers, which depend on the batch, and the CUDA context.
"""

from __future__ import annotations

from collections.abc import Mapping

from slimlib.common.picture import Picture, described
from slimlib.common.style import PALETTE
from slimlib.config import AdapterConfig
from slimlib.explain.canvas import DARK_RED, FROZEN, ON_WHITE, label_bars, page
from slimlib.explain.formats import T4_GB
from slimlib.methods import NF4_BITS
from slimlib.methods.shapes import Shape, base_parameters, count_parameters, get_shape

COLOURS = {
    "frozen weights": FROZEN,
    "trained weights": PALETTE[4],
    "gradients": PALETTE[2],
    "Adam's moments": PALETTE[1],
}
Parts = Mapping[str, float]  # what -> bytes


def kept_in_training(model: Shape | str, r: int = 16) -> dict[str, dict[str, float]]:
    """Count the bytes of weights, gradients and Adam's moments in three ways of fine-tuning.

    Args:
        model: a shape, or its name.
        r: the adapter's rank, on all seven modules.

    Example: full fine-tuning of Llama-3.2-1B: 1,235,814,400 x 16 bytes = 19.8 GB.
    """
    shape = get_shape(model)
    weights, adapter = base_parameters(shape), count_parameters(shape, AdapterConfig(r=r))
    linear = sum(d_in * d_out for d_in, d_out in shape.modules().values())
    trained = {
        "trained weights": 4 * adapter,
        "gradients": 4 * adapter,
        "Adam's moments": 8 * adapter,
    }
    in_4_bit = linear * NF4_BITS / 8 + 2 * (weights - linear)
    full = {"trained weights": 6 * weights, "gradients": 2 * weights, "Adam's moments": 8 * weights}
    return {
        "full fine-tuning": {"frozen weights": 0} | full,
        "LoRA": {"frozen weights": 2 * weights} | trained,
        "QLoRA": {"frozen weights": in_4_bit} | trained,
    }


def training_memory(model: Shape | str = "Llama-3.2-1B", r: int = 16) -> Picture:
    """Draw what full fine-tuning, LoRA and QLoRA keep in memory, against a T4's.

    Args:
        model: a shape, or its name.
        r: the adapter's rank.

    Example: `training_memory("LLaMA-7B")`: of the three QLoRA alone leaves room on a T4.
    """
    bars = kept_in_training(model, r)
    totals = {way: sum(parts.values()) / 1e9 for way, parts in bars.items()}
    fit = [way for way, total in totals.items() if total < T4_GB]
    message = (
        f"{model if isinstance(model, str) else 'This model'}: full fine-tuning keeps "
        f"{totals['full fine-tuning']:.3g} GB, LoRA {totals['LoRA']:.3g}, "
        f"QLoRA {totals['QLoRA']:.2g}; a T4 of {T4_GB:g} GB has room for "
        f"{' and '.join(fit) or 'none'}"
    )
    each = "; ".join(
        f"{way} {totals[way]:.3g} GB (" + ", ".join(
            f"{what} {size / 1e9:.2g}" for what, size in parts.items() if size) + ")"
        for way, parts in bars.items()
    )  # fmt: skip
    text = f"Before any activation, with rank {r}: {each}. A T4 has {T4_GB:g} GB."
    return stacked(message, bars, text)


def stacked(message: str, bars: Mapping[str, Parts], text: str) -> Picture:
    """Draw bytes by part as one bar for each way, against a T4's memory.

    Args:
        message: the title.
        bars: way -> what -> bytes; the same parts in each.
        text: the sentence.

    Example: `stacked("Two ways", {"a": {"weights": 2e9}, "b": {"weights": 1e9}}, "a keeps 2 GB.")`.
    """
    figure = page(message, 2.7)
    (ax,) = figure.axes
    names = [*dict.fromkeys(what for parts in bars.values() for what in parts)]
    spare = iter(PALETTE[5:] * len(names))
    colours = {name: COLOURS.get(name) or next(spare) for name in names}
    for row, parts in enumerate(bars.values()):
        left = 0.0
        for name in names:
            size = parts.get(name, 0) / 1e9
            ax.barh(row, size, left=left, color=colours[name], height=0.62, zorder=3,
                    label=name if row == 0 else None)  # fmt: skip
            left += size
        ax.text(left, row, f" {left:.3g} GB", va="center", fontsize=9, fontweight="bold",
                bbox=ON_WHITE)  # fmt: skip
    largest = max(sum(parts.values()) for parts in bars.values()) / 1e9
    label_bars(ax, [*bars])
    ax.set(xlim=(0, max(largest, T4_GB) * 1.16), xlabel="GB")
    ax.axvline(T4_GB, color=PALETTE[3], linewidth=1.4)
    ax.text(T4_GB, -0.5, "a T4", color=DARK_RED, fontsize=9, ha="center", va="bottom")
    figure.legend(loc="outside lower center", ncols=len(names), frameon=False, fontsize=9)
    return described(figure, text)

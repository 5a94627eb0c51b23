"""What three ways of fine-tuning keep in a T4's memory, part by part.

The formulas are `slimlib.methods.memory`'s, which the preflight uses, too: weights, adapter,
gradients, the optimiser's state, and what a pass keeps. Full fine-tuning trains float32 weights;
LoRA keeps them frozen in 16 bit; QLoRA keeps the linear ones in NF4. Left out, as there: the CUDA
context, kernels' workspaces and what the allocator has cut up.
"""

from __future__ import annotations

from collections.abc import Mapping

from slimlib.common.picture import Picture, described
from slimlib.common.style import PALETTE
from slimlib.config import AdapterConfig
from slimlib.explain.canvas import DARK_RED, FROZEN, ON_WHITE, label_bars, page
from slimlib.explain.formats import T4_GB
from slimlib.methods.memory import Setting, training_memory
from slimlib.methods.shapes import base_parameters, count_parameters, get_shape

COLOURS = {
    "weights": FROZEN,
    "adapter": PALETTE[4],
    "gradients": PALETTE[2],
    "optimiser": PALETTE[1],
    "activations": PALETTE[6],
    "logits": PALETTE[5],
}


def kept_in_training(
    model: str, rows: int = 2, tokens: int = 512, r: int = 16
) -> dict[str, Mapping[str, float]]:
    """Count the bytes that three ways of fine-tuning keep when they need most.

    Args:
        model: one of `slimlib.methods.shapes.SHAPES`.
        rows, tokens: of a pass.
        r: the adapter's rank, on all seven modules.

    Example: full fine-tuning of Llama-3.2-1B keeps 1,235,814,400 x 4 bytes of weights, as many of
    gradients, and twice as many of Adam's moments.
    """
    shape, adapter = get_shape(model), AdapterConfig(r=r)
    trained = count_parameters(shape, adapter)
    half = {"compute": 2, "rest": 2, "checkpointing": True}
    ways = {
        "full fine-tuning": (Setting(rows, tokens, 2, checkpointing=True), None),
        "LoRA": (Setting(rows, tokens, **half), adapter),
        "QLoRA": (Setting(rows, tokens, four_bit=True, **half), adapter),
    }
    return {
        name: training_memory(
            shape, setting, tuned, trained if tuned else base_parameters(shape)
        ).parts
        for name, (setting, tuned) in ways.items()
    }


def on_a_t4(model: str = "Llama-3.2-1B", rows: int = 2, tokens: int = 512, r: int = 16) -> Picture:
    """Draw what full fine-tuning, LoRA and QLoRA keep in memory, against a T4's.

    Args: as `kept_in_training`.

    Example: `on_a_t4("LLaMA-13B")`: of the three a T4 has room for QLoRA alone.
    """
    bars = kept_in_training(model, rows, tokens, r)
    totals = {way: sum(parts.values()) / 1e9 for way, parts in bars.items()}
    fit = [way for way, total in totals.items() if total < T4_GB]
    message = (
        f"{model}: full fine-tuning needs {totals['full fine-tuning']:.3g} GB, LoRA "
        f"{totals['LoRA']:.3g}, QLoRA {totals['QLoRA']:.3g}; a T4 of {T4_GB:g} GB has room for "
        f"{' and '.join(fit) or 'none'}"
    )
    each = "; ".join(f"{way} {_listed(parts)}" for way, parts in bars.items())
    text = (
        f"{model}, {rows} rows of {tokens} tokens in a pass, rank {r}, without the CUDA context, "
        f"in GB: {each}."
    )
    return _stacked(message, bars, text)


def _listed(parts: Mapping[str, float]) -> str:
    return ", ".join(f"{what} {size / 1e9:.2g}" for what, size in parts.items() if size)


def _stacked(message: str, bars: Mapping[str, Mapping[str, float]], text: str) -> Picture:
    """Bytes by part as one bar for each way."""
    figure = page(message, 2.9)
    (ax,) = figure.axes
    for row, parts in enumerate(bars.values()):
        left = 0.0
        for name, colour in COLOURS.items():
            size = parts[name] / 1e9
            label = name if row == 0 else None
            ax.barh(row, size, left=left, color=colour, height=0.62, zorder=3, label=label)
            left += size
        total = f" {left:.3g} GB"
        ax.text(left, row, total, va="center", fontsize=9, fontweight="bold", bbox=ON_WHITE)
    largest = max(sum(parts.values()) for parts in bars.values()) / 1e9
    label_bars(ax, [*bars])
    ax.set(xlim=(0, max(largest, T4_GB) * 1.16), xlabel="GB")
    ax.axvline(T4_GB, color=PALETTE[3], linewidth=1.4)
    ax.text(T4_GB, -0.5, "a T4", color=DARK_RED, fontsize=9, ha="center", va="bottom")
    figure.legend(loc="outside lower center", ncols=len(COLOURS), frameon=False, fontsize=8,
                  columnspacing=1.2, handlelength=1.2)  # fmt: skip
    return described(figure, text)

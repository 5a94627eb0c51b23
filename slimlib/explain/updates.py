"""LoRA: how many numbers it trains, what it computes, and what rounding takes from its merge.

The change of W (outputs x inputs) is B A of rank r, B outputs x r and A r x inputs, so that
y = W x + B (A x) while it is trained and y = (W + B A) x once it is merged. Paper A writes A B for
the same product (equations 1.2 and 1.3).
"""

from __future__ import annotations

import numpy as np

from slimlib.common.picture import Picture, described
from slimlib.common.style import PALETTE
from slimlib.config import ALL_LINEAR, ATTENTION, MLP, AdapterConfig
from slimlib.explain.canvas import (
    DARK_RED,
    DARK_YELLOW,
    DATA,
    FROZEN,
    QUIET,
    TRAINED,
    bare,
    draw_matrix,
    label_bars,
    page,
)
from slimlib.explain.codebook import error_share
from slimlib.explain.formats import MODELS, to_format
from slimlib.methods.shapes import base_parameters, count_parameters, lora_parameters

TARGETS = {
    "q and v": ("q_proj", "v_proj"),
    "q, k and v": ("q_proj", "k_proj", "v_proj"),
    "the attention": ATTENTION,
    "the MLP": MLP,
    "all seven": ALL_LINEAR,
}
SHARES = np.geomspace(1e-4, 1, 25)  # lengths of a change, of the weights'


def lora_matrix(r: int = 10, d_in: int = 1000, d_out: int = 1000) -> Picture:
    """Draw W and the two matrices that LoRA trains instead, to scale (equation 1.2).

    Args:
        r: the rank.
        d_in, d_out: W's inputs and outputs.

    Example: `lora_matrix(10)`: 10 x (1,000 + 1,000) = 20,000 numbers instead of 1,000,000.

    Raises:
        ValueError: a rank that the matrix cannot have.
    """
    if not 1 <= r <= min(d_in, d_out):
        raise ValueError(f"r={r}: must be 1 to {min(d_in, d_out)}")
    trained, whole = lora_parameters(d_in, d_out, r), d_in * d_out
    message = (
        f"Rank {r} trains {trained:,} numbers instead of {whole:,}: {100 * trained / whole:.3g} %"
    )
    figure = page(message, 3.4)
    (ax,) = figure.axes
    largest = max(d_in, d_out)
    width, height, thin = d_in / largest, d_out / largest, r / largest
    bare(ax, (-0.32, 2.75), (-0.2, 1.18)).set_aspect("equal")
    _rectangle(ax, (0, 0), width, height, FROZEN)
    ax.text(width / 2, height / 2, f"W, frozen\n{d_out:,} x {d_in:,}", ha="center", va="center")
    ax.text(width + 0.13, height / 2, "+", fontsize=16, ha="center", va="center")
    left = width + 0.3
    _rectangle(ax, (left, 0), thin, height, TRAINED)
    ax.text(left + thin / 2, height + 0.04, f"B  {d_out:,} x {r}", ha="center", va="bottom")
    _rectangle(ax, (left + thin + 0.12, height - thin), width, thin, TRAINED)
    middle = left + thin + 0.12 + width / 2
    ax.text(middle, height - thin - 0.05, f"A  {r} x {d_in:,}", ha="center", va="top")
    count = f"trained: {r} x ({d_out:,} + {d_in:,})\n= {trained:,}"
    ax.text(middle, height * 0.45 - thin / 2, count,
            ha="center", va="center", fontsize=10, fontweight="bold")  # fmt: skip
    text = (
        f"A matrix of {d_out:,} x {d_in:,} has {whole:,} numbers; LoRA of rank {r} trains "
        f"{r} x ({d_out:,} + {d_in:,}) = {trained:,}, {100 * trained / whole:.3g} % of them."
    )
    return described(figure, text)


def _rectangle(ax, corner: tuple[float, float], width: float, height: float, colour: str) -> None:
    from matplotlib.patches import Rectangle

    ax.add_patch(
        Rectangle(corner, width, height, facecolor=colour, edgecolor="black", linewidth=0.6)
    )


def lora_models(r: int = 16, targets: str = "all seven") -> Picture:
    """Draw what LoRA trains on models of 0.1 to 13 billion weights.

    Args:
        r: the rank.
        targets: which modules of each layer: one of `TARGETS`.

    Example: `lora_models(16, "all seven")`: 11,272,192 numbers on Llama-3.2-1B, 0.91 %.

    Raises:
        ValueError: other targets, or a rank below 1.
    """
    if targets not in TARGETS:
        raise ValueError(f"targets={targets!r}: must be one of {', '.join(TARGETS)}")
    adapter = AdapterConfig(r=r, target_modules=TARGETS[targets])
    counts = [count_parameters(model, adapter) for model in MODELS]
    shares = [100 * n / base_parameters(m) for n, m in zip(counts, MODELS, strict=True)]
    low, high = min(shares), max(shares)
    message = f"Rank {r} on {targets} trains {low:.2g} to {high:.2g} % of a model's weights"
    figure = page(message, 2.1)
    (ax,) = figure.axes
    ax.barh(range(len(MODELS)), shares, color=TRAINED, height=0.65)
    for row, (count, share) in enumerate(zip(counts, shares, strict=True)):
        ax.text(share, row, f" {count / 1e6:,.1f} million, {share:.2g} %", va="center", fontsize=9)
    label_bars(ax, MODELS)
    ax.set(xlim=(0, 1.5 * high), xlabel="trained numbers, % of the model's weights")
    each = ", ".join(f"{m} {n:,}" for m, n in zip(MODELS, counts, strict=True))
    return described(figure, f"LoRA of rank {r} on {targets} trains: {each}.")


def small_example(r: int = 1, seed: int = 3) -> dict[str, np.ndarray]:
    """Make W, A, B and x of small whole numbers, 4 inputs and 4 outputs.

    Example: `small_example(1)["B"].shape` -> (4, 1).

    Raises:
        ValueError: a rank that a 4 x 4 matrix cannot have.
    """
    if not 1 <= r <= 4:
        raise ValueError(f"r={r}: must be 1 to 4")
    rng = np.random.default_rng(seed)
    shapes = {"W": (4, 4), "B": (4, r), "A": (r, 4), "x": (4, 1)}
    return {name: rng.choice((-2, -1, 1, 2, 3), shape) for name, shape in shapes.items()}


def forward(r: int = 1, seed: int = 3) -> Picture:
    """Draw y = W x + B (A x) step by step, and the same y from the merged matrix (equation 1.3).

    Example: `forward(1)`: a column times a row changes all sixteen numbers of W.

    Raises:
        ValueError: a rank that a 4 x 4 matrix cannot have.
    """
    found = small_example(r, seed)
    w, b, a, x = (found[name] for name in ("W", "B", "A", "x"))
    y, merged = w @ x + b @ (a @ x), w + b @ a
    changed = int(np.count_nonzero(b @ a))
    message = (
        f"LoRA computes W x + B (A x); merged, one matrix W + B A gives the same y. Rank {r}: "
        f"{a.size + b.size} trained numbers change {changed} of {w.size}"
    )
    figure = page(message, 5.6)
    (ax,) = figure.axes
    training = [w, "W", x, "x", "+", b, "B", "(", a, "A", x, "x", ")", "="]
    training += [w @ x, "Wx", "+", b @ (a @ x), "B(Ax)", "=", y, "y"]
    merging = [w, "W", "+", b, "B", a, "A", "=", merged, "W + BA"]
    after = [merged, "W + BA", x, "x", "=", merged @ x, "y"]
    steps = {"while it is trained": training, "the merge": merging, "afterwards": after}
    ends = []
    for top, (name, row) in zip((17.6, 10.8, 4.0), steps.items(), strict=True):
        ax.text(0, top + 1.1, name, fontsize=10, color=QUIET, va="bottom")
        ends.append(_equation(ax, row, top))
    bare(ax, (-0.2, max(ends)), (-0.2, 19.6)).set_aspect("equal")
    words = ", ".join(f"{number:g}" for number in y[:, 0])
    text = (
        f"With rank {r}, W x + B (A x) and (W + B A) x are both ({words}): the merge adds "
        f"B A to W once, instead of B (A x) to W x each time."
    )
    return described(figure, text)


COLOURS = {"W": FROZEN, "B": TRAINED, "A": TRAINED, "x": DATA, "W + BA": "#E9D9B0"}


def _equation(ax, row: list, top: float) -> float:
    """Matrices with their names, and signs between them, from left to right; returns the end."""
    left, items = 0.0, iter(row)
    for item in items:
        if isinstance(item, str):
            width = 0.4 if item in "()" else 0.8
            ax.text(left + width / 2 - 0.1, top - 2, item, fontsize=13, ha="center", va="center")
            left += width
            continue
        name = next(items)
        drop = (4 - item.shape[0]) / 2  # in the middle of the line
        draw_matrix(ax, item, (left, top - drop), COLOURS.get(name, "#C9E6D8"), name)
        left += item.shape[1] + 0.3
    return left


def lost_in_merge(
    weights: np.ndarray, share: float, name: str, seed: int = 0, r: int = 16
) -> float:
    """Share of a change of rank r that is lost when it is added to weights and rounded.

    The length of round(W + dW) - (W + dW), divided by that of dW; W as it is stored.

    Args:
        weights: W, (outputs, inputs).
        share: length of dW, in lengths of W.
        name: the format that the sum is rounded to: one of `FORMATS`.
        seed: of dW.
        r: its rank.

    Example: a change of 1 % merged into float32 loses less than a millionth of it.
    """
    rng = np.random.default_rng(seed)
    change = rng.standard_normal((weights.shape[0], r)) @ rng.standard_normal((r, weights.shape[1]))
    change *= share * np.linalg.norm(weights) / np.linalg.norm(change)
    merged = weights + change
    return (
        error_share(merged, to_format(merged, name))
        * np.linalg.norm(merged)
        / np.linalg.norm(change)
    )


def merge(weights: np.ndarray, share: float = 0.01, name: str = "these weights") -> Picture:
    """Draw what rounding takes from a merged change, by its size, in four formats.

    Args:
        weights: W, (outputs, inputs).
        share: length of the change, in lengths of W; marked.
        name: of the matrix.

    Example: `merge(weights, 0.01)`: 16 bits keep a change of 1 %, NF4 buries it.

    Raises:
        ValueError: a share outside the drawn ones.
    """
    if not SHARES[0] <= share <= SHARES[-1]:
        raise ValueError(f"share={share:g}: must be {SHARES[0]:g} to {SHARES[-1]:g}")
    weights = np.asarray(weights, float)
    names = ("NF4", "int8", "bfloat16", "float16")
    colours = (DARK_RED, DARK_YELLOW, PALETTE[1], "#00795A")
    here = {one: lost_in_merge(weights, share, one) for one in names}
    message = (
        f"A change of {100 * share:.2g} % of W: merged into float16 it loses "
        f"{100 * here['float16']:.2g} %; rounded to NF4 again, the error is {here['NF4']:.2g} "
        "times the change itself"
    )
    figure = page(message, 3.6)
    (ax,) = figure.axes
    for one, colour in zip(names, colours, strict=True):
        lost = [100 * lost_in_merge(weights, s, one) for s in SHARES]
        ax.plot(100 * SHARES, lost, color=colour, linewidth=1.8)
        ax.plot(100 * share, 100 * here[one], "o", color=colour, markersize=5)
        ax.text(112, lost[-1], one, color=colour, va="center", fontsize=10, fontweight="bold")
    ax.axhline(100, color=QUIET, linewidth=0.9, linestyle="--")
    above = "above this line\nthe rounding is larger\nthan the change"
    ax.text(400, 130, above, fontsize=9, color=QUIET, va="bottom", ha="right")
    ax.set(xscale="log", yscale="log", xlim=(100 * SHARES[0], 420))
    ax.set(xlabel="length of the change, % of W's", ylabel="lost by rounding, % of the change")
    ax.xaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_major_formatter("{x:g}")
    each = ", ".join(f"{one} {100 * lost:.3g} %" for one, lost in here.items())
    text = (
        f"A change of {100 * share:.2g} % of W's length added to W ({name}): of the change, "
        f"rounding takes {each}."
    )
    return described(figure, text)

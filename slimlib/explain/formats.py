"""Precision: the bits of one weight in five formats, and the size of a model in each.

Paper A, section 1.2.1: precision is the number of bits of a number, and a model's size is the size
of its data type times its number of weights (equation 1.1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from slimlib.common.picture import Picture, described
from slimlib.common.style import PALETTE
from slimlib.explain.canvas import (
    DARK_RED,
    FROZEN,
    INK,
    ON_WHITE,
    QUIET,
    bare,
    label_bars,
    page,
)
from slimlib.explain.codebook import BLOCK, nf4_levels, quantise
from slimlib.methods.shapes import SHAPES, base_parameters

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS = {"float32": 32, "float16": 16, "bfloat16": 16, "int8": 8, "NF4": 4}  # name -> bits
FRACTION = {"float32": 23, "float16": 10, "bfloat16": 7}  # bits after sign and exponent
T4_GB = 16.0  # NVIDIA's data sheet of the T4; a little less is free
SIGN, EXPONENT, FRACTIONS, CODE = "#E9B3D0", "#A9D8F5", "#F6D28B", "#9FD9C3"


class Stored(NamedTuple):
    """A number as a format keeps it."""

    name: str
    bits: str
    value: float


def store(value: float, name: str, absmax: float = 1.0) -> Stored:
    """Round a number to a format, and give its bits.

    Args:
        value: the number.
        name: one of `FORMATS`.
        absmax: the largest absolute weight of its block, which int8 and NF4 are relative to.

    Example: `store(1.0, "float16")` -> bits "0011110000000000", value 1.0;
    `store(0.5, "int8", absmax=1.0)` -> code 64 of 127, value 0.504.

    Raises:
        ValueError: an unknown format.
    """
    if name not in FORMATS:
        raise ValueError(f"format {name!r}: must be one of {', '.join(FORMATS)}")
    if name == "NF4":
        code = int(np.argmin(np.abs(np.asarray(nf4_levels()) - value / (absmax or 1))))
        return Stored(name, f"{code:04b}", nf4_levels()[code] * absmax)
    if name == "int8":
        code = round(127 * value / (absmax or 1))
        return Stored(name, f"{code & 255:08b}", code * absmax / 127)
    rounded, bits = _as_float(value, name)
    return Stored(name, f"{bits:0{FORMATS[name]}b}", rounded)


def _as_float(value: float, name: str) -> tuple[float, int]:
    if name == "float16":
        half = np.float16(value)
        return float(half), int(half.view(np.uint16))
    bits = int(np.float32(value).view(np.uint32))
    if name == "float32":
        return float(np.float32(value)), bits
    bits = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16  # to the nearest, ties to even
    return float(np.uint32(bits << 16).view(np.float32)), bits


def to_format(values: np.ndarray, name: str, block: int = BLOCK) -> np.ndarray:
    """Round an array to a format, int8 and NF4 in blocks.

    Example: `to_format(np.array([1.001]), "bfloat16")` -> [1.0].

    Raises:
        ValueError: an unknown format.
    """
    if name in ("int8", "NF4"):
        levels = None if name == "NF4" else np.arange(-127, 128) / 127
        return quantise(values, block, levels).values()
    if name not in FORMATS:
        raise ValueError(f"format {name!r}: must be one of {', '.join(FORMATS)}")
    if name == "bfloat16":
        bits = np.asarray(values, np.float32).view(np.uint32)
        bits = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16 << 16
        return bits.astype(np.uint32).view(np.float32).astype(float)
    return np.asarray(values).astype(name).astype(float)


def size_gb(weights: float, bits: float) -> float:
    """Multiply weights and bits of each: the model's size in GB (10^9 bytes), equation 1.1.

    Example: 7 billion weights in 16 bits -> 14.0 GB.
    """
    return weights * bits / 8 / 1e9


# --------------------------------------------------------------------------------------- pictures


def precision(weights: np.ndarray, index: int = 0, block: int = BLOCK) -> Picture:
    """Draw the bits of one weight in five formats, and the numbers that each format has nearby.

    Args:
        weights: of one matrix.
        index: which of the flattened weights.
        block: weights that share the scale of int8 and NF4.

    Example: `precision(weights, index=3)`: float32 keeps it, NF4 takes the nearest of 16 levels.
    """
    flat = np.asarray(weights, float).reshape(-1)
    value, first = float(flat[index]), index // block * block
    absmax = float(np.abs(flat[first : first + block]).max())
    stored = [store(value, name, absmax) for name in FORMATS]
    brain, eight, four = (_missed(one, value) for one in stored[2:])
    message = (
        f"One weight, {value:.5f}, in five formats: bfloat16 misses it by {brain}, int8 by "
        f"{eight}, NF4's 4 bits by {four}"
    )
    figure = page(message, 6.8, 3, height_ratios=[5.6, 1.1, 1.5])
    bits, whole, near = figure.axes
    bare(bits, (-0.2, 32.2), (-1.0, 10.5))
    for row, one in enumerate(stored):
        _draw_bits(bits, one, value, top=10 - 2.3 * row - 0.5 * (row > 0), absmax=absmax)
    _number_line(whole, ("int8", "NF4"), value, absmax, (-1.04 * absmax, 1.04 * absmax))
    whole.set_xlabel(f"all that int8 and NF4 can store in this block (largest weight {absmax:.4f})")
    step = absmax / 127
    window = (value - 1.6 * step, value + 1.6 * step)
    _number_line(near, ("float16", "bfloat16", "int8"), value, absmax, window)
    near.set_xlabel("the same line near the weight, enlarged")
    values = ", ".join(f"{one.name} {one.value:.6g}" for one in stored)
    text = (
        f"The weight {value:.6g} is stored as {values}; NF4 needs {FORMATS['NF4']} bits where "
        f"float32 needs {FORMATS['float32']}, and misses it by {four}."
    )
    return described(figure, text)


def _missed(one: Stored, value: float) -> str:
    share = abs(one.value - value) / abs(value) if value else 0.0
    return f"{100 * share:.2g} %"


def _draw_bits(ax: Axes, one: Stored, value: float, top: float, absmax: float) -> None:
    """A line of words, and the bits below it."""
    from matplotlib.patches import Rectangle

    ax.text(0, top, one.name, fontsize=10, fontweight="bold", va="bottom")
    said = f"{len(one.bits)} bits: {one.value:.7g}, off by {_missed(one, value)}"
    if one.name not in FRACTION:
        said += f"; a code, times {absmax:.4f} of its block"
    ax.text(6.0, top, said, fontsize=9, va="bottom")
    for place, bit in enumerate(one.bits):
        colour = CODE
        if one.name in FRACTION:
            in_fraction = place >= len(one.bits) - FRACTION[one.name]
            colour = SIGN if place == 0 else FRACTIONS if in_fraction else EXPONENT
        ax.add_patch(Rectangle((place, top - 1.05), 0.94, 0.95, facecolor=colour))
        ax.text(place + 0.47, top - 0.6, bit, ha="center", va="center", fontsize=8)
    if one.name == "float32":
        for place, word in ((0, "±"), (1, "exponent: how large"), (9, "fraction: which digits")):
            ax.text(place + 0.2, top - 1.15, word, fontsize=8, va="top", color=QUIET)


def _number_line(
    ax: Axes, names: tuple[str, ...], value: float, absmax: float, window: tuple[float, float]
) -> None:
    """One row of ticks for each format: the numbers between the window's ends that it can store."""
    for row, name in enumerate(names):
        ax.vlines(_numbers(name, absmax, window), row + 0.15, row + 0.85, INK, linewidth=0.8)
    ax.axvline(value, color=PALETTE[3], linewidth=1.6)
    ax.set(xlim=window, ylim=(len(names), 0))
    ax.set_yticks([row + 0.5 for row in range(len(names))], names)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.locator_params(axis="x", nbins=5)


def _numbers(name: str, absmax: float, window: tuple[float, float]) -> np.ndarray:
    """The numbers within a window that a format can store."""
    if name == "NF4":
        numbers = np.asarray(nf4_levels()) * absmax
    elif name == "int8":
        numbers = np.arange(-127, 128) * absmax / 127
    else:
        numbers = np.unique(to_format(np.linspace(*window, 20_001), name))
    return numbers[(numbers >= window[0]) & (numbers <= window[1])]


def model_size(bits: int = 4, model: str = "LLaMA-7B") -> Picture:
    """Draw a model's size at several precisions against a T4's memory, equation 1.1.

    Args:
        bits: of a weight.
        model: one of `slimlib.methods.shapes.SHAPES`.

    Example: `model_size(16, "LLaMA-7B")` -> 6,738,415,616 weights x 2 bytes = 13.5 GB.

    Raises:
        ValueError: bits below 1, or an unknown model.
    """
    if bits < 1:
        raise ValueError(f"bits={bits}: must be 1 or more")
    weights = base_parameters(model)
    rows = sorted({*FORMATS.values(), bits}, reverse=True)
    sizes = [size_gb(weights, row) for row in rows]
    chosen = size_gb(weights, bits)
    fits = "fits into" if chosen < T4_GB else "does not fit into"
    message = f"{model} in {bits} bits: {_gb(chosen)}, which {fits} a T4's {T4_GB:g} GB"
    figure = page(message, 2.6)
    (ax,) = figure.axes
    colours = [PALETTE[4] if row == bits else FROZEN for row in rows]
    ax.barh(range(len(rows)), sizes, color=colours, height=0.7, zorder=3)
    for row, size in enumerate(sizes):
        ax.text(size, row, f" {_gb(size)}", va="center", fontsize=9, bbox=ON_WHITE)
    label_bars(ax, [f"{row} bits" for row in rows])
    ax.set(xlim=(0, max(*sizes, T4_GB) * 1.15), xlabel="GB for the weights alone")
    if max(sizes) > T4_GB / 5:
        ax.axvline(T4_GB, color=PALETTE[3], linewidth=1.4, zorder=2)
        ax.text(T4_GB, -0.55, "a T4", color=DARK_RED, fontsize=9, ha="center", va="bottom")
    text = (
        f"{model}: {weights:,} weights x {bits} bits = {_gb(chosen)} (equation 1.1); in 32 bits it "
        f"is {_gb(size_gb(weights, 32))}."
    )
    return described(figure, text)


def _gb(size: float) -> str:
    return f"{size:.1f} GB" if size >= 0.95 else f"{1000 * size:.1f} MB"


MODELS = tuple(name for name in SHAPES if not name.startswith("micro"))  # real ones

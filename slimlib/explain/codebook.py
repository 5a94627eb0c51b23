"""NF4 in numpy: sixteen levels, blocks that share a scale, and what both cost.

A weight is its block's largest absolute weight (absmax) times one of sixteen levels, of which four
bits name the nearest. The levels are quantiles of a normal distribution, which weights resemble, so
that each is used about as often as any other (QLoRA, Dettmers et al. 2023, section 3). What is
trained with uses bitsandbytes' kernels (`slimlib.model.quantise.nf4`); the tests compare the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist

import numpy as np

from slimlib.common.picture import Picture, described
from slimlib.common.style import PALETTE
from slimlib.config import NF4_BLOCKS
from slimlib.explain.canvas import DARK_RED, INK, ON_WHITE, QUIET, page

BITS = 4
BLOCK = 64  # weights that share a scale
GROUP = 256  # scales that share a float32 under double quantisation


@cache
def nf4_levels() -> tuple[float, ...]:
    """Compute NF4's sixteen levels from the normal distribution's quantiles.

    Eight above zero and seven below, at even steps of probability, and zero itself; the outermost
    stands at the mean of 1 - 1/30 and 1 - 1/32; all divided by the largest.

    Example: `nf4_levels()[8]`, the smallest above zero -> 0.0796.
    """
    outermost = 1 - (1 / (2 * 15) + 1 / (2 * 16)) / 2
    quantile = NormalDist().inv_cdf
    above = [quantile(p) for p in np.linspace(outermost, 0.5, 9)[:-1]]
    below = [-quantile(p) for p in np.linspace(outermost, 0.5, 8)[:-1]]
    return tuple(float(level / max(above)) for level in sorted([*below, 0.0, *above]))


@dataclass(frozen=True, eq=False)
class Blocks:
    """Weights as codes, and a scale for each block."""

    codes: np.ndarray  # (blocks, size), 0 to 15
    absmax: np.ndarray  # (blocks)
    shape: tuple[int, ...]
    levels: tuple[float, ...]

    def values(self) -> np.ndarray:
        """The weights that codes and scales stand for."""
        values = np.asarray(self.levels)[self.codes] * self.absmax[:, None]
        return values.reshape(-1)[: int(np.prod(self.shape))].reshape(self.shape)


def quantise(
    weights: np.ndarray, block: int = BLOCK, levels: Sequence[float] | None = None
) -> Blocks:
    """Give each weight the level that is nearest to it, in units of its block's largest weight.

    Args:
        weights: any shape; blocks are cut from the flattened array, and the last may be shorter.
        block: weights that share a scale.
        levels: in rising order between -1 and 1; default NF4's.

    Example: `quantise(np.array([0.5, -1.0, 0.1]), 3).values()` -> [0.441, -1, 0.0796].

    Raises:
        ValueError: a block of no weight.
    """
    if block < 1:
        raise ValueError(f"block={block}: must be 1 or more")
    levels = nf4_levels() if levels is None else tuple(map(float, levels))
    flat = np.asarray(weights, np.float64).reshape(-1)
    blocks = np.pad(flat, (0, -flat.size % block)).reshape(-1, block)
    absmax = np.abs(blocks).max(axis=1)
    between = (np.asarray(levels)[1:] + levels[:-1]) / 2
    scaled = blocks / np.where(absmax == 0, 1, absmax)[:, None]
    return Blocks(np.searchsorted(between, scaled), absmax, np.shape(weights), levels)


def bits_per_weight(block: int = BLOCK, doubled: bool = True) -> float:
    """Count what is stored for a weight: its code, and its share of the scales.

    With double quantisation a scale is 8 bits, and 256 scales share a float32; without, a scale is
    a float32 itself.

    Example: blocks of 64 -> 4.127; without double quantisation 4.5.
    """
    scale = 8 + 32 / GROUP if doubled else 32
    return BITS + scale / block


def error_share(weights: np.ndarray, stored: np.ndarray) -> float:
    """Divide the length of the rounding error by the length of the weights.

    Example: [3, 4] stored as [3, 3.5] -> 0.5 / 5 = 0.1.
    """
    return float(np.linalg.norm(stored - weights) / np.linalg.norm(weights))


# --------------------------------------------------------------------------------------- pictures


def nf4(weights: np.ndarray, block: int = BLOCK, name: str = "these weights") -> Picture:
    """Draw where weights lie within their blocks, and NF4's levels among them.

    Args:
        weights: of one matrix.
        block: weights that share a scale.
        name: of the matrix.

    Example: `nf4(read_weight(folder, "model.layers.0.self_attn.q_proj.weight"))`.
    """
    found = quantise(weights, block)
    used = 100 * np.bincount(found.codes.reshape(-1), minlength=16) / found.codes.size
    error = 100 * error_share(weights, found.values())
    message = (
        f"NF4's sixteen levels stand where the weights are: eight of them within ±{_half()} of a "
        "block's largest weight"
    )
    figure = page(message, 4.3, 2, sharex=True, height_ratios=[2.2, 1])
    above, below = figure.axes
    scaled = np.asarray(weights, float).reshape(-1)
    scaled = scaled / np.repeat(found.absmax, block)[: scaled.size].clip(1e-30)
    above.hist(scaled, bins=np.linspace(-1, 1, 121), color="#A9D8F5")
    above.vlines(
        found.levels, 0, 1, PALETTE[3], linewidth=1.3, transform=above.get_xaxis_transform()
    )
    above.set(ylabel="weights", yticks=[])
    about = f"{name}: {scaled.size:,} weights (blue) and the sixteen levels (red)"
    above.set_title(about, fontsize=9, loc="left")
    below.bar(found.levels, used, width=0.045, color=PALETTE[3])
    for code, (level, share) in enumerate(zip(found.levels, used, strict=True)):
        below.text(level, share + 0.5, f"{code}", ha="center", fontsize=8)
    below.set(ylabel="% of weights", ylim=(0, max(used) * 1.25))
    below.set_xlabel(f"weight / largest weight of its block of {block}; above each bar its code")
    text = (
        f"{name} in NF4, blocks of {block}: each of the sixteen codes stands for "
        f"{used.min():.1f} to {used.max():.1f} % of the weights; the rounding error is {error:.1f} "
        f"% of the weights' length, at {bits_per_weight(block):.3f} bits a weight."
    )
    return described(figure, text)


def _half() -> str:
    """The bound within which eight of the sixteen levels lie."""
    return f"{sorted(map(abs, nf4_levels()))[7]:.2f}"


def block_sizes(weights: np.ndarray, name: str = "these weights") -> Picture:
    """Draw error against bits for each block size, NF4 beside sixteen even levels.

    Example: `block_sizes(weights)`: a smaller block errs less and stores more scales.
    """
    even = np.linspace(-1, 1, 16)
    errors = {
        label: [
            100 * error_share(weights, quantise(weights, b, levels).values()) for b in NF4_BLOCKS
        ]
        for label, levels in (("sixteen even levels", even), ("NF4", None))
    }
    single = [bits_per_weight(b, doubled=False) for b in NF4_BLOCKS]
    doubled = [bits_per_weight(b) for b in NF4_BLOCKS]
    at = NF4_BLOCKS.index(BLOCK)
    message = (
        f"Small blocks err less and cost scales; storing these in 8 bit makes blocks of {BLOCK} "
        f"cost {doubled[at]:.3f} bits a weight instead of {single[at]:.3f}"
    )
    figure = page(message, 3.6, 1, 2)
    left, right = figure.axes
    dark = {"#777777": INK, PALETTE[3]: DARK_RED, PALETTE[1]: PALETTE[1]}
    for (label, values), colour in zip(errors.items(), ("#777777", PALETTE[3]), strict=True):
        left.plot(NF4_BLOCKS, values, "o-", color=colour, markersize=4)
        above = 7 if label != "NF4" else -14  # points
        left.annotate(label, (NF4_BLOCKS[-1], values[-1]), (0, above), textcoords="offset points",
                      ha="right", color=dark[colour], fontsize=9)  # fmt: skip
    left.set(ylabel="rounding error, % of the weights' length")
    left.set_ylim(0, 1.12 * max(errors["sixteen even levels"]))
    lines = (("scales in float32", single, "#777777"), ("scales in 8 bit", doubled, PALETTE[1]))
    for (label, values, colour), height in zip(lines, (0.9, 0.04), strict=True):
        right.plot(NF4_BLOCKS, values, "o-", color=colour, markersize=4)
        across = 0.3 if values is single else 0.03
        right.text(across, height, label, transform=right.transAxes, color=dark[colour], fontsize=9,
                   bbox=ON_WHITE)  # fmt: skip
    right.set(ylabel="bits a weight, all that is stored", ylim=(BITS - 0.05, None))
    for ax in figure.axes:
        ax.set_xscale("log", base=2)
        ax.set_xticks(NF4_BLOCKS[::2], [f"{b:,}" for b in NF4_BLOCKS[::2]])
        ax.set_xlabel("block size, weights")
        ax.axvline(BLOCK, color=QUIET, linewidth=0.8, linestyle=":", zorder=0)
    nf4_at, even_at = (errors[label][at] for label in ("NF4", "sixteen even levels"))
    text = (
        f"{name}: in blocks of {BLOCK}, NF4 errs by {nf4_at:.1f} % and sixteen even levels by "
        f"{even_at:.1f} % of the weights' length; from blocks of {NF4_BLOCKS[0]} to "
        f"{NF4_BLOCKS[-1]:,} NF4's error rises from {errors['NF4'][0]:.1f} to "
        f"{errors['NF4'][-1]:.1f} % while its bits fall from {doubled[0]:.3f} to {doubled[-1]:.3f}."
    )
    return described(figure, text)

"""Rank: a matrix as a sum of parts, how few hold a change, and how few numbers a task needs.

A part is a column times a row. The singular value decomposition gives the parts in falling order,
and no other r parts come closer (Eckart and Young 1936). LoRA bets that the change of a weight
matrix needs few (Hu et al. 2022), since tasks need few directions (Aghajanyan et al. 2021).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from slimlib.common.picture import Picture, described
from slimlib.common.style import PALETTE
from slimlib.explain.canvas import DARK_RED, DARK_YELLOW, QUIET, page
from slimlib.methods.shapes import lora_parameters

ENOUGH = 0.9  # of what there is to reach
WIDTHS = (64, 256, 1024, 4096)  # weights of the models whose intrinsic dimension is measured
TRIED = (1, 2, 4, 8, 16, 32, 64, 128, 256)  # numbers that are trained
DRAWS = 4  # of inputs, features and directions, averaged


def landscape(height: int = 96, width: int = 144) -> np.ndarray:
    """Make a picture as a matrix of brightness, 0 to 1: sky, sun, clouds, hills, a fence."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : width / height : width * 1j]
    picture = 0.55 + 0.35 * y
    picture += 0.12 * np.sin(9 * x + 3 * np.sin(5 * y)) * (y < 0.5)
    picture[(x - 1.1) ** 2 + (y - 0.24) ** 2 < 0.017] = 1.0
    for base, wave, shade in ((0.62, 3.1, 0.42), (0.74, 4.7, 0.28), (0.86, 7.3, 0.14)):
        picture[y > base + 0.07 * np.sin(wave * x + 10 * base)] = shade
    fence = (np.sin(40 * x) > 0.4) & (y > 0.8) | (abs(y - 0.88) < 0.012)
    picture[fence] = 0.75
    return picture.clip(0, 1)


def rebuild_matrix(matrix: np.ndarray, r: int) -> np.ndarray:
    """Add the r largest parts of a matrix: its best approximation of rank r.

    Example: [[2, 0], [0, 1]] with r = 1 -> [[2, 0], [0, 0]].

    Raises:
        ValueError: an r that the matrix cannot have.
    """
    largest = min(matrix.shape)
    if not 1 <= r <= largest:
        raise ValueError(f"r={r}: must be 1 to {largest} for a matrix of {matrix.shape}")
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    return (left[:, :r] * values[:r]) @ right[:r]


def kept(matrix: np.ndarray) -> np.ndarray:
    """Share of a matrix's squared length that its 1, 2, ... largest parts hold.

    Example: [[2, 0], [0, 1]] -> [0.8, 1.0].
    """
    squared = np.linalg.svd(matrix, compute_uv=False) ** 2
    return np.cumsum(squared) / squared.sum()


def parts_needed(matrix: np.ndarray, share: float = ENOUGH) -> int:
    """Count the largest parts that together hold a share of a matrix's squared length.

    Example: the identity of size 10 needs 9 parts for 0.9 of it.
    """
    return int(np.searchsorted(kept(matrix), share - 1e-9)) + 1


# --------------------------------------------------------------------------------------- pictures


def rebuild(r: int = 8, matrix: np.ndarray | None = None) -> Picture:
    """Draw a picture-sized matrix and what its r largest parts make of it.

    Args:
        r: how many parts.
        matrix: default the `landscape`.

    Example: `rebuild(8)`: eight columns and eight rows instead of 96 x 144 numbers.

    Raises:
        ValueError: an r that the matrix cannot have.
    """
    matrix = landscape() if matrix is None else matrix
    rebuilt, shares = rebuild_matrix(matrix, r), kept(matrix - matrix.mean())
    missed = np.linalg.norm(matrix - rebuilt) / np.linalg.norm(matrix - matrix.mean())
    numbers = lora_parameters(matrix.shape[1], matrix.shape[0], r)
    cost = 100 * numbers / matrix.size
    message = (
        f"Rank {r}: {r} column{'s' * (r > 1)} times {r} row{'s' * (r > 1)} rebuild the picture up "
        f"to {100 * missed:.0f} % of its contrast, with {cost:.0f} % of its numbers"
    )
    figure = page(message, 2.5, 1, 3, width_ratios=[1, 1, 0.9])
    whole, again, curve = figure.axes
    for ax, image, title in (
        (whole, matrix, f"{matrix.shape[0]} x {matrix.shape[1]} = {matrix.size:,} numbers"),
        (again, rebuilt, f"{r} x ({matrix.shape[0]} + {matrix.shape[1]}) = {numbers:,} numbers"),
    ):
        ax.imshow(image, cmap="gray", vmin=0, vmax=1)
        ax.set_title(title, fontsize=8)
        ax.axis("off")
    curve.plot(range(1, len(shares) + 1), 100 * shares, color=PALETTE[1])
    curve.plot(r, 100 * shares[r - 1], "o", color=PALETTE[3])
    curve.set(xlabel="parts", ylim=(0, 105), xscale="log")
    curve.set_title("% of the picture kept", fontsize=8)
    curve.set_xticks([1, 10, len(shares)], ["1", "10", f"{len(shares)}"])
    curve.minorticks_off()
    text = (
        f"A picture of {matrix.shape[0]} x {matrix.shape[1]} numbers rebuilt from {r} of its "
        f"{len(shares)} parts, {numbers:,} numbers instead of {matrix.size:,}, misses "
        f"{100 * missed:.1f} % of its contrast."
    )
    return described(figure, text)


def change_rank(before: np.ndarray, after: np.ndarray, name: str = "a weight matrix") -> Picture:
    """Draw how many parts a full fine-tuning's change has, beside the weights and beside noise.

    Args:
        before, after: the same matrix of two checkpoints, one trained on from the other.
        name: of the matrix.

    Example: `change_rank(base, instruct)`: fewer parts hold the change than hold noise.
    """
    change = np.asarray(after, float) - before
    noise = np.random.default_rng(0).standard_normal(change.shape)
    curves = {"the change": change, "the weights": np.asarray(before, float), "noise": noise}
    needed = {label: parts_needed(matrix) for label, matrix in curves.items()}
    full = min(change.shape)
    message = (
        f"A full fine-tuning's change of {name}: {needed['the change']} of {full} parts hold "
        f"{100 * ENOUGH:.0f} % of it; of noise it takes {needed['noise']}"
    )
    figure = page(message, 3.2)
    (ax,) = figure.axes
    colours = (PALETTE[3], PALETTE[1], "#777777")
    for (label, matrix), colour, height in zip(curves.items(), colours, (58, 42, 26), strict=True):
        ax.plot(range(1, full + 1), 100 * kept(matrix), color=colour, linewidth=1.8)
        ax.plot(needed[label], 100 * ENOUGH, "o", color=colour, markersize=5)
        said = f"{label}: {needed[label]} parts"
        ax.text(0.99, height / 100, said, color=colour, ha="right", fontsize=9.5,
                transform=ax.transAxes, fontweight="bold")  # fmt: skip
    ax.axhline(100 * ENOUGH, color=QUIET, linewidth=0.8, linestyle=":")
    ax.set(xlabel="largest parts added", ylabel="% of the squared length", ylim=(0, 102))
    ratio = np.linalg.norm(change) / np.linalg.norm(before)
    text = (
        f"{name}, {change.shape[0]} x {change.shape[1]}: {100 * ENOUGH:.0f} % of the change lies "
        f"in {needed['the change']} of {full} parts, of the weights in {needed['the weights']}, of "
        f"noise in {needed['noise']}; the change is {100 * ratio:.0f} % as long as the weights."
    )
    return described(figure, text)


def explained(width: int, dimensions: Sequence[int], seed: int = 0) -> np.ndarray:
    """Share of a task's variance that a model explains when it trains d numbers instead of all.

    The model is linear on `width` random features, its weights w = P z with a random P of width x d
    (Li et al. 2018); z is fitted by least squares on 400 examples, the share measured on others.
    The last number is for training all weights.

    Args:
        width: weights of the model.
        dimensions: the d to try.
        seed: of inputs, features and P.
    """
    rng = np.random.default_rng(seed)
    inputs = rng.standard_normal((800, 6))
    target = np.sin(inputs[:, 0]) + 0.5 * inputs[:, 1] * inputs[:, 2] + 0.5 * np.tanh(inputs[:, 3])
    features = np.tanh(inputs @ rng.standard_normal((6, width)) / 2 + rng.standard_normal(width))
    projection = rng.standard_normal((width, max(dimensions))) / np.sqrt(width)
    trained = features @ projection
    shares = [_share(trained[:, :d], target) for d in dimensions]
    return np.array([*shares, _share(features / np.sqrt(width), target)])


def _share(columns: np.ndarray, target: np.ndarray) -> float:
    half = len(target) // 2
    known, asked = columns[:half], columns[half:]
    products = known @ known.T  # ridge regression, in the space of the examples
    ridge = products + 1e-3 * np.trace(products) / half * np.eye(half)
    guess = asked @ (known.T @ np.linalg.solve(ridge, target[:half] - target[:half].mean()))
    rest = target[half:] - target[:half].mean() - guess
    return float(1 - rest.var() / target[half:].var())


def intrinsic_dimension() -> Picture:
    """Draw how many trained numbers a task needs in models of 64 to 4,096 weights.

    Example: `intrinsic_dimension()`: the larger the model, the smaller the share of it.
    """
    found = {w: np.mean([explained(w, TRIED, s) for s in range(DRAWS)], axis=0) for w in WIDTHS}
    needed = {width: dimension(TRIED, shares) for width, shares in found.items()}
    small, large = WIDTHS[1], WIDTHS[-1]
    message = (
        f"A task's intrinsic dimension grows little with the model: {needed[small]:.0f} of {small} "
        f"numbers, or {needed[large]:.0f} of {large:,}, reach {100 * ENOUGH:.0f} % of what all do"
    )
    figure = page(message, 3.2)
    (ax,) = figure.axes
    colours = ("#777777", PALETTE[1], DARK_YELLOW, DARK_RED)
    for row, ((width, shares), colour) in enumerate(zip(found.items(), colours, strict=True)):
        there = [d for d in TRIED if d <= width]
        reached = 100 * shares[: len(there)] / shares[-1]
        ax.plot(there, reached, "o-", color=colour, markersize=4)
        said = f"{width:,} weights: {needed[width]:.0f} = {100 * needed[width] / width:.2g} %"
        ax.text(0.99, 0.44 - 0.11 * row, said, transform=ax.transAxes, ha="right", fontsize=9.5,
                fontweight="bold", color=colour)  # fmt: skip
    ax.axhline(100 * ENOUGH, color=QUIET, linewidth=0.8, linestyle=":")
    ax.set(xlabel="numbers that are trained", ylim=(0, 110), xscale="log")
    ax.xaxis.set_major_formatter("{x:g}")
    ax.set_ylabel("% of what training all reaches")
    return described(figure, _in_words(needed))


def dimension(tried: Sequence[int], shares: np.ndarray) -> float:
    """The numbers that must be trained to reach enough of what training all weights does.

    Between two of those tried it is read off a straight line over their logarithms.

    Args:
        tried: numbers trained, in rising order.
        shares: what each explains, and at the end what training all weights does.

    Example: tried 1, 4, 16 that explain 0.3, 0.6 and 0.9 of 1.0, -> 16.0.

    Raises:
        ValueError: even the last of those tried is not enough.
    """
    enough = ENOUGH * shares[-1]
    first = int(np.argmax(shares[:-1] >= enough - 1e-12))
    if shares[first] < enough - 1e-12:
        raise ValueError(f"{tried[-1]} trained numbers do not reach {ENOUGH:g} of what all reach")
    if first == 0:
        return float(tried[0])
    ends = np.log([tried[first - 1], tried[first]])
    return float(np.exp(np.interp(enough, shares[first - 1 : first + 1], ends)))


def _in_words(needed: Mapping[int, float]) -> str:
    pairs = ", ".join(f"{number:.0f} of {width:,}" for width, number in needed.items())
    return (
        f"One made-up task in four models: training {pairs} numbers in a random direction each "
        f"reaches {100 * ENOUGH:.0f} % of what training all weights does."
    )

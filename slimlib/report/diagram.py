"""Five data-flow pictures: what each adapter method does between a layer's input and its output.

Every method is y = W x + s B(A x) on a frozen quantised W; they differ in the averages and
repetitions around A and B, which hold no parameters. `stages_of` places the boxes of a method's
`path`, and `methods` draws them for any shape, rank and factors. After Fig. 1 of Shen et al. 2025.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log2
from typing import TYPE_CHECKING, Any, NamedTuple

from slimlib.common.checked import fields_of
from slimlib.common.style import PALETTE, SMALL, STYLE, WIDTH, entitle
from slimlib.config import ADAPTERS, AdapterConfig
from slimlib.methods.definitions import METHODS, Box, Entry
from slimlib.methods.plan import compile_plan

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TRAINED, FREE, FROZEN = "trained", "no parameters", "frozen, quantised"
COLOURS = {FROZEN: "#CFCFCF", FREE: "#A9D8F5", TRAINED: PALETTE[4]}
POINTS = 0.72  # of the sizes below: they are those of a panel of 2.9 inches
MODULE = "model.layers.0.self_attn.q_proj"  # whose plan gives the counts; any would


class Stage(NamedTuple):
    """One box as it is drawn."""

    row: float  # height: 0 average, 1 A, 2 B, 3 repetition; C stands between A's and B's
    text: str
    box: Box
    scalar: str = ""  # what the result is multiplied by, of a box past another of the same row


ROWS = {"mean": 0, "A": 1, "C": 1.5, "B": 2, "repeat": 3}
TEXTS = {"mean": "mean\nof {}", "repeat": "repeat\n{}\u00d7"}
SCALARS = {"mean": "\u03b2\u2081", "repeat": "\u03b2\u2082"}  # where they are learned


def stages_of(entry: Entry) -> list[Stage]:
    """The boxes of a module's adapter path as its method gives them, each in its place."""
    stages: list[Stage] = []
    for box in METHODS[entry.method].path(entry):
        if box.beta is None:
            text = TEXTS.get(box.kind, box.kind).format(box.factor)
            stages.append(Stage(ROWS[box.kind], text, box))
        else:  # past the matrix just placed
            scalar = SCALARS[box.kind] if box.beta == "learned" else f"{box.beta}"
            stages.append(Stage(stages[-1].row, box.kind, box, scalar))
    return stages


def methods(shape: tuple[int, int] = (2048, 512), **values: Any) -> Figure:
    """Draw the five methods side by side for one linear layer.

    A box's sides are as wide as the logarithm of the numbers that enter and leave it, on one scale
    for all five; each arrow carries its count. Below: trained parameters and the rank of dW.

    Args:
        shape: (d_in, d_out) of the layer; default k and v of Llama-3.2-1B.
        **values: r, lora_alpha, lam, lam1, lam2, group_size or iec_beta, for the methods that have
            it; default the config's.

    Raises:
        ValueError: a method does not fit the shape (as `compile_plan`).
    """
    from matplotlib import pyplot as plt

    entries = {name: _entry(name, shape, values) for name in METHODS}
    stages = {name: stages_of(entry) for name, entry in entries.items()}
    widths = [width for path in stages.values() for s in path for width in s.box[1:3]]
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(2, 3, figsize=(WIDTH, 9.4), layout="constrained")
        for ax in axes.ravel()[len(stages) :]:
            ax.remove()  # the legend's place
        for ax, (name, path) in zip(axes.ravel(), stages.items(), strict=False):
            _Panel(ax, entries[name], min(widths), max(widths)).draw(path)
        _head_and_legend(figure, entries["qlora"])
        interactive = plt.isinteractive()
    if interactive:  # turned on by a notebook's first figure, and taken back by the context
        plt.ion()
    return figure


def _entry(method: str, shape: tuple[int, int], values: Mapping[str, Any]) -> Entry:
    own = {name: value for name, value in values.items() if name in fields_of(ADAPTERS[method])}
    return compile_plan({MODULE: shape}, AdapterConfig(method, **own))[MODULE]


def _head_and_legend(figure: Figure, entry: Entry) -> None:
    from matplotlib.patches import Patch

    heading = "One frozen matrix, five adapters: what differs is what surrounds A and B"
    entitle(figure, heading, f"A layer of {entry.d_in:,} inputs and {entry.d_out:,} outputs")
    handles = [Patch(facecolor=c, edgecolor="black", label=kind) for kind, c in COLOURS.items()]
    handles[-1].set_label(f"trained (r = {entry.r}, s = {entry.scaling:g})")
    place = {"loc": "center", "bbox_to_anchor": (5 / 6, 0.25), "title": "Numbers: how many flow"}
    figure.legend(handles=handles, frameon=False, fontsize=8, title_fontsize=8, **place)


class _Panel:
    """One method's picture. Data flow downwards; rows and columns are those of the axes."""

    WEIGHT, TOP, SUM = 1.3, 13.4, 1.55  # column of W, height of x, height of the last sum
    ROWS, HALF = (11.5, 9.25, 6.15, 3.8), 0.65  # middles of the rows of boxes, half a box's height

    def __init__(self, ax: Axes, entry: Entry, smallest: int, largest: int) -> None:
        self.ax, self.entry = ax, entry
        self.smallest, self.span = smallest, max(1.0, log2(largest) - log2(smallest))
        ax.set(xlim=(0, 10), ylim=(-3.1, 15.4))
        ax.axis("off")

    def draw(self, stages: Sequence[Stage]) -> None:
        """The whole picture: x, W, the path, the sum, y and the counts."""
        beside = any(stage.scalar for stage in stages)
        column = 4.6 if beside else 6.0
        method = METHODS[self.entry.method]
        self._text(5, 15.1, method.label, 14, weight="bold")
        self._text(5, 14.4, method.caption, 11, color="dimgrey")
        self._frozen(column)
        height = self.TOP
        for stage in stages:
            if stage.scalar:
                height = self._bypass(stage, column, height)
            else:
                height = self._step(stage, column, height, left=beside)
        self._join(column, height)
        self._counts()

    def _frozen(self, column: float) -> None:
        """x at the top, its two ways, and W with what goes in and out."""
        d_in, d_out = self.entry.d_in, self.entry.d_out
        top, bottom = self.ROWS[0] + self.HALF, self.ROWS[-1] - self.HALF
        self._line((self.WEIGHT, self.TOP), (column, self.TOP))
        self._arrow((self.WEIGHT, self.TOP), (self.WEIGHT, top))
        self._number(self.WEIGHT, top + 0.48, d_in)
        self._text(self.WEIGHT, self.TOP, "x", 14, bbox=_HALO, style="italic")
        self._box(self.WEIGHT, top, bottom, (d_in, d_out), FROZEN, 0.5)
        self._text(self.WEIGHT, (top + bottom) / 2, "W", 15, weight="bold")
        self._arrow((self.WEIGHT, bottom), (self.WEIGHT, self.SUM + 0.3))

    def _step(self, stage: Stage, column: float, height: float, left: bool) -> float:
        """An arrow with its number and the box it enters; returns the height of the box's foot."""
        top, bottom = self._edges(stage)
        self._arrow((column, height), (column, top))
        self._number(column, top + 0.48, stage.box.d_in, left)
        kind = TRAINED if stage.box.parameters else FREE
        self._box(column, top, bottom, stage.box[1:3], kind)
        size = 15 if stage.box.parameters else 10
        weight = "bold" if stage.box.parameters else "normal"
        self._text(column, (top + bottom) / 2, stage.text, size, weight=weight)
        return bottom

    def _bypass(self, stage: Stage, column: float, height: float) -> float:
        """A way past the box just drawn, scaled and added to its result; returns the sum's foot."""
        (top, bottom), side = self._edges(stage), 8.4
        start, joint = top + 0.28, bottom - 0.65
        self._line((column, start), (side, start))
        self._arrow((side, start), (side, top))
        self._box(side, top, bottom, stage.box[1:3], FREE, 0.75)
        self._text(side, (top + bottom) / 2, stage.text, 9)
        self._line((side, bottom), (side, joint))
        self._arrow((side, joint), (column + 0.3, joint))
        self._circle(side, joint, stage.scalar, COLOURS[TRAINED if stage.box.parameters else FREE])
        self._arrow((column, height), (column, joint + 0.3))
        self._circle(column, joint, "+")
        return joint - 0.3

    def _join(self, column: float, height: float) -> None:
        """Times s, added to W's result, and y."""
        d_out, scale = self.entry.d_out, 2.45
        self._line((column, height), (column, self.SUM))
        self._circle(column, scale, "s")
        self._arrow((column, self.SUM), (self.WEIGHT + 0.3, self.SUM))
        self._number((column + self.WEIGHT) / 2 - 0.4, self.SUM + 0.4, d_out)
        self._circle(self.WEIGHT, self.SUM, "+")
        self._arrow((self.WEIGHT, self.SUM - 0.3), (self.WEIGHT, 0.35))
        self._text(self.WEIGHT, 0, "y", 14, style="italic")
        self._number(self.WEIGHT, 0.8, d_out)

    def _counts(self) -> None:
        self._text(5, -1.1, f"{self.entry.parameters:,} trained", 13, weight="bold")
        block = self.entry.block
        merges = f"4-bit blocks of {block[0]} \u00d7 {block[1]}" if block else "16 bit only"
        self._text(5, -1.95, f"\u0394W has rank {self.entry.max_rank:,} at most", 11)
        self._text(5, -2.75, f"merges into {merges}", 11)

    def _edges(self, stage: Stage) -> tuple[float, float]:
        """Top and foot of a box; a row between two lies between them."""
        low = int(stage.row)
        high = min(low + 1, len(self.ROWS) - 1)
        middle = self.ROWS[low] + (stage.row - low) * (self.ROWS[high] - self.ROWS[low])
        return middle + self.HALF, middle - self.HALF

    def _half_width(self, numbers: int) -> float:
        return 0.62 + 1.45 * (log2(numbers) - log2(self.smallest)) / self.span

    def _box(
        self, x: float, top: float, foot: float, numbers: tuple[int, int], kind: str, by: float = 1
    ) -> None:
        """A trapezoid whose upper and lower sides stand for the numbers that enter and leave."""
        from matplotlib.patches import Polygon

        upper, lower = (by * self._half_width(n) for n in numbers)
        corners = [(x - upper, top), (x + upper, top), (x + lower, foot), (x - lower, foot)]
        self.ax.add_patch(Polygon(corners, facecolor=COLOURS[kind], edgecolor="black", zorder=2))

    def _circle(self, x: float, y: float, text: str, colour: str = "white") -> None:
        box = {"boxstyle": "circle,pad=0.22", "facecolor": colour, "edgecolor": "black"}
        self._text(x, y, text, 11, bbox=box, zorder=4)

    def _number(self, x: float, y: float, count: int, left: bool = False) -> None:
        """How many numbers an arrow carries, to its right or left."""
        side, shift = ("right", -0.2) if left else ("left", 0.2)
        self._text(x + shift, y, f"{count:,}", 11, ha=side)

    def _text(self, x: float, y: float, text: str, size: float, **style: Any) -> None:
        points = max(SMALL, size * POINTS)
        self.ax.text(x, y, text, fontsize=points, **{**_CENTRED, **style})

    def _line(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        self.ax.plot(*zip(start, end, strict=True), color="black", linewidth=1.2, zorder=1)

    def _arrow(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        self.ax.annotate("", end, start, arrowprops=_ARROW, zorder=1)


_CENTRED = {"ha": "center", "va": "center", "zorder": 5}
_HALO = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}  # keeps its line off a letter
_ARROW = {"arrowstyle": "-|>", "color": "black", "linewidth": 1.2, "shrinkA": 0, "shrinkB": 0}

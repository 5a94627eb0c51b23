"""One look for all figures, and how they are written."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slimlib.common.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which colour-blind readers can tell apart, in the order of the arms;
# their yellow, too pale for lines on white, is replaced by grey.
PALETTE = ("#000000", "#0072B2", "#56B4E9", "#D55E00", "#E69F00", "#CC79A7", "#009E73", "#999999")


STYLE = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "slimlib",  # the same element ids in every run
}


def as_written(text: str) -> str:
    """A name as it is: matplotlib would read what stands between two dollars as a formula."""
    return text.replace("$", r"\$")


def wrap(label: str) -> str:
    """Break a label of an axis into lines of 26 characters."""
    return textwrap.fill(as_written(label), 26, break_on_hyphens=False)


def wrap_title(text: str) -> str:
    """Break a figure's title into lines of 80 characters."""
    return textwrap.fill(as_written(text), 80)


def subplots(width: float, height: float) -> Axes:
    """New axes in our style, shown by a notebook like any others."""
    from matplotlib import pyplot as plt

    with plt.rc_context(STYLE):
        _, ax = plt.subplots(figsize=(width, height), layout="constrained")
        interactive = plt.isinteractive()
    # A notebook's backend, loaded by its first figure, turns this on; the context took it back, and
    # no later figure would be shown.
    if interactive:
        plt.ion()
    return ax


def save_figure(figure: Figure, folder: Path, name: str) -> tuple[Path, Path]:
    """Write name.png (200 dpi) and name.svg, each whole or not at all, without dates."""
    from matplotlib import rc_context

    png, svg = folder / f"{name}.png", folder / f"{name}.svg"
    with rc_context(STYLE):
        with atomic_path(png) as temporary:
            figure.savefig(temporary, format="png", dpi=200, metadata={"Software": None})
        with atomic_path(svg) as temporary:
            figure.savefig(temporary, format="svg", metadata={"Date": None, "Creator": None})
    return png, svg


def show(path: Path) -> Any:
    """A written picture, for a notebook to display inline."""
    from IPython.display import Image

    return Image(filename=str(path), width=900)

"""A figure with what it says: the sentence under it, which is also read aloud in its place."""

from __future__ import annotations

import base64
import html
import io
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slimlib.common.style import DPI, STYLE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Output = tuple[dict[str, Any], dict[str, Any]]  # what a notebook shows: by kind, and its metadata


@dataclass(frozen=True, eq=False)
class Picture:
    """A figure, and one sentence made from its numbers."""

    figure: Figure
    text: str

    def png(self, dpi: int = DPI) -> bytes:
        """The figure as a PNG file."""
        from matplotlib import rc_context

        stream = io.BytesIO()
        with rc_context(STYLE):
            self.figure.savefig(stream, format="png", dpi=dpi, metadata={"Software": None})
        return stream.getvalue()

    def outputs(self) -> list[Output]:
        """What a notebook shows: the image with its alternative text, then the sentence."""
        image = {"image/png": base64.b64encode(self.png()).decode(), "text/plain": "(a figure)"}
        width = round(self.figure.get_figwidth() * DPI / 2)  # two pixels for one: sharp letters
        said = {"text/html": f"<p>{html.escape(self.text)}</p>", "text/plain": self.text}
        return [(image, {"image/png": {"alt": self.text, "width": width}}), (said, {})]

    def _ipython_display_(self) -> None:
        from IPython.display import display

        for data, metadata in self.outputs():
            display(data, metadata=metadata, raw=True)


def described(figure: Figure, text: str) -> Picture:
    """Put a sentence to a figure: a notebook shows both, and a screen reader reads the sentence.

    Args:
        figure: matplotlib's; if pyplot keeps it, it is closed, so that it is shown once.
        text: what the figure says, with its numbers.

    Example: `described(ax.figure, "Rank 8 trains 0.45 % of the weights.")` ends a cell.
    """
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close(figure)
    return Picture(figure, text)

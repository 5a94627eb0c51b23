"""What a fine-tuning of one's own learned, what it lost, which step lost it: the answer, shown.

The sentence comes first, then what was learned beside what was lost, then the steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slimlib.common.document import Document, Point, Shown
from slimlib.common.style import STYLE, WIDTH, draw_beside, entitle
from slimlib.comparison.change import GAINS, LOSSES, finite
from slimlib.comparison.contrast import Contrast
from slimlib.comparison.plots import GAINED, NOISE, TOTAL, band_note, plot_changes
from slimlib.comparison.sentences import brief, change_table, from_to
from slimlib.comparison.two_models import Comparison
from slimlib.metrics.text import number, p_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NO_BETTER = 0.9  # of the loss of guessing: a model that writes has far less
FEW = 10  # held-out rows
MORE_ROWS = "--set data.held_out=0.2 holds out more"


@dataclass(frozen=True)
class Learned:
    """The loss on held-out rows before and after: nats per token."""

    rows: int
    before: float
    after: float
    change: Contrast  # after - before, over rows (and seeds)
    guessing: float = math.inf  # loss of a model that takes all tokens to be as likely

    @property
    def real(self) -> bool:
        """Whether the interval of the change leaves 0 out."""
        low, high = self.change.difference[1:]
        return low > 0 or high < 0

    def sentence(self) -> str:
        """What was learned, as far as the interval goes."""
        if math.isnan(self.before):
            return "No row was held out, so what was learned was not measured."
        verb = "Not told whether it learned its rows"
        if self.real:
            verb = "Learned its rows" if self.after < self.before else "Unlearned its rows"
        rows = f"{self.rows} held-out row{'s' if self.rows > 1 else ''}"
        value, low, high = (number(limit, 2, "+") for limit in self.change.difference)
        chance = f"[{low}, {high}], {p_text(self.change.p_value)}"
        if self.change.p_value is None:
            chance = "of one row, which says nothing of others"
        return (
            f"{verb}: loss on {rows} {number(self.before)} -> {number(self.after)} nats a token, "
            f"less is better ({value} {chance})."
            + ("" if self.real or self.rows >= FEW else f" Few rows: {MORE_ROWS}.")
            + self._guesses()
        )

    def _guesses(self) -> str:
        if self.after < NO_BETTER * self.guessing:
            return ""
        loss = number(self.guessing)
        return f" It still does little but guess: all tokens taken as equally likely give {loss}."


@dataclass(frozen=True)
class Stage:
    """One step between two of the study's models."""

    cause: str
    comparison: Comparison


@dataclass(frozen=True)
class Answer(Shown):
    """What became of one's own model; see `slimlib.tune`."""

    title: str
    rows: Sequence[str]  # sentences on the rows
    learned: Learned
    comparison: Comparison  # base against the model that is recommended
    steps: Sequence[Stage]
    advice: str  # which merge to take, and why
    place: str  # where that model lies
    notes: Sequence[str] = ()

    def sentence(self) -> str:
        """The answer in one or two sentences."""
        return f"{self.learned.sentence()} {self.comparison.answer()}"

    def __repr__(self) -> str:
        return f"<Answer {self.title!r}; {self.sentence()}>"

    def document(self) -> Document:
        """Answer, advice, verdict on each task, steps, table, notes."""
        points: list[Point] = [self.sentence(), self.advice, f"The model lies in {self.place}."]
        points += [self.comparison.sentence(change) for change in self.comparison.headlines]
        for found in self.comparison.answers.values():
            first, *examples = found.points()
            points.append((first, examples))
        steps = [line for step in self.steps for line in _step_lines(step)]
        if steps:
            points.append(("Which step?", steps))
        points.append(("Rows", self.rows))
        table = change_table(self.comparison.changes, self.comparison.alpha)
        notes = [*self.comparison.rules(), *self.comparison.notes, *self.notes]
        return Document(self.title, points, table, notes)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, texts and None, as JSON takes them."""
        loss = self.learned
        return {
            "answer": self.sentence(),
            "learned": {
                "rows": loss.rows,
                "loss_before": finite(loss.before),
                "loss_after": finite(loss.after),
                "change": [finite(limit) for limit in loss.change.difference],
                "p_value": loss.change.p_value,
            },
            "advice": self.advice,
            "model": self.place,
            "comparison": self.comparison.to_dict(),
            "steps": {step.cause: step.comparison.to_dict()["tasks"] for step in self.steps},
            "rows": [*self.rows],
        }

    def figure(self) -> Figure:
        """Learned above lost: the held-out loss before and after, and each task's change."""
        from matplotlib import pyplot

        changes = self.comparison.headlines
        margin, alpha = self.comparison.margin, self.comparison.alpha
        with pyplot.rc_context(STYLE):
            figure, (above, below) = pyplot.subplots(
                2,
                1,
                figsize=(WIDTH, 3.2 + 0.42 * len(changes)),
                height_ratios=(2, max(2, 1.4 * len(changes))),
                layout="constrained",
            )
            entitle(figure, self.sentence(), self.title, band_note(margin))
            _draw_loss(self.learned, above)
            plot_changes(changes, margin, "Lost or kept?", alpha, below)
        return figure


def _step_lines(step: Stage) -> list[str]:
    return [
        f"{step.cause}, {change.title}: {from_to(change)}, {brief(change)}: {change.verdict}"
        for change in step.comparison.headlines
    ]


def _draw_loss(learned: Learned, ax: Any) -> None:
    rows = f", n = {learned.rows:,}" if learned.rows else ""
    ax.set_title(f"Learned? Held-out rows{rows}", loc="left", fontweight="bold")
    if math.isnan(learned.before):
        ax.text(0.5, 0.5, "no row held out", ha="center", transform=ax.transAxes, fontsize=8)
        ax.set_axis_off()
        return
    colours = (TOTAL, GAINED if learned.real and learned.after < learned.before else NOISE)
    for row, (loss, colour) in enumerate(
        zip((learned.before, learned.after), colours, strict=True)
    ):
        ax.barh(row, loss, height=0.5, color=colour)
        draw_beside(ax, row, f"{loss:.2f}")
    ax.set_yticks((0, 1), ("before", "after"))
    ax.set(ylim=(1.5, -0.5), xlabel="loss, nats a token")


def better_merge(comparison: Comparison) -> bool | None:
    """Whether the second of two merges of one adapter is the better one; None: neither is shown.

    Args:
        comparison: the merge into the weights that were trained on, against that into 16 bit.
    """
    gains = any(change.verdict in GAINS for change in comparison.headlines)
    losses = any(change.verdict in LOSSES for change in comparison.headlines)
    return None if gains == losses else gains

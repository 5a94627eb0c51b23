"""What each step of a ladder changed, as it is shown: sentences, a table, a picture, JSON.

`ladder.attribute` makes it from a study's records.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slimlib.common.document import Document, Point, Shown, point_lines
from slimlib.common.style import WIDTH, entitle, listed, subplots, wrap
from slimlib.comparison.benchmarks import BENCHMARKS
from slimlib.comparison.change import Change
from slimlib.comparison.plots import SHOWN, Rung, plot_waterfall
from slimlib.comparison.sentences import STEP_WORDS, brief, from_to, step_cells
from slimlib.comparison.two_models import Comparison
from slimlib.config import Question, Study

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

OTHER_STEPS = "No other step is shown to change anything."
SHARES = "share: per cent of the whole change; none where the step or the whole may be chance."


@dataclass(frozen=True)
class Step:
    """One step of the ladder on one benchmark."""

    before: str  # arm
    after: str  # arm
    cause: str
    change: Change
    share: float | None  # per cent of the whole change; None where either may be chance

    def sentence(self) -> str:
        """Cause, change, interval, p-value, verdict and share in words."""
        share = "" if self.share is None else f", {self.share:.0f} % of the whole"
        verdict = STEP_WORDS[self.change.verdict]
        return (
            f"{self.cause} ({self.before} -> {self.after}): {brief(self.change)}, {verdict}{share}"
        )

    def row(self, name: str = "") -> dict[str, str]:
        """The step as cells of a table."""
        return {
            "step": name or f"{self.before} -> {self.after}",
            "cause": self.cause,
            **step_cells(self.change),
            "share": "-" if self.share is None else f"{self.share:.0f} %",
            "verdict": self.change.verdict,
        }


@dataclass(frozen=True)
class Attribution(Shown):
    """A study's ladder and its questions, answered: see `attribute`."""

    study: Study
    steps: dict[str, tuple[Step, ...]]  # role -> steps in the ladder's order
    totals: dict[str, Change]  # role -> first arm against last
    answers: tuple[tuple[Question, Comparison], ...]
    missing: tuple[str, ...]  # arms of the ladder without results

    def table(self) -> pd.DataFrame:
        """One row of numbers per benchmark and step (see `Change.row`), with its share (per cent).

        The last of each benchmark is the whole change, from the ladder's first arm to its last.
        """
        import pandas as pd

        rows = []
        for role, steps in self.steps.items():
            for step in steps:
                names = {"before": step.before, "after": step.after, "cause": step.cause}
                rows.append({"role": role, **names, "share": step.share} | step.change.row())
            ends = {"before": steps[0].before, "after": steps[-1].after, "cause": "all steps"}
            rows.append({"role": role, **ends, "share": None} | self.totals[role].row())
        return pd.DataFrame(rows)

    def sentences(self) -> str:
        """Per benchmark the steps that changed it, then the study's questions."""
        return "\n".join(point_lines([*self._benchmarks(), *self._missing(), *self._questions()]))

    def _benchmarks(self) -> list[Point]:
        """Per benchmark: the whole change, then each step with its interval, p-value and share."""
        points: list[Point] = []
        for role, steps in self.steps.items():
            total, label = self.totals[role], self.study.task_labels[role]
            whole = f"{label}: {from_to(total)}, {brief(total, holm=False)}, {total.verdict}"
            points.append((whole, [step.sentence() for step in steps]))
        return points

    def _missing(self) -> list[str]:
        return [f"without results: {', '.join(self.missing)}"] if self.missing else []

    def _questions(self) -> list[Point]:
        """The study's other comparisons: question, and the answer per benchmark."""
        points: list[Point] = []
        for question, comparison in self.answers:
            changes = {label: comparison.of(r) for r, label in self.study.task_labels.items()}
            said = [
                f"{label}: {from_to(c)}, {brief(c)}: {c.verdict}"
                for label, c in changes.items()
                if c
            ]
            points.append((f"{question.text} ({question.base} -> {question.tuned})", said))
        return points

    def document(self) -> Document:
        """The whole change of each benchmark, the questions, and the steps as a table."""
        import pandas as pd

        rows = []
        for role, steps in self.steps.items():
            whole = Step("", "", "", self.totals[role], None)
            cells = [*(step.row() for step in steps), whole.row("all steps together")]
            rows += [{"benchmark": self.study.task_labels[role]} | row for row in cells]
        table = pd.DataFrame(rows).set_index(["benchmark", "step"]) if rows else None
        points = [*(whole for whole, _ in self._benchmarks()), *self._questions()]
        notes = [*self._missing(), self.study.note, SHARES]
        return Document(f"Which step? {self.study.title}", points, table, list(filter(None, notes)))

    def message(self, *roles: str) -> str:
        """Which steps are shown to have changed something, in one sentence; default: anywhere."""
        found: dict[tuple[str, str], list[str]] = {}
        for role in roles or self.steps:
            for step in self.steps.get(role, ()):
                if step.change.verdict in SHOWN:
                    done = f"{STEP_WORDS[step.change.verdict].capitalize()} by", step.cause
                    found.setdefault(done, []).append(self.study.task_labels[role])
        said = [f"{how} {cause}: {listed(labels)}" for (how, cause), labels in found.items()]
        return (
            f"{'. '.join(said)}. {OTHER_STEPS}" if said else "No step is shown to change anything."
        )

    def plot(self, role: str | None = None, ax: Axes | None = None) -> Axes:
        """The waterfall of one benchmark (default: the study's first).

        Args:
            role: the benchmark's role, task or label; a label's beginning will do.
            ax: default a new one.

        Raises:
            ValueError: no such benchmark; names those there are. No arm of the ladder is here.
        """
        if not self.study.ladder:
            raise ValueError(f"study {self.study.name} has no arm of its ladder here")
        role = self._role(role) if role else next(iter(self.study.task_labels))
        if ax is None:
            ax = subplots(WIDTH, 3.2)
            entitle(ax.figure, self.message(role), self.study.title, self.study.note)
        benchmark, steps = BENCHMARKS[role], self.steps.get(role, ())
        title = f"{self.study.task_labels[role]}: {benchmark.metrics[benchmark.headline]}"
        n = f", n = {steps[0].change.n:,}" if steps and steps[0].change.n else ""
        return plot_waterfall(self._rungs(role), title + n, ax)

    def _rungs(self, role: str) -> list[Rung]:
        """The ladder's arms as rows; a missing arm's part of the change falls to the next step."""
        steps, ladder = self.steps.get(role, ()), self.study.ladder
        changes = {step.after: step.change for step in steps}
        rungs, level = [], None
        for row, arm in enumerate(ladder):
            cause = f"\u2192 {self.study.causes.get(arm, arm)}"
            label = wrap(cause if row else self.study[arm].label)
            if steps and arm == steps[0].before:
                level = steps[0].change.base
                rungs.append(Rung(label, accuracy=level))
            elif arm in changes:
                level += changes[arm].difference.value
                rungs.append(Rung(label, change=changes[arm]))
            else:
                below = level is not None and any(other in changes for other in ladder[row:])
                rungs.append(Rung(label, missing=" (in the next step)" if below else ""))
        return [*rungs, Rung("= result", accuracy=level if ladder[-1] in changes else None)]

    def _role(self, name: str) -> str:
        labels = self.study.task_labels
        for role, label in labels.items():
            if name in (role, label, self.totals[role].task if role in self.totals else None):
                return role
        begun = [role for role, label in labels.items() if label.lower().startswith(name.lower())]
        if len(begun) == 1:
            return begun[0]
        known = ", ".join(f"{role} ({label})" for role, label in labels.items())
        raise ValueError(f"study {self.study.name} has no benchmark {name!r}; it has: {known}")

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON takes it."""
        return {
            "study": self.study.name,
            "missing": list(self.missing),
            "ladder": {
                role: {
                    "steps": [
                        {"before": s.before, "after": s.after, "cause": s.cause, "share": s.share}
                        | {"change": s.change.to_dict()}
                        for s in steps
                    ],
                    "total": self.totals[role].to_dict(),
                }
                for role, steps in self.steps.items()
            },
            "questions": [
                question._asdict() | {"comparison": comparison.to_dict()}
                for question, comparison in self.answers
            ],
        }

    def __repr__(self) -> str:
        told = (f"{self.study.task_labels[r]}: {c.verdict}" for r, c in self.totals.items())
        return f"<Attribution of {self.study.name}; {', '.join(told) or 'no results'}>"

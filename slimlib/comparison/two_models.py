"""The verdict on two evaluated models: what changed on each task, how surely, and by what test.

First it is asked whether the measurement carries a verdict at all (`validity`). Documents that both
models answered are compared one by one; where only aggregates exist an unpaired z-test stands in,
and every sentence made from it says that it is weaker. Claims are made at `alpha` after Holm's
correction over the tasks. The paper's FR, dA and dK (arXiv 2506.10885, section 3) stand beside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slimlib.common.document import Document, Point, Shown
from slimlib.comparison.answers import Answers, compared_answers, without_answers
from slimlib.comparison.benchmarks import ALPHA, MARGIN
from slimlib.comparison.change import HEADLINE, OTHER, UNKNOWN, Change
from slimlib.comparison.families import measure_all
from slimlib.comparison.judging import LOOKS, judge
from slimlib.comparison.plots import plot_changes
from slimlib.comparison.relation import AUTO, are_related
from slimlib.comparison.sentences import LEGEND, answer, change_table, rules, verdict_sentence
from slimlib.comparison.signatures import check_signatures
from slimlib.results import (
    Alignment,
    Results,
    Source,
    align_samples,
    mean_over_seeds,
    read_results,
)
from slimlib.results.align import in_common

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


TOO_MANY_LOOKS = f"more than {LOOKS} looks were taken, and the level is used up"


@dataclass(frozen=True)
class Comparison(Shown):
    """Two models, task by task: see `compare`."""

    base: Results
    tuned: Results
    changes: tuple[Change, ...]
    alignment: Alignment
    margin: float
    alpha: float
    notes: tuple[str, ...]  # what was left out or differs, in sentences
    related: bool = True  # before and after of one another
    look: int | None = None  # which look at growing data this is

    @property
    def headlines(self) -> tuple[Change, ...]:
        """One change per task: that of its headline metric."""
        return tuple(change for change in self.changes if change.family == HEADLINE)

    def of(self, role: str, metric: str | None = None) -> Change | None:
        """The change of the benchmark that plays a role (or of a task); None if not compared."""
        for change in self.changes:
            if role in (change.role, change.task):
                if metric == change.metric or (metric is None and change.family != OTHER):
                    return change
        return None

    @cached_property
    def answers(self) -> Answers:
        """Task -> format or ability, where the generated answers are at hand."""
        roles = {c.task: c.role for c in self.changes if c.family != OTHER and c.paired}
        return compared_answers(self.base, self.tuned, roles)

    def table(self) -> pd.DataFrame:
        """One row of numbers per task and metric (see `Change.row`): per cent, points, p-values."""
        import pandas as pd

        rows = [{"task": c.task, "metric": c.metric} | c.row() for c in self.changes]
        return pd.DataFrame(rows).set_index(["task", "metric"])

    @property
    def title(self) -> str:
        """What is compared with what; models of one name are told apart by their files."""
        if self.base.name != self.tuned.name:
            return f"{self.tuned.name}, against {self.base.name}"
        return f"{self.tuned.name} ({self.tuned.source}), against {self.base.source}"

    def answer(self) -> str:
        """The answer in one line: "Lost: arithmetic. Kept: stories. Cannot tell: facts."."""
        return answer(self.headlines, self.not_judged)

    @property
    def not_judged(self) -> tuple[str, ...]:
        """Tasks of both that are shown only: they have no metric that is a share of answers."""
        judged = {change.task for change in self.changes}
        return tuple(t for t in in_common(self.base.tasks, self.tuned.tasks) if t not in judged)

    def sentence(self, change: Change) -> str:
        """The verdict on one of the changes in words."""
        return verdict_sentence(change, self.margin, self.alpha)

    def sentences(self) -> str:
        """The verdict, one sentence per task."""
        return "\n".join(map(self.sentence, self.headlines))

    def document(self) -> Document:
        """The answer, verdict, format or ability, table, rules and notes."""
        points: list[Point] = [self.answer()]
        points += [self.sentence(change) for change in self.headlines]
        for found in self.answers.values():
            first, *examples = found.points()
            points.append((first, examples))
        table = change_table(self.changes, self.alpha) if self.changes else None
        notes = (LEGEND, *self.rules(), *self.notes, *self._signatures())
        return Document(self.title, points, table, notes)

    def _signatures(self) -> list[str]:
        """The failure signatures that were looked for, in one note."""
        found = [check.sentence() for check in check_signatures(self.changes)]
        return [f"Failure signatures: {'; '.join(found)}."] if found else []

    def rules(self) -> list[str]:
        """The rules that the verdicts follow."""
        return rules(self.changes, self.margin, self.alpha, self.look)

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON takes it; see `Change.to_dict`."""
        return {
            "answer": self.answer(),
            "base": {"name": self.base.name, "source": self.base.source},
            "tuned": {"name": self.tuned.name, "source": self.tuned.source},
            "related": self.related,
            "alpha": self.alpha,
            "margin": self.margin,
            "look": self.look,
            "not_judged": list(self.not_judged),
            "signatures": [check.to_dict() for check in check_signatures(self.changes)],
            "tasks": [c.to_dict() | {"sentence": self.sentence(c)} for c in self.changes],
            "answers": {task: found.to_dict(examples=3) for task, found in self.answers.items()},
            "notes": list(self.notes),
        }

    def plot(self, ax: Axes | None = None) -> Axes:
        """Differences with their intervals, coloured by verdict."""
        shown = self.headlines or self.changes
        return plot_changes(shown, self.margin, self.title, self.alpha, ax)

    def __repr__(self) -> str:
        told = ", ".join(f"{change.title}: {change.verdict}" for change in self.headlines)
        return f"<Comparison {self.tuned.name!r} against {self.base.name!r}; {told}>"


def compare(
    base: Source | Sequence[Source],
    tuned: Source | Sequence[Source],
    *,
    strict: bool = True,
    margin: float = MARGIN,
    alpha: float = ALPHA,
    relation: str = AUTO,
    look: int | None = None,
    pool_seeds: bool = False,
) -> Comparison:
    """Compare a model with what it was before, and say which changes are real.

    Args:
        base: the model before: anything `read_results` takes, or a list of it (several seeds; then
            the claim is about the recipe, and the seeds' own variance counts).
        tuned: the model after, likewise.
        strict: refuse results whose n-shot, task version or limit differ; False compares them and
            says so in every sentence.
        margin: points; a change that is shown to be smaller (TOST) counts as kept.
        alpha: level of every claim, after Holm's correction over the tasks; intervals are at
            1 - alpha.
        relation: "tuned": after and before of one another (forgot, improved, kept); "other": any
            two models (worse, better, the same); "auto": as their names tell.
        look: which look this is at data that grow, 1 to 5: each is made at alpha / 5, so that five
            together keep to alpha; a sixth gives no verdict. None: the data do not grow.
        pool_seeds: take the variance between seeds as equal on all tasks and pool it, which makes
            more of few seeds; it is wrong where one task varies more than the others.

    Example:

        print(slimlib.compare("results-before/", "results-after/").to_text())

    Raises:
        ResultsError: a file is missing or unreadable, or the two cannot be compared; says why.
        ValueError: margin, alpha, relation or look out of range.
    """
    check_claims(margin, alpha)
    if look is not None and look < 1:
        raise ValueError(f"look={look}: must be 1 or more")
    before, after = _results(base), _results(tuned)
    related = are_related(before, after, relation)
    level = alpha if look is None else alpha / LOOKS
    alignment = align_samples(before, after, strict=strict)
    changes, skipped = measure_all(alignment, margin, level, pool_seeds)
    judged = judge(changes, level, margin, related=related)
    if look is not None and look > LOOKS:
        judged = tuple(replace(c, verdict=UNKNOWN, reason=TOO_MANY_LOOKS) for c in judged)
    notes = (*before.notes, *after.notes, *alignment.differences, *alignment.unmatched, *skipped)
    notes = tuple(dict.fromkeys((*notes, *without_answers(before, after))))
    return Comparison(before, after, judged, alignment, margin, level, notes, related, look)


def check_claims(margin: float, alpha: float) -> None:
    """ValueError for a margin or a level that no claim can be made at."""
    if not 0 < margin < 100:
        raise ValueError(f"margin={margin}: must be above 0 and below 100 points")
    if not 0 < 1 - alpha < 1:  # of 1e-20 nothing would be left
        raise ValueError(f"alpha={alpha}: must be between 0 and 1")


def _results(source: Source | Sequence[Source]) -> Results:
    if isinstance(source, str | Path | Mapping | Results):
        return read_results(source)
    return mean_over_seeds([_results(one) for one in source])

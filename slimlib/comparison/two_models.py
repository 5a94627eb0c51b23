"""The verdict on two evaluated models: what changed on each task, how surely, and by what test.

Documents that both models answered are compared one by one (exact McNemar for right and wrong, the
paired t-test for other scores); where only aggregates exist an unpaired z-test stands in, and
every sentence made from it says that it is weaker. Claims are made at `alpha` after Holm's
correction over the tasks. The paper's FR, dA and dK (arXiv 2506.10885, section 3) stand beside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slimlib import metrics
from slimlib.common.document import Document, Point, Shown
from slimlib.comparison.answers import Answers, compared_answers, without_answers
from slimlib.comparison.benchmarks import (
    ALPHA,
    MARGIN,
    headline,
    metric_of,
    role_of,
    why_not_judged,
)
from slimlib.comparison.change import HEADLINE, OTHER, SUBTASK, Change, judge, measure_change
from slimlib.comparison.plots import plot_changes
from slimlib.comparison.sentences import LEGEND, change_table, verdict_sentence
from slimlib.results import (
    Alignment,
    Results,
    ResultsError,
    Source,
    TaskResults,
    align_samples,
    mean_over_seeds,
    read_results,
)
from slimlib.results.align import in_common
from slimlib.results.samples import PLAIN_MEANS

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


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
        """What is compared with what."""
        return f"{self.tuned.name}, against {self.base.name}"

    def sentence(self, change: Change) -> str:
        """The verdict on one of the changes in words."""
        return verdict_sentence(change, self.margin, self.alpha)

    def sentences(self) -> str:
        """The verdict, one sentence per task."""
        return "\n".join(map(self.sentence, self.headlines))

    def document(self) -> Document:
        """Verdict, format or ability, table, rules and notes."""
        points: list[Point] = [self.sentence(change) for change in self.headlines]
        for found in self.answers.values():
            first, *examples = found.points()
            points.append((first, examples))
        notes = (LEGEND, self.rules(), *self.notes)
        return Document(self.title, points, change_table(self.changes), notes)

    def rules(self) -> str:
        """The rules that the verdicts follow, in one sentence each."""
        paired = {c.paired for c in self.changes}
        how = ["document by document"] * (True in paired)
        how += ["from aggregates where answers are missing (unpaired, weaker)"] * (False in paired)
        return (
            f"Compared {'; '.join(how)}. Forgot, improved: p below {self.alpha:g} after Holm's "
            "correction over the tasks (other metrics and subtasks are families of their own), and "
            f"a 95 % interval without 0. Kept: a change of {self.margin:g} points or more is ruled "
            "out (TOST, corrected likewise)."
        )

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON takes it; see `Change.to_dict`."""
        return {
            "base": {"name": self.base.name, "source": self.base.source},
            "tuned": {"name": self.tuned.name, "source": self.tuned.source},
            "alpha": self.alpha,
            "margin": self.margin,
            "tasks": [c.to_dict() | {"sentence": self.sentence(c)} for c in self.changes],
            "answers": {task: found.to_dict(examples=3) for task, found in self.answers.items()},
            "notes": list(self.notes),
        }

    def plot(self, ax: Axes | None = None) -> Axes:
        """Differences with their 95 % intervals, coloured by verdict."""
        return plot_changes(self.headlines or self.changes, self.margin, self.title, ax)

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
) -> Comparison:
    """Compare a model with what it was before, and say which changes are real.

    Args:
        base: the model before: anything `read_results` takes, or a list of it (several seeds; their
            mean per document is compared).
        tuned: the model after, likewise.
        strict: refuse results whose n-shot, task version or limit differ.
        margin: points; a change that is shown to be smaller (TOST) counts as kept.
        alpha: level of every claim, after Holm's correction over the tasks.

    Example:

        print(slimlib.compare("results-before/", "results-after/").to_text())

    Raises:
        ResultsError: a file is missing or unreadable, or the two cannot be compared; says why.
        ValueError: margin or alpha out of range.
    """
    if not 0 < margin < 100:
        raise ValueError(f"margin={margin}: must be above 0 and below 100 points")
    if not 0 < alpha < 1:
        raise ValueError(f"alpha={alpha}: must be between 0 and 1")
    before, after = _results(base), _results(tuned)
    alignment = align_samples(before, after, strict=strict)
    changes, skipped = _changes(alignment, margin, alpha)
    if not changes:
        why = [*skipped, *before.notes, *after.notes, *alignment.unmatched]
        why = "; ".join(dict.fromkeys(why)) or "no metric in common"
        raise ResultsError(f"{before.source} and {after.source}: nothing to compare ({why})")
    unread = without_answers(before, after)
    notes = (*before.notes, *after.notes, *alignment.differences, *alignment.unmatched, *skipped)
    notes = tuple(dict.fromkeys((*notes, *unread)))
    return Comparison(before, after, judge(changes, alpha), alignment, margin, alpha, notes)


def _results(source: Source | Sequence[Source]) -> Results:
    if isinstance(source, str | Path | Mapping | Results):
        return read_results(source)
    return mean_over_seeds([_results(one) for one in source])


def _changes(alignment: Alignment, margin: float, alpha: float) -> tuple[list[Change], list[str]]:
    """Every metric of every shared task, and a sentence on each that cannot be compared."""
    base, tuned = alignment.base.tasks, alignment.tuned.tasks
    both = {task: (base[task], tuned[task]) for task in in_common(base, tuned)}
    leaves = {task: {*a.subtasks, *b.subtasks} for task, (a, b) in both.items()}
    both = {task: both[task] for task in _groups_first(leaves)}
    usable, skipped = {}, []
    for task, sides in both.items():
        names = in_common(*(side.scores for side in sides))
        reasons = {name: _not_a_share(name, *sides) for name in names}
        skipped += [f"{task}: {n} is not compared: {why}" for n, why in reasons.items() if why]
        skipped += [] if names else [f"{task}: no metric in common"]
        usable[task] = [name for name in names if not reasons[name]]
    roles = {task: a.role or b.role or role_of(task) for task, (a, b) in both.items()}
    firsts = {task: headline(roles[task], names) for task, names in usable.items() if names}
    families = _families(leaves, usable, firsts)
    changes = []
    for task, first in firsts.items():
        for name in sorted(usable[task], key=lambda name: name != first):  # the headline first
            metric, _, kind = name.partition(",")
            pair = alignment.scores(task, metric, kind)
            how = {"family": families[task] if name == first else OTHER, "role": roles[task]}
            changes.append(measure_change(*both[task], name, pair, margin, alpha=alpha, **how))
    return changes, skipped


def _groups_first(leaves: Mapping[str, set[str]]) -> list[str]:
    """The tasks in their order, but each group ahead of what it is made of."""
    order = list(leaves)

    def place(task: str) -> tuple[int, int, int]:
        parts = leaves[task] or {task}
        top = max((g for g in order if parts <= (leaves[g] or {g})), key=lambda g: len(leaves[g]))
        return order.index(top), -len(leaves[task]), order.index(task)

    return sorted(order, key=place)


def _families(
    leaves: Mapping[str, set[str]],
    usable: Mapping[str, Sequence[str]],
    firsts: Mapping[str, str],
) -> dict[str, str]:
    """The family of each task's headline metric.

    A group stands for its leaves and for groups inside it, where all its leaves have its metric. A
    group of unlike tasks (the Open LLM Leaderboard's) stands for nothing: its tasks do.
    """
    groups = {task: inside for task, inside in leaves.items() if inside and task in firsts}
    standing = {
        task: inside
        for task, inside in groups.items()
        if all(firsts[task] in usable.get(leaf, [firsts[task]]) for leaf in inside)
    }
    parts = {leaf for inside in standing.values() for leaf in inside}
    parts |= {g for g in groups if any(groups[g] < other for other in standing.values())}
    return {
        task: SUBTASK if task in parts else OTHER if task in groups.keys() - standing else HEADLINE
        for task in firsts
    }


def _not_a_share(name: str, *tasks: TaskResults) -> str:
    """Why a metric is no share of right answers, where a difference in points means nothing."""
    metric = name.partition(",")[0]
    directions = [task.higher_is_better.get(metric) for task in tasks]
    better = False if False in directions else None
    samples = [task.samples.get(name.partition(",")[2]) for task in tasks]
    mean = all(kind and metric in kind.scores for kind in samples)
    mean = mean or all(task.scores[name].stderr is not None for task in tasks)
    if metric_of(metric, better) and (why := why_not_judged(name, better, tasks[0].task, mean)):
        return why
    values = [task.scores[name].value for task in tasks]
    kinds = [task.samples.get(name.partition(",")[2]) for task in tasks]
    columns = [kind.scores[metric] for kind in kinds if kind and metric in kind.scores]
    values += [float(limit) for column in columns for limit in (column.min(), column.max())]
    outside = [value for value in values if not 0 <= value <= 1]
    if outside:
        return f"{outside[0]:g} is outside 0 to 1"
    proven = metric in PLAIN_MEANS or columns
    wide = not proven and any(_too_wide(task, name) for task in tasks)
    return "its standard error is more than a share of as many documents can have" if wide else ""


def _too_wide(task: TaskResults, name: str) -> bool:
    """Whether a score spreads more than values from 0 to 1 can: a correlation, F1 over all, ...

    Their standard error is at most sqrt(p (1 - p) / (n - 1)); half of it is left to bootstrapping.
    Example: CoLA's mcc of 0.12 +- 0.03 on 1,043 documents, where a share has at most 0.010.
    """
    value, stderr = task.scores[name]
    if stderr is None or task.n is None or task.n < 2 or task.subtasks:
        return False
    return 100 * stderr > 1.5 * metrics.standard_error(100 * value, task.n)

"""Looking around in results: controls that choose the arguments of functions, and do nothing else.

Each has a plain function under it: `show_flips`, an attribution's `plot` and `document`, an
answer's `figure`. What a control chooses, `.set(...)` chooses by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slimlib.common.document import Document
from slimlib.common.picture import Picture, described
from slimlib.comparison.answers import flips, show_flips
from slimlib.comparison.answers.side_by_side import BOTH, DIRECTIONS
from slimlib.comparison.arms import Record
from slimlib.comparison.attribution import SHARES, Attribution
from slimlib.comparison.ladder import attribution_of
from slimlib.comparison.sentences import from_to
from slimlib.config import Study
from slimlib.report.answer import Answer
from slimlib.report.figures import plot_scores
from slimlib.report.widgets import Choice, choose
from slimlib.results import Results, Source, read_results

if TYPE_CHECKING:
    import pandas as pd
    from IPython.display import HTML

Pairs = Mapping[str, tuple[Source, Source]]  # label -> the models before and after
ON_A_PAGE = 10  # documents of each direction
WHOLE = "all steps together"
OWN = "the task's own"  # filter: as `flips` chooses it


class Flips:
    """The answers that changed between pairs of models; each result is read once, when asked for.

    Args:
        pairs: label -> the models before and after: anything that `read_results` takes.
    """

    def __init__(self, pairs: Pairs) -> None:
        self.pairs = dict(pairs)
        self._results: dict[str, Results] = {}
        self._frames: dict[tuple[str, str, str], pd.DataFrame] = {}

    def frame(self, arm: str, task: str, filter: str = "") -> pd.DataFrame:
        """The flips of one pair on one task, as `flips` lists them; filter: "" leaves it open."""
        key = arm, task, filter
        if key not in self._frames:
            sides = map(self.read, self.pairs[arm])
            self._frames[key] = flips(*sides, task, filter=filter or None, strict=False)
        return self._frames[key]

    def show(
        self,
        arm: str,
        task: str,
        filter: str = "",
        change: str = BOTH,
        text: str = "",
        page: int = 1,
    ) -> HTML:
        """A page of them, as `show_flips` shows it.

        Raises:
            ValueError: as `flips` and `show_flips`; or no such pair.
        """
        if arm not in self.pairs:
            raise ValueError(f"no pair {arm!r}; there are {', '.join(self.pairs) or 'none'}")
        frame = self.frame(arm, task, filter)
        return show_flips(frame, k=ON_A_PAGE, change=change, text=text, page=page)

    def read(self, source: Source) -> Results:
        """One side's results; a path is read once, as two arms may share a base."""
        if not isinstance(source, str | Path):
            return read_results(source)
        if str(source) not in self._results:
            self._results[str(source)] = read_results(source)
        return self._results[str(source)]


def explore_answers(pairs: Pairs) -> Choice | Document:
    """Choose task, filter, direction and text, and see the answers that changed.

    Args:
        pairs: label -> the models before and after: anything that `slimlib.read_results` takes.

    Returns:
        To end a notebook's cell with. Without ipywidgets, or without a kernel, the first page of
        the first task stands there; where no answers were kept, a sentence that says so.

    Example:

        slimlib.explore_answers({"mine": ("results-before/", "results-after/")})

    Raises:
        ValueError: no pair.
    """
    if not pairs:
        raise ValueError("no pair of results to explore; give label -> (before, after)")
    found = Flips(pairs)
    base, tuned = map(found.read, next(iter(pairs.values())))
    tasks = [task for task in base.tasks if _kept(base, task) and _kept(tuned, task)]
    if not tasks:
        why = "a mean over seeds has none of its own; lm-eval keeps them with --log_samples"
        return Document("Answers", [f"{base.name}, {tuned.name}: no answers of both ({why})."])
    filters = dict.fromkeys(kind for task in tasks for kind in base.tasks[task].samples)
    most = max(len(kind.doc_ids) for task in tasks for kind in base.tasks[task].samples.values())
    return choose(
        found.show,
        arm=[*pairs],
        task=tasks,
        filter={OWN: ""} | {kind: kind for kind in filters},
        change=[*DIRECTIONS],
        text="",
        page=range(1, -(-most // ON_A_PAGE) + 1),
    )


def _kept(results: Results, task: str) -> bool:
    found = results.tasks.get(task)
    return found is not None and bool(found.samples) and found.load_rows is not None


def pairs_of(study: Study, folder_of: Callable[[str], Path]) -> dict[str, tuple[Path, Path]]:
    """Each evaluated arm of a run beside the one it is compared with; the fine-tuned one first.

    Args:
        study: of the run.
        folder_of: an arm's folder, as `Run.arm_folder`.
    """
    arms = sorted(study.arms, key=lambda arm: arm.name != study.tuned.name)
    return {
        arm.label: (folder_of(arm.compared_with), folder_of(arm.name))
        for arm in arms
        if arm.compared_with
        and all((folder_of(name) / "eval").is_dir() for name in (arm.compared_with, arm.name))
    }


def explore_ladder(study: Study, records: Sequence[Record]) -> Choice:
    """Choose a benchmark and a view of it: its steps drawn or in words, its scores.

    Example:

        slimlib.explore_ladder(run.study, run.records())
    """
    attribution = attribution_of(records, study)
    views = {
        "waterfall": attribution.plot,
        "steps in words": partial(steps_of, attribution),
        "scores of all arms": partial(plot_scores, records, study),
    }

    def show_ladder(benchmark: str, view: str) -> Any:
        return views[view](benchmark)

    roles = {label: role for role, label in study.task_labels.items()}
    return choose(show_ladder, benchmark=roles, view=[*views])


def steps_of(attribution: Attribution, role: str) -> Document:
    """The steps of one benchmark, as sentences, which fit any width."""
    label, steps = attribution.study.task_labels[role], attribution.steps.get(role, ())
    if not steps:
        return Document(label, ["Fewer than two arms of the ladder have results here."])
    whole = f"All steps together: {from_to(attribution.totals[role])}."
    return Document(label, [whole, *(step.sentence() for step in steps)], notes=[SHARES])


def explore_learned(answer: Answer) -> Choice:
    """Choose a step and a task: what was learned beside what that step lost there.

    Example:

        slimlib.explore_learned(slimlib.tune("micro:base", "rows.jsonl"))
    """

    def show_learned(step: str = WHOLE, task: str = "") -> Picture:
        some = narrowed(answer, step, task)
        return described(some.figure(), some.sentence())

    tasks = {change.title: change.task for change in answer.comparison.headlines}
    steps = [WHOLE, *(step.cause for step in answer.steps)]
    return choose(show_learned, step=steps, task={"all": ""} | tasks)


def narrowed(answer: Answer, step: str = WHOLE, task: str = "") -> Answer:
    """The answer with what one step lost alone, on one task alone; learned is what all steps did.

    Raises:
        ValueError: no such step, or no such task.
    """
    comparisons = {WHOLE: answer.comparison} | {s.cause: s.comparison for s in answer.steps}
    if step not in comparisons:
        raise ValueError(f"no step {step!r}; there are {', '.join(comparisons)}")
    comparison = comparisons[step]
    title = answer.title if step == WHOLE else f"{answer.title}. Lost or kept by {step} alone"
    if not task:
        return replace(answer, title=title, comparison=comparison)
    changes = tuple(change for change in comparison.changes if change.task == task)
    if not changes:
        known = ", ".join(dict.fromkeys(change.task for change in comparison.changes))
        raise ValueError(f"no task {task!r} at this step; there are {known}")
    base, tuned = (
        replace(side, tasks={task: side.tasks[task]})
        for side in (comparison.base, comparison.tuned)
    )
    comparison = replace(comparison, base=base, tuned=tuned, changes=changes)
    return replace(answer, title=title, comparison=comparison)

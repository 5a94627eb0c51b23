"""Which step lost it: the change at each step of a study's ladder, and the study's questions.

The ladder goes from the checkpoint that the paper called "base" through the true base, the
quantised base and the fine-tuned model to the merged one (other checkpoint -> quantisation ->
fine-tuning -> merging). The steps' changes add up to the whole change. Made from records alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

from slimlib.comparison.arms import Record, by_arm, compare_arms, tasks_of
from slimlib.comparison.attribution import Attribution, Step
from slimlib.comparison.benchmarks import ALPHA, MARGIN
from slimlib.comparison.change import FORGOT, IMPROVED, Change
from slimlib.comparison.judging import judge
from slimlib.comparison.relation import OTHER_MODEL, TUNED
from slimlib.comparison.two_models import Comparison
from slimlib.config import Question, Study
from slimlib.studies.get import get_study


def attribute(
    study: str | Study, records: Sequence[Record], *, alpha: float = ALPHA
) -> Attribution:
    """Say which step of a study's ladder changed each benchmark.

    It answers the study's own questions too.

    Args:
        study: its name, or the study.
        records: its records, as `Run.records()` gives them. Several seeds of an arm count as their
            mean per document.
        alpha: level of every claim, after Holm's correction over all steps and benchmarks.

    Example:

        run = slimlib.open_run("micro")
        slimlib.attribute(run.study, run.records()).table()

    Raises:
        ValueError: fewer than two arms of the ladder are evaluated, or two of them on different
            documents; records that are no list of records.
    """
    if isinstance(records, Mapping):
        keys = ", ".join(map(str, records)) or "nothing"
        raise ValueError(
            f"records is a mapping of {keys}, not a list of records; of records by seed "
            "slimlib.report.committed.pool makes one list"
        )
    study = get_study(study) if isinstance(study, str) else study
    attribution = attribution_of(records, study, alpha)
    found = len(study.ladder) - len(attribution.missing)
    if found < 2:
        raise ValueError(
            f"study {study.name} has results of {found} arms of its ladder; two are needed "
            f"of {', '.join(study.ladder)}: run `slimlib run --study {study.name}` first"
        )
    return attribution


def attribution_of(records: Sequence[Record], study: Study, alpha: float = ALPHA) -> Attribution:
    """`attribute` for records at hand; without two arms of the ladder it has no steps."""
    groups = by_arm(records, study)
    present = [a for a in study.ladder if any(tasks_of(record) for record in groups.get(a, []))]
    changes = {
        pair: _by_role(compare_arms(groups[pair[0]], groups[pair[1]], alpha, TUNED), study)
        for pair in pairwise(present)
    }
    totals = {}
    if len(present) > 1:
        whole = compare_arms(groups[present[0]], groups[present[-1]], alpha, TUNED)
        totals = _by_role(whole, study)
    missing = tuple(arm for arm in study.ladder if arm not in present)
    steps = _steps(study, changes, totals, alpha)
    return Attribution(study, steps, totals, _answers(study, groups, alpha), missing)


def _by_role(comparison: Comparison | None, study: Study) -> dict[str, Change]:
    if comparison is None:
        return {}
    found = {role: comparison.of(role) for role in study.task_labels}
    return {role: change for role, change in found.items() if change is not None}


def _steps(
    study: Study,
    changes: dict[tuple[str, str], dict[str, Change]],
    totals: dict[str, Change],
    alpha: float,
) -> dict[str, tuple[Step, ...]]:
    """The changes of all steps, judged together: one family of tests."""
    keys = [(role, pair) for role in totals for pair in changes if role in changes[pair]]
    judged = judge([changes[pair][role] for role, pair in keys], alpha, MARGIN)
    steps: dict[str, list[Step]] = {role: [] for role in totals}
    for (role, pair), change in zip(keys, judged, strict=True):
        share = _share(change, totals[role])
        steps[role].append(Step(*pair, _cause(study, *pair), change, share))
    return {role: tuple(some) for role, some in steps.items()}


def _share(change: Change, total: Change) -> float | None:
    """Per cent of the whole change; where either may be chance it would mean nothing."""
    if not {change.verdict, total.verdict} <= {FORGOT, IMPROVED}:
        return None
    share = 100 * change.difference.value / total.difference.value
    return share if math.isfinite(share) else None


def _cause(study: Study, before: str, after: str) -> str:
    """What a step changed; over a missing arm, the causes of both steps."""
    order = list(study.causes)  # of the whole ladder, also of arms left out by overrides
    first = order.index(before) + 1 if before in order else 0
    return " + ".join(study.causes[arm] for arm in order[first : order.index(after) + 1])


def _answers(
    study: Study, groups: dict[str, list[Record]], alpha: float
) -> tuple[tuple[Question, Comparison], ...]:
    """The study's other comparisons, where both arms have results."""
    found = []
    for question in study.comparisons:
        pair = groups.get(question.base, []), groups.get(question.tuned, [])
        comparison = compare_arms(*pair, alpha, OTHER_MODEL)
        if comparison is not None:
            found.append((question, comparison))
    return tuple(found)

"""The documents that changed between right and wrong, with both models' answers side by side."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from slimlib.comparison.answers.documents import (
    chosen,
    gold_of,
    question_of,
    right_documents,
    rows_by_document,
)
from slimlib.comparison.answers.kinds import FLEXIBLE_FILTER, METRIC
from slimlib.results import (
    Alignment,
    Results,
    Source,
    TaskResults,
    align_samples,
    read_results,
)

if TYPE_CHECKING:
    import pandas as pd

LOST, GAINED = "right -> wrong", "wrong -> right"
FLIP_COLUMNS = ("doc_id", "change", "question", "gold", "base_answer", "tuned_answer")


def flips(
    base: Source,
    tuned: Source,
    task: str,
    metric: str | None = None,
    filter: str | None = None,
    strict: bool = True,
) -> pd.DataFrame:
    """List the documents that changed from right to wrong or back, with both answers.

    Args:
        base, tuned: the models before and after: anything that `read_results` takes.
        task: its name in both.
        metric: as exact_match, or with its filter as "exact_match,strict-match". None:
            flexible-extract's exact_match where the task has it, else acc_norm, else acc.
        filter: None: flexible-extract, or the only one that has the metric.
        strict: as in `align_samples`.

    Returns:
        doc_id (base's), change ("right -> wrong" first, then "wrong -> right"), question, gold,
        base_answer, tuned_answer: generated text, or the option chosen as "B: its text".

    Example:

        slimlib.flips("results-before/", "results-after/", "gsm8k").head()

    Raises:
        ValueError: no such task, metric or filter, no per-document rows, scores other than 0 and 1,
            or results that cannot be paired.
    """
    import pandas as pd

    base, tuned = read_results(base), read_results(tuned)
    alignment = align_task(base, tuned, task, strict)
    metric, kind = _metric_and_filter(base.tasks[task], metric, filter)
    right = [right_documents(results.tasks[task], kind, metric) for results in (base, tuned)]
    changed = [
        (LOST if right[0][a] else GAINED, a, b)
        for a, b in paired_ids(alignment, task, kind)
        if right[0][a] != right[1][b]
    ]
    changed.sort(key=lambda change: change[0])  # stable: document order inside each
    rows = [
        rows_by_document(results.tasks[task], {change[side] for change in changed})
        for side, results in enumerate((base, tuned), 1)
    ]
    answers = [_flip(change, a, rows[0].get(a), rows[1].get(b), metric) for change, a, b in changed]
    return pd.DataFrame(answers, columns=list(FLIP_COLUMNS))


def _flip(
    change: str, doc_id: Any, base: dict[str, Any] | None, tuned: dict[str, Any] | None, metric: str
) -> tuple[Any, ...]:
    if base is None or tuned is None:
        raise ValueError(f"document {doc_id} has a score but no row in the samples; evaluate anew")
    answers = (chosen(row, metric) for row in (base, tuned))
    return doc_id, change, question_of(base), gold_of(base), *answers


def _metric_and_filter(
    task: TaskResults, metric: str | None, filter: str | None
) -> tuple[str, str]:
    """What `flips` looks at where the caller leaves it open."""
    if metric and "," in metric:
        metric, _, filter = metric.partition(",")
    known = [(m, kind) for kind, samples in task.samples.items() for m in samples.scores]
    ranked = sorted(known, key=_preference)
    for name, kind in ranked:
        if metric in (None, name) and filter in (None, kind):
            return name, kind
    asked = ",".join(part or "any" for part in (metric, filter))
    names = ", ".join(",".join(pair) for pair in known) or "none"
    raise ValueError(f"{task.task} has no per-document scores of {asked}; it has: {names}")


def _preference(pair: tuple[str, str]) -> tuple[int, bool]:
    order = (METRIC, "acc_norm", "acc")
    metric, kind = pair
    return order.index(metric) if metric in order else len(order), kind != FLEXIBLE_FILTER


def align_task(base: Results, tuned: Results, task: str, strict: bool) -> Alignment:
    """Pair one task's documents; what the other tasks hold plays no part."""
    for results in (base, tuned):
        if task not in results.tasks:
            known = ", ".join(results.tasks) or "none"
            raise ValueError(f"{results.name} has no task {task!r}; it has: {known}")
        if not results.tasks[task].samples:
            raise ValueError(
                f"{results.name}: {task} has only aggregate scores; this needs per-document "
                "samples (evaluate with --log_samples)"
            )
    one = [replace(results, tasks={task: results.tasks[task]}) for results in (base, tuned)]
    return align_samples(*one, strict=strict)


def paired_ids(alignment: Alignment, task: str, kind: str) -> list[tuple[Any, Any]]:
    """(base's doc_id, tuned's doc_id) of every paired document of a filter."""
    pair = alignment.pairs.get((task, kind))
    if pair is None or not len(pair.base):
        why = " ".join(alignment.unmatched)
        raise ValueError(f"{task}: no document of {kind} is in both results. {why}".strip())
    sides = ((alignment.base, pair.base), (alignment.tuned, pair.tuned))
    ids = [[side.tasks[task].samples[kind].doc_ids[i] for i in at] for side, at in sides]
    return list(zip(*ids, strict=True))

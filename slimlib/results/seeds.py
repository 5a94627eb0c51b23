"""Several seeds of one arm as one result: each document's mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from slimlib.results.align import differ, unlike
from slimlib.results.types import Results, ResultsError, Samples, Score, TaskResults


def mean_over_seeds(results: Sequence[Results]) -> Results:
    """One model's results averaged over its seeds, document by document.

    Args:
        results: of one arm, a seed each, on the same documents.

    Returns:
        means; standard errors are unknown, as those of the seeds are not independent.

    Raises:
        ResultsError: none given, or tasks, documents, n-shots, versions or limits differ.
    """
    if not results:
        raise ResultsError("no results to average; give those of at least one seed")
    first = results[0]
    if len(results) == 1:
        return first
    for other in results[1:]:
        if set(other.tasks) != set(first.tasks):
            raise ResultsError(
                f"{first.source} and {other.source} have other tasks: {', '.join(first.tasks)} "
                f"against {', '.join(other.tasks)}; average over seeds of one study"
            )
    tasks = {name: _mean_task([r.tasks[name] for r in results], results) for name in first.tasks}
    settings = {
        key: value
        for key, value in first.settings.items()
        if all(key in r.settings and r.settings[key] == value for r in results)
    }
    notes = tuple(dict.fromkeys(note for r in results for note in r.notes))
    name = f"{first.name} ({len(results)} seeds)"
    return Results(first.source, name, tasks, settings, notes)


def _mean_task(tasks: list[TaskResults], results: Sequence[Results]) -> TaskResults:
    first = tasks[0]
    for other, source in zip(tasks, results, strict=True):
        lines = unlike(first, other)
        if set(first.samples) != set(other.samples):
            lines.append(f"{first.task}: other filters with per-document results")
        elif not all(_same_documents(first.samples[k], other.samples[k]) for k in first.samples):
            lines.append(f"{first.task}: other documents")
        if lines:
            raise ResultsError(
                f"{results[0].source} and {source.source} cannot be averaged: {'; '.join(lines)}"
            )
    names = [name for name in first.scores if all(name in task.scores for task in tasks)]
    scores = {n: Score(float(np.mean([t.scores[n].value for t in tasks])), None) for n in names}
    samples = {k: _mean_samples([task.samples[k] for task in tasks]) for k in first.samples}
    return replace(first, scores=scores, samples=samples)


def _same_documents(base: Samples, tuned: Samples) -> bool:
    if base.doc_ids != tuned.doc_ids or differ(base.documents, tuned.documents):
        return False
    return not any(map(differ, base.doc_hashes, tuned.doc_hashes))


def _mean_samples(samples: list[Samples]) -> Samples:
    first = samples[0]
    metrics = [m for m in first.scores if all(m in other.scores for other in samples)]
    scores = {m: np.mean([other.scores[m] for other in samples], axis=0) for m in metrics}
    return replace(first, scores=scores)

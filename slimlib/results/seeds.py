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
    broken = {name: why for task in reversed(tasks) for name, why in task.broken.items()}
    return replace(first, scores=scores, samples=samples, broken=broken)


def _same_documents(base: Samples, tuned: Samples) -> bool:
    if base.doc_ids != tuned.doc_ids or differ(base.documents, tuned.documents):
        return False
    return not any(map(differ, base.doc_hashes, tuned.doc_hashes))


def _mean_samples(samples: list[Samples]) -> Samples:
    first = samples[0]
    metrics = [m for m in first.scores if all(m in other.scores for other in samples)]
    by_seed = {metric: np.stack([other.scores[metric] for other in samples]) for metric in metrics}
    scores = {metric: columns.mean(axis=0) for metric, columns in by_seed.items()}
    return replace(first, scores=scores, by_seed=by_seed, answer_hashes=_answers(samples))


def _answers(samples: list[Samples]) -> tuple[str | None, ...]:
    """Each document's answer where all seeds give the same one, else all of theirs in a row."""
    if not all(other.answer_hashes for other in samples):
        return ()
    by_document = zip(*(other.answer_hashes for other in samples), strict=True)
    return tuple(None if None in a else "+".join(dict.fromkeys(a)) for a in by_document)

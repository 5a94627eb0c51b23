"""Groups of lm-evaluation-harness: which tasks are under one, and their documents joined.

0.4.0 does not list its groups but indents the names of what they are made of; later ones list them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from slimlib.common.files import documents_hash
from slimlib.results.samples import TOLERANCE
from slimlib.results.types import Samples, TaskResults


def indented_groups(results: Mapping[str, Any], notes: list[str]) -> dict[str, list[str]]:
    """Groups of 0.4.0, which lists none: task -> those indented below it (" - stem").

    A group's alias has a space less in front than its tasks', which follow it. Where some entry has
    no alias, or one is deeper than that (sorted keys), nothing is known; the latter is noted.
    """
    groups: dict[str, list[str]] = {}
    above: list[str] = []  # the open groups, one for each depth
    aliases = {raw: entry.get("alias") for raw, entry in results.items()}
    if not all(isinstance(alias, str) for alias in aliases.values()):
        return {}
    for raw, alias in aliases.items():
        depth = len(alias) - len(alias.lstrip(" ")) if alias.lstrip(" ").startswith("- ") else 0
        if depth > len(above):
            notes.append(
                "groups are not recognised: the tasks are in another order than lm-eval wrote them"
            )
            return {}
        del above[depth:]
        if above:
            groups.setdefault(above[-1], []).append(raw)
        above.append(raw)
    return groups


def leaves_of(
    groups: Mapping[str, Any], name: str, seen: frozenset[str] = frozenset()
) -> list[str]:
    """The tasks under a group, through groups of groups; none for a plain task."""
    leaves: list[str] = []
    children = groups.get(name)
    for child in children if isinstance(children, list) else []:
        if isinstance(child, str) and child not in seen:
            leaves += leaves_of(groups, child, seen | {name, child}) or [child]
    return list(dict.fromkeys(leaves))


def joined(group: TaskResults, tasks: dict[str, TaskResults], notes: list[str]) -> TaskResults:
    """A group with its leaves' counts, and their samples where it is a mean over documents."""
    leaves = [tasks.get(leaf) for leaf in group.subtasks]
    if any(leaf is None for leaf in leaves):
        return group
    counts = [leaf.n for leaf in leaves]
    # a group of unlike tasks has scores that only some of its documents went into
    alike = all(name in leaf.scores for name in group.scores for leaf in leaves)
    n = sum(counts) if alike and None not in counts else None
    kinds = dict.fromkeys(name.partition(",")[2] for name in group.scores)
    samples = {}
    for kind in kinds:
        if all(kind in leaf.samples for leaf in leaves):
            whole = _joined_samples(group, leaves, kind, notes)
            samples |= {kind: whole} if whole else {}
    return replace(
        group,
        n=group.n if n is None else n,
        num_fewshot=_same([leaf.num_fewshot for leaf in leaves], group.num_fewshot),
        output_type=_same([leaf.output_type for leaf in leaves], group.output_type),
        generation=_same([leaf.generation for leaf in leaves], group.generation),
        cluster=_same([leaf.cluster for leaf in leaves], group.cluster),
        chance=_joined_chance(leaves),
        broken=_joined_broken(leaves) | group.broken,
        samples=samples,
        load_rows=partial(_joined_rows, leaves) if samples else None,
    )


def _same(values: list[Any], otherwise: Any) -> Any:
    """What all leaves have alike; else what the group's own entry says."""
    return values[0] if all(value == values[0] for value in values) else otherwise


def _joined_chance(leaves: list[TaskResults]) -> float | None:
    """Share right by guessing over all documents: of each leaf by its own commonest answer."""
    if any(leaf.chance is None or not leaf.n for leaf in leaves):
        return None
    return sum(leaf.chance * leaf.n for leaf in leaves) / sum(leaf.n for leaf in leaves)


def _joined_broken(leaves: list[TaskResults]) -> dict[str, str]:
    """What is broken in a leaf is broken in the group, which is made of it."""
    broken: dict[str, str] = {}
    for leaf in leaves:
        for name, why in leaf.broken.items():
            broken.setdefault(name, f"{leaf.task}: {why}")
    return broken


def _joined_samples(
    group: TaskResults, leaves: list[TaskResults], kind: str, notes: list[str]
) -> Samples | None:
    parts = [leaf.samples[kind] for leaf in leaves]
    scores = {}
    for name, score in group.scores.items():
        metric, _, of = name.partition(",")
        if of != kind or not all(metric in part.scores for part in parts):
            continue
        values = np.concatenate([part.scores[metric] for part in parts])
        if abs(values.mean() - score.value) <= TOLERANCE:
            scores[metric] = values
        else:
            notes.append(
                f"{group.task}: {metric} is not the mean over the documents of its tasks (of the "
                "tasks, perhaps); only its aggregate is used"
            )
    pairs = zip(leaves, parts, strict=True)
    ids = tuple(f"{leaf.task}:{i}" for leaf, part in pairs for i in part.doc_ids)
    hashes = sum((part.doc_hashes for part in parts), ())
    prompts = sum((part.prompt_hashes for part in parts), ())
    answers = sum((part.answer_hashes for part in parts), ())
    whole = documents_hash(ids, hashes)
    clusters = _joined_clusters(leaves, parts)
    return Samples(ids, hashes, prompts, scores, whole, answers, clusters) if scores else None


def _joined_clusters(leaves: list[TaskResults], parts: list[Samples]) -> tuple[str, ...]:
    """The leaves' clusters, named apart; a document of a leaf without any is alone."""
    if not any(part.clusters for part in parts):
        return ()
    pairs = zip(leaves, parts, strict=True)
    return tuple(f"{leaf.task}:{name}" for leaf, p in pairs for name in p.clusters or p.doc_ids)


def _joined_rows(leaves: list[TaskResults]) -> Iterator[dict[str, Any]]:
    for leaf in leaves:
        if leaf.load_rows is not None:
            for row in leaf.load_rows():
                yield {**row, "doc_id": f"{leaf.task}:{row['doc_id']}"}

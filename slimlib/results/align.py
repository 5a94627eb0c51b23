"""Pair two results document by document, and say what keeps them from being comparable.

Only what both are known to have asked alike is paired: same documents by id and hash, same n-shot,
task version and limit. Everything else that differs is listed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from slimlib.results.lm_eval import MODEL_KEYS
from slimlib.results.read import read_results
from slimlib.results.types import (
    Alignment,
    Pair,
    Results,
    ResultsError,
    Samples,
    Source,
    TaskResults,
)

SETTINGS = (  # listed when they differ, never a reason to refuse
    "dtype",
    "batch_size",
    "max_length",
    "chat_template",
    "system_instruction",
    "fewshot_as_multiturn",
    "gen_kwargs",
    "fewshot_seed",
    "evaluator",
    "eot_token_id",
    "lm_eval_version",
    "transformers_version",
)
# model arguments that differ by intent or are shown as settings
OF_THE_MODEL = {*MODEL_KEYS, "tokenizer", "revision", "dtype", "max_length"}


def align_samples(base: Source, tuned: Source, strict: bool = True) -> Alignment:
    """Pair the documents of two results, per task and filter, on id and hash.

    Args:
        base: the model before: anything that `read_results` takes.
        tuned: the model after, likewise.
        strict: refuse when n-shot, task version or limit of a shared task differ; False pairs what
            matches and lists the difference.

    Returns:
        pairs, and in sentences what has no partner and what differs. Swapping the two arguments
        swaps their parts in it and changes nothing else.

    Example:

        aligned = slimlib.align_samples("results-before/", "results-after/")

    Raises:
        ResultsError: no task in common; strict and something differs, or a task that both have
            shares no document.
    """
    base, tuned = read_results(base), read_results(tuned)
    shared = in_common(base.tasks, tuned.tasks)
    if not shared:
        raise ResultsError(
            f"{base.source} and {tuned.source} have no task in common: "
            f"{', '.join(sorted(base.tasks)) or 'none'} against "
            f"{', '.join(sorted(tuned.tasks)) or 'none'}; evaluate both on the same task"
        )
    refused = [line for t in shared for line in unlike(base.tasks[t], tuned.tasks[t])]
    if strict and refused:
        raise ResultsError(
            f"{base.source} and {tuned.source} were not asked alike: {'; '.join(refused)}; "
            "evaluate both alike, or pair what matches with strict=False (--no-strict)"
        )
    unmatched = _one_sided(base, tuned)
    pairs = {}
    for task in shared:
        for pair in _task_pairs(base, tuned, task, strict, unmatched):
            pairs[task, pair.filter] = pair
    differences = (*refused, *_settings_that_differ(base, tuned, shared), *_prompts(pairs.values()))
    unmatched = tuple(dict.fromkeys(unmatched))  # filters of one task often say the same
    return Alignment(base, tuned, pairs, unmatched, differences)


def in_common(base: Iterable[str], tuned: Iterable[str]) -> list[str]:
    """Names both have: in their order where the two agree on it, else sorted."""
    base, tuned = list(base), list(tuned)
    ours, theirs = [k for k in base if k in tuned], [k for k in tuned if k in base]
    return ours if ours == theirs else sorted(ours)


def unlike(base: TaskResults, tuned: TaskResults) -> list[str]:
    """What forbids comparing a task; unknown on a side is no difference."""
    lines = []
    if None not in (base.num_fewshot, tuned.num_fewshot) and base.num_fewshot != tuned.num_fewshot:
        lines.append(f"{base.task}: n-shot {base.num_fewshot} against {tuned.num_fewshot}")
    if None not in (base.version, tuned.version) and not _same(base.version, tuned.version):
        lines.append(f"{base.task}: version {_short(base.version)} against {_short(tuned.version)}")
    if base.subtasks and tuned.subtasks and (other := set(base.subtasks) ^ set(tuned.subtasks)):
        lines.append(f"{base.task}: a group of other subtasks ({_some(sorted(other))})")
    if not _same_limit(base, tuned):
        lines.append(f"{base.task}: limit {_limit(base)} against {_limit(tuned)}")
    return lines


def _same(base: Any, tuned: Any) -> bool:
    """Equal, be they numbers or text: 1, 1.0 and "1" are one version."""
    if str(base) == str(tuned):
        return True
    try:
        return float(base) == float(tuned)
    except (TypeError, ValueError, OverflowError):
        return False


def _same_limit(base: TaskResults, tuned: TaskResults) -> bool:
    if base.limit == tuned.limit:
        return None in (base.n, tuned.n) or base.n == tuned.n
    if None in (base.n, tuned.n):
        return False
    # limits that are not reached leave all documents
    reached = [t.limit for t in (base, tuned) if t.limit is not None and t.limit < base.n]
    return base.n == tuned.n and not reached


def _limit(task: TaskResults) -> str:
    limit = _short(task.limit)
    return limit if task.n is None else f"{limit} ({task.n} documents)"


def _one_sided(base: Results, tuned: Results) -> list[str]:
    """Tasks and scores that only one of the two has."""
    sides = (("base", base, tuned), ("tuned", tuned, base))
    lines = []
    for side, ours, theirs in sides:
        for name, task in ours.tasks.items():
            if name not in theirs.tasks:
                lines.append(f"{name}: only in {side} ({ours.name})")
                continue
            for score in task.scores:
                if score not in theirs.tasks[name].scores:
                    lines.append(f"{name}: {score} only in {side} ({ours.name})")
    return lines


def _task_pairs(
    base: Results, tuned: Results, task: str, strict: bool, unmatched: list[str]
) -> list[Pair]:
    sides = (("base", base), ("tuned", tuned))
    lacking = [f"{side} ({r.name})" for side, r in sides if not r.tasks[task].samples]
    if lacking:
        unmatched.append(f"{task}: no per-document results in {' and '.join(lacking)}")
        return []
    ours, theirs = base.tasks[task].samples, tuned.tasks[task].samples
    pairs = []
    for kind in in_common(ours, theirs):
        pair, reason = _pair(task, kind, ours[kind], theirs[kind])
        if pair is None:
            unmatched.append(f"{task}: {reason}")
            continue
        if not len(pair.base):
            _refuse_nothing(pair, strict, unmatched)
            continue
        unmatched += _left_over(pair)
        pairs.append(pair)
    return pairs


def _refuse_nothing(pair: Pair, strict: bool, unmatched: list[str]) -> None:
    why = (
        f"the same doc_ids are other documents (first: {pair.changed[0]}): another revision of the "
        "data"
        if pair.changed
        else "no doc_id in common"
    )
    if strict:
        raise ResultsError(
            f"{pair.task}: base and tuned share no document: {why}; evaluate both on the same "
            "data, or go on without pairs with strict=False (--no-strict)"
        )
    unmatched.append(f"{pair.task}: no document in common: {why}")


def _left_over(pair: Pair) -> list[str]:
    parts = (
        ("documents only in base", pair.only_base),
        ("documents only in tuned", pair.only_tuned),
        ("other documents under the same doc_id", pair.changed),
    )
    return [f"{pair.task}: {what}: {len(ids)} (doc_id {_some(ids)})" for what, ids in parts if ids]


def _some(ids: Sequence[int | str]) -> str:
    return ", ".join(map(str, ids[:5])) + (", ..." if len(ids) > 5 else "")


def _pair(task: str, kind: str, base: Samples, tuned: Samples) -> tuple[Pair | None, str]:
    """The pair of two samples; None and the reason where they cannot be told to be the same."""
    if _bare(base) or _bare(tuned):
        if base.documents is None or base.documents != tuned.documents:
            return None, (
                "a record without doc_ids pairs only with the same documents, and the hashes over "
                "them differ; give the arm's folder instead"
            )
        whole = np.arange(len(base.doc_ids))
        rule = "position (equal hash over all documents)"
        return _made(task, kind, base, tuned, whole, whole, ((), (), ()), rule), ""
    return _by_id(task, kind, base, tuned), ""


def _bare(samples: Samples) -> bool:
    """Of a record without its folder: one hash over all documents, none for each."""
    return samples.documents is not None and None in samples.doc_hashes


def _by_id(task: str, kind: str, base: Samples, tuned: Samples) -> Pair:
    where = {doc_id: i for i, doc_id in enumerate(tuned.doc_ids)}
    left, right, only_base, changed = [], [], [], []
    for i, doc_id in enumerate(base.doc_ids):
        j = where.pop(doc_id, None)
        if j is None:
            only_base.append(doc_id)
        elif differ(base.doc_hashes[i], tuned.doc_hashes[j]):
            changed.append(doc_id)
        else:
            left.append(i)
            right.append(j)
    known = None not in base.doc_hashes and None not in tuned.doc_hashes
    rule = "doc_id and doc_hash" if known else "doc_id alone (documents without a hash)"
    rest = (tuple(only_base), tuple(where), tuple(changed))
    positions = np.array(left, dtype=int), np.array(right, dtype=int)
    return _made(task, kind, base, tuned, *positions, rest, rule)


def differ(base: str | None, tuned: str | None) -> bool:
    """Whether two hashes are known and not the same."""
    return base is not None and tuned is not None and base != tuned


def _made(
    task: str,
    kind: str,
    base: Samples,
    tuned: Samples,
    left: np.ndarray,
    right: np.ndarray,
    rest: tuple[tuple, tuple, tuple],
    rule: str,
) -> Pair:
    prompts = [
        (base.prompt_hashes[i], tuned.prompt_hashes[j]) for i, j in zip(left, right, strict=True)
    ]
    unknown = any(None in both for both in prompts)
    changed = None if unknown else sum(ours != theirs for ours, theirs in prompts)
    return Pair(task, kind, left, right, *rest, rule, changed)


def _settings_that_differ(base: Results, tuned: Results, shared: list[str]) -> list[str]:
    lines = []
    for key in SETTINGS:
        if key in base.settings and key in tuned.settings:
            lines += _differing(key, base.settings[key], tuned.settings[key], shared)
    ours, theirs = base.settings.get("model_args"), tuned.settings.get("model_args")
    if ours and theirs:
        for key in sorted((ours.keys() | theirs.keys()) - OF_THE_MODEL):
            left, right = ours.get(key, "not set"), theirs.get(key, "not set")
            lines += _differing(f"model argument {key}", left, right, shared)
    return lines


def _differing(key: str, base: Any, tuned: Any, shared: list[str]) -> list[str]:
    if isinstance(base, Mapping) or isinstance(tuned, Mapping):
        return _per_task(key, base, tuned, shared)
    if _same(base, tuned):
        return []
    return [f"{key}: {_short(base)} against {_short(tuned)}"]


def _per_task(key: str, base: Any, tuned: Any, shared: list[str]) -> list[str]:
    """Settings with a value for each task (slimlib's batch sizes) or of several parts."""
    if not (isinstance(base, Mapping) and isinstance(tuned, Mapping)):
        if key == "batch_size":
            return []  # one number against one for each task: not to be told apart
        return [f"{key}: {_short(base)} against {_short(tuned)}"]
    names = base.keys() | tuned.keys()
    names = names & set(shared) if key == "batch_size" else names
    return [
        f"{key} of {name}: {_short(base.get(name))} against {_short(tuned.get(name))}"
        for name in sorted(names)
        if not _same(base.get(name), tuned.get(name))
    ]


def _short(value: Any) -> str:
    text = "none" if value is None else " ".join(str(value).split())
    return text if len(text) <= 40 else f"{text[:37]}..."


def _prompts(pairs: Iterable[Pair]) -> list[str]:
    lines = [
        f"{pair.task}: {pair.prompts_differ} of {len(pair.base)} documents have other prompts"
        for pair in pairs
        if pair.prompts_differ
    ]
    return list(dict.fromkeys(lines))  # the same for every filter of a task

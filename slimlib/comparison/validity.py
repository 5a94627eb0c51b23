"""Whether a measurement can carry a verdict at all, asked before any is given.

A broken measurement, two that were not asked alike, and an ability that was never there all give
numbers. None of them says what a model lost, so each has a verdict of its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from slimlib.results import Alignment, TaskResults
from slimlib.results.types import Pair

BROKEN, INCOMPARABLE = "measurement broken", "not comparable"
NOTHING = "nothing to lose"
MATCHED = 0.5  # share of the smaller side's documents that must be the same for a paired claim
# Settings that change what a model is asked, where no prompts are kept that could tell.
ASKING = ("chat_template", "system_instruction", "fewshot_as_multiturn")


class Fault(NamedTuple):
    """Why a metric of a task gets no verdict on the model."""

    verdict: str  # BROKEN or INCOMPARABLE
    reason: str  # in words, to stand behind the verdict


def find_fault(alignment: Alignment, task: str, name: str) -> Fault | None:
    """What forbids a verdict on one metric of a task; None: nothing is known to.

    Args:
        alignment: both results.
        task: that both have.
        name: "metric,filter".
    """
    kind = name.partition(",")[2]
    pair = alignment.pairs.get((task, kind))
    return (
        _not_a_number(alignment, task, name)
        or _one_file(alignment)
        or _same_answers(alignment, task, name, pair)
        or _other_prompts(alignment, pair)
        or _other_generation(alignment, task)
        or _other_documents(alignment, task, kind, pair)
    )


def _sides(alignment: Alignment, task: str) -> tuple[TaskResults, TaskResults]:
    return alignment.base.tasks[task], alignment.tuned.tasks[task]


def _not_a_number(alignment: Alignment, task: str, name: str) -> Fault | None:
    sides = zip(("base", "tuned"), _sides(alignment, task), strict=True)
    found = [f"{side}: {results.broken[name]}" for side, results in sides if name in results.broken]
    return Fault(BROKEN, "; ".join(found)) if found else None


def _one_file(alignment: Alignment) -> Fault | None:
    base, tuned = (Path(results.source) for results in (alignment.base, alignment.tuned))
    if not base.exists() or base.resolve() != tuned.resolve():
        return None
    return Fault(BROKEN, f"both sides are one file, {alignment.base.source}")


def _same_answers(alignment: Alignment, task: str, name: str, pair: Pair | None) -> Fault | None:
    """Whether every answer is the same, to the last digit of its log-likelihoods."""
    if pair is None:
        return None
    metric, _, kind = name.partition(",")
    ours, theirs = (side.samples[kind].answer_hashes for side in _sides(alignment, task))
    if not ours or not theirs:
        return None
    answers = [(ours[i], theirs[j]) for i, j in zip(pair.base, pair.tuned, strict=True)]
    scores = alignment.scores(task, metric, kind)
    alike = all(a is not None and a == b for a, b in answers)
    if not alike or scores is None or not np.array_equal(*scores):
        return None
    return Fault(
        BROKEN,
        f"all {len(answers):,} answers are the same on both sides, to the last digit; usually the "
        "adapter was not applied, or one model was evaluated twice",
    )


def _other_prompts(alignment: Alignment, pair: Pair | None) -> Fault | None:
    if pair is not None and pair.prompts_differ is not None:
        if not pair.prompts_differ:
            return None
        n = len(pair.base)
        return Fault(
            INCOMPARABLE, f"the prompts differ in {pair.prompts_differ:,} of {n:,} documents"
        )
    base, tuned = alignment.base.settings, alignment.tuned.settings
    other = [k for k in ASKING if k in base and k in tuned and base[k] != tuned[k]]
    return Fault(INCOMPARABLE, f"{' and '.join(other)} differ") if other else None


def _other_generation(alignment: Alignment, task: str) -> Fault | None:
    """Sampling, length or stop strings that are not the same, where answers are generated."""
    sides = _sides(alignment, task)
    if all(side.output_type not in (None, "generate_until") for side in sides):
        return None
    own = [dict(side.generation or {}) for side in sides]
    if None in [side.generation for side in sides]:
        own = [{}, {}]
    given = [
        {"gen_kwargs": r.settings.get("gen_kwargs")} for r in (alignment.base, alignment.tuned)
    ]
    ours, theirs = ({**mine, **more} for mine, more in zip(own, given, strict=True))
    other = [k for k in sorted(ours.keys() | theirs.keys()) if ours.get(k) != theirs.get(k)]
    if not other:
        return None
    what = "; ".join(f"{key} {ours.get(key)} against {theirs.get(key)}" for key in other)
    return Fault(INCOMPARABLE, f"answers were generated otherwise: {what}")


def _other_documents(alignment: Alignment, task: str, kind: str, pair: Pair | None) -> Fault | None:
    """Too few documents in common for a paired claim."""
    both = [side.samples.get(kind) for side in _sides(alignment, task)]
    if None in both:
        return None
    n = min(len(side.doc_ids) for side in both)
    matched = 0 if pair is None else len(pair.base)
    if matched >= MATCHED * n:
        return None
    return Fault(INCOMPARABLE, f"only {matched:,} of {n:,} documents are the same on both sides")

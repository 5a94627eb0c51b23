"""The answer on a model as its model card: metadata as the hub reads it, then the verdicts.

Nothing is uploaded: the card is a README.md beside the weights.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from huggingface_hub import EvalResult, ModelCardData
from huggingface_hub.utils import HFValidationError, validate_repo_id

from slimlib.comparison.change import NO_VERDICT, Change
from slimlib.report.answer import Answer
from slimlib.report.verdicts import write_text

NAME = "README.md"  # of a card, where the hub looks for it
TASK = "text-generation"


def model_card(answer: Answer, base: str, rows: str) -> str:
    """Make a model card: YAML front matter with the scores, then the verdicts in words.

    Args:
        answer: of `slimlib.tune`.
        base: the model that was tuned; named in the metadata where it can be a hub id.
        rows: what it was tuned on; likewise, where it is a hub id with an owner.

    Returns:
        Markdown. Scores are per cent; those of a broken measurement are left out of the metadata.
        No path of this machine is in it, unless a task or a title has one.
    """
    data = ModelCardData(
        base_model=_hub_id(base),
        library_name="transformers",
        pipeline_tag=TASK,
        datasets=_hub_id(rows) if "/" in rows else None,
        model_name=answer.title,
        eval_results=[*_results(answer)] or None,
    )
    words = replace(answer, place="this folder").document().to_markdown()
    return f"---\n{data.to_yaml()}\n---\n\n{words.strip()}\n"


def write_model_card(answer: Answer, base: str, rows: str, folder: Path) -> Path:
    """Write a model's card into its folder, whole or not at all; arguments as `model_card`'s."""
    return write_text(folder / NAME, model_card(answer, base, rows))


def _hub_id(name: str) -> str | None:
    """A name as the hub's, without its revision; None for an embedded model or a local path."""
    name = name.partition("@")[0]
    try:
        validate_repo_id(name)
    except HFValidationError:
        return None
    return None if os.path.exists(name) else name


def _results(answer: Answer) -> Iterator[EvalResult]:
    """The tuned model's scores that carry a verdict, as the hub's model-index takes them."""
    for change in answer.comparison.changes:
        if change.verdict not in NO_VERDICT and math.isfinite(change.tuned):
            yield _result(change)


def _result(change: Change) -> EvalResult:
    value, low, high = (_rounded(limit) for limit in change.difference)
    return EvalResult(
        task_type=TASK,
        dataset_type=change.task,
        dataset_name=change.task,
        metric_type=change.metric.partition(",")[0],
        metric_name=f"{change.title}, per cent",
        metric_value=_rounded(change.tuned),
        metric_args={
            "documents": change.n,
            "base": _rounded(change.base),
            "change": value,
            "interval": [low, high],
            "verdict": change.verdict,
        },
    )


def _rounded(value: float) -> float | None:
    return round(float(value), 2) if math.isfinite(value) else None

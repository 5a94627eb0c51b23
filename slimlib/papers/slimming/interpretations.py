"""Paper A's four interpretations (its section 3), each with what its own numbers allow.

An interpretation says why; Table 2 says how much. Where the cause was not varied, the numbers
cannot bear it out, however large they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace as Facts

from slimlib import metrics
from slimlib.papers.slimming import published
from slimlib.papers.slimming.findings import p_text
from slimlib.papers.slimming.recomputed import (
    DK,
    Key,
    augmentation,
    forgetting,
    limits,
    standard_errors,
)


def near_total_loss() -> Iterator[Facts]:
    """1: FR, and what lies between the two columns beside the fine-tuning."""
    (found,) = forgetting()
    yield Facts(
        relative=found.relative_printed,
        rate=found.exact.value,
        limits=found.limits,
        line=published.CATASTROPHIC,
        base=published.END_TOKENS[published.BASE_END_TOKEN].checkpoint,
    )


def kept_by_structure() -> Iterator[Facts]:
    """2: that nothing was lost, which is measured, and why, which is not."""
    (found,) = augmentation()
    yield Facts(value=found.value, margin=found.margin, p_same=found.p_same_text)


def partial_unlearning() -> Iterator[Facts]:
    """3: dK by its unpaired test."""
    yield _difference(DK, "base", "llama-2k", relative=published.RELATIVE_CHANGES["mmlu_cs"])


def architecture() -> Iterator[Facts]:
    """4: the two fine-tuned models on MMLU-CS."""
    samples = [published.TABLE1[column].samples for column in ("llama-2k", "tinyllama-50k")]
    yield _difference(DK, "llama-2k", "tinyllama-50k", times=samples[1] / samples[0])


def _difference(key: Key, first: str, second: str, **more: float) -> Facts:
    """How much more the first column has right, in points, unpaired."""
    one, other = (published.TABLE2[column][key].value for column in (first, second))
    errors = standard_errors(key, first, second)
    p_value = metrics.unpaired_z_test(one, other, *errors).p_value
    return Facts(
        one=one,
        other=other,
        value=one - other,
        limits=limits(metrics.unpaired_difference(other, one, *reversed(errors))),
        p_value=p_value,
        p_text=p_text(p_value),
        n=published.DOCUMENTS[key[0]],
        **more,
    )

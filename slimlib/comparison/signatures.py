"""Failure signatures: losses that a review of paper A names as signs of a bad fine-tuning.

A GSM8K that lost more than 80 % of what it had, an MMLU-CS that lost more than 10 points. Each is a
check by name: present where the whole interval lies above the line, absent where it lies at or
below it, else not decided.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

from slimlib.comparison.change import HEADLINE, NO_VERDICT, Change
from slimlib.metrics import Estimate
from slimlib.metrics.text import interval, number

PRESENT, ABSENT, UNDECIDED = "present", "absent", "not decided"


class Signature(NamedTuple):
    """A line that a measure of a benchmark should not cross."""

    name: str
    role: str  # of the benchmark
    measure: str  # FR or dK
    line: float
    unit: str


SIGNATURES = (
    Signature("catastrophic forgetting of mathematics", "gsm8k", "FR", 80.0, "%"),
    Signature("degraded domain knowledge", "mmlu_cs", "dK", 10.0, "points"),
)


class Check(NamedTuple):
    """One signature looked for in one change."""

    signature: Signature
    task: str
    found: Estimate

    @property
    def verdict(self) -> str:
        """By the whole interval, not by the estimate."""
        if self.found.low > self.signature.line:
            return PRESENT
        return ABSENT if self.found.high <= self.signature.line else UNDECIDED

    def sentence(self) -> str:
        """Name, line, number, interval, verdict."""
        name, _, measure, line, unit = self.signature
        value = f"{number(self.found.value)} {unit} {interval(self.found)}"
        return f"{name} ({self.task}, {measure} above {line:g} {unit}): {self.verdict}, {value}"

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it; a limit that is not known is None."""
        limits = {k: v if math.isfinite(v) else None for k, v in self.found._asdict().items()}
        named = {"name": self.signature.name, "task": self.task, "line": self.signature.line}
        return {**named, "measure": self.signature.measure, **limits, "verdict": self.verdict}


def check_signatures(changes: Iterable[Change]) -> list[Check]:
    """Look for each signature in the changes of its benchmark; none where it was not measured."""
    measured = [c for c in changes if c.family == HEADLINE and c.verdict not in NO_VERDICT]
    return [
        Check(signature, change.title.partition(",")[0], _measure(change, signature.measure))
        for signature in SIGNATURES
        for change in measured
        if change.role == signature.role
    ]


def _measure(change: Change, name: str) -> Estimate:
    return change.forgetting if name == "FR" else change.delta_k

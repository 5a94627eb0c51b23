"""What an audit found: claims, what is printed, what a recomputation gives, and a verdict on each.

Data, the rule that gives a verdict, and what is shown. The papers' arithmetic is in
`slimlib.papers.slimming`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

from slimlib.common.document import Document, Shown
from slimlib.metrics import text

if TYPE_CHECKING:
    import pandas as pd

AGREES = "agrees"
ROUNDED = "agrees after rounding"
DIFFERS = "differs"
NOT_ESTABLISHED = "not established"
UNCHECKABLE = "cannot be checked"
MEANINGS = {
    AGREES: "the recomputation gives every digit that is printed, or bears the claim out",
    ROUNDED: "it gives what is printed once the rounding of the published inputs is allowed for",
    DIFFERS: "it gives something else",
    NOT_ESTABLISHED: "the published numbers are too uncertain to bear the claim",
    UNCHECKABLE: "what a check needs has not been published, or was not given",
}

PAPERS = {
    "A": "arXiv 2506.10885 (Slimming Down LLMs Without Losing Their Minds)",
    "B": "doi 10.32604/cmc.2024.057491 (Optimizing Fine-Tuning in Quantized Language Models)",
}


def judge(
    printed: float, recomputed: float, digits: int, limits: tuple[float, float] | None = None
) -> str:
    """Does a recomputed number agree with a printed one?

    Args:
        printed: with `digits` decimals.
        recomputed: at full precision.
        digits: decimals that are printed.
        limits: what the rounding of the published inputs allows (see `spread`).

    Example: 88.92 printed, 88.929 recomputed, 88.912 to 88.945 allowed -> "agrees after rounding".
    """
    half = 0.5 * 10**-digits + 1e-9  # a number on the edge rounds either way
    if abs(recomputed - printed) <= half:
        return AGREES
    if limits and limits[0] - half <= printed <= limits[1] + half:
        return ROUNDED
    return DIFFERS


def spread(
    function: Callable[..., float], *printed: float, half: float = 0.005
) -> tuple[float, float]:
    """The smallest and largest value of a function whose inputs are each known to +- half.

    It looks at the corners, which is exact for a function that is monotone in every input.

    Example: a quotient of 3.71 and 33.51 -> 0.11055 to 0.11088.
    """
    values = [function(*corner) for corner in product(*((x - half, x + half) for x in printed))]
    return min(values), max(values)


def weakest(verdicts: Iterable[str]) -> str:
    """The verdict on several numbers together: that of the worst."""
    return max(verdicts, key=list(MEANINGS).index)


def p_text(p_value: float) -> str:
    """A p-value for reading: "p = 0.060", "p < 0.001", and a power of ten below that."""
    if p_value >= 1e-4:
        return text.p_text(p_value)
    # below the smallest float a p-value is 0
    return f"p < 1e-{math.floor(-math.log10(max(p_value, 1e-300)))}"


class Finding(NamedTuple):
    """One claim of a paper and what became of it."""

    paper: str  # "A" or "B"
    claim: str
    printed: str
    recomputed: str
    verdict: str
    why: str


@dataclass(frozen=True)
class Audit(Shown):
    """All findings, in the order of the papers."""

    findings: tuple[Finding, ...]

    def counts(self) -> dict[str, int]:
        """Verdict -> number of findings; every verdict is named."""
        verdicts = [finding.verdict for finding in self.findings]
        return {verdict: verdicts.count(verdict) for verdict in MEANINGS}

    def table(self) -> pd.DataFrame:
        """One row per finding."""
        import pandas as pd

        return pd.DataFrame(self.findings, columns=Finding._fields)

    def to_dict(self) -> dict[str, Any]:
        """Plain texts and numbers, as JSON takes them."""
        return {
            "findings": [finding._asdict() for finding in self.findings],
            "verdicts": self.counts(),
        }

    def document(self) -> Document:
        """How many claims have each verdict, and a row for each claim, its reason below."""
        table = self.table().set_index(["paper", "claim"]).rename(index="paper {}".format, level=0)
        papers = {finding.paper for finding in self.findings}
        notes = [f"paper {paper}: {title}" for paper, title in PAPERS.items() if paper in papers]
        notes += [f"{verdict}: {meaning}." for verdict, meaning in MEANINGS.items()]
        title = "The papers' numbers, recomputed"
        return Document(title, [self._summary()], table, notes, under="why")

    def _summary(self) -> str:
        counts = ", ".join(f"{n} {verdict}" for verdict, n in self.counts().items() if n)
        n = len(self.findings)
        return f"{n} claim{'s' * (n != 1)}{': ' * bool(n)}{counts}."

"""The article's four claims on key variables, tested one by one on a grid's records.

A claim has parts; each part is one contrast of cells. "A costs less than B" is supported by a
significant difference that way and contradicted by one the other way. "A makes no difference" is
supported by an equivalence test within the margin and contradicted by a significant difference.
Anything else is not decided. P-values are corrected (Holm) over the parts of all claims, those of
differences and those of equivalence each for itself. Controls and breakdowns stand beside and
decide nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from slimlib import metrics
from slimlib.common.document import Document, Shown
from slimlib.comparison.benchmarks import ALPHA, MARGIN
from slimlib.comparison.contrast import Contrast
from slimlib.metrics.text import interval, number, p_cell, p_text
from slimlib.papers.key_variables.cells import Grid
from slimlib.papers.key_variables.contrasts import loss_contrast, score_contrast
from slimlib.papers.key_variables.hypotheses import (
    CLAIMS,
    HARMLESS,
    HIGHER,
    LOSS,
    LOWER,
    PART,
    SAME,
    hypotheses,
)

if TYPE_CHECKING:
    import pandas as pd

SUPPORTED, CONTRADICTED, UNDECIDED = "supported", "contradicted", "not decided"


@dataclass(frozen=True)
class Finding:
    """One contrast and what it says."""

    claim: int
    text: str  # "MLP cut minus attention cut"
    expected: str  # of the claim: HIGHER, LOWER, SAME or HARMLESS
    kind: str  # PART, LOSS (the same of the training loss), BREAKDOWN or CONTROL
    effect: Contrast | None
    pairs: int  # of the grid; `effect.pairs` of them are there
    p_holm: float | None = None
    p_equivalence_holm: float | None = None
    verdict: str = ""  # "" for what decides nothing

    def row(self) -> dict[str, Any]:
        """As a row of a table: points and p-values."""
        row = {"claim": self.claim, "kind": self.kind, "contrast": self.text}
        row |= {"expected": self.expected, "pairs": f"{0}/{self.pairs}"}
        if self.effect is None:
            return row | {"verdict": self.verdict}
        e = self.effect
        value, low, high = e.difference
        return row | {
            "pairs": f"{e.pairs}/{self.pairs}",
            "unit": "nats" if self.kind == LOSS else "points",
            "difference": value,
            "low": low,
            "high": high,
            "sd_seeds": e.sd_seeds,
            "detectable": e.detectable,
            "p": e.p_value,
            "p_holm": self.p_holm,
            "p_equivalence": e.p_equivalence,
            "p_equivalence_holm": self.p_equivalence_holm,
            "p_documents": e.p_documents,
            "verdict": self.verdict,
        }

    def sentence(self) -> str:
        """Contrast, effect, tests and verdict in words."""
        head = f"{self.text}"
        verdict = f": {self.verdict}." if self.verdict else "."
        e = self.effect
        if e is None:
            return f"{head}{verdict} Fewer than two seeds of the cells it needs are there."
        unit = "nats a token" if self.kind == LOSS else "points"
        value = f"{number(e.difference.value, 2, '+')} {unit}"
        limits = f"95 % interval {interval(e.difference, '+')}"
        pairs = f"{e.pairs} pair{'s' if e.pairs > 1 else ''} of cells"
        size = f"{pairs}, {e.seeds} seeds" + (f", {e.documents:,} documents" if e.documents else "")
        tests = [_p("no difference", e.p_value, self.p_holm)]
        if self.expected in (SAME, HARMLESS) and e.documents:
            tests.append(_p("equivalence", e.p_equivalence, self.p_equivalence_holm))
        if self.verdict == UNDECIDED:
            tests.append(f"{number(e.detectable, 1)} points would be found in 80 % of repetitions")
        tests.append(f"SD over seeds {number(e.sd_seeds)}")
        tests += [f"documents alone {p_text(e.p_documents)}"] if e.documents else []
        return f"{head}{verdict} {value} ({limits}; {size}); {'; '.join(tests)}."


def _p(what: str, p: float, corrected: float | None) -> str:
    holm = "" if corrected is None else f" (Holm {p_cell(corrected)})"
    return f"{what} {p_text(p)}{holm}"


@dataclass(frozen=True)
class Claims(Shown):
    """All findings on a grid: see `judge_claims`."""

    grid: Grid
    findings: tuple[Finding, ...]
    margin: float
    alpha: float

    def verdict(self, claim: int) -> str:
        """Contradicted if one part is; supported if all are; else not decided."""
        verdicts = {f.verdict for f in self.findings if f.claim == claim and f.kind == PART}
        if CONTRADICTED in verdicts:
            return CONTRADICTED
        return SUPPORTED if verdicts == {SUPPORTED} else UNDECIDED

    def table(self) -> pd.DataFrame:
        """A row per contrast: points, p-values, verdict."""
        import pandas as pd

        return pd.DataFrame([finding.row() for finding in self.findings])

    def points(self) -> list[tuple[str, list[str]]]:
        """Each claim with its verdict, and the sentences on its parts, breakdowns and controls."""
        return [
            (
                f"{claim}. {text} {self.verdict(claim).capitalize()}.",
                [
                    f"{'' if f.kind == PART else f.kind + ': '}{f.sentence()}"
                    for f in self.findings
                    if f.claim == claim
                ],
            )
            for claim, text in CLAIMS.items()
        ]

    def sentences(self) -> str:
        """Each claim with its verdict; below it its parts, breakdowns and controls."""
        lines = []
        for claim, findings in self.points():
            lines += [claim, *(f"   {finding}" for finding in findings)]
        return "\n".join([*lines, *self.notes()])

    def document(self) -> Document:
        """What is shown of them: the claims, how much of the grid is there, what the tests are."""
        title = f"The article's claims on {self.grid.design.study.title}"
        return Document(
            title, self.points(), notes=[*self.grid.sentence().splitlines(), *self.notes()]
        )

    def summary(self) -> str:
        """Each claim with its verdict and its parts' effects, a line each."""
        lines = []
        for claim, text in CLAIMS.items():
            lines.append(f"{claim}. {text} {self.verdict(claim).capitalize()}.")
            for f in self.findings:
                if f.claim == claim and f.kind == PART:
                    e = f.effect
                    effect = f" {number(e.difference.value, 1, '+')} points" if e else ""
                    limits = f" {interval(e.difference, '+')}, Holm {p_text(f.p_holm)}" if e else ""
                    lines.append(f"   {f.text}:{effect}{limits}: {f.verdict}")
        return "\n".join(lines)

    def notes(self) -> list[str]:
        """What the tests are."""
        study = self.grid.design.study
        tasks = ", ".join(study.task_labels.values())
        return [
            f"Points of the mean over {tasks}. p by t over documents and runs, corrected (Holm) "
            "over the parts of all claims; equivalence: within "
            f"{self.margin:g} points. Verdicts go by the score, not by the loss. The variance "
            "between runs is pooled over the cells of a method; 'documents alone' takes these very "
            f"runs for granted and decides nothing. {study.note}"
        ]


def judge_claims(grid: Grid, margin: float = MARGIN, alpha: float = ALPHA) -> Claims:
    """Test the article's four claims.

    Args:
        grid: the records; of missing cells the pairs are left out, and counted.
        margin: points within which a difference counts as none.
        alpha: level, after Holm's correction.

    Example:

        grid = slimlib.read_grid("figures/records/key_variables_micro")
        slimlib.judge_claims(grid).table()

    Raises:
        ValueError: margin or alpha out of range.
    """
    if not 0 < margin < 100 or not 0 < alpha < 1:
        raise ValueError(f"margin={margin}, alpha={alpha}: above 0, and below 100 and 1")
    findings = []
    for claim, text, expected, kind, pairs in hypotheses(grid.design):
        if pairs:
            effect = score_contrast(grid, pairs, margin)
            findings.append(Finding(claim, text, expected, kind, effect, len(pairs)))
        if pairs and kind == PART:
            effect = loss_contrast(grid, pairs)
            findings.append(Finding(claim, text, expected, LOSS, effect, len(pairs)))
    for field, raw, some in (
        ("p_holm", "p_value", (HIGHER, LOWER, SAME, HARMLESS)),
        ("p_equivalence_holm", "p_equivalence", (SAME, HARMLESS)),
    ):
        rows = [i for i, f in enumerate(findings) if f.kind == PART and f.effect]
        rows = [i for i in rows if findings[i].expected in some]
        corrected = metrics.holm([getattr(findings[i].effect, raw) for i in rows])
        for i, p in zip(rows, corrected, strict=True):
            findings[i] = replace(findings[i], **{field: p})
    judged = (replace(f, verdict=_verdict(f, alpha)) for f in findings)
    return Claims(grid, tuple(judged), margin, alpha)


def _verdict(finding: Finding, alpha: float) -> str:
    if finding.kind != PART:
        return ""
    if finding.effect is None:
        return UNDECIDED
    value, expected = finding.effect.difference.value, finding.expected
    if finding.p_holm < alpha:
        right = value < 0 if expected == LOWER else value > 0
        return SUPPORTED if right and expected != SAME else CONTRADICTED
    if expected in (SAME, HARMLESS) and finding.p_equivalence_holm < alpha:
        return SUPPORTED
    return UNDECIDED

"""The papers' arithmetic done again: every published number that follows from other published ones.

`audit()` recomputes the standard errors, intervals, measures and tests of paper A's Table 2 and the
savings that paper B prints, from the data in `published` alone; with the author's result files it
also checks those (`author_files`). Nothing recomputed is typed in. Tests are unpaired
unless a row says otherwise, since no per-document answers are public.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from slimlib.papers.slimming.author_files import file_findings
from slimlib.papers.slimming.findings import Audit
from slimlib.papers.slimming.statements import PAPER_A, PAPER_B, findings_of


def audit(files: Sequence[str | Path] = ()) -> Audit:
    """Recompute what the papers print and say of each claim whether it holds.

    Args:
        files: the author's result files (`published.RECORDS`), or folders that hold them; without
            them what only they show is marked as not checked.

    Example:

        print(slimlib.audit().to_text())  # among others: dK = 13.00 +- 6.93 is +- 13.55 as defined

    Raises:
        ValueError: a path that is missing or is no lm-eval result; names it.
    """
    paper_a, paper_b = findings_of("A", PAPER_A), findings_of("B", PAPER_B)
    return Audit((*paper_a, *file_findings(files), *paper_b))

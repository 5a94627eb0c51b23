"""The stars of paper A's Table 2: a paired t-test on answers that are not public.

Every pairing of two models' answers that has the published numbers of right answers is tried.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace as Facts

import numpy as np

from slimlib import metrics
from slimlib.papers.slimming import published
from slimlib.papers.slimming.findings import AGREES, NOT_ESTABLISHED, p_text
from slimlib.papers.slimming.recomputed import (
    DK,
    FR,
    Key,
    name_of,
    right_answers,
    score_pair,
    standard_errors,
)


def stars() -> Iterator[Facts]:
    """p < 0.05 by paired t-test: for which pairings of the answers does that hold?"""
    for key, measure in ((FR, "FR"), (DK, "dK")):
        published_value = published.MEASURES["llama-2k"][key[0]]
        low, high = paired_p_values(key)
        errors = standard_errors(key, "base", "llama-2k")
        z, p_value = metrics.unpaired_z_test(*score_pair(key), *errors)
        sure = high < published.ALPHA
        yield Facts(
            name=name_of(key[0]),
            measure=measure,
            printed=f"{published_value.value:.2f}{'*' if published_value.starred else ''}",
            lowest=p_text(low),
            highest=p_text(high),
            alpha=published.ALPHA,
            level=100 * published.ALPHA,
            z=abs(z),
            p_text=p_text(p_value),
            verdict=AGREES if sure or p_value < published.ALPHA else NOT_ESTABLISHED,
            why="It holds unpaired, and paired however the answers pair."
            if sure
            else f"By Table 2 alone, unpaired. {_pairing_needed(key)}",
        )


def _pairing_needed(key: Key) -> str:
    """Up to how many changed answers exact McNemar would call the published change significant."""
    n = published.DOCUMENTS[key[0]]
    p, q = (score / 100 for score in score_pair(key))
    chance = n * (p * (1 - q) + q * (1 - p))
    return (
        f"Paired (exact McNemar) it would be significant if at most {most_changed_answers(key)} of "
        f"the {n:,} answers differ between the models, which is not reported; models that are "
        f"right independently of each other would differ on about {chance:.0f}."
    )


def most_changed_answers(key: Key) -> int:
    """The most answers that may differ between base and 2k with exact McNemar below 0.05.

    Searched over every split into lost and gained answers that has the published scores. Such
    splits differ by two answers, one lost and one gained: an odd net loss takes an odd number.

    Example: MMLU-CS, 47 and 34 right of 100 -> 37 (25 lost, 12 gained: p = 0.047; 26 and 13 are 39:
    p = 0.053).
    """
    most = 0
    for answers in _pairings(key):  # from the fewest that differ upwards
        test = metrics.mcnemar_test(*answers)
        if test.p_value >= published.ALPHA:
            break
        most = test.lost + test.gained
    return most


def paired_p_values(key: Key) -> tuple[float, float]:
    """The paired t-test's smallest and largest p over every pairing of base and 2k answers.

    Example: MMLU-CS -> 0.0002 (13 lost, none gained) to 0.15 (47 lost, 34 gained).
    """
    pairings = list(_pairings(key))
    ends = [metrics.paired_t_test(*pairings[i]).p_value for i in (0, -1)]
    return min(ends), max(ends)


def _pairings(key: Key) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Scores of 0 and 1, (documents,) each, from the most answers in common to the fewest."""
    n = published.DOCUMENTS[key[0]]
    base, tuned = (right_answers(score, n) for score in score_pair(key))
    place = np.arange(n)
    for shared in range(min(base, tuned), max(0, base + tuned - n) - 1, -1):
        first = base - shared
        yield (
            (place < base).astype(float),
            ((place >= first) & (place < first + tuned)).astype(float),
        )

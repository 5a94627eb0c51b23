"""Paper A's stars and comparisons done again: which differences in Table 2 are established?

Each function gives findings for `audit`. The stars stand for a paired t-test on answers
that are not public, so every pairing that has the published scores is tried.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from slimlib import metrics
from slimlib.comparison.benchmarks import FLEXIBLE, STRICT
from slimlib.papers.slimming import published
from slimlib.papers.slimming.findings import (
    AGREES,
    DIFFERS,
    NOT_ESTABLISHED,
    UNCHECKABLE,
    Finding,
    p_text,
)
from slimlib.papers.slimming.recomputed import (
    DK,
    FR,
    Key,
    limits,
    name_of,
    right_answers,
    score_pair,
    standard_errors,
    title,
)


def stars() -> Iterator[Finding]:
    """p < 0.05 by paired t-test: for which pairings of the answers does that hold?"""
    for key, name in ((FR, "FR"), (DK, "dK")):
        loss = published.MEASURES["llama-2k"][key[0]]
        printed = f"{loss.value:.2f}{'*' if loss.starred else ''}"
        low, high = paired_p_values(key)
        yield Finding(
            "A",
            f"{name_of(key[0])}: the paired t-test behind the star of {name}",
            printed,
            f"{p_text(low)} to {p_text(high)}, by how the answers pair",
            UNCHECKABLE,
            "No per-document file is public. The range is over every pairing that has the "
            "published numbers of right answers.",
        )
        yield _significance(key, name, printed, high)


def _significance(key: Key, name: str, printed: str, worst: float) -> Finding:
    """Is the loss significant by what is published?"""
    base, tuned = score_pair(key)
    errors = standard_errors(key, "base", "llama-2k")
    z, p_value = metrics.unpaired_z_test(base, tuned, *errors)
    if worst < published.ALPHA:
        verdict, why = AGREES, "It holds unpaired, and paired however the answers pair."
    else:
        verdict = AGREES if p_value < published.ALPHA else NOT_ESTABLISHED
        why = f"By Table 2 alone, unpaired. {_pairing_needed(key)}"
    return Finding(
        "A",
        f"{name_of(key[0])}: {name} is significant at {100 * published.ALPHA:.0f} %",
        f"{printed} (p < {published.ALPHA:g})",
        f"z = {abs(z):.2f}, {p_text(p_value)} unpaired",
        verdict,
        why,
    )


def _pairing_needed(key: Key) -> str:
    """Up to how many changed answers exact McNemar would call the published loss significant."""
    n = published.DOCUMENTS[key[0]]
    limit, chance = most_changed_answers(key), _independent_changes(*score_pair(key), n)
    return (
        f"Paired (exact McNemar) it would be significant if at most {limit} of the {n:,} answers "
        "differ between the models, which is not reported; models that are right independently of "
        f"each other would differ on about {chance:.0f}."
    )


def most_changed_answers(key: Key) -> int:
    """The most answers that may differ between base and 2k with exact McNemar below 0.05.

    Searched over every split into lost and gained answers that has the published scores; one less
    than the smallest number that is not significant.

    Example: MMLU-CS, 47 and 34 right of 100 -> 38 (26 lost and 13 gained are 39: p = 0.053).
    """
    tests = [metrics.mcnemar_test(*answers) for answers in _pairings(key)]
    not_significant = [t.lost + t.gained for t in tests if t.p_value >= published.ALPHA]
    return min(not_significant, default=published.DOCUMENTS[key[0]] + 1) - 1


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


def _independent_changes(base: float, tuned: float, n: int) -> float:
    """Answers that would differ between two models that are right independently of each other."""
    p, q = base / 100, tuned / 100
    return n * (p * (1 - q) + q * (1 - p))


def formats() -> Finding:
    """Strict against flexible matching: how much of GSM8K's loss can be the marker's?"""
    n = published.DOCUMENTS["gsm8k"]
    cells = {
        column: [published.TABLE2[column]["gsm8k", kind].value for kind in (FLEXIBLE, STRICT)]
        for column in ("base", "llama-2k")
    }
    counts = {column: [right_answers(value, n) for value in pair] for column, pair in cells.items()}
    gaps = [flexible - strict for flexible, strict in cells.values()]
    before, after = (flexible - strict for flexible, strict in counts.values())
    lost = counts["base"][1] - counts["llama-2k"][1]
    right = counts["llama-2k"][0]  # only these can have lost no more than the marker
    net, most = (100 * count / lost for count in (after - before, right))
    return Finding(
        "A",
        "GSM8K: strict and flexible matching fall alike",
        " -> ".join(" / ".join(f"{value:.2f}" for value in pair) for pair in cells.values()),
        f"gap {gaps[0]:.2f} -> {gaps[1]:.2f} points",
        AGREES if most < 50 else DIFFERS,
        f"Flexible / strict, {before} -> {after} answers apart: net {net:.1f} % of the {lost} "
        f"strict answers lost, and no more than {most:.1f} %, since {right} answers are right by "
        "flexible matching. An answer that runs on fails both ways.",
    )


def against(tuned: str, base: str) -> Iterator[Finding]:
    """Two columns score by score: unpaired z-tests with Holm's correction over the five."""
    rows = []
    for key in published.TABLE2[base]:
        scores = [published.TABLE2[column][key].value for column in (base, tuned)]
        errors = standard_errors(key, base, tuned)
        p_value = metrics.unpaired_z_test(*scores, *errors).p_value
        rows.append((key, scores, metrics.unpaired_difference(*scores, *errors), p_value))
    corrected = metrics.holm([row[-1] for row in rows])
    names = [published.TABLE1[column].model for column in (tuned, base)]
    for (key, scores, found, _), p_value in zip(rows, corrected, strict=True):
        yield Finding(
            "A",
            f"{title(key)}: {names[0]} differs from {names[1]}",
            f"{scores[0]:.2f} -> {scores[1]:.2f}",
            f"{found.value:+.2f} ({limits(found, sign='+')}), {p_text(p_value)}",
            AGREES if p_value < published.ALPHA else NOT_ESTABLISHED,
            "Points with their 95 % interval; unpaired z-test, Holm over the five scores. Model, "
            "data and hyperparameters change together: no difference is the effect of one of them.",
        )

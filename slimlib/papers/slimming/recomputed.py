"""Paper A's Table 2 done again: its "+-", its numbers of documents, FR, dA and dK.

Each function gives findings for `audit`. Standard errors come from the number of right
answers, since the printed ones are rounded; tests and intervals are unpaired, since no per-document
answers are public.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from slimlib import metrics
from slimlib.comparison import benchmarks
from slimlib.comparison.benchmarks import MARGIN, ROLES, title_of
from slimlib.metrics import Estimate
from slimlib.papers.slimming import published
from slimlib.papers.slimming.findings import (
    AGREES,
    DIFFERS,
    NOT_ESTABLISHED,
    Finding,
    judge,
    p_text,
    spread,
    weakest,
)

_SHORT = {"base": "base", "llama-2k": "2k", "tinyllama-50k": "50k"}
_COLUMNS = " / ".join(_SHORT.values())
_TASKS = {role: task for task, role in ROLES.items()}
FR = ("gsm8k", benchmarks.FLEXIBLE)
DA = ("hellaswag", benchmarks.ACC_NORM)
DK = ("mmlu_cs", benchmarks.ACC)
Key = tuple[str, str]  # role, "metric,filter"


def plus_minus() -> Iterator[Finding]:
    """The "+-" of each score: a standard error, hence no interval."""
    for times, what in ((1, "one standard error"), (metrics.Z95, "a 95 % confidence interval")):
        for key in published.TABLE2["base"]:
            yield _plus_minus_of(key, times, what)


def _plus_minus_of(key: Key, times: float, what: str) -> Finding:
    """The "+-" of one score in all three columns against so many standard errors."""
    scores = [column[key] for column in published.TABLE2.values()]
    n = published.DOCUMENTS[key[0]]

    def half_width(accuracy: float) -> float:
        return times * metrics.standard_error(accuracy, n)

    recomputed = [half_width(100 * right_answers(score.value, n) / n) for score in scores]
    verdicts = [
        judge(score.plus_minus, value, 2, spread(half_width, score.value))
        for score, value in zip(scores, recomputed, strict=True)
    ]
    why = f"sqrt(p (1 - p) / (n - 1)) with n = {n:,}"
    if times != 1:
        why = f"A 95 % interval reaches {times} standard errors to either side"
    return Finding(
        "A",
        f"{title(key)}: '+-' is {what}",
        " / ".join(f"{score.plus_minus:.2f}" for score in scores),
        " / ".join(f"{value:.2f}" for value in recomputed),
        weakest(verdicts),
        f"{why} ({_COLUMNS}).",
    )


def documents() -> Iterator[Finding]:
    """The number of documents behind each benchmark, as far as the "+-" tell it."""
    for role, n in published.DOCUMENTS.items():
        low, high = fitting_n(role)
        stated = published.STATED_DOCUMENTS.get(role)
        fits = f"The '+-' of Table 2 fit {low:,} to {high:,}"
        why = f"{fits}; the number itself is from the author's result files."
        verdict = AGREES if low <= n <= high else DIFFERS
        if stated is not None and stated != n:
            verdict = DIFFERS
            why = f"{fits}, so rounding hides the difference; the author's result files say {n:,}."
        yield Finding(
            "A",
            f"{name_of(role)}: number of documents",
            f"{low:,} to {high:,}, by its '+-'" if stated is None else f"{stated:,}",
            f"{n:,}",
            verdict,
            why,
        )


def fitting_n(role: str) -> tuple[int, int]:
    """The fewest and the most documents that give every printed "+-" of a benchmark.

    Each "+-" is one standard error, so n = 1 + p (1 - p) / SE^2; both are known to half a unit of
    their last digit.

    Example: mmlu_cs -> 100 and 100 (5.02, 4.76 and 4.46 allow no other).
    """
    bounds = [
        spread(lambda p, se: 1 + p * (100 - p) / se**2, score.value, score.plus_minus)
        for column in published.TABLE2.values()
        for key, score in column.items()
        if key[0] == role
    ]
    return math.ceil(max(low for low, _ in bounds)), math.floor(min(high for _, high in bounds))


def forgetting_rate() -> Iterator[Finding]:
    """FR, its rounded form in the text, and "catastrophic"."""
    base, tuned = score_pair(FR)
    n, printed = published.DOCUMENTS["gsm8k"], published.MEASURES["llama-2k"]["gsm8k"].value
    right = [right_answers(score, n) for score in (base, tuned)]
    rounded = metrics.forgetting_rate(base, tuned)
    exact = metrics.unpaired_forgetting_interval(*exact_scores(right, n))
    yield Finding(
        "A",
        "GSM8K: forgetting rate FR",
        f"{printed:.2f} %",
        f"{rounded:.2f} % from the printed scores, {exact.value:.2f} % from the counts",
        judge(printed, rounded, 2, spread(metrics.forgetting_rate, base, tuned)),
        f"{right[0]} and {right[1]} of {n:,} answers are right; 95 % interval {limits(exact)} "
        "(Fieller, unpaired).",
    )
    yield Finding(
        "A",
        "GSM8K: the forgetting is catastrophic",
        f"FR > {published.CATASTROPHIC:.0f} %",
        f"FR {exact.value:.2f} %, lower limit {exact.low:.2f} %",
        AGREES if exact.low > published.CATASTROPHIC else NOT_ESTABLISHED,
        "By the author's records 'base' is another checkpoint than the one that was fine-tuned, so "
        "that the fine-tuning alone need not be the cause.",
    )
    yield _relative_loss("gsm8k", exact)


def _relative_loss(role: str, loss: Estimate) -> Finding:
    printed = published.RELATIVE_CHANGES[role]
    return Finding(
        "A",
        f"{name_of(role)}: relative loss in the text",
        f"{printed} %",
        f"{loss.value:.1f} %",
        judge(printed, loss.value, 0),
        f"95 % interval {limits(loss, 1)} (Fieller, unpaired).",
    )


def ability_augmentation() -> Iterator[Finding]:
    """dA, its test, and "kept"."""
    base, tuned = score_pair(DA)
    errors = standard_errors(DA, "base", "llama-2k")
    printed = published.MEASURES["llama-2k"]["hellaswag"].value
    value, error = metrics.delta_a(base, tuned), math.hypot(*errors)
    found = metrics.unpaired_difference(base, tuned, *errors)
    p_value = metrics.unpaired_z_test(base, tuned, *errors).p_value
    same = metrics.unpaired_equivalence_test(base, tuned, *errors, MARGIN)
    yield Finding(
        "A",
        "HellaSwag: dA",
        f"{printed:+.2f}",
        f"{value:+.2f}, standard error {error:.2f}",
        judge(printed, value, 2, spread(metrics.delta_a, base, tuned)),
        f"95 % interval {limits(found, sign='+')} points.",
    )
    yield Finding(
        "A",
        "HellaSwag: dA shows an improvement",
        f"{printed:+.2f}",
        f"z = {value / error:.2f}, {p_text(p_value)}",
        AGREES if p_value < published.ALPHA else NOT_ESTABLISHED,
        "No evidence of an improvement."
        if p_value >= published.ALPHA
        else "The interval of dA lies on one side of 0.",
    )
    yield Finding(
        "A",
        "HellaSwag: commonsense reasoning is kept",
        "kept",
        f"within {MARGIN:g} points: {p_text(same)} (TOST)",
        AGREES if same < published.ALPHA else NOT_ESTABLISHED,
        f"A change of {MARGIN:g} points or more, up or down, is "
        f"{'rejected' if same < published.ALPHA else 'not excluded'}, unpaired; the margin is this "
        "project's, the paper names none.",
    )


def knowledge_loss() -> Iterator[Finding]:
    """dK, its "+-" read in two ways, and its relative form."""
    base, tuned = score_pair(DK)
    n, loss = published.DOCUMENTS["mmlu_cs"], published.MEASURES["llama-2k"]["mmlu_cs"]
    errors = standard_errors(DK, "base", "llama-2k")
    defined = metrics.delta_k(base, tuned, n)
    half = (defined.high - defined.low) / 2
    printed_errors = [published.TABLE2[column][DK].plus_minus for column in ("base", "llama-2k")]
    reach = spread(math.hypot, *printed_errors)
    yield Finding(
        "A",
        "MMLU-CS: dK",
        f"{loss.value:.2f}",
        f"{defined.value:.2f}",
        judge(loss.value, defined.value, 2, spread(lambda b, t: b - t, base, tuned)),
        f"{base:.2f} - {tuned:.2f} points.",
    )
    yield Finding(
        "A",
        "MMLU-CS: '+-' of dK is one standard error",
        f"+- {loss.plus_minus:.2f}",
        f"+- {math.hypot(*errors):.2f}",
        judge(loss.plus_minus, math.hypot(*printed_errors), 2, reach),
        f"sqrt({printed_errors[0]:.2f}^2 + {printed_errors[1]:.2f}^2) = "
        f"{math.hypot(*printed_errors):.2f}, from the printed ones; by their rounding alone it may "
        f"be {reach[0]:.3f} to {reach[1]:.3f}.",
    )
    yield Finding(
        "A",
        "MMLU-CS: '+-' of dK is the 95 % interval that the paper defines",
        f"+- {loss.plus_minus:.2f}",
        f"+- {half:.2f}",
        judge(loss.plus_minus, half, 2),
        f"The definition has z = {metrics.Z95}; the interval is then {limits(defined)} points "
        f"and {'contains' if defined.low < 0 < defined.high else 'excludes'} 0.",
    )
    yield _relative_loss("mmlu_cs", metrics.unpaired_forgetting_interval(base, tuned, *errors))


# ---- small helpers ----


def right_answers(accuracy: float, n: int) -> int:
    """The number of right answers nearest to an accuracy in per cent.

    Example: 33.51 % of 1,319 -> 442, 3.71 % -> 49.
    """
    return round(accuracy * n / 100)


def exact_scores(right: Sequence[int], n: int) -> tuple[float, ...]:
    """Accuracies of base and tuned and their standard errors, from counts, in per cent."""
    accuracies = [100 * count / n for count in right]
    return (*accuracies, *(metrics.standard_error(accuracy, n) for accuracy in accuracies))


def score_pair(key: Key) -> tuple[float, float]:
    """The printed score of base and of the fine-tuned Llama, in per cent."""
    return published.TABLE2["base"][key].value, published.TABLE2["llama-2k"][key].value


def standard_errors(key: Key, *columns: str) -> list[float]:
    """Standard errors of a score; from n, since the printed ones are rounded."""
    n = published.DOCUMENTS[key[0]]
    return [metrics.standard_error(published.TABLE2[column][key].value, n) for column in columns]


def title(key: Key) -> str:
    """ "GSM8K, flexible"."""
    return title_of(_TASKS[key[0]], *key)


def name_of(role: str) -> str:
    """ "GSM8K"."""
    return title((role, "")).partition(",")[0]


def limits(estimate: Estimate, digits: int = 2, sign: str = "") -> str:
    """ "-0.55 to 26.55"."""
    return f"{estimate.low:{sign}.{digits}f} to {estimate.high:{sign}.{digits}f}"

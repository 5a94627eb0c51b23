"""The numbers behind each claim of paper A's Table 2, computed from what it prints.

Each function gives namespaces of numbers, and `statements` says what they show. Standard errors
come from the number of right answers, since the printed ones are rounded; tests and intervals are
unpaired, since no per-document answers are public.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from types import SimpleNamespace as Facts

from slimlib import metrics
from slimlib.comparison import benchmarks
from slimlib.comparison.benchmarks import FLEXIBLE, MARGIN, ROLES, STRICT, title_of
from slimlib.metrics import Estimate
from slimlib.papers.slimming import published
from slimlib.papers.slimming.findings import AGREES, DIFFERS, judge, p_text, spread, weakest

_TASKS = {role: task for task, role in ROLES.items()}
FR = ("gsm8k", benchmarks.FLEXIBLE)
DA = ("hellaswag", benchmarks.ACC_NORM)
DK = ("mmlu_cs", benchmarks.ACC)
Key = tuple[str, str]  # role, "metric,filter"


# ---- paper A: standard errors and documents ----


def plus_minus() -> Iterator[Facts]:
    """The "+-" of each score in all three columns: a standard error, hence no interval."""
    for times in (1, metrics.Z95):
        for key in published.TABLE2["base"]:
            n = published.DOCUMENTS[key[0]]
            scores = [column[key] for column in published.TABLE2.values()]

            def half_width(accuracy: float, times: float = times, n: int = n) -> float:
                return times * metrics.standard_error(accuracy, n)

            exact = [half_width(100 * right_answers(score.value, n) / n) for score in scores]
            verdicts = [
                judge(score.plus_minus, value, 2, spread(half_width, score.value))
                for score, value in zip(scores, exact, strict=True)
            ]
            one = times == 1
            yield Facts(
                name=title(key),
                what="one standard error" if one else "a 95 % confidence interval",
                printed=" / ".join(f"{score.plus_minus:.2f}" for score in scores),
                recomputed=" / ".join(f"{value:.2f}" for value in exact),
                verdict=weakest(verdicts),
                why=f"sqrt(p (1 - p) / (n - 1)) with n = {n:,}"
                if one
                else f"A 95 % interval reaches {times} standard errors to either side",
            )


def documents() -> Iterator[Facts]:
    """The number of documents behind each benchmark, as far as the "+-" tell it."""
    for role, n in published.DOCUMENTS.items():
        low, high = fitting_n(role)
        stated, said = published.STATED_DOCUMENTS.get(role), "the number itself is from the"
        why = f"; {said} author's result files."
        if wrong := stated not in (None, n):
            why = f", so rounding hides the difference; the author's result files say {n:,}."
        yield Facts(
            name=name_of(role),
            n=n,
            low=low,
            high=high,
            printed=f"{low:,} to {high:,}, by its '+-'" if stated is None else f"{stated:,}",
            verdict=AGREES if low <= n <= high and not wrong else DIFFERS,
            why=why,
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


# ---- paper A: FR, dA and dK ----


def forgetting() -> Iterator[Facts]:
    """FR, of the printed scores and of the counts of right answers behind them."""
    base, tuned = score_pair(FR)
    n = published.DOCUMENTS["gsm8k"]
    right = [right_answers(score, n) for score in (base, tuned)]
    exact = metrics.unpaired_forgetting_interval(*exact_scores(right, n))
    yield Facts(
        name=name_of("gsm8k"),
        printed=published.MEASURES["llama-2k"]["gsm8k"].value,
        rounded=metrics.forgetting_rate(base, tuned),
        allowed=spread(metrics.forgetting_rate, base, tuned),
        exact=exact,
        limits=limits(exact),
        right=right,
        n=n,
        catastrophic=published.CATASTROPHIC,
        **_relative("gsm8k", exact),
    )


def _relative(role: str, found: Estimate) -> dict[str, object]:
    """The loss relative to the base, which the text rounds to whole per cent."""
    return {
        "relative_printed": published.RELATIVE_CHANGES[role],
        "relative": found.value,
        "relative_limits": limits(found, 1),
    }


def augmentation() -> Iterator[Facts]:
    """dA, its z-test, and TOST within the margin."""
    base, tuned = score_pair(DA)
    errors = standard_errors(DA, "base", "llama-2k")
    value, error = metrics.delta_a(base, tuned), math.hypot(*errors)
    p_value = metrics.unpaired_z_test(base, tuned, *errors).p_value
    p_same = metrics.unpaired_equivalence_test(base, tuned, *errors, MARGIN)
    yield Facts(
        printed=published.MEASURES["llama-2k"]["hellaswag"].value,
        value=value,
        allowed=spread(metrics.delta_a, base, tuned),
        error=error,
        z=value / error,
        limits=limits(metrics.unpaired_difference(base, tuned, *errors), sign="+"),
        p_value=p_value,
        p_text=p_text(p_value),
        improved="No evidence of an improvement."
        if p_value >= published.ALPHA
        else "The interval of dA lies on one side of 0.",
        margin=MARGIN,
        p_same=p_same,
        p_same_text=p_text(p_same),
        excluded="rejected" if p_same < published.ALPHA else "not excluded",
    )


def knowledge() -> Iterator[Facts]:
    """dK, its "+-" read in two ways, and its relative form."""
    base, tuned = score_pair(DK)
    errors = standard_errors(DK, "base", "llama-2k")
    defined = metrics.delta_k(base, tuned, published.DOCUMENTS["mmlu_cs"])
    ses = [published.TABLE2[column][DK].plus_minus for column in ("base", "llama-2k")]
    yield Facts(
        name=name_of("mmlu_cs"),
        printed=published.MEASURES["llama-2k"]["mmlu_cs"],
        base=base,
        tuned=tuned,
        defined=defined,
        allowed=spread(lambda b, t: b - t, base, tuned),
        error=math.hypot(*errors),
        printed_errors=ses,
        of_printed=math.hypot(*ses),
        reach=spread(math.hypot, *ses),
        half=(defined.high - defined.low) / 2,
        z95=metrics.Z95,
        limits=limits(defined),
        holds_0="contains" if defined.low < 0 < defined.high else "excludes",
        **_relative("mmlu_cs", metrics.unpaired_forgetting_interval(base, tuned, *errors)),
    )


# ---- paper A: formats, and column against column ----


def formats() -> Iterator[Facts]:
    """Strict against flexible matching: how much of GSM8K's loss can be the marker's?"""
    n = published.DOCUMENTS["gsm8k"]
    cells = {
        column: [published.TABLE2[column]["gsm8k", kind].value for kind in (FLEXIBLE, STRICT)]
        for column in ("base", "llama-2k")
    }
    counts = {column: [right_answers(value, n) for value in pair] for column, pair in cells.items()}
    before, after = (flexible - strict for flexible, strict in counts.values())
    lost = counts["base"][1] - counts["llama-2k"][1]
    right = counts["llama-2k"][0]  # only these can have lost no more than the marker
    yield Facts(
        printed=" -> ".join(
            " / ".join(f"{value:.2f}" for value in pair) for pair in cells.values()
        ),
        gaps=[flexible - strict for flexible, strict in cells.values()],
        before=before,
        after=after,
        lost=lost,
        right=right,
        net=100 * (after - before) / lost,
        most=100 * right / lost,
    )


def against() -> Iterator[Facts]:
    """TinyLlama against both Llamas, score by score: z-tests with Holm over the five."""
    for base in ("base", "llama-2k"):
        rows = []
        for key in published.TABLE2[base]:
            scores = [published.TABLE2[column][key].value for column in (base, "tinyllama-50k")]
            errors = standard_errors(key, base, "tinyllama-50k")
            found = metrics.unpaired_difference(*scores, *errors)
            rows.append((key, scores, found, metrics.unpaired_z_test(*scores, *errors).p_value))
        corrected = metrics.holm([row[-1] for row in rows])
        for (key, scores, found, _), p_value in zip(rows, corrected, strict=True):
            yield Facts(
                name=title(key),
                models=[published.TABLE1[column].model for column in ("tinyllama-50k", base)],
                scores=scores,
                found=found,
                limits=limits(found, sign="+"),
                p_value=p_value,
                p_text=p_text(p_value),
            )


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

"""What is known of a benchmark, and what counts as a change: headline, measure, chance, margin.

The paper has three measures of a change (section 3): FR for GSM8K, dA for HellaSwag, dK for MMLU.
Other tasks take the one that fits their kind: FR where an answer is generated, dA where endings are
chosen.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

STRICT, FLEXIBLE = "exact_match,strict-match", "exact_match,flexible-extract"
ACC, ACC_NORM = "acc,none", "acc_norm,none"
MARGIN = 2.0  # points: a smaller change counts as kept, once it is shown to be smaller
ALPHA = 0.05  # level of every claim


class Benchmark(NamedTuple):
    """How the paper reads one benchmark."""

    metrics: dict[str, str]  # lm-eval's metric -> row title
    headline: str  # the metric that the measure is computed from
    measure: str  # FR, dA or dK
    unit: str
    chance: float | None  # per cent right by guessing


_MMLU = Benchmark({ACC: "acc"}, ACC, "dK", "points", 25.0)
BENCHMARKS: dict[str, Benchmark] = {
    "gsm8k": Benchmark({FLEXIBLE: "flexible", STRICT: "strict"}, FLEXIBLE, "FR", "%", None),
    "hellaswag": Benchmark({ACC: "acc", ACC_NORM: "acc_norm"}, ACC_NORM, "dA", "points", 25.0),
    "mmlu_cs": _MMLU,
    "mmlu_cs_college": _MMLU,
}
MEASURES = {"FR": "forgetting rate", "dA": "ability augmentation", "dK": "knowledge loss"}

# lm-eval's task -> the role it plays in the paper; a slimlib arm says its tasks' roles itself.
ROLES = {
    "gsm8k": "gsm8k",
    "hellaswag": "hellaswag",
    "mmlu_high_school_computer_science": "mmlu_cs",
    "mmlu_college_computer_science": "mmlu_cs_college",
}
TITLES = {
    "gsm8k": "GSM8K",
    "hellaswag": "HellaSwag",
    "mmlu": "MMLU",
    "mmlu_high_school_computer_science": "MMLU-CS",
    "mmlu_college_computer_science": "MMLU college CS",
}
# Shares of right answers, best known first: the first that a task has is its headline.
HEADLINES = (FLEXIBLE, STRICT, "exact_match", "acc_norm", "acc", "em", "f1")
# Not shares of right answers, whatever their size: a difference in points would be nonsense.
NOT_SHARES = (
    *("word_perplexity", "byte_perplexity", "perplexity", "bits_per_byte"),
    *("brier_score", "likelihood_diff", "bleu", "chrf", "ter", "bypass", "mae", "mse", "wer"),
    *("mcc", "matthews_correlation", "pearson", "spearman", "eqbench", "percent_parseable"),
    *(
        f"{name}_{kind}"
        for name in ("bleu", "rouge1", "rouge2", "rougeL")
        for kind in ("max", "diff")
    ),
    *("exact", "HasAns_exact", "HasAns_f1", "NoAns_exact", "NoAns_f1", "best_exact", "best_f1"),
)


def role_of(task: str) -> str | None:
    """The role that a task of lm-eval plays in the paper; None for one that the paper lacks."""
    return ROLES.get(task)


def headline(role: str | None, names: Iterable[str]) -> str:
    """The one metric that a task is judged by.

    Args:
        role: of the paper, or None.
        names: "metric,filter" of the metrics that both results have; at least one.
    """
    names = list(names)
    if role in BENCHMARKS and BENCHMARKS[role].headline in names:
        return BENCHMARKS[role].headline
    ranked = [n for h in HEADLINES for n in names if n == h or n.partition(",")[0] == h]
    return (ranked or names)[0]


def measure_of(task: str, role: str | None, metric: str) -> str:
    """The paper's measure of a task's change: FR, dA or dK."""
    if role in BENCHMARKS:
        return BENCHMARKS[role].measure
    if task.startswith("mmlu"):
        return "dK"
    return "dA" if metric.startswith("acc") else "FR"


def title_of(task: str, role: str | None, metric: str) -> str:
    """A row's title: "GSM8K, flexible"."""
    known = BENCHMARKS[role].metrics if role in BENCHMARKS else {}
    name, _, kind = metric.partition(",")
    plain = name if kind in ("", "none") else f"{name} ({kind})"
    return f"{TITLES.get(task, task)}, {known.get(metric, plain)}"


def is_right_or_wrong(name):
    return name.partition(",")[0] in ("acc", "acc_norm", "exact_match", "em")


def why_not_judged(name, *tasks):
    return "it is no share of right answers" if name.partition(",")[0] in NOT_SHARES else ""

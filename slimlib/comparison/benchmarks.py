"""What is known of a benchmark and of a metric: what it measures, what a guess gets, what counts.

What lm-eval's own files say of its tasks and metrics is in lm_eval_tasks.json, which
figures/lm_eval_registry.py writes; what kind of number a metric is, is told here by its name.

The paper has three measures of a change (section 3): FR for GSM8K, dA for HellaSwag, dK for MMLU.
Other tasks take the one that fits their kind: FR where an answer is generated, dA where endings are
chosen.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

STRICT, FLEXIBLE = "exact_match,strict-match", "exact_match,flexible-extract"
EXACT = "exact_match,none"  # the whole answer, letter by letter
ACC, ACC_NORM = "acc,none", "acc_norm,none"
BYTES = "byte_probability,none"  # of slimlib.data.alpaca
MARGIN = 2.0  # points: a smaller change counts as kept, once it is shown to be smaller
ALPHA = 0.05  # level of every claim

REGISTRY = Path(__file__).with_name("lm_eval_tasks.json")

SHARE, RATE = "share of right answers", "rate without direction"
CORPUS, LOSS = "corpus score", "loss or perplexity"
# Names of metrics, in any spelling; the first that fits says the kind.
KINDS = {
    SHARE: r"(bleu|rouge.*|bert.*|comet)_acc|byte_probability",  # how right, from 0 to 1
    LOSS: r"(.*_)?perplexity|ppl|bits_per_byte|bpb|brier(_score)?|(.*_)?loss|nll|mae|r?mse|wer|cer",
    RATE: r"pct_.*|(log)?likelihood(_diff)?|bypass|(.*_)?bias(_score)?(_.*)?|difference_.*"
    r"|.*toxic.*|percent_parseable|extraction_rate|.*consistency_rate|average_len",
    CORPUS: r"(.*_)?(sacre)?bleu(rt|_.*)?|chrf.*|(.*_)?ter|(.*_)?rouge.*|(.*_)?bert(_?score.*)?"
    r"|(.*_)?comet.*|meteor.*|mcc|matthews.*|(.*_)?(pearson|spearman|kendall).*|f1-radgraph"
    r"|eqbench|mrr|code_sim_score|libra_score|(hasans|noans|best)_(exact|f1)",
}
# Shares that lm-eval makes of all documents at once, without a standard error.
WHOLE_SHARES = r"(.*_)?(acc|accuracy|exact_match|em|contains)(_.*)?"


class Metric(NamedTuple):
    """What kind of number a metric is."""

    kind: str  # SHARE, RATE, CORPUS or LOSS
    higher_is_better: bool | None  # None: neither is
    stderr: str | None  # how lm-eval makes its standard error: "mean", "bootstrap"; None: not


class TaskFacts(NamedTuple):
    """What is known of a task from its name."""

    output_type: str | None  # lm-eval's: multiple_choice, generate_until, ...
    choices: int | None  # None: not a choice, or another number in each document
    capability: str  # commonsense, knowledge, maths, language, instruction, safety, other
    metrics: dict[str, tuple[str | None, bool | None]]  # stderr, direction, where not as usual

    @property
    def chance(self) -> float | None:
        """Share right by guessing among the choices; None where they are not known."""
        return 1 / self.choices if self.choices else None

    @property
    def floor(self) -> float | None:
        """Share right without any ability: 0 of written answers, else chance."""
        return 0.0 if self.output_type == "generate_until" else self.chance


class Benchmark(NamedTuple):
    """How the paper reads one benchmark."""

    metrics: dict[str, str]  # lm-eval's metric -> row title
    headline: str  # the metric that the measure is computed from
    measure: str  # FR, dA or dK
    unit: str
    chance: float | None  # per cent right by guessing


_MMLU = Benchmark({ACC: "acc"}, ACC, "dK", "points", 25.0)
_WRITTEN = Benchmark({FLEXIBLE: "flexible", STRICT: "strict"}, FLEXIBLE, "FR", "%", None)
_CHOSEN = Benchmark({ACC: "acc"}, ACC, "FR", "%", None)


def _endings(choices: int, *metrics: str) -> Benchmark:
    names = {metric: metric.partition(",")[0] for metric in metrics}
    return Benchmark(names, metrics[-1], "dA", "points", 100 / choices)


BENCHMARKS: dict[str, Benchmark] = {
    "gsm8k": _WRITTEN,
    "hellaswag": _endings(4, ACC, ACC_NORM),
    "mmlu_cs": _MMLU,
    "mmlu_cs_college": _MMLU,
    # beside the paper's: what micro's fine-tuning teaches, and the study smol's
    "instructions": Benchmark({EXACT: "exact"}, EXACT, "dA", "points", None),
    "arc_easy": _endings(4, ACC, ACC_NORM),
    "piqa": _endings(2, ACC, ACC_NORM),
    "winogrande": _endings(2, ACC),
    # what is learned
    "alpaca": Benchmark({BYTES: "probability of a byte"}, BYTES, "dA", "points", None),
    **{f"digits_{wording}": _WRITTEN for wording in ("equation", "words", "question")},
    **{f"digits_{wording}_chosen": _CHOSEN for wording in ("equation", "words", "question")},
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


@functools.cache
def _registry() -> tuple[dict[str, Any], dict[str, TaskFacts]]:
    """lm-eval's metrics, (stderr, direction) each, and its tasks by the beginnings of names."""
    data = json.loads(REGISTRY.read_text(encoding="utf-8"))
    metrics = {name: (stderr, better) for name, stderr, better in data["metrics"]}
    tasks = {}
    for output_type, choices, capability, own, names in data["tasks"]:
        own = {name: tuple(row) for name, row in own.items()}
        for name in names.split():
            tasks[name] = TaskFacts(output_type, choices, capability, own)
    return metrics, tasks


def task_facts(task: str) -> TaskFacts | None:
    """Look a task of lm-eval up; one with a new ending takes after those that begin alike.

    Returns:
        None for a task that lm-eval 0.4.13 does not have.
    """
    _, tasks = _registry()
    return next((tasks[prefix] for prefix in prefixes(task) if prefix in tasks), None)


def prefixes(name: str) -> Iterator[str]:
    """A name and its beginnings up to each "_" or "-", the longest first."""
    yield name
    for separator in reversed(list(re.finditer("[_-]", name))):
        if separator.start():
            yield name[: separator.start()]


def metric_of(
    name: str,
    higher_is_better: bool | None = None,
    task: str | None = None,
    mean: bool = False,
) -> Metric | None:
    """Tell what kind of number a metric is.

    Args:
        name: "metric,filter", or the metric alone.
        higher_is_better: what the results say of it; None: nothing.
        task: of lm-eval; F1 is a mean over documents in one and of the corpus in another.
        mean: the documents' own scores are known and average to it.

    Returns:
        None for a metric that is not known: it can be shown, but not judged.
    """
    metric = name.partition(",")[0]
    usual, _ = _registry()
    facts = task_facts(task) if task else None
    known = (facts.metrics if facts else {}).get(metric) or usual.get(metric)
    kind = _kind(metric)
    if known is None and kind is None:
        return None
    stderr, better = known or (None, None)
    stderr = "mean" if mean else stderr
    if kind is None:
        whole = re.fullmatch(WHOLE_SHARES, metric.lower())
        kind = SHARE if stderr == "mean" or whole else CORPUS
    better = better if higher_is_better is None else higher_is_better
    if kind == SHARE and better is False:
        kind = RATE  # of something that should not be
    elif kind == RATE:
        better = None
    elif better is None:
        better = kind != LOSS
    return Metric(kind, better, stderr)


def _kind(metric: str) -> str | None:
    """The kind that a name tells; None: it depends on how the score is made."""
    name = metric.strip().lower().replace(" ", "_")
    return next((kind for kind, names in KINDS.items() if re.fullmatch(names, name)), None)


def why_not_judged(
    name: str,
    higher_is_better: bool | None = None,
    task: str | None = None,
    mean: bool = False,
) -> str:
    """Say why a change of a metric is no loss or gain of ability; "" for a share of right answers.

    Args:
        name: see `metric_of`; the others alike.
        higher_is_better: see there.
        task: see there.
        mean: see there.
    """
    metric = metric_of(name, higher_is_better, task, mean)
    if metric is None:
        return "what it measures is not known"
    if metric.kind == SHARE:
        return ""
    return f"it is no share of right answers but a {metric.kind}"


def is_right_or_wrong(name: str) -> bool:
    """Whether each document is right or wrong by a metric, so that its error follows from n.

    Args:
        name: "metric,filter", or the metric alone.
    """
    return re.fullmatch(WHOLE_SHARES, name.partition(",")[0].lower()) is not None


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

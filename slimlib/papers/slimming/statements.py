"""The audit as a table: what each paper says, beside what its own numbers give.

Wording alone: every number is filled in from `recomputed`, `pairings`, `savings` or
`interpretations`, and the verdict is a rule on it. Neighbours with the same facts are said
together, once for each namespace of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from types import SimpleNamespace as Facts
from typing import NamedTuple

from slimlib.papers.slimming import interpretations, pairings, published, recomputed, savings
from slimlib.papers.slimming.findings import (
    AGREES,
    DIFFERS,
    NOT_ESTABLISHED,
    UNCHECKABLE,
    Finding,
    judge,
)


class Statement(NamedTuple):
    """A claim, what is printed, what a recomputation gives and why; numbers stand in braces."""

    facts: Callable[[], Iterator[Facts]]
    claim: str
    printed: str
    recomputed: str
    why: str
    verdict: Callable[[Facts], str] = lambda f: f.verdict


def established(holds: bool) -> str:
    """The verdict on a claim that a test must bear out."""
    return AGREES if holds else NOT_ESTABLISHED


def relative(facts: Callable[[], Iterator[Facts]]) -> Statement:
    """The statement on a loss relative to the base."""
    return Statement(
        facts,
        "{name}: relative loss in the text",
        "{relative_printed} %",
        "{relative:.1f} %",
        "95 % interval {relative_limits} (Fieller, unpaired).",
        lambda f: judge(f.relative_printed, f.relative, 0),
    )


PAPER_A: Sequence[Statement] = (
    Statement(
        recomputed.plus_minus,
        "{name}: '+-' is {what}",
        "{printed}",
        "{recomputed}",
        "{why} (base / 2k / 50k).",
    ),
    Statement(
        recomputed.documents,
        "{name}: number of documents",
        "{printed}",
        "{n:,}",
        "The '+-' of Table 2 fit {low:,} to {high:,}{why}",
    ),
    Statement(
        recomputed.forgetting,
        "GSM8K: forgetting rate FR",
        "{printed:.2f} %",
        "{rounded:.2f} % from the printed scores, {exact.value:.2f} % from the counts",
        "{right[0]} and {right[1]} of {n:,} answers are right; 95 % interval {limits} "
        "(Fieller, unpaired).",
        lambda f: judge(f.printed, f.rounded, 2, f.allowed),
    ),
    Statement(
        recomputed.forgetting,
        "GSM8K: the forgetting is catastrophic",
        "FR > {catastrophic:.0f} %",
        "FR {exact.value:.2f} %, lower limit {exact.low:.2f} %",
        "By the author's records 'base' is another checkpoint than the one that was "
        "fine-tuned, so that the fine-tuning alone need not be the cause.",
        lambda f: established(f.exact.low > f.catastrophic),
    ),
    relative(recomputed.forgetting),
    Statement(
        recomputed.augmentation,
        "HellaSwag: dA",
        "{printed:+.2f}",
        "{value:+.2f}, standard error {error:.2f}",
        "95 % interval {limits} points.",
        lambda f: judge(f.printed, f.value, 2, f.allowed),
    ),
    Statement(
        recomputed.augmentation,
        "HellaSwag: dA shows an improvement",
        "{printed:+.2f}",
        "z = {z:.2f}, {p_text}",
        "{improved}",
        lambda f: established(f.p_value < published.ALPHA),
    ),
    Statement(
        recomputed.augmentation,
        "HellaSwag: commonsense reasoning is kept",
        "kept",
        "within {margin:g} points: {p_same_text} (TOST)",
        "A change of {margin:g} points or more, up or down, is {excluded}, unpaired; the "
        "margin is this project's, the paper names none.",
        lambda f: established(f.p_same < published.ALPHA),
    ),
    Statement(
        recomputed.knowledge,
        "MMLU-CS: dK",
        "{printed.value:.2f}",
        "{defined.value:.2f}",
        "{base:.2f} - {tuned:.2f} points.",
        lambda f: judge(f.printed.value, f.defined.value, 2, f.allowed),
    ),
    Statement(
        recomputed.knowledge,
        "MMLU-CS: '+-' of dK is one standard error",
        "+- {printed.plus_minus:.2f}",
        "+- {error:.2f}",
        "sqrt({printed_errors[0]:.2f}^2 + {printed_errors[1]:.2f}^2) = {of_printed:.2f}, "
        "from the printed ones; by their rounding alone it may be {reach[0]:.3f} to "
        "{reach[1]:.3f}.",
        lambda f: judge(f.printed.plus_minus, f.of_printed, 2, f.reach),
    ),
    Statement(
        recomputed.knowledge,
        "MMLU-CS: '+-' of dK is the 95 % interval that the paper defines",
        "+- {printed.plus_minus:.2f}",
        "+- {half:.2f}",
        "The definition has z = {z95}; the interval is then {limits} points and {holds_0} 0.",
        lambda f: judge(f.printed.plus_minus, f.half, 2),
    ),
    relative(recomputed.knowledge),
    Statement(
        pairings.stars,
        "{name}: the paired t-test behind the star of {measure}",
        "{printed}",
        "{lowest} to {highest}, by how the answers pair",
        "No per-document file is public. The range is over every pairing that has the "
        "published numbers of right answers.",
        lambda f: UNCHECKABLE,
    ),
    Statement(
        pairings.stars,
        "{name}: {measure} is significant at {level:.0f} %",
        "{printed} (p < {alpha:g})",
        "z = {z:.2f}, {p_text} unpaired",
        "{why}",
    ),
    Statement(
        recomputed.formats,
        "GSM8K: strict and flexible matching fall alike",
        "{printed}",
        "gap {gaps[0]:.2f} -> {gaps[1]:.2f} points",
        "Flexible / strict, {before} -> {after} answers apart: net {net:.1f} % of the "
        "{lost} strict answers lost, and no more than {most:.1f} %, since {right} answers "
        "are right by flexible matching. An answer that runs on fails both ways.",
        lambda f: AGREES if f.most < 50 else DIFFERS,
    ),
    Statement(
        recomputed.against,
        "{name}: {models[0]} differs from {models[1]}",
        "{scores[0]:.2f} -> {scores[1]:.2f}",
        "{found.value:+.2f} ({limits}), {p_text}",
        "Points with their 95 % interval; unpaired z-test, Holm over the five scores. "
        "Model, data and hyperparameters change together: no difference is the effect of "
        "one of them.",
        lambda f: established(f.p_value < published.ALPHA),
    ),
    Statement(
        savings.lora_example,
        "LoRA with r = {example.r} on a {example.d_in:,} x {example.d_out:,} matrix",
        "{example.trainable:,} of {example.frozen:,}",
        "{trainable:,} of {frozen:,}",
        "r (d_in + d_out): {share:g} % of the matrix.",
        lambda f: AGREES if f.example[3:] == (f.trainable, f.frozen) else DIFFERS,
    ),
    Statement(
        interpretations.near_total_loss,
        "Interpretation 1: fine-tuning lost mathematical reasoning almost wholly",
        "{relative} % relative loss, beyond {line:.0f} % FR",
        "FR {rate:.2f} % ({limits})",
        "The loss is established, its cause is not: by the author's records 'base' is {base}, the "
        "fine-tuned model comes from another checkpoint, and its adapter was merged into 4 bit. "
        "Which of the three took how much, and whether a format was lost or an ability, takes "
        "answers that are not public.",
        lambda f: NOT_ESTABLISHED,
    ),
    Statement(
        interpretations.kept_by_structure,
        "Interpretation 2: commonsense is kept because of shared structure",
        "dA {value:+.2f}: structural knowledge persists",
        "within {margin:g} points, {p_same} (TOST)",
        "That it is kept is established; the two reasons given (constraints of the architecture, a "
        "shared space of representations) were not varied, and nothing printed measures them.",
        lambda f: UNCHECKABLE,
    ),
    Statement(
        interpretations.partial_unlearning,
        "Interpretation 3: knowledge is partly unlearned, and so is moderately robust",
        "{relative} % relative loss",
        "{value:.2f} points ({limits}), {p_text}",
        "{n:,} questions, unpaired. A robustness would take an upper limit on the loss that is "
        "small. One run, and another checkpoint as base.",
        lambda f: established(f.p_value < published.ALPHA),
    ),
    Statement(
        interpretations.architecture,
        "Interpretation 4: architecture outweighs {times:.0f} times the data",
        "{one:.2f} % against {other:.2f} % on MMLU-CS",
        "{value:.2f} points ({limits}), {p_text}",
        "{n:,} questions, unpaired. Model, data, rank, learning rate and hardware change "
        "together: a gap would not be the architecture's alone.",
        lambda f: established(f.p_value < published.ALPHA),
    ),
)
PAPER_B: Sequence[Statement] = (
    Statement(
        savings.mlp_savings,
        "{model}: MLP rank / {divisor} saves trainable parameters",
        "{printed:.2f} %",
        "{trainable:.2f} %; of the frozen weights {frozen:.2f} %",
        "What is printed are shares of the frozen weights{cut}, d_in d_out for each "
        "matrix; LoRA trains r (d_in + d_out). They would be right for QA-HiRA. On our "
        "models it is {here}.",
        lambda f: judge(f.printed, f.trainable, 2),
    ),
)


def findings_of(paper: str, table: Sequence[Statement]) -> Iterator[Finding]:
    """The table's findings, with the numbers filled in."""
    for facts_of, group in groupby(table, key=lambda statement: statement.facts):
        statements = list(group)
        for facts in facts_of():
            for s in statements:
                texts = (s.claim, s.printed, s.recomputed, s.why)
                claim, printed, found, why = (text.format_map(vars(facts)) for text in texts)
                yield Finding(paper, claim, printed, found, s.verdict(facts), why)

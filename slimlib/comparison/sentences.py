"""Comparisons in words and tables: every sentence is made from a `Change`, none is typed in.

A claim always carries its interval, its p-value and the test; what is not established says so and
how large a change these results could have shown.
"""

from __future__ import annotations

import html
import math
import shutil
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from slimlib.comparison.benchmarks import LOSS_NAMES
from slimlib.comparison.change import FORGOT, HEADLINE, IMPROVED, KEPT, UNKNOWN, Change
from slimlib.metrics.text import interval, markdown_table, markdown_text, number, p_cell, p_text

if TYPE_CHECKING:
    from slimlib.comparison.answers import FormatOrAbility
    from slimlib.comparison.ladder import Attribution, Step
    from slimlib.comparison.two_models import Comparison

LEGEND = (
    "Accuracies in per cent, differences tuned - base in points; 95 % intervals, each for itself. "
    "FR is the forgetting rate, dA the ability augmentation, dK the knowledge loss (its ± is 1.96 "
    "unpaired standard errors, as the paper defines it). lost: right -> wrong, gained: the reverse."
)


def verdict_sentence(change: Change, comparison: Comparison) -> str:
    """One change in words: verdict, numbers, test, loss, and what it cannot say."""
    meaning = _meaning(change, comparison.margin, comparison.alpha)
    return f"{change.title}: {change.verdict}. {_numbers(change)}. {meaning}"


def _numbers(change: Change) -> str:
    known = not math.isnan(change.difference.low)
    limits = f", 95 % interval {interval(change.difference, '+')}" if known else ""
    return (
        f"{number(change.base)} -> {number(change.tuned)} % "
        f"({number(change.difference.value, sign='+')} points{limits}); {_test(change)}; "
        f"{_loss(change)}"
    )


def _test(change: Change) -> str:
    if change.p_value is None:
        return f"test: {change.test.removeprefix('none: ')}"
    weaker = ", weaker than a paired test" if not change.paired else ""
    count = f"n = {change.n:,}, " if change.n else ""
    flips = ""
    if change.lost is not None:
        flips = f"{change.lost:,} answers lost and {change.gained:,} gained, "
    return (
        f"{count}{flips}{change.test} {p_text(change.p_value)} "
        f"(Holm {p_text(change.p_holm)}){weaker}"
    )


def _loss(change: Change) -> str:
    estimate = change.loss_estimate
    name = f"{LOSS_NAMES[change.loss]} {change.loss} ="
    if change.loss == "FR":
        limits = interval(estimate)
        return f"{name} {number(estimate.value)} %" + (f" {limits}" if limits != "-" else "")
    spread = change.plus_minus
    if change.loss == "dK" and spread is not None:
        return f"{name} {number(estimate.value)} ± {number(spread)} points"
    return f"{name} {number(estimate.value, sign='+')} points"


def _meaning(change: Change, margin: float, alpha: float) -> str:
    within = f"within {margin:g} points (TOST, Holm {p_text(change.p_equivalence_holm)})"
    if change.verdict in (FORGOT, IMPROVED):
        kind = "loss" if change.verdict == FORGOT else "gain"
        small = change.p_equivalence_holm is not None and change.p_equivalence_holm < alpha
        return f"The {kind} is real" + (f", and small: {within}." if small else ".")
    if change.verdict == KEPT:
        return f"The same {within}."
    same = change.difference.value == 0
    seen = "No difference was seen" if same else "The difference is not established"
    return f"{seen}{_could_show(change)}."


def _could_show(change: Change) -> str:
    """The smallest change that the test finds 80 % of the time, as far as base has room for it."""
    points, base = change.detectable, number(change.base)
    if points is None:
        return ""
    losable, gainable = points <= change.base, points <= 100 - change.base
    if not (losable or gainable) or points >= 100:  # 100 stands for 100 or more
        return (
            f", and no change could have been shown: from {base} % not even the largest is found "
            "80 % of the time"
        )
    what = "change" if losable and gainable else "loss" if losable else "gain"
    text = (
        f": with these results the test, before Holm's correction, would find a {what} of "
        f"{number(points, 1)} points 80 % of the time"
    )
    other = {"loss": "gain", "gain": "loss"}.get(what)
    return text + (f"; from {base} % no {other} could have been shown" if other else "")


def change_table(changes: Sequence[Change]) -> pd.DataFrame:
    """One row per task and metric, as text; index: the row's title."""
    rows = [
        {
            "task and metric": ("  " if c.family != HEADLINE else "") + c.title,
            "base": number(c.base),
            "tuned": number(c.tuned),
            "difference": number(c.difference.value, sign="+"),
            "95 % interval": interval(c.difference, "+"),
            "p": p_cell(c.p_value),
            "p (Holm)": p_cell(c.p_holm),
            "test": c.test.partition(":")[0].removeprefix("exact "),
            "lost": "-" if c.lost is None else f"{c.lost:,}",
            "gained": "-" if c.gained is None else f"{c.gained:,}",
            "loss": _short_loss(c),
            "n": "-" if c.n is None else f"{c.n:,}",
            "verdict": c.verdict,
        }
        for c in changes
    ]
    return pd.DataFrame(rows).set_index("task and metric")


def _short_loss(change: Change) -> str:
    estimate = change.loss_estimate
    if change.loss == "FR":
        limits = interval(estimate)
        return f"FR {number(estimate.value)}" + (f" {limits}" if limits != "-" else "")
    spread = change.plus_minus if change.loss == "dK" else None
    value = number(estimate.value, sign="+" if change.loss == "dA" else "")
    return f"{change.loss} {value}" + (f" ± {number(spread)}" if spread is not None else "")


def title(comparison: Comparison) -> str:
    """What is compared with what."""
    return f"{comparison.tuned.name}, against {comparison.base.name}"


def rules(comparison: Comparison) -> str:
    """The rules that the verdicts follow, in one sentence each."""
    paired = {c.paired for c in comparison.changes}
    how = "document by document" if True in paired else ""
    how += "; " if len(paired) > 1 else ""
    how += "from aggregates where answers are missing (unpaired, weaker)" if False in paired else ""
    return (
        f"Compared {how}. Forgot, improved: p below {comparison.alpha:g} after Holm's correction "
        "over the tasks (other metrics and subtasks are families of their own), and a 95 % "
        f"interval without 0. Kept: a change of {comparison.margin:g} points or more is ruled out "
        "(TOST, corrected likewise)."
    )


def answers_sentences(task: str, answers: FormatOrAbility) -> list[str]:
    """Format or ability in words, and for each reason the first answer that was lost to it."""
    lines = [f"{task}, format or ability? {answers.sentence()}"]
    for reason, count in answers.reasons.items():
        for example in answers.examples(reason, k=1).to_dict("records"):
            texts = {key: _short(example[key]) for key in ("gold", "base_answer", "tuned_answer")}
            lines.append(
                f'{reason} ({count}), as document {example["doc_id"]}: gold "{texts["gold"]}", '
                f'before "{texts["base_answer"]}", after "{texts["tuned_answer"]}"'
            )
    return lines


def _short(text: str, width: int = 90) -> str:
    """The end of a long text, where the answer is, on one line."""
    text = " ".join(str(text).split())
    return text if len(text) <= width else f"... {text[-width:]}"


def comparison_text(comparison: Comparison, columns: int | None = None) -> str:
    """Verdict, format or ability, table, rules and notes for a terminal."""
    columns = columns or shutil.get_terminal_size((160, 24)).columns
    width = min(columns, 100)
    lines = [title(comparison), "=" * len(title(comparison)), ""]
    for sentence in comparison.sentences().splitlines():
        lines.append(textwrap.fill(sentence, width, subsequent_indent="  "))
    for task, answers in comparison.answers.items():
        lines.append("")
        for said in answers_sentences(task, answers):
            lines.append(textwrap.fill(said, width, subsequent_indent="  "))
    lines += ["", change_table(comparison.changes).to_string(line_width=columns), ""]
    for note in (LEGEND, rules(comparison), *comparison.notes):
        lines.append(textwrap.fill(note, width, initial_indent="- ", subsequent_indent="  "))
    return "\n".join(lines)


def comparison_markdown(comparison: Comparison) -> str:
    """Verdict, table and notes as Markdown; cells are escaped."""
    lines = [f"### {markdown_text(title(comparison))}", ""]
    lines += [f"- {markdown_text(sentence)}" for sentence in comparison.sentences().splitlines()]
    for task, answers in comparison.answers.items():
        first, *others = map(markdown_text, answers_sentences(task, answers))
        lines += [f"- {first}", *(f"  - {other}" for other in others)]
    lines += ["", _markdown(change_table(comparison.changes)), ""]
    lines += [f"- {markdown_text(n)}" for n in (LEGEND, rules(comparison), *comparison.notes)]
    return "\n".join(lines)


def _markdown(table: pd.DataFrame) -> str:
    """A DataFrame of texts, its index first, as a Markdown table."""
    head = [str(table.index.name or ""), *map(str, table.columns)]
    rows = zip(table.index, table.to_numpy(), strict=True)
    return markdown_table(head, [[str(name).strip(), *map(str, row)] for name, row in rows])


def comparison_html(comparison: Comparison) -> str:
    """Verdict, table and notes for a notebook."""
    said = "".join(f"<li>{html.escape(s)}</li>" for s in comparison.sentences().splitlines())
    said += "".join(
        f"<li>{html.escape(sentence)}</li>"
        for task, answers in comparison.answers.items()
        for sentence in answers_sentences(task, answers)
    )
    notes = "".join(
        f"<p><small>{html.escape(note)}</small></p>"
        for note in (LEGEND, rules(comparison), *comparison.notes)
    )
    heading = html.escape(title(comparison))
    return f"<h4>{heading}</h4><ul>{said}</ul>{change_table(comparison.changes).to_html()}{notes}"


# ------------------------------------------------------------------------------------- the ladder


def ladder_table(attribution: Attribution) -> pd.DataFrame:
    """One row per benchmark and step, and the whole change, as text."""
    rows = []
    for role, steps in attribution.steps.items():
        label = attribution.study.task_labels[role]
        total = attribution.totals[role]
        shown = [(f"{s.before} -> {s.after}", s.cause, s.change, s.share) for s in steps]
        for name, cause, change, share in [*shown, ("all steps together", "", total, None)]:
            rows.append(
                {"benchmark": label, "step": name, "cause": cause}
                | _step_cells(change)
                | {"share of the whole": "-" if share is None else f"{share:.0f} %"}
                | {"verdict": change.verdict}
            )
    columns = ["benchmark", "step", "cause", "before", "after", "change", "95 % interval"]
    columns += ["p (Holm)", "share of the whole", "verdict"]
    return pd.DataFrame(rows, columns=columns).set_index(["benchmark", "step"])


def _step_cells(change: Change) -> dict[str, str]:
    return {
        "before": number(change.base, 1),
        "after": number(change.tuned, 1),
        "change": number(change.difference.value, 1, "+"),
        "95 % interval": interval(change.difference, "+", 1),
        "p (Holm)": p_cell(change.p_holm),
    }


def ladder_sentences(attribution: Attribution) -> list[str]:
    """Per benchmark: the whole change, then each step with its interval, p-value and share."""
    lines = []
    for role, steps in attribution.steps.items():
        total = attribution.totals[role]
        cells = _step_cells(total)
        lines.append(
            f"{attribution.study.task_labels[role]}: {cells['before']} -> {cells['after']} %, "
            f"{cells['change']} points {cells['95 % interval']}, {total.verdict}"
        )
        lines += [f"  {_step_sentence(step)}" for step in steps]
    if attribution.missing:
        lines.append(f"without results: {', '.join(attribution.missing)}")
    return lines


def _step_sentence(step: Step) -> str:
    cells = _step_cells(step.change)
    share = "" if step.share is None else f", {step.share:.0f} % of the whole"
    verdict = {FORGOT: "lost", IMPROVED: "gained", KEPT: "kept"}.get(
        step.change.verdict, "may be chance"
    )
    return (
        f"{step.cause} ({step.before} -> {step.after}): {cells['change']} points "
        f"{cells['95 % interval']}, Holm {p_text(step.change.p_holm)}, {verdict}{share}"
    )


def question_sentences(attribution: Attribution) -> list[str]:
    """The study's other comparisons: question, and the answer per benchmark."""
    lines = []
    for question, comparison in attribution.answers:
        lines.append(f"{question.text} ({question.base} -> {question.tuned})")
        for role, label in attribution.study.task_labels.items():
            change = comparison.of(role)
            if change:
                cells = _step_cells(change)
                lines.append(
                    f"  {label}: {cells['before']} -> {cells['after']} %, {cells['change']} points "
                    f"{cells['95 % interval']}, Holm {p_text(change.p_holm)}: "
                    f"{_QUESTION_WORDS[change.verdict]}"
                )
    return lines


# Between two models that are not before and after of one another nothing was forgotten.
_QUESTION_WORDS = {
    FORGOT: "worse",
    IMPROVED: "better",
    KEPT: "the same within the margin",
    UNKNOWN: UNKNOWN,
}


def ladder_markdown(attribution: Attribution) -> str:
    """Ladder and questions as Markdown."""
    table = ladder_table(attribution).reset_index().set_index("benchmark")
    said = [markdown_text(line) for line in question_sentences(attribution)]
    lists = [f"  - {line.strip()}" if line.startswith("  ") else f"- {line}" for line in said]
    return "\n".join([_markdown(table), "", *lists])


def ladder_html(attribution: Attribution) -> str:
    """Ladder and questions for a notebook."""
    said = "".join(f"<li>{html.escape(s)}</li>" for s in question_sentences(attribution))
    return f"{ladder_table(attribution).to_html()}<ul>{said}</ul>"

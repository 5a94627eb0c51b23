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

from slimlib.benchmarks import LOSS_NAMES
from slimlib.changes import FORGOT, IMPROVED, KEPT, UNKNOWN, Change
from slimlib.comparison import Comparison
from slimlib.metrics import Estimate

if TYPE_CHECKING:
    from slimlib.attribution import Attribution, Step

LEGEND = (
    "Accuracies in per cent, differences tuned - base in points, intervals of 95 %. FR is the "
    "forgetting rate, dA the ability augmentation, dK the knowledge loss (its ± is 1.96 unpaired "
    "standard errors, as the paper defines it). lost: right -> wrong, gained: wrong -> right."
)


def number(value: float | None, digits: int = 2, sign: str = "") -> str:
    """A number for a table: "-" where it is not known, "undefined" where it does not exist."""
    if value is None:
        return "-"
    if math.isnan(value):
        return "undefined"
    if math.isinf(value):
        return "unbounded"
    return f"{round(value, digits) + 0.0:{sign}.{digits}f}"  # + 0.0 turns -0.0 into 0.0


def p_value(p: float | None) -> str:
    """ "p = 0.060", "p < 0.001"; "p unknown" where there was nothing to compute it from."""
    if p is None or math.isnan(p):
        return "p unknown"
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def plain_p(p: float | None) -> str:
    """A p-value for a table: "0.060", "< 0.001", "-" where there is none."""
    return "-" if p is None else p_value(p).removeprefix("p ").removeprefix("= ")


def interval(estimate: Estimate, sign: str = "", digits: int = 2) -> str:
    """ "[-0.55, 26.55]", or "-" where it is not known."""
    if math.isnan(estimate.low):
        return "-"
    return f"[{number(estimate.low, digits, sign)}, {number(estimate.high, digits, sign)}]"


def verdict_sentence(change: Change, margin: float) -> str:
    """One change in one sentence: verdict, numbers, test, loss, and what it cannot say."""
    return f"{change.title}: {change.verdict}. {_numbers(change)}. {_meaning(change, margin)}"


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
        f"{count}{flips}{change.test} {p_value(change.p_value)} "
        f"(Holm {p_value(change.p_holm)}){weaker}"
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


def _meaning(change: Change, margin: float) -> str:
    within = f"within {margin:g} points (TOST, Holm {p_value(change.p_equivalence_holm)})"
    if change.verdict in (FORGOT, IMPROVED):
        kind = "loss" if change.verdict == FORGOT else "gain"
        small = change.p_equivalence_holm is not None and change.p_equivalence_holm < 0.05
        return f"The {kind} is real" + (f", and small: {within}." if small else ".")
    if change.verdict == KEPT:
        return f"The same {within}."
    if change.difference.value == 0:
        power = f"changes below {number(change.detectable, 1)} points would go unseen"
        return f"No difference was seen; {power}." if change.detectable else "Nothing to test."
    if change.detectable is None:
        return "The difference is not established."
    return (
        "The difference is not established: with these results a change of "
        f"{number(change.detectable, 1)} points would be found 80 % of the time."
    )


def change_table(changes: Sequence[Change]) -> pd.DataFrame:
    """One row per task and metric, as text; index: the row's title."""
    rows = [
        {
            "task and metric": ("  " if c.family != "headline" else "") + c.title,
            "base": number(c.base),
            "tuned": number(c.tuned),
            "difference": number(c.difference.value, sign="+"),
            "95 % interval": interval(c.difference, "+"),
            "p": plain_p(c.p_value),
            "p (Holm)": plain_p(c.p_holm),
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
        f"Compared {how}. Claims at {100 * comparison.alpha:g} % after Holm's correction over the "
        f"tasks; kept: a change of {comparison.margin:g} points or more is ruled out (TOST)."
    )


def comparison_text(comparison: Comparison, columns: int | None = None) -> str:
    """Verdict, format or ability, table, rules and notes for a terminal."""
    columns = columns or shutil.get_terminal_size((160, 24)).columns
    width = min(columns, 100)
    lines = [title(comparison), "=" * len(title(comparison)), ""]
    for sentence in comparison.sentences().splitlines():
        lines.append(textwrap.fill(sentence, width, subsequent_indent="  "))
    for task, answers in comparison.answers.items():
        said = f"{task}, format or ability? {answers.sentence()}"
        lines += ["", textwrap.fill(said, width, subsequent_indent="  ")]
    lines += ["", comparison.table().to_string(line_width=columns), ""]
    for note in (LEGEND, rules(comparison), *comparison.notes):
        lines.append(textwrap.fill(note, width, initial_indent="- ", subsequent_indent="  "))
    return "\n".join(lines)


def comparison_markdown(comparison: Comparison) -> str:
    """Verdict, table and notes as Markdown; cells are escaped."""
    lines = [f"### {_cell(title(comparison))}", ""]
    lines += [f"- {_cell(sentence)}" for sentence in comparison.sentences().splitlines()]
    lines += [
        f"- {_cell(task)}, format or ability? {_cell(answers.sentence())}"
        for task, answers in comparison.answers.items()
    ]
    lines += ["", markdown_table(comparison.table()), ""]
    lines += [f"- {_cell(n)}" for n in (LEGEND, rules(comparison), *comparison.notes)]
    return "\n".join(lines)


def markdown_table(table: pd.DataFrame) -> str:
    """A DataFrame of texts, its index first, as a Markdown table."""
    head = [str(table.index.name or ""), *map(str, table.columns)]
    body = [[str(name), *row] for name, row in zip(table.index, table.to_numpy(), strict=True)]
    rows = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(_cell(str(cell).strip()) for cell in row)} |" for row in rows)


def _cell(text: str) -> str:
    """Text that neither ends a Markdown cell nor starts HTML."""
    for character, escaped in (("&", "&amp;"), ("<", "&lt;"), ("|", "\\|"), ("\n", " ")):
        text = text.replace(character, escaped)
    return text


def comparison_html(comparison: Comparison) -> str:
    """Verdict, table and notes for a notebook."""
    said = "".join(f"<li>{html.escape(s)}</li>" for s in comparison.sentences().splitlines())
    said += "".join(
        f"<li>{html.escape(task)}, format or ability? {html.escape(answers.sentence())}</li>"
        for task, answers in comparison.answers.items()
    )
    notes = "".join(
        f"<p><small>{html.escape(note)}</small></p>"
        for note in (LEGEND, rules(comparison), *comparison.notes)
    )
    heading = html.escape(title(comparison))
    return f"<h4>{heading}</h4><ul>{said}</ul>{comparison.table().to_html()}{notes}"


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
        "p (Holm)": plain_p(change.p_holm),
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
        f"{cells['95 % interval']}, Holm {p_value(step.change.p_holm)}, {verdict}{share}"
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
                    f"{cells['95 % interval']}, Holm {p_value(change.p_holm)}: "
                    f"{_QUESTION_WORDS[change.verdict]}"
                )
    return lines


# Between two models that are not before and after of one another nothing was forgotten.
_QUESTION_WORDS = {
    FORGOT: "worse",
    IMPROVED: "better",
    KEPT: "the same within the margin",
    UNKNOWN: "not enough data to tell",
}


def ladder_markdown(attribution: Attribution) -> str:
    """Ladder and questions as Markdown."""
    table = attribution.table().reset_index().set_index("benchmark")
    said = [_cell(line) for line in question_sentences(attribution)]
    lists = [f"  - {line.strip()}" if line.startswith("  ") else f"- {line}" for line in said]
    return "\n".join([markdown_table(table), "", *lists])


def ladder_html(attribution: Attribution) -> str:
    """Ladder and questions for a notebook."""
    said = "".join(f"<li>{html.escape(s)}</li>" for s in question_sentences(attribution))
    return f"{attribution.table().to_html()}<ul>{said}</ul>"

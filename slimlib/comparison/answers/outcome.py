"""Format or ability: what became of one task's answers, counted before and after.

Counts are documents that both models answered; why an answer was lost is read off its kind
(`answers.kinds`) and the equations inside it (`answers.equations`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from slimlib.common.document import Document, Shown
from slimlib.comparison.answers.equations import Equations
from slimlib.comparison.answers.flips import align_task, paired_ids
from slimlib.comparison.answers.kinds import (
    ARITHMETIC,
    FLEXIBLE_FILTER,
    KINDS,
    RAN_ON,
    REASONING,
    REASONS,
    RIGHT_NUMBER,
    STRICT_FILTER,
    UNSHOWN,
    answer_table,
)
from slimlib.comparison.plots import plot_answers
from slimlib.results import Results, Source, TaskResults, read_results

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class FormatOrAbility(Shown):
    """What became of the answers of one task: counts before and after, and why answers were lost.

    Counts are documents that both models answered. "Lost": strict-match right before, wrong after.
    """

    task: str
    base: str
    tuned: str
    n: int
    strict: tuple[int, int]  # right by strict-match: before, after
    flexible: tuple[int, int]  # right by flexible-extract
    gained: int  # strict-match wrong before, right after
    reasons: dict[str, int]  # REASONS -> documents lost; they add up to `lost`
    before: dict[str, int]  # KINDS -> documents; they add up to n
    after: dict[str, int]
    equations_before: Equations  # of all answers
    equations_after: Equations
    documents: pd.DataFrame = field(repr=False, compare=False)  # the lost ones; see `examples`

    @property
    def lost(self) -> int:
        """Documents that strict-match had right before and wrong after."""
        return sum(self.reasons.values())

    @property
    def lost_format(self) -> int:
        """Those of the lost whose number is right: by flexible-extract, or by value alone."""
        return self.reasons["format"] + self.reasons[RIGHT_NUMBER]

    @property
    def net_strict(self) -> int:
        """Net by strict-match: documents lost less documents gained."""
        return self.strict[0] - self.strict[1]

    @property
    def net_flexible(self) -> int:
        """The same by flexible-extract."""
        return self.flexible[0] - self.flexible[1]

    @property
    def net_format(self) -> int:
        """The same by the format alone: net_strict = net_flexible + net_format.

        It is the rise in answers that only flexible-extract has right ("format"), less the rise in
        those that only strict-match has right (`overrun`).
        """
        before, after = self.overrun
        return self.after["format"] - self.before["format"] - (after - before)

    @property
    def overrun(self) -> tuple[int, int]:
        """Answers that only strict-match has right, before and after: "#### n", then a number."""
        return self.before[RAN_ON], self.after[RAN_ON]

    def table(self) -> pd.DataFrame:
        """Kind of answer by model, what the lost answers became, and their shares in per cent."""
        import pandas as pd

        lost = {kind: self.reasons.get(kind, 0) for kind in KINDS}
        rows = [
            (self.before[kind], self.after[kind], lost[kind], self._share(lost[kind]))
            for kind in KINDS
        ]
        columns = ["base", "tuned", "lost", "% of the lost"]
        return pd.DataFrame(rows, index=pd.Index(KINDS, name="answer"), columns=columns)

    def _share(self, count: int) -> float:
        return 100 * count / self.lost if self.lost else 0.0

    def sentence(self) -> str:
        """The loss in words: its reasons, the two filters' sum, and the equations."""
        text = self._headline()
        others = [f"{self._part(r)} {_SAYINGS[r]}" for r in _SAYINGS if self.reasons[r]]
        text += f"; the others: {', '.join(others)}" if others else ""
        shares = (_percent(e.share) for e in (self.equations_before, self.equations_after))
        return f"{text}. {self._sum()} Equations right: {' before, '.join(shares)} after."

    def _headline(self) -> str:
        """How many of the lost answers had the right number, and which way it was found."""
        if not self.lost:
            return f"None of the {self.strict[0]} answers right by strict-match was lost"
        answers = "answer" if self.lost == 1 else "answers"
        text = (
            f"Of {self.lost} {answers} lost by strict-match, {self.lost_format} "
            f"({self._share(self.lost_format):.1f} %) had the right number in another format"
        )
        by_value = self.reasons[RIGHT_NUMBER]
        how = f" ({by_value} of them by value alone: flexible-extract misses it too)"
        return text + (how if by_value else "")

    def _part(self, reason: str) -> str:
        return f"{self.reasons[reason]} ({self._share(self.reasons[reason]):.1f} %)"

    def _sum(self) -> str:
        """The net change as flexible-extract's and the format's, which add up to it."""
        before, after = self.overrun
        strict, flexible, form = (-n for n in (self.net_strict, self.net_flexible, self.net_format))
        why = f' (right "#### n", then ran on to another number: {before} before, {after} after)'
        return (
            f"Net change: strict-match {strict:+d} = flexible-extract {flexible:+d} and format "
            f"alone {form:+d}{why if before != after else ''}."
        )

    def to_dict(self, examples: int = 0) -> dict[str, Any]:
        """The counts for JSON, with up to so many examples of each reason."""
        equations = {"before": self.equations_before, "after": self.equations_after}
        return {
            "task": self.task,
            "base": self.base,
            "tuned": self.tuned,
            "n": self.n,
            "strict": list(self.strict),
            "flexible": list(self.flexible),
            "lost": self.lost,
            "lost_format": self.lost_format,
            "gained": self.gained,
            "net_strict": self.net_strict,
            "net_flexible": self.net_flexible,
            "net_format": self.net_format,
            "reasons": dict(self.reasons),
            "shares": {reason: self._share(count) for reason, count in self.reasons.items()},
            "before": dict(self.before),
            "after": dict(self.after),
            "equations": {k: {**e._asdict(), "share": e.share} for k, e in equations.items()},
            "examples": {
                reason: self.examples(reason, examples).to_dict("records")
                for reason, count in self.reasons.items()
                if examples and count
            },
        }

    def examples(self, reason: str, k: int = 3) -> pd.DataFrame:
        """The first k documents lost for a reason: doc_id, question, gold and both answers.

        Raises:
            ValueError: no such reason.
        """
        if reason not in REASONS:
            raise ValueError(f"{reason!r} is no reason; choose one of: {', '.join(REASONS)}")
        lost = self.documents
        return lost[lost["reason"] == reason].head(k).drop(columns="reason").reset_index(drop=True)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Both models' kinds of answers as stacked bars."""
        return plot_answers((self.base, self.tuned), (self.before, self.after), ax)

    def points(self) -> list[str]:
        """Format or ability in words, and for each reason the first answer that was lost to it."""
        lines = [f"{self.task}, format or ability? {self.sentence()}"]
        for reason, count in self.reasons.items():
            for example in self.examples(reason, k=1).to_dict("records"):
                gold, before, after = (
                    _end(example[key]) for key in ("gold", "base_answer", "tuned_answer")
                )
                lines.append(
                    f'{reason} ({count}), as document {example["doc_id"]}: gold "{gold}", '
                    f'before "{before}", after "{after}"'
                )
        return lines

    def document(self) -> Document:
        """The loss in words, and a row for each kind of answer."""
        table = self.table()
        table["% of the lost"] = table["% of the lost"].map("{:.1f}".format)
        first, *examples = self.points()
        return Document(f"{self.tuned}, against {self.base}", [(first, examples)], table)


_SAYINGS = {
    ARITHMETIC: "with a wrong equation",
    REASONING: "wrong though the equations hold",
    UNSHOWN: "wrong without an equation",
    "no answer line": "without an answer line",
    "rambling": "run on to the length limit (an estimate)",
    "empty": "empty",
}


def _end(text: Any, width: int = 90) -> str:
    """The end of a long text, where the answer is, on one line."""
    text = " ".join(str(text).split())
    return text if len(text) <= width else f"... {text[-width:]}"


def _percent(share: float | None) -> str:
    return "none to check" if share is None else f"{share:.0f} %"


def format_or_ability(
    base: TaskResults | Source,
    tuned: TaskResults | Source,
    task: str | None = None,
    strict: bool = True,
) -> FormatOrAbility:
    """Find how much of the loss on generated answers is format, how much ability.

    Args:
        base, tuned: the models before and after: anything that `read_results` takes.
        task: with GSM8K's two filters; None: the only one of them that both results have.
        strict: as in `align_samples`.

    Example:

        slimlib.format_or_ability("results-before/", "results-after/", "gsm8k").table()

    Raises:
        ValueError: no such task, filters or per-document rows, or results that cannot be paired.
    """
    base, tuned = _as_results(base, "base"), _as_results(tuned, "tuned")
    task = task or _only_generated(base, tuned)
    pairs = paired_ids(align_task(base, tuned, task, strict), task, STRICT_FILTER)
    before, after = (
        answer_table(results.tasks[task]).set_index("doc_id").loc[list(ids)]
        for results, ids in zip((base, tuned), zip(*pairs, strict=True), strict=True)
    )
    was, now = before["strict"].to_numpy(), after["strict"].to_numpy()
    lost = _lost_documents(before, after, was & ~now)
    return FormatOrAbility(
        task=task,
        base=base.name,
        tuned=tuned.name,
        n=len(pairs),
        strict=_sums(before, after, "strict"),
        flexible=_sums(before, after, "flexible"),
        gained=int((~was & now).sum()),
        reasons=_counts(lost["reason"], REASONS),
        before=_counts(before["kind"], KINDS),
        after=_counts(after["kind"], KINDS),
        equations_before=_equations(before),
        equations_after=_equations(after),
        documents=lost,
    )


def _sums(before: pd.DataFrame, after: pd.DataFrame, column: str) -> tuple[int, int]:
    return int(before[column].sum()), int(after[column].sum())


def _counts(found: pd.Series, names: Sequence[str]) -> dict[str, int]:
    counts = Counter(found)
    return {name: counts[name] for name in names}


def _equations(table: pd.DataFrame) -> Equations:
    return Equations(int(table["equations_right"].sum()), int(table["equations_wrong"].sum()))


def _lost_documents(before: pd.DataFrame, after: pd.DataFrame, lost: np.ndarray) -> pd.DataFrame:
    """doc_id (the base's), reason, question, gold and both answers of the documents lost."""
    import pandas as pd

    before, after = before[lost], after[lost]
    columns = {
        "doc_id": before.index,
        "reason": after["kind"],
        "question": before["question"],
        "gold": before["gold"],
        "base_answer": before["answer"].str.strip(),
        "tuned_answer": after["answer"].str.strip(),
    }
    return pd.DataFrame({name: list(values) for name, values in columns.items()})


def _as_results(value: TaskResults | Source, name: str) -> Results:
    if isinstance(value, TaskResults):
        return Results(source=name, name=name, tasks={value.task: value}, settings={})
    return read_results(value)


def _only_generated(base: Results, tuned: Results) -> str:
    shared = [name for name in base.tasks if name in tuned.tasks]
    fitting = [
        name
        for name in shared
        if all(
            {STRICT_FILTER, FLEXIBLE_FILTER} <= set(r.tasks[name].samples) for r in (base, tuned)
        )
    ]
    if len(fitting) != 1:
        raise ValueError(
            f"{len(fitting)} tasks have per-document samples of {STRICT_FILTER} and "
            f"{FLEXIBLE_FILTER} in both results; name one as task (tasks of both: "
            f"{', '.join(shared) or 'none'})"
        )
    return fitting[0]

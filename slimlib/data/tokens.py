"""Rows as the data set of a training, and the report of what became of them.

Rows are tokenised here, not in the trainer, so that every backend trains on the same ids, and what
cannot be learned from is left out here, by its number, not in silence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from slimlib.common.document import Document, Shown
from slimlib.config import DataConfig
from slimlib.data.encoding import Encoder, Tokens
from slimlib.data.layouts import Row, as_row
from slimlib.data.prompts import render_row
from slimlib.data.rows import split_rows
from slimlib.data.turns import Rendered, SystemRefused, TurnsRefused

SHOWN_NUMBERS, SHOWN_LINES = 5, 24  # of rows in a sentence, of the first row
NO_ANSWER = "no turn of the assistant"
EMPTY = "empty answer"
FULL = "prompt fills the window"


@dataclass(frozen=True)
class RowsReport(Shown):
    """What becomes of the rows of a fine-tuning, said before it.

    Args:
        where: file or data set.
        read: rows.
        kept: rows that are trained on.
        held_out: rows that are kept for measuring what is learned.
        rehearsed: rows of other data that are trained on beside.
        dropped: reason -> numbers of the rows, from 1 in their file.
        truncated: numbers of the rows that are longer than the window and lose their tail.
        repeated: numbers of the rows that another one repeats; none of them is held out.
        without_end: kept rows whose answer has no end token that is learned.
        tokens: of the kept rows.
        learned_tokens: of these, those that the loss counts.
        unused_columns: that no layout reads.
        moved: numbers of the rows whose system turn stands before their first user turn.
        rewritten: numbers of the rows of which the chat template leaves a part out.
        first: the first kept row as the model sees it, what is learned in [[ ]].
        numbers: of the kept rows, in their order.
    """

    where: str
    read: int
    kept: int
    held_out: int
    rehearsed: int
    dropped: Mapping[str, tuple[int, ...]]
    truncated: tuple[int, ...]
    repeated: tuple[int, ...]
    without_end: int
    tokens: int
    learned_tokens: int
    unused_columns: tuple[str, ...]
    moved: tuple[int, ...]
    rewritten: tuple[int, ...]
    first: str
    numbers: tuple[int, ...]

    def counts(self) -> dict[str, int]:
        """The numbers for a record."""
        return {
            "rows": self.kept,
            "tokens": self.tokens,
            "truncated_rows": len(self.truncated),
            "learned_tokens": self.learned_tokens,
            "dropped_rows": self.read - self.kept - self.held_out,
            "rows_without_end": self.without_end,
            **({"rehearsed_rows": self.rehearsed} if self.rehearsed else {}),
        }

    def sentences(self) -> list[str]:
        """What is said of the rows, most important first."""
        held = f", {self.held_out:,} held out to measure what is learned" if self.held_out else ""
        said = [
            f"{self.kept:,} of {self.read:,} rows are trained on{held}: {self.tokens:,} tokens, "
            f"{self.learned_tokens:,} of them learned."
        ]
        if self.rehearsed:
            said.append(f"{self.rehearsed:,} of these are rehearsed, of other data.")
        said += [f"Left out, {why}: {_rows(numbers)}." for why, numbers in self.dropped.items()]
        if self.truncated:
            said.append(f"Longer than the window, so without their tail: {_rows(self.truncated)}.")
        if self.repeated:
            held = "; none of them is held out" if self.held_out else ""
            said.append(f"There more than once: {_rows(self.repeated)}{held}.")
        if self.without_end:
            said.append(
                f"{self.without_end:,} of {self.kept:,} answers have no end that is learned: the "
                "model does not learn from them to stop."
            )
        if self.moved:
            said.append(f"System turn put before the first user turn: {_rows(self.moved)}.")
        if self.rewritten:
            said.append(f"The chat template leaves out a part of: {_rows(self.rewritten)}.")
        if self.unused_columns:
            said.append(f"Columns that are not used: {', '.join(self.unused_columns)}.")
        return said

    def document(self) -> Document:
        """The report: sentences, and the first row with what is learned in [[ ]]."""
        lines = self.first.split("\n")
        if len(lines) > SHOWN_LINES:
            lines = [*lines[: SHOWN_LINES // 2], "...", *lines[-SHOWN_LINES // 2 :]]
        shown = ("The first row, what is learned in [[ ]]:", lines)
        return Document(f"Rows of {self.where}", [*self.sentences(), shown])


def _rows(numbers: Sequence[int]) -> str:
    """ "1 row (3)" or "7 rows (1, 2, 3, 4, 5, ...)"."""
    listed = [*map(str, numbers[:SHOWN_NUMBERS]), *(["..."] if numbers[SHOWN_NUMBERS:] else [])]
    return f"{len(numbers):,} row{'s' if len(numbers) > 1 else ''} ({', '.join(listed)})"


# ------------------------------------------------------------------------------------------ whole


def tokenize_rows(
    rows: Sequence[Mapping[str, Any]], config: DataConfig, tokenizer: Any, max_seq_length: int
) -> tuple[Any, RowsReport]:
    """Rows as a `datasets.Dataset` for TRL's trainer, and the report of what became of them.

    Returns:
        The kept rows: input_ids and, where only answers are learned, labels; and the report.

    Raises:
        ValueError: nothing is left to learn, or a system turn that the chat template refuses.
    """
    kept, report = prepare_rows(rows, config, tokenizer, max_seq_length)
    return _dataset(kept, config), report


def split_tokenized(
    rows: Sequence[Mapping[str, Any]],
    config: DataConfig,
    tokenizer: Any,
    max_seq_length: int,
    seed: int,
    rehearsed: Sequence[Mapping[str, Any]] = (),
) -> tuple[Any, Any, RowsReport]:
    """Rows as two data sets: those that are trained on, and those that are held out.

    The split is made among the rows of which something can be learned, so that none of those that
    are held out turns out to say nothing.

    Args:
        seed: of the split; `config.held_out` is its share.
        rehearsed: rows of other data, which are trained on beside; none of them is held out.

    Returns:
        Both as `tokenize_rows`', the second perhaps empty; and the report.

    Raises:
        ValueError: nothing is left to learn, or a system turn that the chat template refuses.
    """
    rows, others = _numbered(rows), _numbered(rehearsed)
    encoder = Encoder(tokenizer, config, max_seq_length)
    kept, dropped = _sorted_out(rows, config, encoder)
    trained, held_out = split_rows(kept, config.held_out, seed, _repeated(kept))
    beside = _sorted_out(others, config, encoder)[0] if others else []
    trained = [*trained, *beside]
    sets = [_dataset([one.tokens for one in part], config) for part in (trained, held_out)]
    report = _report([*rows, *others], trained, len(held_out), dropped, tokenizer)
    return *sets, replace(report, rehearsed=len(beside))


def _repeated(rows: Sequence[_Kept]) -> set[int]:
    """Places of the rows whose tokens are another row's, too."""
    times = Counter(tuple(one.tokens.ids) for one in rows)
    return {place for place, one in enumerate(rows) if times[tuple(one.tokens.ids)] > 1}


def _dataset(rows: Sequence[Tokens], config: DataConfig) -> Any:
    from datasets import Dataset

    columns = {"input_ids": [tokens.ids for tokens in rows]}
    if config.learn == "answer":
        columns["labels"] = [tokens.labels for tokens in rows]
    return Dataset.from_dict(columns)


def describe_rows(
    rows: Sequence[Mapping[str, Any]], config: DataConfig, tokenizer: Any, max_seq_length: int
) -> RowsReport:
    """Say what would become of rows in a fine-tuning; nothing is trained.

    Args:
        rows: of `load_rows` or `read_rows`, or a list of objects of any layout.
        config: template, end-of-text and what is learned.
        tokenizer: of the model.
        max_seq_length: tokens.

    Raises:
        ValueError: nothing is left to learn, or a system turn that the chat template refuses.
    """
    return prepare_rows(rows, config, tokenizer, max_seq_length)[1]


def prepare_rows(
    rows: Sequence[Mapping[str, Any]], config: DataConfig, tokenizer: Any, max_seq_length: int
) -> tuple[list[Tokens], RowsReport]:
    """The rows that are trained on as tokens, and the report on all of them."""
    rows = _numbered(rows)
    kept, dropped = _sorted_out(rows, config, Encoder(tokenizer, config, max_seq_length))
    return [one.tokens for one in kept], _report(rows, kept, 0, dropped, tokenizer)


class _Kept(NamedTuple):
    """A row of which something is learned."""

    number: int
    rendered: Rendered
    tokens: Tokens


def _numbered(rows: Sequence[Mapping[str, Any]]) -> list[Row]:
    return [
        as_row(row, "the list", number) if not isinstance(row, Row) else row
        for number, row in enumerate(rows, 1)
    ]


def _sorted_out(
    rows: Sequence[Row], config: DataConfig, encoder: Encoder
) -> tuple[list[_Kept], dict[str, list[int]]]:
    """The rows that can be learned from, and the numbers of the others by reason."""
    kept: list[_Kept] = []
    dropped: dict[str, list[int]] = {}
    for row in rows:
        rendered, tokens, why = _prepared(row, config, encoder)
        if why:
            dropped.setdefault(why, []).append(row.number)
        else:
            kept.append(_Kept(row.number, rendered, tokens))
    if not kept:
        reasons = "; ".join(f"{why}: {_rows(numbers)}" for why, numbers in dropped.items())
        raise ValueError(f"{_where(rows)} has nothing to learn ({reasons or 'no rows'})")
    return kept, dropped


def _where(rows: Sequence[Row]) -> str:
    return ", ".join(dict.fromkeys(row.where for row in rows)) or "the list"


def _report(
    rows: Sequence[Row],
    kept: Sequence[_Kept],
    held_out: int,
    dropped: Mapping[str, Sequence[int]],
    tokenizer: Any,
) -> RowsReport:
    """What became of rows: those that are trained on, held out and left out."""
    unused = dict.fromkeys(name for row in rows for name in row.unused)
    return RowsReport(
        where=_where(rows),
        read=len(rows),
        kept=len(kept),
        held_out=held_out,
        rehearsed=0,
        dropped={why: tuple(numbers) for why, numbers in dropped.items()},
        truncated=tuple(one.number for one in kept if one.tokens.truncated),
        repeated=tuple(kept[place].number for place in sorted(_repeated(kept))),
        without_end=sum(not one.tokens.ended for one in kept),
        tokens=sum(len(one.tokens.ids) for one in kept),
        learned_tokens=sum(one.tokens.count for one in kept),
        unused_columns=tuple(unused),
        moved=tuple(one.number for one in kept if one.rendered.moved),
        rewritten=tuple(one.number for one in kept if one.rendered.rewritten),
        first=marked(kept[0].tokens, tokenizer),
        numbers=tuple(one.number for one in kept),
    )


def _prepared(
    row: Row, config: DataConfig, encoder: Encoder
) -> tuple[Rendered | None, Tokens | None, str]:
    """A row as text and as tokens; or why it is left out.

    Raises:
        ValueError: the chat template refuses its system turn.
    """
    place = f"{row.where} row {row.number}"
    if why := _lacks(row, config.learn):
        return None, None, why
    try:
        rendered = render_row(row, config, encoder.tokenizer)
    except TurnsRefused as refused:
        return None, None, str(refused)
    except SystemRefused as refused:
        raise ValueError(
            f"{place}: {refused}; data.system=to-user puts the system turn before the first user "
            "turn"
        ) from None
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from None
    tokens = encoder.encode(rendered)
    nothing = tokens.count == 0 and config.learn == "answer"
    return rendered, tokens, FULL if nothing else "" if tokens.ids else EMPTY


def _lacks(row: Row, learn: str) -> str:
    """What a row has not that could be learned; the author trained on empty answers, too."""
    if "messages" in row:
        answers = [t["content"] for t in row["messages"] if t["role"] == "assistant"]
        if not answers:
            return NO_ANSWER
    else:
        answers = [row.get("text", row.get("output", ""))]
    return EMPTY if learn == "answer" and not any(map(str.strip, answers)) else ""


def marked(tokens: Tokens, tokenizer: Any) -> str:
    """A row's text as the model sees it, what is learned in [[ ]]."""
    parts, begin = [], 0
    for end in range(1, len(tokens.ids) + 1):
        if end == len(tokens.ids) or tokens.learned[end] != tokens.learned[begin]:
            text = tokenizer.decode(tokens.ids[begin:end], clean_up_tokenization_spaces=False)
            parts.append(f"[[{text}]]" if tokens.learned[begin] else text)
            begin = end
    return "".join(parts)

"""Rows as tokens, each with whether the loss counts it, and the report of what became of them.

Rows are tokenised here, not in the trainer, so that every backend trains on the same ids: exactly
one begin token, an end token behind the answer (unless the author's run is reproduced, which had
none), and labels that leave out all but the answers where only these are learned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slimlib.common.document import Document, Shown
from slimlib.config import DataConfig
from slimlib.data.layouts import Row, as_row
from slimlib.data.prompts import render_row
from slimlib.data.turns import Rendered, SystemRefused, TurnsRefused

IGNORED = -100  # torch's and transformers' label that the loss leaves out
SHOWN_NUMBERS, SHOWN_LINES = 5, 24  # of rows in a sentence, of the first row
NO_ANSWER = "no turn of the assistant"
EMPTY = "empty answer"
FULL = "prompt fills the window"


@dataclass(frozen=True)
class Tokens:
    """A row as token ids, and which of them the loss counts."""

    ids: list[int]
    learned: list[bool]
    ended: bool  # the last one is an end token that is learned
    truncated: bool

    @property
    def labels(self) -> list[int]:
        """The ids, with IGNORED in the place of what is not learned."""
        return [i if kept else IGNORED for i, kept in zip(self.ids, self.learned, strict=True)]

    @property
    def count(self) -> int:
        """How many tokens the loss counts: the first is never predicted."""
        return sum(self.learned[1:])


@dataclass(frozen=True)
class RowsReport(Shown):
    """What becomes of the rows of a fine-tuning, said before it.

    Args:
        where: file or data set.
        read: rows.
        kept: rows that are trained on.
        dropped: reason -> numbers of the rows, from 1 in their file.
        truncated: numbers of the rows that are longer than the window and lose their tail.
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
    dropped: Mapping[str, tuple[int, ...]]
    truncated: tuple[int, ...]
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
            "dropped_rows": self.read - self.kept,
            "rows_without_end": self.without_end,
        }

    def sentences(self) -> list[str]:
        """What is said of the rows, most important first."""
        said = [
            f"{self.kept:,} of {self.read:,} rows are trained on: {self.tokens:,} tokens, "
            f"{self.learned_tokens:,} of them learned."
        ]
        said += [f"Left out, {why}: {_rows(numbers)}." for why, numbers in self.dropped.items()]
        if self.truncated:
            said.append(f"Longer than the window, so without their tail: {_rows(self.truncated)}.")
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
    from datasets import Dataset

    kept, report = prepare_rows(rows, config, tokenizer, max_seq_length)
    columns = {"input_ids": [tokens.ids for tokens in kept]}
    if config.learn == "answer":
        columns["labels"] = [tokens.labels for tokens in kept]
    return Dataset.from_dict(columns), report


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
    rows = [
        as_row(row, "the list", n) if not isinstance(row, Row) else row
        for n, row in enumerate(rows, 1)
    ]
    encoder = Encoder(tokenizer, config, max_seq_length)
    kept: list[Tokens] = []
    numbers: list[int] = []
    dropped: dict[str, list[int]] = {}
    marks: dict[str, list[int]] = {"truncated": [], "moved": [], "rewritten": []}
    for row in rows:
        rendered, tokens, why = _prepared(row, config, encoder)
        if why:
            dropped.setdefault(why, []).append(row.number)
            continue
        kept.append(tokens)
        numbers.append(row.number)
        for name, found in (
            ("truncated", tokens.truncated),
            ("moved", rendered.moved),
            ("rewritten", rendered.rewritten),
        ):
            marks[name] += [row.number] if found else []
    where = ", ".join(dict.fromkeys(row.where for row in rows)) or "the list"
    if not kept:
        reasons = "; ".join(f"{why}: {_rows(numbers)}" for why, numbers in dropped.items())
        raise ValueError(f"{where} has nothing to learn ({reasons or 'no rows'})")
    unused = dict.fromkeys(name for row in rows for name in row.unused)
    return kept, RowsReport(
        where=where,
        read=len(rows),
        kept=len(kept),
        dropped={why: tuple(numbers) for why, numbers in dropped.items()},
        without_end=sum(not tokens.ended for tokens in kept),
        tokens=sum(len(tokens.ids) for tokens in kept),
        learned_tokens=sum(tokens.count for tokens in kept),
        unused_columns=tuple(unused),
        first=marked(kept[0], tokenizer),
        numbers=tuple(numbers),
        **{name: tuple(numbers) for name, numbers in marks.items()},
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
            text = tokenizer.decode(tokens.ids[begin:end])
            parts.append(f"[[{text}]]" if tokens.learned[begin] else text)
            begin = end
    return "".join(parts)


# ----------------------------------------------------------------------------------------- tokens


class Encoder:
    """From a text with what is to be learned of it to tokens with the same.

    Args:
        tokenizer: a fast one where only answers are learned, since those know their characters.
        config: what is learned, and whether an end token is appended.
        max_seq_length: tokens; a longer row loses its tail.

    Raises:
        ValueError: a slow tokenizer where only answers are learned.
    """

    def __init__(self, tokenizer: Any, config: DataConfig, max_seq_length: int) -> None:
        if config.learn == "answer" and not tokenizer.is_fast:
            raise ValueError(
                f"learn=answer needs a fast tokenizer, and {tokenizer.name_or_path} has none: "
                "take learn=all"
            )
        self.tokenizer, self.config, self.length = tokenizer, config, max_seq_length
        self.special = {*tokenizer.added_tokens_encoder.values()}
        whole, bare = (
            tokenizer("a", add_special_tokens=special)["input_ids"] for special in (True, False)
        )
        self.prefix = whole[: whole.index(bare[0])]  # what the tokenizer puts first

    def encode(self, rendered: Rendered) -> Tokens:
        """The tokens of a row: one begin token where the tokenizer adds it, the end on demand."""
        ids, learned = self._text(rendered)
        bos, eos = self.tokenizer.bos_token_id, self.tokenizer.eos_token_id
        if self.prefix and ids[: len(self.prefix)] != self.prefix:
            ids, learned = [*self.prefix, *ids], [*map(self._counts, self.prefix), *learned]
        while bos is not None and ids[:2] == [bos, bos]:
            ids, learned = ids[1:], learned[1:]
        ended = rendered.ended
        if not ended:
            while eos is not None and eos != bos and ids[-1:] == [eos]:
                ids, learned = ids[:-1], learned[:-1]
            if self.config.append_eos and eos is not None:
                ids, learned, ended = [*ids, eos], [*learned, True], True
        cut = len(ids) > self.length
        ended = ended and not cut and learned[-1]
        return Tokens(ids[: self.length], learned[: self.length], ended, cut)

    def _counts(self, _: int) -> bool:
        """Whether the loss counts a token that is no part of an answer."""
        return self.config.learn == "all"

    def _text(self, rendered: Rendered) -> tuple[list[int], list[bool]]:
        everything = self.config.learn == "all"
        found = self.tokenizer(
            rendered.text, add_special_tokens=False, return_offsets_mapping=not everything
        )
        ids = list(found["input_ids"])
        if everything:
            return ids, [True] * len(ids)
        return ids, [
            self._learned(token, begin, end, rendered.spans)
            for token, (begin, end) in zip(ids, _tiles(found["offset_mapping"]), strict=True)
        ]

    def _learned(self, token: int, begin: int, end: int, spans: Sequence[tuple[int, int]]) -> bool:
        """Whether a token holds a character of an answer; a special one must begin in it."""
        return any(
            begin < stop and end > start and (begin >= start or token not in self.special)
            for start, stop in spans
        )


def _tiles(offsets: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Characters of each token without gaps: some tokenizers leave white space out of offsets.

    Example: " a", "\\n" as (1, 2), (3, 3) -> (0, 2), (2, 3).
    """
    tiles, reached = [], 0
    for begin, end in offsets:
        tiles.append((min(begin, reached), end))
        reached = max(reached, end)
    return tiles

"""A row's text as tokens, each with whether the loss counts it.

Exactly one begin token, and an end token behind the answer where one is asked for. The ids are the
same whatever is learned of them: what the model writes is found by the characters of each token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from slimlib.config import DataConfig
from slimlib.data.turns import Rendered

IGNORED = -100  # torch's and transformers' label that the loss leaves out


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
        self.everything = config.learn == "all"  # the loss counts every token, as run
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
            ids, learned = [*self.prefix, *ids], [self.everything for _ in self.prefix] + learned
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

    def _text(self, rendered: Rendered) -> tuple[list[int], list[bool]]:
        found = self.tokenizer(
            rendered.text, add_special_tokens=False, return_offsets_mapping=not self.everything
        )
        ids = list(found["input_ids"])
        if self.everything:
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

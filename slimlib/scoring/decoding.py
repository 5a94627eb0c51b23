"""Greedy decoding: finished rows leave, waiting prompts take their place, strings end row by row.

The rows in use are always the first ones of the buffers. Where a row ends, the last one moves into
its place, so that a step computes no more rows than are unfinished.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch

from slimlib.scoring.forward import Forward, KeysValues, behind, padded
from slimlib.scoring.rows import Tokens, rows_at_once


def prefill(
    forward: Forward, cache: KeysValues, prompts: list[Tokens], begin: int = 0, start: int = 0
) -> torch.Tensor:
    """Compute prompts into rows from `begin` on; hidden states of their last tokens, (prompts, d).

    Their first `start` tokens are in the rows already.
    """
    ids = padded([prompt[start:] for prompt in prompts], forward.device)
    rows, tokens = ids.shape
    cache.prefilling(slice(begin, begin + rows), start, tokens)
    positions = torch.arange(start, start + tokens, device=ids.device).expand(rows, -1)
    mask = behind(start, tokens, ids.device) if start else None
    hidden = forward.hidden(ids, positions, mask, cache)
    last = torch.tensor([len(prompt) - start - 1 for prompt in prompts], device=ids.device)
    return hidden[torch.arange(rows, device=ids.device), last]


def decode(
    forward: Forward, cache: KeysValues, newest: torch.Tensor, lengths: torch.Tensor, longest: int
) -> torch.Tensor:
    """Compute one more token of each of the first rows; last hidden states, (rows, d).

    Args:
        forward: the model.
        cache: the rows.
        newest: the token of each row.
        lengths: tokens that each row holds.
        longest: the largest of them.
    """
    cache.decoding(lengths, longest)
    seen = torch.arange(longest + 1, device=lengths.device) <= lengths[:, None]
    return forward.hidden(newest[:, None], lengths[:, None], seen[:, None, None], cache)[:, 0]


class Ends:
    """When a row is finished.

    lm-eval's criterion at batch size 1: a stop string in the text of the newest tokens, special
    tokens included, as many as the string's own tokens and two more (here: the longest string's).

    Args:
        tokenizer: of the model.
        strings: stop strings.
        eos: end tokens of the generation config.
        max_new_tokens: most tokens of an answer.
    """

    def __init__(
        self, tokenizer: Any, strings: list[str], eos: frozenset[int], max_new_tokens: int
    ) -> None:
        self.tokenizer, self.strings, self.eos = tokenizer, strings, eos
        self.max_new_tokens = max_new_tokens
        sizes = [len(tokenizer.encode(s, add_special_tokens=False)) for s in strings]
        self.window = max(sizes, default=0) + 2

    def finished(self, rows: list[list[int]]) -> list[bool]:
        """Which of some rows of new tokens end with their last one."""
        texts = self.tokenizer.batch_decode([row[-self.window :] for row in rows])
        return [
            len(row) >= self.max_new_tokens
            or row[-1] in self.eos
            or any(string in text for string in self.strings)
            for row, text in zip(rows, texts, strict=True)
        ]


@dataclass
class Answer:
    """One row: the place of its prompt, its tokens in the buffers, its new tokens."""

    index: int
    size: int
    tokens: list[int]


class Decoding:
    """Rows generated side by side, from prompts that begin with the same prefix.

    Args:
        forward: the model, made ready.
        ends: when a row is finished.
        prefix: tokens that all prompts begin with; computed once.
        rows: sequences side by side.
        length: most tokens of a sequence, prompt and answer.
        token_budget: most tokens of prompts in one pass.
    """

    def __init__(
        self,
        forward: Forward,
        ends: Ends,
        prefix: Tokens,
        rows: int,
        length: int,
        token_budget: int,
    ) -> None:
        self.forward, self.ends, self.start = forward, ends, len(prefix)
        self.token_budget = token_budget
        self.cache = KeysValues(rows, length)
        self.lengths = torch.zeros(rows, dtype=torch.long, device=forward.device)
        self.newest = torch.zeros(rows, dtype=torch.long, device=forward.device)
        self.answers: list[Answer] = []
        if prefix:
            prefill(forward, self.cache, [prefix])
            self.cache.copy(0, slice(1, None), len(prefix))

    def run(
        self, prompts: Iterable[tuple[int, Tokens]], done: Callable[[int, list[int]], None]
    ) -> None:
        """Answer every prompt, (place, ids), longest first; `done` gets each as soon as it ends."""
        waiting = deque(prompts)
        while waiting or self.answers:
            free = self.cache.rows - len(self.answers)
            fit = self._fit(waiting)
            if fit and free >= fit:
                begin = self._admit([waiting.popleft() for _ in range(fit)])
            else:
                begin = self._step()
            self._retire(begin, done)

    def _fit(self, waiting: deque[tuple[int, Tokens]]) -> int:
        """How many waiting prompts are computed in one pass, and in at most half of the rows."""
        if not waiting:
            return 0
        fit = rows_at_once(len(waiting[0][1]) - self.start, self.token_budget)
        return min(fit, len(waiting), max(1, self.cache.rows // 2))

    def _admit(self, chosen: list[tuple[int, Tokens]]) -> int:
        """Compute prompts into free rows; their first row."""
        begin = len(self.answers)
        prompts = [ids for _, ids in chosen]
        hidden = prefill(self.forward, self.cache, prompts, begin, self.start)
        sizes = [len(ids) for ids in prompts]
        self.lengths[begin : begin + len(sizes)] = torch.tensor(sizes)
        self.answers += [Answer(index, len(ids), []) for index, ids in chosen]
        self._choose(hidden, begin)
        return begin

    def _step(self) -> int:
        """One more token for every row; the first row."""
        n = len(self.answers)
        longest = max(answer.size for answer in self.answers)
        lengths = self.lengths[:n]
        hidden = decode(self.forward, self.cache, self.newest[:n], lengths, longest)
        lengths += 1
        for answer in self.answers:
            answer.size += 1
        self._choose(hidden, 0)
        return 0

    def _choose(self, hidden: torch.Tensor, begin: int) -> None:
        """Take the likeliest next token of the rows from `begin` on."""
        chosen = self.forward.logits(hidden).float().argmax(-1)  # as transformers: in float32
        self.newest[begin : begin + len(chosen)] = chosen
        for answer, token in zip(self.answers[begin:], chosen.tolist(), strict=True):
            answer.tokens.append(token)

    def _retire(self, begin: int, done: Callable[[int, list[int]], None]) -> None:
        """Hand over the rows from `begin` on that are finished; the last row takes the place."""
        over = self.ends.finished([answer.tokens for answer in self.answers[begin:]])
        for row in reversed(range(begin, len(self.answers))):
            if not over[row - begin]:
                continue
            answer, last = self.answers[row], self.answers.pop()
            if last is not answer:
                source = len(self.answers)
                self.answers[row] = last
                self.cache.copy(source, row, last.size)
                self.lengths[row], self.newest[row] = self.lengths[source], self.newest[source]
            done(answer.index, answer.tokens)

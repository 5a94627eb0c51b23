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

from slimlib.scoring.cache import KeysValues
from slimlib.scoring.finite import LOGITS, FoundNotFinite
from slimlib.scoring.forward import Forward, behind, padded
from slimlib.scoring.packing import Tokens, rows_at_once


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
    """When a row is finished: lm-eval's criterion at batch size 1.

    That is a stop string in the text of the newest tokens, special tokens included, as many as the
    string's own tokens and two more.

    Args:
        tokenizer: of the model.
        strings: stop strings.
        eos: end tokens of the generation config.
        max_new_tokens: most tokens of an answer.
    """

    def __init__(
        self, tokenizer: Any, strings: list[str], eos: frozenset[int], max_new_tokens: int
    ) -> None:
        self.tokenizer, self.eos, self.max_new_tokens = tokenizer, eos, max_new_tokens
        self.windows = {s: len(tokenizer.encode(s, add_special_tokens=False)) + 2 for s in strings}
        self.longest = max(self.windows.values(), default=1)

    def finished(self, rows: list[list[int]]) -> list[bool]:
        """Which of some rows of new tokens end with their last one."""
        texts = self.tokenizer.batch_decode([row[-self.longest :] for row in rows])
        return [
            len(row) >= self.max_new_tokens or row[-1] in self.eos or self._stops(row, text)
            for row, text in zip(rows, texts, strict=True)
        ]

    def _stops(self, row: list[int], text: str) -> bool:
        """Whether a string in the text of the longest window is also in its own window's."""
        return any(
            string in self.tokenizer.decode(row[-size:])
            for string, size in self.windows.items()
            if string in text
        )


@dataclass
class Row:
    """One row: the place of its prompt, the prompt's tokens, the new tokens."""

    index: int
    prompt: int
    tokens: list[int]

    @property
    def size(self) -> int:
        """Tokens in the buffers: all but the newest, which is computed next."""
        return self.prompt + len(self.tokens) - 1


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
        self.rows: list[Row] = []
        if prefix:
            prefill(forward, self.cache, [prefix])
            self.cache.copy(0, slice(1, None), len(prefix))

    def run(
        self, prompts: Iterable[tuple[int, Tokens]], done: Callable[[int, list[int]], None]
    ) -> None:
        """Answer every prompt, (place, ids); `done` gets each as soon as it ends.

        Raises:
            FoundNotFinite: the logits of a prompt, named by its place, are not all numbers.
        """
        waiting = deque(sorted(prompts, key=lambda prompt: -len(prompt[1])))
        while waiting or self.rows:
            free = self.cache.rows - len(self.rows)
            n = self._at_once(waiting)
            if n and free >= n:
                begin = self._admit([waiting.popleft() for _ in range(n)])
            else:
                begin = self._step()
            self._retire(begin, done)

    def _at_once(self, waiting: deque[tuple[int, Tokens]]) -> int:
        """How many waiting prompts are computed in one pass: what fits, into half of the rows."""
        if not waiting:
            return 0
        fit = rows_at_once(len(waiting[0][1]) - self.start, self.token_budget)
        return min(fit, len(waiting), max(1, self.cache.rows // 2))

    def _admit(self, chosen: list[tuple[int, Tokens]]) -> int:
        """Compute prompts into free rows; their first row."""
        begin = len(self.rows)
        prompts = [ids for _, ids in chosen]
        hidden = prefill(self.forward, self.cache, prompts, begin, self.start)
        sizes = [len(ids) for ids in prompts]
        self.lengths[begin : begin + len(sizes)] = torch.tensor(sizes)
        self.rows += [Row(index, len(ids), []) for index, ids in chosen]
        self._choose(hidden, begin)
        return begin

    def _step(self) -> int:
        """One more token for every row; the first row."""
        n = len(self.rows)
        longest = max(row.size for row in self.rows)
        lengths = self.lengths[:n]
        hidden = decode(self.forward, self.cache, self.newest[:n], lengths, longest)
        lengths += 1
        self._choose(hidden, 0)
        return 0

    def _choose(self, hidden: torch.Tensor, begin: int) -> None:
        """Take the likeliest next token of the rows from `begin` on.

        NaN is the likeliest of all for torch: a row's logits are numbers if its likeliest one is.
        """
        logits = self.forward.logits(hidden).float()  # as transformers: in float32
        chosen = logits.argmax(-1)
        finite = logits.gather(-1, chosen[:, None]).isfinite()[:, 0].tolist()
        if not all(finite):
            raise FoundNotFinite(LOGITS, self.rows[begin + finite.index(False)].index)
        self.newest[begin : begin + len(chosen)] = chosen
        for row, token in zip(self.rows[begin:], chosen.tolist(), strict=True):
            row.tokens.append(token)

    def _retire(self, begin: int, done: Callable[[int, list[int]], None]) -> None:
        """Hand over the rows from `begin` on that are finished; the last row takes the place."""
        over = self.ends.finished([row.tokens for row in self.rows[begin:]])
        for place in reversed([begin + i for i, ended in enumerate(over) if ended]):
            row, last = self.rows[place], self.rows.pop()
            if last is not row:
                source = len(self.rows)
                self.rows[place] = last
                self.cache.copy(source, place, last.size)
                self.lengths[place], self.newest[place] = self.lengths[source], self.newest[source]
            done(row.index, row.tokens)

"""One model's decoder and head, apart, and the keys and values of its attention.

transformers' own doors are used throughout: a `Cache` whose `update` says where keys and values are
kept, position ids, and a function in transformers' AttentionInterface that is set while SlimLM
computes and taken back after. No module of the model is touched.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, Cache

from slimlib.scoring.packing import Packed

ATTENTION = "slimlib"
EXTRAS = ("softcap", "s_aux", "position_bias")  # what transformers' models may ask for beside


@dataclass
class Work:
    """What was computed: tokens through the decoder (padding included), positions by the head."""

    tokens: int = 0
    positions: int = 0


@dataclass(frozen=True)
class Layout:
    """The sequences that packed tokens belong to, behind a prefix that all share."""

    queries: torch.Tensor  # (sequences, longest): the packed token at each place, 0 where none is
    keys: torch.Tensor  # (sequences, start + longest): the same behind the prefix's tokens
    back: torch.Tensor  # (tokens,): a place of each token in the flattened sequences
    mask: torch.Tensor | None  # None is causal

    @classmethod
    def of(cls, packed: Packed, start: int, device: Any) -> Layout:
        """The layout of a tree of tokens behind a prefix of `start` tokens."""
        queries = padded(packed.paths, device)
        rows, longest = queries.shape
        back = torch.empty(len(packed.tokens), dtype=torch.long)
        for row, path in enumerate(packed.paths):
            back[path] = torch.arange(len(path)) + row * longest
        prefix = torch.arange(start, device=device).expand(rows, -1)
        mask = behind(start, longest, device) if start else None
        return cls(queries, torch.cat([prefix, queries + start], 1), back.to(device), mask)

    def attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scaling: float | None,
        window: int | None,
    ) -> torch.Tensor:
        """Attend within every sequence.

        Args:
            query: (1, heads, tokens, head_dim), packed.
            key: (1, key heads, start + tokens, head_dim), packed behind the prefix; value alike.
            scaling: of the scores.
            window: see `windowed`.

        Returns:
            (1, tokens, heads, head_dim), packed.
        """
        queries = query[0].transpose(0, 1)[self.queries].transpose(1, 2)
        keys, values = (x[0].transpose(0, 1)[self.keys].transpose(1, 2) for x in (key, value))
        mask = windowed(self.mask, queries, keys, window)
        out = _attention(queries, keys, values, mask, scaling)
        return out.transpose(1, 2).flatten(0, 1)[self.back][None]


_layout: contextvars.ContextVar[Layout | None] = contextvars.ContextVar("layout", default=None)
_windows: contextvars.ContextVar[list | None] = contextvars.ContextVar("windows", default=None)


@contextlib.contextmanager
def noting_windows() -> Iterator[list[int | None]]:
    """Collect the window that each call of the attention is given."""
    seen: list[int | None] = []
    token = _windows.set(seen)
    try:
        yield seen
    finally:
        _windows.reset(token)


def attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """The function of transformers' AttentionInterface.

    Args:
        module: the layer, not used.
        query: (rows, heads, new tokens, head_dim).
        key: (rows, key heads, all tokens, head_dim); value alike.
        attention_mask: bool, broadcastable to (rows, 1, new tokens, all tokens); None is causal.
        scaling: of the scores; None is 1 / sqrt(head_dim).
        sliding_window: of this layer, where not every token sees all before it.
        **kwargs: what else a model hands over.

    Returns:
        (rows, new tokens, heads, head_dim), None.

    Raises:
        TypeError: the model's attention has a part that is not computed here.
    """
    for name in EXTRAS:
        if kwargs.get(name) is not None:
            raise TypeError(f"its attention has {name}")
    if (seen := _windows.get()) is not None:
        seen.append(sliding_window)
    layout = _layout.get()
    if layout is not None:
        return layout.attend(query, key, value, scaling, sliding_window), None
    mask = windowed(attention_mask, query, key, sliding_window)
    attend = _one_token if query.shape[2] == 1 else _attention
    return attend(query, key, value, mask, scaling).transpose(1, 2).contiguous(), None


def windowed(
    mask: torch.Tensor | None, query: torch.Tensor, key: torch.Tensor, window: int | None
) -> torch.Tensor | None:
    """The mask where a token sees itself and the window - 1 before it, and no more.

    Sequences of no more than the window keep their mask, and with it the fast kernel.

    Args:
        mask: of `attention`; what a token sees is a beginning of the sequence.
        query: (rows, heads, new tokens, head_dim).
        key: (rows, key heads, all tokens, head_dim).
        window: tokens; None is no window.
    """
    length = key.shape[2]
    if window is None or length <= window:
        return mask
    if mask is None:
        mask = behind(length - query.shape[2], query.shape[2], key.device)
    places = torch.arange(length, device=key.device)
    return mask & (places >= mask.sum(-1, keepdim=True) - window)


def _one_token(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    scaling: float | None,
) -> torch.Tensor:
    """Attention of one new token a row; the shapes of `_attention`.

    Heads that share a key head are taken as that many queries: keys and values are read once, and
    never expanded. On a CPU plain products read them twice as fast as torch's kernel, which is made
    for many queries (13 rows, 1,600 keys, micro's heads, two threads: 0.5 against 1.0 ms); in half
    precision they would round the scores, which the kernel does not.
    """
    rows, heads, _, size = query.shape
    folded = query.reshape(rows, key.shape[1], -1, size)
    if query.device.type != "cpu" or query.dtype != torch.float32:
        out = scaled_dot_product_attention(folded, key, value, mask, scale=scaling)
        return out.reshape(rows, heads, 1, -1)
    scores = (folded * (scaling or size**-0.5)) @ key.transpose(2, 3)
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return (scores.softmax(-1) @ value).reshape(rows, heads, 1, -1)


def _attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    scaling: float | None,
) -> torch.Tensor:
    """torch's attention; (rows, heads, tokens, head_dim)."""
    groups = query.shape[1] // key.shape[1]
    if groups > 1:  # expanded, not enable_gqa: before Ampere only the slow kernel can do that
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    return scaled_dot_product_attention(
        query, key, value, mask, is_causal=mask is None, scale=scaling
    )


AttentionInterface.register(ATTENTION, attention)


def behind(start: int, tokens: int, device: Any) -> torch.Tensor:
    """The mask of tokens behind a prefix, (1, 1, tokens, start + tokens): causal."""
    ones = torch.ones(tokens, start + tokens, dtype=torch.bool, device=device)
    return ones.tril(start)[None, None]


class Forward:
    """The decoder and the head of a causal language model.

    Args:
        network: a model of transformers.
        device: where token ids go.
        work: counts what is computed.
        autocast: makes the context that the model runs in.
    """

    def __init__(
        self,
        network: Any,
        device: Any,
        work: Work,
        autocast: Callable[[], Any] = contextlib.nullcontext,
    ) -> None:
        self.network, self.device, self.work, self.autocast = network, device, work, autocast
        self.decoder, self.head = network.get_decoder(), network.get_output_embeddings()

    @contextlib.contextmanager
    def ready(self) -> Iterator[None]:
        """Our attention, no gradients; the model is left as it was found."""
        before = self.network.config._attn_implementation
        self.network.set_attn_implementation(ATTENTION)
        try:
            with torch.no_grad():
                yield
        finally:
            self.network.set_attn_implementation(before)

    def hidden(
        self,
        ids: torch.Tensor,
        positions: torch.Tensor,
        mask: torch.Tensor | None = None,
        cache: Cache | None = None,
        layout: Layout | None = None,
    ) -> torch.Tensor:
        """Last hidden states, (rows, tokens, d).

        Args:
            ids: (rows, tokens).
            positions: of the tokens in their sequences, alike.
            mask: see `attention`.
            cache: where keys and values are kept; None keeps none.
            layout: the sequences, where `ids` is one row of packed tokens.
        """
        self.work.tokens += ids.numel()
        token = _layout.set(layout)
        try:
            with self.autocast():
                return self.decoder(
                    input_ids=ids,
                    position_ids=positions,
                    attention_mask=mask,
                    past_key_values=cache,
                    use_cache=cache is not None,
                ).last_hidden_state
        finally:
            _layout.reset(token)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits, (positions, vocabulary), of hidden states, (positions, d)."""
        self.work.positions += len(hidden)
        with self.autocast():
            return self.head(hidden)


def padded(rows: list[Any], device: Any) -> torch.Tensor:
    """Lists of integers as one tensor, zeros on the right."""
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows], device=device)

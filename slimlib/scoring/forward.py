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

from slimlib.scoring.rows import Packed

ATTENTION = "slimlib"


@dataclass
class Work:
    """What was computed: tokens through the decoder (padding included), positions by the head."""

    tokens: int = 0
    positions: int = 0


@dataclass(frozen=True)
class Layout:
    """The sequences that packed tokens belong to, behind a prefix of `start` tokens."""

    start: int
    take: torch.Tensor  # (sequences, longest): the packed token at each place, 0 where none is
    back: torch.Tensor  # (tokens,): where a token is first in the flattened sequences

    @classmethod
    def of(cls, packed: Packed, start: int, device: Any) -> Layout:
        """The layout of a tree of tokens."""
        take = padded(packed.paths, device)
        back = torch.empty(len(packed.tokens), dtype=torch.long)
        for row, path in enumerate(packed.paths):  # any of several equal places will do
            back[path] = torch.arange(len(path)) + row * take.shape[1]
        return cls(start, take, back.to(device))

    def attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float | None
    ) -> torch.Tensor:
        """Attend within every sequence.

        Args:
            query: (1, heads, tokens, head_dim), packed.
            key: (1, key heads, start + tokens, head_dim), packed behind the prefix; value alike.
            scaling: of the scores.

        Returns:
            (1, tokens, heads, head_dim), packed.
        """
        rows, longest = self.take.shape
        prefix = torch.arange(self.start, device=self.take.device).expand(rows, -1)
        seen = torch.cat([prefix, self.take + self.start], 1)
        queries = query[0].transpose(0, 1)[self.take].transpose(1, 2)
        keys, values = (x[0].transpose(0, 1)[seen].transpose(1, 2) for x in (key, value))
        mask = behind(self.start, longest, seen.device) if self.start else None
        out = _attention(queries, keys, values, mask, scaling)
        return out.transpose(1, 2).flatten(0, 1)[self.back][None]


_layout: contextvars.ContextVar[Layout | None] = contextvars.ContextVar("layout", default=None)


def attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """The function of transformers' AttentionInterface.

    Args:
        module: the layer, not used.
        query: (rows, heads, new tokens, head_dim).
        key: (rows, key heads, all tokens, head_dim); value alike.
        attention_mask: bool, broadcastable to (rows, 1, new tokens, all tokens); None is causal.
        scaling: of the scores; None is 1 / sqrt(head_dim).

    Returns:
        (rows, new tokens, heads, head_dim), None.
    """
    layout = _layout.get()
    if layout is not None:
        return layout.attend(query, key, value, scaling), None
    attend = _one_token if query.shape[2] == 1 else _attention
    return attend(query, key, value, attention_mask, scaling).transpose(1, 2).contiguous(), None


def _one_token(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    scaling: float | None,
) -> torch.Tensor:
    """Attention of one new token a row; the shapes of `_attention`.

    Heads that share a key head are taken as that many queries: keys and values are read once, and
    never expanded. Plain products read them twice as fast as torch's kernel on a CPU, which is made
    for many queries (13 rows, 1,600 keys, micro's heads, two threads: 0.5 against 1.0 ms).
    """
    rows, heads, _, size = query.shape
    folded = query.reshape(rows, key.shape[1], -1, size) * (scaling or size**-0.5)
    scores = folded @ key.transpose(2, 3)
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    weights = scores.softmax(-1, dtype=torch.float32).to(value.dtype)
    return (weights @ value).reshape(rows, heads, 1, -1)


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


class SharedPrefix(Cache):
    """A prefix, computed by the first pass; later passes see it and keep nothing."""

    def __init__(self) -> None:
        super().__init__(layers=[])
        self.kept: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def update(
        self,
        key_states: torch.Tensor,
        value_states: torch.Tensor,
        layer_idx: int,
        *_: Any,
        **__: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of the prefix and of the pass's tokens, (1, key heads, tokens, size)."""
        if layer_idx not in self.kept:
            self.kept[layer_idx] = key_states, value_states
            return key_states, value_states
        keys, values = self.kept[layer_idx]
        return torch.cat([keys, key_states], 2), torch.cat([values, value_states], 2)


class KeysValues(Cache):
    """Keys and values of `rows` sequences of up to `length` tokens, one buffer a layer.

    A sequence lies at the start of its row: nothing is ever shifted or concatenated. What a pass
    writes and sees is said before it, by `prefilling` or `decoding`.
    """

    def __init__(self, rows: int, length: int) -> None:
        super().__init__(layers=[])
        self.rows, self.length = rows, length
        self.buffers: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def prefilling(self, rows: slice, start: int, tokens: int) -> None:
        """The next pass adds `tokens` to each row of the slice, from place `start` on."""
        self.one_token = False
        self.written = (rows, slice(None), slice(start, start + tokens))
        self.seen = (rows, slice(None), slice(0, start + tokens))

    def decoding(self, lengths: torch.Tensor, longest: int) -> None:
        """The next pass adds one token to each of the first rows, at the place lengths[row]."""
        rows = torch.arange(len(lengths), device=lengths.device)
        self.one_token = True
        self.written = (rows, slice(None), lengths)
        self.seen = (slice(0, len(lengths)), slice(None), slice(0, longest + 1))

    def update(
        self,
        key_states: torch.Tensor,
        value_states: torch.Tensor,
        layer_idx: int,
        *_: Any,
        **__: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write a layer's new keys and values; return views of all that the pass sees."""
        both = key_states, value_states
        if layer_idx not in self.buffers:  # zeros: 0 times what memory held might not be a number
            keys, values = (
                x.new_zeros(self.rows, x.shape[1], self.length, x.shape[3]) for x in both
            )
            self.buffers[layer_idx] = keys, values
        for buffer, new in zip(self.buffers[layer_idx], both, strict=True):
            buffer[self.written] = new[:, :, 0] if self.one_token else new
        keys, values = self.buffers[layer_idx]
        return keys[self.seen], values[self.seen]

    def copy(self, source: int, target: slice | int, length: int) -> None:
        """Copy the first tokens of one row over those of others."""
        for pair in self.buffers.values():
            for buffer in pair:
                buffer[target, :, :length] = buffer[source, :, :length]


def token_bytes(network: Any) -> int:
    """Bytes of one token's keys and values in all layers."""
    config = network.config
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return 2 * config.num_hidden_layers * heads * size * network.dtype.itemsize


class Forward:
    """The decoder and the head of a causal language model.

    Args:
        network: a model of transformers.
        autocast: makes the context that a pass runs in.
    """

    def __init__(self, network: Any, autocast: Callable[[], Any] = contextlib.nullcontext) -> None:
        self.network, self.autocast = network, autocast
        self.decoder, self.head = network.get_decoder(), network.get_output_embeddings()
        self.device = network.device
        self.work = Work()

    @contextlib.contextmanager
    def ready(self) -> Iterator[None]:
        """Our attention, no gradients; the model is left as it was found."""
        before = self.network.config._attn_implementation
        self.network.set_attn_implementation(ATTENTION)
        try:
            with torch.inference_mode(), self.autocast():
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
        return self.head(hidden)


def padded(rows: list[Any], device: Any) -> torch.Tensor:
    """Lists of integers as one tensor, zeros on the right."""
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows], device=device)

"""Where keys and values are kept between passes: transformers' `Cache`, written in place."""

from __future__ import annotations

from typing import Any

import torch
from transformers import Cache


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
        self.behind = (rows, slice(None), slice(start + tokens, None))

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
            if not self.one_token:  # what an earlier row left may not be a number either
                buffer[self.behind] = 0
        keys, values = self.buffers[layer_idx]
        return keys[self.seen], values[self.seen]

    def copy(self, source: int, target: slice | int, length: int) -> None:
        """Copy the first tokens of one row over others, and clear what lay behind them there."""
        for pair in self.buffers.values():
            for buffer in pair:
                buffer[target, :, :length] = buffer[source, :, :length]
                buffer[target, :, length:] = 0


def token_bytes(network: Any) -> int:
    """Bytes of one token's keys and values in all layers, in the model's dtype."""
    config = network.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return 2 * config.num_hidden_layers * heads * size * network.dtype.itemsize

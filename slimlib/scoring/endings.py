"""Log-likelihoods: shared tokens once, the head only where an ending is scored.

The tokens of a batch are packed as a tree: a context goes through the linear layers once for all
its endings. Only the attention takes the tree apart, into the sequences as HFLM has them: the same
causal kernel on the same numbers, so that the sums agree to the last digits.

Measured against it (micro base, 300 HellaSwag rows, one thread): one row a context with its endings
side by side behind a 4-D mask is as fast, and differs from HFLM by three times as much (mean
1.1e-5 against 0.4e-5), since masked keys change the order in which the others are summed.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import log_softmax

from slimlib.scoring.cache import SharedPrefix
from slimlib.scoring.forward import Forward, Layout
from slimlib.scoring.packing import Packed, Scored, Tokens, pack

# Logits are made this many bytes at a time: the head's product wants some hundred positions.
LOGITS_BYTES = 64 * 2**20

Answer = tuple[int, float, bool]  # place of the request, log-likelihood, is_greedy


def compute_prefix(forward: Forward, prefix: Tokens) -> SharedPrefix | None:
    """Keys and values of tokens that many sequences begin with."""
    if not prefix:
        return None
    cache = SharedPrefix()
    packed_hidden(forward, pack([prefix]), 0, cache)
    return cache


def score(
    forward: Forward,
    sequences: list[Scored],
    start: int = 0,
    cache: SharedPrefix | None = None,
    dtype: Any = None,
) -> list[Answer]:
    """Answer the requests of some sequences in one pass.

    Args:
        forward: the model, made ready.
        sequences: what fits in memory together.
        start: tokens of all sequences that `cache` holds.
        cache: the shared prefix, or None.
        dtype: of the log-softmax; None is the model's, as in HFLM.
    """
    packed = pack([scored.tokens for scored in sequences], start)
    hidden = packed_hidden(forward, packed, start, cache)
    requests = [
        (asked, path[len(path) - len(asked.targets) :])
        for scored, path in zip(sequences, packed.paths, strict=True)
        for asked in scored.asked
    ]
    places = torch.tensor([place for _, path in requests for place in path])
    targets = torch.tensor([target for asked, _ in requests for target in asked.targets])
    values, greedy = _probabilities(forward, hidden, places, targets, dtype)
    sizes = [len(path) for _, path in requests]
    return [
        (asked.index, float(value.sum()), bool(right.all()))
        for (asked, _), value, right in zip(
            requests, values.split(sizes), greedy.split(sizes), strict=True
        )
    ]


def packed_hidden(
    forward: Forward, packed: Packed, start: int, cache: SharedPrefix | None
) -> torch.Tensor:
    """Last hidden states of packed tokens, (tokens, d)."""
    ids = torch.tensor([packed.tokens], device=forward.device)
    positions = torch.tensor([packed.positions], device=forward.device)
    layout = Layout.of(packed, start, forward.device)
    return forward.hidden(ids, positions, cache=cache, layout=layout)[0]


def _probabilities(
    forward: Forward, hidden: torch.Tensor, places: torch.Tensor, targets: torch.Tensor, dtype: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probability of each target at its place, and whether it is the likeliest token.

    A place that several requests ask at goes through the head once.
    """
    asked, where = places.unique(return_inverse=True)  # on the CPU: a GPU would have to wait
    order, values, greedy = [], [], []
    step = max(1, LOGITS_BYTES // (4 * forward.network.config.get_text_config().vocab_size))
    for begin in range(0, len(asked), step):
        logits = forward.logits(hidden[asked[begin : begin + step].to(hidden.device)])
        logprobs = log_softmax(logits, -1, dtype=dtype)
        mine = ((where >= begin) & (where < begin + step)).nonzero()[:, 0]
        row = (where[mine] - begin).to(hidden.device)
        target = targets[mine].to(hidden.device)
        order.append(mine)
        values.append(logprobs[row, target])
        greedy.append(logprobs.argmax(-1)[row] == target)
    back = torch.cat(order).argsort()
    return torch.cat(values).cpu()[back], torch.cat(greedy).cpu()[back]

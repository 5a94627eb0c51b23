"""The loss on rows that were kept out of training: what was learned, in nats per token."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimlib.data.encoding import IGNORED

TOKENS = 4096  # in one pass, padding counted


def row_losses(model: Any, dataset: Any, pad_token_id: int) -> NDArray[np.float64]:
    """Mean loss of each row over the tokens that are learned.

    Args:
        model: of transformers, with or without an adapter.
        dataset: column input_ids, and labels where only answers are learned.
        pad_token_id: of the batches; padding is masked by position.

    Returns:
        Nats per learned token, shape (rows,), in the data set's order; NaN for a row of which
        nothing is learned.
    """
    import torch

    rows = [(row["input_ids"], row.get("labels") or row["input_ids"]) for row in dataset]
    order = sorted(range(len(rows)), key=lambda i: len(rows[i][0]))
    losses = np.full(len(rows), np.nan)
    model.eval()
    with torch.no_grad():
        while order:
            size = max(1, TOKENS // len(rows[order[-1]][0]))
            batch, order = order[-size:], order[:-size]  # the longest first
            losses[batch] = _losses([rows[i] for i in batch], model, pad_token_id)
    return losses


def _losses(rows: list[tuple[list[int], list[int]]], model: Any, pad: int) -> list[float]:
    import torch

    longest = max(len(ids) for ids, _ in rows)

    def padded(sequences: list[list[int]], with_: int) -> Any:
        filled = [[*row, *([with_] * (longest - len(row)))] for row in sequences]
        return torch.tensor(filled, device=model.device)

    ids = padded([ids for ids, _ in rows], pad)
    labels = padded([labels for _, labels in rows], IGNORED)
    mask = padded([[1] * len(ids) for ids, _ in rows], 0)
    logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1].float()
    wanted = labels[:, 1:]
    lost = torch.nn.functional.cross_entropy(
        logits.transpose(1, 2), wanted, ignore_index=IGNORED, reduction="none"
    )
    return (lost.sum(1) / (wanted != IGNORED).sum(1)).tolist()  # 0 / 0 is NaN

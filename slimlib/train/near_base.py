"""Fine-tuning that stays near the base: KL(base || tuned) on what is learned, added to the loss.

The reference is the same model with its adapter switched off: no second copy of the weights, one
forward pass more. Where the base spreads its belief over many next tokens, the tuned model pays for
leaving them; so what the rows say is learned as far as it needs no more than that.

Source: the penalty of Ziegler et al. (2019), "Fine-tuning language models from human preferences",
arXiv 1909.08593, with KL the other way round, as in the distillation of Li and Hoiem (2016),
"Learning without forgetting", arXiv 1606.09282.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

CHUNK = 256  # tokens whose logits exist at once
PROBED = 16  # tokens on which the output matrix is tried
READ = ("input_ids", "attention_mask", "position_ids")


def near_base(trainer: type, kl_weight: float) -> type:
    """A class of trainers whose loss has kl_weight x KL added (nats per learned token).

    Their own loss, the cross-entropy, is computed as it was; `penalty` is what was added last.

    Args:
        trainer: TRL's SFTTrainer; its model has a PEFT adapter.
        kl_weight: of the KL; above 0.
    """

    class NearBaseTrainer(trainer):
        penalty = 0.0

        def __init__(self, **kwargs: Any):
            super().__init__(**kwargs)
            self.head = plain_head(self.model, kwargs["train_dataset"][0]["input_ids"][:PROBED])

        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            learned = inputs["labels"][:, 1:] != -100  # the token that each position goes on to
            read = {name: inputs[name] for name in READ if name in inputs}
            loss, outputs = super().compute_loss(
                model, {**inputs, "output_hidden_states": True}, True, num_items_in_batch
            )
            # of the whole step where their number is given, as the cross-entropy has it
            tokens = learned.sum() if num_items_in_batch is None else num_items_in_batch
            with self.accelerator.autocast():  # as the model's own pass was computed
                tuned = outputs.hidden_states[-1][:, :-1][learned]
                base = base_states(model, read)[:, :-1][learned]
                added = kl_weight * divergence(base, tuned, self.head) / tokens
            self.penalty = added.item()
            return (loss + added, outputs) if return_outputs else loss + added

    return NearBaseTrainer


def plain_head(model: Any, tokens: Sequence[int]) -> Callable[[Tensor], Tensor]:
    """What makes logits of a model's last hidden states: its output matrix, and nothing more.

    Args:
        model: with its adapter.
        tokens: of a row, on which that is tried.

    Raises:
        ValueError: the model does more with its logits (a soft cap, a scale).
    """
    ids = torch.tensor([[*tokens]], device=model.device)
    with torch.no_grad():
        seen = model(input_ids=ids, output_hidden_states=True, use_cache=False)
        head = model.get_base_model().get_output_embeddings()
        made = head(seen.hidden_states[-1].to(head.weight.dtype)).float()
    logits = seen.logits.float()
    if not (made - logits).abs().max() <= 0.02 * (logits.max() - logits.min()):
        raise ValueError(
            f"kl_weight does not go with {model.config.model_type}, whose logits are more than its "
            "output matrix makes of the last hidden states: set train.kl_weight=0"
        )
    return head


def base_states(model: Any, read: dict[str, Tensor]) -> Tensor:
    """Last hidden states (rows, tokens, width) without the adapter, and without any dropout."""
    training = model.training
    model.eval()
    with torch.no_grad(), model.disable_adapter():
        states = model.get_base_model().base_model(use_cache=False, **read).last_hidden_state
    model.train(training)
    return states


def divergence(base: Tensor, tuned: Tensor, head: Callable[[Tensor], Tensor]) -> Tensor:
    """Sum over tokens of KL(base || tuned), nats.

    A few tokens' logits exist at once, also in the backward pass, which computes them once more.

    Args:
        base, tuned: hidden states, (tokens, width); no gradient reaches base.
        head: from hidden states to logits.
    """
    total = tuned.new_zeros((), dtype=torch.float32)
    for there, here in zip(base.split(CHUNK), tuned.split(CHUNK), strict=True):
        total = total + checkpoint(_divergence, there, here, head, use_reentrant=False)
    return total


def _divergence(base: Tensor, tuned: Tensor, head: Callable[[Tensor], Tensor]) -> Tensor:
    log_p, log_q = (head(states).float().log_softmax(-1) for states in (base, tuned))
    return (log_p.exp() * (log_p - log_q)).sum()

"""The work of a fine-tuning and of an evaluation, and the seconds that a device takes for it.

Operations and bytes follow from shapes and token counts; seconds also from the device's published
rates and one efficiency, which a published run gives. All seconds are estimates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from slimlib.config import EvalConfig
from slimlib.methods.memory import Setting, linear_parameters, weight_bytes
from slimlib.methods.shapes import Shape, base_parameters

# Of the published rate: Unsloth's TinyLlama run on a T4 (5,034.6 s for 3,000 packed rows of 4,096
# tokens, r 32, no checkpointing; its notebook's saved output) comes to this by the formulas below.
EFFICIENCY = 0.2
STEP_SECONDS = 0.03  # for one token of all rows: what launching the kernels takes; an assumption
ROW_TOKENS = 115  # of Alpaca's rows in the author's prompt: their first 2,000, SmolLM2's tokenizer
ROWS_AT_ONCE = 64  # that SlimLM decodes on a GPU


class Rates(NamedTuple):
    """A device's published rates."""

    flops: dict[str, float]  # FLOP/s by dtype
    bandwidth: float  # bytes/s


# NVIDIA's data sheet of the T4: 65 TFLOP/s in float16, 8.1 in float32, 320 GB/s
RATES = {"Tesla T4": Rates({"float16": 65e12, "float32": 8.1e12}, 320e9)}


class Asked(NamedTuple):
    """What SlimLM computes of a task: tokens, each shared one once; positions scored; generated."""

    tokens: int
    scored: int
    rows: int = 0  # that are answered in words
    longest: int = 0  # tokens of an answer at most


# Llama 2's tokens of the whole test sets, 5 shots before GSM8K's questions, lm-eval's most tokens
# of an answer; MMLU's by its letters, four a token, one position for the four choices.
ASKED = {
    "hellaswag": Asked(1_900_172, 1_325_544),
    "gsm8k": Asked(1_431_115, 0, rows=1_319, longest=256),
    "mmlu_high_school_computer_science": Asked(10_570, 100),
    "mmlu_college_computer_science": Asked(10_100, 100),
}


@dataclass(frozen=True)
class Work:
    """Operations and bytes, and the seconds in which only the host works."""

    flops: float
    bytes: float
    waiting: float = 0.0

    def __add__(self, other: Work) -> Work:
        return Work(
            self.flops + other.flops, self.bytes + other.bytes, self.waiting + other.waiting
        )

    def seconds(self, rates: Rates, dtype: str, efficiency: float = EFFICIENCY) -> float:
        """operations / (rate x efficiency) + bytes / bandwidth + waiting.

        A sum: weights are unpacked from 4 bit by one kernel and multiplied by another.

        Example: 13e12 FLOP and 320e9 bytes in float16 on a T4 at 0.2 -> 1 + 1 s.
        """
        return (
            self.flops / (rates.flops[dtype] * efficiency)
            + self.bytes / rates.bandwidth
            + self.waiting
        )


def padded(rows: int) -> float:
    """Tokens of a padded pass for each token of its rows: 1 + 0.27 log2(rows), a fit.

    Alpaca's first 2,000 rows in random order: 1.24, 1.52, 1.80, 2.14 for 2, 4, 8, 16 rows.
    """
    return 1 + 0.27 * math.log2(rows)


def training_work(
    shape: Shape, setting: Setting, trained: int, passes: float, full: bool = False
) -> Work:
    """Operations and bytes of a fine-tuning.

    For each token, with N weights in linear modules, P in the adapter, d V in the output matrix
    (Kaplan et al. 2020, arXiv 2001.08361, table 1: 2 for a weight and pass, frozen ones without
    the gradient of a weight):

        forward 2 N + 2 P + a;  backward 2 N + 4 P + 2 a;  again 2 N + 2 P + a with checkpointing;
        logits 6 d V (TRL makes them twice);  a = 2 tokens d layers, causal attention.

    Full fine-tuning: P is all of N and d V, N is none.

    For each pass the weights are read forward, backward, and again with checkpointing; in 4 bit
    they are also written and read as `compute` bytes.

    Example: N 10, P 2, d V 3, no layers' attention, checkpointing: 60 + 16 + 18 = 94 a token.
    """
    linear, head = linear_parameters(shape), shape.vocab_size * shape.hidden
    walks = 3 if setting.checkpointing else 2
    attention = 2 * setting.tokens * shape.hidden * shape.layers * (walks + 1)
    adapter = 2 * (walks + 1) * (linear if full else trained)
    frozen = 0 if full else 2 * walks * linear
    token = frozen + adapter + attention + (8 if full else 6) * head
    unpacked = 2 * setting.compute * linear if setting.four_bit else 0
    read = walks * (weight_bytes(shape, setting) + unpacked)
    return Work(token * setting.in_pass * passes, read * passes)


def evaluation_work(shape: Shape, config: EvalConfig, compute: int) -> tuple[Work, list[str]]:
    """What SlimLM computes of an evaluation, and the tasks whose tokens are not known.

    2 N for each token, 2 d V for each scored position and each generated token. Decoding reads all
    weights and the keys and values of all rows at each of rows x longest / 64 steps.

    Args:
        shape: the model's.
        config: its tasks.
        compute: bytes of a number.
    """
    linear, head = linear_parameters(shape), shape.vocab_size * shape.hidden
    whole, unknown = Work(0, 0), []
    for task in config.tasks:
        asked = ASKED.get(task.name)
        if asked is None or task.limit:
            unknown.append(task.name)
            continue
        generated = asked.rows * asked.longest
        flops = 2 * linear * (asked.tokens + generated) + 2 * head * (asked.scored + generated)
        steps = -(-generated // ROWS_AT_ONCE)
        cached = 2 * shape.layers * shape.kv_out * (asked.tokens / asked.rows if generated else 0)
        moved = steps * compute * (base_parameters(shape) + ROWS_AT_ONCE * cached)
        whole += Work(flops, moved, waiting=steps * STEP_SECONDS)
    return whole, unknown

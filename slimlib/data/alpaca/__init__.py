"""Held-out Alpaca rows as a benchmark: how likely the model takes each answer to be.

What a fine-tuning on Alpaca learns, on rows that no study trains on: those from the 2,301st on, in
the file's order, while studies take the first 500 or 2,000. The score of a row is the geometric
mean of the probability of each byte of its answer, exp(log-likelihood / bytes): from 0 to 1, higher
is better, the same for any tokenizer; -ln of it is the loss in nats per byte.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from slimlib.data.prompts import format_prompt

TASKS = Path(__file__).parent / "tasks"  # lm-eval task files
FIRST, LAST = 2_300, 3_300  # rows that are held out


def held_out(rows: Any) -> Any:
    """The rows of a `datasets.Dataset` that are held out, those without an answer left out."""
    chosen = rows.select([*range(FIRST, min(LAST, len(rows)))])
    return chosen.filter(lambda row: row["output"].strip() != "")


def prompt(row: Mapping[str, str]) -> str:
    """The prompt as run, up to where the answer begins."""
    return format_prompt(row, "as-run")


def per_byte(row: Mapping[str, str], results: Sequence[tuple[float, bool]]) -> dict[str, float]:
    """The score of a row.

    Args:
        row: its output is the answer.
        results: of one request: the answer's log-likelihood, nats, and whether it is greedy.

    Example: an answer of 2 bytes with log-likelihood ln(1/16) -> 1/4.
    """
    ((log_likelihood, _),) = results
    return {"byte_probability": math.exp(log_likelihood / len(row["output"].encode("utf-8")))}

"""Rows as text and as tokens: prompt templates, begin and end tokens.

Rows are tokenised here, not in the trainer, so that every backend trains on the same ids: exactly
one begin token, the end token appended and trained on (unless the author's run is reproduced, which
had none).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slimlib.config import DataConfig

# Stanford Alpaca's two prompts (tatsu-lab/stanford_alpaca, train.py).
ALPACA_PROMPT = (
    "Below is an instruction that describes a task, paired with an input that provides further "
    "context. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n"
)
ALPACA_PROMPT_NO_INPUT = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Response:\n"
)
# The author's prompt, as run: plain text, not special tokens, and an Input line even when empty.
AS_RUN_PROMPT = (
    "<|system|>\nYou are a helpful, accurate and truthful AI assistant.\n"
    "<|user|>\nInstruction: {instruction}\nInput: {input}\nOutput:\n<|assistant|>\n"
)


def format_prompt(row: Mapping[str, str], template: str) -> str:
    """The prompt of a row, up to where the answer begins."""
    if template == "as-run":
        return AS_RUN_PROMPT.format(**row)
    return (ALPACA_PROMPT if row["input"] else ALPACA_PROMPT_NO_INPUT).format(**row)


def format_row(row: Mapping[str, Any], template: str, tokenizer: Any) -> str:
    """The whole text of a row: prompt and answer, or the messages in the chat template.

    Raises:
        ValueError: messages of more than one turn for a tokenizer without a chat template.
    """
    if "messages" not in row:
        return format_prompt(row, template) + row["output"]
    if tokenizer.chat_template:
        return tokenizer.apply_chat_template(row["messages"], tokenize=False)
    roles, texts = zip(*((m["role"], m["content"]) for m in row["messages"]), strict=True)
    if roles != ("user", "assistant"):
        raise ValueError(
            f"messages of {', '.join(roles)} need a tokenizer with a chat template; without one, "
            "a row is one question of the user and one answer of the assistant"
        )
    simple = {"instruction": texts[0], "input": "", "output": texts[1]}
    return format_row(simple, template, tokenizer)


def encode(text: str, tokenizer: Any, append_eos: bool) -> list[int]:
    """Token ids: one begin token where the tokenizer adds it, the end token on demand."""
    ids = list(tokenizer(text)["input_ids"])
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    while bos is not None and ids[:2] == [bos, bos]:
        ids = ids[1:]
    while eos is not None and eos != bos and ids[-1:] == [eos]:
        ids = ids[:-1]
    return [*ids, eos] if append_eos else ids


def tokenize_rows(
    rows: list[dict[str, Any]], config: DataConfig, tokenizer: Any, max_seq_length: int
) -> tuple[Any, dict[str, int]]:
    """Rows as a `datasets.Dataset` with the column input_ids, and counts for the record.

    A row longer than max_seq_length tokens loses its tail, and with it the end token: it is counted
    as truncated. The loss covers the whole sequence, as run.
    """
    from datasets import Dataset

    ids = [
        encode(format_row(row, config.template, tokenizer), tokenizer, config.append_eos)
        for row in rows
    ]
    kept = [sequence[:max_seq_length] for sequence in ids]
    counts = {
        "rows": len(ids),
        "tokens": sum(map(len, kept)),
        "truncated_rows": sum(len(sequence) > max_seq_length for sequence in ids),
    }
    return Dataset.from_dict({"input_ids": kept}), counts

"""Rows as text: prompt templates, chat templates, and what of the text the model has to write."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slimlib.config import DataConfig
from slimlib.data.turns import ChatTemplate, Rendered, render_turns

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


# Several turns in Alpaca's prompt, each answer with its end; a system text is the preface.
ALPACA_TURNS = (
    "{% if messages[0].role != 'system' %}{{ 'Below is an instruction that describes a task. Write "
    "a response that appropriately completes the request.\n\n' }}{% endif %}"
    "{% for turn in messages %}"
    "{% if turn.role == 'system' %}{{ turn.content + '\n\n' }}"
    "{% elif turn.role == 'user' %}{{ '### Instruction:\n' + turn.content + '\n\n' }}"
    "{% else %}{{ '### Response:\n' + turn.content + (eos_token or '') + '\n\n' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '### Response:\n' }}{% endif %}"
)


def format_prompt(row: Mapping[str, str], template: str) -> str:
    """The prompt of a row, up to where the answer begins."""
    if template == "as-run":
        return AS_RUN_PROMPT.format(**row)
    return (ALPACA_PROMPT if row["input"] else ALPACA_PROMPT_NO_INPUT).format(**row)


def render_row(row: Mapping[str, Any], config: DataConfig, tokenizer: Any) -> Rendered:
    """The whole text of a row, and what of it the model has to write.

    Args:
        row: instruction, input and output; messages; or text, all of which is learned.
        config: template, and what becomes of a system turn that the chat template refuses.
        tokenizer: its chat template writes messages, and with template="auto" every row; one
            without a chat template has Alpaca's prompts.

    Raises:
        TurnsRefused: the template cannot write the row, or nothing of it is to be learned.
    """
    if "text" in row:
        text = row["text"]
        return Rendered(text, ((0, len(text)),), ended=False)
    messages = row.get("messages")
    if tokenizer.chat_template and (messages or config.template == "auto"):
        turns = messages or as_messages(row)
        return render_turns(turns, ChatTemplate(tokenizer), config.system == "to-user")
    if messages and [turn["role"] for turn in messages] != ["user", "assistant"]:
        if config.template == "as-run":
            roles = ", ".join(turn["role"] for turn in messages)
            raise ValueError(
                f"messages of {roles} need a tokenizer with a chat template, or template=auto; the "
                "author's prompt is one question of the user and one answer of the assistant"
            )
        return render_turns(messages, ChatTemplate(tokenizer, ALPACA_TURNS))
    if messages:
        question, answer = (turn["content"] for turn in messages)
        row = {"instruction": question, "input": "", "output": answer}
    prompt = format_prompt(row, config.template)
    text = prompt + row["output"]
    return Rendered(text, ((len(prompt), len(text)),), ended=False)


def as_messages(row: Mapping[str, str]) -> list[dict[str, str]]:
    """A question and its answer as two turns; the input stands below the instruction."""
    question = "\n\n".join(part for part in (row["instruction"], row["input"]) if part)
    return [
        {"role": "user", "content": question},
        {"role": "assistant", "content": row["output"]},
    ]

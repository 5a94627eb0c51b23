"""A tokenizer beside its model: the pad token, and a row of the embedding for every token."""

from __future__ import annotations

from typing import Any

# Tokens that were made for padding: Llama 3's and the customary ones.
PAD_TOKENS = ("<|finetune_right_pad_id|>", "<|pad|>", "<pad>", "[PAD]")


def set_pad_token(tokenizer: Any) -> None:
    """Give the tokenizer a pad token, one that is not its end token where it has one to spare.

    Llama 3 has a reserved token for it, Llama 2's family uses <unk>, others the begin token. Where
    nothing is left (GPT-2, Qwen 2.5, SmolLM2) the end token serves: the trainer masks padding by
    its position, never by its id, so that the end of an answer is learned all the same.

    Raises:
        ValueError: the tokenizer has no end token either.
    """
    if tokenizer.pad_token_id is not None and tokenizer.pad_token_id != tokenizer.eos_token_id:
        return
    vocabulary = tokenizer.get_vocab()
    spare = [*PAD_TOKENS, tokenizer.unk_token, tokenizer.bos_token]
    free = [t for t in spare if t in vocabulary and t != tokenizer.eos_token]
    if not free and tokenizer.eos_token is None:
        raise ValueError(
            f"{tokenizer.name_or_path}: its tokenizer names neither an end token nor a pad token, "
            "so no answer could end: set eos_token in its tokenizer_config.json"
        )
    tokenizer.pad_token = free[0] if free else tokenizer.eos_token


def check_vocabulary(tokenizer: Any, config: Any) -> None:
    """Refuse a tokenizer with ids that the embedding has no row for.

    A shorter tokenizer is fine: many embeddings are padded to a round number of rows.

    Args:
        tokenizer: of the model.
        config: the model's, as transformers reads it; a multimodal one holds the text model's.

    Raises:
        ValueError: with both numbers, the first token without a row, and the way out.
    """
    rows = config.get_text_config().vocab_size
    beyond = {i: token for token, i in tokenizer.get_vocab().items() if i >= rows}
    if beyond:
        raise ValueError(
            f"{tokenizer.name_or_path}: the tokenizer knows {max(beyond) + 1:,} tokens and the "
            f"embedding has {rows:,} rows: {len(beyond)} tokens, the first {beyond[min(beyond)]!r}"
            f" ({min(beyond)}), have none. Take them out of the tokenizer, or give the model rows "
            "for them: model.resize_token_embeddings(len(tokenizer)), save both, name that folder"
        )

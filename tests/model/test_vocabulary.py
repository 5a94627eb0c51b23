"""Pad tokens, what of a batch is learned, and tokens that the embedding has no row for."""

from dataclasses import replace

import pytest
import torch
from tokenizers_of_families import gpt2, llama2, llama3, make_tokenizer
from transformers import Gemma3Config, LlamaConfig, LlamaForCausalLM

from slimlib.config import DataConfig
from slimlib.data.tokens import tokenize_rows
from slimlib.model.vocabulary import check_vocabulary, set_pad_token
from slimlib.studies.get import get_study
from slimlib.train.finetune import make_trainer

ROW = {"instruction": "Add.", "input": "2 and 3", "output": "5"}
SHORT = {"instruction": "Name a colour.", "input": "", "output": "Red."}
ENDED = DataConfig(template="alpaca", append_eos=True)


def smollm2():
    """The instructed SmolLM2: pad is the end token, and the begin token is to spare."""
    return make_tokenizer("<|im_start|>", "<|im_end|>", pad="<|im_end|>", add_bos=False)


@pytest.mark.parametrize(
    ("tokenizer", "pad"),
    [
        (llama3(), "<|finetune_right_pad_id|>"),
        (llama2(), "<unk>"),
        (make_tokenizer("<s>", "</s>", unk="<unk>", pad="</s>"), "<unk>"),  # pad = end, as often
        (make_tokenizer("<s>", "</s>", pad="<mine>"), "<mine>"),  # one that is right is kept
        (make_tokenizer("<s>", "</s>"), "<s>"),
        (make_tokenizer(None, "<|endoftext|>", extra=("<|pad|>",)), "<|pad|>"),
        (gpt2(), "<|endoftext|>"),  # nothing to spare: the end token
        (make_tokenizer(None, "<|endoftext|>", pad="<|endoftext|>"), "<|endoftext|>"),  # Qwen 2.5
        (smollm2(), "<|im_start|>"),
    ],
)
def test_the_pad_token_is_one_to_spare_else_the_end_token(tokenizer, pad):
    size = len(tokenizer)
    set_pad_token(tokenizer)
    assert tokenizer.pad_token == pad
    assert len(tokenizer) == size  # a new token would need a row in the embeddings


def test_a_tokenizer_without_an_end_is_refused():
    with pytest.raises(ValueError, match="neither an end token nor a pad token.*set eos_token"):
        set_pad_token(make_tokenizer(extra=("a",)))


@pytest.mark.parametrize("tokenizer", [gpt2(), llama2()], ids=["pad = end", "pad = unk"])
def test_the_end_is_learned_and_padding_is_not(tokenizer, tmp_path):
    """The trainer's own batch of two lengths: labels are the row's ids, its end token with them."""
    set_pad_token(tokenizer)
    dataset, _ = tokenize_rows([ROW, SHORT], ENDED, tokenizer, 4096)
    arm = get_study("smoke")["llama-2k"]
    arm = replace(arm, train=replace(arm.train, per_device_train_batch_size=2))
    trainer = make_trainer(_tiny_llama(len(tokenizer)), tokenizer, dataset, arm, tmp_path)
    batch = next(iter(trainer.get_train_dataloader()))
    lengths = set()
    for ids, seen, labels in zip(
        batch["input_ids"], batch["attention_mask"], batch["labels"], strict=True
    ):
        row = ids[seen.bool()].tolist()
        assert row in list(dataset["input_ids"])
        assert labels[seen.bool()].tolist() == row and row[-1] == tokenizer.eos_token_id
        assert set(labels[~seen.bool()].tolist()) <= {-100}
        lengths.add(len(row))
    assert len(lengths) == 2  # one of them was padded


def test_padding_by_the_end_token_changes_no_loss(tmp_path):
    """A padded batch's loss is the token-weighted mean of its rows' losses, each alone."""
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    tokenizer = gpt2()
    set_pad_token(tokenizer)
    dataset, _ = tokenize_rows([ROW, SHORT], ENDED, tokenizer, 4096)
    collate = DataCollatorForLanguageModeling(pad_token_id=tokenizer.pad_token_id)
    model = _tiny_llama(len(tokenizer))
    with torch.no_grad():
        together = model(**collate(list(dataset))).loss
        alone = [model(**collate([row])).loss for row in dataset]
    sizes = torch.tensor([len(ids) - 1.0 for ids in dataset["input_ids"]])
    assert float(together) == pytest.approx(float((torch.stack(alone) * sizes).sum() / sizes.sum()))


def _tiny_llama(vocabulary):
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}
    return LlamaForCausalLM(
        LlamaConfig(vocab_size=vocabulary, num_hidden_layers=1, initializer_range=0.5, **sizes)
    )


# ---------------------------------------------------------------------------------- the embedding


@pytest.mark.parametrize("spare_rows", [0, 7])  # many embeddings are padded
def test_a_tokenizer_that_fits_its_embedding_passes(spare_rows):
    tokenizer = llama2()
    check_vocabulary(tokenizer, LlamaConfig(vocab_size=len(tokenizer) + spare_rows))


def test_tokens_without_a_row_are_named_with_the_numbers():
    tokenizer = llama2()
    config = LlamaConfig(vocab_size=len(tokenizer))
    tokenizer.add_special_tokens({"additional_special_tokens": ["<think>", "</think>"]})
    n = len(tokenizer)
    words = rf"knows {n} tokens and the embedding has {n - 2} rows: 2 tokens, the first '<think>'"
    with pytest.raises(ValueError, match=rf"{words} \({n - 2}\).*resize_token_embeddings"):
        check_vocabulary(tokenizer, config)


def test_a_multimodal_model_s_rows_are_its_text_model_s():
    tokenizer = llama2()
    check_vocabulary(tokenizer, Gemma3Config(text_config={"vocab_size": len(tokenizer)}))
    with pytest.raises(ValueError, match="1 tokens, the first"):
        check_vocabulary(tokenizer, Gemma3Config(text_config={"vocab_size": len(tokenizer) - 1}))

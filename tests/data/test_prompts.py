"""Rows as text and as tokens: prompts; where the begin and end tokens are."""

from dataclasses import replace

import pytest
from tokenizers_of_families import gpt2, llama2, llama3

from slimlib.config import DataConfig
from slimlib.data import prompts, rows
from slimlib.data.prompts import encode, format_prompt, format_row

ROW = {"instruction": "Add.", "input": "2 and 3", "output": "5"}
NO_INPUT = {"instruction": "Name a colour.", "input": "", "output": "Red."}
AUTHOR = DataConfig()  # as run: the author's prompt, no end token
STANFORD = DataConfig(template="alpaca", append_eos=True)


# ---------------------------------------------------------------------------------------- prompts


def test_stanford_s_prompt_with_an_input():
    assert format_prompt(ROW, "alpaca") == (
        "Below is an instruction that describes a task, paired with an input that provides further "
        "context. Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nAdd.\n\n### Input:\n2 and 3\n\n### Response:\n"
    )


def test_stanford_s_prompt_without_an_input():
    assert format_prompt(NO_INPUT, "alpaca") == (
        "Below is an instruction that describes a task. Write a response that appropriately "
        "completes the request.\n\n### Instruction:\nName a colour.\n\n### Response:\n"
    )


def test_the_author_s_prompt_byte_for_byte():
    assert format_row(ROW, "as-run", None).encode() == (
        b"<|system|>\nYou are a helpful, accurate and truthful AI assistant.\n<|user|>\n"
        b"Instruction: Add.\nInput: 2 and 3\nOutput:\n<|assistant|>\n5"
    )


def test_the_author_s_prompt_keeps_an_empty_input_line():
    assert "\nInput: \nOutput:\n" in format_prompt(NO_INPUT, "as-run")


def test_braces_in_a_row_are_text():
    row = {"instruction": "{input} {0} {", "input": "{output}", "output": "}"}
    assert "{input} {0} {" in format_prompt(row, "alpaca")
    assert "\n{output}\n" in format_prompt(row, "alpaca")


MESSAGES = [{"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "Hello."}]


def test_messages_without_a_chat_template_are_one_question_and_answer():
    text = format_row({"messages": MESSAGES}, "alpaca", llama2())
    assert text.endswith("### Instruction:\nHi?\n\n### Response:\nHello.")


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "system", "content": "Be kind."}, *MESSAGES],
        [*MESSAGES, *MESSAGES],
        MESSAGES[::-1],
        MESSAGES[:1],
    ],
)
def test_other_messages_need_a_chat_template(messages):
    with pytest.raises(ValueError, match="need a tokenizer with a chat template"):
        format_row({"messages": messages}, "alpaca", llama2())


def test_a_chat_template_that_writes_the_begin_token_gives_one():
    tokenizer = llama2()
    tokenizer.chat_template = (
        "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
        "{{ eos_token }}"
    )
    text = format_row({"messages": MESSAGES}, "alpaca", tokenizer)
    ids = encode(text, tokenizer, append_eos=True)
    assert text == "<s>[user]Hi?[assistant]Hello.</s>"
    assert ids.count(tokenizer.bos_token_id) == ids.count(tokenizer.eos_token_id) == 1


# ----------------------------------------------------------------------------------------- tokens


@pytest.mark.parametrize("family", [llama3, llama2])
@pytest.mark.parametrize("row", [ROW, NO_INPUT])
def test_one_begin_token_and_the_end_token_last(family, row):
    tokenizer = family()
    dataset, counts = prompts.tokenize_rows([row], STANFORD, tokenizer, 4096)
    (ids,) = dataset["input_ids"]
    assert ids[0] == tokenizer.bos_token_id and ids[-1] == tokenizer.eos_token_id
    assert ids.count(tokenizer.bos_token_id) == ids.count(tokenizer.eos_token_id) == 1
    assert tokenizer.decode(ids[1:-1]) == format_row(row, "alpaca", tokenizer)
    assert counts == {"rows": 1, "tokens": len(ids), "truncated_rows": 0}


@pytest.mark.parametrize("family", [llama3, llama2])
def test_the_author_s_run_has_no_end_token(family):
    tokenizer = family()
    dataset, _ = prompts.tokenize_rows([ROW], AUTHOR, tokenizer, 4096)
    (ids,) = dataset["input_ids"]
    assert tokenizer.eos_token_id not in ids
    assert ids.count(tokenizer.bos_token_id) == 1


def test_a_begin_or_end_token_that_is_there_already_is_not_doubled():
    tokenizer = llama2()
    ids = encode("<s><s>text</s></s>", tokenizer, append_eos=True)
    assert (ids.count(tokenizer.bos_token_id), ids.count(tokenizer.eos_token_id)) == (1, 1)
    assert encode("text</s>", tokenizer, append_eos=False) == encode("text", tokenizer, False)


def test_an_end_token_that_is_also_the_begin_token_is_appended_once():
    tokenizer = gpt2()
    ids = encode("text", tokenizer, append_eos=True)
    assert ids.count(tokenizer.eos_token_id) == 1 and ids[-1] == tokenizer.eos_token_id


def test_truncated_rows_are_counted_and_lose_their_tail():
    tokenizer = llama2()
    config = replace(STANFORD, template="as-run")
    whole = encode(format_row(ROW, "as-run", tokenizer), tokenizer, True)
    for limit, cut in ((len(whole), 0), (len(whole) - 1, 1)):
        dataset, counts = prompts.tokenize_rows([ROW], config, tokenizer, limit)
        assert dataset["input_ids"][0] == whole[:limit]
        assert counts == {"rows": 1, "tokens": limit, "truncated_rows": cut}


# -------------------------------------------------------------------------------------- real rows


def test_real_rows_survive_the_embedded_tokenizer(data_folder):
    from slimlib.config import ModelConfig
    from slimlib.model.load import load_tokenizer

    tokenizer = load_tokenizer(ModelConfig("micro:base"))
    loaded = rows.load_rows(DataConfig(n=50), 0, data_folder)
    dataset, counts = prompts.tokenize_rows(loaded, replace(STANFORD, n=50), tokenizer, 4096)
    assert counts["truncated_rows"] == 0
    for row, ids in zip(loaded, dataset["input_ids"], strict=True):
        assert (ids[0], ids[-1]) == (tokenizer.bos_token_id, tokenizer.eos_token_id)
        assert tokenizer.decode(ids[1:-1]) == format_row(row, "alpaca", tokenizer)

"""Rows as text and as tokens: prompts; where the begin and end tokens are."""

from dataclasses import replace

import pytest
from tokenizers_of_families import gpt2, llama2, llama3

from slimlib.config import DataConfig
from slimlib.data import rows, tokens
from slimlib.data.encoding import Encoder
from slimlib.data.prompts import format_prompt, render_row
from slimlib.data.turns import Rendered

ROW = {"instruction": "Add.", "input": "2 and 3", "output": "5"}
NO_INPUT = {"instruction": "Name a colour.", "input": "", "output": "Red."}
AUTO = DataConfig(template="auto", append_eos=True)
AUTHOR = DataConfig()  # as run: the author's prompt, no end token
STANFORD = DataConfig(template="alpaca", append_eos=True)


def text_of(row, config, tokenizer):
    return render_row(row, config, tokenizer).text


def encode(text, tokenizer, append_eos):
    rendered = Rendered(text, ((0, len(text)),), ended=False)
    return Encoder(tokenizer, DataConfig(append_eos=append_eos), 4096).encode(rendered).ids


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
    assert text_of(ROW, AUTHOR, llama2()).encode() == (
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
    text = text_of({"messages": MESSAGES}, STANFORD, llama2())
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
def test_the_author_s_prompt_has_no_place_for_other_messages(messages):
    with pytest.raises(ValueError, match="need a tokenizer with a chat template, or template=auto"):
        render_row({"messages": messages}, AUTHOR, llama2())


@pytest.mark.parametrize("config", [STANFORD, AUTO])
def test_several_turns_without_a_chat_template_are_alpaca_s_prompt_again_and_again(config):
    system = {"role": "system", "content": "Be kind."}
    rendered = render_row({"messages": [system, *MESSAGES, *MESSAGES]}, config, llama2())
    turn = "### Instruction:\nHi?\n\n### Response:\nHello.</s>"
    assert rendered.text == f"Be kind.\n\n{turn}\n\n{turn}"
    assert [rendered.text[a:b] for a, b in rendered.spans] == ["Hello.</s>"] * 2
    plain = render_row({"messages": [*MESSAGES, *MESSAGES]}, config, llama2()).text
    assert plain == f"{format_prompt(NO_INPUT, 'alpaca').partition('###')[0]}{turn}\n\n{turn}"


def test_a_chat_template_writes_questions_and_answers_too_where_it_is_asked_for():
    tokenizer = llama2()
    tokenizer.chat_template = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
    assert text_of(ROW, AUTO, tokenizer) == "[user]Add.\n\n2 and 3[assistant]5"
    assert text_of(NO_INPUT, AUTO, tokenizer) == "[user]Name a colour.[assistant]Red."
    assert "### Input:" in text_of(ROW, STANFORD, tokenizer)


def test_a_chat_template_that_writes_the_begin_token_gives_one():
    tokenizer = llama2()
    tokenizer.chat_template = (
        "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
        "{{ eos_token }}"
    )
    rendered = render_row({"messages": MESSAGES}, STANFORD, tokenizer)
    ids = Encoder(tokenizer, STANFORD, 4096).encode(rendered).ids
    assert rendered.text == "<s>[user]Hi?[assistant]Hello.</s>"
    assert ids.count(tokenizer.bos_token_id) == ids.count(tokenizer.eos_token_id) == 1


# ----------------------------------------------------------------------------------------- tokens


@pytest.mark.parametrize("family", [llama3, llama2])
@pytest.mark.parametrize("row", [ROW, NO_INPUT])
def test_one_begin_token_and_the_end_token_last(family, row):
    tokenizer = family()
    dataset, report = tokens.tokenize_rows([row], STANFORD, tokenizer, 4096)
    (ids,) = dataset["input_ids"]
    assert ids[0] == tokenizer.bos_token_id and ids[-1] == tokenizer.eos_token_id
    assert ids.count(tokenizer.bos_token_id) == ids.count(tokenizer.eos_token_id) == 1
    assert tokenizer.decode(ids[1:-1]) == text_of(row, STANFORD, tokenizer)
    assert (report.kept, report.tokens, report.truncated) == (1, len(ids), ())
    assert (report.learned_tokens, report.without_end) == (len(ids) - 1, 0)  # all but the first


@pytest.mark.parametrize("family", [llama3, llama2])
def test_the_author_s_run_has_no_end_token(family):
    tokenizer = family()
    dataset, _ = tokens.tokenize_rows([ROW], AUTHOR, tokenizer, 4096)
    (ids,) = dataset["input_ids"]
    assert tokenizer.eos_token_id not in ids
    assert ids.count(tokenizer.bos_token_id) == 1


def test_the_author_s_ids_are_the_tokenizer_s_own_of_prompt_and_answer(data_folder):
    from slimlib.config import ModelConfig
    from slimlib.model.load import load_tokenizer

    tokenizer = load_tokenizer(ModelConfig("micro:base"))
    loaded = rows.load_rows(DataConfig(n=200), 0, data_folder)
    dataset, _ = tokens.tokenize_rows(loaded, AUTHOR, tokenizer, 300)
    assert dataset.column_names == ["input_ids"]
    for row, ids in zip(loaded, dataset["input_ids"], strict=True):
        text = format_prompt(row, "as-run") + row["output"]
        assert ids == tokenizer(text)["input_ids"][:300]


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
    whole = encode(text_of(ROW, config, tokenizer), tokenizer, True)
    for limit, cut in ((len(whole), 0), (len(whole) - 1, 1)):
        dataset, report = tokens.tokenize_rows([ROW], config, tokenizer, limit)
        assert dataset["input_ids"][0] == whole[:limit]
        counts = report.counts()
        assert (counts["rows"], counts["tokens"], counts["truncated_rows"]) == (1, limit, cut)
        assert report.without_end == cut


# -------------------------------------------------------------------------------------- real rows


def test_real_rows_survive_the_embedded_tokenizer(data_folder):
    from slimlib.config import ModelConfig
    from slimlib.model.load import load_tokenizer

    tokenizer = load_tokenizer(ModelConfig("micro:base"))
    loaded = rows.load_rows(DataConfig(n=50), 0, data_folder)
    dataset, report = tokens.tokenize_rows(loaded, replace(STANFORD, n=50), tokenizer, 4096)
    assert report.truncated == ()
    for row, ids in zip(loaded, dataset["input_ids"], strict=True):
        assert (ids[0], ids[-1]) == (tokenizer.bos_token_id, tokenizer.eos_token_id)
        assert tokenizer.decode(ids[1:-1]) == text_of(row, STANFORD, tokenizer)

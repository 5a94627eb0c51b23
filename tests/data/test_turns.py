"""Chat templates: every answer with its end is learned, and nothing else."""

import random
import re
from pathlib import Path

import pytest
from chat_templates import FALCON, FAMILIES, byte_tokenizer, tokenizer_of

from slimlib.config import DataConfig
from slimlib.data.tokens import prepare_rows
from slimlib.data.turns import ChatTemplate, SystemRefused, TurnsRefused, render_turns

LEARN = DataConfig(template="auto", append_eos=True, learn="answer")


def user(text):
    return {"role": "user", "content": text}


def model(text):
    return {"role": "assistant", "content": text}


def system(text):
    return {"role": "system", "content": text}


SINGLE = [user("What is 2 + 2?"), model("4")]
SEVERAL = [
    user("Hi?"),
    model("Hello."),
    user("2 + 2?"),
    model("Four.\nIs it?"),
    user("ok"),
    model("y"),
]


def runs_learned(tokens, tokenizer):
    """The texts of the learned stretches of a row, end tokens included."""
    runs, last = [], False
    for token, learned in zip(tokens.ids, tokens.learned, strict=True):
        if learned:
            runs = [*runs, []] if not last else runs
            runs[-1].append(token)
        last = learned
    return [tokenizer.decode(run) for run in runs]


def learned_of(messages, tokenizer, config=LEARN):
    (tokens,), report = prepare_rows([{"messages": messages}], config, tokenizer, 4096)
    return tokens, runs_learned(tokens, tokenizer), report


def expected(messages, family):
    answers = [turn["content"] for turn in messages if turn["role"] == "assistant"]
    space = " " if family is FAMILIES["llama-2"] else ""
    before = [family.before] * len(answers)
    if family.before_last is not None:
        before[-1] = family.before_last
    return [f"{b}{a}{space}{family.end}" for b, a in zip(before, answers, strict=True)]


@pytest.mark.parametrize("messages", [SINGLE, SEVERAL], ids=["one turn", "several"])
@pytest.mark.parametrize("name", FAMILIES)
def test_every_answer_with_its_end_is_learned_and_nothing_else(name, messages):
    family = FAMILIES[name]
    tokenizer = tokenizer_of(family)
    tokens, learned, report = learned_of(messages, tokenizer)
    assert learned == expected(messages, family)
    assert tokens.ended and tokenizer.decode(tokens.ids[-1:]) == family.end
    assert (report.kept, report.without_end, report.rewritten) == (1, 0, ())
    assert family.bos is None or tokens.ids[:2].count(tokenizer.bos_token_id) == 1


def test_a_talk_may_begin_with_the_model():
    """Nothing asks for that answer, so it begins with its own text."""
    tokenizer = tokenizer_of(FAMILIES["chatml"])
    _, learned, _ = learned_of([model("Hello."), *SINGLE], tokenizer)
    assert learned == ["Hello.<|im_end|>", "4<|im_end|>"]


@pytest.mark.parametrize("name", FAMILIES)
def test_what_is_read_is_what_the_template_writes(name):
    """But for what stands behind the last answer's end, of which nothing is learned."""
    tokenizer = tokenizer_of(FAMILIES[name])
    tokens, _, _ = learned_of(SEVERAL, tokenizer)
    whole = tokenizer.apply_chat_template(SEVERAL, tokenize=False)
    text = tokenizer.decode(tokens.ids)
    added = tokenizer.bos_token if not whole.startswith(tokenizer.bos_token or "") else ""
    assert (added + whole).startswith(text)
    assert (added + whole)[len(text) :].strip() in ("", tokenizer.eos_token)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_question_and_an_answer_go_through_the_template_as_two_turns_do(name):
    tokenizer = tokenizer_of(FAMILIES[name])
    row = {"instruction": "What is 2 + 2?", "input": "", "output": "4"}
    (tokens,), _ = prepare_rows([row], LEARN, tokenizer, 4096)
    assert tokens == learned_of(SINGLE, tokenizer)[0]


@pytest.mark.parametrize("name", [name for name, family in FAMILIES.items() if family.system])
def test_a_system_turn_is_read_and_not_learned(name):
    family = FAMILIES[name]
    tokenizer = tokenizer_of(family)
    tokens, learned, report = learned_of([system("Be kind."), *SEVERAL], tokenizer)
    assert learned == expected(SEVERAL, family)
    assert "Be kind." in tokenizer.decode(tokens.ids) and report.moved == ()


@pytest.mark.parametrize("name", [name for name, family in FAMILIES.items() if not family.system])
def test_a_template_without_a_system_turn_refuses_or_has_it_in_the_first_question(name):
    tokenizer = tokenizer_of(FAMILIES[name])
    messages = [system("Be kind."), *SEVERAL]
    with pytest.raises(ValueError, match="row 1: .*not supported; data.system=to-user puts"):
        learned_of(messages, tokenizer)
    allowed = DataConfig(template="auto", append_eos=True, learn="answer", system="to-user")
    tokens, learned, report = learned_of(messages, tokenizer, allowed)
    assert learned == expected(SEVERAL, FAMILIES[name]) and report.moved == (1,)
    assert "Be kind.\n\nHi?" in tokenizer.decode(tokens.ids)


def test_a_template_that_silently_leaves_the_system_turn_out_refuses_it():
    drops = (
        "{% for m in messages if m.role != 'system' %}{{ m.role + ':' + m.content + '</s>' }}"
        "{% endfor %}"
    )
    chat = ChatTemplate(byte_tokenizer(drops, "</s>"))
    with pytest.raises(SystemRefused, match="leaves the system turn out"):
        render_turns([system("Be kind."), *SINGLE], chat)
    assert render_turns([system("Be kind."), *SINGLE], chat, to_user=True).moved


# ---------------------------------------------------------------------------------- hard answers

HARD = [
    "<|im_end|>\n<|im_start|>user\nI am no turn",
    "assistant",
    "  white space around \n\n",
    "<think>\n2 and 2\n</think>\n\nfour",
    "4",
    "ends in a line\n",
    "\U000f0000 and \U000f0001",
    "naïve 한국어 🙂\u2028x",
    "{{ 7 * 7 }} {% raw %}",
]


@pytest.mark.parametrize("name", FAMILIES)
def test_answers_that_look_like_a_template_are_still_found(name):
    """Each answer by itself, and all in one conversation; the texts learned are the answers."""
    family = FAMILIES[name]
    chat = ChatTemplate(tokenizer_of(family))
    for answers in ([answer] for answer in HARD):
        messages = [turn for answer in answers for turn in (user("4"), model(answer))]
        rendered = render_turns(messages, chat)
        for (begin, end), answer in zip(rendered.spans, answers, strict=True):
            said = answer.split("</think>")[-1].strip()
            learned = rendered.text[begin:end]
            assert learned.endswith(family.end)
            assert said in learned and len(learned) <= len(answer) + 60
    messages = [turn for answer in HARD for turn in (user(answer), model(answer))]
    rendered = render_turns(messages, chat)
    assert len(rendered.spans) == len(HARD)
    assert [rendered.text[a:b].endswith(family.end) for a, b in rendered.spans] == [True] * len(
        HARD
    )


def test_a_thought_of_the_last_answer_is_learned_and_earlier_ones_are_said_to_be_left_out():
    tokenizer = tokenizer_of(FAMILIES["qwen3"])
    thinks = [
        user("1?"),
        model("<think>\none\n</think>\n\n1"),
        user("2?"),
        model("<think>\ntwo\n</think>\n\n2"),
    ]
    _, learned, report = learned_of(thinks, tokenizer)
    assert learned == ["1<|im_end|>", "<think>\ntwo\n</think>\n\n2<|im_end|>"]
    assert report.rewritten == (1,)
    assert any("leaves out a part of: 1 row (1)" in said for said in report.sentences())


def test_turns_behind_the_last_answer_are_left_out_and_an_empty_one_is_not_learned():
    family = FAMILIES["chatml"]
    tokenizer = tokenizer_of(family)
    messages = [user("a"), model(""), user("b"), model("B"), user("c"), model(" ")]
    tokens, learned, _ = learned_of(messages, tokenizer)
    assert learned == ["B<|im_end|>"] and tokens.ended
    tokens, learned, _ = learned_of([*SINGLE, user("and 3 + 3?")], tokenizer)
    assert learned == ["4<|im_end|>"] and "3 + 3" not in tokenizer.decode(tokens.ids)


def test_answers_that_the_template_makes_one_of_are_both_learned():
    merges = (
        "{% for m in messages %}{% if loop.first or m.role != messages[loop.index0 - 1].role %}"
        "{{ '<' + m.role + '>' }}{% endif %}{{ m.content }}"
        "{% if loop.last or m.role != messages[loop.index].role %}{{ '</s>' }}{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
    )
    tokenizer = byte_tokenizer(merges, "</s>")
    _, learned, _ = learned_of(
        [user("q"), model("one,"), model("two"), user("r"), model("s")], tokenizer
    )
    assert "".join(learned) == "one,two</s>s</s>"


def test_a_template_that_writes_other_answers_is_refused_in_words():
    counts = "{% for m in messages %}{{ m.content | length }}</s>{% endfor %}"
    with pytest.raises(TurnsRefused, match="rewrites the answers"):
        render_turns(SINGLE, ChatTemplate(byte_tokenizer(counts, "</s>")))


def test_a_thought_that_the_template_leaves_out_is_said():
    """DeepSeek-R1's asks with <think> and writes answers without their thoughts."""
    thinks = [user("2 + 2?"), model("<think>\ntwo\n</think>\n\n4")]
    _, learned, report = learned_of(thinks, tokenizer_of(FAMILIES["deepseek"]))
    assert learned == ["\n\n4" + FAMILIES["deepseek"].end] and report.rewritten == (1,)


def test_rows_that_the_template_refuses_are_left_out_by_number_with_its_reason():
    tokenizer = tokenizer_of(FAMILIES["gemma"])
    rows = [{"messages": SINGLE}, {"messages": [user("a"), user("b"), model("c")]}]
    kept, report = prepare_rows(rows, LEARN, tokenizer, 4096)
    assert len(kept) == 1
    assert report.dropped == {"the chat template refuses the row: Roles must alternate": (2,)}


@pytest.mark.parametrize("append", [True, False])
def test_a_template_without_an_end_has_the_tokenizer_s_where_one_is_asked_for(append):
    tokenizer = byte_tokenizer(FALCON, "<|endoftext|>")
    config = DataConfig(template="auto", append_eos=append, learn="answer")
    tokens, learned, report = learned_of(SEVERAL, tokenizer, config)
    end = "<|endoftext|>" if append else ""
    assert learned == [" Hello.", " Four.\nIs it?", f" y{end}"]
    assert (tokens.ended, report.without_end) == (append, int(not append))


def test_an_end_of_plain_letters_is_learned_and_the_tokenizer_s_behind_it():
    chatml = FAMILIES["chatml"].template  # a base model's tokenizer, which knows no <|im_end|>
    tokenizer = byte_tokenizer(chatml, "</s>")
    _, learned, _ = learned_of(SINGLE, tokenizer)
    assert learned == ["4<|im_end|></s>"]


# ------------------------------------------------------------------------- tokens across the edge


def test_a_token_across_the_beginning_of_an_answer_is_learned():
    """A space and the answer in one token: without it nothing of the answer would be learned."""
    tokenizer = byte_tokenizer(
        "{% for m in messages %}{{ m.role + ': ' + m.content + '</s>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}",
        "</s>",
        merges=(("Ġ", "4"),),
    )
    tokens, learned, _ = learned_of([user("q"), model("4")], tokenizer)
    assert learned == [" 4</s>"]


def test_a_special_token_that_swallows_white_space_behind_it_is_no_answer():
    """Phi-3's tokens do (rstrip): <|assistant|> reaches into an answer that begins with a line."""
    from transformers import AddedToken

    family = FAMILIES["phi-3"]
    tokenizer = tokenizer_of(family)
    tokenizer.add_tokens(
        [AddedToken(t, rstrip=True, special=True) for t in ("<|assistant|>", "<|end|>")],
        special_tokens=True,
    )
    _, learned, _ = learned_of([user("q"), model("\n  a")], tokenizer)
    assert [text.strip() for text in learned] == ["a<|end|>"]


def test_white_space_that_a_tokenizer_leaves_out_of_its_offsets_is_learned():
    """GPT-2's and Llama 3's processor trims offsets: "\\n" in an answer covers no character."""
    from tokenizers.processors import ByteLevel

    tokenizer = tokenizer_of(FAMILIES["chatml"])
    tokenizer.backend_tokenizer.post_processor = ByteLevel(trim_offsets=True)
    offsets = tokenizer("a\n b", return_offsets_mapping=True)["offset_mapping"]
    assert any(begin == end for begin, end in offsets)
    _, learned, _ = learned_of([user("q"), model("a\n\n b")], tokenizer)
    assert learned == ["a\n\n b<|im_end|>"]


# --------------------------------------------------------------------------- templates of the hub


def hub_templates():
    """The templates that TRL carries beside its own with {% generation %}, by family."""
    import trl

    folder = Path(trl.__file__).parent / "chat_templates"
    names = ("cohere", "cohere2", "llama3", "gemma", "gemma3", "qwen2_5", "qwen2_5_vl", "lfm2")
    names += ("phi3", "phi3_5", "qwen3_instruct_2507", "qwen3_vl")
    return [
        pytest.param(folder / f"{name}.jinja", folder / f"{name}_training.jinja", id=name)
        for name in names
        if (folder / f"{name}_training.jinja").exists()
    ]


@pytest.mark.parametrize(("original", "tagged"), hub_templates())
def test_real_templates_learn_what_their_generation_tags_say(original, tagged):
    """TRL's tags include the newline behind the end token and, once, the one before the answer."""
    template = original.read_text("utf-8")
    special = tuple(dict.fromkeys(re.findall(r"<\|[^|<>\s]+\|>|<(?:start|end)_of_turn>", template)))
    tokenizer = byte_tokenizer(template, "</s>", "<s>", special=special)
    tokens, learned, _ = learned_of(SEVERAL, tokenizer)
    found = tokenizer.apply_chat_template(
        SEVERAL,
        chat_template=tagged.read_text("utf-8"),
        return_dict=True,
        return_assistant_tokens_mask=True,
    )
    runs, last = [], 0
    for token, mask in zip(found["input_ids"], found["assistant_masks"], strict=True):
        runs = [*runs, []] if mask and not last else runs
        if mask:
            runs[-1].append(token)
        last = mask
    tags = [tokenizer.decode(run).strip().removesuffix("</s>").strip() for run in runs]
    assert learned == tags and len(tags) == 3


def test_a_hundred_random_conversations_of_every_family():
    """Learned is what differs from the same conversation with other answers, and the ends."""
    chooser = random.Random(0)
    words = ["a", " ", "\n", "assistant", "user", "<|im_end|>", "[/INST]", "é", "4", "ASSISTANT:"]
    for family in FAMILIES.values():
        chat = ChatTemplate(tokenizer_of(family))
        for _ in range(7):
            turns = chooser.randint(1, 4)
            texts = ["x" + "".join(chooser.choices(words, k=6)) + "x" for _ in range(2 * turns)]
            messages = [(user, model)[n % 2](text) for n, text in enumerate(texts)]
            rendered = render_turns(messages, chat)
            for (begin, end), answer in zip(rendered.spans, texts[1::2], strict=True):
                learned = rendered.text[begin:end]
                assert learned.strip().removesuffix(family.end).strip().endswith(answer)
                assert len(learned) <= len(answer) + len(family.end) + 25

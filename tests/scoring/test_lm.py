"""SlimLM answers every request as lm-eval's own HFLM does, which is asked beside it throughout."""

import copy
import random
import sys
from collections import Counter
from contextlib import contextmanager
from typing import Any, NamedTuple

import lm_eval
import peft
import pytest
import torch
import transformers
from lm_eval.api.instance import Instance
from lm_eval.api.model import CachingLM
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from transformers import AutoModelForCausalLM, AutoTokenizer

from slimlib.config import ModelConfig, Task
from slimlib.data.micro.abilities import word_problem
from slimlib.data.tasks import task_yaml
from slimlib.model.load import load_transformers, resolve_name
from slimlib.scoring import SlimLM
from slimlib.scoring.cache import KeysValues
from slimlib.scoring.decoding import Ends
from slimlib.scoring.forward import windowed

TOLERANCE = 1e-4  # absolute, of a log-likelihood in float32
EOS, EOT = "<|end_of_text|>", "<|eot_id|>"

Pairs = list[tuple[str, str]]


class Model(NamedTuple):
    """What a test evaluates."""

    network: Any
    tokenizer: Any


@pytest.fixture(scope="module")
def tiny(checkpoint) -> Model:
    """The random model; its log-likelihoods lie far apart."""
    network = AutoModelForCausalLM.from_pretrained(checkpoint, dtype="float32")
    return Model(network, AutoTokenizer.from_pretrained(checkpoint))


@pytest.fixture(scope="module")
def micro() -> Model:
    """The embedded base model; it writes sums, new lines and end tokens."""
    network = AutoModelForCausalLM.from_pretrained(resolve_name("micro:base"), dtype="float32")
    return Model(network, AutoTokenizer.from_pretrained(resolve_name("micro:base")))


@pytest.fixture(scope="module")
def restless(tiny) -> Model:
    """The random model with special tokens that are likelier: rows end at different times."""
    network = copy.deepcopy(tiny.network)
    with torch.no_grad():
        network.lm_head.weight[tiny.tokenizer.convert_tokens_to_ids([EOS, EOT])] *= 2.2
    return Model(network, tiny.tokenizer)


def slim(model: Model, **kwargs: Any) -> SlimLM:
    """SlimLM that has made its trial of the model, so that a test sees its own passes alone."""
    lm = SlimLM(pretrained=model.network, tokenizer=model.tokenizer, **kwargs)
    assert lm.stock_reason is None or lm.stock_reason.strip()
    return lm


def stock(model: Model, batch_size: int = 4, **kwargs: Any) -> HFLM:
    kwargs = {"batch_size": batch_size, **kwargs}
    return HFLM(pretrained=model.network, tokenizer=model.tokenizer, **kwargs)


def asked(kind: str, arguments: list[tuple]) -> list[Instance]:
    return [Instance(kind, {}, one, i) for i, one in enumerate(arguments)]


def score(lm: HFLM, pairs: Pairs) -> list[tuple[float, bool]]:
    return lm.loglikelihood(asked("loglikelihood", pairs), disable_tqdm=True)


def roll(lm: HFLM, texts: list[str]) -> list[float]:
    return lm.loglikelihood_rolling(
        asked("loglikelihood_rolling", [(text,) for text in texts]), disable_tqdm=True
    )


def write(lm: HFLM, prompts: list[str], **kwargs: Any) -> list[str]:
    return write_each(lm, [(prompt, kwargs) for prompt in prompts])


def write_each(lm: HFLM, arguments: list[tuple[str, dict]]) -> list[str]:
    return lm.generate_until(asked("generate_until", arguments), disable_tqdm=True)


def assert_same(ours: list[tuple[float, bool]], theirs: list[tuple[float, bool]]) -> None:
    assert [greedy for _, greedy in ours] == [greedy for _, greedy in theirs]
    assert [value for value, _ in ours] == pytest.approx([v for v, _ in theirs], abs=TOLERANCE)


# -------------------------------------------------------------------------------- log-likelihoods

SENTENCE = "Ada puts twelve red pens on the table, and then she counts them again. "
QUESTION = "Question: Which of these is a colour?\nA. pen\nB. red\nC. table\nD. twelve\nAnswer:"
ENDINGS = [" It is a long way home.", " The dog", " x", " She has thirteen now, and so has he."]


@pytest.fixture(scope="module")
def wide(tiny) -> Model:
    """A vocabulary as large as Llama's: a pass's logits are made in several pieces."""
    config = copy.deepcopy(tiny.network.config)
    config.vocab_size, config.tie_word_embeddings = 128_256, True
    torch.manual_seed(0)
    return Model(transformers.LlamaForCausalLM(config).eval(), tiny.tokenizer)


@pytest.mark.slow
def test_a_vocabulary_as_large_as_llamas_gives_hflms_numbers_in_their_order(wide):
    long = [SENTENCE * 2 + "So.", " red", SENTENCE * 4 + "It ends."]
    pairs = [(SENTENCE.strip() * k, ending) for k in (1, 9, 3, 7) for ending in long]
    assert_same(score(slim(wide), pairs), score(stock(wide, batch_size=1), pairs))


def test_one_text_that_is_split_in_two_places_has_the_numbers_of_each_alone(tiny):
    """Asked together, HFLM takes both for one: the length of the first's ending counts for both."""
    text = SENTENCE.strip() * 4
    middle, later = len(SENTENCE) * 2, len(SENTENCE) * 3
    pairs = [(text[:middle].strip(), text[middle:]), (text[:later].strip(), text[later:])]
    alone = [score(stock(tiny), [pair])[0] for pair in pairs]
    assert_same(score(slim(tiny), pairs), alone)


PAIRS: dict[str, Pairs] = {
    "a shared context": [(SENTENCE.strip(), ending) for ending in ENDINGS],
    "contexts of their own": [(f"{i} pens and", " a dog." * (i % 3 + 1)) for i in range(1, 8)],
    "single tokens": [(QUESTION, letter) for letter in (" A", " B", " C", " D")],
    "empty contexts": [("", "The cat sat."), ("", "T"), ("", "The cat ran.")],
    "the same twice": [("The cat", " sat."), ("A dog", " ran."), ("The cat", " sat.")] * 2,
    "one ending begins another": [
        ("The cat", ending) for ending in (" sat", " sat on", " sat on the mat", " sat on a mat")
    ],
    "a hundred endings": [("The sum is", f" {i} {'pens' * (i % 2)}") for i in range(100)],
    "long and short": [(SENTENCE * 30, " The dog"), ("x", " y"), ("", "z"), ("x", SENTENCE * 10)],
    "a context that ends in spaces": [("The cat ", "sat"), ("The cat  ", " sat"), ("The\n", "a")],
    "special tokens": [
        ("The cat", f" sat.{EOS}"),
        ("<|begin_of_text|>The cat", " sat."),
        (EOT, EOS),
    ],
    "fixed shots": [(SENTENCE * 12 + f"{i}?", end) for i in range(9) for end in (" yes", " no no")],
}
ALL_PAIRS = [pair for pairs in PAIRS.values() for pair in pairs]
random.Random(0).shuffle(ALL_PAIRS)


@pytest.fixture(scope="module")
def all_scores(tiny) -> list[tuple[float, bool]]:
    """HFLM's of ALL_PAIRS; without its cache of logits, which mixes up two of them (see below)."""
    return score(stock(tiny, 16, logits_cache=False), ALL_PAIRS)


@pytest.mark.parametrize("pairs", PAIRS.values(), ids=PAIRS)
def test_log_likelihoods_are_hflm_s(pairs, tiny):
    lm = slim(tiny)
    assert lm.stock_reason is None
    assert_same(score(lm, pairs), score(stock(tiny), pairs))


@pytest.mark.parametrize(
    "settings",
    [
        {"token_budget": 16},  # less than one row
        {"token_budget": 300},
        {"token_budget": 10**6},
        {"max_rows": 1},
        {"batch_size": 1},
        {"batch_size": 4, "logits_cache": False},
        {"softmax_dtype": "float32"},
    ],
    ids=str,
)
def test_all_at_once_in_the_order_of_the_requests(settings, tiny, all_scores):
    lm = slim(tiny, **settings)
    assert_same(score(lm, ALL_PAIRS), all_scores)
    assert_same(score(lm, ALL_PAIRS[29::-1]), all_scores[29::-1])  # and once more


@pytest.mark.parametrize("add_bos_token", [True, False])
def test_log_likelihoods_with_and_without_the_first_token(add_bos_token, tiny, all_scores):
    ours = score(slim(tiny, add_bos_token=add_bos_token), ALL_PAIRS)
    settings = {"add_bos_token": add_bos_token, "logits_cache": False}
    assert_same(ours, score(stock(tiny, 16, **settings), ALL_PAIRS))
    assert (
        [v for v, _ in ours] == pytest.approx([v for v, _ in all_scores])
    ) == add_bos_token  # this tokenizer's own habit


def test_another_prefix_token(tiny):
    pairs = PAIRS["empty contexts"]
    theirs = score(stock(tiny, prefix_token_id=5), pairs)
    assert_same(score(slim(tiny, prefix_token_id=5), pairs), theirs)
    assert theirs != score(stock(tiny), pairs)


def test_greedy_endings_are_found(micro):
    """Among endings that are the model's own choice and endings that are not, at any length."""
    prompts = ["Question: Ada has 3 pens and buys 4 more.", "The cat", "1 + 2 ="]
    greedy = [(p, t) for p in prompts for t in write(stock(micro, 1), [p], max_gen_toks=9) if t]
    pairs = [(p, t[:n]) for p, t in greedy for n in (2, 5, len(t))]
    pairs += [(p, t[:-1] + "~") for p, t in greedy]
    theirs = score(stock(micro), pairs)
    assert {True, False} == {found for _, found in theirs}
    assert_same(score(slim(micro), pairs), theirs)


def test_the_same_text_cut_at_different_places(tiny):
    """HFLM's own cache of logits reads such endings at a wrong place; without it, it does not."""
    pairs = [("The cat", " sat on a"), ("The cat sat", " on the"), ("The cat sat on", " it")]
    pairs += [(f"{context}{ending}", " dog") for context, ending in pairs]
    assert_same(score(slim(tiny), pairs), score(stock(tiny, logits_cache=False), pairs))


def test_nothing_asked(tiny):
    lm = slim(tiny)
    assert (score(lm, []), roll(lm, []), write(lm, [])) == ([], [], [])


@pytest.mark.parametrize(
    "pair", [("The cat", ""), ("The cat", SENTENCE * 9)], ids=["empty", "long"]
)
def test_an_ending_that_cannot_be_scored_is_refused_as_by_hflm(pair, tiny):
    for lm in (stock(tiny, max_length=64), slim(tiny, max_length=64)):
        with pytest.raises((AssertionError, ValueError)):
            score(lm, [("A dog", " ran"), pair])


# ------------------------------------------------------------------------------------- the window

WINDOW = 64  # tokens
LONG = (SENTENCE * 9).strip()


def text_of(tokens: int, tokenizer: Any) -> str:
    """A text of so many tokens, alone and behind other text."""
    rng = random.Random(tokens)
    text = "".join(rng.choice([" the", " a", " is", " pens", " house"]) for _ in range(tokens))
    assert len(tokenizer.encode(text, add_special_tokens=False)) == tokens
    return text


@pytest.mark.parametrize("length", [WINDOW - 2, WINDOW - 1, WINDOW, WINDOW + 1, 5 * WINDOW])
def test_contexts_at_and_over_the_window(length, tiny):
    context = text_of(length - 1, tiny.tokenizer)  # and the first token
    pairs = [(context, ending) for ending in (*ENDINGS, " dog", " cat")]
    ours = score(slim(tiny, max_length=WINDOW), pairs)
    assert_same(ours, score(stock(tiny, max_length=WINDOW), pairs))


@pytest.mark.parametrize("length", [WINDOW - 1, WINDOW])
@pytest.mark.parametrize("context", ["", "The dog", LONG], ids=["none", "short", "long"])
def test_an_ending_that_fills_the_window(context, length, tiny):
    pairs = [(context, text_of(length, tiny.tokenizer)), (context, " cat")]
    ours = score(slim(tiny, max_length=WINDOW), pairs)
    assert_same(ours, score(stock(tiny, max_length=WINDOW), pairs))


@pytest.mark.parametrize("settings", [{}, {"token_budget": 16}, {"batch_size": 4}], ids=str)
def test_rolling_log_likelihoods(settings, tiny):
    """Of texts longer than the window, of short ones, of one token, of none."""
    texts = [SENTENCE * 9, SENTENCE, "x", "", text_of(63, tiny.tokenizer), SENTENCE * 4, SENTENCE]
    texts += [text_of(n, tiny.tokenizer) for n in (64, 65, 127, 128)]
    ours = roll(slim(tiny, max_length=WINDOW, **settings), texts)
    assert ours == pytest.approx(roll(stock(tiny, max_length=WINDOW), texts), abs=TOLERANCE)


def test_a_batch_size_found_by_itself(tiny):
    settings = {"batch_size": "auto", "max_batch_size": 4, "max_length": WINDOW}
    lm, plain = slim(tiny, **settings), stock(tiny, max_length=WINDOW)
    assert_same(score(lm, PAIRS["a shared context"]), score(plain, PAIRS["a shared context"]))
    assert roll(lm, [SENTENCE * 9]) == pytest.approx(roll(plain, [SENTENCE * 9]), abs=TOLERANCE)
    texts = write(lm, [SENTENCE, "x"], max_gen_toks=9)
    assert texts == write(plain, [SENTENCE, "x"], max_gen_toks=9)


def test_bfloat16_is_no_further_from_float32_than_hflm_s(tiny):
    """A log-probability of 4 to 8 has steps of 1/32 there: the sums differ, but not by more."""
    plain = {"logits_cache": False}
    half = Model(copy.deepcopy(tiny.network).to(torch.bfloat16), tiny.tokenizer)
    exact, theirs, ours = (
        torch.tensor([value for value, _ in score(lm, ALL_PAIRS)])
        for lm in (stock(tiny, 16, **plain), stock(half, 16, **plain), slim(half))
    )
    assert (ours - exact).abs().mean() <= 1.1 * (theirs - exact).abs().mean()
    assert ((ours - theirs).abs() <= 0.02 * theirs.abs() + 0.1).all()


def test_mixed_precision_is_hflm_s(tiny):
    settings = {"mixed_precision_dtype": "bfloat16"}
    exact, theirs, ours = (
        torch.tensor([value for value, _ in score(lm, PAIRS["a shared context"])])
        for lm in (stock(tiny), stock(tiny, **settings), slim(tiny, **settings))
    )
    assert slim(tiny, **settings).stock_reason is None
    assert (theirs - exact).abs().max() > 1e-3 > TOLERANCE  # it does something
    assert ours.tolist() == pytest.approx(theirs.tolist(), rel=0.02, abs=0.1)


# ------------------------------------------------------------------------------------- generation


def problems(n: int) -> list[str]:
    rng = random.Random(0)
    return [f"Question: {word_problem(rng, 'dev')['question']}\nAnswer:" for _ in range(n)]


PROBLEMS = problems(4)
GENERATION: dict[str, dict[str, Any]] = {
    "nothing": {},
    "a text": {"until": "\n"},
    "several": {"until": ["\n\n", "####", "Question:"]},
    "several tokens": {"until": ["\nQuestion: "]},
    "no text at all": {"until": [""]},
    "no text and a text": {"until": ["\n", ""]},
    "an end token": {"until": [EOS, "####"]},
    "never seen": {"until": ["zebra"], "max_gen_toks": 7},
    "one token": {"max_gen_toks": 1},
    "another name": {"max_new_tokens": 7, "until": []},
    "greedy in so many words": {"do_sample": False, "temperature": 0.0, "max_gen_toks": 8},
    "greedy at a temperature": {"do_sample": False, "temperature": 0.8, "max_gen_toks": 8},
}


@pytest.mark.parametrize("kwargs", GENERATION.values(), ids=GENERATION)
def test_texts_are_hflm_s(kwargs, micro):
    if "max_new_tokens" not in kwargs:
        kwargs = {"max_gen_toks": 24, **kwargs}
    theirs = write(stock(micro, 1), PROBLEMS, **kwargs)
    assert write(slim(micro), PROBLEMS, **kwargs) == theirs


@pytest.fixture(scope="module")
def unstopped(micro) -> list[str]:
    return write(stock(micro, 1), PROBLEMS, max_gen_toks=20)


@pytest.mark.parametrize(("start", "length"), [(0, 1), (1, 2), (3, 3), (6, 5), (9, 8)])
def test_stop_strings_wherever_their_tokens_begin(start, length, micro, unstopped):
    """Pieces of what the model writes by itself, cut without regard to its tokens."""
    until = [text[start : start + length] for text in unstopped[::2]]
    theirs = write(stock(micro, 1), PROBLEMS, until=until, max_gen_toks=20)
    assert sum(len(cut) < len(text) for cut, text in zip(theirs, unstopped, strict=True)) >= 2
    assert write(slim(micro), PROBLEMS, until=until, max_gen_toks=20) == theirs


PROMPTS = [
    "The cat",
    "x",
    SENTENCE,
    "",
    "Q: 1 + 2 =",
    SENTENCE * 3,
    "A dog and",
    QUESTION,
    "12 pens",
]


@pytest.fixture(scope="module")
def texts(restless) -> list[str]:
    """HFLM's for PROMPTS, one at a time; some end early and some do not."""
    found = write(stock(restless, 1), PROMPTS, until=["s"], max_gen_toks=30)
    lengths = {len(restless.tokenizer.encode(text, add_special_tokens=False)) for text in found}
    assert len(lengths) >= 4 and min(lengths) < 10 < max(lengths)
    return found


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"max_rows": 1},
        {"max_rows": 2},
        {"max_rows": 4},
        {"max_rows": 100},
        {"token_budget": 16},
        {"token_budget": 16, "max_rows": 3},
        {"batch_size": 3},
    ],
    ids=str,
)
def test_rows_leave_and_others_take_their_place(settings, restless, texts):
    lm = slim(restless, **settings)
    assert lm.stock_reason is None
    assert write(lm, PROMPTS, until=["s"], max_gen_toks=30) == texts
    assert write(lm, PROMPTS[::-1], until=["s"], max_gen_toks=30) == texts[::-1]


@pytest.mark.parametrize("until", [[EOT], [EOT, "a"], ["\ufffd"], [EOS, "<|"]], ids=str)
def test_special_tokens_and_half_characters_as_stop_strings(until, restless):
    """HFLM decodes them away, so that a batch writes on: one at a time it stops at them."""
    theirs = write(stock(restless, 1), PROMPTS, until=until, max_gen_toks=30)
    assert theirs != write(stock(restless, 1), PROMPTS, max_gen_toks=30)
    assert write(slim(restless, max_rows=4), PROMPTS, until=until, max_gen_toks=30) == theirs


@pytest.mark.parametrize("room", [1, 4, 40])
def test_prompts_are_cut_to_the_window(room, restless):
    settings = {"max_length": WINDOW}
    kwargs = {"max_gen_toks": WINDOW - room}
    theirs = write(stock(restless, 1, **settings), PROMPTS, **kwargs)
    assert write(slim(restless, max_rows=3, **settings), PROMPTS, **kwargs) == theirs


@pytest.mark.parametrize("extra", [0, 1])
def test_no_room_for_a_prompt_is_refused_as_by_hflm(extra, tiny):
    for lm in (stock(tiny, max_length=WINDOW), slim(tiny, max_length=WINDOW)):
        with pytest.raises((AssertionError, ValueError), match=f"{WINDOW + extra}.*{WINDOW}"):
            write(lm, ["The cat"], max_gen_toks=WINDOW + extra)


def test_other_settings_in_one_call(restless):
    kwargs = [
        {"until": ["s"], "max_gen_toks": 9},
        {"until": "\n"},
        {"until": ["s"], "max_gen_toks": 3},
    ]
    kwargs = [{"max_gen_toks": 20, **k} for k in kwargs]
    arguments = [(prompt, kwargs[i % 3]) for i, prompt in enumerate(PROMPTS * 2)]
    before = copy.deepcopy(arguments)
    theirs = write_each(stock(restless, 1), arguments)
    assert write_each(slim(restless, max_rows=4), arguments) == theirs
    assert arguments == before  # `until` is the task's own list


PREFIXED = {
    "long": [SENTENCE * 12 + f"{i} {'pens ' * (i % 3)}" for i in range(8)],
    "longer for some": [SENTENCE * (8 + 4 * (i % 2)) + str(i) for i in range(8)],
    "all alike": [SENTENCE * 12] * 5,
    "one begins another": [SENTENCE * n for n in range(1, 14)],
    "short ones among them": [SENTENCE * 12 + str(i) for i in range(6)] + ["x", "The cat"],
}


@pytest.mark.parametrize("prompts", PREFIXED.values(), ids=PREFIXED)
@pytest.mark.parametrize("max_rows", [3, None])
def test_shared_prefixes(prompts, max_rows, restless):
    theirs = write(stock(restless, 1), prompts, max_gen_toks=8)
    assert write(slim(restless, max_rows=max_rows), prompts, max_gen_toks=8) == theirs


def test_a_prompt_that_brings_its_first_token(restless):
    """HFLM asks the first prompt of a batch alone; one at a time, each prompt is asked."""
    prompts = ["<|begin_of_text|>The cat", "The cat", "<|begin_of_text|>A dog", "A dog"]
    theirs = write(stock(restless, 1), prompts, max_gen_toks=12)
    assert theirs[0] == theirs[1]
    assert write(slim(restless), prompts, max_gen_toks=12) == theirs
    theirs = write(stock(restless, 1, add_bos_token=False), prompts, max_gen_toks=12)
    assert write(slim(restless, add_bos_token=False), prompts, max_gen_toks=12) == theirs


def test_several_end_tokens(restless):
    network = copy.deepcopy(restless.network)
    common = Counter(restless.tokenizer.encode("".join(write(stock(restless), PROMPTS))))
    ends = [restless.tokenizer.eos_token_id, *(token for token, _ in common.most_common(4)[1:])]
    network.generation_config.eos_token_id = ends
    model = Model(network, restless.tokenizer)
    theirs = write(stock(model, 1), PROMPTS, max_gen_toks=30)
    assert theirs != write(stock(restless, 1), PROMPTS, max_gen_toks=30)
    assert write(slim(model, max_rows=4), PROMPTS, max_gen_toks=30) == theirs


@pytest.mark.parametrize("kind", [str, int, "digits"], ids=str)
def test_what_comes_before_the_end_of_thought_is_left_away(kind, micro):
    (number,) = micro.tokenizer.encode(" =", add_special_tokens=False)
    settings = {"think_end_token": {str: " =", int: number, "digits": str(number)}[kind]}
    kwargs = {"until": ["Question:"], "max_gen_toks": 16}
    theirs = write(stock(micro, 1, **settings), PROBLEMS, **kwargs)
    assert theirs != write(stock(micro, 4), PROBLEMS, **kwargs)
    assert write(slim(micro, **settings), PROBLEMS, **kwargs) == theirs


# ---------------------------------------------------------------------------- what HFLM itself does

NOT_GREEDY: dict[str, dict[str, Any]] = {
    "sampled": {"do_sample": True, "temperature": 0.8},
    "a temperature": {"temperature": 0.8},
    "beams": {"num_beams": 2},
    "penalised": {"repetition_penalty": 5.0},
    "no repeats": {"no_repeat_ngram_size": 1},
    "some left out": {"bad_words_ids": [[10], [20], [265], [276]]},
    "a length": {"max_length": 200},
}


@pytest.mark.parametrize("kwargs", NOT_GREEDY.values(), ids=NOT_GREEDY)
def test_whatever_is_not_plain_greedy_decoding(kwargs, restless):
    texts = []
    for lm in (stock(restless), slim(restless, batch_size=4)):
        torch.manual_seed(0)
        texts.append(write(lm, PROMPTS[:5], max_gen_toks=12, until=["s"], **kwargs))
    assert texts[0] == texts[1]


GENERATION_CONFIG = [
    {"repetition_penalty": 5.0},
    {"no_repeat_ngram_size": 1},
    {"suppress_tokens": [10, 20, 265, 276]},
    {"min_new_tokens": 10},
    {"max_new_tokens": 5},  # goes before what is asked for
    {"num_beams": 2},
    {"forced_eos_token_id": 1},
    {
        "temperature": 0.6,
        "top_p": 0.9,
        "do_sample": True,
    },  # as Llama 3.2's own: greedy all the same
]


@pytest.mark.parametrize("settings", GENERATION_CONFIG, ids=str)
def test_the_model_s_own_generation_settings(settings, restless):
    network = copy.deepcopy(restless.network)
    for name, value in settings.items():
        setattr(network.generation_config, name, value)
    model = Model(network, restless.tokenizer)
    ours = write(slim(model, batch_size=4), PROMPTS, max_gen_toks=12)
    assert ours == write(stock(model), PROMPTS, max_gen_toks=12)


# -------------------------------------------------------------------------------- kinds of models

SPECIAL = {"vocab_size": 1024, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}
OLD_SIZES = {key: value for key, value in SIZES.items() if key != "num_key_value_heads"}
DYNAMIC = {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}}
SCALED = {"rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0}
SCALED |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 64}

GEMMA3 = {**SIZES, "head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window_pattern": 2}

OWN_WAY: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", SIZES),
    "llama, tied": ("LlamaConfig", {**SIZES, "tie_word_embeddings": True}),
    "llama 3": ("LlamaConfig", {**SIZES, "rope_parameters": SCALED}),
    "llama, eager": ("LlamaConfig", {**SIZES, "attn_implementation": "eager"}),
    "mistral": ("MistralConfig", {**SIZES, "sliding_window": None}),
    "qwen2": ("Qwen2Config", SIZES),
    "qwen3": ("Qwen3Config", {**SIZES, "head_dim": 8}),
    # contexts of these tests are longer than a window of 8 tokens, and shorter than one of 512
    "mistral, window": ("MistralConfig", {**SIZES, "sliding_window": 8}),
    "mistral, long window": ("MistralConfig", {**SIZES, "sliding_window": 512}),
    "phi 3, window": ("Phi3Config", {**SIZES, "sliding_window": 8}),
    "qwen2, window": (
        "Qwen2Config",
        {**SIZES, "use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1},
    ),
    "gemma 3": ("Gemma3TextConfig", GEMMA3),
    "gemma 3, window": ("Gemma3TextConfig", {**GEMMA3, "sliding_window": 8}),
    "gemma 3, eager": ("Gemma3TextConfig", {**GEMMA3, "attn_implementation": "eager"}),
}
ANY_WAY: dict[str, tuple[str, dict[str, Any]]] = {
    "gemma 2": (
        "Gemma2Config",
        {
            **SIZES,
            "head_dim": 8,
            "sliding_window": 8,
            "query_pre_attn_scalar": 8,
            "final_logit_softcapping": 3.0,
            "attn_logit_softcapping": 2.0,
        },
    ),
    "phi": ("PhiConfig", OLD_SIZES),
    "gpt-neox": ("GPTNeoXConfig", OLD_SIZES),
    "gpt-2": ("GPT2Config", {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512}),
    "opt": ("OPTConfig", {**OLD_SIZES, "ffn_dim": 48, "word_embed_proj_dim": 32}),
    "bloom": ("BloomConfig", {"hidden_size": 32, "n_layer": 2, "n_head": 4}),
    "mpt": ("MptConfig", {"d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 512}),
    "mamba": ("MambaConfig", {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 4}),
    "mixtral": ("MixtralConfig", {**SIZES, "num_local_experts": 4}),
    "granite": ("GraniteConfig", {**SIZES, "logits_scaling": 3.0, "attention_multiplier": 0.3}),
    "granite, almost plain": ("GraniteConfig", {**SIZES, "logits_scaling": 1.001}),
    "nanochat": ("NanoChatConfig", {**SIZES, "final_logit_softcapping": 15.0}),
    "cohere": ("CohereConfig", {**SIZES, "logit_scale": 0.5}),
    "smollm 3": ("SmolLM3Config", SIZES),
    "gpt-neo, window": (
        "GPTNeoConfig",
        {
            "hidden_size": 32,
            "num_layers": 2,
            "num_heads": 4,
            "attention_types": [[["local"], 2]],
            "window_size": 32,
            "max_position_embeddings": 512,
        },
    ),
    "gpt-j": ("GPTJConfig", {"n_embd": 32, "n_layer": 2, "n_head": 4, "rotary_dim": 8}),
    "falcon": ("FalconConfig", {**OLD_SIZES, "alibi": True}),
    "stablelm": ("StableLmConfig", SIZES),
    "olmo 2": ("Olmo2Config", SIZES),
    "phi 3": ("Phi3Config", SIZES),
    "llama, dynamic": ("LlamaConfig", {**SIZES, "max_position_embeddings": 64, **DYNAMIC}),
    "llama, no cache": ("LlamaConfig", {**SIZES, "use_cache": False}),
    "t5": (
        "T5Config",
        {
            "d_model": 32,
            "d_kv": 8,
            "d_ff": 48,
            "num_layers": 2,
            "num_heads": 4,
            "decoder_start_token_id": 2,
            "initializer_factor": 2.0,
        },
    ),
}


def random_model(name: str, settings: dict[str, Any], tokenizer: Any) -> Model:
    """A model of the kind with weights that make its choices clear."""
    settings = {"initializer_range": 0.2, **settings, **SPECIAL}
    implementation = settings.pop("attn_implementation", None)
    config = getattr(transformers, name)(**settings)
    kind = "AutoModelForSeq2SeqLM" if config.is_encoder_decoder else "AutoModelForCausalLM"
    torch.manual_seed(0)
    make = getattr(transformers, kind).from_config
    return Model(make(config, attn_implementation=implementation).eval(), tokenizer)


def assert_equal_to_stock(model: Model) -> SlimLM:
    """Scored and generated, with contexts and prompts long enough for a sliding window."""
    settings = {"max_length": 512}
    ours, theirs = slim(model, batch_size=4, **settings), stock(model, **settings)
    pairs = [*PAIRS["a shared context"], *PAIRS["single tokens"], *PAIRS["the same twice"]]
    pairs += PAIRS["fixed shots"][:6]
    assert_same(score(ours, pairs), score(theirs, pairs))
    texts = [SENTENCE * 2, SENTENCE]
    assert roll(ours, texts) == pytest.approx(roll(theirs, texts), abs=TOLERANCE)
    assert write(ours, PROMPTS[:6], max_gen_toks=12) == write(theirs, PROMPTS[:6], max_gen_toks=12)
    return ours


@pytest.mark.parametrize("kind", OWN_WAY)
def test_models_of_the_llama_family_go_the_fast_way(kind, tiny):
    lm = assert_equal_to_stock(random_model(*OWN_WAY[kind], tiny.tokenizer))
    assert lm.stock_reason is None


@pytest.mark.parametrize("kind", ANY_WAY)
def test_other_models_give_hflm_s_numbers_whatever_way_they_go(kind, tiny):
    lm = assert_equal_to_stock(random_model(*ANY_WAY[kind], tiny.tokenizer))
    if kind in ("gemma 2", "t5", "mamba"):
        assert lm.stock_reason and lm.stock_reason[-1] != "\n"


def test_padding_by_the_end_token_changes_no_answer(tiny):
    """It is masked: in batches of unlike lengths, scored and generated, by HFLM and by SlimLM."""
    tokenizer = copy.deepcopy(tiny.tokenizer)
    tokenizer.pad_token = tokenizer.eos_token
    ended = Model(tiny.network, tokenizer)
    assert_equal_to_stock(ended)
    answers = [write(stock(model, batch_size=4), PROMPTS[:6]) for model in (tiny, ended)]
    assert answers[0] == answers[1]


def test_a_multimodal_gemma_is_scored_by_its_language_model(tiny):
    """Texts alone: the vision tower is there and has no part in it."""
    text = {**GEMMA3, **SPECIAL, "sliding_window": 8, "initializer_range": 0.2}
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    vision |= {"num_attention_heads": 2, "image_size": 16, "patch_size": 8}
    config = transformers.Gemma3Config(
        text_config=text, vision_config=vision, mm_tokens_per_image=1, **SPECIAL
    )
    torch.manual_seed(0)
    network = transformers.AutoModelForCausalLM.from_config(config).eval()
    assert type(network).__name__ == "Gemma3ForConditionalGeneration"
    lm = assert_equal_to_stock(Model(network, tiny.tokenizer))
    assert lm.stock_reason is None


def test_a_window_matters_to_what_is_compared_here(tiny):
    """Else the tests above would pass with no window at all."""
    settings = {"initializer_range": 0.2, **SIZES, **SPECIAL}
    pair = [(SENTENCE, " The dog")]
    found = []
    for window in (8, 512):
        torch.manual_seed(0)
        network = transformers.MistralForCausalLM(
            transformers.MistralConfig(**settings, sliding_window=window)
        )
        found.append(score(slim(Model(network.eval(), tiny.tokenizer)), pair)[0][0])
    assert abs(found[0] - found[1]) > 0.01


def test_the_mask_of_a_window_by_hand():
    """Five tokens behind none, and one token in rows of three and five, window 2."""

    def new(tokens, rows=1):
        return torch.zeros(rows, 1, tokens, 4)

    causal = windowed(None, new(5), new(5), 2)[0, 0].int().tolist()
    first, last = [1, 0, 0, 0, 0], [0, 0, 0, 1, 1]
    assert causal == [first, [1, 1, 0, 0, 0], [0, 1, 1, 0, 0], [0, 0, 1, 1, 0], last]
    seen = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]).bool()[:, None, None]
    one = windowed(seen, new(1, 2), new(5, 2), 2)[:, 0, 0].int().tolist()
    assert one == [[0, 1, 1, 0, 0], last]
    for window in (None, 5):  # no longer than it: as it was
        assert windowed(None, new(5), new(5), window) is None
        assert windowed(seen, new(1, 2), new(5, 2), window) is seen


def test_layers_that_keep_their_window_to_themselves_are_left_to_hflm(tiny, monkeypatch):
    """A window longer than the trial's sequences shows in no logit of it."""
    name, settings = OWN_WAY["mistral, long window"]
    model = random_model(name, settings, tiny.tokenizer)
    module = sys.modules[type(model.network).__module__]
    eager = module.ALL_ATTENTION_FUNCTIONS

    class Silent:
        def get_interface(self, *arguments):
            found = eager.get_interface(*arguments)
            return lambda *args, sliding_window=None, **kwargs: found(*args, **kwargs)

    monkeypatch.setattr(module, "ALL_ATTENTION_FUNCTIONS", Silent())
    assert "do not say their sliding window" in slim(model).stock_reason


def test_a_model_with_an_adapter(tiny):
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=4, target_modules=["q_proj", "v_proj", "lm_head"], init_lora_weights=False
    )
    torch.manual_seed(0)
    model = Model(get_peft_model(copy.deepcopy(tiny.network), config).eval(), tiny.tokenizer)
    assert_equal_to_stock(model)
    pair = [(SENTENCE, " The dog")]
    assert score(slim(model), pair)[0][0] != pytest.approx(score(slim(tiny), pair)[0][0])


def test_a_model_with_a_learned_prompt(tiny):
    """Its forward pass puts tokens of its own before the request's; padding changes its texts."""
    from peft import PromptTuningConfig, get_peft_model

    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    torch.manual_seed(0)
    model = Model(get_peft_model(copy.deepcopy(tiny.network), config).eval(), tiny.tokenizer)
    assert_equal_to_stock(model)


def test_a_model_in_4_bit(checkpoint, tiny):
    config = ModelConfig(str(checkpoint), load_in_4bit=True, dtype="float32")
    assert_equal_to_stock(Model(load_transformers(config), tiny.tokenizer))


# ------------------------------------------------------------------------------ lm-eval around it

FACTS = Task("micro_facts", "mmlu_cs", 0, 4, limit=4, source="facts")
STORIES = Task("micro_stories", "hellaswag", 0, 4, limit=4, source="stories")
ARITHMETIC = Task("micro_arithmetic", "gsm8k", 2, 4, limit=4, source="arithmetic")


@pytest.fixture(scope="module")
def yamls(tmp_path_factory) -> list[str]:
    """The three micro tasks as lm-eval reads them."""
    from slimlib.data.micro.world import write_data

    folder = tmp_path_factory.mktemp("world")
    write_data(folder)
    return [str(task_yaml(task, folder, folder)) for task in (FACTS, STORIES, ARITHMETIC)]


def evaluated(yamls: list[str], model: Any, **kwargs: Any) -> tuple[dict, list]:
    """Scores, and every answer's text or log-likelihood."""
    results = lm_eval.simple_evaluate(
        model=model,
        tasks=yamls,
        task_manager=TaskManager(include_defaults=False),
        limit=4,
        bootstrap_iters=0,
        **kwargs,
    )
    answers = [
        [(sample["arguments"], sample["resps"]) for sample in samples]
        for samples in results["samples"].values()
    ]
    return results["results"], answers


def assert_same_answers(ours: tuple[dict, list], theirs: tuple[dict, list]) -> None:
    assert ours[0] == theirs[0]

    def flat(value: Any) -> list:
        if isinstance(value, str) or not hasattr(value, "__iter__"):
            return [value]
        items = value.values() if isinstance(value, dict) else value
        return [leaf for item in items for leaf in flat(item)]

    for our, their in zip(flat(ours[1]), flat(theirs[1]), strict=True):
        assert our == (pytest.approx(their, abs=TOLERANCE) if isinstance(their, float) else their)


@pytest.fixture(scope="module")
def plain_results(yamls, micro) -> tuple[dict, list]:
    return evaluated(yamls, stock(micro))


def test_simple_evaluate_with_the_object(yamls, micro, plain_results):
    ours = evaluated(yamls, slim(micro))
    assert_same_answers(ours, plain_results)
    assert ours[0]["micro_stories"]["acc_norm,none"] > 0.5  # it is the model that is asked


def test_simple_evaluate_by_name(yamls, plain_results):
    arguments = {"pretrained": resolve_name("micro:base"), "dtype": "float32", "device": "cpu"}
    assert_same_answers(evaluated(yamls, "slim", model_args=arguments, batch_size=4), plain_results)


def test_settings_by_name():
    """lm-eval's command line gives texts that it has turned into numbers."""
    arguments = f"pretrained={resolve_name('micro:tiny')},device=cpu,token_budget=64,max_rows=2"
    lm = SlimLM.create_from_arg_string(arguments, {"batch_size": 4, "max_batch_size": None})
    assert (lm.token_budget, lm.max_rows, lm.batch_size) == (64, 2, 4)


def test_chat_templates(yamls, micro):
    tokenizer = copy.deepcopy(micro.tokenizer)
    tokenizer.chat_template = (
        "{% for message in messages %}{{ message.role }}: {{ message.content }}<|eot_id|>\n"
        "{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
    )
    model = Model(micro.network, tokenizer)
    chat = {"apply_chat_template": True, "fewshot_as_multiturn": True}
    theirs = evaluated(yamls[1:], stock(model, 1), **chat)
    assert "user: Question:" in str(theirs[1])
    assert_same_answers(evaluated(yamls[1:], slim(model), **chat), theirs)


class Interrupt:
    """Ctrl-C at the n-th pass through the model, and what passes."""

    def __init__(self, passes: int | None = None) -> None:
        self.left = passes

    def __call__(self, module: Any, inputs: Any) -> None:
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt


@contextmanager
def hooked(model: Model, hook: Any) -> Any:
    """Call the hook with the ids of every pass, whichever part of the model is called."""
    handle = model.network.get_input_embeddings().register_forward_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()


DIFFERENT = [(f"{i} {text}", end) for i in range(12) for text, end in PAIRS["a shared context"]]
REQUESTS = {
    "loglikelihood": ALL_PAIRS[:50] + DIFFERENT,
    "generate_until": [(prompt, {"until": ["s"], "max_gen_toks": 30}) for prompt in PROMPTS],
}


@pytest.mark.parametrize(("kind", "passes"), [("loglikelihood", 4), ("generate_until", 25)])
def test_an_interrupted_run_goes_on_where_it_was(kind, passes, restless, tmp_path, monkeypatch):
    requests = asked(kind, REQUESTS[kind])
    whole = getattr(stock(restless, 1, max_length=700, logits_cache=False), kind)(requests)
    settings = {"token_budget": 200, "max_rows": 2, "max_length": 700, "batch_size": 2}

    def cached() -> tuple[CachingLM, list[int]]:
        lm, counts = slim(restless, **settings), []
        answer = getattr(lm, kind)
        monkeypatch.setattr(lm, kind, lambda rest: counts.append(len(rest)) or answer(rest))
        return CachingLM(lm, str(tmp_path / "responses.db")), counts

    first, _ = cached()
    with hooked(restless, Interrupt(passes)), pytest.raises(KeyboardInterrupt):
        getattr(first, kind)(requests)
    kept = len(first.dbdict)
    first.dbdict.close()
    different = len({str(request.args) for request in requests})
    assert 0 < kept < different

    second, counts = cached()
    found = getattr(second, kind)(requests)
    second.dbdict.close()
    missing = counts[0]
    assert different - kept <= missing < len(requests)
    if kind == "loglikelihood":
        assert_same(found, whole)
    else:
        assert found == whole


# ------------------------------------------------------------------------ the model as it was found


def state(network: Any) -> dict[str, Any]:
    hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in network.modules())
    return {
        "attention": network.config._attn_implementation,
        "config": network.config.to_dict(),
        "generation": network.generation_config.to_dict(),
        "training": [module.training for module in network.modules()],
        "gradients": [weight.requires_grad for weight in network.parameters()],
        "types": [type(module) for module in network.modules()],
        "forward": [module.forward.__func__ for module in network.modules()],
        "hooks": hooks,
        "grad mode": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
    }


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_the_model_is_left_as_it_was_found(attention, restless):
    network = copy.deepcopy(restless.network).eval()
    network.set_attn_implementation(attention)
    model = Model(network, restless.tokenizer)
    before, side = state(network), restless.tokenizer.padding_side
    plain = score(stock(model), ALL_PAIRS[:9])
    lm = slim(model, token_budget=64)
    assert state(network) == before
    for function, requests in ((score, ALL_PAIRS[:9]), (write, PROMPTS[:4]), (roll, [SENTENCE])):
        for passes in (None, 0, 1):
            with hooked(model, Interrupt(passes)):
                try:
                    function(lm, requests)
                except KeyboardInterrupt:
                    assert passes is not None
            assert state(network) == before
    assert restless.tokenizer.padding_side == side
    assert score(stock(model), ALL_PAIRS[:9]) == plain
    loss = network(torch.tensor([[5, 6, 7]]), labels=torch.tensor([[5, 6, 7]])).loss
    loss.backward()  # nothing that training needs was lost
    assert network.lm_head.weight.grad is not None


# -------------------------------------------------------------------------------- out of memory


class Memory:
    """Room for so many tokens, or rows, in one pass."""

    def __init__(self, tokens: int = 10**9, rows: int = 10**9) -> None:
        self.tokens, self.rows, self.refused = tokens, rows, 0

    def __call__(self, module: Any, inputs: tuple[torch.Tensor]) -> None:
        (ids,) = inputs
        if ids.numel() > self.tokens or len(ids) > self.rows:
            self.refused += 1
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def test_out_of_memory_while_scoring(tiny):
    lm, memory = slim(tiny, token_budget=2000), Memory(tokens=150)
    with hooked(tiny, memory):
        ours = score(lm, DIFFERENT)
    assert_same(ours, score(stock(tiny), DIFFERENT))
    assert 0 < memory.refused < 20  # the budget is halved, and stays so
    refused = memory.refused
    with hooked(tiny, memory):
        assert score(lm, DIFFERENT) == ours
    assert memory.refused == refused


@pytest.mark.parametrize("room", [{"tokens": 150}, {"rows": 2}], ids=str)
def test_out_of_memory_while_generating(room, restless, texts):
    lm, memory = slim(restless, token_budget=2000), Memory(**room)
    with hooked(restless, memory):
        assert write(lm, PROMPTS, until=["s"], max_gen_toks=30) == texts
    assert 0 < memory.refused < 20


@pytest.mark.parametrize("function", [score, write, roll])
def test_out_of_memory_with_one_row_is_an_error(function, tiny):
    requests = {score: ALL_PAIRS[:20], write: ["The cat", SENTENCE], roll: [SENTENCE] * 3}[function]
    lm, before = slim(tiny, max_length=300), state(tiny.network)
    with hooked(tiny, Memory(tokens=12)), pytest.raises(torch.OutOfMemoryError):
        function(lm, requests)
    assert state(tiny.network) == before
    assert function(lm, requests)  # and goes on when there is room again


def test_out_of_memory_at_the_first_use_is_no_reason_to_leave_the_fast_way(tiny):
    lm = SlimLM(pretrained=tiny.network, tokenizer=tiny.tokenizer)
    with hooked(tiny, Memory(tokens=12)), pytest.raises(torch.OutOfMemoryError):
        score(lm, ALL_PAIRS[:20])
    assert lm.stock_reason is None


# ------------------------------------------------------------------------------- how much is done


class Tokens:
    """Tokens of every pass, counted from outside."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, module: Any, inputs: tuple[torch.Tensor]) -> None:
        self.count += inputs[0].numel()


def work_of(lm: SlimLM, function: Any, requests: list) -> tuple[int, int]:
    tokens = Tokens()
    lm.work = type(lm.work)()
    with hooked(Model(lm.model, None), tokens):
        function(lm, requests)
    assert lm.work.tokens == tokens.count
    return lm.work.tokens, lm.work.positions


def length(lm: HFLM, text: str) -> int:
    return len(lm.tok_encode(text, add_special_tokens=False))


def test_a_context_is_computed_once_and_the_head_only_where_it_is_asked(tiny):
    """An ending's last token predicts nothing; all first ones are read where the context ends."""
    lm, context = slim(tiny), SENTENCE.strip()
    behind = sum(length(lm, ending) - 1 for ending in ENDINGS)
    pairs = [(context, ending) for ending in ENDINGS]
    assert work_of(lm, score, pairs) == (1 + length(lm, context) + behind, 1 + behind)
    assert work_of(lm, score, pairs * 3) == (1 + length(lm, context) + behind, 1 + behind)


def test_one_position_for_a_question_with_letters(tiny):
    lm = slim(tiny)
    pairs = [(QUESTION, letter) for letter in (" A", " B", " C", " D")]
    assert work_of(lm, score, pairs) == (1 + length(lm, QUESTION), 1)


def test_fixed_shots_are_computed_once(tiny):
    lm, shots, n = slim(tiny), SENTENCE * 20, 9
    questions = [shots + f"Number {i}?" for i in range(n)]
    once, own = length(lm, shots), 2 * length(lm, "Number 1?")  # padded, and the seam
    tokens, positions = work_of(lm, score, [(q, end) for q in questions for end in (" A", " B")])
    assert once < tokens <= once + n * own and positions == n
    arguments = [(question, {"max_gen_toks": 5}) for question in questions]
    tokens, _ = work_of(lm, write_each, arguments)
    assert once < tokens <= once + n * (own + 5)


def test_finished_rows_are_not_computed(restless, texts):
    """Each token that is written costs one token through the decoder, each prompt its own."""
    lm = slim(restless, max_rows=4, token_budget=1)  # a prompt at a time: nothing is padded
    encode = restless.tokenizer.encode
    prompts = sum(len(encode(prompt)) for prompt in PROMPTS)
    tokens = Tokens()
    lm.work = type(lm.work)()
    with hooked(restless, tokens):
        write(lm, PROMPTS, until=["s"], max_gen_toks=30)
    alone = Tokens()
    with hooked(restless, alone):
        write(stock(restless, 1), PROMPTS, until=["s"], max_gen_toks=30)
    assert alone.count >= prompts
    assert lm.work.tokens == tokens.count == alone.count


# -------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize("name", ["token_budget", "max_rows"])
@pytest.mark.parametrize("value", [0, -1, "x", 1.5])
def test_a_setting_that_is_no_count_is_refused(name, value, tiny):
    with pytest.raises(ValueError, match=f"{name}.*{value}"):
        slim(tiny, **{name: value})


def test_a_model_whose_logits_are_all_alike(tiny):
    """As where every embedding is zero: nothing to compare, and no division by it."""
    network = copy.deepcopy(tiny.network)
    with torch.no_grad():
        network.lm_head.weight.zero_()
    model = Model(network, tiny.tokenizer)
    lm = SlimLM(pretrained=model.network, tokenizer=model.tokenizer)
    assert lm.stock_reason is None
    (answer,) = score(lm, [("one", " two three")])
    assert answer[0] < 0


# --------------------------------------------------------------------- adapters, slots, windows


def test_an_adapter_that_reads_the_prompt_goes_to_hflm(tiny):
    """Activated LoRA: PEFT finds its invocation among the ids before the model runs."""
    invocation = tiny.tokenizer.encode("Answer:", add_special_tokens=False)
    config = peft.LoraConfig(
        task_type="CAUSAL_LM",
        target_modules=["q_proj"],
        alora_invocation_tokens=invocation,
        init_lora_weights=False,
    )
    network = peft.get_peft_model(copy.deepcopy(tiny.network), config)
    lm = SlimLM(pretrained=network, tokenizer=tiny.tokenizer)
    assert "reads the prompt" in lm.stock_reason


def test_a_head_that_is_replaced_between_two_uses(tiny):
    network = copy.deepcopy(tiny.network)
    model = Model(network, tiny.tokenizer)
    lm = slim(model)
    pairs = PAIRS["a shared context"]
    before = score(lm, pairs)
    config = peft.LoraConfig(target_modules=["lm_head", "q_proj"], init_lora_weights=False)
    torch.manual_seed(0)
    peft.get_peft_model(network, config)
    after = score(lm, pairs)
    assert_same(after, score(stock(model), pairs))
    assert max(abs(a[0] - b[0]) for a, b in zip(before, after, strict=True)) > 0.01


def test_an_adapter_of_transformers_own(tiny):
    network = copy.deepcopy(tiny.network)
    torch.manual_seed(0)
    network.add_adapter(peft.LoraConfig(target_modules=["q_proj"], init_lora_weights=False))
    model = Model(network, tiny.tokenizer)
    pairs = PAIRS["a shared context"]
    assert_same(score(slim(model), pairs), score(stock(model), pairs))


@pytest.mark.parametrize("name", ["forced_eos_token_id", "forced_bos_token_id"])
def test_a_forced_token_of_number_zero(name, tiny):
    network = copy.deepcopy(tiny.network)
    setattr(network.generation_config, name, 0)
    model = Model(network, tiny.tokenizer)
    texts = ["x", SENTENCE]
    assert write(slim(model), texts, max_gen_toks=4) == write(stock(model), texts, max_gen_toks=4)


def test_what_is_no_number_in_one_row_stays_there():
    """0 times what is no number is none: nothing may lie behind a row that takes a slot over."""

    def states(rows, tokens, value):
        return torch.full((rows, 1, tokens, 2), value)

    cache = KeysValues(2, 8)
    cache.prefilling(slice(0, 2), 0, 6)
    cache.update(states(2, 6, torch.nan), states(2, 6, torch.inf), 0)
    cache.prefilling(slice(0, 1), 0, 3)
    cache.update(states(1, 3, 1.0), states(1, 3, 1.0), 0)
    cache.copy(0, 1, 3)
    cache.decoding(torch.tensor([3, 3]), 5)
    for seen in cache.update(states(2, 1, 2.0), states(2, 1, 2.0), 0):
        assert seen[:, 0, :, 0].tolist() == [[1, 1, 1, 2, 0, 0]] * 2


def test_a_stop_string_is_looked_for_among_its_own_tokens_only(micro):
    ends = Ends(micro.tokenizer, ["x", "a much longer string of many tokens"], frozenset(), 99)
    spelled = micro.tokenizer.encode("x and then no more", add_special_tokens=False)
    assert ends.finished([spelled[:1]]) == [True]
    assert ends.finished([spelled]) == [False]

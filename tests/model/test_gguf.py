"""GGUF files: the weights that were written, and the tokens that the model learned."""

import inspect
import sys

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
)

from slimlib.model.gguf import LLAMA3_ROPE, llama3_factors, load_gguf
from slimlib.model.gguf_tokenizer import KNOWN, merges_by_score, pre_tokenizer

TEXTS = [
    "12 + 345 = 357",
    "Don't   stop\n\n 1,024.50!",
    "naïve 漢字 \U0001f600 ½",
    "a\tb  \n c",
    "  x",
]
NORMAL, CONTROL, USER_DEFINED, BYTE = 1, 3, 4, 6
END = "<|end|>"


def letters():
    """Letters of all bytes, two pairs of digits and of letters, and three special tokens."""
    from tokenizers.pre_tokenizers import ByteLevel

    special, user = ["<|begin|>", END, "<|pad|>"], ["<tool>"]
    tokens = [*special, *user, *sorted(ByteLevel.alphabet()), "12", "45", "st", "op"]
    kinds = [CONTROL] * 3 + [USER_DEFINED] + [NORMAL] * (len(tokens) - 4)
    return {
        "model": "gpt2",
        "pre": "smollm",
        "tokens": tokens,
        "token_type": kinds,
        "merges": ["1 2", "4 5", "s t", "o p"],
        "bos_token_id": 0,
        "eos_token_id": 1,
        "padding_token_id": 2,
        "add_bos_token": False,
    }


def pieces():
    """SentencePiece: "ab" is joined before "bc", and bytes where a letter is missing."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256))]
    kinds = [2, CONTROL, CONTROL, *[BYTE] * 256]
    own = {"\u2581": -1.0, "a": -2.0, "b": -3.0, "c": -4.0, "bc": -0.5, "ab": -0.25}
    own |= {"\u2581a": -0.75}
    return {
        "model": "llama",
        "tokens": [*tokens, *own],
        "token_type": [*kinds, *[NORMAL] * len(own)],
        "scores": [0.0] * len(tokens) + [*own.values()],
        "bos_token_id": 1,
        "eos_token_id": 2,
        "unknown_token_id": 0,
    }


def tiny(vocabulary, **settings):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=512,
        initializer_range=0.3,
        **settings,
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture
def made(tmp_path):
    """Write a file of some metadata; returns its path and the model in it."""
    pytest.importorskip("gguf")
    from gguf_files import write_gguf

    def make(said, settings=None, factors=None):
        model = tiny(len(said["tokens"]), **(settings or {}))
        return write_gguf(tmp_path / "tiny.gguf", model, said, factors), model

    return make


def logits(model, ids):
    with torch.no_grad():
        return model(torch.tensor([ids])).logits


# ---------------------------------------------------------------------------------------- weights


@pytest.mark.parametrize("tied", [False, True])
def test_the_weights_are_those_that_were_written(tied, made, tmp_path):
    path, model = made(letters(), {"tie_word_embeddings": tied})
    again, tokenizer = load_gguf(path, "float32")
    ids = list(range(0, 200, 7))
    torch.testing.assert_close(logits(again, ids), logits(model, ids))
    again.save_pretrained(tmp_path / "plain")
    tokenizer.save_pretrained(tmp_path / "plain")
    saved = AutoModelForCausalLM.from_pretrained(tmp_path / "plain", dtype="float32")
    torch.testing.assert_close(logits(saved, ids), logits(model, ids))
    stock = AutoTokenizer.from_pretrained(tmp_path / "plain")
    assert [stock(text).input_ids for text in TEXTS] == [tokenizer(t).input_ids for t in TEXTS]
    assert tokenizer.name_or_path.endswith("tiny.gguf") and stock.eos_token == END


def test_the_scaled_positions_of_llama_3_are_kept(made):
    """transformers leaves them away; a text of 200 tokens shows it."""
    rope = {**LLAMA3_ROPE, "rope_theta": 500_000.0, "factor": 8.0}
    path, model = made(letters(), {"rope_parameters": rope}, llama3_factors(rope, 4))
    ids = [i % 90 + 5 for i in range(200)]
    again, _ = load_gguf(path, "float32")
    torch.testing.assert_close(logits(again, ids), logits(model, ids))
    stock = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype="float32")
    assert (logits(stock, ids) - logits(model, ids)).abs().max() > 1e-3


def test_llama_3_s_factors_are_transformers():
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    rope = {**LLAMA3_ROPE, "rope_theta": 500_000.0, "factor": 32.0}
    config = LlamaConfig(
        hidden_size=128, num_attention_heads=2, rope_parameters=rope, max_position_embeddings=131072
    )
    found, _ = ROPE_INIT_FUNCTIONS["llama3"](config, device="cpu")
    plain = 500_000.0 ** (-torch.arange(0, 64, 2) / 64)
    torch.testing.assert_close(plain / found, torch.tensor(llama3_factors(rope, 32)))


@pytest.mark.parametrize(
    ("said", "factors", "words"),
    [
        ({"llama.rope.scaling.type": "yarn"}, None, "positions are scaled by 'yarn'"),
        ({}, [1.0, 2.0, 3.0, 8.0], "other factors than Llama 3's"),
        ({"split.count": 3}, None, "one of 3 parts: join them"),
    ],
)
def test_what_would_be_read_wrongly_is_refused(said, factors, words, made):
    path, _ = made({**letters(), **said}, factors=factors)
    with pytest.raises(ValueError, match=words) as caught:
        load_gguf(path, "float32")
    assert "\n" not in str(caught.value)


def test_files_that_are_none(made, tmp_path):
    path, _ = made(letters())
    cut = tmp_path / "cut.gguf"
    for size in (0, 3, 100, 5_000, path.stat().st_size - 100):
        cut.write_bytes(path.read_bytes()[:size])
        with pytest.raises(ValueError, match="is no whole GGUF file") as caught:
            load_gguf(cut)
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="does not exist"):
        load_gguf(tmp_path / "none.gguf")


def test_without_the_package_the_way_out_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.delitem(sys.modules, "gguf", raising=False)
    with pytest.raises(ValueError, match="pip install gguf"):
        load_gguf(tmp_path / "model.gguf")


# -------------------------------------------------------------------------------------- tokenizer


def test_digits_are_apart_where_the_pre_tokenizer_says_so(made):
    """The merges "1 2" and "4 5" are there; SmolLM's pre-tokenizer never lets them happen."""
    said = letters()
    for pre, tokens in {"smollm": ["1", "2", "Ġ", "4", "5"], "gpt-2": ["12", "Ġ", "45"]}.items():
        path, _ = made({**said, "pre": pre})
        assert load_gguf(path, "float32")[1].tokenize("12 45") == tokens


def test_special_ids_come_from_the_file(made):
    said = {**letters(), "eot_token_id": 3, "tokenizer.chat_template": "{{ messages }}"}
    model, tokenizer = load_gguf(made(said)[0], "float32")
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == tuple(
        said["tokens"][:3]
    )
    assert tokenizer.unk_token is None and tokenizer.chat_template == "{{ messages }}"
    assert (model.config.bos_token_id, model.config.eos_token_id) == (0, 1)
    assert model.generation_config.eos_token_id == [1, 3]
    ids = tokenizer(f"a{END}<tool>").input_ids
    assert ids[-2:] == [1, 3] and len(ids) == 3
    assert tokenizer.decode(ids, skip_special_tokens=True) == "a<tool>"  # no special one


@pytest.mark.parametrize(
    ("said", "first", "last"),
    [
        ({}, "a", "a"),
        ({"add_bos_token": True}, "<|begin|>", "a"),
        ({"add_bos_token": True, "add_eos_token": True}, "<|begin|>", END),
        ({"add_eos_token": True}, "a", END),
    ],
)
def test_what_is_added_to_a_text_is_what_the_file_says(said, first, last, made):
    tokenizer = load_gguf(made({**letters(), **said})[0], "float32")[1]
    tokens = tokenizer.convert_ids_to_tokens(tokenizer("a").input_ids)
    assert (tokens[0], tokens[-1]) == (first, last)


@pytest.mark.parametrize("pre", ["llama-bpe", "smollm"])
def test_where_the_file_does_not_say_llama_3_begins_and_others_do_not(pre, made):
    said = {key: value for key, value in letters().items() if key != "add_bos_token"}
    tokenizer = load_gguf(made({**said, "pre": pre})[0], "float32")[1]
    assert (tokenizer("a").input_ids[0] == 0) == (pre == "llama-bpe")


@pytest.mark.parametrize("pre", ["default", "jina-v9", None])
def test_an_unknown_pre_tokenizer_is_refused_with_the_known_ones(pre, made):
    said = {key: value for key, value in {**letters(), "pre": pre}.items() if value}
    with pytest.raises(ValueError, match=f"{pre!r} is not known.*known: gpt-2,.*smollm") as caught:
        load_gguf(made(said)[0])
    assert "\n" not in str(caught.value)


def test_an_unknown_kind_of_tokenizer_is_refused(made):
    with pytest.raises(ValueError, match="of the kind 'rwkv'; known: gpt2, llama"):
        load_gguf(made({**letters(), "model": "rwkv"})[0])


@pytest.mark.parametrize("pre", KNOWN)
@pytest.mark.parametrize("text", TEXTS)
def test_every_pre_tokenizer_keeps_every_byte(pre, text):
    from tokenizers.decoders import ByteLevel

    words = [word for word, _ in pre_tokenizer(pre).pre_tokenize_str(text)]
    assert ByteLevel().decode(words) == text


@pytest.mark.parametrize(
    ("pre", "words"),
    [
        ("gpt-2", ["Don", "'t", " stop", " 12345", "!!"]),
        ("smollm", ["Don", "'t", " stop", " ", "1", "2", "3", "4", "5", "!!"]),
        ("llama-bpe", ["Don", "'t", " stop", " ", "123", "45", "!!"]),
        ("qwen2", ["Don", "'t", " stop", " ", "1", "2", "3", "4", "5", "!!"]),
    ],
)
def test_the_four_ways_to_cut_a_text(pre, words):
    cut = pre_tokenizer(pre).pre_tokenize_str("Don't stop 12345!!")
    assert [word.replace("Ġ", " ") for word, _ in cut] == words


@pytest.mark.parametrize("text", TEXTS)
def test_llama_3_and_qwen_2_cut_as_transformers_does(text):
    """Their patterns as transformers has them, for tokenizers that it converts itself."""
    from tokenizers import Regex, pre_tokenizers
    from transformers.convert_slow_tokenizer import TikTokenConverter
    from transformers.models.qwen2.tokenization_qwen2 import Qwen2Tokenizer

    assert pre_tokenizer("qwen2").pre_tokenize_str(text) == (
        Qwen2Tokenizer().backend_tokenizer.pre_tokenizer.pre_tokenize_str(text)
    )
    pattern = inspect.signature(TikTokenConverter.__init__).parameters["pattern"].default
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    whole = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
    assert pre_tokenizer("llama-bpe").pre_tokenize_str(text) == whole.pre_tokenize_str(text)


# ---------------------------------------------------------------------------------- sentencepiece


def test_the_piece_with_the_highest_score_is_joined_first(made):
    """abc: "ab" (-0.25) before "bc" (-0.5); by hand, SentencePiece's own order."""
    tokenizer = load_gguf(made(pieces())[0], "float32")[1]
    assert tokenizer.tokenize("abc") == ["\u2581", "ab", "c"]
    assert tokenizer.tokenize("cbc") == ["\u2581", "c", "bc"]
    assert tokenizer("a").input_ids[0] == 1  # <s>, where the file does not say


def test_letters_without_a_piece_become_bytes_and_come_back(made):
    tokenizer = load_gguf(made(pieces())[0], "float32")[1]
    for text in ["abc é", "a\n\nb", *TEXTS]:
        assert tokenizer.decode(tokenizer(text).input_ids, skip_special_tokens=True) == text
    assert tokenizer.tokenize("é")[-2:] == ["<0xC3>", "<0xA9>"]


def test_no_space_goes_first_where_the_file_says_so(made):
    tokenizer = load_gguf(made({**pieces(), "add_space_prefix": False})[0], "float32")[1]
    assert tokenizer.tokenize("ab") == ["ab"]


def test_scores_that_say_nothing_are_refused(made):
    said = pieces()
    with pytest.raises(ValueError, match="all its tokens have the score -1000"):
        load_gguf(made({**said, "scores": [-1000.0] * len(said["scores"])})[0])


def test_merges_by_score_by_hand():
    pieces = {"a": 0, "b": 1, "c": 2, "ab": 3, "abc": 4, "zz": 5}
    scores = [0, 0, 0, -2, -1, -9]  # zz has no parts
    assert merges_by_score(pieces, scores) == [("ab", "c"), ("a", "b")]

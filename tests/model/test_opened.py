"""What somebody names is found out from small files; its weights are what its name says."""

import json
import os
import shutil

import pytest
import torch

from slimlib.common import content
from slimlib.common.content import Hashes
from slimlib.config import AdapterConfig, ModelConfig
from slimlib.evaluate.loading import load_opened
from slimlib.model.load import load_transformers
from slimlib.model.opened import identity, open_model, weights_identity

IDS = torch.tensor([[1, 5, 9, 33, 2, 7]])


def logits(model):
    with torch.no_grad():
        return model(input_ids=IDS).logits.float()


@pytest.fixture
def adapter(checkpoint, tmp_path):
    """A LoRA adapter of the random checkpoint, whose B is not 0."""
    from slimlib.adapters.layers import attach
    from slimlib.adapters.saving import save_adapter

    model = load_transformers(ModelConfig(str(checkpoint), dtype="float32", load_in_4bit=False))
    model = attach(model, AdapterConfig(r=4), seed=1, max_seq_length=64)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    save_adapter(model, tmp_path / "adapter")
    return tmp_path / "adapter", logits(model.eval())


def test_a_folder_is_loaded_as_transformers_loads_it(checkpoint):
    from transformers import AutoModelForCausalLM

    model, tokenizer = load_opened(open_model(str(checkpoint)))
    stock = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    assert torch.equal(logits(model), logits(stock.eval())) and len(tokenizer) > 0


def test_an_adapter_finds_its_model_and_is_put_on_it(checkpoint, adapter):
    folder, expected = adapter
    opened = open_model(str(folder))
    assert opened.base == str(checkpoint) and opened.adapter == str(folder)
    model, _ = load_opened(opened)
    assert torch.allclose(logits(model), expected, atol=1e-6)
    plain, _ = load_opened(opened.without_adapter())
    assert not torch.allclose(logits(plain), expected, atol=1e-3)


def test_an_adapter_whose_model_is_gone_goes_on_the_one_that_is_named(checkpoint, adapter, capsys):
    folder, expected = adapter
    config = json.loads((folder / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = "/nowhere/model"
    (folder / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="cannot be found .*/nowhere/model does not exist"):
        open_model(str(folder))
    opened = open_model(str(folder), fallback=open_model(str(checkpoint)))
    assert torch.allclose(logits(load_opened(opened)[0]), expected, atol=1e-6)
    assert "is out of reach" in "".join(capsys.readouterr())


def test_an_adapter_of_another_model_is_refused_in_words(adapter, tmp_path, checkpoint):
    folder, _ = adapter
    config = json.loads((folder / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = "micro:base"
    (folder / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="this adapter does not fit .*name the model that it was"):
        load_opened(open_model(str(folder)))


def test_tokens_that_an_adapter_adds_need_rows(checkpoint, adapter):
    from transformers import AutoTokenizer

    folder, _ = adapter
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    tokenizer.add_tokens(["<one>", "<two>"])
    tokenizer.save_pretrained(folder)
    with pytest.raises(ValueError, match="the adapter holds none for the others"):
        load_opened(open_model(str(folder)))


def test_nf4_before_a_name_quantises_it(checkpoint):
    opened = open_model(f"nf4:{checkpoint}")
    config = ModelConfig(str(checkpoint), dtype="float32")
    expected = logits(load_transformers(config).eval())
    assert torch.allclose(logits(load_opened(opened)[0]), expected, atol=1e-5)
    plain = logits(load_opened(open_model(str(checkpoint)))[0])
    assert not torch.allclose(plain, expected, atol=1e-3)
    assert opened.label == f"nf4:{checkpoint.name}"
    assert identity(opened) != identity(open_model(str(checkpoint)))


def test_a_model_is_known_by_its_content_not_by_its_path(checkpoint, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(checkpoint, copy)
    before = identity(open_model(str(copy)))
    assert before == identity(open_model(str(checkpoint)))
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"rope_theta": 5e5}))
    assert identity(open_model(str(copy))) != before


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json", "config.json"])
def test_weights_of_the_same_size_and_time_are_others(checkpoint, tmp_path, file, monkeypatch):
    """As when a folder is replaced by a tool that keeps times."""
    monkeypatch.setattr(content, "SMALL", 0)  # remember these too
    copy = shutil.copytree(checkpoint, tmp_path / "copy")
    hashes = Hashes(tmp_path / "hashes.json")
    before = weights_identity(str(copy), None, hashes)
    assert before == weights_identity(str(checkpoint)) == weights_identity(str(copy), None, hashes)
    path = copy / file
    stat, changed = path.stat(), bytearray(path.read_bytes())
    changed[len(changed) // 3] ^= 1
    path.write_bytes(changed)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert weights_identity(str(copy), None, hashes) != before
    assert weights_identity(str(copy), None, Hashes(tmp_path / "hashes.json")) != before


def test_a_commit_of_the_hub_is_known_without_asking():
    commit = "0123456789abcdef0123456789abcdef01234567"
    assert weights_identity("me/model", commit) == f"me/model@{commit}"


def broken(kind, checkpoint, folder):
    """A folder in which something is wrong."""
    shutil.copytree(checkpoint, folder)
    if kind == "pickled":
        (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    elif kind == "gptq":
        config = json.loads((folder / "config.json").read_text())
        config["quantization_config"] = {"quant_method": "gptq", "bits": 4}
        (folder / "config.json").write_text(json.dumps(config))
    elif kind == "empty":
        shutil.rmtree(folder)
        folder.mkdir()
    return folder


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("pickled", "pickled weights .* never read"),
        ("gptq", "is quantised by gptq: pip install gptqmodel"),
        ("empty", "is no model: it holds no config.json, adapter or .gguf file"),
    ],
)
def test_what_cannot_be_read_is_refused_before_it_is_loaded(checkpoint, tmp_path, kind, said):
    with pytest.raises(ValueError, match=said):
        open_model(str(broken(kind, checkpoint, tmp_path / kind)))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("./nowhere", "model nowhere does not exist"),
        ("", "'' is no model"),
        ("nf4:", "'nf4:' is no model"),
        ("micro:bse", "unknown embedded checkpoint 'micro:bse'"),
        ("https://me:pass@host/x", r"^https://\*\*\*@host/x is no model: .* no address"),
    ],
)
def test_what_is_not_there_is_said(name, said):
    with pytest.raises(ValueError, match=said):
        open_model(name)


@pytest.mark.parametrize(
    ("name", "label"),
    [("micro:base", "micro:base"), ("nf4:micro:base", "nf4:micro:base")],
)
def test_labels(name, label):
    assert open_model(name).label == label


def test_the_label_of_an_arms_folder_names_the_arm(checkpoint, tmp_path):
    folder = tmp_path / "llama-2k" / "merged"
    shutil.copytree(checkpoint, folder)
    assert open_model(str(folder)).label == "llama-2k/merged"

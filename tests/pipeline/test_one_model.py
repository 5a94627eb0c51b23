"""One model's preflight: what cannot work is red before any weight is read."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoTokenizer,
    BertConfig,
    GPT2Config,
    Lfm2Config,
    Phi3Config,
    Qwen3MoeConfig,
    T5Config,
)

from slimlib.common.hardware import Device
from slimlib.config import AdapterConfig, ModelConfig
from slimlib.data.tokens import tokenize_rows
from slimlib.model.load import load_tokenizer, resolve_name
from slimlib.pipeline import one_model, trial
from slimlib.pipeline.one_model import preflight_model
from slimlib.pipeline.trial import try_model
from slimlib.studies.get import get_study

EVERY = AdapterConfig(r=4, target_modules="all-linear")
SEVEN = AdapterConfig(r=4)
ALL_GREEN = ["model", "tokenizer", "vocabulary", "weights", "adapter", "generation"]
ALL_GREEN += ["memory", "disk"]


@pytest.fixture
def folder(checkpoint, tmp_path):
    """The random checkpoint without its weights, and a way to change its files."""
    shutil.copytree(checkpoint, tmp_path / "model", ignore=lambda *_: ["model.safetensors"])

    def change(file="config.json", **values):
        path = tmp_path / "model" / file
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
        return str(tmp_path / "model")

    return change


@pytest.fixture
def other(tmp_path):
    """A folder of another architecture's config, with the embedded tokenizer."""

    def make(kind, **settings):
        kind(vocab_size=1024, **settings).save_pretrained(tmp_path / "other")
        tokenizer = AutoTokenizer.from_pretrained(resolve_name("micro:base"))
        tokenizer.save_pretrained(tmp_path / "other")
        return str(tmp_path / "other")

    return make


def checks(name, adapter=EVERY, **values):
    return {c.name: c for c in preflight_model(ModelConfig(name, **values), adapter)}


def red(name, adapter=EVERY, **values):
    found = {n: c.detail for n, c in checks(name, adapter, **values).items() if not c.ok}
    assert not any("\n" in detail for detail in found.values())
    return found


@pytest.mark.parametrize("adapter", [EVERY, SEVEN])
def test_a_good_model_is_green_without_its_weights(adapter, folder):
    found = checks(folder(), adapter)
    assert [*found] == ALL_GREEN and all(check.ok for check in found.values())
    assert "on 14 layers (q_proj, k_proj, v_proj, o_proj, gate" in found["adapter"].detail
    assert "adapter" not in checks(folder(), None)


@pytest.mark.parametrize(
    ("kind", "more", "experts"),
    [
        (Qwen3MoeConfig, {"num_experts": 4, "moe_intermediate_size": 16, "head_dim": 8}, True),
        (Lfm2Config, {"layer_types": ["conv", "full_attention"]}, False),  # a convolution is 3-D
    ],
)
def test_only_experts_are_called_experts(other, kind, more, experts):
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    found = checks(other(kind, **sizes, **heads, **more))["adapter"]
    assert found.ok and ("its experts are no linear layers" in found.detail) == experts


def test_a_model_that_is_not_there_is_one_red_line(monkeypatch):
    assert [*red("nobody/nothing")] == ["model"]
    assert "does not exist" in red("./no-such-folder")["model"]
    assert "unknown embedded checkpoint" in red("micro:huge")["model"]


def test_own_code_is_refused_and_never_run(folder):
    name = folder(model_type="own", auto_map={"AutoModelForCausalLM": "own.Own"})
    assert "needs code of its own (own.Own)" in red(name)["model"]


def test_a_tokenizer_longer_than_the_embedding_is_red_with_the_numbers(folder):
    detail = red(folder(vocab_size=1000))["vocabulary"]
    assert "knows 1,024 tokens and the embedding has 1,000 rows" in detail
    assert not red(folder(vocab_size=1088))


def test_names_that_match_in_part_are_red_and_all_linear_is_green(other):
    name = other(
        Phi3Config,
        hidden_size=32,
        intermediate_size=64,
        num_attention_heads=4,
        num_hidden_layers=2,
        num_key_value_heads=4,
        pad_token_id=0,
    )
    assert "there are o_proj, qkv_proj, gate_up_proj, down_proj" in red(name, SEVEN)["adapter"]
    assert "on 8 layers (o_proj, qkv_proj, gate_up_proj" in checks(name)["adapter"].detail


def test_gpt_2_is_green_in_16_bit_only_and_with_plain_lora_only(other):
    name = other(GPT2Config, n_embd=32, n_layer=2, n_head=4)
    assert "load_in_4bit=false" in red(name)["adapter"]
    plain = checks(name, load_in_4bit=False)["adapter"]
    assert plain.ok and "c_attn, c_proj, c_fc" in plain.detail
    structured = AdapterConfig("q-bara", r=4, lam=2, target_modules="all-linear")
    assert "a Conv1D" in red(name, structured, load_in_4bit=False)["adapter"]


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ("hush", "quantised by hush, which is not known"),
        ("gptq", "quantised by gptq: pip install gptqmodel"),
        ("awq", "quantised by awq: pip install gptqmodel"),
    ],
)
def test_a_quantised_base_that_cannot_be_read_or_trained_on_is_red(method, words, folder):
    name = folder(quantization_config={"quant_method": method, "bits": 4})
    assert words in red(name, None)["weights"]
    assert f"quantised by {method}, on which nothing is trained" in red(name)["weights"]


def test_a_bitsandbytes_base_is_known(folder):
    how = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
    name = folder(quantization_config=how)
    assert checks(name)["weights"].detail == "quantised by bitsandbytes in 4 bit"
    assert "in 4 bit already" in red(name, load_in_4bit=False)["weights"]
    odd = {"quantiser": "int4", "block_size": 128, "block_offset": 8, "error_scale": 0.5}
    for key, value in odd.items():
        said = red(name, **{key: value})["weights"]
        assert f"and {key}={value} starts from un-quantised ones" in said
        assert "take quantiser=nf4, block_size=64, block_offset=0, error_scale=1, or" in said


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (BertConfig, "bert reads a text in both directions"),
        (T5Config, "t5 is no language model that goes on with a text"),
    ],
)
def test_a_model_that_does_not_write_is_red(kind, words, other):
    assert words in red(other(kind))["model"]


@pytest.mark.parametrize(("text", "words"), [("[]", "holds no object"), ("{", "is no JSON")])
def test_broken_generation_settings_are_red(text, words, folder):
    name = folder()
    (Path(name) / "generation_config.json").write_text(text)
    assert words in red(name)["generation"]


def test_an_end_of_generation_beyond_the_vocabulary_is_red(folder):
    assert (
        "ends at token 5000"
        in red(folder("generation_config.json", eos_token_id=[1, 5000]))["generation"]
    )


def test_too_little_memory_or_disk_is_red(folder, monkeypatch):
    device = Device("cpu", "x", None, 8.0, 0.5)
    monkeypatch.setattr(one_model, "find_device", lambda: device)
    assert "0.5 of 8.0 GB free, about 1.0 needed" in red(folder())["memory"]


def test_memory_by_hand(folder):
    """Linear weights in NF4, embeddings and norms in float32; one row of 64 tokens, 1,024 words."""
    config = ModelConfig(folder(), dtype="float32", max_seq_length=64)
    outline = []
    one_model._architecture(config, outline)
    one_model._targets(config, EVERY, outline)
    linear = 2 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 48)
    rest = 2 * 1024 * 32 + 5 * 32
    trained = 2 * 4 * (2 * 64 + 2 * 48 + 3 * 80)
    step = linear * 0.52 + rest * 4 + trained * 16 + 8 * 64 * 1024
    assert outline[0].plan.parameters == trained
    need = one_model.memory_gb(config, outline[0]) - one_model.RUNTIME_GB
    assert need == pytest.approx(step / 2**30)


def test_a_gguf_file_is_read_only(tmp_path):
    pytest.importorskip("gguf")
    (tmp_path / "x.gguf").write_bytes(b"GGUF")
    assert "no whole GGUF" in red(str(tmp_path / "x.gguf"))["model"]


def test_the_first_layers_go_through_one_step_of_everything():
    arm = get_study("smoke")["llama-2k"]
    rows = [{"instruction": "Add 2 and 3.", "input": "", "output": "5"}] * 2
    dataset, _ = tokenize_rows(rows, arm.data, load_tokenizer(arm.model), 256)
    found = try_model(replace(arm, adapter=EVERY), dataset)
    assert [check.name for check in found] == ["first layers", "one step", "merge"]
    assert all(check.ok for check in found), found
    assert found[0].detail == "2 of 4 layers"


@pytest.fixture
def tried(checkpoint, tmp_path):
    """The trial of the random checkpoint after a change of its files or weights."""

    def run(change=lambda weights: None, **generation):
        folder = tmp_path / "model"
        shutil.copytree(checkpoint, folder)
        weights = load_file(folder / "model.safetensors")
        change(weights)
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        if generation:
            (folder / "generation_config.json").write_text(json.dumps(generation))
        arm = get_study("smoke")["llama-2k"]
        arm = replace(arm, model=replace(arm.model, name=str(folder)), adapter=EVERY)
        rows = [{"instruction": "Add 2 and 3.", "input": "", "output": "5"}]
        dataset, _ = tokenize_rows(rows, arm.data, load_tokenizer(arm.model), 256)
        *_, last = try_model(arm, dataset, layers=1)
        return last

    return run


DOWN = "model.layers.1.mlp.down_proj.weight"  # of the layer that the trial leaves out, too


def test_generation_settings_that_contradict_each_other_are_no_reason_to_fail(tried):
    assert tried(do_sample=False, temperature=0.6).ok


def test_a_weight_that_is_no_number_is_named_wherever_it_is(tried):
    found = tried(lambda weights: weights[DOWN].view(-1)[:1].fill_(float("nan")))
    assert not found.ok and f"its {DOWN} is not finite" in found.detail


def test_a_weight_that_is_not_there_is_named(tried):
    found = tried(lambda weights: weights.pop(DOWN.replace("1", "0")))
    assert not found.ok and "has no weights for model.layers.0.mlp.down_proj" in found.detail


def test_a_weight_of_another_shape_is_named(tried):
    found = tried(lambda weights: weights.update({DOWN.replace("1", "0"): torch.zeros(32, 47)}))
    assert not found.ok and "have another shape than its config.json says" in found.detail


def test_what_fails_in_the_trial_is_red_and_ends_it(other):
    arm = get_study("smoke")["llama-2k"]
    name = other(GPT2Config, n_embd=32, n_layer=2, n_head=4)  # and no weights
    found = try_model(replace(arm, model=replace(arm.model, name=name), adapter=EVERY), [])
    assert [check.ok for check in found] == [False] and "\n" not in found[0].detail


def test_the_trial_calls_the_model_by_its_own_name(tried, monkeypatch):
    def load_model(config, *_):
        raise ValueError(f"{config.name}: no")

    monkeypatch.setattr(trial, "load_model", load_model)
    found = tried()
    assert (found.name, found.ok) == ("one step", False)
    assert found.detail.endswith("/model: no") and "/base" not in found.detail

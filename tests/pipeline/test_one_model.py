"""One model's preflight: what cannot work is red before any weight is read."""

import json
import shutil
from dataclasses import replace

import pytest
from transformers import AutoTokenizer, GPT2Config, Phi3Config

from slimlib.common.hardware import Device
from slimlib.config import AdapterConfig, ModelConfig
from slimlib.data.tokens import tokenize_rows
from slimlib.model.load import load_tokenizer, resolve_name
from slimlib.pipeline import one_model
from slimlib.pipeline.one_model import preflight_model
from slimlib.pipeline.trial import try_model
from slimlib.studies.get import get_study

EVERY = AdapterConfig(r=4, target_modules="all-linear")
SEVEN = AdapterConfig(r=4)
ALL_GREEN = ["model", "tokenizer", "vocabulary", "quantised base", "targets", "generation"]
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
    assert found["targets"].detail.startswith("14 modules (q_proj, k_proj, v_proj, o_proj, gate")
    assert "targets" not in checks(folder(), None)


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
    assert "there are o_proj, qkv_proj, gate_up_proj, down_proj" in red(name, SEVEN)["targets"]
    assert checks(name)["targets"].detail.startswith("8 modules (o_proj, qkv_proj, gate_up_proj")


def test_gpt_2_is_green_in_16_bit_only_and_with_plain_lora_only(other):
    name = other(GPT2Config, n_embd=32, n_layer=2, n_head=4)
    assert "load_in_4bit=false" in red(name)["targets"]
    plain = checks(name, load_in_4bit=False)["targets"]
    assert plain.ok and "c_attn, c_proj, c_fc" in plain.detail
    structured = AdapterConfig("q-bara", r=4, lam=2, target_modules="all-linear")
    assert "a Conv1D" in red(name, structured, load_in_4bit=False)["targets"]


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"quant_method": "awq"}, "quantised by awq, which is not known"),
        ({"quant_method": "gptq", "bits": 4}, "quantised by gptq: pip install gptqmodel"),
    ],
)
def test_a_quantised_base_that_cannot_be_read_is_red(how, words, folder):
    assert words in red(folder(quantization_config=how))["quantised base"]


def test_a_bitsandbytes_base_is_known(folder):
    how = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
    assert checks(folder(quantization_config=how))["quantised base"].detail.endswith("bitsandbytes")


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


def test_what_fails_in_the_trial_is_red_and_ends_it(other):
    arm = get_study("smoke")["llama-2k"]
    name = other(GPT2Config, n_embd=32, n_layer=2, n_head=4)  # and no weights
    found = try_model(replace(arm, model=replace(arm.model, name=name), adapter=EVERY), [])
    assert [check.ok for check in found] == [False] and "\n" not in found[0].detail

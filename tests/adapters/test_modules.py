"""Which modules of a model are linear, and which of them an adapter changes."""

import pytest
from transformers import AutoModelForCausalLM, Gemma3Config, GPT2Config

from slimlib.adapters.layers import attach
from slimlib.adapters.modules import adapted_layers, linear_shapes, transposed
from slimlib.adapters.saving import save_adapter
from slimlib.config import AdapterConfig

SHAPES = {  # (d_in, d_out) of a decoder layer of the random checkpoint (conftest.py)
    "self_attn.q_proj": (32, 32),
    "self_attn.k_proj": (32, 16),
    "self_attn.v_proj": (32, 16),
    "self_attn.o_proj": (32, 32),
    "mlp.gate_proj": (32, 48),
    "mlp.up_proj": (32, 48),
    "mlp.down_proj": (48, 32),
}


@pytest.fixture
def model(checkpoint):
    return AutoModelForCausalLM.from_pretrained(checkpoint)


def test_the_linear_modules_come_in_the_model_s_order_without_its_head(model):
    wanted = [(f"model.layers.{i}.{name}", dims) for i in (0, 1) for name, dims in SHAPES.items()]
    assert [*linear_shapes(model).items()] == wanted


def test_a_linear_layer_outside_the_decoder_s_names_counts_too(model):
    from torch import nn

    model.model.extra = nn.Linear(3, 5)
    assert linear_shapes(model)["model.extra"] == (3, 5)


@pytest.mark.parametrize("method", ["qlora", "q-bara"])
def test_the_adapted_layers_are_the_targeted_ones_by_their_path_in_the_base(model, method):
    config = AdapterConfig(method, r=4, target_modules=("q_proj", "down_proj"))
    adapted = adapted_layers(attach(model, config, seed=0, max_seq_length=64))
    names = ("self_attn.q_proj", "mlp.down_proj")
    assert [path for path, _ in adapted] == [f"model.layers.{i}.{n}" for i in (0, 1) for n in names]
    for path, layer in adapted:
        dims = SHAPES[path.split(".", 3)[3]]
        assert (layer.in_features, layer.out_features) == dims


# ------------------------------------------------------------------------- other architectures


@pytest.fixture
def multimodal():
    """A Gemma 3 with a vision tower, whose attention has a q_proj too."""
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}
    text = {**sizes, "num_hidden_layers": 1, "num_key_value_heads": 2, "head_dim": 8}
    text |= {"vocab_size": 64, "eos_token_id": 1, "bos_token_id": 0, "pad_token_id": 2}
    vision = {**sizes, "num_hidden_layers": 1, "image_size": 16, "patch_size": 8}
    config = Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=1)
    return AutoModelForCausalLM.from_config(config)


@pytest.mark.parametrize("names", ["all-linear", ("q_proj", "v_proj")])
def test_of_a_multimodal_model_the_language_model_alone_is_adapted(names, multimodal, tmp_path):
    from peft import PeftModel

    there = [name for name, _ in multimodal.named_modules()]
    assert any("vision" in name and name.endswith("q_proj") for name in there)
    config = AdapterConfig(r=2, target_modules=names)
    model = attach(multimodal, config, seed=0, max_seq_length=64)
    paths = [path for path, _ in adapted_layers(model)]
    assert len(paths) == (7 if names == "all-linear" else 2)
    assert all(path.startswith("model.language_model.layers.0.") for path in paths)
    save_adapter(model, tmp_path)
    stock = PeftModel.from_pretrained(model.unload(), tmp_path)  # PEFT alone takes the same ones
    assert [path for path, _ in adapted_layers(stock)] == paths


def test_a_conv1d_is_linear_with_its_sides_the_right_way_round():
    config = GPT2Config(vocab_size=64, n_embd=32, n_layer=1, n_head=4, bos_token_id=0)
    config.eos_token_id = 1
    model = AutoModelForCausalLM.from_config(config)
    found = {name.split(".", 3)[3]: dims for name, dims in linear_shapes(model).items()}
    wanted = {"attn.c_attn": (32, 96), "attn.c_proj": (32, 32), "mlp.c_fc": (32, 128)}
    assert found == {**wanted, "mlp.c_proj": (128, 32)}
    assert transposed(model) == [*linear_shapes(model)]
    with pytest.raises(ValueError, match="Q-BaRA does not go on .*c_attn, a Conv1D"):
        attach(model, AdapterConfig("q-bara", r=2, target_modules="all-linear"), 0, 64)


def test_the_config_says_names_where_names_do(model):
    """The paper's adapters say the seven names, as ever; all-linear says the same of Llama."""
    for names in ("all-linear", AdapterConfig().target_modules):
        tuned = attach(model, AdapterConfig(r=2, target_modules=names), 0, 64)
        assert {*tuned.peft_config["default"].target_modules} == {*AdapterConfig().target_modules}
        model = tuned.unload()

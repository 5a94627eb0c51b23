"""Which modules of a model are linear, and which of them an adapter changes."""

import pytest
from transformers import AutoModelForCausalLM

from slimlib.adapters.layers import attach
from slimlib.adapters.modules import adapted_layers, linear_shapes
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

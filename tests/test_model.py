"""Loading: backends by name, NF4 with double quantisation, names of embedded checkpoints."""

import importlib.util
from dataclasses import replace

import pytest
import torch

from slimlib import model
from slimlib.config import ModelConfig
from slimlib.hardware import Device
from slimlib.model import choose_backend, load_model, load_transformers, resolve_name


@pytest.fixture
def machine(monkeypatch):
    """Pretend to be a device, with or without Unsloth."""
    real = importlib.util.find_spec

    def be(kind, unsloth):
        device = Device(kind, "pretended", (7, 5) if kind == "cuda" else None, 8, 8)
        monkeypatch.setattr(model, "find_device", lambda: device)
        spec = object() if unsloth else None
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda name: spec if name == "unsloth" else real(name)
        )

    return be


@pytest.mark.parametrize(
    ("kind", "unsloth", "backend"),
    [
        ("cuda", True, "unsloth"),
        ("cuda", False, "transformers"),
        ("cpu", True, "transformers"),
        ("cpu", False, "transformers"),
    ],
)
def test_auto_is_unsloth_on_a_gpu_that_has_it(machine, kind, unsloth, backend):
    machine(kind, unsloth)
    assert choose_backend("auto") == backend
    assert choose_backend("transformers") == "transformers"


def test_unsloth_by_name_needs_unsloth(machine):
    machine("cpu", False)
    with pytest.raises(ValueError, match="'unsloth' is not installed: pip install unsloth"):
        choose_backend("unsloth")
    machine("cpu", True)
    assert choose_backend("unsloth") == "unsloth"


def test_an_unknown_backend_lists_the_known_ones():
    with pytest.raises(ValueError, match="unknown backend 'vllm'; known: auto, unsloth, transf"):
        choose_backend("vllm")


def test_names():
    assert resolve_name("me/model") == "me/model"
    for short in ("base", "instruct", "tiny"):
        assert (model.Path(resolve_name(f"micro:{short}")) / "config.json").exists()
    with pytest.raises(ValueError, match="'micro:huge'; known: "):
        resolve_name("micro:huge")
    with pytest.raises(ValueError, match="model folder ./nowhere does not exist"):
        resolve_name("./nowhere")


def test_four_bit_is_nf4_with_double_quantisation(checkpoint):
    from bitsandbytes.nn import Linear4bit

    network, tokenizer = load_model(ModelConfig(str(checkpoint)))
    linear = [m for m in network.modules() if isinstance(m, Linear4bit)]
    assert len(linear) == 14
    for module in linear:
        state = module.weight.quant_state
        assert state.quant_type == "nf4" and state.nested and state.blocksize == 64
        assert module.compute_dtype == torch.float32  # on a CPU
    assert not isinstance(network.lm_head, Linear4bit)
    assert tokenizer.pad_token_id not in (None, tokenizer.eos_token_id)
    assert tokenizer.padding_side == "right"


def test_a_forward_pass_leaves_the_packed_weights_alone(checkpoint):
    """bitsandbytes repacks 4-bit weights in place on some CPUs; dequantising then gives garbage."""
    network = load_transformers(ModelConfig(str(checkpoint)))
    module = network.model.layers[0].mlp.up_proj
    packed = module.weight.data.clone()
    with torch.no_grad():
        network.eval()(input_ids=torch.arange(8)[None])
    assert torch.equal(module.weight.data, packed)


def test_sixteen_bit_is_the_checkpoint_itself(checkpoint):
    from safetensors.torch import load_file

    config = replace(ModelConfig(str(checkpoint)), load_in_4bit=False, dtype="float16")
    network = load_transformers(config)
    stored = load_file(checkpoint / "model.safetensors")["model.layers.0.mlp.up_proj.weight"]
    assert torch.equal(network.model.layers[0].mlp.up_proj.weight, stored.half())


def test_a_local_folder_ignores_a_hub_revision(checkpoint):
    config = replace(
        ModelConfig(str(checkpoint)), revision="9535bd9b1d1dea6acafbdc4813b728796aeb28"
    )
    assert load_model(config)[0].config.hidden_size == 32

"""Loading: backends by name, NF4 with double quantisation, names of embedded checkpoints."""

import importlib.util
from dataclasses import replace

import pytest
import torch

from slimlib.adapters.modules import linear_shapes
from slimlib.common.files import write_json
from slimlib.common.hardware import Device
from slimlib.config import AdapterConfig, ModelConfig, Rule
from slimlib.methods.plan import kept
from slimlib.model import load
from slimlib.model.load import (
    choose_backend,
    load_base,
    load_model,
    load_transformers,
    resolve_name,
)
from slimlib.model.quantise import quantise
from slimlib.model.stored import load_whole
from slimlib.studies.get import get_study


@pytest.fixture
def machine(monkeypatch):
    """Pretend to be a device, with or without Unsloth."""
    real = importlib.util.find_spec

    def be(kind, unsloth):
        device = Device(kind, "pretended", (7, 5) if kind == "cuda" else None, 8, 8)
        monkeypatch.setattr(load, "find_device", lambda: device)
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
        assert (load.Path(resolve_name(f"micro:{short}")) / "config.json").exists()
    with pytest.raises(ValueError, match="'micro:huge'; known: "):
        resolve_name("micro:huge")
    with pytest.raises(ValueError, match="model folder ./nowhere does not exist"):
        resolve_name("./nowhere")


def test_no_reader_of_4_bit_lets_the_cpu_repack_it(checkpoint, tmp_path, monkeypatch):
    """With AVX512-BF16 the stock layer would: bfloat16, and codes that no longer dequantise."""
    from bitsandbytes.nn import Linear4bit, modules

    monkeypatch.setattr(modules, "has_avx512bf16", lambda: True)
    config = ModelConfig(str(checkpoint), dtype="float32")
    load_transformers(config).save_pretrained(tmp_path)
    for model in (load_transformers(config), load_whole(str(tmp_path))):
        layers = [m for m in model.modules() if isinstance(m, Linear4bit)]
        assert layers and not any(layer.support_avx512bf16_for_cpu for layer in layers)
        assert all(layer.weight.quant_state.dtype == layer.compute_dtype for layer in layers)


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


# -------------------------------------------------------------------------------------- quantisers

UP = "model.layers.0.mlp.up_proj"  # 32 -> 48


def original(checkpoint, name=UP):
    from safetensors.torch import load_file

    return load_file(checkpoint / "model.safetensors")[f"{name}.weight"]


@pytest.mark.parametrize(("quantiser", "block"), [("icq", 64), ("int4", 16), ("tiles", 32)])
def test_another_quantiser_leaves_plain_weights(checkpoint, quantiser, block):
    config = ModelConfig(str(checkpoint), dtype="float32", quantiser=quantiser, block_size=block)
    network = load_base(config)
    expected = quantise(original(checkpoint), quantiser, block)
    found = network.get_submodule(UP)
    assert type(found) is torch.nn.Linear
    assert torch.equal(found.weight, expected.dequantize())
    assert not torch.equal(found.weight, original(checkpoint))
    assert torch.equal(network.lm_head.weight, original(checkpoint, "lm_head"))
    assert network.quantisation["bits_per_weight"] == pytest.approx(
        expected.bits_per_weight, abs=0.1
    )


def test_the_block_can_be_the_adapters_own(checkpoint):
    rules = (Rule(layer_type="mlp", lam1=8, lam2=8),)
    adapter = AdapterConfig(method="qa-hira", rules=rules)  # attention (4, 8)
    config = ModelConfig(str(checkpoint), dtype="float32", quantiser="tiles", block_size=None)
    network = load_base(config, adapter)
    for name, block in ((UP, (8, 8)), ("model.layers.1.self_attn.k_proj", (8, 4))):
        expected = quantise(original(checkpoint, name), "tiles", block).dequantize()
        assert torch.equal(network.get_submodule(name).weight, expected)


@pytest.mark.parametrize("adapter", [None, AdapterConfig(), AdapterConfig(method="q-bara")])
def test_a_block_of_none_needs_an_adapter_that_has_one(checkpoint, adapter):
    config = ModelConfig(str(checkpoint), dtype="float32", quantiser="int4", block_size=None)
    with pytest.raises(ValueError, match=r"layers.0.self_attn.q_proj has none: give a number"):
        load_base(config, adapter)


def test_a_gptq_checkpoint_by_its_folder(checkpoint, tmp_path):
    """Codes made by rounding, packed by hand in AutoGPTQ's layout: the weights come from there."""
    from safetensors.torch import save_file

    codes = (torch.arange(48 * 32).view(48, 32) * 7) % 16
    scales, zeros = torch.full((2, 48), 0.01).half(), 0x77777777
    packed = sum(codes.T[i::8].long() << (4 * i) for i in range(8))
    packed = ((packed + 2**31) % 2**32 - 2**31).int().contiguous()
    tensors = {"qweight": packed, "scales": scales, "qzeros": torch.full((2, 6), zeros).int()}
    save_file({f"{UP}.{k}": v for k, v in tensors.items()}, tmp_path / "model.safetensors")
    write_json(tmp_path / "quantize_config.json", {"bits": 4, "format": "gptq_v2"})
    network = load_base(ModelConfig(str(checkpoint), dtype="float32", quantiser=f"gptq:{tmp_path}"))
    expected = torch.tensor(0.01).half().float() * (codes - 7)
    assert torch.equal(network.get_submodule(UP).weight, expected)


@pytest.mark.parametrize("quantiser", ["gptq", "gptq:", "nf5"])
def test_an_unknown_quantiser_is_refused_with_the_way_out(quantiser):
    known = "must be nf4 or icq or int4 or tiles or int8 or q4_1 or noise:SEED or gptq:FOLDER"
    with pytest.raises(ValueError, match=known):
        get_study("micro", arms="llama-base,llama-2k", **{"model.quantiser": quantiser})


@pytest.mark.parametrize("keep", [("mlp",), ("layers.1.self_attn.q_proj",), ("first_third",)])
def test_what_is_kept_is_the_checkpoint_s_own_and_the_rest_is_quantised(keep):
    """bitsandbytes leaves the same modules as an own quantiser, and these hold the same weights."""
    from bitsandbytes.nn import Linear4bit

    given = {"dtype": "float32", "keep": keep}
    plain = load_base(ModelConfig("micro:base", dtype="float32", load_in_4bit=False))
    shapes = linear_shapes(plain)
    theirs = load_base(ModelConfig("micro:base", **given))
    by_them = {n for n, m in theirs.named_modules() if isinstance(m, Linear4bit)}
    assert by_them == {*shapes} - {*kept(shapes, keep)} and 0 < len(by_them) < len(shapes)
    theirs = theirs.dequantize(torch.float32)
    # NF4 by the own closed form: with an error scale of a half it lies half-way
    half = load_base(ModelConfig("micro:base", error_scale=0.5, **given))
    for name in shapes:
        weight, whole, middle = (
            m.get_submodule(name).weight.detach() for m in (plain, theirs, half)
        )
        kept_as_it_is = [torch.equal(weight, other) for other in (whole, middle)]
        assert kept_as_it_is == [name not in by_them] * 2, name
        assert torch.allclose(middle, (weight + whole) / 2, atol=1e-5), name


def test_a_merge_with_kept_modules_is_what_was_trained_on(checkpoint, tmp_path):
    """QLoRA with the MLP left alone, written: attention as NF4 leaves it, the MLP as it came."""
    from safetensors.torch import load_file

    from slimlib.config import Arm, MergeConfig
    from slimlib.merge.plain import write_merged

    model = ModelConfig(str(checkpoint), dtype="float32", keep=("mlp",))
    arm = Arm("nf4", "NF4", model, quantise=True, merge=MergeConfig(dtype="float32"))
    assert write_merged(arm, None, tmp_path / "merged")["logit_check"]["equal"]
    found, came = (load_file(f / "model.safetensors") for f in (tmp_path / "merged", checkpoint))
    whole = load_transformers(replace(model, keep=())).dequantize(torch.float32).state_dict()
    for name, weight in found.items():
        assert torch.equal(weight, (came if ".mlp." in name else whole)[name]), name

"""Errors of known size and kind, against closed forms and llama.cpp's own package."""

import numpy as np
import pytest
import torch
from places import CHECKOUT
from scipy.stats import norm

from slimlib.config import ConfigError, ModelConfig
from slimlib.model.controls import int8, nf4, noise, perturb_model_, perturbed, q4_1
from slimlib.model.load import resolve_name
from slimlib.model.quantise import quantise


def gaussian(d_out=48, d_in=128, seed=0):
    return torch.randn(d_out, d_in, generator=torch.Generator().manual_seed(seed)) * 0.02


def source(seed=1):
    return torch.Generator().manual_seed(seed)


def nf4_levels():
    """QLoRA, appendix E: quantiles of the normal, eight above zero and seven below it."""
    outermost = 0.5 * ((1 - 1 / (2 * 15)) + (1 - 1 / (2 * 16)))
    above = norm.ppf(np.linspace(outermost, 0.5, 9)[:-1])
    below = -norm.ppf(np.linspace(outermost, 0.5, 8)[:-1])
    levels = np.sort(np.concatenate([below, [0.0], above]))
    return torch.from_numpy(levels / levels.max()).float()


def closed_form(blocks):
    """Each weight as the nearest level times its block's absmax; absmax not quantised itself."""
    levels, absmax = nf4_levels(), blocks.abs().amax(dim=1, keepdim=True)
    nearest = (blocks[..., None] / absmax[..., None] - levels).abs().argmin(dim=-1)
    return levels[nearest] * absmax


@pytest.mark.parametrize("size", [32, 64, 128])
def test_nf4_by_its_closed_form_is_bitsandbytes_own(size):
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    weight = gaussian()
    packed, state = quantize_4bit(weight, blocksize=size, quant_type="nf4")
    expected = closed_form(weight.view(-1, size)).view_as(weight)
    torch.testing.assert_close(dequantize_4bit(packed, state), expected, rtol=1e-6, atol=1e-9)
    # double quantisation moves each block's absmax, and nothing else, by less than 1 %
    ours = nf4(weight, (1, size))
    assert torch.equal(ours, quantise(weight, "nf4", size).dequantize())
    assert ((ours - expected).abs() <= 0.01 * expected.abs() + 1e-9).all()


@pytest.mark.parametrize("offset", [1, 16, 63])
def test_blocks_that_begin_elsewhere(offset):
    """The first block has `offset` weights, and all others are 64 after one another."""
    weight = gaussian()
    flat = weight.view(-1)
    found = nf4(weight, (1, 64), offset).view(-1)
    whole = (len(flat) - offset) // 64 * 64
    middle = slice(offset, offset + whole)
    expected = closed_form(flat[middle].view(-1, 64)).view(-1)
    assert ((found[middle] - expected).abs() <= 0.01 * expected.abs() + 1e-9).all()
    first = closed_form(flat[None, :offset])[0]
    assert ((found[:offset] - first).abs() <= 0.01 * first.abs() + 1e-9).all()
    assert not torch.equal(found, nf4(weight, (1, 64)).view(-1))
    shares = [(x - flat).norm() / flat.norm() for x in (found, nf4(weight, (1, 64)).view(-1))]
    assert shares[0] == pytest.approx(shares[1].item(), rel=0.05)  # another draw of one size


def test_int8_and_q4_1_are_llama_cpp_s():
    from gguf import GGMLQuantizationType, quants

    weight = gaussian()
    for kind, function in (("Q8_0", int8), ("Q4_1", q4_1)):
        kind = GGMLQuantizationType[kind]
        theirs = quants.dequantize(quants.quantize(weight.numpy(), kind), kind)
        assert np.array_equal(function(weight, (1, 32)).numpy(), theirs), kind


def test_q4_1_leaves_what_is_q4_1_already():
    weight = gaussian()
    once = q4_1(weight, (1, 32))
    twice = q4_1(once, (1, 32))
    error = [((x - y).norm() / y.norm()).item() for x, y in ((once, weight), (twice, once))]
    assert error[0] > 0.07 and error[1] < 1e-3


def test_zeros_stay_zeros():
    zeros = torch.zeros(2, 64)
    for function in (int8, q4_1, nf4):
        assert torch.equal(function(zeros, (1, 64)), zeros)
    assert torch.equal(noise(zeros, (1, 64), source()), zeros)


def test_noise_is_as_long_as_nf4_s_error_in_every_block():
    weight = gaussian()
    errors = [
        (x - weight).view(-1, 64) for x in (noise(weight, (1, 64), source()), nf4(weight, (1, 64)))
    ]
    torch.testing.assert_close(errors[0].norm(dim=1), errors[1].norm(dim=1), rtol=1e-4, atol=1e-8)
    cosine = torch.nn.functional.cosine_similarity(*(e.view(1, -1) for e in errors))
    assert cosine.abs() < 0.05
    again, other = (noise(weight, (1, 64), source(seed)) for seed in (1, 2))
    assert torch.equal(again - weight, errors[0].view_as(weight)) and not torch.equal(again, other)


@pytest.mark.parametrize("quantiser", ["nf4", "icq", "int4", "int8", "q4_1", "noise:3", "tiles"])
def test_the_path_goes_from_the_weight_over_its_quantised_form(quantiser):
    weight = gaussian(32, 64)

    def at(t):
        config = ModelConfig("micro:base", quantiser=quantiser, error_scale=t)
        return perturbed(weight, config, 64, source())

    assert torch.equal(at(0), weight)
    for t in (0.5, 1.25):
        torch.testing.assert_close(at(t), weight + t * (at(1) - weight), rtol=1e-5, atol=1e-8)
    if quantiser in ("nf4", "icq", "int4", "tiles"):
        assert torch.equal(at(1), quantise(weight, quantiser, 64).dequantize())


def test_a_model_s_layers_get_noise_of_their_own_and_its_output_layer_none():
    model = torch.nn.ModuleDict({n: torch.nn.Linear(64, 32) for n in ("q", "k", "lm_head")})
    for layer in model.values():
        layer.weight.data = gaussian(32, 64)
    config = ModelConfig("micro:base", quantiser="noise:1")
    reports = perturb_model_(model, config, dict.fromkeys(model, 64))
    moved = {name: layer.weight.data - gaussian(32, 64) for name, layer in model.items()}
    assert [*reports] == ["q", "k"] and not moved["lm_head"].any()
    assert not torch.equal(moved["q"], moved["k"])
    share = (moved["q"].norm() / gaussian(32, 64).norm()).item()
    assert reports["q"]["error_share"] == pytest.approx(share, rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_error_is_of_the_weights_that_stay(dtype):
    """A small part of NF4's error is lost where bfloat16 rounds it away."""
    model = torch.nn.ModuleDict({"q": torch.nn.Linear(64, 32, dtype=dtype)})
    before = model["q"].weight.data.double().clone()
    config = ModelConfig("micro:base", error_scale=0.01)
    (report,) = perturb_model_(model, config, {"q": 64}).values()
    error = model["q"].weight.data.double() - before
    share = (error.norm() / before.norm()).item()
    assert report == pytest.approx({"mse": error.square().mean().item(), "error_share": share})


def test_a_block_that_does_not_fit_names_the_layer():
    model = torch.nn.ModuleDict({"q": torch.nn.Linear(48, 8)})
    with pytest.raises(ValueError, match="^q: int8: blocks of 1 outputs x 64 inputs do not divide"):
        perturb_model_(model, ModelConfig("micro:base", quantiser="int8"), {"q": 64})


def test_only_plain_nf4_is_bitsandbytes_own():
    plain = ModelConfig("micro:base")
    assert plain.by_bitsandbytes and not plain.is_control
    others = ({"block_size": 32}, {"block_offset": 8}, {"error_scale": 0.5}, {"quantiser": "int8"})
    assert not any(ModelConfig("micro:base", **other).by_bitsandbytes for other in others)
    assert [ModelConfig("micro:base", **other).is_control for other in others] == [0, 1, 1, 1]
    with pytest.raises(ConfigError, match="block_offset=8: must be 0, or with nf4"):
        ModelConfig("micro:base", quantiser="int8", block_offset=8)
    with pytest.raises(ConfigError, match="error_scale=0.5: must be 1 with gptq"):
        ModelConfig("micro:base", quantiser="gptq:x", error_scale=0.5)
    with pytest.raises(ConfigError, match="block_size=none: must be a number with noise:1"):
        ModelConfig("micro:base", quantiser="noise:1", block_size=None)


def test_two_errors_add_up_as_if_they_knew_nothing_of_each_other():
    """What figures/README.md says of a file of 4 bit that is quantised: shares of micro's length.

    Over all linear layers: Q4_1 of the float32 weights, NF4 of these, and NF4 of what Q4_1 left.
    """
    from transformers import AutoModelForCausalLM

    network = AutoModelForCausalLM.from_pretrained(resolve_name("micro:base"), dtype="float32")
    squares = dict.fromkeys(("weights", "q4_1", "nf4", "both", "after"), 0.0)
    for name, layer in network.named_modules():
        if isinstance(layer, torch.nn.Linear) and name != "lm_head":
            whole = layer.weight.detach()
            coarse = q4_1(whole, (1, 32))
            twice = nf4(coarse, (1, 64))
            assert torch.allclose(q4_1(coarse, (1, 32)), coarse, atol=1e-3)
            errors = (whole, coarse - whole, nf4(whole, (1, 64)) - whole, twice - whole)
            for key, error in zip(squares, (*errors, twice - coarse), strict=True):
                squares[key] += error.double().square().sum().item()
    share = {key: (value / squares["weights"]) ** 0.5 for key, value in squares.items()}
    assert share["both"] == pytest.approx((share["q4_1"] ** 2 + share["nf4"] ** 2) ** 0.5, abs=1e-3)
    said = (CHECKOUT / "figures" / "README.md").read_text(encoding="utf-8").replace("\n", " ")
    first, second, third, fourth = (
        f"{100 * share[key]:.1f} %" for key in ("q4_1", "nf4", "both", "after")
    )
    assert f"Q4_1 leaves an error of {first} of their length, NF4 {second}" in said
    assert f"NF4 after Q4_1 {third} (against the Q4_1 weights {fourth}" in said

"""Merging inside the quantised format: what survives of dW, against closed forms."""

import math
from dataclasses import replace

import pytest
import torch

from slimlib.config import AdapterConfig
from slimlib.merge.inside import (
    adapter_cores,
    exact_delta,
    load_inside,
    merge_inside,
    merge_model_inside,
    read_inside,
    surviving_share,
)
from slimlib.methods.plan import compile_plan
from slimlib.model.quantise import quantise, quantise_linears, replace_weights_

D_IN, D_OUT = 256, 192
NAME = "model.layers.0.self_attn.q_proj"
RMS = 1.3e-4  # of dW, an assumption; with weights of 0.02 it sets what 16 bit can hold


def numbers(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


WEIGHT = (numbers(D_OUT, D_IN, seed=0) * 0.02).float()


def plan_of(method, **values):
    return compile_plan({NAME: (D_IN, D_OUT)}, AdapterConfig(method=method, **values))[NAME]


def qa_lora(group_size=32, r=8):
    """An entry, its cores and dW[o, i] = (s / G) sum_k B[o, k] A_G[k, i // G], dW's rms = RMS."""
    entry = plan_of("qa-lora", r=r, lora_alpha=16, group_size=group_size)
    a, b = numbers(r, D_IN // group_size, seed=1), numbers(D_OUT, r, seed=2)
    group = torch.arange(D_IN) // group_size
    delta = 16 / r / group_size * (b @ a)[:, group]
    factor = RMS / delta.square().mean().sqrt()
    return entry, a, b * factor, delta * factor


def qa_hira(lam1=4, lam2=8):
    """An entry, its core C and dW[o, i] = (s / lam1) C[o // lam2, i // lam1], dW's rms = RMS."""
    entry = plan_of("qa-hira", r=16, lora_alpha=8, lam1=lam1, lam2=lam2)
    c = numbers(D_OUT // lam2, D_IN // lam1, seed=3)
    delta = 8 / 16 / lam1 * c[torch.arange(D_OUT) // lam2][:, torch.arange(D_IN) // lam1]
    factor = RMS / delta.square().mean().sqrt()
    return entry, c * factor, delta * factor


def left_of(delta, before, after):
    """The measured error once more, by hand."""
    change = after.dequantize(torch.float64) - before.dequantize(torch.float64)
    return ((change - delta).norm() / delta.norm()).item()


# ----------------------------------------------------------------------------------------- lossless


@pytest.mark.parametrize("group_size", [32, 64, 128])
@pytest.mark.parametrize("quantiser", ["int4", "icq", "tiles"])
def test_qa_lora_is_lossless_in_float64(group_size, quantiser):
    entry, a, b, delta = qa_lora(group_size)
    assert (exact_delta(entry, a, b) - delta).abs().max() <= 1e-12 * delta.abs().max()
    block = (1, group_size) if quantiser == "tiles" else group_size
    base = quantise(WEIGHT, quantiser, block)
    merged, error = merge_inside(base, entry, a, b, "float64")
    assert error <= 1e-12
    assert left_of(delta, base, merged) == pytest.approx(error, abs=1e-13)
    assert torch.equal(merged.codes, base.codes)


@pytest.mark.parametrize(("lam1", "lam2"), [(4, 8), (8, 8), (16, 4), (8, 4)])
@pytest.mark.parametrize("quantiser", ["tiles", "int4"])
def test_qa_hira_is_lossless_in_float64(lam1, lam2, quantiser):
    entry, c, delta = qa_hira(lam1, lam2)
    assert (exact_delta(entry, None, c) - delta).abs().max() <= 1e-12 * delta.abs().max()
    base = quantise(WEIGHT, quantiser, entry.block)
    merged, error = merge_inside(base, entry, None, c, "float64")
    assert error <= 1e-12
    assert left_of(delta, base, merged) == pytest.approx(error, abs=1e-13)


def test_blocks_may_be_smaller_than_the_adapters():
    entry, c, delta = qa_hira(lam1=8, lam2=16)
    base = quantise(WEIGHT, "tiles", (8, 4))
    merged, error = merge_inside(base, entry, None, c, "float64")
    assert error <= 1e-12 and left_of(delta, base, merged) <= 1e-12
    entry, a, b, _ = qa_lora(64)
    assert merge_inside(quantise(WEIGHT, "int4", 32), entry, a, b, "float64")[1] <= 1e-12


# ------------------------------------------------------------------------------------------ storage


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [("float32", 1e-6, 3e-5), ("float16", 0.04, 0.2), ("bfloat16", 0.4, 1.2), ("int", 0.9, 50)],
)
def test_what_zero_points_keep(dtype, low, high):
    """z is about 7.5 and dW moves it by 0.02: float16 there has steps of 0.004, an integer of 1."""
    entry, a, b, delta = qa_lora()
    base = quantise(WEIGHT, "int4", 32, zeros="float32")
    merged, error = merge_inside(base, entry, a, b, dtype)
    assert low < error < high
    assert left_of(delta, base, merged) == pytest.approx(error)


def test_integer_zero_points_lose_the_adapter():
    """As packed GPTQ checkpoints have them: every change rounds to none, the error is 1."""
    entry, a, b, _ = qa_lora()
    base = quantise(WEIGHT, "int4", 32, zeros="int")
    merged, error = merge_inside(base, entry, a, b, "int")
    assert error == pytest.approx(1.0, abs=1e-9)
    assert torch.equal(merged.dequantize(), base.dequantize())
    assert merge_inside(base, entry, a, b, "float64")[1] <= 1e-12


def test_a_midpoint_keeps_more_than_a_zero_point_of_the_same_size():
    entry, a, b, delta = qa_lora()
    base = quantise(WEIGHT, "int4", 32, zeros="float32")
    zero, zero_error = merge_inside(base, entry, a, b, "float16")
    middle, middle_error = merge_inside(base, entry, a, b, "float16", form="offset")
    assert 2.5 < zero_error / middle_error < 12
    assert 5e-3 < middle_error < 4e-2
    assert middle.bits_per_weight == zero.bits_per_weight == 5.0
    assert left_of(delta, base, middle) == pytest.approx(middle_error)


@pytest.mark.parametrize(
    ("dtype", "low", "high", "bits"),
    [
        ("float32", 1e-8, 1e-5, 32),
        ("float16", 1e-4, 5e-4, 16),
        ("bfloat16", 1e-3, 4e-3, 16),
        ("8bit", 5e-3, 3e-2, 8),
    ],
)
def test_what_offsets_of_tiles_keep(dtype, low, high, bits):
    """An offset starts at zero, so only the storage's own relative step is lost."""
    entry, c, _ = qa_hira()
    base = quantise(WEIGHT, "tiles", 32)
    merged, error = merge_inside(base, entry, None, c, dtype)
    assert low < error < high
    added = merged.bits_per_weight - base.bits_per_weight
    assert bits / 32 <= added <= bits / 32 + 0.01


def test_an_untrained_adapter_changes_nothing():
    entry, c, _ = qa_hira()
    base = quantise(WEIGHT, "tiles", 32)
    merged, error = merge_inside(base, entry, None, c * 0, "float16")
    assert error == 0 and torch.equal(merged.dequantize(), base.dequantize())


# ----------------------------------------------------------------------------------------- refusals


def test_ordinary_blocks_lose_most_of_qa_hira():
    """A run of 32 inputs crosses 8 tiles of 4: about 1/8 of random tiles' square is its mean."""
    entry, c, delta = qa_hira()
    share = surviving_share(delta, (1, 32))
    assert 0.10 < share < 0.15
    base = quantise(WEIGHT, "tiles", (1, 32))
    with pytest.raises(ValueError, match=rf"8 x 4 .* 1 x 32 do not divide that; {share:.0%} of"):
        merge_inside(base, entry, None, c)
    means = delta.view(D_OUT, D_IN // 32, 32).mean(dim=2)
    kept = base.add_constant(means, "float64")
    assert left_of(delta, base, kept) ** 2 == pytest.approx(1 - share)


def test_surviving_share_by_hand():
    delta = torch.tensor([[1.0, 3.0], [2.0, 2.0]])  # means 2 and 2: 16 of 18
    assert surviving_share(delta, (1, 2)) == pytest.approx(16 / 18)
    assert surviving_share(delta, (1, 1)) == 1
    assert surviving_share(delta * 0, (1, 2)) == 1


@pytest.mark.parametrize("method", ["qlora", "ir-qlora", "q-bara"])
def test_methods_that_vary_within_a_block_say_so(method):
    entry = plan_of(method, r=8)
    base = quantise(WEIGHT, "tiles", 32)
    with pytest.raises(ValueError, match=rf"{NAME} \(192 x 256\): its dW varies inside every bl"):
        merge_inside(base, entry, torch.zeros(8, D_IN), torch.zeros(D_OUT, 8))


def test_what_does_not_fit_is_refused():
    entry, a, b, _ = qa_lora()
    with pytest.raises(ValueError, match="its blocks|do not divide that"):
        merge_inside(quantise(WEIGHT, "int4", 64), entry, a, b)
    with pytest.raises(ValueError, match="nf4 has no constant per block"):
        merge_inside(quantise(WEIGHT, "nf4", 32), entry, a, b)
    with pytest.raises(ValueError, match="the quantised weight is 64 x 256"):
        merge_inside(quantise(WEIGHT[:64], "int4", 32), entry, a, b)
    base = quantise(WEIGHT, "int4", 32)
    with pytest.raises(ValueError, match=rf"{NAME} .*: lora_A of \(8, 4\): must be \(8, 8\)"):
        merge_inside(base, entry, a[:, :4], b)
    with pytest.raises(ValueError, match=r"lora_A of None: must be \(8, 8\)"):
        merge_inside(base, entry, None, b)
    entry, c, _ = qa_hira()
    with pytest.raises(ValueError, match=r"lora_A of \(8, 8\): must be None"):
        merge_inside(quantise(WEIGHT, "tiles", 32), entry, a, c)


# ------------------------------------------------------------------------------------- whole models


CASES = {
    "qa-lora": ("int4", {"group_size": 16}, 1e-4),
    "qa-hira": ("tiles", {"lam1": 4, "lam2": 8}, 1e-4),
}


@pytest.fixture(params=CASES)
def trained(request, checkpoint):
    """A random Llama, quantised, and what an adapter on q, k, v, o, up and down has learned."""
    from transformers import AutoModelForCausalLM

    from slimlib.adapters.modules import linear_shapes

    quantiser, values, _ = CASES[request.param]
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    shapes = linear_shapes(model)
    targets = ("q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj")
    config = AdapterConfig(method=request.param, r=4, target_modules=targets, **values)
    plan = compile_plan(shapes, config)
    every = compile_plan(shapes, replace(config, target_modules=(*targets, "gate_proj")))
    quantised = quantise_linears(model, quantiser, {n: e.block for n, e in every.items()})
    cores = {}
    for name, entry in plan.items():
        if request.param == "qa-hira":
            shape = (entry.d_out // entry.lam2, entry.d_in // entry.lam1)
            cores[name] = (None, numbers(*shape, seed=1) * 0.1)
        else:
            a = numbers(entry.r, entry.d_in // entry.group_size, seed=1)
            cores[name] = (a, numbers(entry.d_out, entry.r, seed=2) * 0.1)
    return model, quantised, plan, cores


def logits(model):
    with torch.no_grad():
        return model.eval()(input_ids=torch.arange(5, 25)[None]).logits


def test_a_model_merged_inside_is_the_base_and_the_adapter(trained, tmp_path):
    model, quantised, plan, cores = trained
    folder = tmp_path / "inside"
    table = merge_model_inside(model, quantised, plan, cores, folder, "float32")
    assert list(table["module"]) == [*quantised] and len(table) == 14
    alone = table["module"].str.contains("gate_proj")
    assert table.loc[~alone, "retained_error"].max() < 1e-5
    assert table.loc[alone, "retained_error"].isna().all()
    assert (table.loc[~alone, "storage"] == "float32").all()
    replace_weights_(model, quantised)
    base = logits(model)
    for name, entry in plan.items():
        model.get_submodule(name).weight.data += exact_delta(entry, *cores[name]).float()
    expected, found = logits(model), logits(load_inside(folder))
    scale = expected.max() - expected.min()
    assert (found - expected).abs().max() <= 1e-4 * scale
    assert (base - expected).abs().max() >= 1e-2 * scale  # else the test could not fail
    again = read_inside(folder)
    assert [again[n].bits_per_weight for n in quantised] == list(table["bits_per_weight"])


def test_the_file_holds_the_bits_that_are_counted(trained, tmp_path):
    from safetensors.torch import load_file

    model, quantised, plan, cores = trained
    table = merge_model_inside(model, quantised, plan, cores, tmp_path / "inside", "float16")
    tensors = load_file(tmp_path / "inside" / "quantised.safetensors").values()
    weights = [math.prod(quantised[name].shape) for name in table["module"]]
    counted = (table["bits_per_weight"] * weights).sum()
    assert 8 * sum(t.numel() * t.element_size() for t in tensors) == pytest.approx(counted)


def test_tied_embeddings_are_stored_once_and_tied_again(checkpoint, tmp_path):
    from safetensors.torch import load_file
    from transformers import AutoConfig, AutoModelForCausalLM

    from slimlib.adapters.modules import linear_shapes

    torch.manual_seed(0)
    config = AutoConfig.from_pretrained(checkpoint, tie_word_embeddings=True)
    model = AutoModelForCausalLM.from_config(config)
    quantised = quantise_linears(model, "int4", dict.fromkeys(linear_shapes(model), 16))
    merge_model_inside(model, quantised, {}, {}, tmp_path / "inside")
    replace_weights_(model, quantised)
    assert "lm_head.weight" not in load_file(tmp_path / "inside" / "rest.safetensors")
    loaded = load_inside(tmp_path / "inside")
    assert loaded.lm_head.weight is loaded.model.embed_tokens.weight
    assert torch.equal(logits(loaded), logits(model))


def test_models_that_cannot_be_merged(trained, tmp_path):
    model, quantised, plan, cores = trained
    name = [*plan][-1]
    with pytest.raises(ValueError, match=f"{name} .*: no trained cores for it"):
        some = {n: c for n, c in cores.items() if n != name}
        merge_model_inside(model, quantised, plan, some, tmp_path / "inside")
    with pytest.raises(ValueError, match=f"{name} .*: no quantised weight for it"):
        some = {n: q for n, q in quantised.items() if n != name}
        merge_model_inside(model, some, plan, cores, tmp_path / "inside")
    assert not (tmp_path / "inside").exists()
    with pytest.raises(ValueError, match="holds no model merged inside the quantised format"):
        load_inside(tmp_path)


@pytest.mark.parametrize("method", CASES)
def test_a_peft_models_own_cores_merge(method, checkpoint, tmp_path):
    """From `attach` on: the merged folder answers as the model with its adapter."""
    from transformers import AutoModelForCausalLM

    from slimlib.adapters.layers import attach
    from slimlib.adapters.modules import linear_shapes

    quantiser, values, tolerance = CASES[method]
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    config = AdapterConfig(method=method, r=4, **values)
    plan = compile_plan(linear_shapes(model), config)
    blocks = {name: entry.block for name, entry in plan.items()}
    quantised = quantise_linears(model, quantiser, blocks)
    replace_weights_(model, quantised)
    plain = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    tuned = attach(model, config, seed=0, max_seq_length=64)
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if parameter.requires_grad and "lora_B" in name:
                parameter += 0.1 * torch.randn(
                    parameter.shape, generator=torch.Generator().manual_seed(len(name))
                )
    cores = adapter_cores(tuned)
    assert [*cores] == [*plan]
    merge_model_inside(plain, quantised, plan, cores, tmp_path / "inside")
    expected, found = logits(tuned), logits(load_inside(tmp_path / "inside"))
    assert (found - expected).abs().max() <= tolerance * (expected.max() - expected.min())

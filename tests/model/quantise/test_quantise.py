"""Quantisers against bitsandbytes, loops written out, and counts made by hand."""

import math
import subprocess
import sys

import pytest
import torch
from torch import nn

from slimlib.model.quantise import (
    QUANTISERS,
    Quantised,
    load_gptq,
    quantise,
    quantise_linears,
    quantise_model_,
    read_gptq,
    replace_weights_,
    resolve_block,
)
from slimlib.model.quantise.blocks import code_entropy, from_blocks, pack, to_blocks, unpack
from slimlib.model.quantise.gptq import from_packed
from slimlib.model.quantise.icq import best_shift
from slimlib.model.quantise.numbers import Numbers
from slimlib.model.quantise.storage import levels

RUNNABLE = ("nf4", "icq", "int4", "tiles")  # gptq needs text


def gaussian(d_out=96, d_in=128, seed=0):
    """Weights of the size of a language model's."""
    return torch.randn(d_out, d_in, generator=torch.Generator().manual_seed(seed)) * 0.02


# ----------------------------------------------------------------------------------------- blocks


def test_blocks_of_a_matrix_by_hand():
    matrix = torch.arange(12).view(2, 6)  # 0..5 over 6..11
    assert to_blocks(matrix, (1, 3)).tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11]]
    assert to_blocks(matrix, (2, 3)).tolist() == [[0, 1, 2, 6, 7, 8], [3, 4, 5, 9, 10, 11]]
    # 4 does not divide a row of 6: blocks run on, as bitsandbytes' do
    assert to_blocks(matrix, (1, 4)).tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    assert to_blocks(matrix, (1, 8)).tolist() == [list(range(8)), [8, 9, 10, 11, 0, 0, 0, 0]]
    for block in ((1, 3), (2, 3), (1, 4), (1, 8), (2, 1), (2, 6)):
        assert torch.equal(from_blocks(to_blocks(matrix, block), (2, 6), block), matrix)


def test_packing_two_codes_to_a_byte():
    codes = torch.tensor([1, 2, 3], dtype=torch.uint8)
    assert pack(codes).tolist() == [0x12, 0x30]
    assert torch.equal(unpack(pack(codes), 3), codes)


def test_entropy_of_codes_by_hand():
    codes = torch.tensor([5, 5, 5, 5, 0, 1, 2, 3, 7, 7, 9, 9, 4])
    # one code: 0 bit; four: 2; two and two: 1; the last block holds one code
    assert code_entropy(codes, 4).tolist() == pytest.approx([0, 2, 1, 0], abs=1e-12)


# ---------------------------------------------------------------------------------------- numbers


@pytest.mark.parametrize("kind", ["float64", "float32", "float16", "bfloat16"])
def test_floats_are_stored_as_torch_rounds_them(kind):
    values = gaussian(1, 50).view(-1)
    stored = Numbers.of(values, kind)
    assert torch.equal(stored.values(torch.float64), values.to(getattr(torch, kind)).double())
    assert stored.bits == 50 * {"float64": 64, "float32": 32}.get(kind, 16)


@pytest.mark.parametrize("count", [1, 255, 256, 300, 513])
def test_eight_bits_in_groups_of_256_of_which_the_last_is_short(count):
    values = gaussian(1, count).view(-1)
    stored = Numbers.of(values, "8bit")
    assert stored.absmax.numel() == math.ceil(count / 256)
    assert stored.bits == 8 * count + 32 * math.ceil(count / 256)
    assert (stored.values() - values).abs().max() <= 0.02 * values.abs().max()
    assert Numbers.of(values, "8bit+mean").bits == stored.bits + 32


def test_zeros_stay_zero_and_integers_are_clamped():
    assert Numbers.of(torch.zeros(5), "8bit").values().tolist() == [0] * 5
    stored = Numbers.of(torch.tensor([-3.0, 0.4, 7.6, 40.0, 2.0]), "int")
    assert stored.values().tolist() == [0, 0, 8, 15, 2]
    assert stored.bits == 24  # five codes of 4 bit, in whole bytes


def test_a_number_that_does_not_fit_its_storage_is_refused():
    with pytest.raises(ValueError, match="the scales do not fit into float16: store them in float"):
        Numbers.of(torch.tensor([70_000.0]), "float16", "the scales")
    with pytest.raises(ValueError, match="storage 'float8' of the scales: must be one of float64"):
        Numbers.of(torch.ones(1), "float8", "the scales")


# -------------------------------------------------------------------------------------------- nf4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("size", [32, 64, 128])
def test_nf4_is_bitsandbytes_own_round_trip(dtype, size):
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    for d_out, d_in in ((96, 128), (7, 128), (1, 128)):
        weight = gaussian(d_out, d_in).to(dtype)
        packed, state = quantize_4bit(
            weight, blocksize=size, quant_type="nf4", compress_statistics=True
        )
        ours = quantise(weight, "nf4", size)
        assert torch.equal(ours.codes, packed.view(-1))
        assert torch.equal(ours.dequantize(dtype), dequantize_4bit(packed, state))


@pytest.mark.parametrize("shape", [(16, 48), (48, 32), (3, 10), (1, 2)])
def test_nf4_runs_on_over_the_end_of_a_row(shape):
    """As bitsandbytes quantises them; its CPU kernel reads such matrices back wrong (0.50.2)."""
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    weight = gaussian(*shape)
    packed, state = quantize_4bit(
        weight.view(-1), blocksize=64, quant_type="nf4", compress_statistics=True
    )
    assert torch.equal(
        quantise(weight, "nf4", 64).dequantize().view(-1), dequantize_4bit(packed, state).view(-1)
    )


def test_bits_per_weight_counted_by_hand():
    weight = gaussian(512, 2048)
    n, blocks = weight.numel(), weight.numel() // 64
    nf4 = quantise(weight, "nf4", 64).bits_per_weight
    # codes, 8 bit a scale, one float32 for 256 scales, one float32 mean
    assert nf4 == (4 * n + 8 * blocks + 32 * blocks // 256 + 32) / n
    assert round(nf4, 3) == 4.127
    tau = (8 * blocks + 32 * blocks // 256) / n
    assert quantise(weight, "icq", 64, n=1).bits_per_weight == pytest.approx(nf4 + tau, abs=1e-12)
    tiles = quantise(weight, "tiles", 64)
    assert tiles.bits_per_weight == nf4  # offsets of zero are not stored
    nothing = torch.zeros(512 // 8, 2048 // 8)
    assert tiles.add_constant(nothing, "float16").bits_per_weight == nf4 + 16 / 64
    assert quantise(weight, "int4", 32).bits_per_weight == 4 + 16 / 32 + 16 / 32
    packed = quantise(weight, "int4", 128, zeros="int", scales="float32")
    assert packed.bits_per_weight == 4 + 32 / 128 + 4 / 128


# -------------------------------------------------------------------------------------------- icq


def brute_force_shift(block, n, reach):
    """The published search, candidate by candidate, weight by weight."""
    from bitsandbytes.functional import get_4bit_type

    table = get_4bit_type("nf4", device="cpu").double()
    median = block.median()  # the lower of the two in the middle
    peak = (block - median).abs().max()
    best, best_entropy = None, -1.0
    for fraction in torch.linspace(-reach, reach, 2 * n + 1).double():
        tau = median + fraction * peak
        shifted = (block - tau) / (block - tau).abs().max()
        codes = (shifted[:, None] - table[None]).abs().argmin(dim=1)
        share = torch.bincount(codes, minlength=16) / len(block)
        entropy = -sum(p * math.log2(p) for p in share.double().tolist() if p)
        if entropy > best_entropy + 1e-9:
            best, best_entropy = tau, entropy
    return best.item(), best_entropy


@pytest.mark.parametrize("n", [1, 10, 100])
def test_icq_finds_what_a_loop_over_candidates_finds(n):
    blocks = torch.cat([gaussian(6, 64), gaussian(3, 64).exp(), gaussian(3, 64) + 0.01])
    found = best_shift(blocks, n=n)
    for block, tau in zip(blocks.double(), found.tolist(), strict=True):
        expected, entropy = brute_force_shift(block, n, 0.1 / 1.8481)
        assert tau == pytest.approx(expected, rel=1e-3, abs=1e-7)
        assert entropy >= brute_force_shift(block, 1, 0.0)[1] - 1e-12


def test_icq_raises_the_entropy_of_the_codes_block_by_block():
    weight = gaussian(256, 256)
    plain = quantise(weight, "nf4", 64)
    median = quantise(weight, "icq", 64, tau_lambda=0.0, offsets="float32")
    best = quantise(weight, "icq", 64, offsets="float32")
    h_plain, h_median, h_best = (code_entropy(q.unpacked(), 64) for q in (plain, median, best))
    # the median is a candidate: no block falls below it. No shift at all is none: a few do
    assert (h_best >= h_median - 1e-9).float().mean() > 0.999  # ties at a code's border aside
    assert (h_best >= h_plain - 1e-9).float().mean() > 0.9
    assert h_best.mean() > h_plain.mean() + 0.05
    rounded = quantise(weight, "icq", 64)  # shifts in 8 bit
    assert code_entropy(rounded.unpacked(), 64).mean() > h_plain.mean() + 0.05


def test_icq_quantises_around_the_shift_that_it_stores():
    """The shift is rounded first: every weight then gets the level nearest to it."""
    weight = gaussian(64, 256) + 0.005
    stored = quantise(weight, "icq", 64)
    tau = stored.constant.values()[:, None]
    shifted = to_blocks(weight, (1, 64)) - tau
    scaled = shifted / shifted.abs().amax(dim=1, keepdim=True)
    nearest = (scaled[..., None] - levels(stored)).abs().argmin(dim=-1)
    assert (nearest.view(-1) == stored.unpacked()).float().mean() > 0.9999


# ------------------------------------------------------------------------------------------- int4


def int4_loop(row, size, scales, zeros):
    """Round to nearest, group by group, weight by weight."""
    out = []
    for start in range(0, len(row), size):
        group = row[start : start + size].tolist()
        low, high = min(group), max(group)
        scale = torch.tensor((high - low) / 15).to(scales).item()
        zero = torch.tensor(-low / scale).to(zeros).item()
        for weight in group:
            code = min(15, max(0, round(weight / scale + zero)))
            out.append(scale * (code - zero))
    return torch.tensor(out)


@pytest.mark.parametrize("size", [8, 32, 128])
@pytest.mark.parametrize("kind", ["float32", "float16"])
def test_int4_against_a_loop(size, kind):
    weight = gaussian(12, 128)
    dtype = getattr(torch, kind)
    ours = quantise(weight, "int4", size, scales=kind, zeros=kind).dequantize()
    step = (weight.amax() - weight.amin()) / 15
    for row, found in zip(weight, ours, strict=True):
        difference = (found - int4_loop(row, size, dtype, dtype)).abs()
        # a weight in the middle between two codes may go either way in float32
        assert (difference < 1e-6).sum() >= 127 and difference.max() < 1.01 * step


def test_int4_with_integer_zero_points_holds_zero_exactly():
    weight = gaussian(8, 64).abs()  # without negative weights the range must still begin at zero
    weight[:, 5] = 0
    stored = quantise(weight, "int4", 32, zeros="int")
    assert stored.dequantize()[:, 5].abs().max() == 0
    far = 0.5 + weight.clamp(0, 0.5)  # nothing near zero: the step is a fifteenth of the largest
    error = quantise(far, "int4", 32, zeros="int").dequantize() - far
    assert error.abs().max() <= 0.51 * far.max() / 15
    zeros = stored.constant.values()
    assert torch.equal(zeros, zeros.round()) and zeros.min() >= 0 and zeros.max() <= 15


# ------------------------------------------------------------------------------ degenerate weights


@pytest.mark.parametrize("name", RUNNABLE)
def test_zero_constant_and_one_block_weights(name):
    for value in (0.0, 0.02, -3.0):
        weight = torch.full((8, 64), value)
        weight[:, 32:] = 0
        error = (quantise(weight, name, 32).dequantize() - weight).abs().max().item()
        assert error <= 2e-3 * abs(value), (value, error)
    one = gaussian(8, 8).view(1, 64) if name != "tiles" else gaussian(8, 8)
    stored = quantise(one, name, 64)
    assert stored.scale.count == 1
    assert 0 < stored.report(one)["mse"] < 1e-4


@pytest.mark.parametrize("name", RUNNABLE)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_weights_that_are_no_numbers_are_refused(name, bad):
    weight = gaussian(8, 64)
    weight[3, 4] = bad
    with pytest.raises(ValueError, match="a weight of 8 x 64 holds NaN or infinity"):
        quantise(weight, name, 32)


@pytest.mark.parametrize(
    ("name", "shape", "block", "message"),
    [
        ("nf9", (8, 64), 64, "unknown quantiser 'nf9'; known: nf4, icq, int4, gptq, tiles"),
        ("nf4", (8, 64), 48, "a block of 1 x 48 = 48 weights: bitsandbytes quantises 32, 64, 128"),
        ("nf4", (8, 64), (8, 8), "tiles are quantiser 'tiles'"),
        ("nf4", (8, 64), 0, "block 0: must be 1 or more"),
        ("icq", (3, 32), 64, "icq: blocks of 64 do not fill a weight of 3 x 32"),
        ("icq", (8, 64), (8, 8), "icq: blocks of 8 x 8: it takes runs of inputs"),
        (
            "int4",
            (8, 40),
            32,
            "int4: blocks of 1 outputs x 32 inputs do not divide a weight of",
        ),
        ("tiles", (12, 64), 64, "tiles: blocks of 8 outputs x 8 inputs do not divide a weight of"),
        ("tiles", (8, 64), (4, 4), "a block of 4 x 4 = 16 weights: bitsandbytes quantises 32, 64"),
        ("tiles", (8, 64), 128, "tiles of 128 weights: give .outputs, inputs., or"),
        ("int4", (8, 64), (0, 32), "block 0 x 32: both sides must be 1 or more"),
        ("gptq", (8, 64), 32, "gptq needs calibration text, not the weights alone: load_gptq"),
    ],
)
def test_what_does_not_fit_is_refused(name, shape, block, message):
    with pytest.raises(ValueError, match=message):
        quantise(gaussian(*shape), name, block)
    with pytest.raises(ValueError, match=r"a weight of shape \(64,\): must be \(outputs, inputs\)"):
        quantise(torch.zeros(64), "nf4", 64)


def test_a_number_means_the_agreed_tile():
    assert resolve_block("tiles", 32) == (8, 4)
    assert resolve_block("tiles", 64) == (8, 8)
    assert resolve_block("int4", 64) == (1, 64)
    assert resolve_block("tiles", [4, 8]) == (4, 8)


# --------------------------------------------------------------------------- storage and constants


@pytest.mark.parametrize("name", RUNNABLE)
@pytest.mark.parametrize("form", ["float64", "float16", "8bit"])
def test_tensors_and_text_hold_all(tmp_path, name, form):
    from safetensors.torch import load_file, save_file

    stored = quantise(gaussian(16, 64), name, 32)
    if name != "nf4":
        rows, cols = stored.block
        stored = stored.add_constant(gaussian(16 // rows, 64 // cols) * 0.01, form)
    tensors, text = stored.tensors()
    assert all(isinstance(value, str) for value in text.values())
    assert tensors["codes"].numel() == 16 * 64 / 2
    save_file(tensors, tmp_path / "one.safetensors", metadata=text)
    again = Quantised.from_tensors(load_file(tmp_path / "one.safetensors"), text)
    assert torch.equal(again.dequantize(torch.float64), stored.dequantize(torch.float64))
    assert again.bits_per_weight == stored.bits_per_weight
    assert (again.block, again.form, again.quantiser) == (stored.block, stored.form, name)


@pytest.mark.parametrize(("name", "block"), [("icq", 64), ("int4", 32), ("tiles", (4, 8))])
def test_a_constant_per_block_is_added_exactly(name, block):
    stored = quantise(gaussian(16, 128), name, block)
    rows, cols = stored.block
    delta = gaussian(16 // rows, 128 // cols, seed=1).double() * 0.01
    whole = delta.repeat_interleave(rows, 0).repeat_interleave(cols, 1)
    forms = ("zero", "offset") if name == "int4" else ("offset",)
    for form in forms:
        merged = stored.add_constant(delta, torch.float64, form)
        change = merged.dequantize(torch.float64) - stored.dequantize(torch.float64)
        assert (change - whole).norm() / whole.norm() <= 1e-12
        assert torch.equal(merged.codes, stored.codes) and merged.scale is stored.scale


def test_constants_that_cannot_be_added():
    nothing = torch.zeros(16, 2)
    with pytest.raises(ValueError, match="nf4 has no constant per block to add to"):
        quantise(gaussian(16, 64), "nf4", 32).add_constant(nothing)
    tiles = quantise(gaussian(16, 64), "tiles", (1, 32))
    with pytest.raises(ValueError, match=r"\(2, 16\) for a weight of 16 x 64 .* must be \(16, 2\)"):
        tiles.add_constant(nothing.T)
    with pytest.raises(ValueError, match="integers hold zero points only"):
        tiles.add_constant(nothing, "int")
    with pytest.raises(ValueError, match="form='zero': tiles stores its constant as offset"):
        tiles.add_constant(nothing, form="zero")
    with pytest.raises(ValueError, match="the offsets do not fit into float32"):
        tiles.add_constant(nothing + math.nan)
    across = quantise(gaussian(16, 96), "icq", 64, n=1)  # blocks that run on over rows
    with pytest.raises(ValueError, match="one constant per block: blocks of 1 outputs x 64 inputs"):
        across.add_constant(torch.zeros(24, 1))


# ----------------------------------------------------------------------------------- whole models


@pytest.fixture
def network():
    torch.manual_seed(0)
    model = nn.Sequential()
    model.up = nn.Linear(64, 32, bias=False, dtype=torch.float16)
    model.down = nn.Linear(32, 64)
    model.lm_head = nn.Linear(64, 10)
    return model


def test_a_model_is_quantised_in_place(network):
    before = {name: weight.clone() for name, weight in network.state_dict().items()}
    reports = quantise_model_(network, "int4", {"up": 64, "down": 32, "lm_head": 32})
    assert [*reports] == ["up", "down"]
    assert {*reports["up"]} == {"bits_per_weight", "mse", "error_share", "entropy_bits"}
    for name in ("up", "down"):
        stored = quantise(before[f"{name}.weight"], "int4", {"up": 64, "down": 32}[name])
        weight = network.get_submodule(name).weight
        assert torch.equal(weight, stored.dequantize(weight.dtype))
    assert network.up.weight.dtype == torch.float16
    for name in ("lm_head.weight", "down.bias"):
        assert torch.equal(network.state_dict()[name], before[name])


def test_no_weight_is_touched_unless_all_fit(network):
    before = {name: weight.clone() for name, weight in network.state_dict().items()}
    with pytest.raises(ValueError, match="^down: int4: blocks of 1 outputs x 64 inputs do not"):
        quantise_model_(network, "int4", {"up": 64, "down": 64})
    with pytest.raises(ValueError, match="side is not a linear layer"):
        quantise_model_(network, "int4", {"up": 64, "side": 64})
    with pytest.raises(ValueError, match="up: the model has no weight of 8 x 64 there"):
        replace_weights_(network, {"up": quantise(gaussian(8, 64), "int4", 32)})
    assert all(torch.equal(w, before[n]) for n, w in network.state_dict().items())


def test_options_reach_the_quantiser(network):
    stored = quantise_linears(network, "int4", {"up": 64}, zeros="int")["up"]
    assert stored.constant.kind == "int"


def test_the_registry_and_its_import_load_no_torch():
    assert [*QUANTISERS] == ["nf4", "icq", "int4", "gptq", "tiles"]
    code = "import sys, slimlib.model.quantise; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# ------------------------------------------------------------------------------------------- gptq


def packed_by_hand(codes, zeros, less_one):
    """AutoGPTQ's layout: eight codes in an int32, of inputs, for zeros of outputs; first lowest."""
    qweight = sum(codes.T[i::8].long() << (4 * i) for i in range(8))
    qzeros = sum(zeros.T[:, i::8].long() << (4 * i) for i in range(8)) - less_one * 0x11111111
    return [((t + 2**31) % 2**32 - 2**31).int().contiguous() for t in (qweight, qzeros)]


@pytest.mark.parametrize("layout", ["gptq", "gptq_v2"])
def test_a_gptq_checkpoint_is_read(tmp_path, layout):
    from safetensors.torch import save_file

    from slimlib.common.files import write_json

    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(0, 16, (16, 64), generator=generator)
    zeros = torch.randint(0, 16, (16, 2), generator=generator)  # 0 borrows across the int32
    scales = torch.rand(16, 2, generator=generator).half() * 0.01 + 0.001
    qweight, qzeros = packed_by_hand(codes, zeros, layout == "gptq")
    tensors = {"qweight": qweight, "qzeros": qzeros, "scales": scales.T.contiguous()}
    tensors["g_idx"] = (torch.arange(64) // 32).to(torch.int32)
    save_file({f"model.up.{k}": v for k, v in tensors.items()}, tmp_path / "model.safetensors")
    write_json(tmp_path / "quantize_config.json", {"bits": 4, "format": layout})
    stored = read_gptq(tmp_path)["model.up"]
    group = torch.arange(64) // 32
    expected = scales.float()[:, group] * (codes - zeros[:, group])
    assert torch.equal(stored.dequantize(), expected)
    assert stored.block == (1, 32) and stored.bits_per_weight == 4 + 20 / 32
    write_json(tmp_path / "quantize_config.json", {"bits": 8, "format": layout})
    with pytest.raises(ValueError, match="bits=8, format=gptq.*: must be 4 and one of"):
        read_gptq(tmp_path)


def test_gptq_that_cannot_be_had(tmp_path, monkeypatch):
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install gptqmodel"):
        load_gptq("me/model", 32, ["text"])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    with pytest.raises(ValueError, match="calibration_rows is empty"):
        load_gptq("me/model", 32, [])
    with pytest.raises(ValueError, match="no quantize_config.json and no config.json"):
        read_gptq(tmp_path)
    packed = packed_by_hand(torch.zeros(8, 64), torch.ones(8, 2), False)
    shuffled = torch.arange(64).flip(0) // 32
    with pytest.raises(ValueError, match="act-order"):
        from_packed(*packed, torch.ones(2, 8), shuffled)

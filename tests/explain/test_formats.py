"""The bits of a number in five formats, against numpy and torch; sizes by hand."""

import numpy as np
import pytest

from slimlib.explain.formats import (
    FORMATS,
    MODELS,
    model_size,
    precision,
    size_gb,
    store,
    to_format,
)

VALUES = [0.0, 1.0, -1.0, 0.1, -0.0507812, 1 / 3, 65504.0, 1e-8, -3.14159]


@pytest.mark.parametrize(
    ("value", "name", "bits", "stored"),
    [
        (1.0, "float32", "00111111100000000000000000000000", 1.0),
        (1.0, "float16", "0011110000000000", 1.0),
        (-2.0, "bfloat16", "1100000000000000", -2.0),
        (0.1, "bfloat16", "0011110111001101", 0.10009765625),
        (1.00390625, "bfloat16", "0011111110000000", 1.0),  # a tie: to the even one
        (1.01171875, "bfloat16", "0011111110000010", 1.015625),  # and up, where that is even
        (0.5, "int8", "01000000", 64 / 127),
        (-1.0, "int8", "10000001", -1.0),
        (-1.0, "NF4", "0000", -1.0),
        (0.0, "NF4", "0111", 0.0),
    ],
)
def test_by_hand(value, name, bits, stored):
    found = store(value, name)
    assert found.bits == bits and found.value == pytest.approx(stored)


@pytest.mark.parametrize("value", VALUES)
def test_floats_are_torch_s(value):
    torch = pytest.importorskip("torch")
    for name in ("float32", "float16", "bfloat16"):
        official = torch.tensor(value, dtype=torch.float64).float().to(getattr(torch, name))
        found = store(value, name)
        assert found.value == official.item()
        kind = torch.int32 if name == "float32" else torch.int16
        width = FORMATS[name]
        assert int(found.bits, 2) == official.view(kind).item() % 2**width


@pytest.mark.parametrize("name", FORMATS)
def test_an_array_is_rounded_like_its_numbers(name):
    values = np.array([0.3, -0.017, 0.9, 0.0, -1.0])
    found = to_format(values, name, block=5)
    np.testing.assert_allclose(found, [store(v, name, absmax=1.0).value for v in values])


def test_a_block_of_zeros_is_stored():
    assert [store(0.0, name, absmax=0.0).value for name in FORMATS] == [0.0] * 5


@pytest.mark.parametrize("make", [lambda: store(1, "fp8"), lambda: to_format(np.ones(2), "fp8")])
def test_an_unknown_format_is_said(make):
    with pytest.raises(ValueError, match="'fp8': must be one of float32, float16"):
        make()


# ------------------------------------------------------------------------------------------- sizes


def test_seven_billion_weights_in_16_bits_are_14_gb():
    assert size_gb(7e9, 16) == 14.0


def test_a_model_s_size_is_weights_times_bits():
    """LLaMA-7B has 6,738,415,616 parameters (its paper's checkpoint)."""
    picture = model_size(16, "LLaMA-7B")
    assert "6,738,415,616 weights x 16 bits = 13.5 GB" in picture.text
    assert "fits into a T4" in picture.figure.get_suptitle()
    assert "does not fit into" in model_size(32, "LLaMA-7B").figure.get_suptitle()


def test_no_bits_are_refused():
    with pytest.raises(ValueError, match="bits=0: must be 1 or more"):
        model_size(0)
    with pytest.raises(ValueError, match="LLaMA-8B"):
        model_size(4, "LLaMA-8B")


def test_the_papers_four_models_are_offered_and_no_made_up_one():
    papers = {"LLaMA-7B", "LLaMA-13B", "Llama-3.2-1B", "TinyLlama-1.1B"}
    assert {*MODELS} >= papers and not [name for name in MODELS if "micro" in name]


# --------------------------------------------------------------------------------------- precision


def test_the_sentence_names_what_each_format_keeps():
    weights = np.array([0.1, -0.4, 0.25, 0.07])
    text = precision(weights, index=0, block=4).text
    assert "float16 0.0999756" in text and "bfloat16 0.100098" in text
    nf4 = store(0.1, "NF4", 0.4)
    assert f"NF4 {nf4.value:.6g};" in text
    assert f"misses it by {100 * abs(nf4.value - 0.1) / 0.1:.2g} %" in text


def test_another_weight_is_another_picture():
    weights = np.random.default_rng(0).standard_normal(128)
    texts = {precision(weights, index).text for index in (0, 1, 127)}
    assert len(texts) == 3


def test_a_weight_of_zero_is_drawn():
    assert "by 0 %" in precision(np.array([0.0, 1.0]), 0, block=2).text

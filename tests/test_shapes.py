"""Parameters from dimensions, against numbers of PEFT's print-outs and by hand."""

import pytest

from slimlib.shapes import SHAPES, Shape, lora_parameters, mlp_saving, trainable_parameters


def test_the_paper_s_example():
    assert lora_parameters(1_000, 1_000, 10) == 20_000


@pytest.mark.parametrize(
    ("model", "r", "expected"),
    [
        ("Llama-3.2-1B", 16, 11_272_192),  # PEFT's own count, also in the author's notebook
        ("TinyLlama-1.1B", 16, 12_615_680),
        ("TinyLlama-1.1B", 32, 25_231_360),  # printed in Unsloth's TinyLlama notebook
        ("LLaMA-7B", 64, 159_907_840),
        ("LLaMA-13B", 64, 250_347_520),
    ],
)
def test_trainable_parameters(model, r, expected):
    assert trainable_parameters(SHAPES[model], r) == expected


@pytest.mark.parametrize(
    ("model", "halved", "quartered", "frozen_halved", "frozen_quartered"),
    [
        ("LLaMA-7B", 29.02, 43.52, 33.42, 50.13),
        ("LLaMA-13B", 29.06, 43.59, 33.47, 50.21),
        ("Llama-3.2-1B", 34.88, 52.33, 41.38, 62.07),
        ("TinyLlama-1.1B", 32.14, 48.21, 39.29, 58.93),
    ],
)
def test_savings(model, halved, quartered, frozen_halved, frozen_quartered):
    shape = SHAPES[model]
    assert round(mlp_saving(shape, 2), 2) == halved
    assert round(mlp_saving(shape, 4), 2) == quartered
    assert round(mlp_saving(shape, 2, of="frozen"), 2) == frozen_halved
    assert round(mlp_saving(shape, 4, of="frozen"), 2) == frozen_quartered


def test_a_saving_by_hand():
    """One layer, hidden 2, intermediate 3, k and v 1 wide: attention 4+4+3+3, MLP 5+5+5."""
    shape = Shape(hidden=2, intermediate=3, kv_out=1, layers=1)
    assert trainable_parameters(shape, 1) == 29
    assert mlp_saving(shape, 2) == pytest.approx(100 * 7.5 / 29)
    assert mlp_saving(shape, 2, of="frozen") == pytest.approx(100 * 9 / (4 + 4 + 2 + 2 + 18))
    assert mlp_saving(shape, 1) == 0


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="divisor=0: must be 1 or more"):
        mlp_saving(SHAPES["LLaMA-7B"], 0)
    with pytest.raises(ValueError, match="of='all': must be one of trainable, frozen"):
        mlp_saving(SHAPES["LLaMA-7B"], 2, of="all")

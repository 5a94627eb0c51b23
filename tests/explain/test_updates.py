"""LoRA's count, its forward pass and its merge: closed forms."""

import numpy as np
import pytest

import slimlib
from slimlib.explain.updates import (
    TARGETS,
    forward,
    lora_matrix,
    lora_models,
    lost_in_merge,
    merge,
    small_example,
)


def test_rank_10_on_1000_x_1000_is_20_000():
    picture = lora_matrix(10)
    assert "10 x (1,000 + 1,000) = 20,000, 2 % of them" in picture.text
    assert "20,000 numbers instead of 1,000,000" in picture.figure.get_suptitle()


@pytest.mark.parametrize("r", [0, 1001])
def test_a_rank_that_the_matrix_cannot_have_is_refused(r):
    with pytest.raises(ValueError, match=f"r={r}: must be 1 to 1000"):
        lora_matrix(r)


def test_all_seven_of_llama_3_2_1b_at_rank_16():
    """Per layer 16 x (4096 + 2560 + 2560 + 4096 + 10240 x 3) = 704,512; 16 layers."""
    assert "Llama-3.2-1B 11,272,192" in lora_models(16, "all seven").text


def test_targets_add_up():
    counts = {
        name: slimlib.count_parameters(
            "LLaMA-7B", slimlib.AdapterConfig(r=4, target_modules=modules)
        )
        for name, modules in TARGETS.items()
    }
    assert counts["the attention"] + counts["the MLP"] == counts["all seven"]
    assert counts["q and v"] == 32 * 2 * 4 * (4096 + 4096)
    for name, count in counts.items():
        assert f"LLaMA-7B {count:,}" in lora_models(4, name).text


def test_other_targets_are_refused():
    with pytest.raises(ValueError, match="targets='all': must be one of q and v"):
        lora_models(16, "all")


@pytest.mark.parametrize("r", [1, 2, 3, 4])
def test_both_ways_give_the_same_y(r):
    w, b, a, x = (small_example(r)[name] for name in ("W", "B", "A", "x"))
    assert (w @ x + b @ (a @ x) == (w + b @ a) @ x).all()
    words = ", ".join(f"{number:g}" for number in ((w + b @ a) @ x)[:, 0])
    assert f"({words})" in forward(r).text


def test_a_4_x_4_matrix_has_no_rank_5():
    with pytest.raises(ValueError, match="r=5: must be 1 to 4"):
        forward(5)


WEIGHTS = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float16).astype(float)


def test_float32_loses_next_to_nothing_and_a_tiny_change_is_lost_whole():
    assert lost_in_merge(WEIGHTS, 0.01, "float32", r=4) < 1e-5
    assert lost_in_merge(WEIGHTS, 1e-4, "NF4", r=4) > 100


def test_fewer_bits_lose_more():
    lost = [lost_in_merge(WEIGHTS, 0.01, n) for n in ("float16", "bfloat16", "int8", "NF4")]
    assert lost == sorted(lost)
    assert f"NF4 {100 * lost[-1]:.3g} %" in merge(WEIGHTS, 0.01).text


def test_a_share_that_is_not_drawn_is_refused():
    with pytest.raises(ValueError, match="share=2: must be 0.0001 to 1"):
        merge(WEIGHTS, 2)

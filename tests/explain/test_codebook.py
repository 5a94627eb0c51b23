"""NF4 in numpy: bitsandbytes' own levels, codes and bits; degenerate blocks first."""

import numpy as np
import pytest

from slimlib.explain.codebook import (
    bits_per_weight,
    block_sizes,
    error_share,
    nf4,
    nf4_levels,
    quantise,
)
from slimlib.methods import NF4_BITS

RNG = np.random.default_rng(0)


def test_zeros_stay_zeros():
    found = quantise(np.zeros((2, 3)), block=4)
    assert found.codes.shape == (2, 4) and not found.values().any()


def test_one_weight_in_a_block_is_its_own_scale():
    weights = np.array([0.3, -0.2, 0.0])
    np.testing.assert_allclose(quantise(weights, block=1).values(), weights)


def test_a_block_longer_than_the_weights_is_filled_up():
    assert quantise(np.array([1.0, -1.0]), block=64).values().tolist() == [1.0, -1.0]


def test_no_block_is_refused():
    with pytest.raises(ValueError, match="block=0: must be 1 or more"):
        quantise(np.ones(4), block=0)


def test_by_hand():
    """0.5 lies between the levels 0.441 and 0.563, 0.1 between 0.0796 and 0.161."""
    values = quantise(np.array([0.5, -1.0, 0.1]), 3).values()
    np.testing.assert_allclose(values, [0.4407, -1.0, 0.0796], atol=5e-5)


def test_even_levels_are_rounding():
    weights = RNG.uniform(-1, 1, 50)
    weights[0] = 1.0
    stored = quantise(weights, 50, np.arange(-127, 128) / 127).values()
    np.testing.assert_allclose(stored, np.round(127 * weights) / 127, atol=1e-12)


def test_levels_are_seven_below_zero_and_eight_above():
    levels = nf4_levels()
    assert len(levels) == 16 and list(levels) == sorted(levels)
    assert (levels[0], levels[7], levels[15]) == (-1.0, 0.0, 1.0)


def test_each_level_is_used_alike_by_normal_numbers_cut_at_the_outermost():
    """What the levels are made for: no code is used more than twice as often as another."""
    weights = RNG.standard_normal(200_000)
    weights = weights[np.abs(weights) < 1.8481][: 64 * 2000]  # the outermost level's quantile
    weights[0] = 1.8481
    shares = np.bincount(quantise(weights, weights.size).codes.reshape(-1), minlength=16)[1:-1]
    assert shares.max() < 2 * shares.min()


def test_bits_a_weight():
    assert bits_per_weight(64) == pytest.approx(4 + 8 / 64 + 32 / (64 * 256)) == NF4_BITS
    assert round(bits_per_weight(64), 3) == 4.127
    assert bits_per_weight(64, doubled=False) == 4.5
    assert bits_per_weight(32, doubled=False) == 5.0


def test_error_is_a_share_of_the_length():
    assert error_share(np.array([3.0, 4.0]), np.array([3.0, 3.5])) == pytest.approx(0.1)


# ------------------------------------------------------------------------------------ bitsandbytes


def test_levels_are_bitsandbytes_own():
    functional = pytest.importorskip("bitsandbytes.functional")
    official = functional.get_4bit_type("nf4", device="cpu").numpy()
    np.testing.assert_allclose(nf4_levels(), official, atol=1e-6)


@pytest.mark.parametrize("block", [32, 64, 256, 4096])
@pytest.mark.parametrize("shape", [(64, 96), (33, 77)])
def test_codes_and_values_are_bitsandbytes_own(block, shape):
    torch = pytest.importorskip("torch")
    functional = pytest.importorskip("bitsandbytes.functional")
    weights = RNG.standard_normal(shape).astype(np.float32) * 0.02
    packed, state = functional.quantize_4bit(
        torch.from_numpy(weights).reshape(-1), blocksize=block, quant_type="nf4"
    )
    official = functional.dequantize_4bit(packed, state).reshape(shape).numpy()
    found = quantise(weights, block)
    np.testing.assert_allclose(found.absmax, state.absmax.numpy(), rtol=1e-6)
    bytes_ = packed.view(-1).numpy()
    codes = np.stack([bytes_ >> 4, bytes_ & 15], axis=1).reshape(-1)[: weights.size]
    assert (found.codes.reshape(-1)[: weights.size] == codes).all()
    np.testing.assert_allclose(found.values(), official, atol=1e-6)


def test_what_is_stored_is_counted_as_slimlib_s_own_quantiser_does():
    torch = pytest.importorskip("torch")
    from slimlib.model.quantise.nf4 import quantise_nf4

    weights = torch.from_numpy(RNG.standard_normal((512, 512)).astype(np.float32))
    stored = quantise_nf4(weights, (1, 64))
    mean = 32 / weights.numel()  # bitsandbytes keeps the scales' mean, one number a matrix
    assert stored.bits_per_weight == pytest.approx(bits_per_weight(64) + mean)


# ---------------------------------------------------------------------------------------- pictures


def test_the_sentence_has_the_error_and_the_bits():
    weights = RNG.standard_normal((64, 64))
    error = 100 * error_share(weights, quantise(weights, 64).values())
    assert f"the rounding error is {error:.1f} % of" in nf4(weights, 64, "noise").text
    assert f"{bits_per_weight(64):.3f} bits" in nf4(weights, 64).text


def test_nf4_errs_less_than_even_levels_and_more_in_larger_blocks():
    weights = RNG.standard_normal((128, 128))
    even = np.linspace(-1, 1, 16)
    errors = [error_share(weights, quantise(weights, b).values()) for b in (32, 64, 512, 4096)]
    assert errors == sorted(errors)
    assert errors[1] < error_share(weights, quantise(weights, 64, even).values())
    assert f"NF4 errs by {100 * errors[1]:.1f} %" in block_sizes(weights, "noise").text

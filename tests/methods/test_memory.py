"""The parts of the memory against numbers worked out by hand."""

import pytest

from slimlib.config import AdapterConfig
from slimlib.methods.memory import (
    LAYER,
    LOSS,
    STEP,
    Memory,
    Setting,
    layer_bytes,
    loss_bytes,
    optimizer_bytes,
    training_memory,
    weight_bytes,
)
from slimlib.methods.shapes import SHAPES, Shape

LLAMA = SHAPES["Llama-3.2-1B"]
# d 4, m 8, k and v of 2, one layer, ten tokens in the vocabulary: 16 + 8 + 8 + 16 + 3 x 32 = 144
# linear weights, 40 of the embeddings, 12 of three norms
BY_HAND = Shape(hidden=4, intermediate=8, kv_out=2, layers=1, vocab_size=10, tied=True)
RANK_1 = AdapterConfig(r=1)


def test_weights_in_4_bit_and_the_rest_in_16():
    """973,078,528 linear weights in 4.127 bits and 262,735,872 others in 2 bytes."""
    four = Setting(1, 1, compute=2, rest=2, four_bit=True)
    expected = 973_078_528 * (4 + 1 / 8 + 1 / 512) / 8 + 262_735_872 * 2
    assert weight_bytes(LLAMA, four) == pytest.approx(expected)
    assert weight_bytes(LLAMA, Setting(1, 1, compute=2, rest=2)) == 1_235_814_400 * 2
    assert weight_bytes(BY_HAND, Setting(1, 1, compute=2, rest=4)) == 144 * 2 + 52 * 4


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [
        ("adamw_torch", 8_000),
        ("paged_adamw_32bit", 8_000),
        ("paged_adamw_8bit", 2 * (1_000 + 1_000 / 64)),
        ("lion_32bit", 4_000),
        ("ademamix_8bit", 3 * (1_000 + 1_000 / 64)),
        ("sgd", 0),
        ("adafactor", 0),
    ],
)
def test_what_an_optimiser_keeps_of_1000_numbers(optimizer, expected):
    assert optimizer_bytes(1_000, optimizer) == pytest.approx(expected)


def test_every_optimiser_of_the_configuration_is_known():
    from slimlib.common.checked import choices, fields_of
    from slimlib.config import TrainConfig

    names = choices(fields_of(TrainConfig)["optim"].annotation)
    assert all(optimizer_bytes(8, name) >= 0 for name in names) and len(names) > 15


@pytest.mark.parametrize(
    ("adapter", "setting", "expected"),
    [
        # norms 8, q and output 8, k and v 4, MLP 24, inputs 4 + 4 + 8, inner values 7
        (RANK_1, Setting(1, 1), 67 * 4),
        (RANK_1, Setting(2, 3), 74 * 4),  # k and v widened to 8, a mask of 3
        (RANK_1, Setting(2, 3, padding_free=True), 77 * 4),  # a mask of all 6
        (RANK_1, Setting(1, 1, compute=2, rest=4), 8 * 4 + 59 * 2),
        (
            AdapterConfig(r=1, target_modules=("q_proj",)),
            Setting(1, 1),
            (8 + 8 + 4 + 24 + 4 + 1) * 4,
        ),
        # inputs of their own: six modules of 4 and one of 8, and a byte for each of those 32
        (AdapterConfig(r=1, lora_dropout=0.1), Setting(1, 1), (8 + 8 + 4 + 24 + 32 + 7) * 4 + 32),
        (None, Setting(1, 1), (16 + 8 + 4 + 24 + 4 + 4 + 8) * 4),  # full: no inner values
    ],
)
def test_what_a_layer_keeps_of_a_token(adapter, setting, expected):
    assert layer_bytes(BY_HAND, setting, adapter) == expected


def test_logits_of_256_tokens_at_once_at_the_real_vocabulary():
    assert loss_bytes(LLAMA, Setting(4, 1_000)) == 4 * 256 * 128_256 * 4
    assert loss_bytes(LLAMA, Setting(1, 10)) == 4 * 10 * 128_256 * 4
    cast = 128_256 * 2_048 * 2
    assert loss_bytes(LLAMA, Setting(1, 10, compute=2, rest=4)) == 4 * 10 * 128_256 * 4 + cast


def test_the_moments_of_a_step_by_hand():
    """Two rows of three tokens, rank 1: 8 + 6 + 6 + 8 + 3 x 12 = 64 trained numbers."""
    found = training_memory(BY_HAND, Setting(2, 3, foreach=True), RANK_1, 64)
    always = {"weights": 196 * 4, "adapter": 256, "gradients": 256, "optimiser": 512}
    kept = 6 * 74 * 4 + 3 * 6 * 4 * 4  # a layer's; embeddings, the last norm twice
    assert found.moments == {
        LOSS: always | {"activations": kept, "logits": 4 * 6 * 10 * 4},
        LAYER: always | {"activations": kept + 2 * 8 * 6 * 4, "logits": 0},
        STEP: always | {"activations": 256, "logits": 0},
    }
    assert (found.moment, found.total) == (LOSS, sum(always.values()) + kept + 960)


def test_checkpointing_keeps_the_layers_inputs_and_one_layer():
    deep = BY_HAND._replace(layers=10)
    found = training_memory(deep, Setting(2, 3, checkpointing=True), RANK_1, 640)
    inputs = 10 * 6 * 4 * 4 + 3 * 6 * 4 * 4
    assert found.moments[LOSS]["activations"] == inputs
    assert found.moments[LAYER]["activations"] == inputs + 6 * 74 * 4 + 2 * 8 * 6 * 4


def test_full_fine_tuning_takes_16_bytes_a_weight_and_copies_in_16_bit():
    found = training_memory(BY_HAND, Setting(1, 1, compute=2, rest=4), None, 196)
    assert [found.parts[p] for p in ("weights", "adapter", "gradients", "optimiser")] == [
        *(196 * 4, 0, 196 * 4, 196 * 8)
    ]
    assert found.moments[STEP]["activations"] == 0  # no foreach
    kept = 16 * 4 + 52 * 2 + 3 * 4 * 4 + 144 * 2
    assert found.moments[LOSS]["activations"] == kept


def test_a_memory_is_of_the_moment_that_needs_most():
    memory = Memory({LOSS: {"weights": 2, "logits": 3}, STEP: {"weights": 4, "logits": 0}})
    assert (memory.moment, memory.total, memory.parts["logits"]) == (LOSS, 5, 3)

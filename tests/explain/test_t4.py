"""Memory of three ways of fine-tuning: the parts that have closed forms."""

import pytest

from slimlib.explain.t4 import kept_in_training, on_a_t4
from slimlib.methods import NF4_BITS

WEIGHTS, LINEAR, ADAPTER = 1_235_814_400, 973_078_528, 11_272_192  # Llama-3.2-1B, rank 16


def test_closed_forms():
    full, lora, qlora = kept_in_training("Llama-3.2-1B").values()
    assert full["weights"] == full["gradients"] == 4 * WEIGHTS
    assert full["optimiser"] == 8 * WEIGHTS and full["adapter"] == 0
    assert lora["weights"] == 2 * WEIGHTS
    assert qlora["weights"] == pytest.approx(LINEAR * NF4_BITS / 8 + 2 * (WEIGHTS - LINEAR))
    assert lora["adapter"] == qlora["adapter"] == 4 * ADAPTER


def test_a_t4_has_room_for_what_fits():
    assert "room for LoRA and QLoRA" in " ".join(on_a_t4().figure.get_suptitle().split())
    large = " ".join(on_a_t4("LLaMA-13B").figure.get_suptitle().split())
    assert "GB has room for QLoRA." in large  # alone

"""Each merge base is what its name says: weights by hand, on bases of every kind."""

import json
from dataclasses import replace

import pytest
import torch
from closed_forms import randomise
from safetensors.torch import load_file, save_file

from slimlib.adapters.layers import attach
from slimlib.adapters.saving import save_adapter
from slimlib.common.checked import ConfigError
from slimlib.config import AdapterConfig, Arm, MergeConfig, ModelConfig
from slimlib.merge import plain
from slimlib.merge.plain import write_merged
from slimlib.model.load import load_base

# the spacing of a number next to 1: half of it is the most that rounding moves it
SPACING = {"float32": 2**-23, "float16": 2**-10, "bfloat16": 2**-7}


def arm_of(model, written="float32", base="dequant_nf4", **values):
    values = {"dtype": "float32"} | values
    return Arm(
        "tuned",
        label="tuned",
        model=ModelConfig(str(model), **values),
        adapter=AdapterConfig(r=4, lora_alpha=8, target_modules="all-linear"),
        merge=MergeConfig(base, dtype=written),
    )


def with_adapter(arm, folder, std=0.2):
    """Save an adapter of random weights, as if it had been trained on the arm's model."""
    model = attach(load_base(arm.model, arm.adapter), arm.adapter, 0, 64)
    save_adapter(randomise(model, std), folder)
    return folder


def deltas(folder):
    """Module -> s B A, from an adapter's files."""
    weights = load_file(folder / "adapter_model.safetensors")
    config = json.loads((folder / "adapter_config.json").read_text())
    found = {}
    for key in (key for key in weights if ".lora_A." in key):
        a, b = weights[key], weights[key.replace(".lora_A.", ".lora_B.")]
        name = key.removeprefix("base_model.model.").replace(".lora_A.weight", ".weight")
        found[name] = config["lora_alpha"] / config["r"] * b @ a
    return found


def assert_merged(folder, base, moved, written, transposed=False):
    """Every weight is the base's plus s B A, to the rounding of the written dtype."""
    found = load_file(folder / "model.safetensors")
    assert {*found} == {*base}
    for name, weight in found.items():
        assert str(weight.dtype) == f"torch.{written}"
        by_hand = base[name].float()
        if name in moved:
            assert moved[name].abs().max() > 1e-2
            by_hand = by_hand + (moved[name].T if transposed else moved[name])
        limit = by_hand.abs() * SPACING[written] + 1e-6  # 1e-6: of the product in float32
        assert ((weight.float() - by_hand).abs() <= limit).all(), name


# --------------------------------------------------------------------------------- without 4 bit


@pytest.mark.parametrize(
    ("trained", "written"),
    [("float32", "bfloat16"), ("float16", "float32"), ("bfloat16", "float16")],
)
def test_without_4_bit_the_base_is_the_one_that_was_trained_on(
    trained, written, checkpoint, tmp_path
):
    """W as it was loaded for the training, so rounded to its dtype; and no false alarm."""
    arm = arm_of(checkpoint, written, load_in_4bit=False, dtype=trained)
    adapter = with_adapter(arm, tmp_path / "adapter")
    outcome = write_merged(arm, adapter, tmp_path / "merged")
    as_trained = {
        name: weight.to(getattr(torch, trained))
        for name, weight in load_file(checkpoint / "model.safetensors").items()
    }
    assert outcome["merge_base"] == "16bit" and outcome["logit_check"]["equal"]
    assert_merged(tmp_path / "merged", as_trained, deltas(adapter), written)


def test_without_4_bit_alone_is_enough_to_merge_right(checkpoint):
    assert arm_of(checkpoint).merge.merge_base == "dequant_nf4"
    assert arm_of(checkpoint, load_in_4bit=False).merge.merge_base == "16bit"
    arm = arm_of(checkpoint)
    model = replace(arm.model, load_in_4bit=False)
    assert replace(arm, model=model).merge.merge_base == "16bit"
    # an untuned arm that is written quantised merges nothing
    bare = Arm("nf4", label="nf4", model=model, quantise=True)
    assert bare.merge.merge_base == "dequant_nf4"


def test_nothing_is_requantised_that_was_not_quantised(checkpoint):
    with pytest.raises(ConfigError, match=r"requantised \(arm tuned\): must be 16bit with load_in"):
        arm_of(checkpoint, base="requantised", load_in_4bit=False)


# --------------------------------------------------------------------------------- with 4 bit


@pytest.mark.parametrize(("loaded", "written"), [("float32", "float16"), ("bfloat16", "float32")])
def test_16bit_is_the_checkpoints_own_weight_whatever_4_bit_was_loaded_in(
    loaded, written, checkpoint, tmp_path
):
    arm = arm_of(checkpoint, written, "16bit", dtype=loaded)
    adapter = with_adapter(arm, tmp_path / "adapter")
    outcome = write_merged(arm, adapter, tmp_path / "merged")
    base = load_file(checkpoint / "model.safetensors")
    assert_merged(tmp_path / "merged", base, deltas(adapter), written)
    assert outcome["merge_base"] == "16bit" and outcome["logit_check"]["equal"]


@pytest.mark.parametrize("loaded", ["float16", "bfloat16"])
def test_a_float32_merge_of_a_half_precision_model_is_no_false_alarm(loaded, checkpoint, tmp_path):
    arm = arm_of(checkpoint, "float32", dtype=loaded)
    adapter = with_adapter(arm, tmp_path / "adapter")
    check = write_merged(arm, adapter, tmp_path / "merged")["logit_check"]
    assert check["equal"] and check["tolerance"] == 1e-4


# --------------------------------------------------------------------------------- a wrong merge


@pytest.mark.parametrize(
    ("base", "loaded", "four_bit"),
    [("dequant_nf4", "bfloat16", True), ("16bit", "float32", True), ("16bit", "float16", False)],
)
def test_a_merge_with_one_module_left_out_is_refused(
    base, loaded, four_bit, checkpoint, tmp_path, monkeypatch
):
    arm = arm_of(checkpoint, "float16", base, dtype=loaded, load_in_4bit=four_bit)
    adapter = with_adapter(arm, tmp_path / "adapter")
    whole = plain.merged_model

    def one_left_out(config, folder, merge_base):
        file = folder / "adapter_model.safetensors"
        weights = load_file(file)
        key = "base_model.model.model.layers.1.mlp.up_proj.lora_B.weight"
        save_file(weights | {key: torch.zeros_like(weights[key])}, file)
        return whole(config, folder, merge_base)

    monkeypatch.setattr(plain, "merged_model", one_left_out)
    with pytest.raises(RuntimeError, match="arm tuned: merged logits differ"):
        write_merged(arm, adapter, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()

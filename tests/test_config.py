"""The configuration's classes: what they refuse, and that they survive JSON and a pickle."""

import json
import math
import pickle
from dataclasses import replace
from typing import get_args

import pytest

from slimlib import config
from slimlib.common.checked import from_dict
from slimlib.config import ADAPTERS, AdapterConfig, to_dict
from slimlib.studies.get import get_study


def test_configs_cannot_be_changed_in_place():
    arm = get_study("paper")["llama-2k"]
    with pytest.raises(AttributeError):
        arm.seed = 1


# ----------------------------------------------------------------------------------- the adapter


def test_each_method_has_its_own_values_and_no_other_s():
    shared = ("method", "r", "lora_alpha", "lora_dropout", "target_modules", "keep_scale", "rules")
    own = {
        "qlora": ("rslora",),
        "ir-qlora": ("iec_beta",),
        "qa-lora": ("group_size",),
        "q-bara": ("lam",),
        "qa-hira": ("lam1", "lam2"),
    }
    for method, names in own.items():
        adapter = AdapterConfig(method)
        assert tuple(to_dict(adapter)) == (*shared, *names)
        assert type(adapter) is ADAPTERS[method] and adapter == AdapterConfig(method=method)
        for other in {name for group in own.values() for name in group} - {*names}:
            with pytest.raises(ValueError, match=f"{other}=2: {method} has no {other}; it is"):
                AdapterConfig(method, **{other: 2})
            with pytest.raises(ValueError, match=f"{method} has no {other}"):
                replace(adapter, **{other: 2})


def test_the_defaults_are_those_of_the_records():
    found = {method: to_dict(AdapterConfig(method)) for method in ADAPTERS}
    assert {values["r"] for values in found.values()} == {16}
    assert {values["lora_alpha"] for values in found.values()} == {16}
    assert found["ir-qlora"]["iec_beta"] == "learned" and found["qa-lora"]["group_size"] == 32
    assert found["q-bara"]["lam"] == 2
    assert (found["qa-hira"]["lam1"], found["qa-hira"]["lam2"]) == (4, 8)


@pytest.mark.parametrize("method", ["qlora", "q-bara"])
def test_a_method_cannot_be_replaced_without_its_values(method):
    says = rf"method=ir-qlora: this configuration is of {method}; ask as_method\('ir-qlora'\)"
    with pytest.raises(config.ConfigError, match=says):
        replace(AdapterConfig(method), method="ir-qlora")
    assert AdapterConfig(method).as_method("ir-qlora") == AdapterConfig("ir-qlora")


# ------------------------------------------------------------------------------ the classes alone


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: config.ModelConfig(), "name: is missing; ModelConfig has name, revision"),
        (lambda: config.ModelConfig("x", dtpe="auto"), "dtpe=auto: no such field; did you mean dt"),
        (lambda: config.ModelConfig(5), "name=5: must be a hub id or a folder"),
        (lambda: config.TrainConfig(weight_decay=math.inf), "weight_decay=inf: must be a number"),
        (lambda: config.TrainConfig(save_steps="8"), "save_steps=8: must be a whole number"),
        (lambda: replace(config.TrainConfig(), save_steps=0), "save_steps=0: must be a whole numb"),
        (lambda: AdapterConfig("q-bara", rank=4), "rank=4: no such field; q-bara has method, r, "),
        (lambda: AdapterConfig(["qlora"]), r"method=\['qlora'\]: must be qlora or"),
    ],
)
def test_python_gets_the_same_one_line(make, message):
    with pytest.raises(config.ConfigError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


NAMES = [
    "",
    "..",
    "../x",
    "a/b",
    "a\\b",
    "C:x",
    ".hidden",
    "a..b",
    "a\nb",
    "a\x1b[2J",
    " a",
    "x" * 101,
]
NAMES += ["a\u202eb"]  # turns the direction of writing


@pytest.mark.parametrize("name", NAMES)
def test_names_that_would_lead_elsewhere_are_refused(name):
    """A name becomes a folder: of a study, of an arm, of a task."""
    arm = get_study("micro")["llama-2k"]
    task = arm.evaluate.tasks[0]
    for holder in (arm, task, get_study("micro")):
        with pytest.raises(config.ConfigError, match=r"^name=.*: must be"):
            replace(holder, name=name)
    with pytest.raises(config.ConfigError, match=r"^evaluate\.tasks\[0\]\.name="):
        stored = to_dict(arm)
        stored["evaluate"]["tasks"][0]["name"] = name
        from_dict(config.Arm, stored)


@pytest.mark.parametrize("name", ["llama-2k", "mmlu_high_school", "q-bara-r16-lam2", "a.b", "é 1"])
def test_other_names_are_taken(name):
    assert replace(get_study("micro")["llama-2k"], name=name).name == name


def test_an_arm_named_twice_is_refused():
    study = get_study("micro")
    with pytest.raises(ValueError, match=r"arms=llama-2k \(study micro\): is named twice"):
        replace(study, arms=(*study.arms, study["llama-2k"]))


@pytest.mark.parametrize("name", ["paper", "micro", "smoke", "key_variables_micro"])
def test_a_study_survives_json(name):
    study = get_study(name)
    assert from_dict(config.Study, to_dict(study)) == study


def test_a_record_s_bad_value_is_named_by_its_place():
    stored = to_dict(get_study("micro")["llama-2k"])
    stored["adapter"]["lam"] = 2  # as records of version 0.1 have it
    with pytest.raises(ValueError, match="adapter.lam=2: no such field; QLoRAConfig has method, r"):
        from_dict(config.Arm, stored)


def test_a_study_can_be_sent_to_another_process():
    study = get_study("key_variables_micro")
    assert pickle.loads(pickle.dumps(study)) == study


# -------------------------------------------------------------------------------------- schema


def test_the_schema_describes_every_section_with_its_limits():
    schema = config.config_schema()
    rank = schema["$defs"]["QBaRAConfig"]["properties"]["r"]
    assert (rank["minimum"], rank["maximum"], rank["default"]) == (1, 8192, 16)
    assert "typically r = 8" in rank["description"]
    assert {c.__name__ for c in ADAPTERS.values()} <= {*schema["$defs"]}
    union = schema["$defs"]["Arm"]["properties"]["adapter"]["anyOf"][0]
    assert {*union["discriminator"]["mapping"]} == {*ADAPTERS}
    json.dumps(schema, allow_nan=False)


# ------------------------------------------------------------------------- against transformers


def test_every_schedule_runs_with_a_warm_up_and_a_number_of_steps_alone():
    """And each that transformers has beside them needs arguments that slimlib does not give."""
    import torch
    from transformers import SchedulerType, get_scheduler

    def runs(name):
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        try:
            scheduler = get_scheduler(name, optimizer, num_warmup_steps=2, num_training_steps=6)
            for _ in range(6):
                optimizer.step()
                scheduler.step()
        except (TypeError, ValueError):
            return False
        return True

    there = {schedule.value for schedule in SchedulerType}
    assert {*get_args(config.Schedule)} == {name for name in there if runs(name)}


def test_every_optimizer_is_built_by_transformers_without_another_library(tmp_path):
    import torch
    from transformers import Trainer, TrainingArguments
    from transformers.training_args import OptimizerNames

    there = {optimizer.value for optimizer in OptimizerNames}
    assert {*get_args(config.Optimizer)} <= there
    model = torch.nn.Linear(2, 2)
    for name in get_args(config.Optimizer):
        arguments = TrainingArguments(str(tmp_path), optim=name, use_cpu=True, report_to="none")
        build, options = Trainer.get_optimizer_cls_and_kwargs(arguments, model)
        assert build(model.parameters(), **options).param_groups


def test_the_optimizers_left_out_need_another_library():
    from transformers.training_args import OptimizerNames

    others = {"torch_xla", "npu", "anyprecision", "torch_4bit", "torch_8bit", "galore", "lomo"}
    others |= {"grok", "schedule_free", "apollo", "stable_adamw", "apex"}
    left = {o.value for o in OptimizerNames} - {*get_args(config.Optimizer)}
    assert [name for name in left if not any(part in name for part in others)] == []

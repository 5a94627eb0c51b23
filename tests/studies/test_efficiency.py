"""The comparators of "efficient": one change each, on the paper's three benchmarks."""

import re
from dataclasses import replace

from slimlib.methods.shapes import count_parameters, shape_of_model
from slimlib.studies.get import get_study


def test_the_ranks_differ_in_their_rank_alone():
    study = get_study("efficiency")
    arms = [study[f"qlora-r{r}"] for r in (8, 16, 32, 64)]
    assert [arm.adapter.r for arm in arms] == [8, 16, 32, 64]
    for arm in arms:
        alike = replace(arm.adapter, r=16)
        same = replace(arm, name="x", label="x", adapter=alike)
        assert same == replace(study["qlora-r16"], name="x", label="x")
        assert arm.trains and arm.compared_with == "base"


def test_lora_differs_from_qlora_in_the_quantised_weights_alone():
    study = get_study("efficiency")
    lora, qlora = study["lora-r16"], study["qlora-r16"]
    assert not lora.model.load_in_4bit and lora.merge.merge_base == "16bit"
    assert (lora.adapter, lora.data, lora.train) == (qlora.adapter, qlora.data, qlora.train)
    assert replace(lora.model, load_in_4bit=True) == qlora.model


def test_every_arm_is_asked_the_paper_s_three_benchmarks():
    study = get_study("efficiency")
    for arm in study.arms:
        assert {task.role for task in arm.evaluate.tasks} == {"hellaswag", "gsm8k", "mmlu_cs"}
    assert {*study.task_labels} == {"hellaswag", "gsm8k", "mmlu_cs"}


def test_both_tinyllamas_are_tuned_alike_and_named_apart():
    study = get_study("efficiency")
    chat, plain = study["tinyllama-chat-50k"], study["tinyllama-plain-50k"]
    assert chat.model.name.endswith("Chat-v1.0") and "intermediate-step" in plain.model.name
    assert (chat.adapter, chat.train, chat.data) == (plain.adapter, plain.train, plain.data)
    assert chat.adapter == get_study("paper")["tinyllama-50k"].adapter
    assert "Chat" in chat.label and "only pretrained" in plain.label
    assert (chat.compared_with, plain.compared_with) == (
        "tinyllama-chat-base",
        "tinyllama-plain-base",
    )


def test_every_checkpoint_is_pinned_and_its_shape_known():
    for arm in get_study("efficiency").arms:
        assert re.fullmatch(r"[0-9a-f]{40}", arm.model.revision)
        assert shape_of_model(arm.model.name) is not None
        if arm.adapter:
            assert count_parameters(shape_of_model(arm.model.name), arm.adapter) > 0

"""The mitigation studies: each arm changes one thing of the plain one, and shares what it can."""

import dataclasses

import pytest

from slimlib.common.checked import fields_of
from slimlib.config import ATTENTION, to_dict
from slimlib.studies.get import get_study
from slimlib.studies.mitigation import PLAIN, STUDIES

SECTIONS = ("model", "adapter", "data", "train", "merge", "evaluate")
TOGETHER = {  # fields that make one change
    frozenset({"replay", "replay_from"}),
    frozenset({"r", "lora_alpha"}),  # the rank at the same scale
    frozenset({"load_in_4bit", "merge_base"}),  # where nothing is quantised
}


@pytest.fixture(params=STUDIES)
def study(request):
    return get_study(request.param)


def changed(arm, plain):
    ours, theirs = to_dict(arm), to_dict(plain)
    return {
        field
        for section in SECTIONS
        for field in ours[section]
        if ours[section][field] != theirs[section][field]
    } - {"probe_steps"}  # which changes nothing (tests/train/test_probes.py)


def test_each_arm_changes_one_thing_of_the_plain_one(study):
    plain = study[PLAIN]
    assert plain is study.tuned and (plain.adapter.r, plain.adapter.lora_alpha) == (16, 16)
    knobs = [arm for arm in study.arms if arm.adapter and arm is not plain]
    for arm in knobs:
        fields = changed(arm, plain)
        assert len(fields) == 1 or fields in TOGETHER, (arm.name, fields)
        assert (arm.adapter_from == PLAIN) == (fields <= {"merge_base", "scale"}), arm.name
        assert arm.compared_with == "base" and arm.seed == plain.seed
    whole = [dataclasses.replace(arm, name="x", label="x") for arm in study.arms]
    assert all(whole.count(arm) == 1 for arm in whole)


def test_every_lever_of_the_issue_is_there():
    micro, smol = get_study("mitigation_micro"), get_study("mitigation_smol")
    names = [arm.name for arm in micro.arms]
    assert 20 <= len(names) <= 32 and {*names} >= {"base", "nf4", "into-16bit", "scale-0.5"}
    fields = {field for arm in micro.arms if arm.adapter for field in changed(arm, micro[PLAIN])}
    assert fields == {
        *("merge_base", "scale", "kl_weight", "replay", "replay_from", "r", "lora_alpha"),
        *("rslora", "target_modules", "learning_rate", "learn", "keep", "quantiser"),
        *("block_size", "load_in_4bit"),
    }
    assert fields <= {n for s in SECTIONS for n in fields_of(type(getattr(micro[PLAIN], s)))}
    assert smol["attention"].adapter.target_modules == ATTENTION
    assert smol["rate-0.5"].train.learning_rate == pytest.approx(1e-4)
    assert smol["replay-digits-0.1"].data.replay_from == "digits"
    assert smol["keep-first-third"].model.keep == ("first_third",)


def test_what_is_learned_and_what_may_be_lost_are_asked_of_every_arm(study):
    tasks = {tuple(task.role for task in arm.evaluate.tasks) for arm in study.arms}
    (roles,) = tasks
    assert {*roles} == {*study.task_labels} and {*roles} - {*study.learned}


def test_the_plain_arm_alone_is_probed():
    for name in ("mitigation_micro", "mitigation_smol"):
        probed = [a.name for a in get_study(name).arms if a.train and a.train.probe_steps]
        trained = {get_study(name)[a].adapter_from or a for a in probed}
        assert trained == {PLAIN}

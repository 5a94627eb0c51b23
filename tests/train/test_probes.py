"""Probes: what they find, that the training does not notice them, and that none is repeated."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from slimlib.common.checked import ConfigError
from slimlib.model.load import load_model
from slimlib.run import Run
from slimlib.studies.get import get_study
from slimlib.train import probes
from slimlib.train.finetune import finetune_arm
from slimlib.train.probes import probe, untouched

ARM = "llama-2k"


@pytest.fixture(scope="module")
def study(checkpoint):
    """Six steps with dropout, which draws at each; checkpoints at 2 and 4, probes every 2 steps."""
    return get_study(
        "smoke",
        model=str(checkpoint),
        arms=ARM,
        **{"data.n": 24, "train.per_device_train_batch_size": 4, "train.learning_rate": 0.02},
        **{"train.logging_steps": 1, "adapter.lora_dropout": 0.1, "train.save_steps": 2},
        **{"train.probe_steps": 2, "train.probe_limit": 3, "train.probes": "micro_facts"},
    )


def plain(study):
    (arm,) = study.arms
    return replace(study, arms=(replace(arm, train=replace(arm.train, probe_steps=0)),))


@pytest.fixture(scope="module")
def probed(study, tmp_path_factory):
    run = Run(study, tmp_path_factory.mktemp("probed"))
    finetune_arm(run, ARM)
    return run


def adapter(run):
    return (run.adapter_folder(ARM) / "adapter_model.safetensors").read_bytes()


def of_log(run, key):
    return [row for row in run.logs()[ARM] if key in row]


def test_losses_and_adapter_are_the_same_bits_without_probes(study, probed, tmp_path):
    run = Run(plain(study), tmp_path)
    finetune_arm(run, ARM)
    assert adapter(run) == adapter(probed)
    keys = ("step", "epoch", "loss", "learning_rate", "grad_norm")
    losses = [[[row[k] for k in keys] for row in of_log(r, "loss")] for r in (run, probed)]
    assert losses[0] == losses[1] and len(losses[0]) == 6
    assert not of_log(run, "probe")
    stages = [r.record(ARM)["stages"]["finetune"] for r in (run, probed)]
    assert stages[0]["last_loss"] == stages[1]["last_loss"]


def test_there_is_a_probe_before_the_first_step_and_every_so_many(probed):
    rows = of_log(probed, "probe")
    assert [row["step"] for row in rows] == [0, 2, 4, 6]
    assert [row["epoch"] for row in rows] == pytest.approx([0, 1 / 3, 2 / 3, 1])
    for row in rows:
        assert row["n"] == {"micro_facts": 3}
        assert row["probe"]["micro_facts"] in (0, 1 / 3, 2 / 3, 1)
    settings = probed.record(ARM)["stages"]["finetune"]["settings"]["train"]
    assert settings["probe_steps"] == 2 and "probes" in settings


def test_a_cut_off_training_repeats_no_probe(study, probed, tmp_path, monkeypatch):
    """Cut after step 5: the probes at 0, 2 and 4 are in the log, the one at 6 is to come."""
    run, asked, ask = Run(study, tmp_path), [], probes.probe

    def cut(model, *args):
        if len(asked) == 3:
            raise KeyboardInterrupt
        asked.append(1)
        return ask(model, *args)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(probes, "probe", cut)
        finetune_arm(run, ARM)
    monkeypatch.setattr(probes, "probe", lambda *args: asked.append(1) or ask(*args))
    finetune_arm(run, ARM)
    assert len(asked) == 4
    assert of_log(run, "probe") == of_log(probed, "probe") and adapter(run) == adapter(probed)


def test_the_share_is_that_of_lm_eval_s_own_model(study, checkpoint, tmp_path):
    """The embedded base, which can something: all tasks, by SlimLM and by HFLM."""
    found = get_study("smoke", arms=ARM, **{"train.probe_steps": 1, "train.probe_limit": 8})
    arm, run = found[ARM], Run(found, tmp_path)
    loaded = load_model(replace(arm.model, load_in_4bit=False))
    ours = probe(*loaded, arm, run.data_folder())
    theirs = replace(arm, evaluate=replace(arm.evaluate, evaluator="hf"))
    assert ours == probe(*loaded, theirs, run.data_folder())
    assert ours["n"] == dict.fromkeys(("micro_stories", "micro_arithmetic", "micro_facts"), 8)
    assert min(ours["probe"].values()) > 0.1 and max(ours["probe"].values()) > 0.5


def test_modes_and_random_states_are_as_before():
    model = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Linear(2, 2)).train()
    model[1].eval()
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    with pytest.raises(KeyError), untouched(model):
        assert not any(module.training for module in model.modules())
        random.seed(1), np.random.seed(1), torch.manual_seed(1)
        raise KeyError
    assert [module.training for module in model.modules()] == [True, True, False]
    after = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    assert after == states


def test_a_task_that_the_arm_has_not_is_refused():
    with pytest.raises(ConfigError, match="train.probes=piqa .*must be of the arm"):
        get_study("smoke", **{"train.probes": "piqa"})

"""Llama-3.2-1B's own shape, random weights, through the whole pipeline once on a CPU.

By hand, since it takes 14 GB: pytest -n 0 -m full_shape. With SLIMLIB_RECORD=FILE what was
measured is written there; tests/data/full_shape.json is of one run on two cores.
"""

import gc
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
from llama_shapes import SHAPES, embedded_tokenizer, random_llama

from slimlib.common.files import write_json
from slimlib.common.hardware import environment, find_device
from slimlib.methods.estimate import estimate
from slimlib.methods.shapes import base_parameters
from slimlib.run import Run
from slimlib.studies.get import get_study

ARM = "llama-2k"
GB = 2**30


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """The smoke study's fine-tuned arm at the full shape: two steps, merged, eight documents."""
    import torch

    from slimlib import evaluate_arm, finetune_arm, merge_arm

    folder, tokenizer = tmp_path_factory.mktemp("llama"), embedded_tokenizer()
    random_llama(SHAPES["llama-3.2-1b"], tokenizer, torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    gc.collect()
    settings = {
        "model": str(folder),
        "arms": ARM,
        "model.dtype": "bfloat16",
        "merge.dtype": "bfloat16",
        "evaluate.dtype": "bfloat16",
        "data.n": 8,
        "train.per_device_train_batch_size": 2,
        "train.gradient_accumulation_steps": 1,
        "train.max_steps": 2,
        "train.learning_rate": 2e-4,  # at micro's, one step makes other weights of random ones
        "limit": 4,
    }
    study = get_study("smoke", **settings)
    (arm,) = study.arms
    scored = tuple(task for task in arm.evaluate.tasks if task.role != "gsm8k")  # no decoding
    arm = replace(arm, evaluate=replace(arm.evaluate, tasks=scored))
    run = Run(replace(study, arms=(arm,)), tmp_path_factory.mktemp("runs"))
    seconds = {}
    for stage in (finetune_arm, merge_arm, evaluate_arm):
        begin = time.perf_counter()
        stage(run, ARM)
        seconds[stage.__name__] = round(time.perf_counter() - begin, 1)
        gc.collect()
    return run, seconds


@pytest.mark.full_shape
def test_the_full_shape_goes_through_everything(full):
    run, seconds = full
    record = run.record(ARM)
    stages, found = record["stages"], estimate(run.study[ARM], device=find_device(), tokens=128)
    trained = stages["finetune"]
    assert trained["parameters"] == base_parameters("Llama-3.2-1B")
    assert trained["trainable_parameters"] == 11_272_192
    assert trained["optimizer_steps"] == 2
    # an untrained model's loss is that of a guess among 128,256 tokens: ln 128,256 = 11.76
    assert trained["train_loss"] == pytest.approx(11.76, abs=1.0)
    assert stages["merge"]["logit_check"]["share_of_range"] < 0.05
    assert {*stages["evaluate"]["tasks"]} == {"micro_stories", "micro_facts"}
    if file := os.environ.get("SLIMLIB_RECORD"):
        measured = {
            name: {k: v for k, v in stage.items() if k not in ("settings", "content", "made")}
            for name, stage in stages.items()
        }
        about = {"environment": environment(), "seconds": seconds, "stages": measured}
        write_json(Path(file), about | {"estimated_gb": round(found.total / GB, 3)})

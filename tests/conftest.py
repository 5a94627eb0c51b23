"""Fixtures shared by the tests: a random model of a few thousand weights, runs made with it, data.

Nothing here reaches the network. Real rows (GSM8K, HellaSwag, MMLU, Alpaca) are read from
SLIMLIB_DATA or from ../shared/data where one of them is there; else the tests that need them skip.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from places import CHECKOUT

from slimlib.config import Study
from slimlib.run import Run
from slimlib.studies.get import get_study

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["MPLBACKEND"] = "Agg"
# Threads that wait for each other spin: beside another busy process two are slower than one by far,
# and so small a model gains nothing from the second (measured: 4 % alone, 2.1 times when shared).
os.environ.setdefault("OMP_NUM_THREADS", "1")
REAL_DATA = os.environ.pop("SLIMLIB_DATA", None)  # get_study and the command line read it too
os.environ.pop("SLIMLIB_RUNS", None)

TINY_ARMS = "llama-base,llama-base-nf4,llama-2k,llama-2k-requantised"


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real benchmark rows, or a skip."""
    folder = Path(REAL_DATA) if REAL_DATA else CHECKOUT.parent / "shared" / "data"
    if not (folder / "gsm8k" / "test.jsonl").is_file():
        pytest.skip("no real data: set SLIMLIB_DATA")
    return folder


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama (81,000 weights, 2 layers) with the embedded tokenizer.

    Its modules differ in shape: q and o 32 -> 32, k and v 32 -> 16, gate and up 32 -> 48, down
    48 -> 32: a B A that is transposed or taken from another module does not fit.
    """
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from slimlib.model.load import resolve_name

    folder = tmp_path_factory.mktemp("checkpoint")
    tokenizer = AutoTokenizer.from_pretrained(resolve_name("micro:base"))
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        initializer_range=0.2,  # the usual 0.02 leaves the logits of so small a model all alike
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_study(checkpoint: Path) -> Study:
    """The smoke study's Llama arms on the random checkpoint: 24 rows, 6 steps, 4 documents."""
    settings = {
        "model": str(checkpoint),
        "arms": TINY_ARMS,
        "data.n": 24,
        "train.per_device_train_batch_size": 4,
        "train.learning_rate": 0.02,
        "train.logging_steps": 1,
        "limit": 4,
    }
    return get_study("smoke", **settings)


@pytest.fixture(scope="session")
def tiny_run(tiny_study: Study, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The random study run whole, once: trained, merged three ways, evaluated. Read only."""
    from slimlib import evaluate_arm, finetune_arm, merge_arm

    run = Run(tiny_study, tmp_path_factory.mktemp("tiny-runs"))
    for stage in (finetune_arm, merge_arm, evaluate_arm):
        for arm in tiny_study.arms:
            stage(run, arm.name)
    return run


def slimlib_command(*arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    """`slimlib ...` as a user types it, without a GPU."""
    command = [sys.executable, "-m", "slimlib", *arguments]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    del environment["MPLBACKEND"]  # a notebook's kernel has one of its own
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=1500
    )


@pytest.fixture(scope="session")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess, Path]:
    """The smoke study by `slimlib run`, once: the finished process and the study's folder."""
    root = tmp_path_factory.mktemp("smoke-runs")
    done = slimlib_command("run", "--study", "smoke", "--runs", str(root), cwd=root)
    assert done.returncode == 0, done.stderr[-3000:]
    return done, root / "smoke"


@pytest.fixture(scope="session")
def executed(smoke: tuple[subprocess.CompletedProcess, Path]) -> Path:
    """The folder of notebooks 01 to 05, executed by `slimlib notebooks` over the smoke run."""
    _, folder = smoke
    options = ("--study", "smoke", "--runs", str(folder.parent))
    done = slimlib_command("notebooks", "01-05", *options, cwd=folder.parent)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / "notebooks"

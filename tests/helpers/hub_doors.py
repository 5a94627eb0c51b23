"""Slimlib's doors to the hub, opened in a process whose hub is ours: `at` starts it.

The hub's address and cache are read when huggingface_hub is imported, hence the process.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest.mock import patch

from places import CHECKOUT

OFFLINE = ["HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"]


def environment(address: str, home: Path, offline: bool = False) -> dict[str, str]:
    """The variables of a process whose hub is ours, with a cache of its own."""
    paths = os.pathsep.join([str(CHECKOUT), str(CHECKOUT / "tests" / "helpers")])
    return {
        **{key: value for key, value in os.environ.items() if key != "HF_TOKEN"},
        "HF_ENDPOINT": address,
        "HF_HOME": str(home),
        "HF_HUB_OFFLINE": "1" if offline else "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "PYTHONPATH": os.pathsep.join([paths, os.environ.get("PYTHONPATH", "")]),
    }


@contextlib.contextmanager
def at(address: str, home: Path) -> Iterator[Any]:
    """A process with our hub; `call(door, *arguments)` opens a door of this module in it."""
    with patch.dict(os.environ, environment(address, home), clear=True):
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            pool.submit(os.getpid).result()  # started while the variables are as they shall be

            def call(
                door: Any, *arguments: Any, token: str | None = None, offline: bool = False
            ) -> tuple[Any, str]:
                return pool.submit(_open, door, arguments, token, offline).result(timeout=300)

            yield call


def _open(
    door: Any, arguments: tuple[Any, ...], token: str | None, offline: bool
) -> tuple[Any, str]:
    """What a door returns, or its error as a text; and all that was written meanwhile."""
    import datasets
    from huggingface_hub import constants

    from slimlib.common import hub

    hub._commits.clear()  # as in a process of its own
    hub._folders.clear()
    for of, names in {constants: ["HF_HUB_OFFLINE"], datasets.config: OFFLINE}.items():
        for name in names:
            setattr(of, name, offline)
    constants.DOWNLOAD_CHUNK_SIZE = 2**16  # what a cut loses at most; of 10 MB our files are one
    said = io.StringIO()
    tokens = {"HF_TOKEN": token} if token else {}
    with patch.dict(os.environ, tokens), patch("time.sleep"):
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            try:
                found = door(*arguments)
            except (ValueError, OSError) as error:
                found = f"{type(error).__name__}: {error}"
    return found, said.getvalue()


# ------------------------------------------------------------------------------------- the doors


def open_model(name: str) -> Any:
    """What a name means; its identity beside it."""
    from slimlib.model import opened

    found = opened.open_model(name)
    return found, opened.identity(found)


def ask_model(name: Any) -> list[float]:
    """The logits that a model, by name or opened, begins with."""
    import torch

    from slimlib.evaluate.loading import load_opened
    from slimlib.model.opened import open_model

    opened = open_model(name) if isinstance(name, str) else name
    model, _ = load_opened(opened, "float32")
    with torch.no_grad():
        return model(input_ids=torch.tensor([[1, 5, 9]])).logits[0, -1, :50].tolist()


def load_model(name: str, revision: str | None = None) -> str:
    """The name that a loaded model remembers, which its adapters will carry."""
    from slimlib.config import ModelConfig
    from slimlib.model.load import load_model

    config = ModelConfig(name, revision, load_in_4bit=False, dtype="float32")
    model, _ = load_model(config, "transformers")
    return model.name_or_path


def save_adapter(name: str, folder: Path) -> list[float]:
    """Save an adapter of a model whose B is not 0; the logits with it."""
    import torch

    from slimlib.adapters.layers import attach
    from slimlib.adapters.saving import save_adapter
    from slimlib.config import AdapterConfig, ModelConfig
    from slimlib.model.load import load_transformers

    model = load_transformers(ModelConfig(name, dtype="float32", load_in_4bit=False))
    model = attach(model, AdapterConfig(r=4), seed=1, max_seq_length=64)
    torch.manual_seed(0)
    for key, weight in model.named_parameters():
        if "lora_B" in key:
            torch.nn.init.normal_(weight, std=0.1)
    save_adapter(model, folder)
    with torch.no_grad():
        return model.eval()(input_ids=torch.tensor([[1, 5, 9]])).logits[0, -1, :50].tolist()


def rows(name: str) -> list[dict[str, Any]]:
    """Rows of a data set."""
    from slimlib.data.rows import read_rows

    return read_rows(name)


def moving_rows(name: str) -> dict[str, str]:
    """The commit that a data set has now, by which a training is known."""
    from slimlib.config import DataConfig
    from slimlib.data import sources

    sources._commit.cache_clear()
    return sources.moving_rows(DataConfig(dataset=name))


def documents(task: str, world: Path) -> dict[str, int]:
    """How many documents a task of lm-eval has."""
    from slimlib.data.named_tasks import load_units

    (unit,) = load_units([task], None, world)
    return unit.sizes


def evaluate(model: str, root: Path) -> tuple[dict[str, Any], str | None, Any]:
    """PIQA's entry of a model, the commit of its documents, and what its stage stands on."""
    from dataclasses import replace

    from slimlib.config import Task
    from slimlib.data.tasks import hub_documents
    from slimlib.evaluate.harness import evaluate_arm
    from slimlib.run import Run
    from slimlib.studies.get import get_study

    task = Task("piqa", "hellaswag", 0, 1, limit=2)
    (arm,) = get_study("micro", arms="llama-base", model=model).arms
    asked = replace(arm.evaluate, tasks=(task,))
    study = replace(get_study("micro"), arms=(replace(arm, evaluate=asked),), ladder=(), data="hub")
    run = Run(study, root)
    before = run.state(arm.name, "evaluate")
    entry = evaluate_arm(run, arm.name)["tasks"]["piqa"]
    return entry, hub_documents(task), before


def preflight(model: str, revision: str | None, dataset: str, root: Path) -> dict[str, Any]:
    """Its lines on the hub, of a study with such a model and such rows."""
    from dataclasses import replace

    from slimlib.pipeline.preflight import preflight
    from slimlib.studies.get import get_study

    study = get_study("paper")
    arms = [
        replace(
            arm,
            model=replace(arm.model, name=model, revision=revision),
            data=replace(arm.data, dataset=dataset) if arm.trains else arm.data,
        )
        for arm in study.arms
    ]
    checks = preflight(replace(study, arms=tuple(arms)), root)
    return {c.name.removeprefix("access "): c for c in checks if c.name.startswith("access")}


def preflight_model(name: str, root: Path) -> list[Any]:
    """The lines of one model's preflight that are red."""
    from slimlib.config import ModelConfig
    from slimlib.pipeline.one_model import preflight_model

    config = ModelConfig(name, load_in_4bit=False)
    return [check for check in preflight_model(config, None, root) if not check.ok]

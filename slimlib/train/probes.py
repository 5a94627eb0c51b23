"""Probes: what a model can while it is trained, by the arm's own tasks, every so many steps.

A probe leaves no trace in the training: the modules' modes and all random states are put back, so
that losses and adapter are the same bits with and without. It asks the first documents of each task
before the first step, every `probe_steps` and after the last, and adds a line to the log:

    {"step": 20, "epoch": 0.5, "probe": {"micro_facts": 0.62}, "n": {"micro_facts": 50}}

A training that goes on from a checkpoint has its probes so far in the log, and repeats none.
"""

from __future__ import annotations

import contextlib
import json
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from slimlib.common import progress
from slimlib.common.files import append_text
from slimlib.config import Arm, Task
from slimlib.data.tasks import task_yaml
from slimlib.scoring.answering import ask_lm_eval
from slimlib.scoring.responses import Responses
from slimlib.train.sessions import Sessions


def probing(config: Arm, tokenizer: Any, sessions: Sessions, data_folder: Path | None) -> Any:
    """A callback of transformers' trainer that probes; to be added after the sessions'.

    Args:
        config: of the arm, whose tasks are asked.
        tokenizer: of its model.
        sessions: keep the log, and do not count the seconds of a probe.
        data_folder: of the tasks' local files; None reads the hub.
    """
    from transformers import TrainerCallback

    class Probing(TrainerCallback):
        def on_train_begin(self, args, state, control, model=None, **_):
            if state.global_step == 0:  # else the log has it
                self.probe(state, model)

        def on_step_end(self, args, state, control, model=None, **_):
            step = state.global_step
            if step % config.train.probe_steps == 0 or step == state.max_steps:
                self.probe(state, model)

        def probe(self, state: Any, model: Any) -> None:
            with sessions.paused():
                found = probe(model, tokenizer, config, data_folder)
            row = {"step": state.global_step, "epoch": state.epoch or 0.0, **found}
            append_text(sessions.log, json.dumps(row) + "\n")

    return Probing()


def probe(
    model: Any, tokenizer: Any, config: Arm, data_folder: Path | None
) -> dict[str, dict[str, float]]:
    """Share of right answers to the first documents of each probed task, and their number.

    Args:
        model: in training, with its adapter; it is left as it was.
        tokenizer: of the model.
        config: of the arm.
        data_folder: of the tasks' local files.
    """
    wanted = config.train.probes
    tasks = [task for task in config.evaluate.tasks if not wanted or task.name in wanted]
    shares, counts = {}, {}
    with untouched(model):
        for task in tasks:
            shares[task.name], counts[task.name] = _asked(
                (model, tokenizer), task, config, data_folder
            )
    return {"probe": shares, "n": counts}


def _asked(
    loaded: tuple[Any, Any], task: Task, config: Arm, data_folder: Path | None
) -> tuple[float, int]:
    limit = min(config.train.probe_limit, task.limit or config.train.probe_limit)
    with tempfile.TemporaryDirectory() as temporary, progress.line(f"probe {task.name}") as line:
        with Responses(Path(temporary) / "answers.jsonl", line) as responses:
            _, results = ask_lm_eval(
                loaded,
                str(task_yaml(task, data_folder, Path(temporary))),
                config.evaluate,
                responses,
                batch_size=task.batch_size,
                max_length=config.evaluate.max_length,
                num_fewshot=task.num_fewshot,
                limit=limit,
            )
    scores = results["results"][task.name]
    # the last metric is the one that a task is judged by: flexible after strict, acc_norm after acc
    (*_, name) = (key for key in scores if "," in key and "_stderr" not in key)
    return float(scores[name]), results["n-samples"][task.name]["effective"]


@contextlib.contextmanager
def untouched(model: Any) -> Iterator[None]:
    """Evaluate a model within the block; afterwards it and all random states are as before.

    lm-eval seeds every source of random numbers.
    """
    modes = [(module, module.training) for module in model.modules()]
    ours, numpys = random.getstate(), np.random.get_state()
    model.eval()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        for module, training in modes:
            module.training = training
        random.setstate(ours)
        np.random.set_state(numpys)

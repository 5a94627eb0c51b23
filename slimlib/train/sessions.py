"""What a training keeps from one session to the next: whole checkpoints, its sums, its loss log.

A session may end at any moment, in the middle of a file. A checkpoint therefore counts only with a
list of its files and their hashes, which is written last; in it stand the sums so far, so that the
record of a training that was resumed equals an undisturbed one's.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from slimlib.common import progress
from slimlib.common.files import (
    append_text,
    file_sha256,
    read_json,
    read_jsonl,
    write_json,
    write_text,
)
from slimlib.common.flaky import again
from slimlib.common.hardware import peak_memory_gb

WHOLE = "whole.json"  # in a checkpoint: its files with their hashes, and the sums
SAVE_EVERY = 600.0  # seconds: what a machine that disappears takes with it at most


@dataclass
class Sums:
    """What adds up over a training's steps, in all its sessions."""

    loss: float = 0.0  # of all steps, nats per token
    seconds: float = 0.0
    skipped_steps: int = 0  # that float16's scaler left out
    unlogged: float = 0.0  # the loss of the steps that no line of the log tells yet
    unlogged_steps: int = 0


def keep_sessions(trainer: Any, log: Path, tokens: int) -> Sessions:
    """Have a trainer keep what its next session needs.

    Args:
        trainer: transformers', not started.
        log: path of log.jsonl; each line is a logged step with the mean loss since the last one,
            with the tokens and seconds so far, and with the checkpoint that was kept since.
        tokens: of one epoch.

    Returns:
        What must be told of each pass by `micro_batch`.
    """
    from transformers import TrainerCallback

    class Callback(Sessions, TrainerCallback):
        """The same, with a method for each event."""

    sessions = Callback(trainer, log, tokens)
    trainer.add_callback(sessions)
    save, place = trainer._save_checkpoint, Path(trainer.args.output_dir)
    trainer._save_checkpoint = lambda *given: again(partial(save, *given), place)
    return sessions


class Sessions:
    """Keeps sums and log of one training, and signs its checkpoints; see `keep_sessions`.

    The trainer's own mean loss and seconds are of one session alone.
    """

    def __init__(self, trainer: Any, log: Path, tokens: int) -> None:
        self.trainer, self.log, self.tokens, self.sums = trainer, log, tokens, Sums()
        self.earlier = 0.0  # seconds of earlier sessions
        self.checkpoint = 0  # the newest one, at which step, until a line of the log tells it

    def micro_batch(self, loss: float) -> None:
        """Add the loss of a pass, which the trainer has divided by the passes of a step."""
        self.sums.loss += loss
        self.sums.unlogged += loss

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Go on with the sums and the log of the checkpoint that is resumed."""
        old = []
        if state.global_step:
            checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            self.sums = Sums(**read_json(checkpoint / WHOLE)["sums"])
            self.checkpoint = state.global_step
            old = read_jsonl(self.log) if self.log.exists() else []
        kept = [json.dumps(row) + "\n" for row in old if row["step"] <= state.global_step]
        write_text(self.log, "".join(kept))
        self.earlier = self.sums.seconds
        self.begun = self.saved = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Count the step; ask for a checkpoint where the last one is long ago."""
        self.sums.skipped_steps += bool(self.trainer.accelerator.optimizer_step_was_skipped)
        self.sums.unlogged_steps += 1
        now = time.monotonic()
        self.sums.seconds = self.earlier + now - self.begun
        control.should_save |= now - self.saved >= SAVE_EVERY

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Add a line to the log."""
        if "loss" not in (logs or {}) or not self.sums.unlogged_steps:
            return
        keys = ("epoch", "learning_rate", "grad_norm")
        row = {
            "step": state.global_step,
            "loss": self.sums.unlogged / self.sums.unlogged_steps,
            **{key: float(logs[key]) for key in keys if key in logs},
            "seconds": round(self.sums.seconds, 3),
            "tokens": round(self.tokens * (state.epoch or 0.0)),
            "peak_memory_gb": round(peak_memory_gb(), 3),
            "max_steps": state.max_steps,
            **({"checkpoint": self.checkpoint} if self.checkpoint else {}),
        }
        self.sums.unlogged, self.sums.unlogged_steps = 0.0, 0
        self.checkpoint = 0
        append_text(self.log, json.dumps(row) + "\n")

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the seconds of the block out of the training's."""
        begun = time.monotonic()
        yield
        self.begun += time.monotonic() - begun

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Sign the checkpoint: from now on it is whole."""
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        files = {path.name: file_sha256(path) for path in folder.iterdir() if path.is_file()}
        write_json(folder / WHOLE, {"files": files, "sums": asdict(self.sums)})
        self.checkpoint = state.global_step
        self.saved = time.monotonic()


def last_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint of a training that was cut off; None to begin anew.

    What is passed over is said: one that was cut off while it was written, or is damaged.
    """
    numbered = [path for path in folder.glob("checkpoint-*") if path.name[11:].isdigit()]
    for path in sorted(numbered, key=lambda path: int(path.name[11:]), reverse=True):
        fault = _fault(path)
        if not fault:
            progress.say(f"resuming from {path.name}")
            return path
        progress.say(f"{path.name} is passed over: {fault}")
    return None


def _fault(checkpoint: Path) -> str:
    """What is wrong with a checkpoint; "" for a whole one."""
    if not (checkpoint / WHOLE).exists():
        return "it was cut off while it was written"
    try:
        whole = read_json(checkpoint / WHOLE)
        Sums(**whole["sums"])
        files = dict(whole["files"])
    except (ValueError, KeyError, TypeError):
        return f"its {WHOLE} is damaged"
    for name, expected in files.items():
        path = checkpoint / name
        if not path.exists():
            return f"its {name} is missing"
        if file_sha256(path) != expected:
            return f"its {name} is damaged"
        if path.suffix in (".pt", ".pth") and _holds_code(path):
            return f"its {name} holds more than numbers, which is not executed"
    return ""


def _holds_code(path: Path) -> bool:
    """Whether a pickle names anything beside tensors and arrays; nothing of it is loaded."""
    from torch.serialization import get_unsafe_globals_in_checkpoint

    try:
        found = get_unsafe_globals_in_checkpoint(path)
    except ValueError:  # no file of torch.save
        return True
    return any(not name.startswith("numpy.") for name in found)

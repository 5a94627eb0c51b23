"""Fine-tuning with TRL's SFTTrainer, over either backend.

The trainer keeps checkpoints in <arm>/checkpoints and goes on from the last one when the stage is
started again with the same settings. Losses go to log.jsonl as they arise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from slimlib.adapters.layers import attach, trainables_to_float32
from slimlib.adapters.modules import linear_shapes
from slimlib.adapters.saving import check_finite, save_adapter
from slimlib.common import progress
from slimlib.common.files import atomic_path, read_jsonl
from slimlib.common.flaky import again
from slimlib.common.hardware import (
    find_device,
    free_memory,
    name_dtype,
    peak_memory_gb,
    reset_peak_memory,
)
from slimlib.common.schema import last_loss
from slimlib.config import Arm
from slimlib.data.rows import load_rows
from slimlib.data.tokens import RowsReport, split_tokenized
from slimlib.folder import CHECKPOINTS
from slimlib.methods import METHODS, compile_plan
from slimlib.model.load import (
    check_backend,
    check_base,
    choose_backend,
    load_model,
    load_tokenizer,
    window,
)
from slimlib.model.quantise import QUANTISERS, resolve_block
from slimlib.model.stored import quiet
from slimlib.run import Run
from slimlib.train.near_base import near_base
from slimlib.train.probes import probing
from slimlib.train.rehearse import rehearsed_rows
from slimlib.train.sessions import Sessions, keep_sessions, last_checkpoint


def finetune_arm(run: Run, arm: str) -> dict[str, Any] | None:
    """Fine-tune one arm and save its adapter; go on where a training was cut off.

    Returns:
        The finetune part of the record; None for an arm that trains nothing.

    Example:

        run = slimlib.open_run("micro")
        entry = slimlib.finetune_arm(run, "llama-2k")

    Raises:
        ValueError: bad rows or settings, before any weight is loaded; or a loss or a weight that is
            no finite number, at the step where it arises.
    """
    config = run.study[arm]
    if not config.trains:
        source = f"takes the adapter of {config.adapter_from}" if config.adapter_from else "untuned"
        progress.say(f"finetune {arm}: nothing to train ({source})")
        return None
    return run.stage(arm, "finetune", lambda: _finetune(config, run))


def _finetune(config: Arm, run: Run) -> dict[str, Any]:
    # what it is to be merged into must be there
    check_base(config.model, unquantised=config.merge.merge_base == "16bit")
    check_backend(config)
    dataset, _, report = training_sets(config, run)
    progress.say(" ".join(["rows:", *report.sentences()]))
    reset_peak_memory()
    fitting = config
    while True:
        try:
            return _trained(fitting, dataset, report, run)
        except torch.OutOfMemoryError as error:  # ends before the next try, which needs its memory
            reason = str(error).partition("\n")[0]
        fitting = _with_smaller_passes(fitting, reason)
        free_memory()


def _trained(config: Arm, dataset: Any, report: RowsReport, run: Run) -> dict[str, Any]:
    """Train from the last whole checkpoint on, save the adapter, and sum up."""
    counts, folder = report.counts(), run.arm_folder(config.name)
    model, tokenizer = load_model(config.model, adapter=config.adapter)
    if note := merge_note(config, model):
        progress.say(note)
    base_parameters = model.num_parameters()  # counts the packed 4-bit weights one by one
    model = attach(model, config.adapter, config.seed, config.model.max_seq_length)
    if config.train.padding_free:
        check_apart(model, dataset["input_ids"])
    trainer = make_trainer(model, tokenizer, dataset, config, folder)
    progress.current().log = folder / "log.jsonl"
    trainer.add_callback(_live_line(counts["tokens"]))
    sessions = keep_sessions(trainer, folder / "log.jsonl", counts["tokens"])
    if config.train.probe_steps:
        trainer.add_callback(probing(config, tokenizer, sessions, run.data_folder()))
    _watch(trainer, sessions, dataset, report.numbers)
    _go_on(trainer, last_checkpoint(folder / CHECKPOINTS))
    adapter = folder / "adapter"
    again(partial(_save, trainer.model, tokenizer, adapter), adapter)
    sums, steps = sessions.sums, trainer.state.global_step
    summary = {
        **counts,
        "optimizer_steps": steps,
        "skipped_steps": sums.skipped_steps,
        "rows_at_once": config.train.per_device_train_batch_size,
        "train_loss": round(sums.loss / steps, 6),
        "last_loss": last_loss(read_jsonl(folder / "log.jsonl")),
        "train_seconds": round(sums.seconds, 3),
        "tokens_per_second": round(counts["tokens"] * trainer.state.epoch / sums.seconds, 1),
        "peak_memory_gb": round(peak_memory_gb(), 3),
        "parameters": base_parameters,
        "trainable_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
    }
    del trainer, model
    free_memory()  # the next arm trains in the same kernel
    return summary


def _save(model: Any, tokenizer: Any, folder: Path) -> None:
    with atomic_path(folder) as temporary:
        save_adapter(model, temporary)
        tokenizer.save_pretrained(temporary)


def _go_on(trainer: Any, checkpoint: Path | None) -> None:
    """Train to the end; a checkpoint of the last step needs no step more, only its weights."""
    if checkpoint is not None:
        state = trainer.state.load_from_json(str(checkpoint / "trainer_state.json"))
        if state.global_step >= state.max_steps:  # transformers would train one step beyond
            trainer.state = state
            trainer._load_from_checkpoint(str(checkpoint))
            trainer.callback_handler.on_train_begin(trainer.args, state, trainer.control)
            return
    with quiet():  # as to which of the tokenizer's special tokens the model's config is given
        trainer.train(resume_from_checkpoint=checkpoint and str(checkpoint))


def _with_smaller_passes(config: Arm, reason: str) -> Arm:
    """The same steps of as many rows, made of smaller passes.

    Raises:
        ValueError: one row alone is too much.
    """
    rows = config.train.per_device_train_batch_size
    if rows == 1:
        raise ValueError(
            f"one row at a time is too much for the memory ({reason}); "
            f"a shorter max_seq_length than {config.model.max_seq_length}, or a smaller model"
        )
    fewer = next(n for n in range(rows // 2, 0, -1) if rows % n == 0)
    passes = config.train.gradient_accumulation_steps * (rows // fewer)
    progress.say(f"out of memory with {rows} rows at once: goes on with {fewer}, {passes} times")
    sizes = {"per_device_train_batch_size": fewer, "gradient_accumulation_steps": passes}
    return replace(config, train=replace(config.train, **sizes))


def training_sets(config: Arm, run: Run) -> tuple[Any, Any, RowsReport]:
    """The tokenised rows that an arm is trained on, those that are held out, what became of all.

    No weight is read, unless the base writes what is rehearsed.

    Raises:
        ValueError: bad rows, or nothing in them to learn.
    """
    rows = load_rows(config.data, config.seed, run.data_folder())
    if choose_backend(config.model.backend) == "unsloth":
        import unsloth  # noqa: F401  before transformers, which it patches
    tokenizer = load_tokenizer(config.model)
    rehearsed = rehearsed_rows(config, rows, tokenizer, run)
    size = window(config.model)
    return split_tokenized(rows, config.data, tokenizer, size, config.seed, rehearsed)


def merge_note(config: Arm, model: Any) -> str:
    """Says where an adapter that could merge in 4 bit cannot, on this base; "" elsewhere."""
    linears = linear_shapes(model)
    entry = next(iter(compile_plan(linears, config.adapter).values()))
    if entry.block is None or config.model.block_size is None:
        return ""
    if config.model.quantiser in QUANTISERS and QUANTISERS[config.model.quantiser].mergeable:
        if entry.merges_into(resolve_block(config.model.quantiser, config.model.block_size)):
            return ""
    return (
        f"{METHODS[entry.method].label} merges into 16 bit only from quantiser="
        f"{config.model.quantiser}, block_size={config.model.block_size}; in 4 bit from "
        f"{METHODS[entry.method].quantiser} with block_size=None"
    )


def make_trainer(model: Any, tokenizer: Any, dataset: Any, config: Arm, folder: Path) -> Any:
    """TRL's SFTTrainer over tokenised rows, with checkpoints in folder/checkpoints.

    Rows without padding are kept apart by their positions, which attention sees where there is
    neither a mask nor a cache; rows were cut to the model's length before.

    Args:
        model: with its adapter attached.
        tokenizer: for padding only; the rows are ids already.
        dataset: column input_ids; labels where only answers are learned.
        config: training values and seed of the arm.
        folder: of the arm.
    """
    from transformers import PrinterCallback
    from trl import SFTConfig, SFTTrainer

    device = find_device()
    dtype = name_dtype(config.model.dtype)
    steps = steps_of(len(dataset), config)
    arguments = SFTConfig(
        output_dir=str(folder / CHECKPOINTS),
        per_device_train_batch_size=config.train.per_device_train_batch_size,
        gradient_accumulation_steps=config.train.gradient_accumulation_steps,
        learning_rate=config.train.learning_rate,
        lr_scheduler_type=config.train.lr_scheduler_type,
        warmup_steps=round(config.train.warmup_ratio * steps),
        num_train_epochs=config.train.num_train_epochs,
        max_steps=config.train.max_steps,
        optim=config.train.optim,
        weight_decay=config.train.weight_decay,
        max_grad_norm=config.train.max_grad_norm,
        max_length=None if config.train.padding_free else config.model.max_seq_length,
        padding_free=config.train.padding_free,
        fp16=device.kind == "cuda" and dtype == "float16",
        bf16=device.kind == "cuda" and dtype == "bfloat16",
        gradient_checkpointing=False,  # set with the adapter, where the backends differ
        use_cpu=device.kind == "cpu",
        packing=False,  # as run: packing changes the number of optimiser steps
        logging_steps=config.train.logging_steps,
        logging_first_step=True,
        logging_nan_inf_filter=False,  # it would put the mean in the place of a loss of NaN
        save_steps=config.train.save_steps,
        save_total_limit=2,
        seed=config.seed,
        data_seed=config.seed,
        dataloader_pin_memory=device.kind == "cuda",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=True,
    )
    weight = config.train.kl_weight
    trainer_class = near_base(SFTTrainer, weight) if weight else SFTTrainer
    with quiet():  # of attention that is not Flash's, which keeps rows apart as well
        trainer = trainer_class(
            model=model, args=arguments, train_dataset=dataset, processing_class=tokenizer
        )
    trainer.remove_callback(PrinterCallback)  # what transformers puts in the place of its bar
    trainables_to_float32(trainer.model)
    return trainer


def check_apart(model: Any, rows: Sequence[Sequence[int]]) -> None:
    """Refuse a model in which a row sees the one before it, as recurrent models do.

    Args:
        model: on its device.
        rows: tokens; the first two are read.

    Raises:
        ValueError: names the kind of model.
    """
    first, second = (torch.tensor([[*row[:12]]], device=model.device) for row in rows[:2])
    places = [torch.arange(row.shape[1], device=model.device)[None] for row in (first, second)]
    training = model.training
    model.eval()
    with torch.no_grad():
        alone = model(input_ids=second).logits[0]
        behind = model(
            input_ids=torch.cat([first, second], 1),
            position_ids=torch.cat(places, 1),
            use_cache=False,
        ).logits[0, first.shape[1] :]
    model.train(training)
    apart = (behind - alone).abs().max() / (alone.max() - alone.min())
    if not apart < (1e-3 if alone.dtype == torch.float32 else 5e-2):  # a part of NaN is refused too
        raise ValueError(
            f"padding_free does not go with {model.config.model_type}: there a row would see the "
            "one before it; set train.padding_free=false"
        )


def steps_of(rows: int, config: Arm) -> int:
    """Optimiser steps of a run: ceil(rows / rows a step) per epoch, unless max_steps says it."""
    if config.train.max_steps > 0:
        return config.train.max_steps
    batches = -(-rows // config.train.per_device_train_batch_size)
    per_epoch = -(-batches // config.train.gradient_accumulation_steps)
    return round(per_epoch * config.train.num_train_epochs)


def _watch(trainer: Any, sessions: Sessions, dataset: Any, numbers: Sequence[int]) -> None:
    """Tell the sessions each pass's loss; stop at the first number that is not finite.

    That is ahead of any checkpoint of it. An optimiser step that float16's scaler skipped left the
    weights as they were.

    Args:
        numbers: of the data set's rows in their file, for the message.
    """
    from transformers import TrainerCallback

    step_of, rows = trainer.training_step, []

    def where() -> str:
        named = ", ".join(str(numbers[row]) for row in _rows_of(rows, dataset))
        return f"on rows {named}"

    def training_step(model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        rows[:] = _apart(inputs)
        loss = step_of(model, inputs, *args, **kwargs)
        value = loss.item()
        if not math.isfinite(value):
            raise ValueError(
                f"step {trainer.state.global_step + 1}: the loss is {value} {where()}; "
                "nothing of this step is kept. "
                "Train again with a lower learning_rate, or with max_grad_norm=1"
            )
        # the log has the cross-entropy alone, which other trainings can be compared by
        sessions.micro_batch(value - getattr(trainer, "penalty", 0.0))
        return loss

    class StopAtNoNumber(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            try:
                check_finite(trainer.model)
            except ValueError as error:  # to find the rows takes a reading of all of them
                raise ValueError(f"step {state.global_step}, {where()}: {error}") from None

    trainer.training_step = training_step
    trainer.add_callback(StopAtNoNumber())


def _apart(inputs: dict[str, Any]) -> list[Any]:
    """The rows of a pass: padded ones side by side, others by where positions begin anew."""
    ids, positions = inputs["input_ids"], inputs.get("position_ids")
    if positions is None:
        return [*ids]
    starts = (positions[0] == 0).nonzero().flatten().tolist()
    return [*ids[0].tensor_split(starts[1:])]


def _rows_of(batch: Any, dataset: Any) -> list[int]:
    """The rows of a data set that a batch of padded ids was made of, counted from 0."""
    wanted = [row.tolist() for row in batch]
    return [
        number
        for number, row in enumerate(dataset["input_ids"])
        if any(ids[: len(row)] == row or ids[-len(row) :] == row for ids in wanted)
    ]


def _live_line(tokens: int) -> Any:
    """A callback that tells the stage's line the step, the loss and the tokens so far.

    Args:
        tokens: of one epoch.
    """
    from transformers import TrainerCallback

    line = progress.current()

    class LiveLine(TrainerCallback):
        def on_train_begin(self, args, state, control, **kwargs):
            self.epoch = state.epoch or 0.0  # of an earlier session
            line.begin("steps", state.max_steps, state.global_step)

        def on_step_end(self, args, state, control, **kwargs):
            line.update(state.global_step, tokens=round(tokens * (state.epoch - self.epoch)))

        def on_log(self, args, state, control, logs=None, **kwargs):
            line.update(line.done, (logs or {}).get("loss"), line.tokens)

    return LiveLine()

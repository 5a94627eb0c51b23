"""TRL as it comes against slimlib's fine-tuning: one process, alternating, on real rows.

    python tests/benchmarks/finetune.py --model /path/to/SmolLM2-135M-Instruct --rows 64
    python tests/benchmarks/finetune.py --model micro:base --rows 256 --markdown

Every side trains the same LoRA (r 16, all linear layers) of the same un-quantised weights on the
same rows of Alpaca, in the same order and batches, from the same start:

    trl       SFTTrainer with TRL's defaults: bfloat16 and gradient checkpointing
    as run    slimlib's defaults on a CPU: float32, padded batches, no checkpointing
    free      the same without padding
    fast      without padding, in bfloat16

Rates are of the medians of --repeats rounds; tokens are the rows' own, without padding. `loss` is
the mean over the steps of the first round; in float32 padding must not change it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from meter import Memory, device_name

os.environ.setdefault("TQDM_DISABLE", "1")
SIDES = ("trl", "as run", "free", "fast")


def arguments() -> argparse.Namespace:
    """What the user asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--model", required=True, help="folder, hub id or micro:base")
    add("--data", help="folder of the rows; default SLIMLIB_DATA, then ../shared/data")
    add("--rows", type=int, default=64, help="rows of a round")
    add("--batch", type=int, default=4, help="rows of a pass; four passes are a step")
    add("--repeats", type=int, default=3)
    add("--threads", type=int, default=os.cpu_count())
    add("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    add("--markdown", action="store_true", help="print the table as Markdown")
    add("--output", help="file for everything measured, as JSON")
    return parser.parse_args()


def arm_of(side: str, options: argparse.Namespace) -> Any:
    """What slimlib trains on a side; TRL's side differs in the trainer alone."""
    from slimlib.config import AdapterConfig, Arm, DataConfig, ModelConfig, TrainConfig

    half = side in ("trl", "fast")
    return Arm(
        side.replace(" ", "-"),
        label=side,
        model=ModelConfig(
            options.model,
            load_in_4bit=False,
            dtype="bfloat16" if half else "float32",
            backend="transformers",
        ),
        adapter=AdapterConfig(target_modules="all-linear"),
        data=DataConfig(n=options.rows, append_eos=True),
        train=TrainConfig(
            per_device_train_batch_size=options.batch,
            logging_steps=1,
            padding_free=side in ("free", "fast"),
        ),
    )


def trainer_of(side: str, arm: Any, dataset: Any, folder: Path) -> Any:
    """The side's trainer, its model loaded anew and its adapter started from the same numbers."""
    from transformers import PrinterCallback

    from slimlib.adapters.layers import attach
    from slimlib.model.load import load_model
    from slimlib.train.finetune import make_trainer

    model, tokenizer = load_model(arm.model)
    model = attach(model, arm.adapter, arm.seed, arm.model.max_seq_length)
    if side != "trl":
        return make_trainer(model, tokenizer, dataset, arm, folder)
    from trl import SFTConfig, SFTTrainer

    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(
            output_dir=str(folder),
            per_device_train_batch_size=arm.train.per_device_train_batch_size,
            gradient_accumulation_steps=arm.train.gradient_accumulation_steps,
            learning_rate=arm.train.learning_rate,
            max_length=arm.model.max_seq_length,
            num_train_epochs=1,
            logging_steps=1,
            seed=arm.seed,
            use_cpu=True,
            report_to="none",
            disable_tqdm=True,
        ),
        train_dataset=dataset,
        processing_class=tokenizer,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def measure(side: str, options: argparse.Namespace, rows: Any) -> dict[str, Any]:
    """One round: seconds of the training alone, peak memory, mean loss."""
    arm = arm_of(side, options)
    with tempfile.TemporaryDirectory() as folder:
        memory = Memory("cpu")
        trainer = trainer_of(side, arm, rows, Path(folder))
        begin = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - begin
        losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    peak = memory.peak_mb()
    return {"side": side, "seconds": seconds, "peak_mb": peak, "losses": losses}


def rows_of(options: argparse.Namespace) -> Any:
    """The tokenised rows, as every side gets them."""
    from slimlib.data.rows import load_rows
    from slimlib.data.tokens import split_tokenized
    from slimlib.model.load import load_tokenizer, window

    arm = arm_of("as run", options)
    here = Path(__file__).resolve().parents[2]
    data = options.data or os.environ.get("SLIMLIB_DATA") or here.parent / "shared" / "data"
    rows = load_rows(arm.data, arm.seed, Path(data))
    tokenizer = load_tokenizer(arm.model)
    dataset, _, _ = split_tokenized(rows, arm.data, tokenizer, window(arm.model), arm.seed)
    return dataset


def table(found: list[dict[str, Any]], rows: int, tokens: int) -> Any:
    """A line for each side: rates of the medians, and their ratio to TRL's."""
    import pandas as pd

    lines = {}
    for side in dict.fromkeys(one["side"] for one in found):
        rounds = [one for one in found if one["side"] == side]
        seconds = statistics.median(one["seconds"] for one in rounds)
        lines[side] = {
            "rows/s": rows / seconds,
            "tokens/s": tokens / seconds,
            "peak MB": max(one["peak_mb"] or 0 for one in rounds),
            "loss": statistics.mean(rounds[0]["losses"]),
        }
    whole = pd.DataFrame(lines).T
    if "trl" in whole.index:
        whole.insert(0, "ratio to trl", whole["rows/s"] / whole["rows/s"]["trl"])
    return whole.round({"ratio to trl": 2, "rows/s": 2, "tokens/s": 0, "peak MB": 0, "loss": 5})


def main() -> None:
    """Measure, print, and keep."""
    options = arguments()
    import torch
    from datasets.utils.logging import disable_progress_bar
    from transformers.utils import logging

    disable_progress_bar()
    logging.set_verbosity_error()
    torch.set_num_threads(options.threads)
    rows = rows_of(options)
    tokens = sum(map(len, rows["input_ids"]))
    found = []
    for _ in range(options.repeats):
        for side in options.sides:
            found.append(measure(side, options, rows))
            print(f"{side}: {found[-1]['seconds']:.1f} s", file=sys.stderr, flush=True)
    what = table(found, len(rows), tokens)
    print(what.to_markdown() if options.markdown else what.to_string())
    about = {"device": device_name("cpu"), "threads": options.threads, "tokens": tokens}
    print(f"{options.model}, {len(rows)} rows, {tokens:,} tokens; {about['device']}")
    if options.output:
        kept = {"options": vars(options), **about, "rounds": found}
        Path(options.output).write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

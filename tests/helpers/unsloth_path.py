"""One arm through Unsloth, from rows to scores: what test_unsloth.py runs where it is installed.

python tests/unsloth_path.py RUNS_FOLDER writes there, beside the run itself, report.json (what the
trainer was given and what came of it) and logits.safetensors (of the trained model, by Unsloth).
"""

import sys
from pathlib import Path
from typing import Any

from slimlib.common.files import write_json
from slimlib.config import Study
from slimlib.evaluate import harness
from slimlib.merge import plain
from slimlib.run import Run
from slimlib.studies.get import get_study
from slimlib.train import finetune as train

ARM = "llama-2k"


def study() -> Study:
    """The paper as written (Q/K/V, r = 8, end token appended), 12 steps on the embedded base."""
    settings = {
        "arms": f"llama-base,{ARM}",
        "hyperparameters": "as-written",
        "model.backend": "unsloth",
        "train.gradient_accumulation_steps": 2,
        "train.learning_rate": 5e-3,
        "train.max_steps": 12,
        "train.logging_steps": 1,
        "limit": 10,
    }
    return get_study("smoke", **settings)


def watch_trainer() -> dict[str, Any]:
    """Let finetune_arm leave here the rows and the trainer that it makes."""
    seen: dict[str, Any] = {}
    build = train.make_trainer

    def make_trainer(model, tokenizer, dataset, config, folder):
        seen["rows"] = list(dataset["input_ids"])
        seen["tokenizer"] = tokenizer
        seen["trainer"] = build(model, tokenizer, dataset, config, folder)
        return seen["trainer"]

    train.make_trainer = make_trainer
    return seen


def report(seen: dict[str, Any]) -> dict[str, Any]:
    """What the tests assert on, as plain JSON."""
    trainer, tokenizer = seen["trainer"], seen["tokenizer"]
    batch = next(iter(trainer.get_train_dataloader()))
    trained = {n: p for n, p in trainer.model.named_parameters() if p.requires_grad}
    return {
        "unsloth": sys.modules["unsloth"].__version__,
        "rows": seen["rows"],
        "trainer_rows": list(trainer.train_dataset["input_ids"]),
        "batch": {key: batch[key].tolist() for key in ("input_ids", "labels")},
        "special": [tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id],
        "trained": {name: str(p.dtype).removeprefix("torch.") for name, p in trained.items()},
        "numbers": sum(p.numel() for p in trained.values()),
    }


def not_here(*args: Any, **kwargs: Any) -> None:
    """Stands for the work that must be done in a process without Unsloth."""
    raise AssertionError("merged or evaluated in a process that imported Unsloth")


def main(folder: Path) -> None:
    from safetensors.torch import save_file

    run, seen = Run(study(), folder), watch_trainer()
    train.finetune_arm(run, ARM)
    found = report(seen)
    logits = plain._logits(seen["trainer"].model, seen["tokenizer"])
    save_file({str(i): x.contiguous() for i, x in enumerate(logits)}, folder / "logits.safetensors")
    plain.write_merged = harness.evaluate_model = not_here
    plain.merge_arm(run, ARM)
    harness.evaluate_arm(run, ARM)
    write_json(folder / "report.json", found)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

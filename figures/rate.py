"""Search the fine-tuning of the embedded study, by the rule in slimlib/data/micro/checkpoints.

`python figures/rate.py` trains micro's fine-tuned arm with seed 11 for each pair of the grid and
writes figures/rate/search.json: the loss on the dev instructions decides, nothing else is asked
before. `redraw.py` makes the table of it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from slimlib.common.files import read_json, read_jsonl, write_json
from slimlib.config import Arm, Task, each_arm
from slimlib.data.tokens import split_tokenized
from slimlib.evaluate.harness import evaluate_arm
from slimlib.evaluate.held_out import row_losses
from slimlib.merge.plain import merge_arm
from slimlib.model.load import load_tokenizer, window
from slimlib.model.stored import load_whole
from slimlib.run import Run
from slimlib.studies.get import get_study
from slimlib.train.finetune import finetune_arm

SEARCH = Path(__file__).resolve().parent / "rate" / "search.json"
SEED = 11  # none of the study's
RATES = tuple(1e-3 * 2**k for k in range(6))  # 1e-3 to 3.2e-2
# rows and epochs: the same steps, or so; the last learns of the answers alone, three times as long
STEPS = {
    "400 x 3": {"data.n": 400, "train.num_train_epochs": 3},
    "1,200 x 1": {"data.n": 1200, "train.num_train_epochs": 1},
    "1,200 x 3, answers": {
        "data.n": 1200,
        "train.num_train_epochs": 3,
        "data.learn": "answer",
    },
}
DEV = Task("micro_instructions", "instructions", 0, 50, limit=200, source="instructions_dev")


def search(measure: Callable[[str, float], Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Measure every rate with the first rows and epochs, then the others about the best rate.

    Args:
        measure: of rows and epochs (in STEPS) and a rate; its "loss" decides.
    """
    first, *others = STEPS
    found: dict[tuple[str, float], dict[str, Any]] = {}

    def measured(steps: str, rates: tuple[float, ...]) -> float:
        for rate in rates:
            if (steps, rate) not in found:
                found[steps, rate] = {**measure(steps, rate), "steps": steps, "rate": rate}
        losses = {rate: row["loss"] for (name, rate), row in found.items() if name == steps}
        best = min(losses, key=losses.__getitem__)
        if best in (min(losses), max(losses)):  # of the grid's edge nothing follows
            return measured(steps, (best / 2, best, best * 2))
        return best

    best = measured(first, RATES)
    for steps in others:
        measured(steps, (best / 2, best, best * 2))
    return sorted(
        found.values(), key=lambda row: (row["steps"] != first, row["steps"], row["rate"])
    )


def measure(steps: str, rate: float) -> dict[str, Any]:
    """Fine-tune with a seed of the search's own, and ask the dev instructions alone."""
    values = {"train.learning_rate": rate, "data.append_eos": True, **STEPS[steps]}
    name = get_study("micro").tuned.name
    study = get_study("micro", arms=name, seed=SEED, **values)
    study = each_arm(study, lambda arm: replace(arm, evaluate=replace(arm.evaluate, tasks=(DEV,))))
    with tempfile.TemporaryDirectory() as folder:
        run = Run(study, folder)
        training = finetune_arm(run, name)
        merge_arm(run, name)
        losses = _losses(run, study[name])
        task = evaluate_arm(run, name)["tasks"][DEV.name]
    return {
        "loss": round(float(losses.mean()), 4),
        "error": round(float(losses.std(ddof=1) / np.sqrt(len(losses))), 4),
        "training loss": training["last_loss"],
        "exact": round(100 * task["metrics"]["exact_match,none"]["value"], 1),
    }


def _losses(run: Run, arm: Arm) -> np.ndarray:
    """The loss of each dev instruction in nats per token of its answer, the end among them."""
    model, tokenizer = load_whole(run.model_path(arm.name)), load_tokenizer(arm.model)
    rows = read_jsonl(run.data_folder() / "instructions_dev.jsonl")
    config = replace(arm.data, learn="answer")
    dataset, _, _ = split_tokenized(rows, config, tokenizer, window(arm.model), arm.seed)
    return row_losses(model, dataset, tokenizer.pad_token_id)


def main() -> None:
    """Search; what was measured before, by a search that was cut off, is not measured again."""
    log = read_json(SEARCH) if SEARCH.exists() else []
    known = {(row["steps"], row["rate"]): row for row in log}

    def kept(steps: str, rate: float) -> dict[str, Any]:
        if (steps, rate) not in known:
            known[steps, rate] = {"steps": steps, "rate": rate, **measure(steps, rate)}
            write_json(SEARCH, list(known.values()))
            print(known[steps, rate], flush=True)
        return known[steps, rate]

    SEARCH.parent.mkdir(exist_ok=True)
    write_json(SEARCH, search(kept))


if __name__ == "__main__":
    main()

"""From run folders to the compact records of a grid (their layout: `key_variables.cells`)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from slimlib.common.files import atomic_path, read_jsonl
from slimlib.comparison.benchmarks import headline
from slimlib.config import to_dict
from slimlib.pipeline.sweep import is_done, reason, seed_run
from slimlib.run import Run
from slimlib.studies.design import SHARED, Design, jobs

SCHEMA = 1
KEPT = {  # stage -> what a line keeps of it
    "finetune": ("trainable_parameters", "train_loss", "optimizer_steps", "seconds"),
    "merge": ("logit_check", "seconds"),
    "evaluate": ("seconds",),
}
CHECKED = ("share_of_range", "tolerance", "equal", "top1_agreement")
QUANTISED = ("bits_per_weight", "mse", "entropy_bits")


def write_records(design: Design, root: Path, seeds: Sequence[int], folder: Path) -> list[Path]:
    """Write one file per seed from run folders; cells that are not done get their reason.

    Args:
        design: the grid.
        root: of the runs (see `slimlib.pipeline.sweep`).
        seeds: of the files to write.
        folder: where seed-S.jsonl go.
    """
    asked = jobs(design.study, seeds)
    paths = []
    for seed in seeds:
        run = seed_run(design.study, seed, root)
        cells = [job.cell for job in asked if job.seed == seed]
        done = [cell for cell in cells if is_done(run, cell)]
        records = {cell: run.record(cell) for cell in done}
        head = _header(design, seed, records)
        lines = [
            _line(records[cell], design, head, last_loss(run, cell))
            if cell in records
            else _missing(run, cell)
            for cell in cells
        ]
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in [head, *lines])
        with atomic_path(folder / f"seed-{seed}.jsonl") as temporary:
            temporary.write_text(text, encoding="utf-8")
        paths.append(folder / f"seed-{seed}.jsonl")
    return paths


def _missing(run: Run, cell: str) -> dict[str, str]:
    return {"arm": cell, "missing": reason(run, cell)}


def _header(design: Design, seed: int, records: Mapping[str, Any]) -> dict[str, Any]:
    """What all cells share, from the study's first fine-tuned arm."""
    config = to_dict(design.study.tuned)
    environment = next((record["environment"] for record in records.values()), {})
    return {
        "schema": SCHEMA,
        "study": design.study.name,
        "seed": seed,
        "config": {key: config[key] for key in SHARED},
        "environment": environment,
    }


def last_loss(run: Run, cell: str, steps: int = 10) -> float | None:
    """Mean training loss of the last steps, nats per token; within one epoch, on unseen rows."""
    log = run.arm_folder(cell) / "log.jsonl"
    rows = read_jsonl(log) if log.exists() else []
    last = [row["loss"] for row in rows if row["step"] > rows[-1]["step"] - steps]
    return round(float(np.mean(last)), 6) if last else None


def _line(
    record: Mapping[str, Any], design: Design, head: Mapping[str, Any], loss: float | None
) -> dict[str, Any]:
    """One cell."""
    config, cell = record["config"], record["arm"]
    stages = record["stages"]
    kept = {
        stage: {key: stages[stage][key] for key in keys if key in stages[stage]}
        for stage, keys in KEPT.items()
        if stage in stages
    }
    if "merge" in kept:
        check = kept["merge"]["logit_check"]
        kept["merge"]["logit_check"] = {key: check[key] for key in CHECKED}
    tasks = stages["evaluate"]["tasks"]
    return {
        "arm": cell,
        "experiments": list(design.experiments_of(cell)),
        "compared_with": record["compared_with"],
        "config": {k: d for k in SHARED if (d := _differing(head["config"][k], config[k]))},
        **kept,
        "last_loss": loss,
        "quantisation": quantisation(stages),
        "tasks": {name: _scores(task) for name, task in tasks.items()},
    }


def quantisation(stages: Mapping[str, Any]) -> dict[str, float] | None:
    """Bits per weight, error and entropy of the quantised modules; None where none was."""
    for stage in ("merge", "finetune"):
        found = stages.get(stage, {}).get("quantisation")
        if found:
            return {key: float(f"{found[key]:.6g}") for key in QUANTISED if key in found}
    return None


def _differing(shared: Any, own: Any) -> Any:
    """The part of a setting that is not the shared one; "none" where an untuned model has none."""
    if isinstance(shared, dict) and isinstance(own, dict):
        return {key: value for key, value in own.items() if shared.get(key) != value}
    return None if shared == own else own or "none"


def _scores(task: Mapping[str, Any]) -> dict[str, Any]:
    name = headline(task["role"], task["metrics"])
    metric = task["metrics"][name]
    return {
        "role": task["role"],
        "metric": name,
        "value": round(metric["value"], 6),
        "n": task["n"],
        "documents": task["documents"],
        "num_fewshot": task["num_fewshot"],
        "version": task["version"],
        "bits": pack(metric["scores"]),
    }


def pack(scores: Sequence[float]) -> str:
    """Right and wrong as hexadecimal digits, the first document highest; the end filled with 0.

    Example: 1, 0, 1, 1, 1 -> "b8".

    Raises:
        ValueError: a score other than 0 and 1.
    """
    if any(score not in (0, 1) for score in scores):
        raise ValueError("a grid's scores must be 0 or 1 for each document")
    bits = "".join(str(int(score)) for score in scores)
    bits += "0" * (-len(bits) % 4)
    return "".join(f"{int(bits[i : i + 4], 2):x}" for i in range(0, len(bits), 4))

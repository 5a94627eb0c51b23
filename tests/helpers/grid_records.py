"""Records of a whole grid, drawn at random around a score per cell, and a cell's work for show."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from slimlib.common.files import write_json
from slimlib.config import to_dict
from slimlib.pipeline.grid_records import pack
from slimlib.studies.design import SHARED, Job, jobs
from slimlib.studies.get import get_design

DOCUMENTS = 40


def draw(
    folder: Path,
    score: Callable[[str], float] = lambda cell: 0.5,
    runs_sd: float = 0.0,
    missing: dict[Job, str] | None = None,
    seeds: tuple[int, ...] = (1, 2, 3),
    rng: int = 0,
) -> Path:
    """Write seed-S.jsonl; `score`: share of right answers by cell, `runs_sd`: spread of runs."""
    design = get_design("key_variables_micro")
    generator = np.random.default_rng(rng)
    missing, whole = missing or {}, to_dict(design.study.tuned)
    head = {"schema": 1, "study": design.study.name, "environment": {}}
    head["config"] = {key: whole[key] for key in SHARED}
    folder.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        lines = [head | {"seed": seed}]
        for job in jobs(design.study, seeds):
            if job.seed == seed and job in missing:
                lines.append({"arm": job.cell, "missing": missing[job]})
            elif job.seed == seed:
                share = score(job.cell) + generator.normal(0, runs_sd)
                lines.append(_line(design, job.cell, share, generator))
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / f"seed-{seed}.jsonl").write_text(text, encoding="utf-8")
    return folder


def _line(design, cell, share, generator):
    arm, tuned = design.study[cell], to_dict(design.study.tuned)
    asked = to_dict(arm)
    config = {}
    for key in SHARED:
        if asked[key] is None:
            config[key] = "none"
        elif asked[key] != tuned[key]:
            config[key] = {k: v for k, v in asked[key].items() if v != tuned[key][k]}
    tasks = {}
    for task in arm.evaluate.tasks:
        right = (generator.random(DOCUMENTS) < share).astype(int).tolist()
        about = {"role": task.role, "num_fewshot": task.num_fewshot, "version": 1.0}
        about |= {"metric": "acc,none", "n": DOCUMENTS, "documents": task.name}
        tasks[task.name] = about | {"value": float(np.mean(right)), "bits": pack(right)}
    trained = {"trainable_parameters": 1000} if arm.trains else {}
    return {
        "arm": cell,
        "experiments": list(design.experiments_of(cell)),
        "compared_with": arm.compared_with,
        "config": config,
        "finetune": trained,
        "last_loss": round(2 + generator.normal(0, 0.1), 4) if arm.trains else None,
        "quantisation": {"bits_per_weight": 4.127},
        "tasks": tasks,
    }


def pretend(run, cell, keep_weights):
    """What a worker does in the tests of the sweep: `base` is done, others fail in three ways."""
    if cell == "base-icq-64":
        raise ValueError("no such quantiser")
    if cell == "base-int4-32":
        raise TypeError("a mistake in the code")  # nothing that a worker expects
    if cell == "base-tiles-32":
        os._exit(9)  # as when memory runs out
    print(f"pretending {cell}, {os.environ['OMP_NUM_THREADS']} threads", flush=True)
    stages = {s: {"settings": run.settings(cell, s), "status": "done"} for s in run.stages(cell)}
    write_json(run.arm_folder(cell) / "record.json", run.record(cell) | {"stages": stages})

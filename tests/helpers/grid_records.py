"""Records of a whole grid, drawn at random around a score per cell, and a cell's work for show."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from slimlib.common.files import write_json, write_jsonl
from slimlib.common.schema import SCHEMA, pack_scores
from slimlib.config import to_dict
from slimlib.studies.design import Job, jobs
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
    """Write seed-S.jsonl.gz; `score`: share of right answers by cell, `runs_sd`: spread of runs."""
    design = get_design("key_variables_micro")
    generator, missing = np.random.default_rng(rng), missing or {}
    for seed in seeds:
        records = []
        for job in jobs(design.study, seeds):
            if job.seed == seed and job in missing:
                failed = {"stages": {}, "failed": missing[job]}
                records.append(_empty(design.study, job) | failed)
            elif job.seed == seed:
                share = score(job.cell) + generator.normal(0, runs_sd)
                records.append(_record(design.study, job, share, generator))
        write_jsonl(folder / f"seed-{seed}.jsonl.gz", records)
    return folder


def _empty(study, job):
    arm = study[job.cell]
    about = {"schema": SCHEMA, "study": study.name, "arm": job.cell, "label": arm.label}
    about |= {"compared_with": arm.compared_with, "seed": job.seed, "config": to_dict(arm)}
    return about | {"environment": {}}


def _record(study, job, share, generator):
    arm, tasks, stages = study[job.cell], {}, {}
    for task in arm.evaluate.tasks:
        right = (generator.random(DOCUMENTS) < share).astype(int).tolist()
        entry = task_entry(task, right, documents=task.name)
        tasks[task.name] = entry
    if arm.trains:
        loss = round(2 + generator.normal(0, 0.1), 4)
        stages["finetune"] = {"status": "done", "trainable_parameters": 1000, "last_loss": loss}
    if arm.writes_weights:
        stages["merge"] = {"status": "done", "quantisation": {"bits_per_weight": 4.127}}
    stages["evaluate"] = {"status": "done", "tasks": tasks}
    return _empty(study, job) | {"stages": stages}


def task_entry(task, scores, documents):
    """What a record keeps of one task, of one metric."""
    metric = {"value": float(np.mean(scores)), "stderr": 0.1, "scores": pack_scores(scores)}
    about = {"role": task.role, "task": task.name, "version": 1.0}
    about |= {"num_fewshot": task.num_fewshot, "n": len(scores), "documents": documents}
    return about | {"truncated": 0, "metrics": {"acc,none": metric}}


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

"""Records made up for tests: scores that are correlated between arms, as real ones are."""

import math

import numpy as np

from slimlib.common.schema import SCHEMA, pack_scores
from slimlib.comparison.benchmarks import BENCHMARKS
from slimlib.config import to_dict
from slimlib.studies.alignment import CELLS
from slimlib.studies.get import get_study

MICRO = get_study("micro")
N = 200
ACCURACY = {  # arm -> gsm8k, hellaswag, mmlu_cs
    "llama-instruct": (0.92, 0.80, 0.62),
    "llama-base": (0.71, 0.83, 0.66),
    "llama-base-nf4": (0.70, 0.82, 0.65),
    "llama-2k": (0.16, 0.70, 0.60),
    "llama-2k-requantised": (0.30, 0.74, 0.61),
    "llama-500-r8": (0.33, 0.75, 0.62),
    "tinyllama-base": (0.21, 0.61, 0.40),
    "tinyllama-50k": (0.02, 0.55, 0.38),
}
ROLES = ("gsm8k", "hellaswag", "mmlu_cs")


def task_entry(role: str, scores: list[int]) -> dict:
    result = {
        "value": float(np.mean(scores)),
        "stderr": float(np.std(scores, ddof=1) / math.sqrt(len(scores))),
        "scores": pack_scores(scores),
    }
    return {
        "role": role,
        "task": f"task_of_{role}",
        "version": 1.0,
        "num_fewshot": 0,
        "n": len(scores),
        "documents": f"{role}, {len(scores)} documents",
        "truncated": 0,
        "metrics": {metric: result for metric in BENCHMARKS[role].metrics},
    }


def make_record(arm: str, study=MICRO, seed: int = 0, n: int = N, roles=ROLES) -> dict:
    """A record with scores that are correlated between arms, as real ones are."""
    config = study[arm]
    tasks = {}
    for position, role in enumerate(roles):
        shared = np.random.default_rng(position).random(n)
        own = np.random.default_rng([position, seed, len(arm)]).random(n)
        right = 0.8 * shared + 0.2 * own < ACCURACY[arm][position]
        tasks[f"task_of_{role}"] = task_entry(role, right.astype(int).tolist())
    stages = {"evaluate": {"status": "done", "tasks": tasks}}
    if config.trains:
        stages["finetune"] = {"status": "done", "parameters": 1_815_744, "rows": config.data.n}
    return {
        "schema": SCHEMA,
        "study": study.name,
        "arm": arm,
        "label": config.label,
        "compared_with": config.compared_with,
        "seed": seed,
        "config": to_dict(config),
        "stages": stages,
    }


def make_rehearsed(arm: str, seed: int, n: int = 100) -> dict:
    """A record of the study `alignment`: maths is right in 40 %, in 70 % where it was rehearsed.

    Nothing else depends on the arm; each seed adds 1 %.
    """
    study = get_study("alignment")
    config = study[arm]
    right = {"gsm8k": 0.7 if "maths" in CELLS.get(arm, ()) else 0.4}
    right |= {"hellaswag": 0.5, "mmlu_cs": 0.6, "instructions": 0.3}
    tasks = {
        f"task_of_{role}": task_entry(role, [int(i < round(n * share) + seed) for i in range(n)])
        for role, share in right.items()
    }
    return {
        "schema": SCHEMA,
        "study": study.name,
        "arm": arm,
        "label": config.label,
        "compared_with": config.compared_with,
        "seed": seed,
        "config": to_dict(config),
        "stages": {"evaluate": {"status": "done", "tasks": tasks}},
    }


def set_scores(record: dict, role: str, scores: list[int]) -> dict:
    record["stages"]["evaluate"]["tasks"][f"task_of_{role}"] = task_entry(role, scores)
    return record

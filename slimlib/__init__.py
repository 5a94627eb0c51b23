"""slimlib: fine-tune a small LLM on a free GPU, and find out whether it lost its mind.

    import slimlib
    study = slimlib.get_study("auto")
    run = slimlib.Run(study)
    slimlib.finetune_arm(run, "llama-2k")
    slimlib.merge_arm(run, "llama-2k")
    slimlib.evaluate_arm(run, "llama-2k")

    slimlib.compare("results-before/", "results-after/")  # of lm-eval, whoever made them
    slimlib.attribute(study, run.records())  # which step lost it

Importing slimlib loads no torch: names are looked up when they are first used.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "get_study": "studies.get",
    "Study": "config",
    "Arm": "config",
    "ModelConfig": "config",
    "AdapterConfig": "config",
    "Rule": "config",
    "open_run": "pipeline.study",
    "Run": "run",
    "find_device": "common.hardware",
    "preflight": "pipeline.preflight",
    "load_rows": "data.rows",
    "mix_datasets": "data.rows",
    "load_model": "model.load",
    "compile_plan": "methods.plan",
    "count_parameters": "methods.shapes",
    "equal_cut": "methods.shapes",
    "attach": "adapters.layers",
    "trainables_to_float32": "adapters.layers",
    "save_adapter": "adapters.saving",
    "load_adapter": "adapters.saving",
    "finetune_arm": "train",
    "merge_arm": "merge.plain",
    "evaluate_arm": "evaluate.harness",
    "evaluate_model": "evaluate.harness",
    "SlimLM": "evaluate.scoring",
    "read_results": "results",
    "align_samples": "results",
    "compare": "comparison.two_models",
    "flips": "comparison.answers",
    "format_or_ability": "comparison.answers",
    "attribute": "comparison.ladder",
}
__all__ = list(_HOME)
_ROOMS = (
    *("common", "config", "methods", "studies"),
    *("data", "adapters", "model", "run", "train", "merge", "evaluate"),
    *("metrics", "results", "comparison", "papers", "report"),
    *("pipeline", "cli"),
)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"slimlib.{_HOME[name]}"), name)
    if name in _ROOMS:
        return importlib.import_module(f"slimlib.{name}")
    raise AttributeError(f"module 'slimlib' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, *_ROOMS]

"""slimlib: fine-tune a small LLM on a free GPU, and find out whether it lost its mind.

    import slimlib
    study = slimlib.get_study("auto")
    run = slimlib.Run(study)
    slimlib.finetune_arm(run, "llama-2k")
    slimlib.merge_arm(run, "llama-2k")
    slimlib.evaluate_arm(run, "llama-2k")

    slimlib.compare("results-before/", "results-after/")  # of lm-eval, whoever made them
    slimlib.attribute(run)  # which step lost it

Importing slimlib loads no torch: names are looked up when they are first used.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "AdapterConfig": "config",
    "ModelConfig": "config",
    "Rule": "config",
    "RunConfig": "config",
    "Study": "config",
    "get_study": "config",
    "Run": "runs",
    "open_run": "runs",
    "find_device": "hardware",
    "preflight": "hardware",
    "load_rows": "data",
    "mix_datasets": "data",
    "load_model": "model",
    "attach": "adapters",
    "merge_arm": "adapters",
    "load_adapter": "adapters",
    "save_adapter": "adapters",
    "trainables_to_float32": "adapters",
    "compile_plan": "adapters",
    "count_parameters": "shapes",
    "equal_cut": "shapes",
    "finetune_arm": "train",
    "evaluate_arm": "evaluate",
    "evaluate_model": "evaluate",
    "read_results": "results",
    "align_samples": "results",
    "compare": "comparison",
    "flips": "answers",
    "format_or_ability": "answers",
    "attribute": "attribution",
}
__all__ = list(_HOME)
_MODULES = (
    *("adapters", "answers", "audit", "diagram", "metrics", "paper", "plots", "quantise", "report"),
    *("results", "scoring", "shapes", "summaries", "variables"),
)


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"slimlib.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'slimlib' has no attribute {name!r}")
    return getattr(importlib.import_module(f"slimlib.{_HOME[name]}"), name)

"""Paper B's study of the key variables: its records, tables, figures and claims.

    from slimlib.papers import key_variables
    grid = key_variables.read_grid("figures/records/key_variables_micro")
    key_variables.experiment_table(grid, "E1")
    key_variables.plot_experiment(grid, "Figure 2")
    key_variables.judge_claims(grid)

The experiments are data in `slimlib.studies`, `slimlib.pipeline.sweep` runs every cell; tables,
plots and claims are made from records alone.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "read_grid": "cells",
    "experiment_table": "article_tables",
    "paper_tables": "article_tables",
    "plot_experiment": "article_plots",
    "plot_tradeoff": "article_plots",
    "judge_claims": "claims",
}
__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'slimlib.papers.key_variables' has no attribute {name!r}")
    return getattr(importlib.import_module(f"slimlib.papers.key_variables.{_HOME[name]}"), name)

"""The study of the key variables: its grid, the sweep that runs it, its records, tables and claims.

    from slimlib import variables
    grid = variables.read_grid("figures/records/key_variables_micro")
    variables.experiment_table(grid, "E1")
    variables.plot_experiment(grid, "Figure 2")
    variables.judge_claims(grid)

`design` and `grid` have the experiments as data, `presets` the two studies, `sweep` runs every
cell, `writing` and `records` keep them; tables, plots and claims are made from records alone.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "get_design": "presets",
    "sweep_grid": "sweep",
    "run_cell": "sweep",
    "seed_run": "sweep",
    "write_records": "writing",
    "read_grid": "records",
    "experiment_table": "tables",
    "paper_tables": "tables",
    "plot_experiment": "plots",
    "judge_claims": "claims",
}
__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'slimlib.variables' has no attribute {name!r}")
    return getattr(importlib.import_module(f"slimlib.variables.{_HOME[name]}"), name)

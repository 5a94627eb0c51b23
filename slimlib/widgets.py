"""ipywidgets that only choose arguments of functions which work without them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from slimlib.attribution import attribution_of
from slimlib.config import Study
from slimlib.plots import plot_scores, plot_waterfall


def explore(records: Sequence[dict[str, Any]], study: Study) -> Any:
    """Choose a benchmark and a view; without ipywidgets, the scores of the first benchmark."""
    labels = {label: role for role, label in study.task_labels.items()}
    try:
        from ipywidgets import interactive
    except ImportError:
        return plot_scores(records, study, next(iter(labels.values())))
    from matplotlib import pyplot as plt

    views = {
        "scores": partial(plot_scores, records, study),
        "waterfall": partial(plot_waterfall, attribution_of(records, study)),
    }

    def show(benchmark: str, view: str) -> None:
        views[view](labels[benchmark])
        plt.show()

    return interactive(show, benchmark=list(labels), view=list(views))

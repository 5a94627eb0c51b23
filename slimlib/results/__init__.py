"""Results of evaluations: read them from anywhere, and make a record's part of them. No torch.

The data structures are in `slimlib.results.types`; the layouts in `slimlib.results.lm_eval`,
`slimlib.results.read`, `slimlib.results.samples` and `slimlib.results.record`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from slimlib.evaluate.harness import task_entry
from slimlib.results.align import align_samples
from slimlib.results.read import read_mapping, read_path
from slimlib.results.seeds import mean_over_seeds
from slimlib.results.types import (
    Alignment,
    Pair,
    Results,
    ResultsError,
    Samples,
    Score,
    Source,
    TaskResults,
)

__all__ = [
    "Alignment",
    "Pair",
    "Results",
    "ResultsError",
    "Samples",
    "Score",
    "Source",
    "TaskResults",
    "align_samples",
    "mean_over_seeds",
    "read_results",
    "task_entry",
]


def read_results(source: Source) -> Results:
    """Read evaluation results, whoever made them.

    Args:
        source: a results JSON of lm-eval 0.3 to 0.4.13; a folder that its --output_path wrote, with
            the models' sub-folders or without; a slimlib arm's folder or record; or the mapping
            that `lm_eval.simple_evaluate` returned. Results are returned as they are.

    Returns:
        the model's tasks, with every document's score where samples lie beside (--log_samples).

    Example:

        slimlib.read_results("results-after/").table()

    Raises:
        ResultsError: nothing is there, or it is cut off, contradictory, of several models or of
            another tool; names the file and the way out.
    """
    if isinstance(source, Results):
        return source
    return read_mapping(source) if isinstance(source, Mapping) else read_path(Path(source))

"""Results of evaluations, read from anywhere into one shape, paired and averaged. No torch.

The data structures are in `slimlib.results.types`; the layouts in `slimlib.results.lm_eval`,
`slimlib.results.read`, `slimlib.results.samples` and `slimlib.results.record`.
"""

from slimlib.results.align import align_samples
from slimlib.results.read import read_results
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
]

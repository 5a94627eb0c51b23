"""The paper's formulas, and the statistics that say whether a change is real, as pure functions.

`formulas` has the paper's measures; `paired` and `power` the tests and intervals on the scores of
two models on the same documents; `unpaired` one accuracy, two accuracies from aggregates alone, and
Holm's correction. Accuracies, measures and intervals are in per cent or points (0 to 100),
per-document scores arrays in 0 to 1. Arguments always come as base, then tuned.
"""

from slimlib.metrics.formulas import (
    Z95,
    Estimate,
    delta_a,
    delta_k,
    forgetting_rate,
    standard_error,
)
from slimlib.metrics.paired import (
    McNemarTest,
    PairedTTest,
    forgetting_interval,
    mcnemar_test,
    newcombe_interval,
    paired_difference,
    paired_t_test,
    t_interval,
)
from slimlib.metrics.power import equivalence_test, minimum_detectable_difference
from slimlib.metrics.scores import is_binary
from slimlib.metrics.unpaired import (
    ZTest,
    holm,
    unpaired_difference,
    unpaired_equivalence_test,
    unpaired_forgetting_interval,
    unpaired_minimum_detectable_difference,
    unpaired_z_test,
    wilson_interval,
)

__all__ = [
    "Z95",
    "Estimate",
    "McNemarTest",
    "PairedTTest",
    "ZTest",
    "delta_a",
    "delta_k",
    "equivalence_test",
    "forgetting_interval",
    "forgetting_rate",
    "holm",
    "is_binary",
    "mcnemar_test",
    "minimum_detectable_difference",
    "newcombe_interval",
    "paired_difference",
    "paired_t_test",
    "standard_error",
    "t_interval",
    "unpaired_difference",
    "unpaired_equivalence_test",
    "unpaired_forgetting_interval",
    "unpaired_minimum_detectable_difference",
    "unpaired_z_test",
    "wilson_interval",
]

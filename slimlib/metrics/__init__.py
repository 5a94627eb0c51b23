"""The paper's formulas, and the statistics that say whether a change is real, as pure functions.

`formulas` has the paper's measures; `paired` and `power` the tests and intervals on the scores of
two models on the same documents, by `two_by_two` where these are right or wrong; `over_seeds` those
of means over seeds; `clustering` documents that belong together; `unpaired` one accuracy, two
accuracies from aggregates alone, and Holm's correction. Accuracies, measures and intervals are in
per cent or points (0 to 100), per-document scores arrays in 0 to 1. Arguments always come as base,
then tuned.
"""

from slimlib.metrics.clustering import clustered
from slimlib.metrics.formulas import (
    Z95,
    Estimate,
    delta_a,
    delta_k,
    forgetting_rate,
    standard_error,
)
from slimlib.metrics.over_seeds import (
    Spread,
    cochran_cox,
    cochran_cox_detectable,
    cochran_cox_equivalence,
    cochran_cox_p,
    forgetting_over_seeds,
)
from slimlib.metrics.paired import (
    McNemarTest,
    PairedTTest,
    forgetting_interval,
    mcnemar_test,
    paired_difference,
    paired_t_test,
    t_interval,
)
from slimlib.metrics.power import (
    can_show_kept,
    equivalence_test,
    minimum_detectable_difference,
)
from slimlib.metrics.scores import is_binary
from slimlib.metrics.two_by_two import Flips
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
    "Flips",
    "McNemarTest",
    "PairedTTest",
    "Spread",
    "ZTest",
    "can_show_kept",
    "clustered",
    "cochran_cox",
    "cochran_cox_detectable",
    "cochran_cox_equivalence",
    "cochran_cox_p",
    "delta_a",
    "delta_k",
    "equivalence_test",
    "forgetting_interval",
    "forgetting_over_seeds",
    "forgetting_rate",
    "holm",
    "is_binary",
    "mcnemar_test",
    "minimum_detectable_difference",
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

"""QLoRA explained: pictures and sentences, each computed from numbers by a public function.

Nothing here needs torch. Notebook 00 walks through it; `slimlib.choose` puts sliders to it.
"""

from slimlib.explain.codebook import bits_per_weight, block_sizes, nf4, nf4_levels, quantise
from slimlib.explain.formats import MODELS, model_size, precision, size_gb, store, to_format
from slimlib.explain.rank import change_rank, intrinsic_dimension, rebuild, rebuild_matrix
from slimlib.explain.t4 import kept_in_training, on_a_t4
from slimlib.explain.transformer import attention, block, four_ways, ways
from slimlib.explain.updates import TARGETS, forward, lora_matrix, lora_models, lost_in_merge, merge
from slimlib.explain.weights import read_weight

__all__ = [
    "MODELS",
    "TARGETS",
    "attention",
    "bits_per_weight",
    "block",
    "block_sizes",
    "change_rank",
    "forward",
    "four_ways",
    "intrinsic_dimension",
    "kept_in_training",
    "lora_matrix",
    "lora_models",
    "lost_in_merge",
    "merge",
    "model_size",
    "nf4",
    "nf4_levels",
    "on_a_t4",
    "precision",
    "quantise",
    "read_weight",
    "rebuild",
    "rebuild_matrix",
    "size_gb",
    "store",
    "to_format",
    "ways",
]

"""Adapters: the five methods, the plan of who gets what, attaching, saving and merging.

plan = compile_plan(linear_shapes(model), AdapterConfig(method="q-bara", r=16))
model = attach(model, config, seed=0, max_seq_length=1024)
save_adapter(model, folder); load_adapter(base, folder)
"""

from slimlib.adapters.attach import attach, trainables_to_float32
from slimlib.adapters.inside import adapter_cores, load_inside, merge_inside, merge_model_inside
from slimlib.adapters.merge import compare_logits, free_memory, merge_arm, write_merged
from slimlib.adapters.methods import METHODS
from slimlib.adapters.plan import Entry, Plan, compile_plan
from slimlib.adapters.saving import export_plain, load_adapter, save_adapter

__all__ = [
    "METHODS",
    "Entry",
    "Plan",
    "adapter_cores",
    "attach",
    "compare_logits",
    "compile_plan",
    "export_plain",
    "free_memory",
    "load_adapter",
    "load_inside",
    "merge_arm",
    "merge_inside",
    "merge_model_inside",
    "save_adapter",
    "trainables_to_float32",
    "write_merged",
]

"""Adapters: the five methods, the plan of who gets what, attaching, saving and merging.

plan = compile_plan(linear_shapes(model), AdapterConfig(method="q-bara", r=16))
model = attach(model, config, seed=0, max_seq_length=1024)
save_adapter(model, folder); load_adapter(base, folder)
"""

from slimlib.adapters.attach import attach, trainables_to_float32
from slimlib.adapters.merge import compare_logits, free_memory, merge_arm, write_merged
from slimlib.adapters.methods import METHODS
from slimlib.adapters.plan import Entry, Plan, compile_plan
from slimlib.adapters.saving import export_plain, load_adapter, save_adapter

__all__ = [
    "METHODS",
    "Entry",
    "Plan",
    "attach",
    "compare_logits",
    "compile_plan",
    "export_plain",
    "free_memory",
    "load_adapter",
    "merge_arm",
    "save_adapter",
    "trainables_to_float32",
    "write_merged",
]

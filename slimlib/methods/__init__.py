"""What the five methods are, without torch: their entries, plans, shapes and counts."""

from slimlib.methods.definitions import METHODS, NF4_BITS, Entry
from slimlib.methods.plan import Plan, compile_plan
from slimlib.methods.shapes import count_parameters, equal_cut

__all__ = ["METHODS", "NF4_BITS", "Entry", "Plan", "compile_plan", "count_parameters", "equal_cut"]

"""Numbers as text, one way everywhere: scores, p-values, intervals."""

from __future__ import annotations

import math

from slimlib.metrics import Estimate


def number(value: float | None, digits: int = 2, sign: str = "") -> str:
    """A number for a table: "-" where it is not known, "undefined" where it does not exist."""
    if value is None:
        return "-"
    if math.isnan(value):
        return "undefined"
    if math.isinf(value):
        return "unbounded"
    return f"{round(value, digits) + 0.0:{sign}.{digits}f}"  # + 0.0 turns -0.0 into 0.0


def p_text(p: float | None) -> str:
    """A p-value for a sentence: "p = 0.060", "p < 0.001", "p unknown" without a test."""
    if p is None:
        return "p unknown"
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def p_cell(p: float | None) -> str:
    """A p-value for a table: "0.060", "< 0.001", "-" without a test."""
    return "-" if p is None else p_text(p).removeprefix("p ").removeprefix("= ")


def interval(estimate: Estimate, sign: str = "", digits: int = 2) -> str:
    """Limits for a table, as [-0.55, 26.55]; "-" where they are not known."""
    if math.isnan(estimate.low):
        return "-"
    return f"[{number(estimate.low, digits, sign)}, {number(estimate.high, digits, sign)}]"

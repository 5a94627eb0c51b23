"""What became of the answers: how much of a loss is lost format, and how much is lost ability.

Works on the per-document rows of lm-evaluation-harness; needs neither a tokenizer nor torch. The
rest of the subject is looked up from here: `check_equations`, `classify`, `answer_table`, `flips`.
"""

from __future__ import annotations

from slimlib.comparison.answers.compared import Answers, compared_answers, without_answers
from slimlib.comparison.answers.equations import Equations, check_equations
from slimlib.comparison.answers.flips import flips
from slimlib.comparison.answers.kinds import (
    CATEGORIES,
    KINDS,
    REASONS,
    answer_table,
    classify,
    has_answers,
    ran_on,
)
from slimlib.comparison.answers.outcome import FormatOrAbility, format_or_ability
from slimlib.comparison.answers.side_by_side import show_flips

__all__ = [
    "CATEGORIES",
    "KINDS",
    "REASONS",
    "Answers",
    "Equations",
    "FormatOrAbility",
    "answer_table",
    "check_equations",
    "classify",
    "compared_answers",
    "flips",
    "format_or_ability",
    "has_answers",
    "ran_on",
    "show_flips",
    "without_answers",
]

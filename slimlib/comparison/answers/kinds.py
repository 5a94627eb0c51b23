"""Kinds of generated answers with GSM8K's two filters: right, lost format, empty, rambling, wrong.

Strict-match wants "#### n", flexible-extract takes the last number; what both miss is compared by
value (`answers.final`), then sorted by the text alone, without a tokenizer.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from slimlib.comparison.answers.documents import (
    gold_of,
    length_limit,
    question_of,
    right_documents,
    rows_by_document,
    text_of,
)
from slimlib.comparison.answers.equations import Equations, check_equations
from slimlib.comparison.answers.final import is_right_number
from slimlib.comparison.answers.slips import WHOLE_NUMBER
from slimlib.metrics import is_binary
from slimlib.results.types import TaskResults

if TYPE_CHECKING:
    import pandas as pd

STRICT_FILTER, FLEXIBLE_FILTER, METRIC = "strict-match", "flexible-extract", "exact_match"
RIGHT_NUMBER = "right number, lost format"
# The seven categories of `classify`, in its order of precedence ...
CATEGORIES = ("right", "format", RIGHT_NUMBER, "empty", "rambling", "no answer line", "wrong")
# ... and as a loss is explained, best to worst: "right" apart from what only strict-match takes for
# right (another number follows "#### n"), "wrong" taken apart by the equations.
RAN_ON = "right, then ran on"
ARITHMETIC, REASONING, UNSHOWN = "wrong arithmetic", "wrong reasoning", "wrong, no equations"
WRONG = (ARITHMETIC, REASONING, UNSHOWN)
REASONS = ("format", RIGHT_NUMBER, *WRONG, "no answer line", "rambling", "empty")
KINDS = ("right", RAN_ON, *REASONS)

COLUMNS = (
    *("doc_id", "category", "kind", "strict", "flexible", "equations_right", "equations_wrong"),
    *("question", "answer", "gold"),
)
MAX_GEN_TOKS = 256  # lm-eval's, where a task does not set it
_ANSWER_LINE = re.compile(r"####[ \t]*-?[ \t]*\$?[ \t]*-?[.,]?\d")
_PIECE = re.compile(r"[^\W\d_]+|\d{1,3}|[^\w\s]+|_+")
_ENDED = re.compile(r"[.!?)\]\"'%\d\u2019\u201d]$")
LONG, HALF_WAY = 0.9, 1 / 3  # of the length limit
LOOP_TIMES, LOOP_CHARACTERS = 3, 24


def classify(
    answer: str,
    strict: bool,
    flexible: bool,
    max_gen_toks: int | None = None,
    gold: str = "",
    question: str = "",
) -> str:
    """Sort a generated answer into one of seven categories; the first that fits.

    - "right": strict-match found the right number.
    - "format": only flexible-extract found it: the ability is there, the format is lost.
    - "right number, lost format": neither did, but the final statement gives the right number in
      another form ("$64.00", "twelve", "pays $64 for the 16 glasses": see `final_numbers`).
    - "empty": nothing but white space.
    - "rambling": no "#### n", and it seems to have run into the length limit (an estimate: see
      `ran_on`).
    - "no answer line": no "#### n", but it ended.
    - "wrong": it gave "#### n" with a wrong n, or, where the right answer has no such line, nothing
      but a wrong number.

    Args:
        answer: as generated.
        strict: whether strict-match scored it right.
        flexible: whether flexible-extract scored it right.
        max_gen_toks: length limit in tokens; None: 256, lm-eval's default.
        gold: the right answer; "": not known, so no answer is compared by value.
        question: what was asked.

    Example: ("She has 18.", False, True) -> "format"; ("#### 17", False, False) -> "wrong".
    """
    if strict:
        return "right"
    if flexible:
        return "format"
    if is_right_number(answer, gold, question):
        return RIGHT_NUMBER
    if not answer.strip():
        return "empty"
    bare = gold and not _ANSWER_LINE.search(gold) and WHOLE_NUMBER.fullmatch(answer.strip())
    if _ANSWER_LINE.search(answer) or bare:
        return "wrong"
    return "rambling" if ran_on(answer, max_gen_toks) else "no answer line"


def ran_on(answer: str, max_gen_toks: int | None = None) -> bool:
    """Estimate, without the tokenizer, whether an answer ran on until it was cut off.

    It did if any of these holds:
    - it ends in a loop: 3 or more repeats of one text, 24 or more characters in all;
    - its tokens, as estimated, are at least 9/10 of the limit;
    - they are at least 1/3 of the limit, and it breaks off: its last character is no full stop,
      question or exclamation mark, closing bracket or quote, % or digit.
    The estimate is the larger of two: a token seldom spans more than one word, three digits or one
    run of signs, and English text has about four bytes per token. It is low for a small vocabulary,
    hence the third rule. The rule was made on the micro study (three seeds, limit 48) and is not
    measured elsewhere: there it finds 94 % of the 1,097 answers without "####" whose tokens reach
    the limit, and takes none of the 14 that ended for one.
    """
    limit = max_gen_toks or MAX_GEN_TOKS
    text = answer.strip()
    tokens = max(len(_PIECE.findall(text)), len(text.encode("utf-8", "replace")) / 4)
    breaks_off = not _ENDED.search(text) and tokens >= HALF_WAY * limit
    return tokens >= LONG * limit or breaks_off or _loops(text)


def _loops(text: str) -> bool:
    """Whether a text ends in LOOP_TIMES repeats, by the failure function of the reversed text."""
    backwards = text[::-1]
    borders = [0] * len(backwards)
    border = 0
    for i in range(1, len(backwards)):
        while border and backwards[i] != backwards[border]:
            border = borders[border - 1]
        border += backwards[i] == backwards[border]
        borders[i] = border
        period = i + 1 - border
        if i + 1 >= max(LOOP_TIMES * period, LOOP_CHARACTERS):
            return True
    return False


def has_answers(task: TaskResults) -> bool:
    """Whether `answer_table` can read a task: rows, and GSM8K's two filters scoring 0 or 1."""
    if task.load_rows is None:
        return False
    kinds = [task.samples.get(kind) for kind in (STRICT_FILTER, FLEXIBLE_FILTER)]
    return all(
        samples is not None and METRIC in samples.scores and is_binary(samples.scores[METRIC])
        for samples in kinds
    )


def answer_table(task: TaskResults) -> pd.DataFrame:
    """Sort every answer of a task with GSM8K's two filters.

    Returns:
        One row per document, in document order: doc_id, category (see `classify`), kind (one of
        KINDS: "right" and "wrong" taken apart), strict and flexible (bool), equations_right,
        equations_wrong (counts), question, answer, gold (texts).

    Raises:
        ValueError: no such filters, no per-document rows, or scores other than 0 and 1.
    """
    import pandas as pd

    strict, flexible = (
        right_documents(task, kind, METRIC) for kind in (STRICT_FILTER, FLEXIBLE_FILTER)
    )
    rows = rows_by_document(task)
    for doc_id in strict:
        if doc_id not in rows or doc_id not in flexible:
            lacks = "a row" if doc_id not in rows else f"a score of {FLEXIBLE_FILTER}"
            raise ValueError(f"{task.task}: document {doc_id} lacks {lacks}; evaluate it again")
    table = [_answer(i, rows[i], right, flexible[i]) for i, right in strict.items()]
    return pd.DataFrame(table, columns=list(COLUMNS))


def _answer(doc_id: Any, row: dict[str, Any], strict: bool, flexible: bool) -> tuple[Any, ...]:
    text = text_of(row)
    question, gold = question_of(row), gold_of(row)
    category = classify(text, strict, flexible, length_limit(row), gold, question)
    equations = check_equations(text)
    kind = _kind(category, flexible, equations)
    return doc_id, category, kind, strict, flexible, *equations, question, text, gold


def _kind(category: str, flexible: bool, equations: Equations) -> str:
    if category == "right" and not flexible:
        return RAN_ON
    if category != "wrong":
        return category
    if equations.wrong:
        return ARITHMETIC
    return REASONING if equations.right else UNSHOWN

"""What a sample row says of its question: how it was asked, what was answered, what a guess gets.

lm-eval 0.4.3 and later write the requests of a document as {"gen_args_0": {"arg_0", "arg_1"}},
earlier ones and `simple_evaluate` as pairs. The second part tells the kind: a continuation to be
scored, or the arguments of a generation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from slimlib.common.files import short_hash
from slimlib.results.broken import is_no_number

GENERATED, CHOICE = "generate_until", "multiple_choice"
ONE, ROLLING = "loglikelihood", "loglikelihood_rolling"
PUNCTUATION = str.maketrans("", "", "[]()'\"")


class Request(NamedTuple):
    """One document's question and answer, as far as the row has them."""

    answer: str | None  # a short hash of what the model answered, before filters
    kind: str | None  # lm-eval's output type, told from the arguments
    choices: int  # to choose from; 0: not a choice
    gold: str | None  # what tells the right choice from the others, such as "A" or "yes"
    finite: bool  # no answer is NaN, and not all are infinite


def read_request(row: Mapping[str, Any]) -> Request:
    """The request of a sample row; whatever it lacks is None."""
    asked, answers = _second_parts(row.get("arguments")), row.get("resps")
    kind = _kind(asked)
    choices = asked if kind == CHOICE else ()
    if "acc_mutual_info" in row:  # each choice once more, without its context
        choices = choices[: len(choices) // 2]
    gold = _gold(row.get("target"), choices)
    text = _as_text(answers, kind) if answers else ""
    # to parse every log-likelihood of a large file takes longer than to read it; nan, inf, NaN,
    # Infinity, null and None have an n, the numbers and "True" and "False" beside them have none
    named = kind != GENERATED and ("n" in text or "N" in text)
    finite = not named or _finite(answers, kind)
    return Request(short_hash(text) if text else None, kind, len(choices), gold, finite)


def _second_parts(arguments: Any) -> list[Any]:
    """What stands beside the context in each request."""
    if isinstance(arguments, dict):
        requests = [r for r in arguments.values() if isinstance(r, dict)]
        return [request.get("arg_1") for request in requests]
    if isinstance(arguments, list | tuple):
        requests = [r for r in arguments if isinstance(r, list | tuple)]
        return [request[1] if len(request) > 1 else None for request in requests]
    return []


def _kind(asked: Sequence[Any]) -> str | None:
    if not asked:
        return None
    if any(isinstance(one, dict) for one in asked):
        return GENERATED
    if asked[0] is None:
        return ROLLING
    return CHOICE if len(asked) > 1 and all(isinstance(one, str) for one in asked) else ONE


def _gold(target: Any, choices: Sequence[Any]) -> str | None:
    """The right choice, which the row names by its place or its text.

    Told by its last word where no other ends alike: MultiRC's end in "yes" and "no", behind the
    question and the answer.
    """
    if not choices or choices.count(choices[0]) == len(choices):
        return None  # the contexts differ then, not the choices
    place = _place(str(target).strip(), choices)
    if place is None:
        return None
    ends = [choice.rsplit(None, 1)[-1:] for choice in choices]
    told = [] not in ends and ends.count(ends[place]) == 1
    return ends[place][0] if told else choices[place].strip()


def _place(target: str, choices: Sequence[str]) -> int | None:
    if target.isascii() and target.isdecimal() and len(target) < 4 and int(target) < len(choices):
        return int(target)
    texts = [choice.strip() for choice in choices]
    return texts.index(target) if target in texts else None


def _as_text(answers: Any, kind: str | None) -> str:
    """Answers as one text; numbers are quoted in files and not in what simple_evaluate returns."""
    text = str(answers)
    return text if kind == GENERATED else text.translate(PUNCTUATION)


def _finite(answers: Any, kind: str | None) -> bool:
    """Whether log-likelihoods can be compared: none is NaN, and one at least is finite."""
    if kind == GENERATED or not isinstance(answers, list | tuple) or not answers:
        return True
    values = [_log_likelihood(answer, kind) for answer in answers]
    broken = [value for value in values if is_no_number(value)]
    infinite = [value for value in broken if "inf" in str(value).lower()]
    return len(broken) == len(infinite) < len(values) or not broken


def _log_likelihood(answer: Any, kind: str | None) -> Any:
    """The first number in [[log-likelihood, is greedy]]; 0 where the row has another layout."""
    inner = answer
    while isinstance(inner, list | tuple):
        if not inner or (kind is None and len(inner) == 1 and not isinstance(inner[0], list)):
            return 0.0  # a text: without arguments it may be one that says "nan"
        inner = inner[0]
    return inner


def guessing_share(requests: Sequence[Request]) -> float | None:
    """Share of right answers that guessing gets on some documents; None: not known.

    The larger of the mean of 1 / choices and the share of the commonest right answer, which one who
    always says "yes" gets. An answer that is written freely is never guessed.
    """
    kinds = {request.kind for request in requests}
    if len(kinds) != 1:
        return None
    kind = kinds.pop()
    if kind != CHOICE:
        return 0.0 if kind in (GENERATED, ONE) else None
    if min(request.choices for request in requests) < 2:
        return None
    alike = Counter(request.gold for request in requests if request.gold is not None)
    commonest = max(alike.values(), default=0) / len(requests)
    return max(float(np.mean([1 / request.choices for request in requests])), commonest)

"""The number in an answer's final statement, compared by value with the right one.

What a filter misses by its form ("$64", "160.00", "pays $64 for the 16 glasses") is found here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence

from slimlib.comparison.answers.digits import plain_numbers, without_units
from slimlib.comparison.answers.equations import Token, in_pieces, sides, tokens

# Where the model goes on to ask itself the next question.
_NEXT = re.compile(
    r"\n[ \t]*(?:#{1,6}[ \t]*)?"
    r"(?:question|q|problem|exercise|example|instruction|input|human|user)[ \t]*\d{0,3}[ \t]*:"
    r"|(?-i:\bQuestion:)|</s>|\[INST\]"
    r"|<\|(?:im_end|im_start|endoftext|eot_id|end|user)\|>",
    re.IGNORECASE,
)
_HEAD = re.compile(r"\s*(?:answer|a|solution|response)[ \t]*:", re.IGNORECASE)
_NUMBER_NEXT = re.compile(r"[^\w#]*(?=\d)")
_MINUS = re.compile(r"[-\u2212\u2013][ ]?[$\u00a3\u20ac]?[ ]?$")
_NEGATIVE = re.compile(  # "is -5", "$-5", but not "48 -5"
    r"(?<![\w)%.$])(?<![\d)%] )[-\u2212\u2013](?=[$\u00a3\u20ac]?\d)|(?<=[$])-(?=\d)"
)
_HASHES = re.compile(r"#{2,}")
_MARK = re.compile(
    r"\\f?boxed\b"
    r"|\banswer\b[^.,;!?:=#\n\d]{0,60}?(?:\b(?:is|are|was|be|equals)\b(?:[ ]*:)?|[:=])",
    re.IGNORECASE,
)
_MARKED = 80  # characters after a mark in which its number and unit stand
_NO_OPERAND_AFTER = ("*", "-", "/", "sign")  # "64 times", "$64 - a lot", "64/-"
_STATEMENT_END = re.compile(r"\n|(?<=[.!?])[ \t]+(?![a-z \t])|(?<=[.!?][\"')*])[ \t]+(?![a-z \t])")
_OTHERS = re.compile(  # what a statement says the answer is not, or leaves open
    r"\b(?:not|than|instead[ ]of)[ ]+[$\u00a3\u20ac]?-?[\d.,]+"
    r"|\bbetween[ ]+[$\u00a3\u20ac]?[\d.,]+ and [$\u00a3\u20ac]?[\d.,]+"
    r"|(?<![\d.,])[\d.,]+[ ]or[ ][$\u00a3\u20ac]?[\d.,]+",
    re.IGNORECASE,
)
_OPERATION = re.compile(  # "adding 2 to 64 gives", "64 and 2 make"
    r"\b(?:adding|subtracting|multiplying|dividing)\b[^.!?\n]{1,80}?"
    r"\b(?:gives?|makes?|leaves?|gets?|is|equals)\b"
    r"|(?<![\d.,])[\d.,]+(?:[ ][a-z]+)?[ ]and[ ][$\u00a3\u20ac]?[\d.,]+(?:[ ][a-z]+)?[ ]"
    r"(?:makes?|gives?|equals?)\b",
    re.IGNORECASE,
)
_MONEY = re.compile(r"[$\u00a3\u20ac][ ]?(\d[\d,]*(?:\.\d+)?)")
_CIRCUMSTANCE = re.compile(
    r"\b(?:the|these|those|all|his|her|their|its|my|our|your|each|every|for|in|after|with|from|at"
    r"|by|per|over|during|on|within|(?<!total )(?<!sum )(?<!number )of)[ ]+"
    r"(\d[\d,]*(?:\.\d+)?)",
    re.IGNORECASE,
)


def is_right_number(answer: str, gold: str, question: str = "") -> bool:
    """Whether an answer's final statement gives the right number, in whatever form.

    Args:
        answer: as generated.
        gold: the right answer; its number is found by the same rule ("#### 64", "64").
        question: what was asked; numbers that it gives are less likely to be the answer.
    """
    wanted = final_numbers(gold)
    if len(wanted) != 1:
        return False
    (right,) = wanted
    return any(math.isclose(n, right) for n in final_numbers(answer, question))


def final_numbers(answer: str, question: str = "") -> set[float]:
    """The number that an answer's final statement gives: usually one, several if it is not clear.

    What follows the next question ("Question:", "Q:", an end token) is no part of the answer. The
    final statement is the first of:
    - the number right after the first "####";
    - the number right after the last \\boxed or "answer is", "answer:";
    - the last sentence or line that holds a number.

    A sentence may hold several. Not the answer are operands ("64 + 2 = 66" gives 66; "64 + 2"
    nothing) and what it says not to be it ("not 64", "64 or 65"). Of those left, these go in turn
    as long as others remain: what the answer used to compute another of them; and what looks more
    like a circumstance than another: given in the question, or after an article or a preposition
    ("for the 16 glasses"). Of equally likely ones all count.

    Example: "He needs to pay $64.00 for the 16 glasses." -> {64.0}.
    """
    text = _own_part(plain_numbers(answer))
    said = without_units(text)
    marked = _marked(said)
    if marked is not None:
        return {marked}
    statement = _OPERATION.sub(" ", _OTHERS.sub(" ", _final_statement(said)))
    statement = _NEGATIVE.sub("(-", statement)  # after a bracket a minus is a sign
    found = _stated(statement)
    return _likeliest(found - _steps(text, found) or found, statement, question)


def _own_part(text: str) -> str:
    """The text up to the next question, without "Answer:" at its head."""
    head = _HEAD.match(text)
    text = (text[head.end() :] if head else text).strip()
    following = _NEXT.search(text, 1)
    return text[: following.start()] if following else text


def _marked(text: str) -> float | None:
    """The number right after the first "####", else after the last other mark."""
    hashes = (_number_at(text, mark.end()) for mark in _HASHES.finditer(text))
    first = next((number for number in hashes if number is not None), None)
    if first is not None:
        return first
    last = None
    for mark in _MARK.finditer(text):
        number = _number_at(text, mark.end())
        last = last if number is None else number
    return last


def _number_at(text: str, position: int) -> float | None:
    """The number that stands here after nothing but signs; None where it is part of a sum."""
    signs = _NUMBER_NEXT.match(text, position)
    if not signs:
        return None
    minus = "-" if _MINUS.search(signs.group()) else ""
    line = f"={minus}{text[signs.end() : signs.end() + _MARKED]}"  # after "=" a minus is a sign
    _, *rest = _split(next(in_pieces(line)))
    numbers = _values(rest[0]) if len(rest) == 1 else []
    return numbers[0] if numbers else None


def _final_statement(text: str) -> str:
    """The last sentence or line that holds a digit; "" where none does."""
    statements = reversed(_STATEMENT_END.split(text))
    return next((s for s in statements if any(map(str.isdecimal, s))), "")


def _stated(statement: str) -> set[float]:
    """The numbers that a statement gives as results, not as operands."""
    found: set[float] = set()
    for piece in in_pieces(statement):
        # the last side of a chain of "="; in "64 = 60 + 4" the side that is no sum
        found.update(next(filter(None, map(_values, reversed(_split(piece)))), []))
    return found


def _split(piece: Sequence[Token]) -> list[list[Token]]:
    """The sides of a chain of "=", without what changes no number."""
    parts: list[list[Token]] = [[]]
    for token in piece:
        if token.kind == "=":
            parts.append([])
        elif token.text not in ("%", "(", ")", "of"):  # "64 of them"
            parts[-1].append(token)
    return parts


def _values(side: Sequence[Token]) -> list[float]:
    """The numbers of a side without a sum: each as it stands, "1/2" as its value."""
    while side and side[-1].text in _NO_OPERAND_AFTER:
        side = side[:-1]
    kinds = [token.kind for token in side]
    if "opaque" in kinds:
        return []
    if "operator" not in kinds:
        signs = [-1 if i and kinds[i - 1] == "sign" else 1 for i in range(len(side))]
        return [s * t.value for s, t in zip(signs, side, strict=True) if t.kind == "number"]
    if len(side) not in (3, 4):
        return []
    *sign, above, over, below = side
    fraction = over.text == "/" and (above.kind, below.kind) == ("number", "number")
    if not fraction or not below.value or [t.kind for t in sign] not in ([], ["sign"]):
        return []
    value = above.value / below.value
    # "128/2" is a division not carried out, "1/2" a number
    return [] if value.is_integer() else [-value if sign else value]


def _steps(text: str, found: set[float]) -> set[float]:
    """Those of the numbers from which another is computed, and which are not computed after it."""
    used: set[float] = set()
    for operands, result in _computed(text):
        if result in found:
            used.update(v for v in operands if v in found)
        used.discard(result)
    return used


def _computed(text: str) -> Iterator[tuple[list[float], float]]:
    """(operands, result) of each equation with an operator on its left."""
    for piece in in_pieces(text):
        for left, right, _ in sides(piece):
            results = [token.value for token in right if token.kind == "number"]
            kinds = {token.kind for token in left}
            if results and "operator" in kinds and "opaque" not in kinds:
                yield [token.value for token in left if token.kind == "number"], results[0]


def _likeliest(found: set[float], statement: str, question: str) -> set[float]:
    """The numbers with the fewest signs of a circumstance; a sign of money speaks against it."""
    given = {t.value for t in tokens(plain_numbers(question)) if t.kind == "number"}
    beside, money = (
        {float(n.replace(",", "")) for n in pattern.findall(statement)}
        for pattern in (_CIRCUMSTANCE, _MONEY)
    )
    signs = {n: (abs(n) in given) + (n in beside) - (abs(n) in money) for n in found}
    return {n for n in found if signs[n] == min(signs.values())}

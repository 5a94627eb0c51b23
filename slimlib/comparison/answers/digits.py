"""Numbers of a text in one plain form: "twelve", "1 319", "\\frac{1}{2}" as 12, 1319 and 1/2.

Each rule is one regular expression without nested repeats, so time is linear in the text.
"""

from __future__ import annotations

import re

_SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_VALUES = {word: i for i, word in enumerate(_SMALL)}
_VALUES |= {word: 10 * i for i, word in enumerate(_TENS, 2)}
_TIMES = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "k": 1000}

_MARKS = re.compile(r"<<[^<>]*>>")  # GSM8K's own calculator marks repeat the sum before them
_FRACTION = re.compile(r"\\[dt]?frac\{([^{}]*)\}\{([^{}]*)\}")
_LATEX_TEXT = re.compile(r"\\(?:text|mathrm|mathbf|textbf)\{([^{}]*)\}")
_NO_SENSE = re.compile(r"\\!|__|`")
_SPACES = re.compile(r"\\[,;: ]|[\u00a0\u2009\u202f~{}]")
_GROUPS = re.compile(r"(?<![\d.,/])\d{1,3}(?: \d{3})+(?![\d,])")
_NAMES = "|".join(_VALUES)
_WORDS = re.compile(
    rf"\b(?:{_NAMES})(?:(?:-|[ ]|(?<=hundred)[ ]and[ ]|(?<=thousand)[ ]and[ ])"
    rf"(?:{_NAMES}|hundred|thousand|million))*\b",
    re.IGNORECASE,
)
_TIMES_TEN = re.compile(
    r"(?<![\d.,])(\d{1,3}(?:,\d{3})+|\d{1,15})(\.\d{1,15})?"
    r"(?:[ ]?(hundred|thousand|million|billion)s?|(k))\b",
    re.IGNORECASE,
)
_MIXED = re.compile(r"(?<![\d.,/])(\d{1,9})[ ](\d{1,3})/(\d{1,3})(?![\d/])")
_UNIT_LETTER = re.compile(r"(?<=\d)[ ]?[a-wyzA-WYZ]\b(?!-)|\bdozens?\b")
_LABEL = re.compile(r"\b(?:step|part|equation|problem|question)s? [(]?\d{1,3}\b", re.IGNORECASE)
_BULLET = re.compile(r"^[ \t]*(?:[-*\u2022]|\d{1,2}[.)])[ \t]+(?=\S)", re.MULTILINE)
# "this one", "one of them": no number
_ONE_AFTER = re.compile(
    r"\b(?:no|any|every|each|some|this|that|the|which|another|other|last|only|a)[ ]$", re.IGNORECASE
)
_ONE_BEFORE = re.compile(
    r"[ ](?:of|another|who|else|is|can|by|needs?|must|should|would|could|may)\b", re.IGNORECASE
)


def plain_numbers(text: str) -> str:
    """Rewrite a text so that every number in it is digits that `float` reads, commas apart.

    Number words (up to "nine hundred and ninety-nine million"), LaTeX, groups of thousands by
    spaces, "1.5 million", "70k" and "3 1/2" become digits; bullets, labels ("Step 3") and GSM8K's
    marks <<...>> go.

    Example: "She has twelve, i.e. $1 319" -> "She has 12, i.e. $1319".
    """
    text = _MARKS.sub("", text)
    text = _LATEX_TEXT.sub(r" \1", _FRACTION.sub(r" \1/\2", text.replace("{,}", ",")))
    text = _SPACES.sub(" ", _NO_SENSE.sub("", text))
    text = _GROUPS.sub(lambda m: m.group().replace(" ", ""), text)
    text = _LABEL.sub("", _BULLET.sub("", text))
    text = _TIMES_TEN.sub(_multiplied, _WORDS.sub(_in_digits, text))
    return _MIXED.sub(_mixed, text)


def without_units(text: str) -> str:
    """The text without "g" in "64g", "64 g", and without dozens; in algebra it is a variable."""
    return _UNIT_LETTER.sub("", text)


def _in_digits(match: re.Match[str]) -> str:
    """The value of a run of number words, read from the left: hundreds multiply what is there."""
    words = match.group().lower().replace("-", " ").split()
    if words == ["one"] and _is_pronoun(match):
        return match.group()
    total = part = 0
    for word in words:
        if word == "hundred":
            part *= 100
        elif word in _TIMES:
            total, part = total + part * _TIMES[word], 0
        elif word != "and":
            part += _VALUES[word]
    return str(total + part)


def _is_pronoun(match: re.Match[str]) -> bool:
    before = match.string[max(0, match.start() - 10) : match.start()]
    return bool(_ONE_AFTER.search(before) or _ONE_BEFORE.match(match.string, match.end()))


def _multiplied(match: re.Match[str]) -> str:
    whole, decimals, word, letter = match.groups()
    value = float(whole.replace(",", "") + (decimals or "")) * _TIMES[(word or letter).lower()]
    return f"{value:.6f}".rstrip("0").rstrip(".")


def _mixed(match: re.Match[str]) -> str:
    whole, part, of = map(int, match.groups())
    return str(whole + part / of) if 0 < part < of else match.group()

"""One-digit arithmetic as a census: every sum, difference and product there is, in three wordings.

Of the digits 0 to 9 there are 100 sums, 55 differences that are not negative, and 100 products: 255
equations. A set of four shots takes its own four away, so that 251 are asked; with three sets each
equation is asked two or three times, and these answers belong together: documents are clustered by
their equation. The shots stand in the document, each set's in one order, so that nothing is drawn
and lm-eval's own delimiter, which would put a second space before an answer, plays no part.

By likelihood the choices are all answers that the operation can give, each with the line break that
ends a shot: without it "1" would be likelier than "12" whatever the model knows.
"""

from __future__ import annotations

import random
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

TASKS = Path(__file__).parent / "tasks"  # lm-eval task files
BETWEEN = "\n\n"  # shots
REHEARSED, IN_A_ROW = 2_000, 5  # rows to rehearse, and equations in one of them

# operation -> its sign, and how the wordings say it
SIGNS = {"sum": "+", "difference": "-", "product": "*"}
WORDINGS = {
    "equation": {sign: f"{{a}} {sign} {{b}} =" for sign in "+-*"},
    "words": {
        "+": "If you add {a} and {b}, you get",
        "-": "If you subtract {b} from {a}, you get",
        "*": "If you multiply {a} by {b}, you get",
    },
    "question": {
        sign: f"Question: What is {{a}} {word} {{b}}?\nAnswer:"
        for sign, word in {"+": "plus", "-": "minus", "*": "times"}.items()
    },
}


class Equation(NamedTuple):
    """Two digits and a sign."""

    a: int
    sign: str
    b: int

    def __str__(self) -> str:
        """As "7 + 5", which names the documents that ask it."""
        return f"{self.a} {self.sign} {self.b}"

    @property
    def answer(self) -> int:
        """What is right."""
        return {"+": self.a + self.b, "-": self.a - self.b, "*": self.a * self.b}[self.sign]


EQUATIONS = tuple(
    Equation(a, sign, b)
    for sign in SIGNS.values()
    for a, b in product(range(10), repeat=2)
    if sign != "-" or a >= b
)
ANSWERS = {sign: sorted({e.answer for e in EQUATIONS if e.sign == sign}) for sign in "+-*"}

# Each operation in each set, answers of one and of two digits, no equation in two sets.
SHOTS = tuple(
    tuple(Equation(int(text[0]), text[2], int(text[4])) for text in texts)
    for texts in (
        ("3 + 4", "9 - 2", "2 * 6", "5 + 8"),
        ("7 * 3", "6 + 1", "8 - 5", "9 + 2"),
        ("6 - 6", "4 * 2", "7 + 9", "5 * 5"),
    )
)


def ask(equation: Equation, wording: str) -> str:
    """An equation in words; the answer comes after it and a space."""
    return WORDINGS[wording][equation.sign].format(a=equation.a, b=equation.b)


def rows(wording: str) -> list[dict[str, Any]]:
    """The documents of one wording, one set of shots after another.

    Args:
        wording: one of WORDINGS.

    Returns:
        Each with the prompt, the equation that it asks, its answer, and for the likelihood all
        answers of the operation and the place of the right one.
    """
    found = []
    for number, shots in enumerate(SHOTS, 1):
        solved = [f"{ask(shot, wording)} {shot.answer}{BETWEEN}" for shot in shots]
        for equation in EQUATIONS:
            if equation in shots:
                continue
            answers = ANSWERS[equation.sign]
            found.append(
                {
                    "prompt": "".join(solved) + ask(equation, wording),
                    "equation": str(equation),
                    "shots": number,
                    "answer": str(equation.answer),
                    "choices": [f" {answer}{BETWEEN}" for answer in answers],
                    "right": answers.index(equation.answer),
                }
            )
    return found


def rehearsal(n: int = REHEARSED) -> list[dict[str, str]]:
    """Rows to rehearse: five solved equations each, as a task's shots stand, none that it asks.

    At least one number of each equation has two digits; the wordings take turns.
    """
    rng, found = random.Random("digits to rehearse"), []
    for number in range(n):
        wording = [*WORDINGS][number % len(WORDINGS)]
        solved = (_larger(rng) for _ in range(IN_A_ROW))
        found.append({"text": BETWEEN.join(f"{ask(e, wording)} {e.answer}" for e in solved)})
    return found


def _larger(rng: random.Random) -> Equation:
    """An equation of a number of two digits and one of one or two, of one in a product."""
    sign, a = rng.choice("+-*"), rng.randint(10, 99)
    return Equation(a, sign, rng.randint(2, 9) if sign == "*" else rng.randint(2, a))


def dataset(wording: str, **_: Any) -> Any:
    """`rows` as lm-eval takes them: a `datasets.DatasetDict` with the split "test"."""
    from datasets import Dataset, DatasetDict

    return DatasetDict({"test": Dataset.from_list(rows(wording))})

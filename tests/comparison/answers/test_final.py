"""The number of the final statement: forms, what is no answer, and GSM8K in many styles."""

import json
import random
import re

import pytest

from slimlib.comparison.answers.digits import plain_numbers
from slimlib.comparison.answers.final import final_numbers, is_right_number

WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen twenty"
).split()


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("", ""),
        ("1 319 and 1\u202f319\u00a0km", "1319 and 1319 km"),
        ("16 glasses, 12 3 4567", "16 glasses, 12 3 4567"),
        ("twelve, twenty-five, Seventy", "12, 25, 70"),
        ("two hundred and five or one thousand three", "205 or 1003"),
        ("one and two", "1 and 2"),
        ("no one else, this one, one of them", "no one else, this one, one of them"),
        ("$1.45 million, 70k, 5 thousand", "$1450000, 70000, 5000"),
        ("someone, onerous, 5 km, 5kg", "someone, onerous, 5 km, 5kg"),
        ("3 1/2 and 1/2", "3.5 and 1/2"),
        (r"\frac{1}{2} of 1{,}319", " 1/2 of 1,319"),
        ("9*2=$<<9*2=18>>18", "9*2=$18"),
        ("Step 3: it is 64g\n- 5 m", ": it is 64g\n5 m"),
    ],
)
def test_numbers_are_written_plainly(text, plain):
    assert plain_numbers(text) == plain


@pytest.mark.parametrize(
    ("answer", "numbers"),
    [
        ("", set()),
        ("no number at all", set()),
        # forms
        ("#### $64", {64}),
        ("#### 64 dollars", {64}),
        ("#### 64%", {64}),
        ("#### 160.00", {160}),
        ("#### 1,319.", {1319}),
        ("#### 1 319", {1319}),
        ("####\n**64**", {64}),
        ("#### twelve", {12}),
        ("#### -5 or so", {-5}),
        ("#### - $5", {-5}),
        ("It is $-5.", {-5}),
        ("It is \u22125 degrees.", {-5}),
        ("It is 1/2.", {0.5}),
        ("It is -1/2.", {-0.5}),
        ("It is 1/2 times", {0.5}),
        (r"\boxed{\frac{1}{2}}", {0.5}),
        (r"So \(\boxed{\$1{,}319.00}\) it is", {1319}),
        ("The answer is 64", {64}),
        ("Final Answer: **$64.50**", {64.5}),
        ("Answer: twenty-five", {25}),
        ("It weighs 64kg.", {64}),
        ("It weighs 64 g", {64}),
        ("6Z + 4Z = 10Z. Z = 1. So 4 of the 10 ounces are oil.", {4}),
        ("He ran 64 times", {64}),
        ("He sold 64 of them", {64}),
        # where the final statement is
        ("The answer is 64.\n\nQ: What is 3 + 4?\nA: 7", {64}),
        ("It is 64.0.<|im_end|> 7", {64}),
        ("#### 64\n#### 66", {64}),  # the first, as strict-match
        ("The answer is 64. No: the answer is 66.", {66}),
        ("The answer is 64, as 3 say. The answer is clear.", {64}),
        ("7\nQ: 5", {7}),
        ("#### Step 1: add 3\nHe pays $64.", {64}),  # a heading
        ("She makes 64.0. No one else does.", {64}),
        ("1. Add.\n2. It is 64.", {64}),
        ("Points per question: 3. In all 64.", {64}),
        # several numbers
        ("He needs to pay $64 for the 16 glasses.", {64}),
        ("For the 16 glasses he needs to pay $64.00.", {64}),
        ("A total of 64 apples in 3 boxes", {64}),
        ("64 + 2 = 66", {66}),
        ("64 plus 2 is 66", {66}),
        ("64 = 60 + 4", {64}),
        ("64 + 2", set()),
        ("65 + 2", set()),
        ("128/2", set()),  # not carried out
        ("8 * 8 = 64. 64 + 2 = 66. So 66 is made of 64.", {66}),
        ("64 + 2 = 66. She has 64, now 66.", {66}),
        ("64 + 2 = 66. It was 64.", {64}),
        ("8 * 2 = 16. 7 - 5 = 2. So 2 is left of 16.", {2}),  # computed after its use
        ("Adding 2 to 64 gives 66.", {66}),
        ("64 and 2 make 66.", {66}),
        ("It is 65, not 64.", {65}),
        ("It is 64 or 65.", set()),
        ("She has 64 red and 3 blue ones.", {64, 3}),  # not clear which
        ("10:30, x2, 2^3", set()),
    ],
)
def test_the_final_statement_gives_its_number(answer, numbers):
    assert final_numbers(answer) == numbers


def test_numbers_of_the_question_are_less_likely():
    question = "Kylar buys sixteen glasses ..."
    said = "16 glasses cost 63.0 then"
    assert final_numbers(said) == {16, 63}
    assert final_numbers(said, question) == {63}
    assert is_right_number("16 is the number", "#### 16", question)


@pytest.mark.parametrize("gold", ["", "none", "#### ", "She has 64 red and 3 blue ones."])
def test_without_one_right_number_no_answer_is_right(gold):
    assert not is_right_number("#### 64", gold)


# ------------------------------------------------------------------------------------ GSM8K


STYLES = {  # name -> (number, a number of the question) -> the end of a solution
    "dollars": lambda n, k: f"#### ${n}",
    "trailing zeros": lambda n, k: f"#### {n}.00",
    "unit": lambda n, k: f"The answer is {n} dollars.",
    "per cent": lambda n, k: f"So it is {n}%.",
    "thousands by commas": lambda n, k: f"Answer: {n:,}.0",
    "thousands by spaces": lambda n, k: f"Final answer: {n:,} in all".replace(",", " "),
    "boxed": lambda n, k: rf"\[ \boxed{{{n}}} \]",
    "boxed with text": lambda n, k: rf"Therefore \boxed{{\${n:,}.00\text{{ in all}}}}.",
    "word": lambda n, k: f"The total is {WORDS[n] if 0 <= n <= 20 else n}.",
    "bold": lambda n, k: f"**Final answer:** **{n}** units",
    "attached unit": lambda n, k: f"It weighs {n}kg.",
    "sentence": lambda n, k: f"He needs to pay ${n} for the {k} glasses.",
    "sentence, turned": lambda n, k: f"For the {k} glasses he needs to pay ${n}.00.",
    "sentence, passive": lambda n, k: f"The {k} glasses were bought for ${n}.00 then.",
    "sentence of others": lambda n, k: f"So {n} of the {k} are left.",
    "sum": lambda n, k: f"Total cost = {k} + {n - k} = ${n}.0",
    "sum, turned": lambda n, k: f"Total cost = ${n} = {k} + {n - k}",
    "next question": lambda n, k: f"The answer is ${n}.0.\n\nQuestion: Tom has 5 + 4?\n#### 9",
    "cut off": lambda n, k: f"The total is ${n} for the {k} of them. So there",
}


def rewritten(folder, sample=None):
    """(gold, question, solution without its last line, number, another number of the question)."""
    lines = (folder / "gsm8k" / "test.jsonl").read_text("utf-8").splitlines()
    for line in random.Random(0).sample(lines, sample) if sample else lines:
        row = json.loads(line)
        solution, _, gold = row["answer"].rpartition("####")
        given = map(int, re.findall(r"(?<![\d.,])\d{1,4}(?![.,]?\d)", row["question"]))
        yield row, solution, int(gold.replace(",", "")), tuple(given)


def miscounted(folder, style, sample=None):
    """(right numbers called lost ability, wrong numbers called right) in a style.

    All of GSM8K: two wrong numbers, and the end with its solution and by itself.
    """
    missed, credited = 0, 0
    write = STYLES[style]
    for row, solution, right, given in rewritten(folder, sample):
        for number in (right, right + 1) if sample else (right, right + 1, 10 * right or 3):
            k = next((k for k in given if k not in (number, right)), 4 if right != 4 else 6)
            end = write(number, k)
            for text in (solution + end,) if sample else (solution + end, end):
                found = is_right_number(text, row["answer"], row["question"])
                missed += number == right and not found
                credited += number != right and found
    return missed, credited


@pytest.mark.parametrize("style", STYLES)
def test_a_sample_of_gsm8k_is_told_by_value(data_folder, style):
    assert miscounted(data_folder, style, sample=100) == (0, 0)


@pytest.mark.slow
@pytest.mark.parametrize("style", STYLES)
def test_all_of_gsm8k_is_told_by_value(data_folder, style):
    assert miscounted(data_folder, style) == (0, 0)

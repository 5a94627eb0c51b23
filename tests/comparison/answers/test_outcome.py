"""Format or ability: equations, kinds of answers, flips; lm-eval's rows in memory and in files."""

import json
import re
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from places import LM_EVAL

from slimlib.comparison import answers
from slimlib.comparison.answers import (
    Equations,
    check_equations,
    classify,
    flips,
    format_or_ability,
)
from slimlib.comparison.answers.documents import chosen, gold_of, length_limit, question_of, text_of
from slimlib.comparison.answers.flips import GAINED, LOST
from slimlib.comparison.answers.kinds import ran_on
from slimlib.comparison.plots import ANSWER_COLOURS
from slimlib.results import Results, ResultsError, Samples, TaskResults, read_results

# lm-eval 0.4.13's gsm8k.yaml
STRICT = re.compile(r"#### (\-?[0-9\.\,]+)")
FLEXIBLE = re.compile(r"(-?[$0-9.,]{2,})|(-?[0-9]+)")
RAMBLING = " He has a brother and she has a sister" * 40


def found(pattern, text, which):
    """What lm-eval's regex filter takes from a text."""
    matches = pattern.findall(text)
    if not matches:
        return "[invalid]"
    match = matches[which]
    match = match if isinstance(match, str) else next(part for part in match if part)
    return re.sub(r"[,$]|\.$", "", match.strip())


def gsm8k_rows(texts, golds, limit=None, layout="memory", old=False):
    """Rows as lm-eval makes them: two per document, scored by its own two patterns."""
    rows = []
    for kind, pattern, which in (("strict-match", STRICT, 0), ("flexible-extract", FLEXIBLE, -1)):
        for doc_id, (text, gold) in enumerate(zip(texts, golds, strict=True)):
            settings = {"until": ["Question:"]} | ({"max_gen_toks": limit} if limit else {})
            request = [f"Question: q{doc_id}\nAnswer:", settings]
            arguments = {"gen_args_0": {"arg_0": request[0], "arg_1": request[1]}}
            answer = found(pattern, text, which)
            row = {
                "doc_id": doc_id,
                "doc": {"question": f"q{doc_id}", "answer": f"#### {gold}"},
                "target": f"#### {gold}",
                "arguments": [request] if layout == "memory" else arguments,
                "resps": [[text]],
                "filtered_resps": [answer],
                "filter": kind,
                "exact_match": float(answer == str(gold)),
            }
            if old:
                del row["filter"]
            rows.append(row)
    if old:  # both filters of a document one after the other
        rows.sort(key=lambda row: row["doc_id"])
    return rows


def samples(doc_ids, **scores):
    hashes = tuple(f"hash {i}" for i in doc_ids)
    arrays = {name: np.array(values, dtype=float) for name, values in scores.items()}
    return Samples(tuple(doc_ids), hashes, hashes, arrays)


def gsm8k(texts, golds, **kwargs):
    rows = gsm8k_rows(texts, golds, **kwargs)
    half, ids = len(texts), range(len(texts))
    by_filter = gsm8k_rows(texts, golds)
    scores = [row["exact_match"] for row in by_filter]
    return TaskResults(
        task="gsm8k",
        scores={},
        samples={
            "strict-match": samples(ids, exact_match=scores[:half]),
            "flexible-extract": samples(ids, exact_match=scores[half:]),
        },
        load_rows=lambda: rows,
    )


def results(*tasks, name="model"):
    return Results(source=name, name=name, tasks={task.task: task for task in tasks}, settings={})


# ------------------------------------------------------------------------------------ equations


@pytest.mark.parametrize(
    ("text", "right", "wrong"),
    [
        ("", 0, 0),
        ("no numbers at all = none", 0, 0),
        ("= 4", 0, 0),
        ("16 = 16", 0, 0),  # nothing is computed
        ("9 * 2 = 18", 1, 0),
        ("9 * 2 = 81", 0, 1),
        ("She makes 9 * 2 = $<<9*2=18>>18 every day", 1, 0),  # the marks repeat the sum
        ("She makes 9 * 2 = $<<9*2=19>>19 every day", 0, 1),
        ("Janet has <<16-3-4=9>>9 eggs.\nShe makes $<<9*2=18>>18.", 2, 0),
        ("3+4=7+1=8", 2, 0),  # run on: each "=" with the number after it
        ("16-3=<<16-3=13>>13-4=<<13-4=9>>9", 2, 0),
        ("2*(3+4) = 2*7 = 14", 2, 0),  # a proper chain: sides as a whole
        ("3 + 4 = 7 + 1 = 8 and 6 * 7 = 41", 2, 1),
        ("1/4 + 1/2 = 3/4 = 0.75", 2, 0),
        ("1/4 + 1/2 = 1/4", 0, 1),  # not its first digit, rounded
        ("$1,000 x 3 = $3,000", 1, 0),
        ("3x4=12 and 3 × 4 = 12 and 12 ÷ 4 = 3", 3, 0),
        ("3 times 4 = 12, 12 divided by 4 = 3, 3 plus 4 = 7", 3, 0),
        ("20% of 50 = 10", 1, 0),
        ("100% - 20% = 80%", 1, 0),
        ("5 * 20 = 100%", 1, 0),  # read as 100
        ("5% + 3% = 8.5%", 0, 1),
        ("10/3 = 3.33", 1, 0),
        ("10/3 = 3", 1, 0),  # rounded to d's decimals
        ("5/2 = 3", 1, 0),  # half up ...
        ("5/2 = 2", 0, 1),  # ... only
        ("10/3 = 3.4", 0, 1),
        ("2.5 + 0.009 = 2.5", 1, 0),  # within the paper's eps
        ("5/0 = 0", 0, 1),
        ("2 cups / 1/4 cup = 8", 1, 0),  # a fraction, ...
        ("8 / 4 / 2 = 1", 1, 0),  # ... or two divisions
        ("8 / 4 / 2 = 2", 0, 1),
        ("16 eggs - 3 eggs = 13 eggs", 1, 0),
        ("18 eggs per day * 7 days = 126", 1, 0),
        ("$5/hour * 3 hours = $15", 1, 0),
        ("5 apples and 3 pears = 8", 0, 0),
        ("2x + 3 = 7", 0, 0),
        ("2^3 + 1 = 9", 0, 0),
        ("12:30 - 1 = 11:30", 0, 0),
        ("half of 16 + 2 = 10", 0, 0),  # true, but "16 + 2 = 10" is not
        ("a total of 3 + 4 = 7", 1, 0),
        ("- 3 + 4 = 7\n1. 3 + 4 = 7\n2) 3 + 4 = 7", 3, 0),
        ("-3 + 5 = 2 and 3 - 5 = -2", 2, 0),
        ("(so 3 + 4 = 7)", 1, 0),
        ("**6 * 7 = 42**", 1, 0),
        ("\\(3 \\times 4 = 12\\)", 1, 0),
        ("3 + 4\n= 7", 1, 0),
    ],
)
def test_equations_are_counted(text, right, wrong):
    assert check_equations(text) == Equations(right, wrong)


@pytest.mark.parametrize(
    "text",
    [
        "(" * 40_000,
        ")" * 40_000 + "1+1=3",
        "1+" * 20_000,
        "1+1=" * 10_000,
        "9*" * 5_000 + "9=1",
        "1/" * 20_000 + "0=1",
        "1" * 40_000,
        "a1" * 20_000,
        "\n " * 20_000,
        "1,000" * 8_000,
        "1 a b " * 10_000,
        "<<" * 20_000,
        "####" * 10_000,
        "#### " * 8_000,
        "the answer is " * 3_000,
        "the answer is 5 " * 3_000,
        "\\boxed{" * 6_000,
        "\\frac{1}{" * 5_000,
        "twenty-one " * 4_000,
        "one " * 10_000,
        "1 000" * 8_000 + " 000" * 8_000,
        "Question: " * 4_000 + "1",
        "." + " " * 40_000 + "a 1",
        ". 1" * 13_000,
        "5 or 6 " * 6_000,
        "adding 1 to " * 4_000,
        "1 and 2 " * 5_000,
        "1 * 2 = 3 " * 4_000,
        "$-" * 20_000 + "1",
        "for the 1 " * 4_000,
        "\n" * 40_000 + "1",
        "\ud800 \x00 ٣ + ٤ = ٧",
    ],
)
def test_adversarial_text_is_read_in_no_time(text):
    begin = time.process_time()  # of this process alone: others may be busy
    check_equations(text)
    classify(text, False, False, gold="#### 7", question=text)
    assert time.process_time() - begin < 10  # what is quadratic takes minutes


def test_random_text_never_raises():
    rng = np.random.default_rng(0)
    signs = list("0123456789+-*/x=()<>.,$% \n#abof^:") + ["half ", "<<", ">>", " of ", "**"]
    for _ in range(2000):
        text = "".join(rng.choice(signs, size=40))
        right, wrong = check_equations(text)
        assert 0 <= right + wrong <= text.count("=")


def test_products_and_sums_agree_with_python():
    rng = np.random.default_rng(1)
    for _ in range(300):
        numbers, signs = rng.integers(1, 99, size=4), rng.choice(list("+-*/"), size=3)
        left = "".join(f"{n} {s} " for n, s in zip(numbers, signs, strict=False)) + f"{numbers[3]}"
        value = eval(left)
        assert check_equations(f"{left} = {value:.6f}") == (1, 0), left
        assert check_equations(f"{left} = {value + 0.02:.6f}") == (0, 1), left


@pytest.mark.slow
def test_the_equations_of_gsm8k_hold(data_folder):
    lines = (data_folder / "gsm8k" / "test.jsonl").read_text("utf-8").splitlines()
    texts = [json.loads(line)["answer"] for line in lines]
    marks = sum(text.count("<<") for text in texts)
    for solutions in (texts, [re.sub(r"<<[^>]*>>", "", text) for text in texts]):
        right, wrong = map(sum, zip(*map(check_equations, solutions), strict=True))
        assert right / (right + wrong) > 0.997
        assert 0.95 * marks < right + wrong < 1.1 * marks


def test_share_of_right_equations():
    assert Equations(3, 1).share == 75.0
    assert Equations(0, 0).share is None


# ------------------------------------------------------------------------------------ categories


@pytest.mark.parametrize(
    ("text", "gold", "category"),
    [
        ("9 * 2 = 18\n#### 18", 18, "right"),
        ("#### 18\n#### 2", 18, "right"),  # only strict-match finds it
        ("She makes $18.", 18, "format"),
        ("#### $18", 18, "format"),
        (" \n\t ", 18, "empty"),
        ("", 18, "empty"),
        ("She makes 17.", 18, "no answer line"),
        ("#### ", 18, "no answer line"),  # the line, without a number
        (RAMBLING, 18, "rambling"),
        ("9 * 2 = 19\n#### 19", 18, "wrong"),
        ("#### $19", 18, "wrong"),
        (RAMBLING + "\n#### 19", 18, "wrong"),
        ("#### 18.00", 18, "right number, lost format"),
        ("#### $18.00\n" + RAMBLING, 18, "right number, lost format"),
        ("18 + 1 = 19", 18, "no answer line"),
    ],
)
def test_each_answer_has_its_category(text, gold, category):
    strict = found(STRICT, text, 0) == str(gold)
    flexible = found(FLEXIBLE, text, -1) == str(gold)
    assert classify(text, strict, flexible, gold=f"#### {gold}") == category


def test_an_answer_ran_on_if_it_is_long_or_breaks_off_or_loops():
    words = [f"word{chr(97 + i % 26)}{chr(97 + i // 26)}" for i in range(240)]
    sentence = " ".join(words) + "."
    assert ran_on(sentence)  # 240 words and more characters: over 9/10 of 256
    assert not ran_on(sentence, max_gen_toks=2048)
    middle = " ".join(words[:60])  # 60 words, 130 of 256 tokens by its bytes
    assert ran_on(middle) and not ran_on(middle + ".")
    assert not ran_on("She has eggs and")  # too short to have been cut off
    assert ran_on("I do. " * 5) and not ran_on("I do. " * 3)  # 29 and 17 characters
    assert not ran_on("")


def test_loops_need_three_repeats():
    assert ran_on("The end." + "abcdefghijkl." * 3)
    assert not ran_on("The end." + "abcdefghijklmnop." * 2)


# ------------------------------------------------------------------------------------ the table


TEXTS = ("1 + 1 = 2\n#### 2", "It is 3.", "", "It is 9.", "2 + 3 = 6\n#### 6", "2 + 4 = 6\n#### 6")
GOLDS = (2, 3, 4, 5, 5, 7)
RAN_ON = "#### 2\nQ: and 3 more?"  # right by strict-match, 3 by flexible-extract


@pytest.mark.parametrize("layout", ["memory", "file"])
@pytest.mark.parametrize("old", [False, True])
def test_the_table_has_one_row_per_document(layout, old):
    table = answers.answer_table(gsm8k(TEXTS, GOLDS, layout=layout, old=old))
    assert list(table["doc_id"]) == [0, 1, 2, 3, 4, 5]
    assert list(table["category"]) == [
        *("right", "format", "empty", "no answer line", "wrong", "wrong"),
    ]
    assert list(table["kind"][4:]) == ["wrong arithmetic", "wrong reasoning"]
    assert list(table["strict"]) == [True, False, False, False, False, False]
    assert list(table["flexible"]) == [True, True, False, False, False, False]
    assert list(table["equations_wrong"]) == [0, 0, 0, 0, 1, 0]
    assert table.loc[0, ["question", "answer", "gold"]].tolist() == ["q0", TEXTS[0], "#### 2"]


def test_an_answer_that_was_right_and_then_ran_on_is_a_kind_of_its_own():
    (row,) = answers.answer_table(gsm8k((RAN_ON,), (2,))).to_dict("records")
    assert (row["strict"], row["flexible"]) == (True, False)
    assert (row["category"], row["kind"]) == ("right", "right, then ran on")


@pytest.mark.parametrize("layout", ["memory", "file"])
def test_the_length_limit_is_the_row_s(layout):
    text = "word " * 25 + "and"
    for limit, category in ((48, "rambling"), (2048, "no answer line")):
        task = gsm8k([text], [1], limit=limit, layout=layout)
        assert answers.answer_table(task)["category"].tolist() == [category]


def test_what_the_table_needs_is_said():
    whole = gsm8k(TEXTS, GOLDS)
    parts = {**whole.__dict__}
    bare = TaskResults("gsm8k", {}, {})
    with pytest.raises(ValueError, match=r"gsm8k: only aggregate scores.*--log_samples"):
        answers.answer_table(bare)
    one = TaskResults(**{**parts, "samples": {"strict-match": whole.samples["strict-match"]}})
    with pytest.raises(ValueError, match="no exact_match,flexible-extract.*has: exact_match,stric"):
        answers.answer_table(one)
    silent = TaskResults(**{**parts, "load_rows": None})
    with pytest.raises(ValueError, match=r"gsm8k: the answers themselves.*--log_samples"):
        answers.answer_table(silent)
    short = TaskResults(**{**parts, "load_rows": lambda: gsm8k_rows(TEXTS[:2], GOLDS[:2])})
    with pytest.raises(ValueError, match="document 2 lacks a row"):
        answers.answer_table(short)
    half = samples(range(6), exact_match=[0.5] * 6)
    seeds = TaskResults(**{**parts, "samples": {**whole.samples, "strict-match": half}})
    with pytest.raises(ValueError, match="scores other than 0 and 1"):
        answers.answer_table(seeds)
    assert answers.has_answers(whole)
    assert not any(map(answers.has_answers, (bare, one, silent, seeds)))


@pytest.mark.parametrize("junk", [None, 5, 0.5, True, "a text", [], [5], [[]], {"a": 5}])
@pytest.mark.parametrize("field", ["doc", "arguments", "resps", "filtered_resps", "target"])
def test_a_field_that_is_something_else_is_read_past(field, junk):
    row = {**gsm8k_rows(["#### 1"], ["1"])[0], field: junk}
    assert isinstance(text_of(row), str) and isinstance(question_of(row), str)
    assert length_limit(row) in (None, 256, 48, 512)
    assert isinstance(gold_of(row), str) and isinstance(chosen(row, "acc"), str)


@pytest.mark.parametrize("limit", [True, 0, -1, 10**400, "256"])
def test_a_length_limit_that_is_none(limit):
    assert length_limit({"arguments": [["prompt", {"max_gen_toks": limit}]]}) is None


def test_a_response_may_be_missing():
    assert text_of({"resps": [[None]]}) == ""
    assert text_of({"resps": []}) == ""
    assert text_of({"filtered_resps": ["18"]}) == "18"


# ------------------------------------------------------------------------------------ the loss


# right, right, right, right, right, format, wrong -> and what became of them
BEFORE = (*["1 + 1 = 2\n#### 2"] * 7, "It is 2", "1 + 1 = 3\n#### 3", "#### 2\n#### 5")
AFTER = (
    *("1 + 1 = 2\n#### 2", "It is 2", "1 + 1 = 3\n#### 3", "1 + 0 = 1\n#### 1", "#### 7", "", "no"),
    *("1 + 1 = 2\n#### 2", "It is 2", "#### 2"),
)


@pytest.fixture(scope="module")
def outcome():
    golds = [2] * len(BEFORE)
    return format_or_ability(gsm8k(BEFORE, golds), gsm8k(AFTER, golds))


def test_a_loss_is_taken_apart(outcome):
    assert outcome.n == 10
    assert (outcome.strict, outcome.flexible) == ((8, 3), (8, 5))
    assert (outcome.lost, outcome.gained) == (6, 1)
    assert outcome.reasons == {
        "format": 1,
        "right number, lost format": 0,
        "wrong arithmetic": 1,
        "wrong reasoning": 1,
        "wrong, no equations": 1,
        "no answer line": 1,
        "rambling": 0,
        "empty": 1,
    }
    assert outcome.before["right"] == 7 and outcome.after["format"] == 2
    assert outcome.before["right, then ran on"] == 1  # "#### 2\n#### 5"
    assert (outcome.equations_before, outcome.equations_after) == ((7, 1), (3, 1))


def test_counts_add_up(outcome):
    assert sum(outcome.before.values()) == sum(outcome.after.values()) == outcome.n
    assert outcome.net_strict == outcome.lost - outcome.gained == 5
    assert outcome.net_flexible == 3
    # only flexible right: 1 -> 2; only strict right ("#### 2\n#### 5"): 1 -> 0
    assert outcome.overrun == (1, 0)
    assert outcome.net_format == (2 - 1) - (0 - 1) == 2
    assert outcome.net_strict == outcome.net_flexible + outcome.net_format
    table = outcome.table()
    assert table.loc["right, then ran on"].tolist() == [1, 0, 0, 0]
    assert table["lost"].sum() == outcome.lost
    assert table["% of the lost"].sum() == pytest.approx(100)


def test_counts_add_up_on_random_answers():
    rng = np.random.default_rng(2)
    texts = (*BEFORE, *AFTER, RAMBLING)
    for n in (1, 7, 60):
        base, tuned = (gsm8k(rng.choice(texts, n).tolist(), [2] * n) for _ in range(2))
        forth, back = format_or_ability(base, tuned), format_or_ability(tuned, base)
        assert forth.net_strict == forth.net_flexible + forth.net_format
        only = [
            int((~t["strict"] & t["flexible"]).sum() - (t["strict"] & ~t["flexible"]).sum())
            for t in map(answers.answer_table, (base, tuned))
        ]
        assert forth.net_format == only[1] - only[0]
        assert (forth.lost, forth.net_strict) == (back.gained, -back.net_strict)
        assert forth.strict[0] == forth.before["right"] + forth.overrun[0]
        assert forth.flexible[1] == forth.after["right"] + forth.after["format"]
        assert forth.before == back.after


def test_the_sentence_says_it(outcome):
    assert outcome.sentence() == (
        "Of 6 answers lost by strict-match, 1 (16.7 %) had the right number in another format; the "
        "others: 1 (16.7 %) with a wrong equation, 1 (16.7 %) wrong though the equations hold, 1 "
        "(16.7 %) wrong without an equation, 1 (16.7 %) without an answer line, 1 (16.7 %) empty. "
        'Net change: strict-match -5 = flexible-extract -3 and format alone -2 (right "#### n", '
        "then ran on to another number: 1 before, 0 after). Equations right: 88 % before, 75 % "
        "after."
    )


def test_a_right_number_that_both_filters_miss_is_lost_format():
    before, after = ["#### 64"] * 3, ["He pays $64 for the 16 glasses.", "It is 64", "It is 65"]
    one = format_or_ability(gsm8k(before, [64] * 3), gsm8k(after, [64] * 3))
    assert (one.strict, one.flexible) == ((3, 0), (3, 1))
    assert one.reasons["right number, lost format"] == one.reasons["format"] == 1
    assert one.reasons["no answer line"] == 1
    assert one.lost_format == one.to_dict()["lost_format"] == 2
    assert one.points()[0].startswith(
        "gsm8k, format or ability? Of 3 answers lost by strict-match, 2 (66.7 %) had the right "
        "number in another format (1 of them by value alone: flexible-extract misses it too); "
        "the others: 1 (33.3 %) without an answer line."
    )
    assert one.net_strict == one.net_flexible + one.net_format == 3
    (example,) = one.examples("right number, lost format").to_dict("records")
    assert (example["doc_id"], example["tuned_answer"]) == (0, after[0])


def test_three_examples_with_the_base_s_gold():
    base, tuned = (gsm8k([text] * 4, [2] * 4) for text in ("#### 2", "no"))
    rows = [{**row, "target": "2"} for row in tuned.load_rows()]
    tuned = replace(tuned, load_rows=lambda: rows)
    examples = format_or_ability(base, tuned).examples("no answer line")
    assert examples["doc_id"].tolist() == [0, 1, 2]
    assert set(examples["gold"]) == {"#### 2"}


def test_what_was_asked_unlike_is_refused_unless_told_otherwise():
    base, tuned = (replace(gsm8k(["#### 2"], [2]), num_fewshot=n) for n in (0, 5))
    with pytest.raises(ResultsError, match="n-shot 0 against 5"):
        format_or_ability(base, tuned)
    assert format_or_ability(base, tuned, strict=False).n == 1


def test_a_model_with_itself_lost_nothing():
    task = gsm8k(["#### 2", "", "#### 3"], [2] * 3)
    same = format_or_ability(task, task)
    assert same.lost == same.gained == same.net_format == 0
    assert "None of the 1 answers right by strict-match was lost" in same.sentence()
    assert "none to check before" in same.sentence()
    assert not same.table().isna().any(axis=None)
    json.dumps(same.to_dict(examples=3), allow_nan=False)


def test_examples_show_both_answers(outcome):
    shown = outcome.examples("format")
    assert shown.to_dict("records") == [
        {
            "doc_id": 1,
            "question": "q1",
            "gold": "#### 2",
            "base_answer": "1 + 1 = 2\n#### 2",
            "tuned_answer": "It is 2",
        }
    ]
    assert len(outcome.examples("wrong arithmetic", k=0)) == 0
    with pytest.raises(
        ValueError, match="'wrong' is no reason; choose one of: format, right number"
    ):
        outcome.examples("wrong")
    told = outcome.to_dict(examples=1)
    assert json.loads(json.dumps(told)) == told
    assert told["examples"]["empty"][0]["tuned_answer"] == ""
    assert told["shares"]["format"] == pytest.approx(100 / 6)


def test_documents_are_paired_not_zipped():
    base, tuned = gsm8k(BEFORE, [2] * 10), gsm8k(AFTER[:7], [2] * 7)
    shorter = format_or_ability(base, tuned, strict=False)
    assert shorter.n == 7 and shorter.strict == (7, 1)
    assert format_or_ability(tuned, base, strict=False).strict == (1, 7)
    order = [3, 0, 2, 1, 6, 5, 4]
    parts = {
        kind: samples(order, exact_match=s.scores["exact_match"][order])
        for kind, s in tuned.samples.items()
    }
    shuffled = TaskResults("gsm8k", {}, parts, load_rows=tuned.load_rows)
    assert format_or_ability(base, shuffled, strict=False) == shorter


def test_the_task_is_found_or_asked_for(outcome):
    base, tuned = (gsm8k(texts, [2] * 10) for texts in (BEFORE, AFTER))
    other = TaskResults("mmlu", {}, {"none": samples([0], acc=[1])})
    one = format_or_ability(results(base, other, name="A"), results(tuned, other, name="B"))
    assert (one.task, one.base, one.tuned, one.reasons) == ("gsm8k", "A", "B", outcome.reasons)
    with pytest.raises(ValueError, match="0 tasks have per-document samples of strict-match"):
        format_or_ability(results(other), results(other))
    with pytest.raises(ValueError, match="model has no task 'gsm'; it has: gsm8k"):
        format_or_ability(results(base), results(tuned), "gsm")
    with pytest.raises(ValueError, match="strict-match"):
        format_or_ability(results(other), results(other), "mmlu")


# ------------------------------------------------------------------------------------ flips


def choice_row(doc_id, values, gold, layout, **doc):
    """A row of two options, "a" and "bbbb": as memory, or as lm-eval's files, has it."""
    pairs = [[value, False] for value in values]
    requests = [["The ctx.", " a"], ["The ctx.", " bbbb"]]
    if layout == "memory":
        shown = {"resps": [[p] for p in pairs], "filtered_resps": pairs, "arguments": requests}
        return {"doc_id": doc_id, "doc": doc, "target": gold, **shown}
    texts = [[str(v), str(g)] for v, g in pairs]
    named = {f"gen_args_{i}": {"arg_0": c, "arg_1": o} for i, (c, o) in enumerate(requests)}
    shown = {"resps": [[t] for t in texts], "filtered_resps": texts, "arguments": named}
    return {"doc_id": doc_id, "doc": doc, "target": str(gold), **shown}


def two_choices(values, golds, layout, **doc):
    """Scores as lm-eval computes them: the highest sum, and the highest per character."""
    rows = [
        choice_row(i, v, g, layout, **doc)
        for i, (v, g) in enumerate(zip(values, golds, strict=True))
    ]
    sums, golds = np.array(values, dtype=float), np.array(golds)
    acc = sums.argmax(axis=1) == golds
    acc_norm = (sums / [1, 4]).argmax(axis=1) == golds
    parts = {"none": samples(range(len(rows)), acc=acc, acc_norm=acc_norm)}
    return results(TaskResults("hellaswag", {}, parts, load_rows=lambda: rows))


@pytest.mark.parametrize("layout", ["memory", "file"])
def test_flips_of_choices(layout):
    # per character -1 against -0.5, then -1 against -2; by the sum "a" wins every time
    base = two_choices([(-1, -2), (-1, -2), (-1, -8)], [1, 0, 0], layout)
    tuned = two_choices([(-1, -8), (-1, -8), (-1, -8)], [1, 0, 0], layout)
    changed = flips(base, tuned, "hellaswag")
    assert changed["doc_id"].tolist() == [0, 1]
    assert changed["change"].tolist() == [LOST, GAINED]
    assert changed["gold"].tolist() == ["B: bbbb", "A: a"]
    assert changed["base_answer"].tolist() == ["B: bbbb", "B: bbbb"]
    assert changed["tuned_answer"].tolist() == ["A: a", "A: a"]
    assert changed["question"].tolist() == ["The ctx."] * 2
    assert flips(base, tuned, "hellaswag", metric="acc").empty
    assert flips(base, base, "hellaswag").columns.tolist() == changed.columns.tolist()


@pytest.mark.parametrize(
    ("doc", "gold", "shown"),
    [
        ({"choices": ["yes", "no"], "query": "Is it?"}, 1, "B: no"),
        ({"endings": ["ends.", "goes on."], "ctx": "It"}, 1, "B: goes on."),
        ({"choices": {"text": ["x", "y"], "label": ["A", "B"]}}, "B", "B: y"),
        ({"option1": "Ann", "option2": "Bob"}, "1", "B: Bob"),
        ({}, "bbbb", "B: bbbb"),
        ({}, [0, 1], "A: a or B: bbbb"),
        ({}, "neither", "neither"),
    ],
)
def test_the_right_option_is_shown_by_its_text(doc, gold, shown):
    base, tuned = (two_choices([values], [1], "memory", **doc) for values in ((-2, -1), (-1, -2)))
    base.tasks["hellaswag"].load_rows()[0]["target"] = gold
    changed = flips(base, tuned, "hellaswag", "acc")
    assert changed["gold"].tolist() == [shown]


def test_flips_of_generated_answers():
    base, tuned = (results(gsm8k(texts, [2] * 10)) for texts in (BEFORE, AFTER))
    changed = flips(base, tuned, "gsm8k")  # flexible-extract
    assert changed["doc_id"].tolist() == [2, 3, 4, 5, 6, 8, 9]
    assert changed["change"].tolist() == [LOST] * 5 + [GAINED] * 2
    assert changed["tuned_answer"].tolist()[-2:] == ["It is 2", "#### 2"]
    strict = flips(base, tuned, "gsm8k", "exact_match,strict-match")
    assert strict["doc_id"].tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert strict.equals(flips(base, tuned, "gsm8k", filter="strict-match"))
    back = flips(tuned, base, "gsm8k")
    assert sorted(back["doc_id"]) == sorted(changed["doc_id"])
    assert (back["change"] == LOST).sum() == 2


def test_what_flips_need_is_said():
    model = results(gsm8k(["#### 2"], [2]), name="m")
    with pytest.raises(ValueError, match="m has no task 'gsm'; it has: gsm8k"):
        flips(model, model, "gsm")
    with pytest.raises(
        ValueError, match="no per-document scores of acc,any; it has: exact_match,s"
    ):
        flips(model, model, "gsm8k", "acc")
    bare = results(TaskResults("gsm8k", {}, {}))
    with pytest.raises(ValueError, match="--log_samples"):
        flips(bare, model, "gsm8k")
    mean = results(TaskResults("t", {}, {"none": samples([0], f1=[0.5])}, load_rows=list))
    with pytest.raises(ValueError, match="t: f1,none has scores other than 0 and 1"):
        flips(mean, mean, "t")


def test_flips_are_shown_escaped():
    nasty = "<script>alert('&')</script>"
    base, tuned = (results(gsm8k(t, [2, 2])) for t in (["#### 2"] * 2, [nasty, "#### 2"]))
    page = answers.show_flips(flips(base, tuned, "gsm8k")).data
    assert "<script" not in page and "&lt;script&gt;alert(&#x27;&amp;&#x27;)" in page
    assert "right -&gt; wrong: 1 document<" in page
    assert "No flips" in answers.show_flips(flips(base, base, "gsm8k")).data


def test_the_first_k_of_each_direction_are_shown():
    base, tuned = (results(gsm8k(texts, [2] * 10)) for texts in (BEFORE, AFTER))
    page = answers.show_flips(flips(base, tuned, "gsm8k"), k=1).data
    assert "5 documents" in page and "2 documents" in page
    assert page.count("<td") == 2 * 4


# ------------------------------------------------------------------------------------ shown


def test_the_outcome_is_shown_escaped():
    base, tuned = (
        results(gsm8k(["#### 2"], [2]), name="<b>"),
        results(gsm8k([""], [2]), name="</b>"),
    )
    page = format_or_ability(base, tuned)._repr_html_()
    assert "1 (100.0 %) empty" in page and "<b>" not in page


def test_the_picture_holds_every_answer(outcome):
    from matplotlib.figure import Figure

    ax = outcome.plot(Figure().subplots())
    for row in (0, 1):
        bars = [bars.patches[row].get_width() for bars in ax.containers]
        assert sum(bars) == pytest.approx(100)
    names = [text.get_text() for text in ax.figure.legends[0].get_texts()]
    assert "rambling" not in names and names[:3] == ["right", "right, then ran on", "format"]


def test_every_kind_of_answer_has_a_colour_of_its_own():
    assert tuple(ANSWER_COLOURS) == answers.KINDS
    assert len({*ANSWER_COLOURS.values()}) == len(answers.KINDS)


def test_nothing_heavy_is_loaded():
    statement = "import sys, slimlib.comparison.answers; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", statement], capture_output=True, text=True)
    loaded = set(done.stdout.split())
    assert "slimlib.comparison.answers" in loaded
    assert not loaded & {"torch", "pandas", "matplotlib", "IPython", "transformers"}


def test_a_table_of_no_documents_is_a_table():
    empty = gsm8k([], [])
    assert isinstance(answers.answer_table(empty), pd.DataFrame)
    with pytest.raises(ValueError):
        format_or_ability(empty, empty)


# ---- whatever read_results takes ----


def test_flips_and_format_or_ability_take_paths():
    data = LM_EVAL / "0.4.13"
    changed = flips(data / "base", str(data / "tuned"), "gsm8k")
    same = flips(read_results(data / "base"), read_results(data / "tuned"), "gsm8k")
    assert len(changed) and changed.equals(same)
    assert format_or_ability(data / "base", data / "tuned").task == "gsm8k"


# ---- each number and text in its place ----

WAS = [
    "#### 2",
    "1 + 1 = 2\n#### 2",
    "#### 2",
    "1 + 2 = 4\n#### 4",
    "a " * 60 + "\n#### 2",
    "#### 2",
]
NOW = ["It is 2.", "It is 9.", "#### 2", "1 + 1 = 2\n#### 2", "no", "It is 7."]


def asked_otherwise(task):
    """The same documents; their questions are not the ones that are shown."""
    rows = [row | {"doc": {"question": "other"}} for row in task.load_rows()]
    return TaskResults("gsm8k", {}, task.samples, load_rows=lambda: rows)


@pytest.fixture(scope="module")
def one():
    base, tuned = gsm8k(WAS, [2] * 6), asked_otherwise(gsm8k(NOW, [2] * 6))
    return format_or_ability(results(base, name="A"), results(tuned, name="B"))


def test_json_has_each_number_under_its_name(one):
    nothing = dict.fromkeys(answers.REASONS, 0)
    asked = {"question": "q0", "gold": "#### 2", "base_answer": "#### 2"}
    long = {"doc_id": 1, "question": "q1", "base_answer": "1 + 1 = 2\n#### 2"}
    assert one.to_dict(examples=1) == {
        "task": "gsm8k",
        "base": "A",
        "tuned": "B",
        "n": 6,
        "strict": [5, 2],
        "flexible": [5, 3],
        "lost": 4,
        "lost_format": 1,
        "gained": 1,
        "net_strict": 3,
        "net_flexible": 2,
        "net_format": 1,
        "reasons": nothing | {"format": 1, "no answer line": 3},
        "shares": dict.fromkeys(nothing, 0.0) | {"format": 25.0, "no answer line": 75.0},
        "before": {"right": 5, "right, then ran on": 0} | nothing | {"wrong arithmetic": 1},
        "after": {"right": 2, "right, then ran on": 0}
        | nothing
        | {"format": 1, "no answer line": 3},
        "equations": {
            "before": {"right": 1, "wrong": 1, "share": 50.0},
            "after": {"right": 1, "wrong": 0, "share": 100.0},
        },
        "examples": {
            "format": [{"doc_id": 0, **asked, "tuned_answer": "It is 2."}],
            "no answer line": [long | {"gold": "#### 2", "tuned_answer": "It is 9."}],
        },
    }
    assert one.to_dict()["examples"] == {}
    assert len(one.to_dict(examples=5)["examples"]["no answer line"]) == 3
    assert len(one.examples("no answer line")) == 3 and len(one.examples("empty")) == 0


def test_the_document_in_full(one):
    first, *examples = one.points()
    assert first == f"gsm8k, format or ability? {one.sentence()}"
    assert examples == [
        'format (1), as document 0: gold "#### 2", before "#### 2", after "It is 2."',
        'no answer line (3), as document 1: gold "#### 2", before "1 + 1 = 2 #### 2", '
        'after "It is 9."',
    ]
    document = one.document()
    assert document.title == "B, against A"
    assert document.points == [(first, examples)]
    assert document.table.index.name == "answer"
    assert document.table.loc["no answer line"].tolist() == [0, 3, 3, "75.0"]
    assert document.table.loc["right"].tolist() == [5, 2, 0, "0.0"]


@pytest.mark.parametrize(("length", "shown"), [(90, "x" * 90), (91, "... " + "x" * 90)])
def test_of_a_long_answer_the_end_is_shown(length, shown):
    lost = format_or_ability(gsm8k(["#### 2"], [2]), gsm8k(["x" * length], [2]))
    assert lost.points()[1].endswith(f'after "{shown}"')


def test_one_answer_and_none():
    lost = format_or_ability(gsm8k(["#### 2"], [2]), gsm8k(["It is 2"], [2]))
    assert lost.sentence().startswith(
        "Of 1 answer lost by strict-match, 1 (100.0 %) had the right number in another format. Net"
    )
    gained = format_or_ability(gsm8k(["#### 2", "no"], [2, 2]), gsm8k(["#### 2"] * 2, [2, 2]))
    assert gained.sentence().startswith("None of the 1 answers right by strict-match was lost. N")
    assert (gained.table()["% of the lost"] == 0).all()


def test_its_repr_leaves_the_documents_out(one):
    assert "documents" not in repr(one) and "task='gsm8k'" in repr(one)


def test_the_picture_is_of_before_and_after(one):
    from matplotlib.figure import Figure

    ax = one.plot(Figure().subplots())
    assert [label.get_text() for label in ax.get_yticklabels()] == ["A", "B"]
    right = ax.containers[0].patches
    assert [bar.get_width() for bar in right] == pytest.approx([100 * 5 / 6, 100 * 2 / 6])


def test_the_task_is_one_that_both_can_tell_of():
    full = gsm8k(["#### 2"], [2])
    more = TaskResults("sums", {}, full.samples, load_rows=full.load_rows)
    half = TaskResults("sums", {}, {"strict-match": full.samples["strict-match"]})
    both = (full, more)
    for sides in ((both, (full, half)), ((full, half), both), (both, (full,)), ((full,), both)):
        assert format_or_ability(*(results(*tasks) for tasks in sides)).task == "gsm8k"
    with pytest.raises(ValueError, match=r"^2 tasks have .* as task .tasks of both: gsm8k, sums.$"):
        format_or_ability(results(full, more), results(full, more))
    with pytest.raises(ValueError, match=r"^0 tasks have .* .tasks of both: none.$"):
        format_or_ability(results(full), results(more))

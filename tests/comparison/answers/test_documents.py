"""Rows of lm-eval: what was asked, what is right, and what the model chose, field by field."""

import numpy as np
import pytest

from slimlib.comparison.answers.documents import (
    chosen,
    gold_of,
    length_limit,
    question_of,
    right_documents,
    rows_by_document,
    text_of,
)
from slimlib.results import Samples, TaskResults


def task(scores, ids=("a", "b"), kind="none", metric="acc", **more):
    samples = Samples(ids, ids, ids, {metric: np.array(scores, dtype=float)})
    return TaskResults("own_task", {}, {kind: samples}, **more)


def choices(*values, target=0, options=None, **doc):
    """A row whose options have these log-likelihoods; `options`: the texts they were scored by."""
    texts = [f" {chr(97 + i)}" for i in range(len(values))] if options is None else options
    return {
        "doc": doc,
        "target": target,
        "arguments": [["The context.", text] for text in texts],
        "filtered_resps": [[value, False] for value in values],
    }


# ---- scores and rows ----


def test_which_documents_are_right():
    assert right_documents(task([1, 0]), "none", "acc") == {"a": True, "b": False}
    lower = task([1, 0], metric="wrong", higher_is_better={"wrong": False})
    assert right_documents(lower, "none", "wrong") == {"a": False, "b": True}
    higher = task([1, 0], higher_is_better={"acc": True, "other": False})
    assert right_documents(higher, "none", "acc") == {"a": True, "b": False}


def test_scores_that_are_not_there_are_named():
    with pytest.raises(ValueError, match="^own_task has no acc,other .*; it has: acc,none$"):
        right_documents(task([1, 0]), "other", "acc")
    with pytest.raises(ValueError, match="^own_task has no f1,none .*; it has: acc,none$"):
        right_documents(task([1, 0]), "none", "f1")
    with pytest.raises(ValueError, match="^own_task: acc,none has scores other than 0 and 1"):
        right_documents(task([1, 0.5]), "none", "acc")
    with pytest.raises(ValueError, match="only aggregate scores"):
        right_documents(TaskResults("own_task", {}, {}), "none", "acc")


def test_the_first_row_of_a_document_stands_for_it():
    rows = [{"doc_id": 1, "x": 1}, {"doc_id": 0, "x": 2}, {"doc_id": 1, "x": 3}]
    found = rows_by_document(task([1, 0], load_rows=lambda: rows))
    assert found == {1: rows[0], 0: rows[1]}
    with pytest.raises(ValueError, match="own_task: a row of the samples has no doc_id"):
        rows_by_document(task([1, 0], load_rows=lambda: [{"x": 1}]))
    with pytest.raises(ValueError, match="own_task: the answers themselves are not there"):
        rows_by_document(task([1, 0]))


# ---- texts ----


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ({"resps": [["one", "two"], ["three"]], "filtered_resps": ["other"]}, "one"),
        ({"resps": (("one",),)}, "one"),
        ({"resps": "one"}, "one"),
        ({"filtered_resps": ["other", "more"]}, "other"),
        ({"resps": [[]]}, ""),
        ({"resps": [5]}, ""),
        ({}, ""),
    ],
)
def test_the_first_response_is_the_answer(row, text):
    assert text_of(row) == text


@pytest.mark.parametrize(
    ("row", "question"),
    [
        ({"doc": {"query": " q ", "ctx": "c"}, "arguments": [["prompt"]]}, "q"),
        ({"doc": {"question": "x", "query": "q"}}, "x"),
        ({"doc": {"question": ["x"], "ctx": "c"}}, "c"),
        ({"doc": "bare", "arguments": [[" prompt ", " a"], ["other"]]}, "prompt"),
        ({"arguments": {"gen_args_0": {"arg_0": "prompt", "arg_1": {}}}}, "prompt"),
        ({"arguments": [("prompt", "a")]}, "prompt"),
        ({"arguments": (["prompt"],)}, "prompt"),
        ({"arguments": "prompt"}, ""),
        ({"arguments": [5, ["prompt"]]}, "prompt"),
        ({"arguments": [[]]}, ""),
        ({"arguments": [["x" * 300]]}, "x" * 300),
        ({"arguments": [["y" + "x" * 300]]}, "... " + "x" * 300),
        ({"arguments": None}, ""),
        ({}, ""),
    ],
)
def test_what_was_asked(row, question):
    assert question_of(row) == question


@pytest.mark.parametrize(
    ("requests", "limit"),
    [
        ([["prompt", {"max_gen_toks": 48}]], 48),
        ([["prompt", {"max_gen_toks": 1}]], 1),
        ([["prompt", {"max_gen_toks": 10**9 - 1}]], 10**9 - 1),
        ([["prompt", {"max_gen_toks": 10**9}]], None),
        ([["prompt", {"until": []}]], None),
        ([["prompt", "text", {"max_gen_toks": 7}]], 7),
        ([["prompt"], ["prompt", {"max_gen_toks": 9}]], 9),
        ([["prompt", {"max_gen_toks": 5}, {"max_gen_toks": 6}]], 5),
        ([[{"max_gen_toks": 5}]], None),  # a context is no setting
        ({"gen_args_0": {"arg_0": "prompt", "arg_1": {"max_gen_toks": 8}}}, 8),
    ],
)
def test_the_length_limit_of_a_row(requests, limit):
    assert length_limit({"arguments": requests}) == limit


# ---- what was chosen ----


@pytest.mark.parametrize(
    ("row", "metric", "answer"),
    [
        (choices(-1, -2), "acc", "A: a"),
        (choices(-3, -2, -4), "acc", "B: b"),
        (choices(-1, -2, options=[" a", " bbbb"]), "acc", "A: a"),
        (choices(-1, -2, options=[" a", " bbbb"]), "acc_norm", "B: bbbb"),
        (choices(-2, -3, options=[" ab", " \u00e9"]), "acc_norm", "A: ab"),  # -1 against -3
        (choices(-2, -3, options=[" ab", " \u00e9"]), "acc_bytes", "A: ab"),  # against -1.5
        (choices(-2, -1.9, options=[" a", " \u00e9"]), "acc", "B: \u00e9"),
        (choices(-2, -2.2, options=[" a", " \u00e9"]), "acc_norm", "A: a"),
        (choices(-2, -2.2, options=[" a", " \u00e9"]), "acc_bytes", "B: \u00e9"),
        (choices(-1, -1.5, options=[" ", " abc"]), "acc_norm", "B: abc"),  # no text: as one sign
        (choices(-1, -1.5, options=[" ", " abc"]), "acc_bytes", "B: abc"),
        (choices(-1, -0.5, options=[" "]), "acc_norm", "B"),  # too few texts: as they are
        (choices(-1, -0.5, options=[" a", " b", " c"]), "acc", "B: b"),  # more texts than options
        (choices(-1, -2, choices=["yes", "no"]), "acc", "A: yes"),
        (choices(-1, -2, endings=["so", "thus"]), "acc", "A: so"),
        (choices(-1, -2, choices=["yes"]), "acc", "A: a"),  # another number: as they were scored
        (choices(-1, -2, choices={"text": ["yes", "no"]}), "acc", "A: yes"),
        (choices(-1, -2, option1="Ann", option2="Bob"), "acc", "A: Ann"),
        (choices(*range(-27, 0)[::-1]), "acc", "A: a"),
        (choices(*range(-27, 0), options=[]), "acc", "26"),
        (choices(*range(-27, 0)[::-1], options=[]), "acc", "A"),
        (choices("-inf", "-1e2"), "acc", "B: b"),
        (choices("-1.5e-3", "-2"), "acc", "A: a"),
        (choices("(-3.0, True)", "(-2.0, False)"), "acc", "B: b"),
        ({"resps": [[" 18 "]], "arguments": [["q", {"until": []}]]}, "acc", "18"),
        # numbers that were generated are no log-likelihoods
        ({"resps": ["7", "9"], "arguments": [["q", {"until": []}]]}, "acc", "7"),
        ({"resps": ["7", "9"], "arguments": [["q", "a", {}]]}, "acc", "7"),
        ({"resps": ["7", "9"], "arguments": [["q", "a"], ["q", "b"]]}, "acc", "B: b"),
        ({"resps": [["7"], ["x"]], "arguments": [["q", "a"], ["q", "b"]]}, "acc", "7"),
        ({"resps": ["only"], "arguments": []}, "acc", "only"),
        ({"resps": ["-2", "-1"], "arguments": [["q"], ["q", " b"]]}, "acc", "B"),
        ({"resps": ["-1"], "arguments": []}, "acc", "-1"),  # one alone is no choice
        ({"resps": [["-1"], ["-2"]], "filtered_resps": [], "arguments": []}, "acc", "A"),
        ({"resps": [["-1"], ["-2"]], "filtered_resps": ["-3", "-2"], "arguments": []}, "acc", "B"),
    ],
)
def test_what_was_chosen(row, metric, answer):
    assert chosen(row, metric) == answer


@pytest.mark.parametrize(
    ("target", "gold"),
    [
        (1, "B: b"),
        ("1", "B: b"),
        (" 2 ", "C: c"),
        ("3", "3"),  # no such option
        ("a", "A: a"),
        ("B", "B: b"),
        ("A", "A: a"),
        ("C", "C: c"),
        ("D", "D"),
        ("@", "@"),  # just before "A"
        ("BB", "BB"),
        ([0, 2], "A: a or C: c"),
        ([0, "neither"], "A: a or neither"),
        (None, "None"),
    ],
)
def test_the_right_option(target, gold):
    assert gold_of(choices(-1, -2, -3, target=target)) == gold


def test_past_z_options_have_numbers():
    row = choices(*range(28), target="[", options=[])
    assert (gold_of(row), gold_of(row | {"target": "27"})) == ("[", "27")
    assert gold_of(row | {"target": "Z"}) == "Z" and gold_of(row | {"target": 25}) == "Z"


def test_a_digit_is_an_index_first_and_then_a_text():
    row = choices(-1, -2, target="1", options=[" 1", " 0"])
    assert gold_of(row) == "B: 0"
    assert gold_of(row | {"target": "7", "arguments": [["q", " 7 "], ["q", " 8"]]}) == "A: 7"


def test_the_right_text_of_what_was_generated():
    generated = {"resps": ["x"], "arguments": [["q", {}]]}
    assert gold_of(generated | {"target": " #### 18 "}) == "#### 18"
    assert gold_of(generated | {"target": 0}) == "0"
    assert gold_of(generated | {"target": None}) == gold_of(generated) == ""

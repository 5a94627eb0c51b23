"""Layouts: what people's rows look like, brought to three, and what is refused by number."""

import math

import pytest

from slimlib.data.layouts import as_row

Q, A = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
S = {"role": "system", "content": "s"}
SIMPLE = {"instruction": "q", "input": "", "output": "a"}


def read(row):
    return as_row(row, "mine.jsonl", 3)


@pytest.mark.parametrize(
    "row",
    [
        {"instruction": "q", "output": "a"},
        {"instruction": "q", "input": None, "output": "a"},
        {"instruction": "q", "input": math.nan, "output": "a"},  # of a table
        {"instruction": "q", "response": "a"},  # Dolly
        {"prompt": "q", "completion": "a"},
        {"prompt": "q", "response": "a"},
        {"question": "q", "answer": "a"},
        {"Question": "q", " Answer ": "a"},
        {"input": "q", "output": "a"},
        {"instruction": "q", "output": "a", "system": "", "history": []},
        {"instruction": "q", "output": "a", "messages": None, "text": None},  # of mixed Parquet
    ],
)
def test_a_question_and_an_answer(row):
    assert read(row) == SIMPLE
    assert read(row).unused == ()


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [Q, A]},
        {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
        {"conversations": [Q, A]},
        {"messages": '[{"role": "user", "content": "q"}, {"from": "model", "value": "a"}]'},
        {"messages": [{"role": "USER", "content": [{"type": "text", "text": "q"}]}, A]},
        {"prompt": [Q], "completion": [A]},  # TRL
        {"prompt": [Q], "completion": "a"},
        {"prompt": "q", "completion": [A]},
        {"prompt": "q", "prompt_id": "7", "messages": [Q, A]},
    ],
)
def test_turns(row):
    assert read(row) == {"messages": [Q, A]}


def test_parts_of_text_are_joined():
    parts = [
        {"type": "text", "text": "one "},
        "and ",
        {"type": "text", "text": "two", "image": None},
    ]
    row = read({"messages": [{"role": "user", "content": parts}, A]})
    assert row["messages"][0]["content"] == "one and two"


def test_text_alone_is_a_layout_and_beside_others_is_not_used():
    assert read({"text": "all of it"}) == {"text": "all of it"}
    alpaca = read({"instruction": "q", "input": "", "output": "a", "text": "Below is ... q ... a"})
    assert alpaca == SIMPLE and alpaca.unused == ("text",)


def test_system_and_history_become_turns():
    given = {
        "instruction": "q",
        "input": "i",
        "output": "a",
        "system": "s",
        "history": [["h", "r"]],
    }
    turns = [S, {**Q, "content": "h"}, {**A, "content": "r"}, {**Q, "content": "q\n\ni"}, A]
    assert read(given) == {"messages": turns}
    assert read(given | {"history": '[["h", "r"]]'}) == {"messages": turns}
    assert read(given | {"history": [turns[1], turns[2]]}) == {"messages": turns}
    assert read({"system_prompt": "s", "question": "q", "answer": "a"}) == {"messages": [S, Q, A]}
    assert read({"system": "s", "conversations": [Q, A]}) == {"messages": [S, Q, A]}
    assert read({"system": "s", "messages": [S, Q, A]}) == {"messages": [S, Q, A]}


@pytest.mark.parametrize(
    ("answer", "text"),
    [(7, "7"), (7.5, "7.5"), (0, "0"), (-3, "-3"), (True, "true"), ("7.0", "7.0"), ("NA", "NA")],
)
def test_answers_that_are_no_text_become_it_as_they_are_written(answer, text):
    assert read({"question": "q", "answer": answer})["output"] == text
    assert read({"messages": [Q, {**A, "content": answer}]})["messages"][1]["content"] == text


def test_an_answer_of_nothing_is_empty_and_no_error():
    assert read({"instruction": "q", "output": None})["output"] == ""


def test_what_is_not_read_is_named_once_where_it_holds_something():
    row = read({"question": "q", "answer": "a", "Source": "web", "score": 0, "note": None})
    assert row.unused == ("Source", "score")
    assert read({"": 7, "question": "q", "answer": "a"}).unused == ("(no name)",)  # pandas' index
    thinking = {**A, "reasoning_content": "hm", "weight": 0}
    row = read({"id": 1, "messages": [Q, thinking, Q, thinking]})
    assert row.unused == ("id", "messages.reasoning_content", "messages.weight")


def test_a_row_knows_where_it_stood():
    row = read({"question": "q", "answer": "a"})
    assert (row.where, row.number) == ("mine.jsonl", 3)


CALL = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f"}}]}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"a": 1, "b": 2}, r"has no text column 'instruction'; it has \['a', 'b'\]. Rows need"),
        ({"prompt": "q", "chosen": "a"}, "has no text column 'output'"),
        ({"output": "a"}, "has no text column 'instruction'"),
        ({"question": "q", "answer": ["a"]}, "the answer is no text but a list"),
        ({"question": {"x": 1}, "answer": "a"}, "is no text but a dict"),
        ([1], "is not an object with columns"),
        ({"messages": []}, "messages must be a list of objects"),
        ({"messages": "hello"}, "messages must be a list of objects"),
        ({"messages": "[broken"}, "messages must be a list of objects"),
        ({"conversations": [["q", "a"]]}, "conversations must be a list of objects"),
        ({"messages": [Q, {"role": "assistant"}]}, "turn 2 has not"),
        ({"messages": [Q, {"role": "judge", "content": "x"}]}, "turn 2 is of 'judge'"),
        ({"messages": [Q, {"content": "x"}]}, "turn 2 is of None"),
        ({"messages": [Q, CALL]}, "turn 2 is of a tool"),
        ({"messages": [Q, {"role": "tool", "content": "x"}]}, "turn 2 is of a tool"),
        ({"conversations": [{"from": "observation", "value": "x"}]}, "turn 1 is of a tool"),
        (
            {"messages": [{**Q, "content": [{"type": "image_url", "image_url": "x"}]}]},
            "turn 1 has a part of type 'image_url'",
        ),
        ({"messages": [Q, A], "images": ["x.png"]}, "has images, and only text"),
        ({"instruction": "q", "output": "a", "history": ["x"]}, "history must be a list"),
        ({"instruction": "q", "output": "a", "history": "x"}, "history must be a list"),
        ({"system": "t", "messages": [S, Q, A]}, "a system column and another system turn"),
    ],
)
def test_what_cannot_be_read_is_refused_by_file_and_number(row, message):
    with pytest.raises(ValueError, match=rf"mine.jsonl row 3.*{message}") as error:
        read(row)
    assert "\n" not in str(error.value)

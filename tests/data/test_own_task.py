"""One's own questions: three layouts, scored as their documentation says, refused by row."""

import json

import pytest

from slimlib.data.named_tasks import load_units
from slimlib.data.own_task import first_line, found, own_task


def write(folder, *rows, name="mine.jsonl"):
    path = folder / name
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def test_the_file_gives_the_name_and_its_columns_the_layout(tmp_path):
    written = own_task(write(tmp_path, {"question": "2 + 3?", "answer": 5}))
    assert (written["task"], written["output_type"]) == ("mine", "generate_until")
    chosen = own_task(write(tmp_path, {"question": "?", "choices": ["a", "b"], "answer": 0}))
    assert chosen["output_type"] == "multiple_choice"
    searched = own_task(write(tmp_path, {"prompt": "Say 5.", "regex": r"\b5\b"}))
    assert searched["generation_kwargs"]["do_sample"] is False
    assert searched["custom_dataset"]()["test"][0] == {"prompt": "Say 5.", "regex": r"\b5\b"}


@pytest.mark.parametrize(
    ("choices", "answer", "place"),
    [(["x", "y"], 1, 1), (["x", "y"], "B", 1), (["x", "y"], "y", 1), ([6, 7], "6", 0)],
)
def test_an_answer_is_a_place_a_letter_or_the_choice(tmp_path, choices, answer, place):
    path = write(tmp_path, {"question": "?", "choices": choices, "answer": answer})
    assert own_task(path)["custom_dataset"]()["test"][0]["answer"] == place


@pytest.mark.parametrize(
    ("answer", "right"),
    [("5", 1), (" 5.\nQuestion: more", 1), ("\n  5", 1), ("15", 0), ("", 0), ("It is 5", 0)],
)
def test_a_written_answer_is_right_if_its_first_line_is(answer, right):
    assert first_line({"answer": "5"}, [answer]) == {"exact_match": right}


def test_case_and_spaces_do_not_count():
    assert first_line({"answer": "New York"}, [" new  york."]) == {"exact_match": 1}


def test_an_expression_is_searched_in_the_whole_answer():
    assert found({"regex": r"\b5\b"}, ["It is\n5 then"]) == {"exact_match": 1}
    assert found({"regex": r"\b5\b"}, ["It is 15"]) == {"exact_match": 0}


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "has no questions"),
        ([{"text": "?"}], "row 1 has text; a question has question and answer"),
        ([{"question": "?", "answer": "a"}, {"question": "?"}], "row 2 has no 'answer'"),
        ([{"question": "?", "answer": None}], "row 1: answer is None"),
        ([{"question": "?", "choices": ["a"], "answer": 0}], "row 1: choices is"),
        ([{"question": "?", "choices": ["a", "b"], "answer": 2}], "row 1: answer is '2'"),
        ([{"question": "?", "choices": ["a", "b"], "answer": True}], "row 1: answer is 'True'"),
        ([{"prompt": "?", "regex": "("}], r"row 1: regex '\(' is no regular expression"),
    ],
)
def test_a_row_that_cannot_be_asked_is_named(tmp_path, rows, said):
    with pytest.raises(ValueError, match=said):
        own_task(write(tmp_path, *rows))


def test_solved_examples_show_an_answer_never_an_expression(tmp_path):
    rows = [{"prompt": f"Say {n}.", "regex": rf"\b{n}\b"} for n in range(3)]
    with pytest.raises(ValueError, match="its rows have a regex alone: give each a column answer"):
        own_task(write(tmp_path, *rows), shots=1)
    path = write(tmp_path, *({**row, "answer": f"Number {n}"} for n, row in enumerate(rows)))
    (unit,) = load_units([str(path)], None, tmp_path, shots=2)
    (task,) = unit.tasks
    task.set_fewshot_seed(1)
    text = task.fewshot_context(task.eval_docs[0], 2)
    assert "Say 1. Number 1\n\n" in text and text.endswith("\n\nSay 0.")
    with pytest.raises(ValueError, match="num_fewshot=3 other questions cannot stand before each"):
        own_task(path, shots=3)


def test_broken_files_are_named(tmp_path):
    with pytest.raises(ValueError, match="no.jsonl does not exist"):
        own_task(tmp_path / "no.jsonl")
    path = tmp_path / "mine.jsonl"
    path.write_text('{"question": "?", "answer": "a"}\n{"question"\n')
    with pytest.raises(ValueError, match="mine.jsonl line 2 is not valid JSON"):
        own_task(path)
    path.write_text("[1]\n")
    with pytest.raises(ValueError, match="row 1 is not an object"):
        own_task(path)

"""The census of one-digit arithmetic: what is asked, letter by letter, and how it is judged."""

from collections import Counter

import pytest
from lm_eval.tasks import TaskManager

from slimlib.config import Task
from slimlib.data.digits import (
    ANSWERS,
    EQUATIONS,
    IN_A_ROW,
    REHEARSED,
    SHOTS,
    WORDINGS,
    ask,
    rehearsal,
    rows,
)
from slimlib.data.tasks import stock_yaml, task_yaml

PROMPTS = {
    "equation": "3 + 4 = 7\n\n9 - 2 = 7\n\n2 * 6 = 12\n\n5 + 8 = 13\n\n0 + 0 =",
    "words": (
        "If you add 3 and 4, you get 7\n\nIf you subtract 2 from 9, you get 7\n\n"
        "If you multiply 2 by 6, you get 12\n\nIf you add 5 and 8, you get 13\n\n"
        "If you add 0 and 0, you get"
    ),
    "question": (
        "Question: What is 3 plus 4?\nAnswer: 7\n\nQuestion: What is 9 minus 2?\nAnswer: 7\n\n"
        "Question: What is 2 times 6?\nAnswer: 12\n\nQuestion: What is 5 plus 8?\nAnswer: 13\n\n"
        "Question: What is 0 plus 0?\nAnswer:"
    ),
}


def load(name):
    manager = TaskManager(include_defaults=False)
    (task,) = manager.load([str(stock_yaml(name))])["tasks"].values()
    return task


def requests(name):
    task = load(name)
    task.build_all_requests(limit=None, rank=0, world_size=1)
    return task, [request.arguments for request in task.instances]


def test_the_census_has_every_equation_once():
    assert Counter(e.sign for e in EQUATIONS) == {"+": 100, "-": 55, "*": 100}
    assert len({str(e) for e in EQUATIONS}) == 255
    assert all(eval(str(e)) == e.answer >= 0 for e in EQUATIONS)
    assert [len(ANSWERS[sign]) for sign in "+-*"] == [19, 10, 37]


def test_shots_show_each_operation_and_both_lengths_and_never_an_equation_twice():
    assert len({shot for shots in SHOTS for shot in shots}) == 4 * len(SHOTS) == 12
    for shots in SHOTS:
        assert {shot.sign for shot in shots} == {*"+-*"}
        assert {len(str(shot.answer)) for shot in shots} == {1, 2}
        assert {*shots} <= {*EQUATIONS}


@pytest.mark.parametrize("wording", WORDINGS)
def test_what_is_shown_is_not_asked(wording):
    found = rows(wording)
    assert len(found) == 3 * 251
    for number, shots in enumerate(SHOTS, 1):
        asked = [row["equation"] for row in found if row["shots"] == number]
        assert {str(e) for e in EQUATIONS} - {*asked} == {str(shot) for shot in shots}
        assert len(asked) == 251


@pytest.mark.parametrize("wording", WORDINGS)
def test_the_prompt_is_this_text_and_one_space_is_before_each_answer(wording):
    """lm-eval's delimiter " " before a target that begins with one makes two of them."""
    _, written = requests(f"digits_{wording}")
    assert written[0][0] == PROMPTS[wording]
    task, chosen = requests(f"digits_{wording}_chosen")
    assert chosen[12] == (PROMPTS[wording], " 12\n\n")
    assert "  " not in "".join(context + ending for context, ending in chosen)
    assert len(chosen) == sum(len(row["choices"]) for row in rows(wording))
    prompts = [context for context, _ in written]
    assert len({*prompts}) == 753 and prompts == list(dict.fromkeys(c for c, _ in chosen))
    assert not any(prompt.endswith(" ") for prompt in prompts)


def test_every_prompt_s_own_shots_are_right():
    for row in rows("equation"):
        *shots, question = row["prompt"].split("\n\n")
        assert all(eval(shot.replace("=", "==")) for shot in shots) and len(shots) == 4
        assert eval(question.removesuffix("=")) == int(row["answer"])
        assert row["choices"][row["right"]] == f" {row['answer']}\n\n"


@pytest.mark.parametrize(
    ("answer", "strict", "flexible"),
    [
        (" 12", 1, 1),
        ("12 ", 1, 1),
        (" 12.", 0, 1),
        (" the number 12, since", 0, 1),
        (" 13", 0, 0),
        (" 1", 0, 0),
        (" 122", 0, 0),
        (" twelve", 0, 0),
        ("", 0, 0),
    ],
)
def test_strict_takes_the_whole_line_and_flexible_its_first_number(answer, strict, flexible):
    task, _ = requests("digits_equation")
    (request,) = [r for r in task.instances if r.doc["equation"] == "7 + 5" and r.doc["shots"] == 1]
    task._instances = [request]
    request.resps = [answer]
    task.apply_filters()
    found = {
        name: task.process_results(request.doc, [said])["exact_match"]
        for name, said in request.filtered_resps.items()
    }
    assert found == {"strict-match": strict, "flexible-extract": flexible}


def test_a_local_folder_changes_nothing(tmp_path):
    task = Task("digits_words", "digits_words", num_fewshot=0, batch_size=1, source="digits_words")
    path = task_yaml(task, tmp_path, tmp_path)
    (local,) = TaskManager(include_defaults=False).load([str(path)])["tasks"].values()
    assert [*local.eval_docs] == [*load("digits_words").eval_docs]


def test_what_is_rehearsed_is_in_the_tasks_form_and_never_asked():
    """Each equation is right, has a number of two digits, and is written as the shots are."""
    found = rehearsal()
    asked = {f"{ask(e, wording)} {e.answer}" for e in EQUATIONS for wording in WORDINGS}
    assert len(found) == len({row["text"] for row in found}) == REHEARSED
    assert rehearsal() == found
    for row in found:
        solved = row["text"].split("\n\n")
        assert len(solved) == IN_A_ROW and not asked & {*solved}
    signs = Counter()
    for row in found[::3]:  # the wording of equations
        for text in row["text"].split("\n\n"):
            a, sign, b, _, answer = text.split(" ")
            right = {"+": int(a) + int(b), "-": int(a) - int(b), "*": int(a) * int(b)}[sign]
            assert int(answer) == right >= 0 and 10 <= int(a) <= 99
            signs[sign] += 1
    assert min(signs.values()) > 0.3 * sum(signs.values())

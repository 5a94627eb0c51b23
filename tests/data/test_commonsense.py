"""ARC, PIQA and WinoGrande rebuilt from rows in an instruction layout."""

import json

import pytest
from lm_eval.tasks import TaskManager

from slimlib.config import Task
from slimlib.data.commonsense import arc_dataset, split_row
from slimlib.data.tasks import task_yaml

ARC = {
    "instruction": "Please choose the correct answer to the question: Which is hot: ice or fire?"
    "\n\nAnswer1: ice Answer2: fire Answer3: both\n\nAnswer format: answer1/answer2/answer3",
    "answer": "answer2",
}
PIQA = {
    "instruction": "Please choose the correct solution to the question: dresser\n\nSolution1: a pin"
    " \n\nSolution2: Answer it: no\n\nAnswer format: solution1/solution2",
    "answer": "solution1",
}
WINOGRANDE = {
    "instruction": "Please choose the correct answer to fill in the blank to complete the given "
    "sentence: The _ was red.\n\nOption1: bed Option2: car Answer format: option1/option2",
    "answer": "option2",
}


def test_a_row_by_hand():
    assert split_row(ARC) == ("Which is hot: ice or fire?", ["ice", "fire", "both"], 1)
    assert split_row(PIQA) == ("dresser", ["a pin ", "Answer it: no"], 0)  # its space is its own
    assert split_row(WINOGRANDE) == ("The _ was red.", ["bed", "car"], 1)


@pytest.mark.parametrize("answer", ["answer4", "answer0", "true"])
def test_an_answer_that_is_no_choice_names_the_row(answer, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in (ARC, ARC | {"answer": answer})))
    with pytest.raises(ValueError, match=rf"rows.jsonl row 2: 3 choices and the answer '{answer}'"):
        arc_dataset({"test": str(path)})


@pytest.mark.parametrize(
    ("name", "documents", "first"),
    [
        ("arc_easy", 2376, ("Question: Which statement best explains why photosynthesis", 4)),
        ("arc_challenge", 1172, ("Question: An astronomer observes that a planet rotates", 4)),
        ("piqa", 1838, ("Question: How do I ready a guinea pig cage for it's new occ", 2)),
        ("winogrande", 1267, ("Sarah was a much better surgeon than Maria so Sarah", 2)),
    ],
)
def test_lm_eval_s_own_tasks_ask_the_real_rows(name, documents, first, data_folder, tmp_path):
    task = Task(name, name, num_fewshot=0, batch_size=1, source=name)
    path = task_yaml(task, data_folder, tmp_path)
    (built,) = TaskManager(include_defaults=False).load([str(path)])["tasks"].values()
    built.build_all_requests(limit=1, rank=0, world_size=1)
    assert len(built.eval_docs) == documents
    start, choices = first
    assert built.instances[0].arguments[0].startswith(start) and len(built.instances) == choices
    text = "".join(context + ending for context, ending in (r.arguments for r in built.instances))
    assert "nswer format" not in text and "Please choose" not in text

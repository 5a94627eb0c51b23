"""The micro task files mirror lm-eval's own: same prompts, filters and metrics, other rows."""

from importlib.resources import files
from pathlib import Path

import pytest
import yaml

from slimlib.data.micro import TASKS, world

GSM8K, HELLASWAG = "gsm8k/gsm8k.yaml", "hellaswag/hellaswag.yaml"


class Loader(yaml.SafeLoader):
    """Reads lm-eval's `!function module.name` as that text."""


Loader.add_constructor("!function", lambda loader, node: node.value)


def load(path):
    return yaml.load(Path(path).read_text(encoding="utf-8"), Loader)


def stock(name):
    return load(str(files("lm_eval") / "tasks" / name))


@pytest.mark.parametrize(
    "key", ["output_type", "doc_to_text", "doc_to_target", "metric_list", "filter_list", "repeats"]
)
def test_arithmetic_is_scored_as_gsm8k(key):
    assert load(TASKS / "micro_arithmetic.yaml")[key] == stock(GSM8K)[key]


def test_arithmetic_generates_greedily_until_the_next_question():
    ours, theirs = load(TASKS / "micro_arithmetic.yaml"), stock(GSM8K)
    assert set(ours["generation_kwargs"]["until"]) <= set(theirs["generation_kwargs"]["until"])
    for key in ("do_sample", "temperature"):
        assert ours["generation_kwargs"][key] == theirs["generation_kwargs"][key]


@pytest.mark.parametrize("key", ["output_type", "metric_list", "doc_to_target"])
def test_stories_are_scored_as_hellaswag(key):
    assert load(TASKS / "micro_stories.yaml")[key] == stock(HELLASWAG)[key]


def test_facts_are_scored_as_mmlu_but_by_the_text_of_the_choices():
    ours = load(TASKS / "micro_facts.yaml")
    theirs = stock("mmlu/default/_default_template_yaml")
    for key in ("output_type", "metric_list", "doc_to_target"):
        assert ours[key] == theirs[key]
    assert ours["doc_to_choice"] == "choices"


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    """The three tasks as lm-eval builds them, on the test rows."""
    from lm_eval.tasks import TaskManager

    folder = tmp_path_factory.mktemp("tasks")
    world.write_data(folder / "data")
    names = [path.stem for path in TASKS.glob("*.yaml")]
    for name in names:
        rows = name.removeprefix("micro_")
        splits = {s: folder / "data" / f"{rows}_{s}.jsonl" for s in ("train", "test")}
        data_files = {s: str(path) for s, path in splits.items() if path.exists()}
        config = {
            "include": str(TASKS / f"{name}.yaml"),
            "task": name,
            "dataset_kwargs": {"data_files": data_files},
        }
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    return manager.load(names)["tasks"]


def test_stories_query_is_what_hellaswag_makes_of_the_row(tasks):
    from lm_eval.tasks.hellaswag.utils import preprocess

    task = tasks["micro_stories"]
    for doc in list(task.test_docs())[:100]:
        ctx = doc["ctx_a"] + " " + doc["ctx_b"].capitalize()
        assert task.doc_to_text(doc) == preprocess(f"{doc['activity_label']}: {ctx}")
        assert task.doc_to_choice(doc) == [preprocess(e) for e in doc["endings"]]
        assert task.doc_to_target(doc) == int(doc["label"])


def test_the_gold_answer_passes_both_gsm8k_filters(tasks):
    task = tasks["micro_arithmetic"]
    docs = list(task.test_docs())[:20]
    for doc in docs:
        for regex in (f.filters[0] for f in task._filters):
            found = regex().apply([[doc["answer"]]], [doc])[0][0]
            assert found == doc["answer"].split("#### ")[1]


def test_a_fact_offers_its_choices_as_texts(tasks):
    task = tasks["micro_facts"]
    doc = list(task.test_docs())[0]
    assert task.doc_to_text(doc) == f"Question: {doc['question']}\nAnswer:"
    assert task.doc_to_choice(doc)[task.doc_to_target(doc)] == doc["choices"][doc["answer"]]

"""Local tasks: on the same rows they ask the model exactly what lm-eval's own tasks ask."""

import csv
import gzip
import json
from itertools import islice
from pathlib import Path

import datasets
import lm_eval
import pytest
from lm_eval.tasks import TaskManager

from slimlib.config import Task
from slimlib.data import tasks
from slimlib.data.prompts import format_prompt
from slimlib.data.tasks import check_files, stock_yaml, task_yaml
from slimlib.studies.get import get_study
from slimlib.studies.slimming import MICRO_ABILITIES, MICRO_TASKS, PAPER_TASKS

STOCK = Path(lm_eval.__file__).parent / "tasks"
STOCK_FILES = {
    "gsm8k": STOCK / "gsm8k" / "gsm8k.yaml",
    "hellaswag": STOCK / "hellaswag" / "hellaswag.yaml",
    "mmlu_high_school_computer_science": STOCK
    / "mmlu/default/mmlu_high_school_computer_science.yaml",
    "mmlu_college_computer_science": STOCK / "mmlu/default/mmlu_college_computer_science.yaml",
}
SUBJECTS = {"high_school_computer_science": "HS", "college_computer_science": "college"}
DOCUMENTS = 50


def load_task(path: Path):
    (task,) = TaskManager(include_defaults=False).load([str(path)])["tasks"].values()
    return task


def build(path: Path, num_fewshot: int, limit: int = DOCUMENTS):
    """A task with its requests built, as simple_evaluate does it."""
    task = load_task(path)
    task.set_config(key="num_fewshot", value=num_fewshot)
    task.set_fewshot_seed(seed=1234)
    task.build_all_requests(limit=limit, rank=0, world_size=1)
    return task


def requests(task) -> list[tuple]:
    return [(r.request_type, r.doc_id, r.idx, r.arguments) for r in task.instances]


# ------------------------------------------------------------- the hub's layouts of the same rows


def read_jsonl(path: Path) -> list[dict]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as stream:
        return [json.loads(line) for line in stream]


def read_mmlu(path: Path) -> list[dict]:
    """cais/mmlu's columns, by Python's own CSV reader: everything is text, nothing is missing."""
    with open(path, encoding="utf-8", newline="") as stream:
        return [
            {"question": q, "choices": choices, "answer": "ABCD".index(letter)}
            for q, *choices, letter in csv.reader(stream)
        ]


def hub_rows(name: str, folder: Path) -> dict[str, list[dict]]:
    if name == "gsm8k":
        return {split: read_jsonl(folder / f"gsm8k/{split}.jsonl") for split in ("train", "test")}
    if name == "hellaswag":
        rows = read_jsonl(folder / "hellaswag" / "hellaswag_val_full.jsonl.gz")[:200]
        rows = [{**row, "label": str(row["label"])} for row in rows]  # the hub's is a text
        return {"train": rows[:5], "validation": rows}
    subject = name.removeprefix("mmlu_")
    parts = {split: folder / f"mmlu/{split}/{subject}_{split}.csv" for split in ("test", "dev")}
    return {split: read_mmlu(path) for split, path in parts.items()}


@pytest.mark.parametrize("task", PAPER_TASKS, ids=lambda t: t.name)
def test_fifty_documents_are_asked_as_lm_eval_s_own_task_asks_them(
    task, data_folder, tmp_path, monkeypatch
):
    local = build(task_yaml(Task(**{**vars(task), "source": task.name}), data_folder, tmp_path), 0)
    served = {
        split: datasets.Dataset.from_list(rows)
        for split, rows in hub_rows(task.name, data_folder).items()
    }
    asked = []

    def load_dataset(path, name=None, **kwargs):
        asked.append((path, name))
        return datasets.DatasetDict(served)

    with monkeypatch.context() as patch:
        patch.setattr(datasets, "load_dataset", load_dataset)
        stock = build(STOCK_FILES[task.name], task.num_fewshot)
    local = build(tmp_path / f"{task.name}.yaml", task.num_fewshot)
    assert asked and asked[0][0] in ("openai/gsm8k", "Rowan/hellaswag", "cais/mmlu")
    assert len({r.doc_id for r in local.instances}) == DOCUMENTS
    assert requests(local) == requests(stock)
    targets = [[t.doc_to_target(doc) for doc in islice(t.eval_docs, 50)] for t in (local, stock)]
    assert targets[0] == targets[1]  # in type, too: lm-eval scores the text "0" as no choice


@pytest.mark.parametrize("task", PAPER_TASKS, ids=lambda t: t.name)
def test_only_the_source_of_the_rows_differs_from_lm_eval_s_definition(task, data_folder, tmp_path):
    from lm_eval.tasks._yaml_loader import load_yaml

    path = task_yaml(Task(**{**vars(task), "source": task.name}), data_folder, tmp_path)
    ours, stock = load_yaml(path), load_yaml(STOCK_FILES[task.name])
    differ = {k for k in {*ours, *stock} - {"include"} if str(ours.get(k)) != str(stock.get(k))}
    if task.name.startswith("mmlu"):
        assert differ == {"custom_dataset", "dataset_kwargs"}
    else:  # HellaSwag's train split is not there, and 0-shot needs none
        split = {"training_split"} if task.name == "hellaswag" else set()
        assert differ <= {"dataset_path", "dataset_name", "dataset_kwargs"} | split


@pytest.mark.parametrize("subject", SUBJECTS)
@pytest.mark.parametrize("split", ["test", "dev"])
def test_every_mmlu_row_reads_as_python_s_csv_reads_it(subject, split, data_folder, tmp_path):
    name = f"mmlu_{subject}"
    task = load_task(task_yaml(Task(name, "mmlu_cs", 0, 4, source=name), data_folder, tmp_path))
    rows = task.dataset[split]
    want = read_mmlu(data_folder / f"mmlu/{split}/{subject}_{split}.csv")
    assert [dict(row) for row in rows] == want
    assert len(want) == (100 if split == "test" else 5)


def mmlu_folder(tmp_path: Path, rows: list[list[str]]) -> Path:
    for split in ("test", "dev"):
        path = tmp_path / "mmlu" / split / f"college_computer_science_{split}.csv"
        path.parent.mkdir(parents=True)
        with open(path, "w", encoding="utf-8", newline="") as stream:
            csv.writer(stream).writerows(rows)
    return tmp_path


@pytest.mark.parametrize(
    "choices",
    [
        ["None", "NA", "nan", "null"],  # pandas would take them for missing values
        ["0.10", "007", "1e3", "2.0"],  # and these for the numbers 0.1, 7, 1000, 2
        ["True", "False", "TRUE", "false"],
    ],
)
def test_mmlu_choices_survive_as_text(choices, tmp_path):
    rows = [[f"Question {i},\nsecond line?", *choices, "ABCD"[i]] for i in range(4)]
    name = "mmlu_college_computer_science"
    folder = mmlu_folder(tmp_path, rows)
    task = build(task_yaml(Task(name, "mmlu_cs", 0, 4, source=name), folder, tmp_path), 0, 4)
    docs = list(task.eval_docs)
    assert [doc["choices"] for doc in docs] == [choices] * 4
    assert [doc["answer"] for doc in docs] == [0, 1, 2, 3]
    lines = "".join(f"\n{a}. {text}" for a, text in zip("ABCD", choices, strict=True))
    assert f"Question 0,\nsecond line?{lines}\nAnswer:" in task.instances[0].arguments[0]


def test_mmlu_s_first_row_is_no_header(tmp_path):
    folder = mmlu_folder(tmp_path, [["Q?", "a", "b", "c", "d", "B"]])
    name = "mmlu_college_computer_science"
    task = build(task_yaml(Task(name, "mmlu_cs", 0, 4, source=name), folder, tmp_path), 0, 1)
    assert len(list(task.eval_docs)) == 1


@pytest.mark.parametrize("row", [["Q?", "a", "b", "c", "A"], ["Q?", "a", "b", "c", "d", "E"]])
def test_an_mmlu_row_of_another_shape_is_named(row, tmp_path):
    good = ["Q?", "a", "b", "c", "d", "B"]
    folder = mmlu_folder(tmp_path, [good, row])
    path = folder / "mmlu" / "test" / "college_computer_science_test.csv"
    with pytest.raises(ValueError, match=r"college_computer_science_test\.csv row 2"):
        tasks.mmlu_dataset({"test": str(path)})


# ----------------------------------------------------------------------------- files, and no files


@pytest.mark.parametrize("task", PAPER_TASKS, ids=lambda t: t.name)
def test_the_definition_is_lm_eval_s_own_file(task):
    assert stock_yaml(task.name) == STOCK_FILES[task.name]
    assert task_yaml(task, None, Path("unused")) == STOCK_FILES[task.name]  # from the hub


def test_an_unknown_task_is_named():
    with pytest.raises(ValueError, match="no task 'hellaswog'"):
        stock_yaml("hellaswog")


def test_an_unknown_source_lists_the_known_ones(tmp_path):
    with pytest.raises(ValueError, match="unknown task source 'gsm9k'; known: gsm8k, hellaswag"):
        task_yaml(Task("gsm8k", "gsm8k", 5, 4, source="gsm9k"), tmp_path, tmp_path)


@pytest.mark.parametrize("missing", ["gsm8k/train.jsonl", "gsm8k/test.jsonl"])
def test_a_missing_data_file_is_named(missing, tmp_path):
    for name in ("gsm8k/train.jsonl", "gsm8k/test.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        if name != missing:
            (tmp_path / name).touch()
    with pytest.raises(ValueError, match=f"task gsm8k: data file .*{missing} does not exist"):
        check_files(Task("gsm8k", "gsm8k", 5, 4, source="gsm8k"), tmp_path)


def test_a_local_task_without_a_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match="task gsm8k: .* data folder"):
        task_yaml(Task("gsm8k", "gsm8k", 5, 4, source="gsm8k"), None, tmp_path)


def test_a_folder_with_odd_letters_is_read(tmp_path):
    folder = tmp_path / "it's: my #data"
    rows = {"question": "1 + 1?", "answer": "1 + 1 = 2\n#### 2"}
    for split in ("train", "test"):
        path = folder / "gsm8k" / f"{split}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(6 * (json.dumps(rows) + "\n"))
    task = build(task_yaml(Task("gsm8k", "gsm8k", 5, 4, source="gsm8k"), folder, tmp_path), 1, 2)
    assert task.instances[0].arguments[0].endswith("Question: 1 + 1?\nAnswer:")


@pytest.mark.parametrize("task", MICRO_ABILITIES, ids=lambda t: t.name)
def test_micro_tasks_ask_with_the_filters_and_metrics_they_mirror(task, tiny_run, tmp_path):
    from lm_eval.tasks._yaml_loader import load_yaml

    played = {"hellaswag": "hellaswag", "gsm8k": "gsm8k"}.get(
        task.role, "mmlu_high_school_computer_science"
    )
    ours, stock = load_yaml(stock_yaml(task.name)), load_yaml(STOCK_FILES[played])
    same = ("output_type", "filter_list", "metric_list", "test_split", "doc_to_target")
    keys = {
        "gsm8k": same,
        "hellaswag": ("output_type", "metric_list", "doc_to_target"),
        "mmlu_cs": ("output_type", "metric_list", "test_split", "doc_to_target"),
    }[task.role]
    assert {key: ours.get(key) for key in keys} == {key: stock.get(key) for key in keys}
    path = task_yaml(task, tiny_run.data_folder(), tmp_path)
    assert len(build(path, task.num_fewshot, 5).instances) == (5 if task.role == "gsm8k" else 20)


def test_held_out_instructions_are_asked_as_the_rows_are_written(tiny_run, tmp_path):
    (task,) = (task for task in MICRO_TASKS if task.role == "instructions")
    built = build(task_yaml(task, tiny_run.data_folder(), tmp_path), task.num_fewshot, 3)
    with (tiny_run.data_folder() / "instructions_test.jsonl").open(encoding="utf-8") as lines:
        rows = [json.loads(next(lines)) for _ in range(3)]
    for instance, row in zip(built.instances, rows, strict=True):
        prompt, how = instance.arguments
        assert prompt == format_prompt(row, "as-run")
        assert built.doc_to_target(instance.doc) == row["output"]
        assert how["until"] == ["\n"] and "\n" not in row["output"]


def test_every_study_s_sources_are_known(tmp_path):
    for study in (get_study("micro"), get_study("smoke"), get_study("rehearsal", str(tmp_path))):
        for task in study.arms[0].evaluate.tasks:
            assert task.source in tasks.SOURCES

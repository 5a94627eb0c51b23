"""Any task by its name: lm-eval's, the micro world's, a YAML file, one's own questions."""

import json
import logging

import pytest

from slimlib.common.hub import HubError
from slimlib.data.named_tasks import load_units


@pytest.fixture
def world(tmp_path_factory):
    return tmp_path_factory.getbasetemp() / "named-world"


def test_tasks_of_the_made_up_world_need_no_data(world):
    (unit,) = load_units(["micro_facts"], None, world)
    assert (unit.name, unit.sizes) == ("micro_facts", {"micro_facts": 500})
    assert unit.documents == 500 and [task.task_name for task in unit.tasks] == ["micro_facts"]


def test_local_files_replace_the_hub(data_folder, world):
    (unit,) = load_units(["gsm8k"], data_folder, world)
    assert unit.sizes == {"gsm8k": 1319}


def test_a_task_is_known_by_what_its_files_hold(tmp_path, world):
    path = tmp_path / "mine.jsonl"
    path.write_text(json.dumps({"question": "?", "answer": "a"}) + "\n")
    (before,) = load_units([str(path)], None, world)
    path.write_text(json.dumps({"question": "?", "answer": "b"}) + "\n")
    (after,) = load_units([str(path)], None, world)
    assert before.sizes == after.sizes == {"mine": 1}
    assert before.identity != after.identity


@pytest.mark.slow  # lm-eval lists its 14,000 tasks
def test_a_group_in_a_yaml_file_gets_one_verdict(tmp_path, world):
    for name, rows in (("one", 2), ("two", 3)):
        data = tmp_path / f"{name}.json"
        data.write_text(json.dumps([{"question": "?", "answer": "a"}] * rows))
        (tmp_path / f"{name}.yaml").write_text(
            f"task: {name}\ndataset_path: json\ndataset_kwargs:\n  data_files:\n"
            f"    test: {data}\ntest_split: test\noutput_type: generate_until\n"
            "doc_to_text: '{{question}}'\ndoc_to_target: '{{answer}}'\n"
        )
    group = tmp_path / "both.yaml"
    group.write_text("group: both\ntask:\n  - one\n  - two\n")
    (unit,) = load_units([str(group)], None, world)
    assert (unit.name, unit.sizes, unit.documents) == ("both", {"one": 2, "two": 3}, 5)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([], "no task is named"),
        (["no.yaml"], "task file no.yaml does not exist"),
        (["no.jsonl"], "task file no.jsonl does not exist"),
    ],
)
def test_what_cannot_be_asked_is_said(world, names, said):
    with pytest.raises(ValueError, match=said):
        load_units(names, None, world)


def test_lm_eval_does_not_warn_of_questions_that_no_file_holds(tmp_path, world, caplog):
    logging.getLogger("lm_eval").setLevel(logging.NOTSET)
    path = tmp_path / "mine.jsonl"
    path.write_text(json.dumps({"question": "?", "answer": "a"}) + "\n")
    load_units([str(path)], None, world)
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]


def test_without_the_hub_local_files_are_named_as_a_way_out(world, tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
    with pytest.raises(HubError) as refused:
        load_units(["hellaswag"], None, world)
    said = str(refused.value)
    assert "HF_HUB_OFFLINE is set: unset it" in said and "\n" not in said
    assert "--data FOLDER, with hellaswag/hellaswag_val_full.jsonl.gz in it" in said


def test_examples_that_a_task_fixes_are_said(tmp_path, world, capsys):
    data = tmp_path / "asked.json"
    data.write_text(json.dumps([{"question": "?", "answer": "a"}] * 3))
    path = tmp_path / "asked.yaml"
    path.write_text(
        f"task: asked\ndataset_path: json\ndataset_kwargs:\n  data_files:\n    test: {data}\n"
        "test_split: test\nnum_fewshot: 0\noutput_type: generate_until\n"
        "doc_to_text: '{{question}}'\ndoc_to_target: '{{answer}}'\n"
    )
    load_units([str(path)], None, world)
    assert "without examples" not in capsys.readouterr().err
    load_units([str(path)], None, world, shots=2)
    assert "asked: asked without examples, as its own settings fix it" in capsys.readouterr().err


@pytest.mark.slow
def test_an_unknown_name_is_looked_up_in_lm_evals_whole_list(world):
    with pytest.raises(ValueError, match="no task, group or tag 'hellaswagg'; did you mean"):
        load_units(["hellaswagg"], None, world)

"""One side of a check: answers kept by content, samples that grow, results in lm-eval's layout."""

import json
from types import SimpleNamespace

import pytest

from slimlib.common import hardware
from slimlib.config import AskConfig
from slimlib.data.named_tasks import load_units
from slimlib.evaluate.asking import Side
from slimlib.model.opened import open_model
from slimlib.results import read_results


@pytest.fixture(scope="module")
def units(tmp_path_factory):
    world = tmp_path_factory.mktemp("asking") / "world"
    return {u.name: u for u in load_units(["micro_arithmetic", "micro_facts"], None, world)}


@pytest.fixture
def side(tmp_path):
    return Side("base", open_model("micro:base"), AskConfig(), tmp_path / "answers")


def counted(side, monkeypatch):
    """How many requests reach the model."""
    from slimlib.scoring import SlimLM

    seen = []

    def counting(answer):
        def ask(self, requests, disable_tqdm=False):
            seen.extend(request.args for request in requests)
            return answer(self, requests, disable_tqdm)

        return ask

    for kind in ("loglikelihood", "generate_until"):
        monkeypatch.setattr(SlimLM, kind, counting(getattr(SlimLM, kind)))
    return seen


def test_a_larger_sample_asks_only_what_is_new_and_asks_it_alike(side, units, monkeypatch):
    unit, asked = units["micro_arithmetic"], counted(side, monkeypatch)
    first = side.ask(unit, {"micro_arithmetic": [30, 7]})["samples"]["micro_arithmetic"]
    assert len(asked) == 2
    then = side.ask(unit, {"micro_arithmetic": [2, 7, 11, 30]})["samples"]["micro_arithmetic"]
    assert len(asked) == 4  # two more, whose two solved examples are drawn anew
    prompt = {row["doc_id"]: row["arguments"] for row in first}
    again = {row["doc_id"]: row["arguments"] for row in then}
    assert sorted(again) == [2, 7, 11, 30] and all(again[i] == prompt[i] for i in prompt)


def test_whole_tasks_are_asked_as_lm_eval_asks_them(side, units):
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    unit = units["micro_arithmetic"]
    ours = side.ask(unit, limit=5)
    stock = lm_eval.simple_evaluate(
        model=HFLM(pretrained=side.load()[0], tokenizer=side.load()[1], max_length=1024),
        tasks=[unit.built],
        task_manager=TaskManager(include_defaults=False),
        limit=5,
    )
    for a, b in zip(
        *(found["samples"]["micro_arithmetic"] for found in (ours, stock)), strict=True
    ):
        assert a["arguments"][0][0] == b["arguments"][0][0]
        assert a["filtered_resps"] == b["filtered_resps"]


def test_another_setting_is_another_answer(tmp_path, units, monkeypatch):
    one = Side("base", open_model("micro:base"), AskConfig(), tmp_path)
    asked = counted(one, monkeypatch)
    one.ask(units["micro_facts"], limit=1)
    before = len(asked)
    one.ask(units["micro_facts"], limit=1)
    assert len(asked) == before == 4
    other = Side("base", open_model("micro:base"), AskConfig(num_fewshot=1), tmp_path)
    assert other._path(units["micro_facts"], False) != one._path(units["micro_facts"], False)
    with monkeypatch.context() as patch:
        patch.setattr(hardware, "find_device", lambda: SimpleNamespace(dtype="bfloat16"))
        elsewhere = Side("base", open_model("micro:base"), AskConfig(), tmp_path)
    assert elsewhere._path(units["micro_facts"], False) != one._path(units["micro_facts"], False)
    tuned = Side("base", open_model("micro:instruct"), AskConfig(), tmp_path)
    assert tuned._path(units["micro_facts"], False) != one._path(units["micro_facts"], False)


def test_what_is_written_reads_as_lm_evals_results(side, units, tmp_path):
    results = [side.ask(unit, limit=4) for unit in units.values()]
    path = side.write(results, tmp_path / "base")
    found = read_results(path)
    assert found.name == "base" and {*found.tasks} == {"micro_arithmetic", "micro_facts"}
    assert found.tasks["micro_facts"].n == 4 and found.tasks["micro_facts"].samples
    assert json.loads(path.read_text())["identity"] == side.identity
    side.write(results[:1], tmp_path / "base")
    assert {p.name for p in (tmp_path / "base").iterdir()} == {
        "results.json",
        "samples_micro_arithmetic.jsonl",
    }

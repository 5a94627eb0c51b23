"""A model card, read back by the hub's own library."""

from dataclasses import replace

import numpy as np
import pytest
from huggingface_hub import ModelCard
from places import CHECKOUT

from slimlib.comparison.change import BROKEN
from slimlib.comparison.contrast import over_runs
from slimlib.comparison.two_models import compare
from slimlib.report.answer import Answer, Learned
from slimlib.report.model_card import model_card, write_model_card

RECORDS = CHECKOUT / "figures" / "records" / "micro" / "seed-3407"


@pytest.fixture(scope="module")
def answer() -> Answer:
    comparison = compare(RECORDS / "llama-base.json", RECORDS / "llama-2k.json")
    learned = Learned(10, 3.0, 2.0, over_runs(np.array([-1.0]), []))
    place = "/somewhere/runs/tuned/merged"
    return Answer(
        "m, fine-tuned on r.jsonl", ["10 rows"], learned, comparison, [], "Take it.", place
    )


def test_the_hub_reads_the_numbers_of_the_answer(answer):
    card = ModelCard(model_card(answer, "me/my-1b@main", "me/rows"))
    assert card.data.base_model == "me/my-1b" and card.data.datasets == "me/rows"
    assert card.data.library_name == "transformers"
    assert card.data.model_name == answer.title
    read = {result.metric_name: result for result in card.data.eval_results}
    assert len(read) == len(answer.comparison.changes) >= 3
    for change in answer.comparison.changes:
        result = read[f"{change.title}, per cent"]
        assert result.task_type == "text-generation" and result.dataset_type == change.task
        assert result.metric_value == pytest.approx(change.tuned, abs=0.005)
        args = result.metric_args
        assert args["base"] == pytest.approx(change.base, abs=0.005)
        assert args["interval"] == pytest.approx(change.difference[1:], abs=0.005)
        assert (args["documents"], args["verdict"]) == (change.n, change.verdict)


def test_the_model_index_has_the_hub_s_layout(answer):
    (index,) = ModelCard(model_card(answer, "me/m", "r.jsonl")).data.to_dict()["model-index"]
    stories = next(r for r in index["results"] if r["dataset"]["type"] == "micro_stories")
    assert stories["task"] == {"type": "text-generation"}
    assert {"acc_norm": 49.0}.items() <= {m["type"]: m["value"] for m in stories["metrics"]}.items()


def test_the_verdicts_stand_in_words_and_no_path_does(answer):
    card = ModelCard(model_card(answer, "me/m", "r.jsonl"))
    assert "micro_stories, acc_norm: forgot" in card.text.replace("\\_", "_")
    assert "/somewhere" not in card.content


@pytest.mark.parametrize("base", ["micro:base", "/models/mine", "./mine", "nf4:me/m"])
def test_what_is_no_hub_id_is_not_named_as_one(answer, base):
    card = ModelCard(model_card(answer, base, "rows.jsonl"))
    assert card.data.base_model is None and card.data.datasets is None


def test_a_folder_beside_is_no_hub_id(answer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "me" / "m").mkdir(parents=True)
    assert ModelCard(model_card(answer, "me/m", "me/m")).data.base_model is None


def test_a_broken_measurement_is_no_score(answer):
    broken = tuple(replace(c, verdict=BROKEN) for c in answer.comparison.changes)
    nothing = replace(answer, comparison=replace(answer.comparison, changes=broken))
    assert "model-index" not in ModelCard(model_card(nothing, "me/m", "r.jsonl")).data.to_dict()


def test_it_is_written_whole(answer, tmp_path):
    path = write_model_card(answer, "me/m", "r.jsonl", tmp_path)
    assert [*tmp_path.iterdir()] == [path] and path.name == "README.md"
    assert path.read_text("utf-8") == model_card(answer, "me/m", "r.jsonl")

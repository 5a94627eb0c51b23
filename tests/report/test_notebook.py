"""The notebooks' small tables and sentences."""

import copy
import json

import pytest

from slimlib.config import ModelConfig
from slimlib.model import load
from slimlib.pipeline import preflight
from slimlib.pipeline.preflight import Check
from slimlib.report import notebook
from slimlib.studies.get import get_study


@pytest.fixture(scope="module")
def records(tiny_run):
    return tiny_run.records()


def make_record(study, arm, scores, seed=0):
    """A record of one arm whose only result is arithmetic, as the tables read it."""
    mean = sum(scores) / len(scores)
    metric = {"value": mean, "stderr": 0.05, "scores": scores}
    task = {
        "role": "gsm8k",
        "task": "micro_arithmetic",
        "n": len(scores),
        "documents": "d",
        "truncated": 0,
        "metrics": {"exact_match,flexible-extract": metric, "exact_match,strict-match": metric},
    }
    config = study[arm]
    return {
        "study": study.name,
        "arm": arm,
        "label": config.label,
        "compared_with": config.compared_with,
        "seed": seed,
        "config": {},
        "stages": {"evaluate": {"status": "done", "tasks": {"micro_arithmetic": task}}},
    }


# ---------------------------------------------------------------------------------------- tables


def test_the_preflight_shows_the_way_out_of_a_red_only():
    checks = [Check("disk", True, "20 GB", "hidden"), Check("device", False, "no GPU", "take a T4")]
    html = preflight.preflight_table(checks).to_html()
    assert "take a T4" in html and "hidden" not in html
    assert html.count("RED") == 1 and html.count(">green<") == 1


def test_the_plan_says_what_each_arm_does():
    plan = notebook.plan_table(get_study("paper"))
    assert list(plan.index) == [arm.name for arm in get_study("paper").arms]
    assert plan.loc["llama-2k", "rows"] == "2000 alpaca"
    assert plan.loc["llama-2k-requantised", "r"] == "of llama-2k"
    assert plan.loc["llama-base", ["rows", "r", "weights", "learning rate"]].tolist() == [
        "-",
        "-",
        "as is",
        "-",
    ]
    assert plan.loc["llama-base-nf4", "weights"] == "NF4"


def test_the_training_table_is_of_the_arms_that_trained(records, tiny_run):
    table = notebook.training_table(records)
    assert table["arm"].tolist() == ["llama-2k"]
    assert table["rows"].tolist() == [24] and table["steps"].tolist() == [6]
    stage = tiny_run.record("llama-2k")["stages"]["finetune"]
    share = 100 * stage["trainable_parameters"] / stage["parameters"]
    assert table["trainable"][0] == f"{stage['trainable_parameters']:,} ({share:.2f} %)"


def test_the_merge_table_and_its_sentences_agree(records):
    table = notebook.merge_table(records).set_index("arm")
    assert table["W"].to_dict() == {
        "llama-base-nf4": "dequant_nf4",
        "llama-2k": "dequant_nf4",
        "llama-2k-requantised": "requantised",
    }
    lines = notebook.merge_sentences(records).splitlines()
    assert [("trained" in line) for line in lines] == table["equal"].tolist() == [True, True, False]


@pytest.mark.parametrize(
    ("four_bit", "said"), [(True, "the un-quantised base with"), (False, "what was trained")]
)
def test_a_16bit_merge_is_what_was_trained_only_without_4_bit(four_bit, said, records):
    tuned = copy.deepcopy(next(r for r in records if r["arm"] == "llama-2k"))
    tuned["stages"]["merge"]["merge_base"] = "16bit"
    tuned["config"]["model"]["load_in_4bit"] = four_bit
    assert f"llama-2k: computes {said}" in notebook.merge_sentences([tuned])


def test_the_scores_table_has_a_column_an_arm(records):
    table = notebook.scores_table(records)
    assert list(table.columns) == [*(r["arm"] for r in records), "truncated prompts"]
    assert len(table) == 2 + 2 + 1  # arithmetic's filters, stories' acc and acc_norm, facts' acc
    assert table["truncated prompts"].eq(0).all()
    metric = records[0]["stages"]["evaluate"]["tasks"]["micro_facts"]["metrics"]["acc,none"]
    shown = f"{100 * metric['value']:.1f} ± {100 * metric['stderr']:.1f}"
    assert table.loc[("micro_facts", "acc,none", 4), "llama-base"] == shown


def test_tables_of_nothing_are_empty(records):
    started = [{**records[0], "stages": {"evaluate": {"status": "started", "settings": {}}}}]
    for some in ([], started):
        assert notebook.training_table(some).empty
        assert notebook.merge_table(some).empty
        assert notebook.merge_sentences(some) == ""
        assert notebook.scores_table(some).empty


def test_loss_sentences_by_hand():
    log = [{"step": 1, "loss": 2.5}, {"step": 5, "loss": 1.25}]
    assert notebook.loss_sentences({"a": log, "empty": []}) == (
        "a: loss 2.50 at step 1, 1.25 at step 5"
    )


def test_the_first_answer_is_the_first_document_s(tiny_run, records):
    text = notebook.first_answer(tiny_run.arm_folder("llama-2k"), "gsm8k", records)
    path = tiny_run.data_folder() / "arithmetic_test.jsonl"
    first = json.loads(path.read_text().splitlines()[0])
    assert text.startswith(f"Question: {first['question']}\nExpected: ")
    assert first["answer"] in text and "\nAnswered: " in text


def test_the_size_of_a_quantised_model(checkpoint):
    """eq. 1.1: the 14 modules in 4 bit, embeddings, head and norms in 32."""
    from slimlib.model.load import load_transformers

    text = load.model_size(load_transformers(ModelConfig(str(checkpoint))))
    widths = [(32, 32), (32, 16), (32, 16), (32, 32), (32, 48), (32, 48), (48, 32)]
    quantised = 2 * sum(a * b for a, b in widths)
    plain = 2 * 1024 * 32 + 5 * 32
    assert f"{(quantised + plain) / 1e6:.2f} million weights" in text
    assert f"{100 * quantised / (quantised + plain):.0f} % of them in 4 bit" in text
    assert f"{(quantised / 2 + 4 * plain) / 2**20:.1f} MB, against" in text


# ------------------------------------------------------------------------------------- sentences


def test_each_arms_verdict_stands_in_a_table():
    study = get_study("micro", arms="llama-base,llama-2k")
    base = make_record(study, "llama-base", [1] * 40)
    tuned = make_record(study, "llama-2k", [1] * 10 + [0] * 30)
    (row,) = notebook.verdict_table([base, tuned], study).to_dict("records")
    assert (row["arm"], row["against"]) == ("micro fine-tuned", "micro base")
    assert (row["base %"], row["tuned %"], row["p (Holm)"]) == ("100.0", "25.0", "< 0.001")
    assert row["change, 95 % interval"].startswith("-75.0 points [-8")
    assert row["verdict"] == "forgot"


def test_no_change_is_not_called_one():
    study = get_study("micro", arms="llama-base,llama-2k")
    base = make_record(study, "llama-base", [1, 0] * 10)
    tuned = make_record(study, "llama-2k", [0, 1] + [1, 0] * 9)
    (row,) = notebook.verdict_table([base, tuned], study).to_dict("records")
    assert (row["base %"], row["tuned %"], row["p (Holm)"]) == ("50.0", "50.0", "1.000")
    assert row["verdict"] == "not enough data to tell"


def test_an_arm_without_its_partner_has_no_verdict():
    study = get_study("micro", arms="llama-base,llama-2k")
    assert notebook.verdict_table([make_record(study, "llama-2k", [1, 0])], study).empty


# --------------------------------------------------------------------------------------- seeds


def test_no_committed_records_is_said():
    assert "no committed records" in notebook.beside_seeds([], {})


def test_a_run_stands_beside_the_committed_seeds():
    study = get_study("micro")
    seeds = {s: [make_record(study, "llama-base", [1, 1, s, 0], seed=s)] for s in (0, 1)}
    table = notebook.beside_seeds([make_record(study, "llama-base", [1, 0, 0, 0])], seeds)
    assert table.loc[("gsm8k", "llama-base")].to_dict() == {
        "this run": 25.0,
        "seed 0": 50.0,
        "seed 1": 75.0,
    }

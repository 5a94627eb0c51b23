"""`slimlib tune`: one's own model and rows, from the rows to the answer, on the embedded model."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from datasets import Dataset, DatasetDict
from scipy import stats

from slimlib.cli import main
from slimlib.model.load import nf4_config
from slimlib.pipeline.tune import _rows_file, mean_change, tune
from slimlib.report.answer import Learned
from slimlib.run import Run
from slimlib.studies.mine import mine, of_seeds, slug

FEW = {"train.max_steps": 3, "train.logging_steps": 1}
ASKED = {"tasks": "micro_facts", "limit": 6}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """An empty folder to stand in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def rows(here):
    made = [{"question": f"What is {a} plus {a}?", "answer": 2 * a} for a in range(40)]
    (here / "sums.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in made))
    return "sums.jsonl"


@pytest.mark.slow
def test_rows_become_a_model_and_an_answer(here, rows):
    from peft import AutoPeftModelForCausalLM
    from transformers import AutoModelForCausalLM

    found = tune("micro:base", rows, **ASKED, **FEW)
    folder = here / "runs" / "micro-base-on-sums"
    assert found.learned.rows == 2 and found.learned.before > 0
    assert "38 of 40 rows are trained on, 2 held out to measure what is" in found.rows[0]
    assert [step.cause for step in found.steps] == [
        "quantising",
        "fine-tuning, merged into the 4-bit weights",
        "fine-tuning, merged into 16 bit",
    ]
    page = (folder / "report.html").read_text()
    assert "micro:base, fine-tuned on sums.jsonl" in page and "http" not in page.split("<svg")[0]
    assert json.loads((folder / "answer.json").read_text())["model"] == found.place
    AutoPeftModelForCausalLM.from_pretrained(folder / "tuned" / "adapter")
    AutoModelForCausalLM.from_pretrained(found.place)


@pytest.mark.slow
def test_without_4_bit_there_is_one_merge_and_no_quantised_base(here, rows):
    found = tune("micro:base", rows, load_in_4bit=False, **ASKED, **FEW)
    assert [step.cause for step in found.steps] == []
    assert found.place.endswith("tuned/merged")


@pytest.mark.slow
def test_a_folder_of_any_name_with_odd_generation_settings_is_tuned(here, rows, checkpoint):
    folder = here / "mein Modell [ü]@1"
    shutil.copytree(checkpoint, folder)
    odd = json.dumps({"do_sample": False, "temperature": 0.6})
    (folder / "generation_config.json").write_text(odd)
    found = tune(folder.name, rows, **ASKED, **FEW)
    assert found.title == "mein Modell [ü]@1, fine-tuned on sums.jsonl"
    assert (Path(found.place) / "generation_config.json").read_text() == odd


@pytest.mark.slow
def test_a_checkpoint_that_is_stored_in_4_bit_is_tuned_as_it_is(here, rows, checkpoint):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    how = {"quantization_config": nf4_config("float32"), "device_map": {"": "cpu"}}
    AutoModelForCausalLM.from_pretrained(checkpoint, **how).save_pretrained(here / "bnb")
    AutoTokenizer.from_pretrained(checkpoint).save_pretrained(here / "bnb")
    found = tune("bnb", rows, **ASKED, **FEW)
    merged = AutoModelForCausalLM.from_pretrained(found.place)
    assert not getattr(merged, "is_quantized", False) and found.learned.before > 0


@pytest.mark.slow
def test_two_seeds_make_it_a_claim_about_the_recipe(here):
    rows = [{"instruction": f"Say {a}.", "output": f"{a}."} for a in range(30)]
    found = tune("micro:base", Dataset.from_list(rows), seeds=2, **ASKED, **FEW)
    (change,) = found.comparison.headlines
    assert change.subject == "this recipe" and found.learned.change.seeds == 2
    assert len([*here.glob("runs/micro-base-on-rows-*/tuned*/adapter")]) == 2


@pytest.mark.slow
def test_a_planted_loss_ends_with_exit_code_3_and_is_read_again_without_training(
    here, rows, capsys
):
    wild = ["--set", "train.max_steps=6", "--set", "train.learning_rate=0.05"]
    asked = ["tune", "micro:base", rows, "--tasks", "micro_stories", "--limit", "60", *wild]
    assert main([*asked, "--fail-on", "forgot"]) == 3
    capsys.readouterr()
    assert main([*asked, "--json", "--model-card"]) == 0
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert "Lost: micro_stories." in told["answer"] and "finetune tuned: already done" in err
    card = (Path(told["model"]) / "README.md").read_text()
    assert card.startswith("---\n") and "Lost: micro_stories." in card


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": "micro:bse"}, "unknown embedded checkpoint"),
        (
            {"model": "sums.jsonl", "rows": "micro:base"},
            "sums.jsonl is a file of rows",
        ),
        ({"model": "no.csv", "rows": "me/model"}, "no.csv is a file of rows and no model"),
        ({"model": "nowhere.gguf"}, "nowhere.gguf: a GGUF file is read only, for slimlib check"),
        ({"rows": "nowhere.csv"}, "nowhere.csv does not exist"),
        ({"seeds": 0}, "seeds=0: must be 1 to 10"),
        ({"tasks": "no.yaml"}, "no.yaml does not exist"),
        ({"minutes": -1}, "minutes=-1: must be above 0"),
        ({"alpha": 0}, "alpha=0: must be between 0 and 1"),
        ({"margin": 100}, "margin=100: must be above 0"),
        ({"data": "nowhere"}, "data=nowhere: no such folder"),
        ({"runs": "sums.jsonl"}, "sums.jsonl is not a folder"),
        ({"adapter.r": 0}, "adapter.r"),
        ({"adapter.target_modules": "q_prj"}, "no such linear layer"),
        ({"train.optim": "adam"}, "train.optim"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_trained(here, rows, change, said):
    with pytest.raises(ValueError, match=said):
        tune(**{"model": "micro:base", "rows": rows, "tasks": "micro_facts"} | change)
    assert not [*here.rglob("adapter_config.json")] and not [*here.rglob("record.json")]


def test_the_minutes_are_for_the_questions_which_is_said_before_anything_is_made(rows, capsys):
    with pytest.raises(ValueError, match="no such linear layer"):
        tune("micro:base", rows, minutes=5, **{"adapter.target_modules": "q_prj"})
    said = capsys.readouterr().err.splitlines()[0]
    assert said == "minutes: 5 for the questions; training and merging come before"


def test_a_folder_of_a_gguf_file_is_refused_at_once(here, rows, capsys):
    (here / "quants").mkdir()
    (here / "quants" / "model.Q4_1.gguf").write_bytes(b"GGUF")
    for name in ("quants", "./quants", "quants/model.Q4_1.gguf"):
        assert main(["tune", name, rows, "--tasks", "micro_facts"]) == 2
        error = capsys.readouterr().err
        assert f"{name}: a GGUF file is read only" in error and error.count("\n") == 1
    assert not [*here.glob("runs*")]


def test_rows_in_memory_are_the_same_rows_however_they_lie_there(here):
    rows = [{"question": f"{n}?", "answer": n} for n in range(3)]
    frame = pd.DataFrame(rows)
    frame.index *= 7  # as a frame that was filtered
    lying = [rows, iter(rows), Dataset.from_list(rows), DatasetDict(train=Dataset.from_list(rows))]
    paths = {_rows_file(given, "micro:base", here) for given in (*lying, frame)}
    (path,) = paths  # called by its content
    assert [json.loads(line)["output"] for line in Path(path).open()] == ["0", "1", "2"]


# ---- the study ----


def test_the_arms_of_ones_own_study():
    study = mine("micro:base", "sums.jsonl", seeds=2)
    assert [arm.name for arm in study.arms] == [
        "base",
        "base-nf4",
        "tuned",
        "tuned-16bit",
        "tuned-seed-1",
        "tuned-16bit-seed-1",
    ]
    tuned = study["tuned"]
    assert (tuned.data.learn, tuned.data.append_eos, tuned.data.n) == ("answer", True, None)
    assert tuned.adapter.target_modules == ("all-linear",)
    assert study["tuned-16bit"].merge.merge_base == "16bit"
    assert study["tuned-seed-1"].seed != tuned.seed
    assert [arm.name for arm in of_seeds(study, "tuned")] == ["tuned", "tuned-seed-1"]
    stored = mine("me/model-bnb-4bit", "me/rows", has_16bit=False)  # nothing else to merge into
    assert [arm.name for arm in stored.arms] == ["base", "tuned"]
    assert stored.tuned.model.load_in_4bit
    assert not mine("me/model@v2", "me/rows", load_in_4bit=False)["tuned"].model.load_in_4bit
    assert mine("me/model@v2", "me/rows")["base"].model.revision == "v2"
    Path("my@model").mkdir()
    Path("my@model/config.json").write_text("{}")
    assert mine("my@model", "me/rows")["base"].model.name == "my@model"


def test_overrides_reach_the_tuned_arms(tmp_path):
    study = mine("micro:base", "sums.jsonl", overrides={"r": "4", "train.max_steps": "7"})
    assert study["tuned"].adapter.r == study["tuned-16bit"].adapter.r == 4
    assert Run(study, tmp_path).folder.name == "micro-base-on-sums"


@pytest.mark.parametrize(
    ("model", "rows", "name"),
    [
        ("me/My_Model-1B", "data/rows.v2.jsonl", "My-Model-1B-on-rows"),
        ("./folder/", "me/alpaca", "folder-on-alpaca"),
    ],
)
def test_a_folder_is_named_by_model_and_rows(model, rows, name):
    assert slug(model, rows) == name


# ---- what was learned ----


def test_one_fine_tunings_change_of_loss_is_a_paired_t_over_rows():
    change = np.array([-1.0, -0.5, -0.8, 0.1])
    found = mean_change([change], 0.05)
    low, high = stats.t.interval(0.95, 3, change.mean(), change.std(ddof=1) / 2)
    assert found.difference == pytest.approx((change.mean(), low, high))
    assert found.p_value == pytest.approx(stats.ttest_1samp(change, 0).pvalue)


def test_one_row_that_was_held_out_has_no_interval_and_claims_nothing():
    change = mean_change([np.array([-0.4])], 0.05)
    learned = Learned(1, 8.5, 8.1, change)
    assert not learned.real and change.p_value is None
    assert learned.sentence() == (
        "Not told whether it learned its rows: loss on 1 held-out row 8.50 -> 8.10 nats a token, "
        "less is better (-0.40 of one row, which says nothing of others). Few rows: --set "
        "data.held_out=0.2 holds out more."
    )


def test_few_rows_that_tell_nothing_name_the_key_that_holds_out_more():
    learned = Learned(2, 8.6, 4.3, mean_change([np.array([-3.5, -5.3])], 0.05))
    assert learned.sentence().endswith("Few rows: --set data.held_out=0.2 holds out more.")


@pytest.mark.parametrize(("after", "said"), [(10.7, True), (3.2, False)])
def test_a_model_that_only_guesses_is_not_praised(after, said):
    """Of 49,152 tokens each as likely as the others: ln 49,152 = 10.80 nats."""
    change = mean_change([np.full(12, after - 10.83) + np.arange(12) / 1e4], 0.05)
    sentence = Learned(12, 10.83, after, change, math.log(49_152)).sentence()
    assert sentence.startswith("Learned its rows")
    guess = "It still does little but guess: all tokens taken as equally likely give 10.80."
    assert sentence.endswith(guess) == said


def test_seeds_that_disagree_widen_it():
    same = mean_change([np.array([-1.0, -0.9, -1.1])] * 3, 0.05)
    apart = mean_change([np.array([-1.0, -0.9, -1.1]) + d for d in (-1, 0, 1)], 0.05)
    assert same.difference.value == pytest.approx(apart.difference.value)
    assert apart.difference.high - apart.difference.low > same.difference.high - same.difference.low

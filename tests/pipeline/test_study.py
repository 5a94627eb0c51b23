"""A study without notebooks: what is run, what is said at the end, and study.json."""

import contextlib
import csv
import io
import json
import os
from dataclasses import replace

import pytest

from slimlib.common.files import read_json
from slimlib.comparison.two_models import compare
from slimlib.model import load
from slimlib.pipeline import study as module
from slimlib.pipeline.study import last_run, open_run, read_study, run_study, write_study
from slimlib.run import Run
from slimlib.standing import SettingsError
from slimlib.studies.get import get_study


@pytest.fixture(scope="module")
def done(tiny_study, tmp_path_factory):
    """The random study, run whole; returns the run, what was printed, and what was said of it."""
    printed, said = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(said):
        run = run_study(tiny_study, tmp_path_factory.mktemp("runs"))
    return run, printed.getvalue(), said.getvalue()


def test_every_stage_of_every_arm_is_done(done, tiny_run):
    run, _, _ = done
    for arm in run.study.arms:
        stages = run.record(arm.name)["stages"]
        assert tuple(stages) == run.stages(arm.name)
        assert all(stage["status"] == "done" for stage in stages.values())
        scores = [task["metrics"] for task in stages["evaluate"]["tasks"].values()]
        by_stage = tiny_run.record(arm.name)["stages"]["evaluate"]["tasks"].values()
        assert scores == [task["metrics"] for task in by_stage]


def test_tables_and_figures_are_written(done):
    run, _, _ = done
    with open(run.folder / "table2.csv", newline="", encoding="utf-8") as stream:
        header = next(csv.reader(stream))
    assert header[3:] == [arm.label for arm in run.study.arms]
    assert (run.folder / "table1.csv").exists()
    assert {p.stem for p in run.figures.iterdir()} == {"scores", "waterfall", "losses"}


def test_it_ends_with_the_answer_a_small_table_and_the_files(done):
    run, printed, _ = done
    answer = printed[printed.index("Table 2.") :]
    assert all(len(line) <= 80 for line in answer.splitlines() if not line.startswith("/"))
    words = " ".join(answer.split())
    for task in run.study.tuned.evaluate.tasks:  # one sentence each, with its test
        assert f"{task.name}, " in words
    assert words.count("p = 1.000 (Holm") + words.count("exact McNemar p") >= 3
    tuned = run.study.tuned
    head = " ".join(answer[answer.index("metric") :].split()[:30])
    assert run.study[tuned.compared_with].label.split()[-1] in head
    assert "NF4" not in answer  # the other arms are in table2.csv
    paths = [run.folder / "table1.csv", run.folder / "table2.csv", run.figures]
    assert answer.splitlines()[-3:] == [str(path) for path in paths]


def test_each_arm_and_task_has_its_line(done):
    run, _, said = done
    lines = said.splitlines()
    for arm in run.study.arms:
        for stage in run.stages(arm.name):
            assert [line for line in lines if line.startswith(f"{stage} {arm.name}: done in")]
        for task in arm.evaluate.tasks:
            (line,) = [n for n in lines if n.startswith(f"evaluate {arm.name}, {task.name}: ")]
            assert "4 documents" in line and "tokens/s" in line
    (trained,) = [line for line in lines if line.startswith("finetune llama-2k: done")]
    assert "6 steps, loss " in trained and "tokens/s" in trained


def test_run_again_it_skips_everything(done, capsys):
    run, printed, _ = done
    before = {path: path.read_bytes() for path in run.folder.glob("*/record.json")}
    run_study(run.study, run.root)
    again, said = capsys.readouterr()
    assert said.count("already done, skipped") == sum(
        len(run.stages(arm.name)) for arm in run.study.arms
    )
    assert ": started" not in said
    assert again[again.index("Table 2.") :] == printed[printed.index("Table 2.") :]
    assert {path: path.read_bytes() for path in run.folder.glob("*/record.json")} == before


def test_bad_input_writes_nothing(tiny_study, tmp_path):
    bare = replace(tiny_study, arms=(tiny_study["llama-base"],), ladder=())
    with pytest.raises(ValueError, match="no arm among llama-base is fine-tuned"):
        run_study(bare, tmp_path / "runs")
    with pytest.raises(ValueError, match="is a grid of 78 cells: slimlib sweep"):
        run_study("key_variables_micro", tmp_path / "runs")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("asked", [{"kl_weight": 0.1}, {"padding_free": True}])
def test_what_unsloth_cannot_do_is_refused_before_the_arms_before_it_are_trained(
    asked, tiny_study, tmp_path, monkeypatch
):
    base, first = tiny_study["llama-base"], tiny_study["llama-2k"]
    second = replace(first, name="second", train=replace(first.train, **asked))
    monkeypatch.setattr(load, "choose_backend", lambda _: "unsloth")
    with pytest.raises(ValueError, match="arm second: train.* does not go with Unsloth: set model"):
        run_study(replace(tiny_study, arms=(base, first, second), ladder=()), tmp_path)
    assert not os.listdir(tmp_path)


def test_fine_tuning_with_unsloth_is_a_process_of_its_own(tiny_study, tmp_path, monkeypatch):
    """It changes transformers for good: what comes after must not see it."""
    apart = []
    monkeypatch.setattr(module, "choose_backend", lambda name: "unsloth")
    monkeypatch.setattr(module, "in_clean_process", lambda stage, run, arm: apart.append(arm))
    monkeypatch.setattr("slimlib.train.finetune.finetune_arm", lambda run, arm: None)
    for arm in tiny_study.arms:
        module.finetune(Run(tiny_study, tmp_path), arm.name)
    assert apart == ["llama-2k"]


# ----------------------------------------------------------------------------------- study.json


def test_a_run_folder_says_what_it_is_of(done):
    run, _, _ = done
    again = open_run(str(run.folder))
    assert again.study == run.study
    assert again.folder.samefile(run.folder)
    again.check()  # all that is done there is done for it


def test_it_holds_study_data_and_overrides(tmp_path):
    overrides = {"adapter.r": 8, "arms": ("llama-base", "llama-2k")}
    run = Run(get_study("smoke", **overrides), tmp_path)
    assert write_study(run) == tmp_path / "smoke" / "study.json"
    assert read_json(tmp_path / "smoke" / "study.json") == {
        "study": "smoke",
        "data": "",
        "overrides": {"adapter.r": 8, "arms": ["llama-base", "llama-2k"]},
    }
    assert read_study(tmp_path / "smoke").arms == run.study.arms


def test_a_local_data_folder_is_named_whole(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows").mkdir()
    write_study(Run(get_study("paper", "rows"), "runs"))
    assert read_json(tmp_path / "runs/paper/study.json")["data"] == str(tmp_path / "rows")
    assert open_run("runs/paper").study.data == str(tmp_path / "rows")


def test_a_study_that_no_name_gives_has_no_file(tmp_path):
    smoke = get_study("smoke")
    assert write_study(Run(replace(smoke, name="mine"), tmp_path)) is None
    assert write_study(Run(replace(smoke, arms=smoke.arms[:4], ladder=()), tmp_path)) is None
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_other_settings_made_keeps_its_file(tmp_path):
    run = Run(get_study("smoke"), tmp_path)
    write_study(run)
    run.stage("llama-2k", "finetune", dict)
    before = (run.folder / "study.json").read_bytes()
    with pytest.raises(SettingsError, match="adapter.r was 16, now 8"):
        write_study(Run(get_study("smoke", r=8), tmp_path))
    assert (run.folder / "study.json").read_bytes() == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "study.json does not exist: run notebook 01, or slimlib run, first"),
        ("{", "study.json is not valid JSON"),
        ("[]", "is no study.json of slimlib: delete it"),
        ('{"study": "smoke"}', "is no study.json of slimlib: delete it"),
        ({"study": "smoky"}, "study.json: unknown study 'smoky'"),
        ({"data": "/nowhere"}, "study.json: study 'smoke' makes its own data"),
        ({"overrides": {"r": 0}}, "study.json: adapter.r=0 "),
        ({"overrides": [1]}, "study.json: "),
        ({"study": "micro"}, "is of study micro: call its folder micro"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line(content, message, tmp_path):
    folder = tmp_path / "smoke"
    folder.mkdir()
    if isinstance(content, dict):
        content = json.dumps({"study": "smoke", "data": "", "overrides": {}} | content)
    if content is not None:
        (folder / "study.json").write_text(content)
    with pytest.raises(ValueError) as refused:
        open_run(str(folder))
    assert message in str(refused.value) and "\n" not in str(refused.value)


def test_the_last_run_is_found(tmp_path):
    with pytest.raises(ValueError, match="holds no run"):
        last_run(tmp_path)
    for age, name in enumerate(("smoke", "micro", "paper")):
        path = write_study(Run(get_study(name), tmp_path))
        os.utime(path, (1e9 - age, 1e9 - age))
    assert last_run(tmp_path) == str(tmp_path / "smoke")


@pytest.mark.slow  # five arms of 254 documents: about 10 s
def test_the_real_model_s_study_runs_on_any_other_and_without_fine_tuning(checkpoint, tmp_path):
    """Controls are of the size that they are called by, and one equation asked twice is one."""
    arms = "base,nf4-32,nf4-from-8,noise-1,path-0.5"
    asked = {"model": str(checkpoint), "arms": arms, "tasks": "digits_equation", "limit": 254}
    run = run_study(get_study("smol", **asked), tmp_path)
    assert read_study(run.folder) == run.study
    records = {record["arm"]: record for record in run.records()}
    share = {
        arm: record["stages"]["merge"]["quantisation"]["error_share"]
        for arm, record in records.items()
        if arm != "base"
    }
    assert share["noise-1"] == pytest.approx(share["nf4-from-8"], rel=0.05)
    assert share["path-0.5"] == pytest.approx(share["noise-1"] / 2, rel=0.05)
    assert share["nf4-32"] < share["nf4-from-8"]
    change = compare(records["base"], records["noise-1"]).of("digits_equation")
    assert (change.cluster, change.n) == ("equation", 254)

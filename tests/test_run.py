"""Run folders: what is done, once, and said; records that are put back."""

import json
import os
from pathlib import Path

import pytest
from places import CHECKOUT
from short_stages import failing, note_modules, rerun, stop, work

from slimlib.pipeline import study
from slimlib.run import Run, in_clean_process
from slimlib.studies.get import get_study

HELPERS = str(CHECKOUT / "tests" / "helpers")  # where another process finds the stages


@pytest.fixture
def run(tmp_path):
    return Run(get_study("micro"), tmp_path)


# ---------------------------------------------------------------------------------------- the run


def test_the_root_is_the_argument_then_the_environment_then_runs(tmp_path, monkeypatch):
    study = get_study("micro")
    assert Run(study).folder == Path("runs/micro")
    monkeypatch.setenv("SLIMLIB_RUNS", str(tmp_path / "drive"))
    assert Run(study).folder == tmp_path / "drive" / "micro"
    assert Run(study, tmp_path).folder == tmp_path / "micro"


def test_an_arm_that_takes_an_adapter_reads_it_from_the_other_s_folder(run):
    assert run.adapter_folder("llama-2k") == run.folder / "llama-2k" / "adapter"
    assert run.adapter_folder("llama-2k-requantised") == run.adapter_folder("llama-2k")


def test_stages_of_each_kind_of_arm(run):
    assert run.stages("llama-base") == ("evaluate",)
    assert run.stages("llama-base-nf4") == ("merge", "evaluate")
    assert run.stages("llama-2k") == ("finetune", "merge", "evaluate")
    assert run.stages("llama-2k-requantised") == ("merge", "evaluate")  # trains nothing of its own


def test_a_bare_checkpoint_is_evaluated_where_it_lies(run):
    assert (Path(run.model_path("llama-base")) / "config.json").exists()
    assert run.model_path("llama-2k") == str(run.folder / "llama-2k" / "merged")


def test_a_stage_is_done_once(run, capsys):
    first = run.stage("llama-2k", "finetune", work(train_loss=1.5))
    again = run.stage("llama-2k", "finetune", failing)
    assert first == again
    assert (again["status"], again["train_loss"]) == ("done", 1.5)
    assert "already done, skipped" in capsys.readouterr().err


def test_a_record_says_where_it_was_made(run):
    run.stage("llama-2k", "finetune", work())
    record = run.record("llama-2k")
    assert (record["schema"], record["study"], record["arm"]) == (2, "micro", "llama-2k")
    assert record["config"]["adapter"]["r"] == 16
    assert record["environment"]["versions"]["torch"]
    assert record["environment"]["device"]["kind"] in ("cpu", "cuda")
    assert "git" in record["environment"]
    assert record["stages"]["finetune"]["seconds"] >= 0


def test_a_stage_that_fails_is_not_done(run):
    with pytest.raises(RuntimeError):
        run.stage("llama-2k", "finetune", failing)
    assert run.record("llama-2k")["stages"]["finetune"]["status"] == "started"
    assert not run.done("llama-2k", "finetune")
    assert run.stage("llama-2k", "finetune", work(rows=3))["rows"] == 3


class TestDamagedRecord:
    @pytest.mark.parametrize("damage", [b'{"stages": {', b"[]", b"\xff\x00", None])
    def test_is_put_back_from_its_copy_and_nothing_is_done_again(self, run, damage, capsys):
        run.stage("llama-2k", "finetune", work(rows=3))
        path = run.folder / "llama-2k" / "record.json"
        before = path.read_bytes()
        path.write_bytes(damage) if damage else path.unlink()
        run.check()
        assert run.records()[0]["stages"]["finetune"]["rows"] == 3  # reading writes nothing
        assert not path.exists() if damage is None else path.read_bytes() == damage
        assert run.stage("llama-2k", "finetune", failing)["rows"] == 3
        assert path.read_bytes() == before
        what = "damaged" if damage else "missing"
        assert f"record.json is {what}: put back from its copy" in capsys.readouterr().err

    def test_without_a_copy_is_set_aside(self, run, capsys):
        run.stage("llama-2k", "finetune", work())
        path = run.folder / "llama-2k" / "record.json"
        path.write_text("{")
        (path.parent / "record.json.bak").write_text("{")
        run.check()
        assert run.records() == []
        run.stage("llama-2k", "finetune", work(rows=3))
        assert path.with_name("record.json.damaged").read_text() == "{"
        assert run.record("llama-2k")["stages"]["finetune"]["rows"] == 3
        assert "the arm begins anew" in capsys.readouterr().err


def test_a_reason_is_kept_until_the_arm_goes_on(run):
    run.fail("llama-base", "OSError: disk full")
    assert run.record("llama-base")["failed"] == "OSError: disk full"
    run.stage("llama-base", "evaluate", work(tasks={}))
    assert "failed" not in run.record("llama-base")


def test_check_writes_nothing_in_a_new_folder(tmp_path):
    run = Run(get_study("micro"), tmp_path / "new")
    run.check()
    assert not run.root.exists()


def test_a_record_follows_which_arms_are_asked_for(run):
    """An arm run alone is compared with nothing; beside its base it is compared with it."""
    rerun(run, arms="llama-2k").stage("llama-2k", "finetune", work())
    assert rerun(run, arms="llama-2k").record("llama-2k")["compared_with"] is None
    assert run.record("llama-2k")["compared_with"] == "llama-base"


def test_records_come_in_the_study_s_order(run):
    for arm in ("tinyllama-base", "llama-instruct"):
        run.stage(arm, "evaluate", work(tasks={}))
    assert [record["arm"] for record in run.records()] == ["llama-instruct", "tinyllama-base"]


def test_the_world_is_written_once_and_whole(run):
    folder = run.data_folder()
    stamp = (folder / "instructions.jsonl").stat().st_mtime_ns
    assert run.data_folder() == folder == run.folder / "data"
    assert (folder / "instructions.jsonl").stat().st_mtime_ns == stamp
    assert not list(run.folder.glob(".*"))


def test_local_and_hub_studies_write_no_data(tmp_path):
    local = Run(get_study("paper", str(tmp_path)), tmp_path / "runs")
    assert local.data_folder() == tmp_path
    assert Run(get_study("paper"), tmp_path / "runs").data_folder() is None
    assert not (tmp_path / "runs").exists()


def test_open_run_says_what_it_chose_and_why(tmp_path, capsys):
    run = study.open_run("smoke", "", str(tmp_path), {"adapter.r": 8})
    assert run.study["llama-2k"].adapter.r == 8
    text = capsys.readouterr().out
    for part in ("smoke", "asked for by name", str(tmp_path / "smoke"), "float"):
        assert part in text


# ------------------------------------------------------------------------------- a clean process


def test_a_clean_process_is_another_one(run, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "unsloth", json)
    monkeypatch.setenv("PYTHONPATH", HELPERS)
    in_clean_process(note_modules, run, "llama-2k")
    process, unsloth = json.loads((run.folder / "note").read_text())
    assert process != os.getpid() and not unsloth


def test_a_stage_that_fails_in_its_own_process_fails_here(run, monkeypatch, capfd):
    monkeypatch.setenv("PYTHONPATH", HELPERS)
    with pytest.raises(RuntimeError, match="stop llama-2k failed in its own process"):
        in_clean_process(stop, run, "llama-2k")
    assert "no such luck" in capfd.readouterr().err

"""How far runs are, what is damaged in them, and the command that goes on."""

import shutil

import pytest

from slimlib import cli
from slimlib.common.files import write_json
from slimlib.common.locks import writing
from slimlib.pipeline.status import doctor, go_on, open_runs, status
from slimlib.pipeline.study import write_study
from slimlib.run import Run
from slimlib.studies.get import get_study
from slimlib.studies.mine import mine


@pytest.fixture
def done(tiny_run, tmp_path):
    shutil.copytree(tiny_run.folder, tmp_path / "smoke")
    run = Run(tiny_run.study, tmp_path)
    write_study(run)
    return run


def told(folder) -> str:
    return "\n".join(found.to_text(200) for found in status(folder))


def files(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_a_finished_run_is_done_and_writes_nothing_anew(done):
    before = files(done.folder)
    text = told(done.root)
    assert "8 of 8 stages are done." in text and "goes on" not in text
    assert text.count("llama-2k-requantised") == 1 and " MB " in text
    after = files(done.folder)
    assert {path: after[path] for path in before} == before


@pytest.mark.parametrize("of", ["run", "parent"])
def test_what_is_missing_is_named_with_the_command_that_goes_on(done, of):
    shutil.rmtree(done.arm_folder("llama-2k") / "merged")
    text = told(done.folder if of == "run" else done.root)
    assert "7 of 8 stages are done." in text and "merged/ is missing" in text
    assert f"slimlib run --study smoke --runs {done.root}" in text.replace("\n  ", " ")
    assert "--set arms=llama-base,llama-base-nf4" in go_on(done)
    assert "--set train.learning_rate=0.02" in go_on(done)


def test_the_command_makes_the_same_study(done):
    words = go_on(done).split()
    pairs = [word for word, before in zip(words[1:], words, strict=False) if before == "--set"]
    overrides = cli.parse_overrides(pairs)
    assert get_study("smoke", **overrides) == done.study


def test_who_works_there_is_named(done):
    with writing(done.lock_path("llama-2k"), "merge llama-2k"):
        assert "At work: process" in told(done.folder)
    assert "At work" not in told(done.folder)


def test_runs_without_a_study_file_are_read_from_their_records(done, tmp_path):
    (done.folder / "study.json").unlink()
    (run,) = open_runs(done.folder)
    assert {arm.name for arm in run.study.arms} == {arm.name for arm in done.study.arms}
    assert "8 of 8" in told(done.folder) and go_on(run) == "the script that began it"


def test_a_grid_and_one_s_own_model_have_their_own_commands(tmp_path):
    grid = Run(get_study("key_variables_micro", arms="base"), tmp_path / "seed-2")
    assert go_on(grid) == (f"slimlib sweep key_variables_micro --seeds 2 --runs {tmp_path}")
    own = Run(mine("micro:base", "rows.jsonl"), tmp_path)
    assert go_on(own).startswith(f"slimlib tune micro:base rows.jsonl --runs {tmp_path} (with")


def test_what_tune_asks_is_no_stage_that_is_left(tmp_path):
    """Its run has records of what it trained and merged, and no study.json."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"question": "q", "answer": "a"}\n')
    run = Run(mine("micro:base", str(rows)), tmp_path / "runs")
    for arm in run.study.arms:
        for stage in [s for s in run.stages(arm.name) if s != "evaluate"]:
            run.stage(arm.name, stage, dict)
    shown = told(run.folder)
    assert "4 of 4 stages are done." in shown and "evaluate" not in shown
    (found,) = open_runs(run.folder)
    assert go_on(found).startswith("slimlib tune micro:base ")


def test_the_doctor_finds_what_a_look_does_not(done):
    """The memory says that the damaged file is as it was: same size, times and samples."""
    found, healthy = doctor(done.folder)
    assert healthy and "All that is done is whole" in found.to_text(200)
    path = done.arm_folder("llama-2k") / "adapter" / "adapter_model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    write_json(done.arm_folder("llama-base") / "record.json", [])
    found, healthy = doctor(done.folder)
    text = found.to_text(200)
    assert not healthy and "adapter/adapter_model.safetensors is damaged" in text
    assert "llama-base/record.json is damaged" in text
    assert "made again by: slimlib run" in text


def test_the_command_line_has_both(done, capsys):
    assert cli.main(["status", str(done.root)]) == 0
    assert "8 of 8 stages are done." in capsys.readouterr().out
    assert cli.main(["doctor", str(done.folder)]) == 0
    shutil.rmtree(done.arm_folder("llama-2k") / "adapter")
    assert cli.main(["doctor", str(done.folder)]) == 1
    assert "adapter/ is missing" in capsys.readouterr().out
    for command in ("status", "doctor"):
        assert cli.main([command, str(done.root / "nothing")]) == 2
        assert "holds no run" in capsys.readouterr().err

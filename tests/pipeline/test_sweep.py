"""The sweep: every cell once, failures recorded, the others done, a dead worker replaced."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from grid_records import pretend, task_entry

from slimlib import cli
from slimlib.common import hardware
from slimlib.common.files import write_json
from slimlib.papers.key_variables.cells import read_grid
from slimlib.pipeline import workers
from slimlib.pipeline.one_cell import run_cell, seed_run
from slimlib.pipeline.sweep import gather_records, sweep_grid
from slimlib.pipeline.workers import local_engine, share_of_cores
from slimlib.results.record import read_records
from slimlib.standing import SettingsError
from slimlib.studies.design import Job, jobs
from slimlib.studies.get import get_design, get_study

CUT = "qlora-r4-mlp-r2"
ARMS = "base,base-nf4-64,base-icq-64,base-int4-32,base-tiles-32,qlora-r4"


def small():
    return get_study("key_variables_micro", arms=ARMS)


def test_an_untuned_reference_is_run_once():
    found = jobs(small(), [3, 2])
    assert found.count(Job(2, "base")) == 1 and Job(3, "base") not in found
    assert Job(2, "qlora-r4") in found and Job(3, "qlora-r4") in found
    assert len(found) == 7
    assert jobs(small(), [1], ["qlora-r4"]) == [Job(1, "qlora-r4")]


@pytest.mark.parametrize("seeds", [[], [1, 1], [-1, 2]])
def test_bad_seeds_are_refused(seeds):
    with pytest.raises(ValueError, match="give each once, 0 or more"):
        jobs(small(), seeds)


def test_a_seed_has_a_folder_and_reaches_the_arms(tmp_path):
    run = seed_run(small(), 7, tmp_path)
    assert run.folder == tmp_path / "seed-7" / "key_variables_micro"
    assert {arm.seed for arm in run.study.arms} == {7}


def test_failures_are_recorded_and_the_others_go_on(tmp_path, capsys):
    study = small()
    missing = sweep_grid(study, tmp_path, [1, 2], work=pretend)
    assert missing == {
        Job(1, "base-icq-64"): "ValueError: no such quantiser",
        Job(1, "base-int4-32"): "the process ended with code 1: TypeError: a mistake in the code",
        Job(1, "base-tiles-32"): missing[Job(1, "base-tiles-32")],
    }
    assert "the process ended with code 9" in missing[Job(1, "base-tiles-32")]
    told = capsys.readouterr().out
    assert "7 cells asked for, 0 are done already" in told
    assert "[7/7] seed 2 qlora-r4: done" in told
    run = seed_run(study, 1, tmp_path)
    assert run.record("base-icq-64")["failed"] == "ValueError: no such quantiser"
    # started again, only what is missing is tried
    again = sweep_grid(study, tmp_path, [1, 2], cells=["base", "base-icq-64"], work=pretend)
    assert list(again) == [Job(1, "base-icq-64")]
    assert "2 cells asked for, 1 are done already" in capsys.readouterr().out


def test_workers_share_the_cores(tmp_path, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    cpu = hardware.Device("cpu", "a CPU", None, 8.0, 8.0)
    monkeypatch.setattr(workers, "find_device", lambda: cpu)
    assert (share_of_cores(1), share_of_cores(2), share_of_cores(3)) == (4, 2, 1)
    for limit in ("1", None):  # the user's own, then a share of the cores
        monkeypatch.setenv("OMP_NUM_THREADS", limit) if limit else monkeypatch.delenv(
            "OMP_NUM_THREADS"
        )
        root = tmp_path / str(limit)
        assert sweep_grid(small(), root, [1], 2, ["base", "base-nf4-64"], work=pretend) == {}
    logs = "".join(path.read_text() for path in tmp_path.glob("1/worker-*.log"))
    assert "pretending base, 1 threads" in logs
    logs = "".join(path.read_text() for path in tmp_path.glob("None/worker-*.log"))
    assert "pretending base, 2 threads" in logs and "pretending base-nf4-64, 2 threads" in logs
    with pytest.raises(ValueError, match="workers=5: must be from 1 to 4"):
        share_of_cores(5)
    gpu = hardware.Device("cuda", "T4", (7, 5), 15.0, 15.0)
    monkeypatch.setattr(workers, "find_device", lambda: gpu)
    with pytest.raises(ValueError, match="one at a time; give 1"):
        local_engine(2)


def sleep(run, cell, keep):
    (run.root.parent / "pid").write_text(str(os.getpid()))
    time.sleep(60)


def test_workers_end_with_their_sweep(tmp_path, monkeypatch):
    """Else a second sweep would wait for the cells of one that was killed."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), *sys.path]))
    code = "import test_sweep as t, pathlib, sys; root = pathlib.Path(sys.argv[1]);"
    code += "t.sweep_grid(t.small(), root, [1], cells=['base'], work=t.sleep)"
    parent = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)])
    path = tmp_path / "pid"
    wait_for(lambda: path.exists() and path.read_text(), 60)
    worker = psutil.Process(int(path.read_text()))
    parent.kill()
    parent.wait(10)
    wait_for(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE, 20)


def wait_for(what, seconds):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_folder_of_other_settings_is_refused_before_anything_runs(tmp_path):
    sweep_grid(small(), tmp_path, [1], cells=["base"], work=pretend)
    sweep_grid(small(), tmp_path, [1], cells=["qlora-r4"], work=pretend)
    other = get_study("key_variables_micro", arms=ARMS, **{"data.n": 3})
    with pytest.raises(SettingsError, match="made by other settings"):
        sweep_grid(other, tmp_path, [1], work=pretend)


def test_weights_go_when_a_cell_is_done_unless_they_are_kept(tmp_path):
    run = seed_run(small(), 1, tmp_path)
    pretend_done = run.arm_folder("qlora-r4")
    for keep, left in ((True, True), (False, False)):
        (pretend_done / "merged").mkdir(parents=True, exist_ok=True)
        (pretend_done / "adapter").mkdir(exist_ok=True)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("OMP_NUM_THREADS", "1")
            pretend(run, "qlora-r4", keep)
        run_cell(run, "qlora-r4", keep)
        assert (pretend_done / "merged").exists() is left
        assert (pretend_done / "adapter").exists() is left


def test_run_folders_become_records_that_are_read_as_a_grid(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    design = get_design("key_variables_micro", arms=f"base,base-nf4-64,qlora-r4,{CUT}")
    run = seed_run(design.study, 1, tmp_path)
    for cell, scores in (("base", [1, 1, 1, 1, 0]), ("qlora-r4", [1, 1, 0, 1, 0])):
        finish(run, cell, scores)
    finish(seed_run(design.study, 2, tmp_path), "base", [1, 1, 1, 1, 0])  # of an earlier sweep
    run.fail(CUT, "OSError: disk full")
    paths = gather_records(design.study, tmp_path, [1, 2], tmp_path / "records")
    assert [path.name for path in paths] == ["seed-1.jsonl.gz", "seed-2.jsonl.gz"]
    assert read_records(paths[0]) == run.records() and read_records(paths[1]) == []
    grid = read_grid(tmp_path / "records", design)
    assert grid.missing == {
        Job(1, "base-nf4-64"): "not run",
        Job(1, CUT): "OSError: disk full",
        Job(2, "qlora-r4"): "not run",
        Job(2, CUT): "not run",
    }
    (cell,) = grid.of("qlora-r4")
    assert cell.score == pytest.approx(60) and cell.parameters == 99
    assert cell.record == run.record("qlora-r4")


def finish(run, cell, scores):
    """A record as the stages leave it."""
    pretend(run, cell, False)
    record = run.record(cell)
    tasks = {t.name: task_entry(t, scores, t.name) for t in run.study[cell].evaluate.tasks}
    record["stages"]["evaluate"] |= {"seconds": 1.5, "tasks": tasks}
    if "finetune" in record["stages"]:
        record["stages"]["finetune"] |= {"trainable_parameters": 99, "train_loss": 3.0}
    write_json(run.arm_folder(cell) / "record.json", record | {"environment": {"git": "abc"}})


# ------------------------------------------------------------------------------------ command line


def test_the_command_line_says_what_is_missing_and_fails(tmp_path, monkeypatch, capsys):
    asked = {}

    def nothing(study, root, seeds, workers, cells, keep, work, engine):
        asked.update(study=study, root=root, seeds=seeds, workers=workers, cells=cells, keep=keep)
        return {Job(1, "base"): "not run"}

    monkeypatch.setattr("slimlib.pipeline.whole_sweep.sweep_grid", nothing)
    line = f"sweep --runs {tmp_path} --seeds 1,2 --cells E5,base --workers 2 --set limit=20"
    assert cli.main(line.split()) == 1
    told = capsys.readouterr().out
    assert "0 of " in told and "missing: seed 1 base: not run" in told
    assert asked["seeds"] == (1, 2) and asked["workers"] == 2 and not asked["keep"]
    assert "q-bara-r16-lam8" in asked["cells"] and "base" in asked["cells"]
    assert asked["study"]["base"].evaluate.tasks[0].limit == 20
    assert (tmp_path / "records" / "key_variables_micro" / "seed-2.jsonl.gz").is_file()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("sweep --study micro", "is no grid"),
        ("sweep --seeds 1,x", "must be whole numbers, as 1,2,3"),
        ("sweep --cells nonsense", "has no arm 'nonsense'"),
        ("sweep --workers 0", "workers=0"),
        ("sweep --set data.path=no.jsonl", "data file no.jsonl does not exist"),
        ("sweep --set data.dataset=alpaca", "is not part of this study's made-up world"),
        ("run --study key_variables_micro", "slimlib sweep key_variables_micro"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(line, message, tmp_path, capsys):
    assert cli.main([*line.split(), "--runs", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_two_real_cells_run_whole(tmp_path):
    design = get_design("key_variables_micro", limit=10, **{"data.n": 16})
    cells = ["base", "qa-hira-4x8-mlp-8x8"]
    assert sweep_grid(design.study, tmp_path, [1], 2, cells) == {}
    gather_records(design.study, tmp_path, [1], tmp_path / "records")
    grid = read_grid(tmp_path / "records", design)
    (cell,) = grid.of("qa-hira-4x8-mlp-8x8")
    assert cell.record["stages"]["merge"]["logit_check"]["equal"] and cell.loss > 0
    assert 4 < cell.bits < 4.6
    assert not (tmp_path / "seed-1/key_variables_micro/qa-hira-4x8-mlp-8x8/merged").exists()

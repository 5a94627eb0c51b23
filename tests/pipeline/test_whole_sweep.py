"""A sweep of a spec: its plan, its order, adapters shared and dropped, its tables, the commands."""

import json
import re

import pytest
from grid_records import task_entry
from places import CHECKOUT

from slimlib import cli
from slimlib.common.checked import from_dict
from slimlib.common.files import read_json, write_json
from slimlib.folder import STAGES
from slimlib.pipeline.one_cell import Cells, Outcome, no_adapter, run_cell, seed_run
from slimlib.pipeline.status import go_on, open_runs
from slimlib.pipeline.sweep import plan_sweep, sweep_grid
from slimlib.pipeline.whole_sweep import open_sweep, run_sweep
from slimlib.pipeline.workers import make_here
from slimlib.studies.design import Job
from slimlib.studies.spec import Spec, compile_spec

GRID = {"adapter.r": [4, 8], "merge.scale": [0.5, 1]}
A, B = ("llama-2k-r=4-scale=0.5", "llama-2k-r=4-scale=1"), ("llama-2k-r=8-scale=0.5",)


@pytest.fixture
def spec(tmp_path):
    path = tmp_path / "ranks.json"
    values = {"study": "smoke", "arm": "llama-2k", "grid": GRID, "seeds": [1, 2]}
    path.write_text(json.dumps(values), encoding="utf-8")
    return path


def finish(run, cell, keep):
    """What a worker does here: a record as the stages leave it, of scores that its values fix."""
    arm = run.study[cell]
    right = arm.adapter.r if arm.adapter else 10
    stages = {s: {"settings": run.settings(cell, s), "status": "done"} for s in run.stages(cell)}
    scores = [1] * right + [0] * (20 - right)
    tasks = {t.name: task_entry(t, scores, documents=t.name) for t in arm.evaluate.tasks}
    stages["evaluate"] |= {"tasks": tasks, "parameters": 1}
    if "finetune" in stages:
        stages["finetune"] |= {"rows": 40, "trainable_parameters": 7}
    record = run.record(cell) | {"stages": stages, "environment": {}}
    write_json(run.arm_folder(cell) / "record.json", record)


def fail_at_rank_4(run, cell, keep):
    arm = run.study[cell]
    if arm.trains and arm.adapter.r == 4:
        raise ValueError("no loss")
    if arm.adapter_from:  # its source is there, whichever worker made it
        assert run.record(arm.adapter_from)["stages"]["finetune"]["status"] == "done"
    finish(run, cell, keep)


def fail_whatever_has_rank_4(run, cell, keep):
    if run.study[cell].adapter and run.study[cell].adapter.r == 4:
        raise ValueError("no loss")
    finish(run, cell, keep)


def here(todo, after, cells):
    """An engine that makes one cell after the other in this process."""
    for job in todo:
        yield Outcome(job, cells.make(job), 1.0)


def instead_of_workers(monkeypatch, work):
    """Sweeps of this process alone, which do other work."""
    monkeypatch.setattr("slimlib.pipeline.whole_sweep.local_engine", lambda workers: here)
    monkeypatch.setattr("slimlib.pipeline.whole_sweep.run_cell", work)


# ------------------------------------------------------------------------------------------- plan


def test_a_plan_has_trainings_first_and_says_who_waits_for_whom(spec, tmp_path):
    sweep = open_sweep(str(spec), runs=tmp_path / "runs")
    plan = sweep.plan(workers=2)
    assert sweep.seeds == (1, 2) and len(plan.asked) == 9  # the base once, four arms twice
    takes = [job for job in plan.todo if job in plan.after]
    assert plan.todo[-4:] == tuple(takes)
    assert plan.after[Job(2, A[1])] == Job(2, A[0])
    told = plan.document().to_text(100)
    assert "9 cells asked for, 0 are done already" in told and "a guess" in told
    assert f"of {A[0]}" in " ".join(told.split())
    assert not (tmp_path / "runs").exists()


def test_a_plan_goes_on_with_what_is_not_done(spec, tmp_path):
    sweep = open_sweep(str(spec), runs=tmp_path)
    run = seed_run(sweep.study, 1, tmp_path)
    for cell in ("llama-base", A[0]):
        finish(run, cell, False)
    assert Job(1, A[0]) in sweep.plan().todo  # its adapter is gone, and still needed
    (run.arm_folder(A[0]) / "adapter").mkdir()
    plan = sweep.plan()
    assert len(plan.todo) == 7 and Job(1, A[1]) not in plan.after
    assert "done" in plan.document().to_text(100)
    some = open_sweep(str(spec), cells=A[1], runs=tmp_path).plan()
    assert {job.cell for job in some.asked} == {*A}  # with the arm that trains for it


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--seeds", "1,1"), "give each once"),
        (("--cells", "nowhere"), "has no arm 'nowhere'"),
        (("--workers", "0"), "workers=0"),
        (("--address", "auto"), "go with --engine ray"),
        (("--num-gpus", "1"), "go with --engine ray"),
        (("--engine", "slurm"), "slurm"),
        (("--set", "adapter.rank=3"), "unknown key"),
        (("--set", "data.path=no.jsonl"), "no.jsonl does not exist"),
        (("--set", 'adapter.target_modules=["none_proj"]'), "none_proj"),
    ],
)
def test_bad_options_are_one_line_and_start_nothing(spec, tmp_path, capsys, options, message):
    runs = tmp_path / "runs"
    assert cli.main(["sweep", str(spec), "--runs", str(runs), *options]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not runs.exists()


def test_a_name_that_is_neither_a_grid_nor_a_file_says_so(capsys):
    assert cli.main(["sweep", "micro"]) == 2
    assert "is no grid" in capsys.readouterr().err


# ------------------------------------------------------------------------------------ what is made


@pytest.mark.parametrize("workers", [1, 2])
def test_an_arm_waits_for_its_adapter_and_fails_with_it(spec, tmp_path, workers, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1}, raising=False)
    study = open_sweep(str(spec), runs=tmp_path).study
    missing = sweep_grid(study, tmp_path, [1], workers, work=fail_at_rank_4)
    assert missing == {Job(1, A[0]): "ValueError: no loss", Job(1, A[1]): no_adapter(A[0])}
    assert sweep_grid(study, tmp_path, [1], work=finish, engine=here) == {}


def test_a_worker_that_is_given_nothing_ends(tmp_path):
    cells = Cells(compile_spec(_spec()), tmp_path, False, finish)
    assert [*make_here([], {}, cells, 1, 1)] == []


def _spec(**values):
    about = {"name": "ranks", "study": "smoke", "arm": ["llama-2k"], "grid": GRID}
    return from_dict(Spec, about | values)


def test_an_adapter_is_trained_once_and_goes_when_all_have_taken_it(checkpoint, tmp_path):
    """Real stages, on the random model."""
    sets = {"model": str(checkpoint), "data.n": 8, "limit": 2, "tasks": "micro_facts"}
    sets |= {"train.per_device_train_batch_size": 4}
    study = compile_spec(_spec(set=sets, grid={"adapter.r": [4], "merge.scale": [0, 0.5, 1]}))
    names = [arm.name for arm in study.arms if arm.adapter]
    adapters = []

    def watch(todo, after, cells):
        for outcome in here(todo, after, cells):
            run = seed_run(study, 1, tmp_path)
            adapters.append(run.adapter_folder(names[0]).exists())
            yield outcome

    assert sweep_grid(study, tmp_path, [1], work=run_cell, engine=watch) == {}
    assert adapters == [False, True, True, False]  # base, trainer, taker, the last taker
    run = seed_run(study, 1, tmp_path)
    records = {name: run.record(name)["stages"] for name in names}
    assert ["finetune" in stages for stages in records.values()] == [True, False, False]
    folders = [run.arm_folder(name) / STAGES["merge"] for name in names]
    assert not any(folder.exists() for folder in folders)
    assert sweep_grid(study, tmp_path, [1], work=None, engine=None) == {}  # nothing is left


# ----------------------------------------------------------------------------------------- tables


def test_a_sweep_ends_with_tables_that_do_not_depend_on_when_it_was_made(
    spec, tmp_path, monkeypatch
):
    instead_of_workers(monkeypatch, finish)
    texts = []
    for root in (tmp_path / "one", tmp_path / "two"):
        sweep = open_sweep(str(spec), runs=root)
        if root.name == "two":  # some of it was made before, in another order
            for cell in (A[0], B[0]):
                finish(seed_run(sweep.study, 2, root), cell, False)
        assert run_sweep(sweep) == {}
        texts.append([(sweep.folder / f"table{n}.csv").read_bytes() for n in (1, 2)])
    assert texts[0] == texts[1]
    table = texts[0][1].decode()
    assert "micro fine-tuned, r=4, scale=0.5 (2 seeds)" in table and "micro base" in table
    assert "20.0 ± 0.0" in table and "40.0 ± 0.0" in table  # 4 and 8 of 20 right
    # the spec is kept, can be given again, and status says so
    kept = sweep.folder / "sweep.json"
    assert open_sweep(str(kept), runs=tmp_path / "two").study == sweep.study
    assert read_json(kept)["name"] == "ranks"
    (run, _) = open_runs(tmp_path / "two")
    assert go_on(run) == f"slimlib sweep {kept} --runs {tmp_path / 'two'}"


def test_the_command_prints_the_table_and_what_is_missing(spec, tmp_path, monkeypatch, capsys):
    instead_of_workers(monkeypatch, fail_whatever_has_rank_4)
    assert cli.main(["sweep", str(spec), "--runs", str(tmp_path), "--seeds", "1"]) == 1
    told = capsys.readouterr().out
    assert f"missing: seed 1 {A[0]}: ValueError: no loss" in told
    assert "r=8" in told and "Sweep ranks over llama-2k of smoke" in told
    assert told.rstrip().endswith(str(tmp_path / "records" / "ranks"))


def test_the_readme_s_example_is_planned(tmp_path, capsys):
    text = (CHECKOUT / "slimlib" / "pipeline" / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```yaml\n(.*?)```", text, re.S)
    path = tmp_path / "ranks.yaml"
    path.write_text(example, encoding="utf-8")
    assert cli.main(["sweep", str(path), "--dry-run", "--runs", str(tmp_path / "runs")]) == 0
    told = capsys.readouterr().out
    assert "ranks: 19 cells asked for, 0 are done already" in told
    assert not (tmp_path / "runs").exists()


def test_plan_sweep_refuses_bad_seeds(tmp_path):
    with pytest.raises(ValueError, match="give each once, 0 or more"):
        plan_sweep(compile_spec(_spec()), tmp_path, [])

"""What is stale, missing or damaged in a run folder is made again, said, and nothing else is.

The works of the stages are stand-ins that put back what the tiny study made, and take note.
"""

import contextlib
import os
import shutil
from dataclasses import replace

import pytest

from slimlib.common import files, locks
from slimlib.common.files import file_sha256, read_json, write_json
from slimlib.evaluate import harness
from slimlib.evaluate.harness import evaluate_arm
from slimlib.merge import plain
from slimlib.merge.plain import merge_arm
from slimlib.run import Run
from slimlib.studies.get import get_study
from slimlib.train import finetune as train
from slimlib.train.finetune import finetune_arm

TASKS = ("micro_stories", "micro_arithmetic", "micro_facts")


@pytest.fixture
def done(tiny_run, tmp_path, monkeypatch):
    """The finished tiny run in a folder of its own; `notes` lists what is made again there."""
    shutil.copytree(tiny_run.folder, tmp_path / "smoke")
    run, notes = Run(tiny_run.study, tmp_path), []

    def put_back(arm, part):
        place = run.arm_folder(arm) / part
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(tiny_run.arm_folder(arm) / part, place)

    def trained(config, _):
        notes.append(f"finetune {config.name}")
        put_back(config.name, "adapter")
        return {}

    def merged(config, adapter, target):
        assert adapter is None or (adapter / "adapter_model.safetensors").exists()
        notes.append(f"merge {config.name}")
        put_back(config.name, "merged")
        return {}

    def asked(loaded, task, config, weights, folder, data_folder):
        notes.append(f"evaluate {folder.parents[1].name} {task.name}")
        put_back(folder.parents[1].name, f"eval/{task.name}")
        key = harness._key(weights, task, config, data_folder)
        entry = read_json(folder / "entry.json") | {"key": key}
        write_json(folder / "entry.json", entry)
        return entry

    monkeypatch.setattr(train, "_finetune", trained)
    monkeypatch.setattr(plain, "write_merged", merged)
    monkeypatch.setattr(harness, "_load", lambda *_: ())
    monkeypatch.setattr(harness, "_evaluate_task", asked)
    run.notes = notes
    return run


def go_on(run: Run) -> list[str]:
    """Run every stage of every arm; returns what was made again."""
    run.notes.clear()
    for stage in (finetune_arm, merge_arm, evaluate_arm):
        for arm in run.study.arms:
            stage(run, arm.name)
    return run.notes[:]


def again(run: Run, study) -> Run:
    """Another study in the same folder."""
    other = Run(study, run.root)
    other.notes = run.notes
    return other


def spoil(path):
    """Another byte, the same size and time."""
    stat, content = path.stat(), bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


ARM = "llama-2k"
ASK_ALL = [f"evaluate {ARM} {task}" for task in TASKS]


def test_of_a_whole_folder_nothing_is_made_again(done):
    before = {path: path.read_bytes() for path in done.folder.rglob("*.json")}
    assert go_on(done) == []
    after = {path: path.read_bytes() for path in done.folder.rglob("*.json")}
    assert after == before


@pytest.mark.parametrize(
    ("damage", "said", "made"),
    [
        (
            lambda arm: shutil.rmtree(arm / "adapter"),
            "finetune llama-2k: adapter/ is missing: trains again",
            [f"finetune {ARM}"],
        ),
        (
            lambda arm: spoil(arm / "adapter" / "adapter_model.safetensors"),
            "finetune llama-2k: adapter/adapter_model.safetensors is damaged: trains again",
            [f"finetune {ARM}"],
        ),
        (
            lambda arm: (arm / "adapter" / "adapter_config.json").unlink(),
            "finetune llama-2k: adapter/adapter_config.json is missing: trains again",
            [f"finetune {ARM}"],
        ),
        (
            lambda arm: shutil.rmtree(arm / "merged"),
            "merge llama-2k: merged/ is missing: merges again",
            [f"merge {ARM}"],
        ),
        (
            lambda arm: (arm / "merged" / "model.safetensors").unlink(),
            "merge llama-2k: merged/model.safetensors is missing: merges again",
            [f"merge {ARM}"],
        ),
        (
            lambda arm: spoil(arm / "merged" / "tokenizer.json"),
            "merge llama-2k: merged/tokenizer.json is damaged: merges again",
            [f"merge {ARM}"],
        ),
        (
            lambda arm: (arm / "eval" / "micro_facts" / "samples.jsonl").write_text('{"doc'),
            "evaluate llama-2k: eval/micro_facts/samples.jsonl is damaged: evaluates again",
            [f"evaluate {ARM} micro_facts"],
        ),
        (
            lambda arm: shutil.rmtree(arm / "eval" / "micro_stories"),
            "evaluate llama-2k: eval/micro_stories/results.json is missing, ",
            [f"evaluate {ARM} micro_stories"],
        ),
        (lambda arm: (arm / "record.json").write_text("{"), "put back from its copy", []),
        (lambda arm: (arm / "record.json").unlink(), "put back from its copy", []),
        (lambda arm: (arm / "log.jsonl").write_text("{\n{}\n{"), "already done", []),
    ],
)
def test_what_is_lost_is_made_again_and_said(done, capsys, damage, said, made):
    damage(done.arm_folder(ARM))
    assert go_on(done) == made
    assert said in capsys.readouterr().err
    assert go_on(done) == []


def test_each_part_of_a_chain_that_is_lost_is_made_again(done, capsys):
    """Adapter, merged weights and an answer are gone, and only the last notebook is run."""
    arm = done.arm_folder(ARM)
    shutil.rmtree(arm / "adapter")
    shutil.rmtree(arm / "merged")
    (arm / "eval" / "micro_facts" / "samples.jsonl").unlink()
    evaluate_arm(done, ARM)
    assert done.notes == [f"finetune {ARM}", f"merge {ARM}", f"evaluate {ARM} micro_facts"]


def test_a_changed_model_is_trained_again_with_all_that_stands_on_it(done, checkpoint, tmp_path):
    """Same path, size and time: the folder was replaced."""
    copy = shutil.copytree(checkpoint, tmp_path / "model")
    arm = done.study[ARM]
    arm = replace(arm, compared_with=None, model=replace(arm.model, name=str(copy)))
    run = again(done, replace(done.study, name="other", arms=(arm,), ladder=()))
    shutil.copytree(done.folder / "data", run.folder / "data")
    for stage, work in (("finetune", dict), ("merge", dict), ("evaluate", lambda: {"tasks": {}})):
        run.stage(ARM, stage, work)
    states = [run.state(ARM, stage).word for stage in run.stages(ARM)]
    assert states == ["done", "done", "done"]
    spoil(copy / "model.safetensors")
    told = [run.state(ARM, stage) for stage in run.stages(ARM)]
    assert told[:2] == [("stale", "base model changed")] * 2


def test_changed_rows_are_trained_on_again(done, capsys):
    """The made-up world is another one, as of a newer slimlib."""
    data = done.folder / "data"
    spoil(data / "instructions.jsonl")
    sums = read_json(data / "sums.json")
    sums["instructions.jsonl"] = file_sha256(data / "instructions.jsonl")
    write_json(data / "sums.json", sums)
    made = go_on(done)
    assert f"finetune {ARM}" in made and not [note for note in made if "merge" in note]
    assert "finetune llama-2k: rows changed: trains again" in capsys.readouterr().err
    assert go_on(done) == []


def test_a_damaged_world_is_made_again_and_changes_nothing(done, capsys):
    spoil(done.folder / "data" / "instructions.jsonl")
    (done.folder / "data" / "facts_test.jsonl").unlink()
    done.data_folder()
    told = capsys.readouterr().err
    assert "facts_test.jsonl is missing, instructions.jsonl is damaged: made again" in told
    assert go_on(done) == []


# -------------------------------------------------------------------- results of one's own, beside


def settings(study, **more):
    return get_study("smoke", **{**study.overrides, **more})


@pytest.mark.parametrize(
    "change", [{"limit": 3}, {"evaluator": "hf"}, {"evaluate.dtype": "bfloat16"}]
)
def test_another_evaluation_has_results_of_its_own_beside_one_training(done, change, capsys):
    other = again(done, settings(done.study, **change))
    made = go_on(other)
    assert len(made) == 4 * len(TASKS) and all(note.startswith("evaluate") for note in made)
    (name,) = change
    assert f"{name.split('.')[-1]} was " in capsys.readouterr().err
    kept = [path.name for path in (done.arm_folder(ARM) / "eval-kept").iterdir()]
    assert sorted(name.split("-")[0] for name in kept) == sorted(TASKS)
    assert go_on(done) == []  # the first results are there still
    assert go_on(other) == []  # and so are the others


def test_one_task_less_asks_nothing(done):
    arms = [
        replace(arm, evaluate=replace(arm.evaluate, tasks=arm.evaluate.tasks[:2]))
        for arm in done.study.arms
    ]
    assert go_on(again(done, replace(done.study, arms=tuple(arms)))) == []
    assert go_on(done) == []


# ------------------------------------------------------------------------------ dropped weights


def dropping(study):
    return settings(study, **{"merge.keep_merged": False})


def test_merged_weights_go_after_evaluation_and_come_back_when_they_are_needed(done, capsys):
    run = again(done, dropping(done.study))
    assert go_on(run) == []
    assert not list(run.folder.glob("*/merged")) and (run.arm_folder(ARM) / "adapter").exists()
    assert run.record(ARM)["stages"]["merge"]["dropped"]
    assert go_on(run) == []
    shutil.rmtree(run.arm_folder(ARM) / "eval" / "micro_facts")
    assert go_on(run) == [f"merge {ARM}", f"evaluate {ARM} micro_facts"]
    assert "merge llama-2k: merged/ was dropped: merges again" in capsys.readouterr().err
    assert not list(run.folder.glob("*/merged"))


def test_on_drive_they_are_not_kept(done, monkeypatch):
    monkeypatch.setattr(files, "DRIVE", done.root)
    monkeypatch.setattr(locks, "POLL", 0.001)
    assert go_on(done) == []
    assert not list(done.folder.glob("*/merged"))


# ------------------------------------------------------------------------------------ leftovers


def test_what_dead_processes_left_is_gone(done):
    arm = done.arm_folder(ARM)
    shutil.copytree(arm / "merged", arm / ".merged.1.tmp")
    shutil.rmtree(arm / "eval" / "micro_facts")
    (arm / "eval" / ".micro_facts.99999999.tmp").mkdir()
    (done.folder / ".table1.csv.99999999.tmp").touch()
    (done.folder / "locks").mkdir(exist_ok=True)
    dead = {"process": 99999999, "machine": locks.socket.gethostname(), "works at": "merge"}
    write_json(done.folder / "locks" / "llama-2k.json", dead)
    done.clear()
    go_on(done)
    assert not [path for path in done.folder.rglob(".*") if path.name.endswith(".tmp")]
    assert not list((done.folder / "locks").glob("*.json"))


def test_a_folder_that_stood_aside_is_put_back(done):
    """A kill between the two renames of a folder that replaces another."""
    arm = done.arm_folder(ARM)
    (arm / "merged").rename(arm / ".merged.99999999.old")
    done.clear()
    assert go_on(done) == []


def test_checkpoints_go_once_the_training_is_done(done):
    """A kill came between "done" and their deletion."""
    (done.arm_folder(ARM) / "checkpoints" / "checkpoint-6").mkdir(parents=True)
    assert go_on(done) == []
    assert not (done.arm_folder(ARM) / "checkpoints").exists()


def test_checkpoints_of_another_base_are_not_gone_on_with(done, capsys):
    def fail():
        raise RuntimeError

    arm = done.arm_folder(ARM)
    shutil.rmtree(arm / "adapter")
    with contextlib.suppress(RuntimeError):
        done.stage(ARM, "finetune", fail)
    (arm / "checkpoints" / "checkpoint-4").mkdir(parents=True)
    with contextlib.suppress(RuntimeError):
        done.stage(ARM, "finetune", fail)
    assert (arm / "checkpoints" / "checkpoint-4").exists()
    record = read_json(arm / "record.json")
    record["stages"]["finetune"]["content"]["base model"] = "another"
    write_json(arm / "record.json", record)
    with contextlib.suppress(RuntimeError):
        done.stage(ARM, "finetune", fail)
    assert not (arm / "checkpoints").exists()
    assert "finetune llama-2k: base model changed: its checkpoints" in capsys.readouterr().err


def test_a_model_that_changes_while_it_is_read_is_not_taken_for_the_one_that_was(
    done, checkpoint, tmp_path
):
    copy = shutil.copytree(checkpoint, tmp_path / "model")
    arm = done.study[ARM]
    arm = replace(arm, compared_with=None, model=replace(arm.model, name=str(copy)))
    run = Run(replace(done.study, name="other", arms=(arm,), ladder=()), tmp_path)
    run.stage(ARM, "finetune", lambda: spoil(copy / "model.safetensors") or {})
    assert run.state(ARM, "finetune") == ("stale", "base model changed")


# ---------------------------------------------------------------------------------- older folders


def test_a_folder_of_an_older_slimlib_goes_on(done, capsys):
    for arm in done.study.arms:
        path = done.arm_folder(arm.name) / "record.json"
        record = read_json(path)
        for stage in record["stages"].values():
            for key in ("content", "made"):
                stage.pop(key, None)
            for task in stage.get("tasks", {}).values():
                task.pop("files")
        write_json(path, record)
        path.with_name("record.json.bak").unlink()
    (done.folder / "data" / "sums.json").unlink()
    assert go_on(done) == []
    shutil.rmtree(done.arm_folder(ARM) / "merged")  # known by now
    assert go_on(done) == [f"merge {ARM}"]

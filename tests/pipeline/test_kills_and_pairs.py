"""Kills between any two writes, and two processes at once: works of stand-ins in real folders."""

import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import traceback
from pathlib import Path

import pytest

from slimlib import run as module
from slimlib.common.files import atomic_path, read_json, write_text
from slimlib.run import Run
from slimlib.studies.get import get_study

ARMS = "llama-base,llama-2k"
STUDY = {"arms": ARMS, "merge.keep_merged": False}


def note(run: Run, text: str) -> None:
    with open(run.root / "notes", "a") as stream:
        stream.write(text + "\n")


def made(run: Run, arm: str, part: str, text: str) -> None:
    with atomic_path(run.arm_folder(arm) / part) as temporary:
        temporary.mkdir()
        (temporary / "config.json").write_text(text)
        (temporary / "model.safetensors").write_text(text * 100)


def works(run: Run, arm: str):
    """Stage -> its stand-in, which fails where what it stands on is not there."""

    def finetune():
        note(run, f"finetune {arm}")
        (run.arm_folder(arm) / "checkpoints" / "checkpoint-2").mkdir(parents=True, exist_ok=True)
        made(run, arm, "adapter", "adapter")
        return {"train_loss": 1.5}

    def merge():
        note(run, f"merge {arm}")
        assert (run.arm_folder(arm) / "adapter" / "model.safetensors").exists()
        made(run, arm, "merged", "merged")
        return {}

    def evaluate():
        note(run, f"evaluate {arm}")
        if run.study[arm].writes_weights:
            assert (run.arm_folder(arm) / "merged" / "model.safetensors").exists()
        run.data_folder()
        write_text(run.arm_folder(arm) / "eval" / "facts" / "samples.jsonl", f"{arm}\n")
        return {"tasks": {}}

    return {"finetune": finetune, "merge": merge, "evaluate": evaluate}


def whole(root: Path) -> None:
    """The study, as `run_study` goes through it."""
    run = Run(get_study("smoke", **STUDY), root)
    run.clear()
    for stages in (("finetune",), ("merge", "evaluate")):
        for arm in run.study.arms:
            for stage in stages:
                if stage in run.stages(arm.name):
                    run.stage(arm.name, stage, works(run, arm.name)[stage])


def content(root: Path) -> dict[str, object]:
    """Every file but the log of the works, what is remembered of hashes, and locks; no times."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_dir() or name in ("notes", "smoke/hashes.json") or path.suffix == ".lock":
            continue
        found[name] = path.read_bytes()
        if ".json" in name and "record" in name:
            record = read_json(path)
            for stage in record["stages"].values():
                stage.pop("seconds")
            found[name] = record
    return found


@pytest.fixture
def quick(monkeypatch):
    """No look at the machine for each record, and a world of one file."""
    monkeypatch.setattr(module, "environment", dict)
    monkeypatch.setattr(
        os, "fsync", lambda _: None
    )  # a killed process loses nothing that is written

    def write_data(folder):
        (folder / "facts.jsonl").write_text("{}\n")

    monkeypatch.setattr("slimlib.data.micro.kept.write_data", write_data)


def in_child(work, *arguments) -> int:
    """Run in a fork; returns what `os.waitpid` says of its end."""
    child = os.fork()
    if child == 0:
        try:
            sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115  for the child's life
            work(*arguments)
        except BaseException:  # whatever it is, it must not reach the test's own process
            (arguments[0] / "error.txt").write_text(traceback.format_exc())
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1]


def killed_at(root: Path, number: int) -> None:
    """Run the study, and be killed ahead of its so-manieth rename, deletion or opening."""
    count = itertools.count()

    def counted(function):
        def call(*args, **kwargs):
            if next(count) == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)

        return call

    Path.replace, Path.unlink = counted(Path.replace), counted(Path.unlink)
    Path.write_text, Path.write_bytes = counted(Path.write_text), counted(Path.write_bytes)
    Path.mkdir = counted(Path.mkdir)
    shutil.rmtree = counted(shutil.rmtree)
    whole(root)


def test_a_kill_between_two_writes_changes_nothing(tmp_path, quick):
    """At every sixteenth of them."""
    check_kills(tmp_path, 16)


@pytest.mark.slow
def test_a_kill_between_any_two_writes_changes_nothing(tmp_path, quick):
    check_kills(tmp_path, 1)


def check_kills(tmp_path: Path, step: int) -> None:
    whole(tmp_path / "undisturbed")
    expected = content(tmp_path / "undisturbed")
    usual = (tmp_path / "undisturbed" / "notes").read_text().splitlines()
    kills = 0
    for number in itertools.count(step - 1, step):
        root = tmp_path / str(number)
        status = in_child(killed_at, root, number)
        if status == 0:
            break
        kills += os.WTERMSIG(status) == signal.SIGKILL
        done = finished(root)
        before = len((root / "notes").read_text().splitlines()) if done else 0
        whole(root)
        assert content(root) == expected, number
        notes = (root / "notes").read_text().splitlines()
        assert not {*notes[before:]} & done, number  # what was done is not done again
        assert {*notes} == {*usual}
        shutil.rmtree(root)
    assert kills == number // step > 100 // step


def finished(root: Path) -> set[str]:
    """The stages that are recorded as done."""
    records = [read_json(path) for path in root.glob("smoke/*/record.json")]
    return {
        f"{name} {record['arm']}"
        for record in records
        for name, stage in record["stages"].items()
        if stage["status"] == "done"
    }


def together(root: Path, go: int) -> None:
    os.read(go, 1)
    whole(root)


def test_two_processes_at_once_do_each_stage_once(tmp_path, quick):
    check_pairs(tmp_path, 3)


@pytest.mark.slow
def test_two_processes_at_once_twenty_times(tmp_path, quick):
    check_pairs(tmp_path, 20)


def check_pairs(tmp_path: Path, times: int) -> None:
    for number in range(times):
        root = tmp_path / str(number)
        root.mkdir()
        read, write = os.pipe()
        children = []
        for _ in range(2):
            child = os.fork()
            if child == 0:
                os._exit(in_child(together, root, read) and 1)
            children.append(child)
        os.write(write, b"gg")
        ends = [os.waitpid(child, 0)[1] for child in children]
        error = root / "error.txt"
        assert ends == [0, 0], error.read_text() if error.exists() else number
        notes = (root / "notes").read_text().splitlines()
        assert len(notes) == len({*notes}) == 4, notes
        os.close(read), os.close(write)


@pytest.mark.slow
def test_two_real_runs_at_once(checkpoint, tmp_path):
    """`slimlib run` twice on a new folder, as a user starts it."""
    values = {"model": checkpoint, "arms": ARMS, "limit": 2, "data.n": 24}
    settings = [word for key in values for word in ("--set", f"{key}={values[key]}")]
    for number in range(2):
        root = tmp_path / str(number)
        command = [sys.executable, "-m", "slimlib", "run", "--study", "smoke", "--runs", str(root)]
        pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
        pair = [subprocess.Popen([*command, *settings], **pipes) for _ in range(2)]
        said = [process.communicate(timeout=600)[1] for process in pair]
        assert [process.returncode for process in pair] == [0, 0], said
        lines = "\n".join(said).splitlines()
        done = [line.partition(": done in ")[0] for line in lines if ": done in " in line]
        stages = [name for name in done if re.fullmatch(r"(finetune|merge|evaluate) [\w-]+", name)]
        assert len(stages) == len({*stages}) == 4, stages

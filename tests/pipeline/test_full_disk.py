"""A disk that is full, or only read, in the middle of a command: one line, nothing lost, gone on.

The disk is a small one in memory, and is really full.
"""

import contextlib
import os
import subprocess

import pytest

from slimlib import cli
from slimlib.common import progress
from slimlib.pipeline import study

NO_ROOM = "No space left on device"


@pytest.fixture
def disk(tmp_path):
    """A disk of 64 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", folder], check=False
    )
    if mounted.returncode:
        pytest.skip("this user may not mount a disk")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def fill(disk, room=0):
    """Leave so many bytes of a disk."""
    free = os.statvfs(disk)
    with open(disk / "ballast", "ab") as stream:
        stream.write(bytes(max(free.f_bavail * free.f_frsize - room, 0)))


def make_room(disk):
    (disk / "ballast").unlink(missing_ok=True)


@contextlib.contextmanager
def filled_at(disk, begin, room, monkeypatch):
    """Fill the disk once a line of progress begins so."""
    line = progress.line

    @contextlib.contextmanager
    def watched(label, *more, **how):
        with line(label, *more, **how) as opened:
            if label.startswith(begin):
                fill(disk, room)
            yield opened

    with monkeypatch.context() as patch:
        patch.setattr(progress, "line", watched)
        yield
    make_room(disk)


def ends(capsys, *words):
    """How a command ends: its code, and the last line that it says."""
    code = cli.main(list(words))
    return code, capsys.readouterr().err.splitlines()[-1]


def stamps(folder):
    """Every whole file of stages with its time."""
    found = (p for part in ("adapter", "merged", "eval") for p in folder.glob(f"*/{part}/**/*"))
    return {path: path.stat().st_mtime_ns for path in found if path.is_file()}


@pytest.mark.slow
def test_a_disk_that_fills_at_each_stage_of_a_run(disk, checkpoint, capsys, monkeypatch):
    """One folder: each stage fails once, in the middle of a file, and is gone on with."""
    room = 30_000
    settings = {"model": checkpoint, "arms": "llama-base,llama-2k", "data.n": 24, "limit": 4}
    words = ["run", "--study", "smoke", "--runs", str(disk / "runs")]
    words += [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    done = {}
    for stage in (
        "finetune llama-2k",
        "evaluate llama-base",
        "merge llama-2k",
        "evaluate llama-2k",
    ):
        with filled_at(disk, stage, room, monkeypatch):
            code, said = ends(capsys, *words)
        assert code == 2 and NO_ROOM in said and str(disk) in said, stage
        assert said.endswith("make room and run it again; what is done is kept")
        now = stamps(disk / "runs" / "smoke")
        assert now.items() >= done.items()
        assert not [*disk.rglob("*.tmp")]
        done = {path: time for path, time in now.items() if "eval" not in path.parts}
    with monkeypatch.context() as patch:
        write = study.write_tables
        patch.setattr(study, "write_tables", lambda *a: fill(disk, room) or write(*a))
        assert ends(capsys, *words)[0] == 2
    make_room(disk)
    done = stamps(disk / "runs" / "smoke")
    assert ends(capsys, *words)[0] == 0
    assert stamps(disk / "runs" / "smoke") == done
    assert (disk / "runs" / "smoke" / "table2.csv").exists()


@pytest.mark.slow
@pytest.mark.parametrize("line", ["load", "micro:base: micro_facts", "micro:instruct"])
def test_a_disk_that_fills_in_a_check(disk, line, capsys, monkeypatch):
    monkeypatch.chdir(disk)
    monkeypatch.setenv("SLIMLIB_RUNS", str(disk / "runs"))
    words = ["check", "micro:base", "micro:instruct", "--tasks", "micro_facts", "--limit", "8"]
    with filled_at(disk, line, 0, monkeypatch):
        code, said = ends(capsys, *words)
    assert code == 2 and NO_ROOM in said
    assert ends(capsys, *words)[0] == 0


def test_a_disk_that_is_only_read(disk, capsys):
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    for words in (["run", "--study", "smoke"], ["sweep", "--cells", "base"]):
        code, said = ends(capsys, *words, "--runs", str(disk / "runs"))
        assert code == 2 and said.startswith("slimlib: ") and str(disk) in said
        assert "written to" in said

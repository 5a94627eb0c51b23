"""One writer at a time: who waits, who is told of, who is taken over."""

import multiprocessing
import os
import signal
import threading
import time

import pytest

from slimlib.common import files, locks
from slimlib.common.files import read_json, write_json
from slimlib.common.locks import clear_holders, holder_of, writing

SPAWN = multiprocessing.get_context("fork")


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "POLL", 0.01)
    return tmp_path / "locks" / "arm.lock"


def hold(path, ready, end):
    with writing(path, "merge arm"):
        ready.set()
        end.wait(30)


@pytest.fixture
def other(path):
    """Another process that holds the lock; `end` lets it go."""
    ready, end = SPAWN.Event(), SPAWN.Event()
    process = SPAWN.Process(target=hold, args=(path, ready, end))
    process.start()
    assert ready.wait(30)
    yield process, end
    if process.is_alive():  # the event of a killed process waits for it
        end.set()
    process.join(10)


def test_the_holder_is_named_and_gone_with_the_lock(path):
    with writing(path, "finetune arm"):
        found = read_json(path.with_suffix(".json"))
        assert (found["process"], found["works at"]) == (os.getpid(), "finetune arm")
        assert f"process {os.getpid()} on" in holder_of(path)
    assert not path.with_suffix(".json").exists() and holder_of(path) == ""


def test_a_stage_in_a_stage_holds_it_already(path):
    with writing(path, "evaluate arm"):
        with writing(path, "drop arm"):
            pass
        assert holder_of(path)


def test_a_failure_lets_it_go(path):
    with pytest.raises(RuntimeError), writing(path, "merge arm"):
        raise RuntimeError
    with writing(path, "merge arm"):
        pass


def test_a_second_process_waits_and_says_for_whom(path, other, capsys):
    process, end = other
    threading.Timer(0.3, end.set).start()
    begin = time.monotonic()
    with writing(path, "merge arm, too"):
        assert time.monotonic() - begin > 0.2
    told = capsys.readouterr().err
    assert f"merge arm, too: waits for process {process.pid} on" in told


def test_the_lock_of_a_killed_process_is_free(path, other, capsys):
    process, _ = other
    os.kill(process.pid, signal.SIGKILL)
    process.join(10)
    assert path.with_suffix(".json").exists() and holder_of(path) == ""
    clear_holders(path.parent)
    assert not path.with_suffix(".json").exists()
    with writing(path, "merge arm"):
        pass
    assert "waits" not in capsys.readouterr().err


class TestOnDrive:
    """Where a lock does not reach the other machine."""

    @pytest.fixture
    def drive(self, path, monkeypatch):
        monkeypatch.setattr(files, "DRIVE", path.parents[1])
        monkeypatch.setattr(locks, "BEAT", 0.02)
        monkeypatch.setattr(locks, "DEAD", 0.5)
        path.parent.mkdir()
        return path

    def elsewhere(self, path, beat):
        holder = {"process": 7, "machine": "elsewhere", "works at": "merge arm", "beat": beat}
        write_json(path.with_suffix(".json"), holder)

    def test_a_heart_that_beats_is_waited_for(self, drive, capsys):
        self.elsewhere(drive, time.time())
        begin = time.monotonic()
        with writing(drive, "merge arm"):
            assert time.monotonic() - begin > 0.3
        assert "waits for process 7 on elsewhere (merge arm)" in capsys.readouterr().err

    def test_one_that_stopped_is_taken_over(self, drive, capsys):
        self.elsewhere(drive, time.time() - 60)
        with writing(drive, "merge arm"):
            assert read_json(drive.with_suffix(".json"))["process"] == os.getpid()
        assert "waits" not in capsys.readouterr().err

    def test_ours_beats_and_ends(self, drive):
        with writing(drive, "merge arm"):
            first = read_json(drive.with_suffix(".json"))["beat"]
            time.sleep(0.2)
            assert read_json(drive.with_suffix(".json"))["beat"] > first
        time.sleep(0.1)
        assert not drive.with_suffix(".json").exists()

    def test_a_drive_without_locks_has_the_heartbeat_alone(self, drive, monkeypatch):
        def refuse(*args, **kwargs):
            raise NotImplementedError

        monkeypatch.setattr(locks.FileLock, "acquire", refuse)
        with writing(drive, "merge arm"):
            assert holder_of(drive)


def test_a_garbled_holder_is_nobody(path):
    path.parent.mkdir()
    for garbage in ("{", "[]", '{"process": "x", "machine": 1, "works at": 2}', "\x00"):
        path.with_suffix(".json").write_text(garbage)
        assert holder_of(path) == ""
        clear_holders(path.parent)

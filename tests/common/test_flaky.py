"""A file system that fails every few calls is waited for; one that stays away is said."""

import errno
import json
import os
from pathlib import Path

import pytest

from slimlib.common import files, flaky

CALLS = [(Path, "write_bytes"), (Path, "read_bytes"), (Path, "replace"), (os, "fsync")]


@pytest.fixture
def waits(monkeypatch):
    """Waits are noted, not waited."""
    noted = []
    monkeypatch.setattr(flaky.time, "sleep", noted.append)
    return noted


@pytest.fixture
def failing(monkeypatch):
    """Let each n-th of the calls that read and write fail, with such an error."""

    def fail(every, number=errno.EIO, calls=CALLS):
        count = [0]

        def broken(work):
            def call(*arguments, **how):
                count[0] += 1
                if count[0] % every == 0:
                    raise OSError(number, os.strerror(number))
                return work(*arguments, **how)

            return call

        for owner, name in calls:
            monkeypatch.setattr(owner, name, broken(getattr(owner, name)))

    return fail


@pytest.mark.parametrize("every", [5, 7, 11])
def test_whatever_is_written_is_whole_though_every_few_calls_fail(failing, waits, tmp_path, every):
    failing(every)

    def write_folder():
        with files.atomic_path(tmp_path / "folder") as folder:
            folder.mkdir()
            (folder / "c").write_text("c")

    for number in range(20):
        value = {"number": number, "text": "ü" * 100}
        files.write_json(tmp_path / "a.json", value)
        files.write_jsonl(tmp_path / "b.jsonl.gz", [value] * 3)
        assert files.read_json(tmp_path / "a.json") == value
        assert files.read_jsonl(tmp_path / "b.jsonl.gz") == [value] * 3
        write_folder()
    assert waits and {*os.listdir(tmp_path)} == {"a.json", "b.jsonl.gz", "folder"}


def test_each_wait_is_said(failing, waits, tmp_path, capsys):
    failing(2, errno.ENOTCONN, CALLS[:1])
    (tmp_path / "first").write_bytes(b"")
    files.write_json(tmp_path / "a.json", 1)
    assert waits == [flaky.WAITS[0]]
    assert "a.json: Transport endpoint is not connected; tried again in 0.5 s" in (
        capsys.readouterr().err
    )


def test_one_that_stays_away_is_said_in_one_line_and_what_was_there_stays(failing, waits, tmp_path):
    files.write_json(tmp_path / "a.json", {"old": True})
    failing(1, errno.EIO, CALLS[:1])
    with pytest.raises(
        OSError, match="Input/output error, 4 times: is the disk .*a.json"
    ) as caught:
        files.write_json(tmp_path / "a.json", {"old": False})
    assert caught.value.errno == errno.EIO and waits == [*flaky.WAITS]
    assert json.loads((tmp_path / "a.json").read_text()) == {"old": True}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.ENOENT])
def test_other_errors_are_raised_at_once(failing, waits, tmp_path, number):
    failing(1, number, CALLS[:1])
    with pytest.raises(OSError, match=os.strerror(number)):
        files.write_json(tmp_path / "a.json", 1)
    assert waits == []


def test_a_hash_is_of_each_file_once_though_reading_fails_in_between(waits, tmp_path, monkeypatch):
    paths = [tmp_path / "a", tmp_path / "b"]
    for path in paths:
        path.write_bytes(path.name.encode() * 3_000_000)
    wanted = files.file_sha256(*paths)
    reads = [0]

    class Broken:
        def __init__(self, *arguments):
            self.stream = open(*arguments)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.stream.close()

        def read(self, size):
            reads[0] += 1
            if reads[0] in (2, 6):
                raise OSError(errno.ESTALE, "stale")
            return self.stream.read(size)

    monkeypatch.setattr(files, "open", Broken, raising=False)
    assert files.file_sha256(*paths) == wanted and len(waits) == 2


def test_an_error_of_safetensors_is_known_by_its_number(waits):
    from safetensors import SafetensorError

    fails = [SafetensorError("I/O error: Input/output error (os error 5)")]

    def step():
        if fails:
            raise fails.pop()
        return "done"

    assert flaky.again(step, Path("adapter")) == "done" and len(waits) == 1
    fails.append(SafetensorError("I/O error: No space left on device (os error 28)"))
    with pytest.raises(OSError, match="No space left on device: 'adapter'"):
        flaky.again(step, Path("adapter"))
    fails.append(SafetensorError("damaged"))
    with pytest.raises(SafetensorError):
        flaky.again(step, Path("adapter"))


def test_a_file_whose_flush_failed_is_written_anew_before_the_next(monkeypatch, waits, tmp_path):
    """What the first flush dropped, a second one would not write, and would not say."""
    flushed, flush = [], os.fsync

    def fsync(opened):
        flushed.append(os.fstat(opened).st_ino)
        if len(flushed) == 1:
            raise OSError(errno.EIO, "dropped")
        flush(opened)

    monkeypatch.setattr(os, "fsync", fsync)
    files.write_json(tmp_path / "a.json", {"kept": True})
    assert flushed[0] != flushed[1] == (tmp_path / "a.json").stat().st_ino
    assert files.read_json(tmp_path / "a.json") == {"kept": True}
    assert os.listdir(tmp_path) == ["a.json"] and len(waits) == 1


def test_a_line_that_was_half_added_is_added_once(monkeypatch, waits, tmp_path):
    path, opened = tmp_path / "log.jsonl", []
    path.write_text("first\n")

    class Torn:
        def __init__(self, *arguments):
            self.stream = open(*arguments)
            opened.append(self)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.stream.close()

        def __getattr__(self, name):
            return getattr(self.stream, name)

        def write(self, content):
            if len(opened) == 1:
                self.stream.write(content[:3])
                raise OSError(errno.EIO, "torn")
            self.stream.write(content)

    monkeypatch.setattr(files, "open", Torn, raising=False)
    files.append_text(path, "second\n")
    assert path.read_text() == "first\nsecond\n" and len(opened) == 2

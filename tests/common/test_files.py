"""Files: whole or none, in JSON and lines of it, and their hashes."""

import json
import os
import shutil
from pathlib import Path

import pytest

from slimlib.common import files as files_module
from slimlib.common import flaky
from slimlib.common.files import (
    atomic_path,
    clear_leftovers,
    file_sha256,
    read_json,
    read_jsonl,
    sha256,
    write_json,
)


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


# -------------------------------------------------------------------------------------- the files


class TestAtomicPath:
    def test_the_file_appears_when_the_block_ends(self, tmp_path):
        target = tmp_path / "deep" / "file.txt"
        with atomic_path(target) as temporary:
            temporary.write_text("new")
            assert not target.exists()
        assert target.read_text() == "new"
        assert files(tmp_path) == ["deep", "deep/file.txt"]

    def test_an_exception_leaves_the_old_file_and_nothing_else(self, tmp_path):
        target = tmp_path / "file.txt"
        target.write_text("old")
        with pytest.raises(RuntimeError), atomic_path(target) as temporary:
            temporary.write_text("half")
            raise RuntimeError
        assert target.read_text() == "old"
        assert files(tmp_path) == ["file.txt"]

    def test_an_exception_leaves_the_old_folder_and_nothing_else(self, tmp_path):
        target = tmp_path / "folder"
        target.mkdir()
        (target / "weights").write_text("old")
        with pytest.raises(KeyboardInterrupt), atomic_path(target) as temporary:
            temporary.mkdir()
            (temporary / "weights").write_text("half")
            raise KeyboardInterrupt
        assert (target / "weights").read_text() == "old"
        assert files(tmp_path) == ["folder", "folder/weights"]

    def test_a_folder_replaces_a_folder_whole(self, tmp_path):
        target = tmp_path / "folder"
        target.mkdir()
        (target / "stale").touch()
        with atomic_path(target) as temporary:
            temporary.mkdir()
            (temporary / "fresh").touch()
        assert files(tmp_path) == ["folder", "folder/fresh"]

    def test_what_a_dead_process_of_this_number_left_is_no_hindrance(self, tmp_path):
        (tmp_path / f".folder.{os.getpid()}.tmp").mkdir()
        (tmp_path / f".folder.{os.getpid()}.old").touch()
        for name in ("stale", "fresh"):
            with atomic_path(tmp_path / "folder") as temporary:
                temporary.mkdir()
                (temporary / name).touch()
        assert files(tmp_path) == ["folder", "folder/fresh"]

    def test_what_is_written_is_on_the_disk_before_it_gets_its_name(self, tmp_path, monkeypatch):
        seen = []
        monkeypatch.setattr(os, "fsync", lambda _: seen.append((tmp_path / "folder").exists()))
        with atomic_path(tmp_path / "folder") as temporary:
            temporary.mkdir()
            (temporary / "weights").touch()
        assert seen == [False, False, True]  # the file, its folder; then the name

    def test_a_disk_that_fails_to_keep_it_is_an_error(self, tmp_path, monkeypatch):
        def fail(_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="No space left"):
            write_json(tmp_path / "record.json", {})
        assert files(tmp_path) == []

    def test_a_file_system_that_cannot_flush_is_none(self, tmp_path, monkeypatch):
        def refuse(_):
            raise OSError(22, "Invalid argument")

        monkeypatch.setattr(os, "fsync", refuse)
        write_json(tmp_path / "record.json", {})
        assert files(tmp_path) == ["record.json"]

    def test_leftovers_of_dead_processes_go_and_those_of_living_ones_stay(self, tmp_path):
        names = [".a.99999999.tmp", ".b.99999999.old", f".c.{os.getppid()}.tmp", ".hidden"]
        for name in names:
            (tmp_path / name).touch()
        clear_leftovers(tmp_path)
        assert files(tmp_path) == [f".c.{os.getppid()}.tmp", ".hidden", "b"]
        clear_leftovers(tmp_path, owned=True)
        assert files(tmp_path) == [".hidden", "b"]

    def test_a_full_disk_loses_nothing(self, tmp_path, monkeypatch):
        path = tmp_path / "record.json"
        write_json(path, {"stages": "old"})

        def full(self, content):
            with open(self, "wb") as stream:
                stream.write(content[:5])
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, "write_bytes", full)
        with pytest.raises(OSError, match="No space left"):
            write_json(path, {"stages": "new"})
        monkeypatch.undo()
        assert read_json(path) == {"stages": "old"}
        assert files(tmp_path) == ["record.json"]


def test_json_keeps_order_and_letters(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"z": "é", "a": [1, 2.5, None]})
    assert list(read_json(path)) == ["z", "a"]
    assert "é" in path.read_text("utf-8")


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_number_that_json_has_not_is_refused_before_writing(tmp_path, number):
    with pytest.raises(ValueError):
        write_json(tmp_path / "a.json", {"score": number})
    assert files(tmp_path) == []


@pytest.mark.parametrize("text", ["", '{"stages": {"finet', "\x00\x00"])
def test_a_half_written_json_file_is_named(tmp_path, text):
    path = tmp_path / "record.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"record\.json is not valid JSON"):
        read_json(path)


def test_a_log_that_was_cut_off_keeps_its_whole_lines(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"st')
    assert read_jsonl(path) == [{"step": 1}, {"step": 2}]


def test_a_line_ends_at_a_newline_only(tmp_path):
    """Python's splitlines would cut a text at U+2028 or U+0085, which JSON leaves as they are."""
    path = tmp_path / "samples.jsonl"
    row = {"text": "a\u2028b\u0085c"}
    path.write_text(2 * (json.dumps(row, ensure_ascii=False) + "\n"), encoding="utf-8")
    assert read_jsonl(path) == [row, row]
    path.write_text("")
    assert read_jsonl(path) == []


def test_a_log_that_is_broken_in_the_middle_is_refused(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1}\n{"st\n{"step": 3}\n')
    with pytest.raises(ValueError, match=r"log\.jsonl line 2"):
        read_jsonl(path)


def test_sha256_does_not_depend_on_the_order_of_keys():
    assert sha256({"a": 1, "b": [2]}) == sha256({"b": [2], "a": 1})
    assert sha256({"a": 1}) != sha256({"a": 2})


def test_file_sha256_is_the_one_of_sha256sum(tmp_path):
    (tmp_path / "abc").write_text("abc")
    assert file_sha256(tmp_path / "abc") == "ba7816bf8f01cfea"  # FIPS 180-2, appendix B.1


class TestOnDrive:
    @pytest.fixture(autouse=True)
    def drive(self, tmp_path, monkeypatch):
        monkeypatch.setattr(files_module, "DRIVE", tmp_path)
        monkeypatch.setattr(flaky.time, "sleep", lambda _: None)

    def write(self, folder: Path) -> None:
        with atomic_path(folder) as temporary:
            assert not temporary.is_relative_to(folder.parent)
            (temporary / "deep").mkdir(parents=True)
            (temporary / "deep" / "weights").write_bytes(b"1" * 3_000_000)

    def test_what_is_copied_there_is_what_was_made_here(self, tmp_path):
        self.write(tmp_path / "merged")
        write_json(tmp_path / "record.json", {"a": 1})
        assert files(tmp_path) == ["merged", "merged/deep", "merged/deep/weights", "record.json"]
        assert (tmp_path / "merged" / "deep" / "weights").read_bytes() == b"1" * 3_000_000
        assert read_json(tmp_path / "record.json") == {"a": 1}

    @pytest.mark.parametrize("times", [1, 99])
    def test_a_copy_that_is_not_what_was_copied_is_made_again(self, tmp_path, monkeypatch, times):
        """As where a mount drops a block; one that stays so is an error, and nothing appears."""
        copy, bad = shutil.copyfile, [times]

        def lossy(made, target):
            copy(made, target)
            if bad[0]:
                bad[0] -= 1
                os.truncate(target, os.path.getsize(target) // 2)

        monkeypatch.setattr(shutil, "copyfile", lossy)
        if times == 99:
            with pytest.raises(OSError, match="is the disk or the mounted Drive still there"):
                self.write(tmp_path / "merged")
            assert files(tmp_path) == []
        else:
            self.write(tmp_path / "merged")
            assert (tmp_path / "merged" / "deep" / "weights").stat().st_size == 3_000_000

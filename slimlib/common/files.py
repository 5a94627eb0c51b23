"""Files that are whole or not there: atomic writes, JSON with clear errors, and hashes."""

from __future__ import annotations

import contextlib
import errno
import gzip
import hashlib
import itertools
import json
import os
import re
import shutil
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from slimlib.common.flaky import again

PACKAGE = Path(__file__).resolve().parents[1]  # slimlib/, in a checkout or installed
LEFTOVER = re.compile(r"\.(.+)\.(\d+)\.(tmp|old)")  # of `atomic_path`: name, process
DRIVE = Path("/content/drive")  # where Colab mounts it
UNFLUSHED = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)  # of file systems that cannot flush


def on_drive(path: Path) -> bool:
    """Whether a path lies on a mounted Drive."""
    return path.absolute().is_relative_to(DRIVE)


@contextlib.contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside `target`; rename it into place when the block succeeds.

    What was written is on the disk before the rename. A folder that is replaced stands aside until
    the new one is there; `clear_leftovers` puts it back where a kill came between. A mounted Drive
    guarantees little: for one it is made on this machine, copied there, and read back.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    remove(temporary)  # of a dead process that had this number
    try:
        if on_drive(target):
            with tempfile.TemporaryDirectory() as here:
                yield Path(here) / target.name
                _copy(Path(here) / target.name, temporary)
        else:
            yield temporary
        _flush(temporary)
        _put(temporary, target)
    finally:
        remove(temporary)


def _copy(made: Path, copy: Path) -> None:
    """Copy a file or a folder, and compare what lies there with what was copied."""
    if made.is_dir():
        copy.mkdir()
        for inner in sorted(made.iterdir()):
            _copy(inner, copy / inner.name)
    else:
        again(partial(_copy_file, made, copy), copy)


def _copy_file(made: Path, copy: Path) -> None:
    shutil.copyfile(made, copy)
    if file_sha256(copy) != file_sha256(made):
        raise OSError(errno.EIO, "what was written is not what is read", str(copy))


def _put(temporary: Path, target: Path) -> None:
    if not target.is_dir():
        _rename(temporary, target)
    else:
        aside = target.with_name(f".{target.name}.{os.getpid()}.old")
        again(lambda: remove(aside), aside)
        _rename(target, aside)
        try:
            _rename(temporary, target)
        except OSError:
            _rename(aside, target)
            raise
        again(lambda: remove(aside), aside)
    again(lambda: _flush_one(target.parent), target)


def _rename(path: Path, target: Path) -> None:
    again(lambda: path.replace(target), target)


def remove(path: Path) -> None:
    """Delete a file or a folder, if it is there; another process may delete it, too."""
    while path.is_dir() and not path.is_symlink():
        with contextlib.suppress(FileNotFoundError):  # a part of it: the rest is still to go
            shutil.rmtree(path)
    path.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Have the disk hold a file, or a folder with all that is in it."""
    for inner in sorted(path.rglob("*")) if path.is_dir() else ():
        _flush_again(inner)
    _flush_again(path)


def _flush_again(path: Path) -> None:
    failed = False

    def flush() -> None:
        nonlocal failed
        if failed and path.is_file():  # what a failed flush has dropped, the next does not write
            _copy_over(path)
        failed = True
        _flush_one(path)

    again(flush, path)


def _copy_over(path: Path) -> None:
    copy = path.with_name(f"{path.name}.copy")
    try:
        shutil.copy2(path, copy)
        copy.replace(path)
    finally:
        copy.unlink(missing_ok=True)


def _flush_one(path: Path) -> None:
    if os.name == "nt" and path.is_dir():  # which cannot be opened there
        return
    opened = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(opened)
    except OSError as error:
        if error.errno not in UNFLUSHED:
            raise
    finally:
        os.close(opened)


def clear_leftovers(folder: Path, owned: bool = False) -> list[Path]:
    """Remove what killed processes left of their writes; put back what stood aside.

    Args:
        folder: it and all below.
        owned: no other process writes there now; else what a living one may be writing is left.

    Returns:
        The leftovers that are gone.
    """
    walked = os.walk(folder)  # unlike rglob it passes over what goes in the meantime
    names = [Path(place, name) for place, *inner in walked for name in itertools.chain(*inner)]
    found = [path for path in names if LEFTOVER.fullmatch(path.name)]
    gone = []
    for path in found:
        name, number, kind = LEFTOVER.fullmatch(path.name).groups()
        if not owned and psutil.pid_exists(int(number)):
            continue
        target = path.with_name(name)
        if kind == "old" and not target.exists():
            with contextlib.suppress(FileNotFoundError):
                path.replace(target)
        else:
            remove(path)
        gone.append(path)
    return gone


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, keys in the order given.

    Raises:
        ValueError: a NaN or infinite number, which JSON has not.
    """
    write_text(path, json_text(value) + "\n")


def write_text(path: Path, text: str) -> Path:
    """Write a whole text file or none; return its path."""
    _write(path, text.encode("utf-8"))
    return path


def _write(path: Path, content: bytes) -> None:
    def write() -> None:  # whole: what a failed flush has dropped is not written by the next one
        with atomic_path(path) as temporary:
            temporary.write_bytes(content)

    again(write, path)


def append_text(path: Path, text: str) -> None:
    """Add to the end of a file that is there; what a failed try has added is cut off again."""
    size = path.stat().st_size

    def append() -> None:
        with open(path, "r+b") as stream:
            stream.truncate(size)
            stream.seek(size)
            stream.write(text.encode("utf-8"))

    again(append, path)


def json_text(value: Any) -> str:
    """A value as JSON that people read too.

    Raises:
        ValueError: a number that JSON has not.
    """
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)


def parse_json(text: str | bytes, **how: Any) -> Any:
    """The value of a JSON text; `how` as of json.loads.

    Raises:
        json.JSONDecodeError: it is none, or Python cannot read it: nested without end, a number of
            5,000 digits, bytes that are no text.
    """
    try:
        return json.loads(text, **how)
    except json.JSONDecodeError:
        raise
    except (ValueError, RecursionError) as error:
        raise json.JSONDecodeError(str(error), "", 0) from None


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        ValueError: the file is not whole; names it.
    """
    try:
        return parse_json(again(path.read_bytes, path).decode("utf-8"))
    except ValueError as error:  # no JSON, or no text
        raise ValueError(f"{path} is not valid JSON ({error})") from None


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Read JSON Lines, gzipped if the name ends so; a last line cut off by a crash is dropped.

    Raises:
        ValueError: the file is not whole otherwise; names it.
    """
    try:
        content = again(path.read_bytes, path)
        content = gzip.decompress(content) if path.suffix == ".gz" else content
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is not a whole gzip file ({error})") from None
    # not splitlines: it would also cut at U+2028, which JSON allows inside a string
    lines = content.decode("utf-8").rstrip("\n").split("\n")
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            rows.append(parse_json(line))
        except json.JSONDecodeError as error:
            if number == len(lines):
                break
            raise ValueError(f"{path} line {number} is not valid JSON ({error})") from None
    return rows


def write_jsonl(path: Path, rows: Iterable[Any]) -> None:
    """Write JSON Lines atomically, gzipped if the name ends so; equal rows give equal bytes.

    Raises:
        ValueError: a NaN or infinite number, which JSON has not.
    """
    how = {"ensure_ascii": False, "allow_nan": False, "separators": (",", ":")}
    content = "".join(json.dumps(row, **how) + "\n" for row in rows).encode("utf-8")
    _write(path, gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)


def sha256(value: Any) -> str:
    """The first 16 hex digits of the SHA-256 of a JSON value; 3 and 3.0 are one number."""
    plain = json.loads(json.dumps(value), parse_float=_number)
    text = json.dumps(plain, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _number(text: str) -> int | float:
    return int(float(text)) if float(text).is_integer() else float(text)


def documents_hash(ids: Iterable[int | str], hashes: Iterable[str | None]) -> str | None:
    """One hash over a task's documents in order; None where one's own is unknown.

    Equal hashes mean that scores pair by position.
    """
    pairs = [list(pair) for pair in zip(ids, hashes, strict=True)]
    return None if any(pair[1] is None for pair in pairs) else sha256(pairs)


def short_hash(text: str) -> str:
    """Sixteen digits that tell texts apart, half characters (a lone surrogate) too."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def file_sha256(*paths: str | Path) -> str:
    """The first 16 hex digits of the SHA-256 of files, in the order given."""
    digest = hashlib.sha256()
    for path in map(Path, paths):
        digest = again(partial(_added, digest, path), path)
    return digest.hexdigest()[:16]


def _added(digest: Any, path: Path) -> Any:
    """A digest that has read a file, too."""
    digest = digest.copy()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest

"""What files are, whatever they are called: hashes of their content, remembered by their looks.

Hashing 2.5 GB takes seconds, so a hash is kept beside what is seen of its file without reading all
of it: size, times, inode, and a hash of the header and of samples. A swap of weights can keep size
and modification time; when anything differs, the file is hashed again.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from slimlib.common.files import file_sha256, read_json, sha256, write_json
from slimlib.common.flaky import again

SMALL = 2**20  # bytes: read whole each time
SAMPLES, SAMPLE = 16, 2**16  # places in a file, and bytes at each
LISTED = 3  # things that are wrong, in one line
HEADER = 2**25  # bytes of a safetensors header that are read at most


class Hashes:
    """Hashes of files, remembered in a file of JSON.

    Args:
        memory: that file, which need not exist; None remembers nothing.
    """

    def __init__(self, memory: Path | None = None) -> None:
        self.memory = memory
        self._known: dict[str, Any] | None = None

    def file(self, path: Path) -> str:
        """The first 16 hex digits of a file's SHA-256."""
        if self.memory is None or path.stat().st_size <= SMALL:
            return file_sha256(path)
        name, looks, known = str(path.resolve()), look_at(path), self._read()
        if known.get(name, {}).get("looks") != looks:
            known[name] = {"sha256": file_sha256(path), "looks": looks}
            with contextlib.suppress(OSError):  # a folder that is only read: hashed each time
                write_json(self.memory, known)
        return known[name]["sha256"]

    def files(self, folder: Path, paths: Iterable[Path]) -> dict[str, str]:
        """Name within a folder -> hash, for some of its files, in order of their names."""
        found = {}
        for path in sorted({*paths}):
            with contextlib.suppress(FileNotFoundError):  # another process replaces the folder
                found[path.relative_to(folder).as_posix()] = self.file(path)
        return found

    def _read(self) -> dict[str, Any]:
        if self._known is None:
            try:
                found = read_json(self.memory)
            except (FileNotFoundError, ValueError):  # not there, or not whole: hashed anew
                found = {}
            rows = found.items() if isinstance(found, dict) else ()
            self._known = {name: row for name, row in rows if _is_row(row)}
        return self._known


def _is_row(row: Any) -> bool:
    return isinstance(row, dict) and {"sha256", "looks"} <= row.keys()


def look_at(path: Path) -> list[int | str]:
    """What tells a file from another without reading all of it."""
    about = path.stat()
    times = [about.st_mtime_ns, about.st_ctime_ns]
    samples = again(lambda: _samples(path, about.st_size), path)
    return [about.st_size, *times, about.st_ino, samples]


def _samples(path: Path, size: int) -> str:
    """A hash of a file's header and of samples at even distances, the last bytes among them."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        if path.suffix == ".safetensors":  # it begins with the length of its header
            length = int.from_bytes(stream.read(8), "little")
            digest.update(stream.read(min(length, HEADER)))
        for place in range(SAMPLES):
            stream.seek(max(size - SAMPLE, 0) * place // (SAMPLES - 1))
            digest.update(stream.read(SAMPLE))
    return digest.hexdigest()[:16]


def differing(found: Mapping[str, str], wanted: Mapping[str, str], more: bool = False) -> str:
    """What is wrong with files, by their hashes, in words; "" for nothing.

    Args:
        found, wanted: name -> hash.
        more: whether a file more than wanted is wrong, too.
    """
    wrong = [f"{name} is missing" for name in wanted if name not in found]
    wrong += [
        f"{name} is damaged" for name in wanted if found.get(name, "") not in ("", wanted[name])
    ]
    wrong += [f"{name} was put in" for name in found if name not in wanted and more]
    return in_short(wrong)


def in_short(wrong: Sequence[str]) -> str:
    """Some of what is wrong, and how much there is more."""
    left = [f"and {len(wrong) - LISTED} more"] if len(wrong) > LISTED else []
    return ", ".join([*wrong[:LISTED], *left])


def identity_of(files: Mapping[str, str]) -> str:
    """One hash for several files, by their names and hashes."""
    return sha256(dict(files))

"""One writer at a time: a file lock, and beside it a file that names who holds it.

The system frees the lock of a dead process. On a mounted Drive a lock does not reach the other
machines, so there the holder's file has a heartbeat, and one without it is taken over.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock, Timeout

from slimlib.common import progress
from slimlib.common.files import on_drive, read_json, write_json

POLL = 0.2  # seconds between two tries
BEAT = 15.0  # seconds between two heartbeats
DEAD = 90.0  # seconds without one: the holder's machine is gone

_held: set[Path] = set()  # by this process


@contextlib.contextmanager
def writing(path: Path, what: str) -> Iterator[None]:
    """Hold a lock for as long as the block runs; wait while another process holds it.

    Args:
        path: of the lock; the holder is named in the same path with .json.
        what: it is held for, in words.
    """
    path = path.absolute()
    if path in _held:  # one stage in another
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    holder = path.with_suffix(".json")
    with contextlib.ExitStack() as stack:
        _acquire(FileLock(path), holder, what, stack)
        _held.add(path)
        stack.callback(_held.discard, path)
        me = {"process": os.getpid(), "machine": socket.gethostname(), "works at": what}
        if on_drive(path):
            _await_others(holder, me, what)
        else:
            write_json(holder, me)
        stack.callback(holder.unlink, missing_ok=True)
        if on_drive(path):
            stack.enter_context(_heartbeat(holder, me))
        yield


def _acquire(lock: Any, holder: Path, what: str, stack: contextlib.ExitStack) -> None:
    """Take the file lock, where the file system has any."""
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            progress.say(f"{what}: waits for {_named(_read(holder))}")
            lock.acquire(poll_interval=POLL)
    except NotImplementedError:  # the heartbeat alone
        return
    stack.callback(lock.release)


def _named(holder: dict[str, Any]) -> str:
    if not holder:
        return "another process"
    return f"process {holder['process']} on {holder['machine']} ({holder['works at']})"


def _read(holder: Path) -> dict[str, Any]:
    """Who holds a lock; empty where nobody knows."""
    try:
        found = read_json(holder)
    except (OSError, ValueError):
        return {}
    known = isinstance(found, dict) and {"process", "machine", "works at"} <= found.keys()
    numbers = known and all(isinstance(found.get(k, 0), int | float) for k in ("process", "beat"))
    return found if numbers else {}


def _await_others(holder: Path, me: dict[str, Any], what: str) -> None:
    """Wait until no other machine's heart beats here, and ours is the one that is written."""
    said = False
    while True:
        other = _read(holder)
        if not other or other["machine"] == me["machine"] or _is_dead(other):
            write_json(holder, {**me, "beat": time.time()})
            time.sleep(POLL)  # two may write at once: the later one stays
            if _read(holder).get("machine") == me["machine"]:
                return
        if not said:
            said = True
            progress.say(f"{what}: waits for {_named(other)}")
        time.sleep(POLL)


def holder_of(path: Path) -> str:
    """Who holds a lock, in words; "" where nobody does."""
    holder = _read(path.with_suffix(".json"))
    if not holder or _is_dead(holder):
        return ""
    return _named(holder)


def _is_dead(holder: dict[str, Any]) -> bool:
    """Whether a holder is known to be gone: its process here, or elsewhere its heart."""
    if holder["machine"] == socket.gethostname():
        return not psutil.pid_exists(holder["process"])
    return time.time() - holder.get("beat", 0.0) > DEAD


def clear_holders(folder: Path) -> None:
    """Remove the names of dead holders from a folder of locks."""
    for path in folder.glob("*.json"):
        holder = _read(path)
        if holder and holder["machine"] == socket.gethostname() and _is_dead(holder):
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def _heartbeat(holder: Path, me: dict[str, Any]) -> Iterator[None]:
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(BEAT):
            with contextlib.suppress(OSError):  # Drive drops now and then
                write_json(holder, {**me, "beat": time.time()})

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()

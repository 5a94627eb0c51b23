"""Ctrl-C and SIGTERM as an exception that closes what is open on its way out."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(BaseException):
    """The user, or the machine, asked this process to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = 128 + number  # 130 for Ctrl-C, 143 for SIGTERM, as shells have it


def stop(number: int, frame: Any = None) -> None:
    """A signal handler that raises `Stopped`."""
    raise Stopped(number)


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Raise `Stopped` on Ctrl-C and SIGTERM; only a process's main thread may use it."""
    before = {number: signal.signal(number, stop) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

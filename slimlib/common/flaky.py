"""File systems that fail now and then, as a mounted Drive does: tried again, then said."""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from slimlib.common import progress

# What may pass: a block that is not read, a handle that is stale, a mount that is away (Drive's).
PASSING = (errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN)
WAITS = (0.5, 2.0, 8.0)  # seconds before a step is tried again
Done = TypeVar("Done")


class StaysAway(OSError):
    """A file system failed every time."""


def again(step: Callable[[], Done], path: Path) -> Done:
    """What a step on files gives; where the file system fails, it is done again after a wait.

    Args:
        step: done from its beginning each time.
        path: of what is read or written, for the message.

    Raises:
        StaysAway: it failed every time.
        OSError: another error than those that may pass, at once.
    """
    for wait in (*WAITS, None):
        try:
            return step()
        except Exception as error:  # safetensors' is no OSError
            number = _number(error)
            if number not in PASSING or isinstance(error, StaysAway):  # of a step inside
                if number is None or getattr(error, "filename", None):
                    raise
                # a full disk: neither writing to an open file nor safetensors' error names it
                raise OSError(number, os.strerror(number), str(path)) from None
        problem = os.strerror(number)
        if wait is None:
            way_out = "is the disk or the mounted Drive still there? Run it again, to go on"
            raise StaysAway(number, f"{problem}, {len(WAITS) + 1} times: {way_out}", str(path))
        progress.say(f"{path.name}: {problem}; tried again in {wait:g} s")
        time.sleep(wait)
    raise AssertionError("the last turn returns or raises")


def _number(error: Exception) -> int | None:
    """The system's number of an error; None where it has none."""
    if isinstance(error, OSError):
        return error.errno
    found = re.search(r"\(os error (\d+)\)", str(error))  # as libraries in Rust have it
    return int(found[1]) if found else None

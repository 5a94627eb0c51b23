"""Environments that tests make once, in the user's cache folder, of packages from the registry."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

UNREACHABLE = ("from versions: none", "Max retries exceeded", "Read timed out")


def pip(python: Path, *arguments: str | Path) -> None:
    """`pip install`; the test is skipped where the registry cannot be reached."""
    how = ("--quiet", "--retries", "2", "--no-compile")
    command = [python, "-m", "pip", "install", *how, *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode and any(sign in done.stdout + done.stderr for sign in UNREACHABLE):
        pytest.skip("the package registry cannot be reached to fetch what the test needs")
    assert done.returncode == 0, done.stderr[-3000:]


def environment(name: str, wanted: str, install: Callable[[Path], None]) -> Path:
    """The Python of an environment, made where it is not there yet.

    Args:
        name: of its folder.
        wanted: what it holds, in words; other words make another one.
        install: fills the environment of a Python.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "slimlib-tests"
    cache.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256((wanted + sys.version).encode()).hexdigest()[:12]
    folder = cache / f"{name}-{digest}"
    python = folder / "bin" / "python"
    with FileLock(f"{folder}.lock"):
        if not (folder / "whole").exists():  # a virtual environment cannot be moved into place
            subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
            install(python)
            (folder / "whole").touch()
    return python

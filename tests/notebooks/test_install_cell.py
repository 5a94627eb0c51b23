"""The notebooks' install cell, run as Colab would: what SOURCE may be, and that a failure stops."""

import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from places import CHECKOUT

pytestmark = pytest.mark.slow

COLAB = "import sys, types; sys.modules['google.colab'] = types.ModuleType('google.colab')\n"
INSTALLED = "import importlib.metadata as m; print(m.version('slimlib'))"


def install_cell() -> str:
    cells = json.loads((CHECKOUT / "notebooks" / "01_setup.ipynb").read_text("utf-8"))["cells"]
    (source,) = [t for t in ("".join(c["source"]) for c in cells) if t.startswith("# @title Inst")]
    return source


@pytest.fixture(scope="module")
def python(tmp_path_factory) -> Path:
    """A bare environment's Python."""
    folder = tmp_path_factory.mktemp("colab")
    venv.create(folder, with_pip=True)
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """A folder that holds the package as a folder, as a zip and as a wheel."""
    folder = tmp_path_factory.mktemp("uploaded files")
    leave = shutil.ignore_patterns(".git", "runs", "*.egg-info", "build", "__pycache__")
    shutil.copytree(CHECKOUT, folder / "slimlib", ignore=leave)
    shutil.make_archive(str(folder / "slimlib"), "zip", folder, "slimlib")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder]
    subprocess.run([*command, folder / "slimlib"], check=True, capture_output=True)
    return folder


def run_cell(python: Path, source: str, cwd: Path) -> subprocess.CompletedProcess:
    """Run the cell with another SOURCE, on a machine that says that it is Colab's."""
    cell = install_cell()
    given = next(line for line in cell.splitlines() if line.startswith("SOURCE = "))
    code = COLAB + cell.replace(given, f"SOURCE = {source!r}")
    # without dependencies: they are gigabytes, and pip finds them the same for every source
    environment = {**os.environ, "PIP_NO_DEPS": "1", "PYTHONPATH": ""}
    command = [python, "-c", code]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("source", ["slimlib", "slimlib.zip", "*.whl"])
def test_the_package_is_installed_from_what_was_uploaded(python, files, source):
    name = next(path.name for path in files.glob(source))
    done = run_cell(python, name, files)  # a relative path, in a folder with a space
    assert done.returncode == 0, done.stderr
    environment = {**os.environ, "PYTHONPATH": ""}
    shown = subprocess.run([python, "-c", INSTALLED], cwd=files, env=environment, text=True,
                           capture_output=True, check=True)  # fmt: skip
    assert shown.stdout.startswith("0.2")
    remove = [python, "-m", "pip", "uninstall", "-q", "-y", "slimlib"]
    subprocess.run(remove, check=True, capture_output=True)


def test_an_install_that_fails_stops_the_notebook(python, files):
    done = run_cell(python, "https://no.such.host/slimlib", files)
    assert done.returncode == 1
    assert "RuntimeError: slimlib was not installed from https://no.such.host" in done.stderr

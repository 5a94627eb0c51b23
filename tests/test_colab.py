"""Colab's own versions: the smoke study and the notebooks run with what its runtime has installed.

An environment is made once and kept in the user's cache folder: this Python, README's torch, and
the versions of tests/data/colab.txt. Skipped where the registry cannot be reached.
"""

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from environments import environment, pip
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from places import CHECKOUT, TESTS

import slimlib
from slimlib.common.files import read_json

PINS = TESTS / "data" / "colab.txt"
FREEZE = "pip-freeze.gpu.latest.py3.13.txt"
TORCH = "torch==2.13.0"  # as in the README; Colab's is built for CUDA
# What installing slimlib replaces there: datasets is too old for TRL, and asks for the rest.
REPLACED = {"datasets", "pyarrow", "dill", "multiprocess", "fsspec", "gcsfs"}
OURS = {"torch", "torchvision", "torchaudio", "triton", "pip", "setuptools"}


def versions_in(path: Path) -> dict[str, str]:
    lines = re.findall(r"^([\w.-]+)==([\w.]+)$", path.read_text("utf-8"), re.M)
    return {canonicalize_name(name): version for name, version in lines}


def test_the_pins_are_what_colab_has_and_slimlib_needs(data_folder):
    freeze = data_folder / "colab" / FREEZE
    if not freeze.is_file():
        pytest.skip(f"no {FREEZE} beside the real data")
    runtime, pinned = versions_in(freeze), versions_in(PINS)
    for name in ("ipython", "ipykernel", "ipywidgets", "pandas", "transformers", "peft"):
        assert name in pinned
    shared = {*runtime} & {*pinned} - {*REPLACED, *OURS}
    assert len(shared) > 100
    assert {name: pinned[name] for name in shared} == {name: runtime[name] for name in shared}


def test_the_pins_are_within_the_project_s_bounds():
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text("utf-8"))["project"]
    pinned = versions_in(PINS)
    for requirement in map(Requirement, project["dependencies"]):
        if requirement.name != "torch":
            assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)])


# ---------------------------------------------------------------------------------- the environment


@pytest.fixture(scope="module")
def colab() -> Path:
    """The Python of an environment with Colab's versions, made where it is not there yet."""

    def install(python: Path) -> None:
        pip(python, "--no-deps", "--requirement", PINS)
        pip(python, TORCH)

    return environment("colab", PINS.read_text("utf-8") + TORCH, install)


def run(python: Path, *arguments: str, cwd: Path) -> str:
    """`python -m slimlib ...` in the environment, over this checkout's sources."""
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "CUDA_VISIBLE_DEVICES": ""}
    environment.pop("MPLBACKEND", None)  # a notebook's kernel has one of its own
    command = [python, "-m", "slimlib", *arguments]
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=1500
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_the_smoke_study_runs_with_colab_s_versions(colab, tmp_path):
    run(colab, "run", "--study", "smoke", "--runs", str(tmp_path), cwd=tmp_path)
    records = [read_json(path) for path in sorted((tmp_path / "smoke").glob("*/record.json"))]
    assert len(records) == 8
    assert {stage["status"] for record in records for stage in record["stages"].values()} == {
        "done"
    }
    assert (tmp_path / "smoke" / "table2.csv").is_file()


@pytest.mark.slow
def test_the_notebooks_run_with_colab_s_versions(colab, tmp_path):
    arguments = ("--study", "smoke", "--runs", str(tmp_path))
    run(colab, "notebooks", "01-05", *arguments, cwd=tmp_path)
    done = {path.name[:2] for path in (tmp_path / "smoke").rglob("0*.ipynb")}
    assert done == {"01", "02", "03", "04", "05"}


@pytest.mark.slow
def test_completion_in_colab_s_ipython_lists_the_names(colab, tmp_path):
    """IPython 7.34, and no jedi beside it: Colab's runtime has none."""
    code = (
        "import sys; from IPython.core.interactiveshell import InteractiveShell as Shell; "
        "shell = Shell.instance(); shell.Completer.use_jedi = False; "
        "shell.run_cell('import slimlib'); print(*shell.complete('slimlib.')[1]); "
        "print('torch' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    done = subprocess.run(
        [colab, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    *_, names, torch = done.stdout.splitlines()
    assert {*names.split()} == {f"slimlib.{name}" for name in dir(slimlib)}
    assert torch == "False"

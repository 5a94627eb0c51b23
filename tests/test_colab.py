"""Colab's own versions: the smoke study and the notebooks run with what its runtime has installed.

An environment is made once and kept in the user's cache folder: this Python, README's torch, and
the versions of ../shared/data/colab for everything else. Skipped where they are not at hand, or
where the registry cannot be reached.
"""

import hashlib
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from places import CHECKOUT

import slimlib
from slimlib.common.files import read_json

pytestmark = pytest.mark.slow

FREEZE = "pip-freeze.gpu.latest.py3.13.txt"
TORCH = "torch==2.13.0"  # Colab's is built for CUDA
# What installing slimlib replaces there: datasets is too old for TRL, and pins the rest.
REPLACED = {"datasets", "pyarrow", "dill", "multiprocess", "fsspec", "gcsfs"}
OURS = {"torch", "torchvision", "torchaudio", "triton", "pip", "setuptools"}
UNREACHABLE = ("from versions: none", "Max retries exceeded", "Read timed out")


def colab_versions(data_folder: Path) -> dict[str, str]:
    """package -> version of the newest runtime, less what is not taken from it."""
    freeze = data_folder / "colab" / FREEZE
    if not freeze.is_file():
        pytest.skip(f"no {FREEZE}: set SLIMLIB_DATA")
    lines = re.findall(r"^([\w.-]+)==([\w.]+)$", freeze.read_text("utf-8"), re.M)
    return {name: version for name, version in lines if name not in {*REPLACED, *OURS}}


def dependencies() -> list[str]:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text("utf-8"))["project"]
    return [line for line in project["dependencies"] if not line.startswith("torch")]


def make_environment(folder: Path, versions: dict[str, str]) -> None:
    """A virtual environment of slimlib's dependencies in Colab's versions, without slimlib."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    (folder / "constraints.txt").write_text("".join(f"{n}=={v}\n" for n, v in versions.items()))
    pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--retries", "2"]
    wanted = [*pip, "--constraint", folder / "constraints.txt", TORCH, *dependencies()]
    done = subprocess.run(wanted, capture_output=True, text=True)
    if done.returncode and any(sign in done.stdout + done.stderr for sign in UNREACHABLE):
        pytest.skip("the package registry cannot be reached to fetch Colab's versions")
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def colab(data_folder: Path) -> Path:
    """The Python of an environment with Colab's versions, made where it is not there yet."""
    versions = colab_versions(data_folder)
    wanted = repr((sorted(versions.items()), dependencies(), TORCH, sys.version_info[:2]))
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "slimlib-tests"
    folder = cache / f"colab-{hashlib.sha256(wanted.encode()).hexdigest()[:12]}"
    if not (folder / "whole").exists():  # a virtual environment cannot be moved into place
        make_environment(folder, versions)
        (folder / "whole").touch()
    return folder / "bin" / "python"


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


def test_the_environment_has_colab_s_versions(colab, data_folder):
    listed = subprocess.run([colab, "-m", "pip", "freeze"], capture_output=True, text=True)
    installed = dict(re.findall(r"^([\w.-]+)==([\w.]+)", listed.stdout, re.M))
    versions = colab_versions(data_folder)
    shared = ("ipython", "ipykernel", "ipywidgets", "pandas", "numpy", "transformers", "peft")
    assert {name: installed[name] for name in shared} == {name: versions[name] for name in shared}


def test_the_smoke_study_runs_with_colab_s_versions(colab, tmp_path):
    run(colab, "run", "--study", "smoke", "--runs", str(tmp_path), cwd=tmp_path)
    records = [read_json(path) for path in sorted((tmp_path / "smoke").glob("*/record.json"))]
    assert len(records) == 8
    assert {stage["status"] for record in records for stage in record["stages"].values()} == {
        "done"
    }
    assert (tmp_path / "smoke" / "table2.csv").is_file()


def test_the_notebooks_run_with_colab_s_versions(colab, tmp_path):
    arguments = ("--study", "smoke", "--runs", str(tmp_path))
    run(colab, "notebooks", "01-05", *arguments, cwd=tmp_path)
    done = {path.name[:2] for path in (tmp_path / "smoke").rglob("0*.ipynb")}
    assert done == {"01", "02", "03", "04", "05"}


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

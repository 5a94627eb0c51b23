"""The package as a whole: light imports, one version of the dependencies, one public address."""

import ast
import json
import pkgutil
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from places import CHECKOUT

import slimlib

PACKAGE = Path(slimlib.__file__).parent
HEAVY = ("torch", "transformers", "datasets", "matplotlib", "pandas", "unsloth", "statsmodels")
MODULES = sorted(m.name for m in pkgutil.walk_packages(slimlib.__path__, "slimlib."))
SOURCES = sorted(PACKAGE.rglob("*.py"))
PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text("utf-8"))
ADDRESS = PROJECT["project"]["urls"]["Repository"]
NOTEBOOKS = sorted((CHECKOUT / "notebooks").glob("*.ipynb"))


def imported(statement: str) -> set[str]:
    """Top-level packages that a new Python has loaded after a statement."""
    command = [sys.executable, "-X", "importtime", "-c", statement]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    names = (line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines() if "|" in line)
    return {name.partition(".")[0] for name in names}


def test_importing_slimlib_loads_nothing_heavy():
    assert not imported("import slimlib") & {*HEAVY, "numpy", "scipy"}


def test_configs_runs_and_results_load_nothing_heavy():
    names = (
        "config",
        "presets",
        "overrides",
        "runs",
        "paper",
        "metrics",
        "results",
        "tasks",
        "data",
    )
    statement = "; ".join(f"import slimlib.{name}" for name in names)
    assert not imported(statement) & set(HEAVY)


def test_studies_are_built_without_torch():
    assert not imported("import slimlib; slimlib.get_study('paper')") & set(HEAVY)


@pytest.mark.parametrize("name", [m for m in MODULES if not m.endswith(("__main__", "notebooks"))])
def test_every_module_imports(name):
    __import__(name)


def test_the_public_names_exist():
    for name in slimlib.__all__:
        assert callable(getattr(slimlib, name))
    with pytest.raises(AttributeError, match="no attribute 'fintune'"):
        slimlib.fintune  # noqa: B018


# ------------------------------------------------------------------------------------ dependencies


def requirements(lines) -> set[str]:
    plain = (line.partition("#")[0].strip() for line in lines)
    return {re.sub(r"\s", "", line) for line in plain if line}


def test_requirements_are_the_project_s_and_unsloth():
    project = PROJECT["project"]
    wanted = requirements(project["dependencies"])
    wanted |= requirements(project["optional-dependencies"]["unsloth"])
    text = (CHECKOUT / "requirements.txt").read_text("utf-8")
    assert requirements(text.splitlines()) == wanted


def test_the_installed_versions_are_within_the_bounds():
    from importlib.metadata import version

    from packaging.requirements import Requirement

    for line in PROJECT["project"]["dependencies"]:
        requirement = Requirement(line)
        installed = version(requirement.name)
        assert requirement.specifier.contains(installed, prereleases=True), f"{line}: {installed}"


# ----------------------------------------------------------------------------------------- address


def test_the_notebooks_take_the_package_from_the_project_s_address():
    for path in NOTEBOOKS:
        cells = json.loads(path.read_text("utf-8"))["cells"]
        text = "\n".join("".join(cell["source"]) for cell in cells)
        assert re.findall(r'^SOURCE = "(.*?)"', text, re.M) == [ADDRESS], path.name


def test_the_readme_s_badges_open_the_notebooks_at_the_project_s_address():
    owner = ADDRESS.removeprefix("https://github.com/")
    readme = (CHECKOUT / "README.md").read_text("utf-8")
    links = re.findall(r"colab\.research\.google\.com/github/(\S+?)/blob/main/(\S+?)\)", readme)
    assert {path for _, path in links} == {f"notebooks/{path.name}" for path in NOTEBOOKS}
    assert {repository for repository, _ in links} == {owner}


def test_the_readme_s_local_links_lead_somewhere():
    readme = (CHECKOUT / "README.md").read_text("utf-8")
    links = re.findall(r"\]\((?!http)([^)#]+)\)", readme)
    assert links
    assert [link for link in links if not (CHECKOUT / link).exists()] == []


# ------------------------------------------------------------------------------------ source laws


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_function_is_longer_than_a_screen_and_each_module_says_what_it_is(path):
    tree = ast.parse(path.read_text("utf-8"))
    assert ast.get_docstring(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < 60, node.name


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_nothing_unsafe_is_called(path):
    """No code from a model's repository, no pickled weights, no swallowed errors."""
    tree = ast.parse(path.read_text("utf-8"))
    keywords = {
        k.arg for node in ast.walk(tree) if isinstance(node, ast.Call) for k in node.keywords
    }
    assert "trust_remote_code" not in keywords
    handlers = [node for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler)]
    for node in handlers:
        caught = ast.unparse(node.type) if node.type else ""
        assert caught not in ("", "Exception", "BaseException")
    assert not re.search(
        r"torch\.load\(|\beval\(|\bexec\(", path.read_text("utf-8").replace(".eval(", "")
    )


def test_only_hardware_asks_torch_for_a_gpu():
    asking = {p.name for p in SOURCES if "cuda.is_available" in p.read_text("utf-8")}
    assert asking == {"hardware.py"}

"""The package as a whole: its dependencies, its Pythons, its public address, laws of the source."""

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
MODULES = sorted(m.name for m in pkgutil.walk_packages(slimlib.__path__, "slimlib."))
SOURCES = sorted(PACKAGE.rglob("*.py"))
PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text("utf-8"))
ADDRESS = PROJECT["project"]["urls"]["Repository"]
NOTEBOOKS = sorted((CHECKOUT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("name", [m for m in MODULES if not m.endswith(("__main__", "notebooks"))])
def test_every_module_imports(name):
    __import__(name)


def test_nothing_lies_about_at_the_top():
    """A run that is told no folder writes where it stands: what it leaves is no part of this."""
    if not (CHECKOUT / ".git").exists():
        pytest.skip("no checkout")
    listed = subprocess.run(
        ["git", "ls-files"], cwd=CHECKOUT, capture_output=True, text=True, check=True
    )
    tops = {path.partition("/")[0] for path in listed.stdout.splitlines()}
    assert {top for top in tops if not top.startswith(".")} == {
        *("LICENSE", "README.md", "pyproject.toml", "requirements.txt"),
        *("figures", "notebooks", "slimlib", "tests"),
    }


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


def test_what_is_imported_is_declared():
    """Nothing is taken for granted because another package happens to bring it."""
    names = {
        "PIL": "pillow",
        "yaml": "pyyaml",
        "zmq": "pyzmq",
        "IPython": "ipython",
        "pydantic_core": "pydantic",
    }
    # a GPU's and Colab's own, a quantiser's, and the extras that read GGUF files and sweep on Ray
    elsewhere = {"unsloth", "google", "gptqmodel", "gguf", "ray"}
    declared = {re.match(r"[\w-]+", line)[0] for line in PROJECT["project"]["dependencies"]}
    declared = {name.replace("-", "_") for name in declared}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            modules = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module] if isinstance(node, ast.ImportFrom) else []
            packages = {name.partition(".")[0] for name in modules}
            for package in packages - {*sys.stdlib_module_names, "slimlib", *elsewhere}:
                assert names.get(package, package) in declared, f"{path.name} imports {package}"


# ----------------------------------------------------------------------------------------- Pythons

# What 3.12 and 3.13 took out of the standard library.
GONE = {
    *("aifc", "asynchat", "asyncore", "audioop", "cgi", "cgitb", "chunk", "crypt", "distutils"),
    *("imghdr", "imp", "lib2to3", "mailcap", "msilib", "nis", "nntplib", "ossaudiodev", "pipes"),
    *("smtpd", "sndhdr", "spwd", "sunau", "telnetlib", "uu", "xdrlib"),
}
DEPRECATED = r"\.utcnow\(|utcfromtimestamp|getdefaultlocale|pkgutil\.(find|get)_loader|onerror="


def test_the_project_names_the_pythons_it_allows():
    from packaging.specifiers import SpecifierSet

    project = PROJECT["project"]
    prefix = "Programming Language :: Python :: "
    named = [line.removeprefix(prefix) for line in project["classifiers"] if prefix in line]
    allowed = SpecifierSet(project["requires-python"])
    assert named == [f"3.{minor}" for minor in range(8, 20) if f"3.{minor}.0" in allowed]


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
@pytest.mark.filterwarnings("error")  # an invalid escape is a SyntaxWarning from 3.12 on
def test_no_source_needs_what_a_newer_python_lacks(path):
    text = path.read_text("utf-8")
    compile(text, path.name, "exec", dont_inherit=True)
    for node in ast.walk(ast.parse(text)):
        modules = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        modules += [node.module] if isinstance(node, ast.ImportFrom) else []
        assert not {name.partition(".")[0] for name in modules} & GONE
    assert not re.search(DEPRECATED, text)


# ----------------------------------------------------------------------------------------- address


def test_the_notebooks_take_the_package_from_the_project_s_address():
    for path in NOTEBOOKS:
        cells = json.loads(path.read_text("utf-8"))["cells"]
        text = "\n".join("".join(cell["source"]) for cell in cells)
        assert re.findall(r'^SOURCE = "(.*?)"', text, re.M) == [ADDRESS], path.name


def test_the_badges_open_the_notebooks_at_the_project_s_address():
    owner = ADDRESS.removeprefix("https://github.com/")
    page = (CHECKOUT / "notebooks" / "README.md").read_text("utf-8")
    links = re.findall(r"colab\.research\.google\.com/github/(\S+?)/blob/main/(\S+?)\)", page)
    assert {path for _, path in links} == {f"notebooks/{path.name}" for path in NOTEBOOKS}
    assert {repository for repository, _ in links} == {owner}


PAGES = [
    path
    for path in CHECKOUT.rglob("*.md")
    if not any(part.startswith(".") for part in path.relative_to(CHECKOUT).parts)
]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(CHECKOUT)))
def test_local_links_lead_somewhere(page):
    links = re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text("utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_first_page_is_short():
    assert len((CHECKOUT / "README.md").read_text("utf-8").split()) <= 1300


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
    """No code from a model's repository, no pickled weights, no swallowed errors.

    What catches everything raises again what it does not know.
    """
    tree = ast.parse(path.read_text("utf-8"))
    keywords = [k for node in ast.walk(tree) if isinstance(node, ast.Call) for k in node.keywords]
    asked = [ast.unparse(k.value) for k in keywords if k.arg == "trust_remote_code"]
    assert {*asked} <= {"False"}
    handlers = [node for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler)]
    for node in handlers:
        caught = ast.unparse(node.type) if node.type else ""
        again = any(isinstance(n, ast.Raise) and n.exc is None for n in ast.walk(node))
        assert caught not in ("", "BaseException") and (caught != "Exception" or again)
    assert not re.search(
        r"torch\.load\(|\beval\(|\bexec\(", path.read_text("utf-8").replace(".eval(", "")
    )


def test_only_hardware_asks_torch_for_a_gpu():
    asking = {p.name for p in SOURCES if "cuda.is_available" in p.read_text("utf-8")}
    assert asking == {"hardware.py"}

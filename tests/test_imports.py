"""The laws of the house: imports run downwards, no circle, torch in the making wing alone.

The order itself is written as import-linter contracts in pyproject.toml. Read from the source by
`ast`, so that imports inside functions count.
"""

import ast
import subprocess
import sys
import tomllib
from collections import Counter
from graphlib import TopologicalSorter
from pathlib import Path
from typing import NamedTuple

from places import CHECKOUT

PACKAGE = CHECKOUT / "slimlib"
CONTRACTS = tomllib.loads((CHECKOUT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]

HALL = ("common", "config", "methods", "studies")
MAKING = (
    *("data", "adapters", "model", "scoring", "folder", "standing", "run"),
    *("train", "merge", "evaluate"),
)
READING = ("explain", "metrics", "results", "comparison", "papers", "report")
OVER_BOTH = ("pipeline", "cli")

# What may be imported inside a function: seconds to load, or not there on every machine.
TORCH = {
    *("torch", "transformers", "peft", "trl", "accelerate", "bitsandbytes", "safetensors"),
    *("datasets", "lm_eval"),
}
HEAVY = {
    *TORCH,
    *("matplotlib", "pandas", "statsmodels", "scipy", "IPython", "ipywidgets", "ray", "PIL"),
    *("nbclient", "nbformat", "huggingface_hub", "httpx", "gguf", "tokenizers"),
    *("unsloth", "gptqmodel", "google", "resource"),  # a GPU's, Colab's, and Unix's alone
}


class Import(NamedTuple):
    """One imported module: where, what, and how deep it stands."""

    module: str  # that imports
    target: str
    function: str  # "" at the top of the file
    typing: bool  # under `if TYPE_CHECKING`

    def __str__(self) -> str:
        where = self.function or ("TYPE_CHECKING" if self.typing else "top")
        return f"{self.module} ({where}) imports {self.target}"

    @property
    def room(self) -> str:
        return self.module.split(".")[1] if "." in self.module else ""


FILES = {
    ".".join(path.relative_to(CHECKOUT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}


def targets(node: ast.Import | ast.ImportFrom) -> list[str]:
    """The modules an import statement names; for ours the file that a name comes from."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    assert node.level == 0, "imports are absolute"
    if not node.module.startswith("slimlib"):
        return [node.module]
    names = (f"{node.module}.{alias.name}" for alias in node.names)
    return [name if name in FILES else node.module for name in names]


def imports_of(module: str, tree: ast.AST) -> list[Import]:
    found = []

    def visit(node: ast.AST, function: str, typing: bool) -> None:
        if isinstance(node, ast.Import | ast.ImportFrom):
            found.extend(Import(module, target, function, typing) for target in targets(node))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            function = getattr(node, "name", "lambda")
        if isinstance(node, ast.If):
            typing = typing or "TYPE_CHECKING" in ast.unparse(node.test)
        for child in ast.iter_child_nodes(node):
            visit(child, function, typing)

    visit(tree, "", False)
    return found


IMPORTS = [
    found
    for module, path in FILES.items()
    for found in imports_of(module, ast.parse(path.read_text("utf-8")))
]


def ours(target: str) -> bool:
    return target.partition(".")[0] == "slimlib"


def graph(imports: list[Import]) -> dict[str, set[str]]:
    arrows = {module: set() for module in FILES}
    for found in imports:
        if ours(found.target) and found.target != found.module:
            arrows[found.module].add(found.target)
    return arrows


# ---------------------------------------------------------------------------------------- the order


def test_the_contracts_are_kept():
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as lint"]
    command[-1] += "; lint(['--no-cache', '--no-logo'])"
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_room_stands_in_the_contracts():
    rooms = {module.split(".")[1] for module in FILES if "." in module} - {"__main__"}
    layers = {c["id"]: c["layers"] for c in CONTRACTS["contracts"] if c["type"] == "layers"}
    assert layers["making"] == [*reversed((*HALL, *MAKING, *OVER_BOTH))]
    assert layers["reading"] == [*reversed((*HALL, *READING, *OVER_BOTH))]
    assert rooms == {*HALL, *MAKING, *READING, *OVER_BOTH}


def test_every_module_of_an_ordered_room_stands_in_its_contract():
    for contract in CONTRACTS["contracts"]:
        (container,) = contract.get("containers", ["slimlib"])
        if container == "slimlib":
            continue
        named = {name.strip() for layer in contract["layers"] for name in layer.split("|")}
        for module in FILES:
            inner = module.removeprefix(f"{container}.")
            if inner != module and FILES[module].name != "__init__.py":
                parts = inner.split(".")
                assert {".".join(parts[:end]) for end in (1, 2)} & named, f"{module}: {named}"


def test_no_module_imports_itself_over_others():
    TopologicalSorter(graph(IMPORTS)).prepare()  # CycleError names the circle


def test_no_file_name_is_there_twice():
    names = Counter(path.name for path in FILES.values() if path.name != "__init__.py")
    assert [name for name, count in names.items() if count > 1] == []


# ------------------------------------------------------------------------- imports inside functions


def loads_torch(module: str, arrows: dict[str, set[str]], seen: set[str]) -> bool:
    """Whether importing a module imports torch, by what stands at the top of files."""
    if module in seen:
        return False
    seen.add(module)
    parents = {module.rpartition(".")[0]} & {*FILES}  # a package's face is run before its modules
    direct = (i.target for i in IMPORTS if i.module == module and not i.function and not i.typing)
    if any(target.partition(".")[0] in TORCH for target in direct):
        return True
    return any(loads_torch(other, arrows, seen) for other in (*arrows[module], *parents))


TOP = graph([found for found in IMPORTS if not found.function and not found.typing])


def allowed_inside(found: Import) -> bool:
    if not ours(found.target):
        return found.target.partition(".")[0] in HEAVY
    if found.room == "cli":  # a command imports what it needs: `slimlib --help` answers at once
        return True
    of_making = found.target.split(".")[1] in MAKING
    return found.room in OVER_BOTH and of_making and loads_torch(found.target, TOP, set())


def test_functions_import_only_what_is_heavy():
    inside = [found for found in IMPORTS if found.function and not found.typing]
    assert [str(found) for found in inside if not allowed_inside(found)] == []


def test_imports_for_types_alone_name_only_what_is_heavy():
    typing = [found for found in IMPORTS if found.typing]
    assert [str(i) for i in typing if i.target.partition(".")[0] not in HEAVY] == []


def test_a_heavy_import_inside_a_function_is_told_from_one_of_ours():
    source = "import os\ndef f():\n    import torch\n    from slimlib.run import Run\n"
    found = imports_of("slimlib.report.tables", ast.parse(source))
    assert [(i.target, i.function) for i in found] == [
        ("os", ""),
        ("torch", "f"),
        ("slimlib.run", "f"),
    ]
    assert [allowed_inside(i) for i in found[1:]] == [True, False]
    assert loads_torch("slimlib.adapters.layers", TOP, set())
    assert not loads_torch("slimlib.config", TOP, set())


# ------------------------------------------------------------------------------- what a wing loads


def loaded_by(rooms: tuple[str, ...]) -> set[str]:
    """Top-level packages in sys.modules of a new Python that imported every module of rooms."""
    modules = [module for module in FILES if module.split(".")[1:2] in [[room] for room in rooms]]
    assert len(modules) > len(rooms) / 2
    code = "; ".join(f"import {module}" for module in modules)
    code += "; import sys; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {*done.stdout.split()}


def test_hall_and_reading_wing_load_no_torch_and_draw_nothing():
    assert (
        loaded_by((*HALL, *READING)) & {*TORCH, "unsloth", "matplotlib", "IPython", "PIL"} == set()
    )


def test_a_run_and_its_rows_are_read_without_torch():
    assert loaded_by((*HALL, "data", "model", "run")) & {*TORCH, "matplotlib", "pandas"} == set()


def test_the_lowest_rooms_load_no_tables_either():
    lowest = ("common", "config", "methods", "metrics", "results")
    assert loaded_by(lowest) & {*TORCH, "matplotlib", "pandas", "statsmodels"} == set()


def test_the_command_line_s_help_loads_no_torch():
    assert loaded_by(OVER_BOTH) & TORCH == set()


def test_sources_are_where_the_installed_package_is():
    import slimlib

    assert Path(slimlib.__file__).parent == PACKAGE

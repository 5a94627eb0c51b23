"""Each part of both papers has one place: the cell that notebooks/README.md names is there."""

import ast
import json
import re

import pytest
from places import CHECKOUT

from slimlib.papers.key_variables.article_tables import PLACES
from slimlib.studies.get import get_design

FOLDER = CHECKOUT / "notebooks"
HEADING = "## Where each part of the papers is made"
ASIDE = "00_qlora_explained"  # where it lies beside the others


def rows() -> list[tuple[str, ...]]:
    """(paper, part, notebook, cell, call) of each row of the table."""
    text = (FOLDER / "README.md").read_text("utf-8").split(HEADING)[1]
    lines = [line for line in text.splitlines() if line.startswith("|")][2:]
    return [tuple(part.strip(" `") for part in line.strip("|").split("|")) for line in lines]


def sections(notebook: str) -> dict[str, str]:
    """Heading -> the code below it."""
    found, heading = {}, ""
    for cell in json.loads((FOLDER / f"{notebook}.ipynb").read_text("utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown" and source.startswith("## "):
            heading = source.splitlines()[0].removeprefix("## ").casefold()
        elif cell["cell_type"] == "code":
            found[heading] = found.get(heading, "") + source + "\n"
    return found


@pytest.mark.parametrize("row", rows(), ids=lambda row: f"{row[0]}: {row[1]}")
def test_the_cell_is_there_and_calls_what_it_says(row):
    _, _, notebook, cell, call = row
    if notebook == ASIDE and not (FOLDER / f"{ASIDE}.ipynb").exists():
        pytest.skip(f"{ASIDE} is not there")
    code = sections(notebook)
    assert cell.casefold() in code
    if call:
        assert f"{call}(" in code[cell.casefold()]


def test_what_the_cells_call_exists():
    """Each call's name, imported as its notebook imports it."""
    for notebook in {row[2] for row in rows() if row[4]}:
        names = {}
        for code in sections(notebook).values():
            tree = ast.parse(re.sub(r"^(\s*)%.*$", r"\1pass", code, flags=re.M))
            imports = [n for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)]
            exec(compile(ast.Module(imports, []), notebook, "exec"), names)
        for row in rows():
            if row[2] == notebook and row[4]:
                assert callable(eval(row[4], names)), row


def test_every_table_and_figure_of_both_papers_has_one_place():
    named = [(paper, place) for paper, part, *_ in rows() for place in re.findall(PLACE, part)]
    of_b = [*(f"Table {i}" for i in (1, 2, 3, 4)), *(f"Figure {i}" for i in (1, 2, 3, 4, 5))]
    of_b += ["Figure A1", "Figure A2"]
    wanted = [("A", name) for name in ("Table 1", "Table 2", "Figure 1")]
    assert sorted(named) == sorted(wanted + [("B", name) for name in of_b])


PLACE = r"(?:Table|Figure) A?\d"


def test_the_experiments_named_beside_the_figures_are_theirs():
    known = {e.id for e in get_design("key_variables_micro").experiments}
    for paper, part, *_ in rows():
        if paper == "B" and (found := re.fullmatch(rf"({PLACE}) \((E\d)\)", part)):
            assert PLACES[found[1]] == found[2] and found[2] in known


def test_every_formula_of_both_papers_is_placed():
    parts = {paper: " ".join(r[1] for r in rows() if r[0] == paper) for paper in "AB"}
    for formula in ("(1.1)", "(1.2)", "(1.3)", "A_norm", "A_strict", "A_flex", "dA, FR, dK"):
        assert formula in parts["A"]
    assert "(1)" in parts["B"] and "(2) to (7)" in parts["B"]

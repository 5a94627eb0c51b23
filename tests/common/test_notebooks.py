"""Notebooks from the command line: none hangs, and one that stops says where and why."""

import time

import nbformat
import pytest
from nbclient.output_widget import OutputWidget

from slimlib.common import notebooks
from slimlib.common.notebooks import NotebookError, execute

WIDGET = """
import ipywidgets
from IPython.display import display

shown = ipywidgets.Output()
display(shown)
with shown:
    for step in range(2):
        print(step)
        shown.clear_output()
"""


@pytest.fixture
def book(tmp_path):
    """Write a notebook of some cells behind its parameters; returns its path."""

    def write(*sources):
        parameters = nbformat.v4.new_code_cell("STUDY = 'auto'", metadata={"tags": ["parameters"]})
        cells = [parameters, *map(nbformat.v4.new_code_cell, sources)]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "01_book.ipynb")
        return tmp_path / "01_book.ipynb"

    return write


def slow(kind: type[OutputWidget]) -> type[OutputWidget]:
    """An output widget whose messages leave so late that the kernel's answer is there before."""

    class Slow(kind):
        def send(self, *args, **kwargs):
            time.sleep(0.7)
            super().send(*args, **kwargs)

    return Slow


def outputs(path):
    cells = nbformat.read(path, as_version=4).cells
    return "".join(str(cell.outputs) for cell in cells)


def test_only_the_parameters_that_the_notebook_has_are_injected(book, tmp_path):
    path = execute(
        book("print(STUDY, 'RUNS' in globals())"),
        {"STUDY": "x", "RUNS": "y"},
        tmp_path / "done.ipynb",
    )
    assert "x False" in outputs(path)


def test_an_answer_that_came_while_a_widget_wrote_is_not_lost(book, tmp_path, monkeypatch):
    monkeypatch.setattr(notebooks._Client, "output_widget", slow(notebooks._Output))
    monkeypatch.setattr(notebooks, "PATIENCE", 10.0)
    execute(book(WIDGET, "print('after')"), {}, tmp_path / "done.ipynb")
    assert "after" in outputs(tmp_path / "done.ipynb")


def test_a_kernel_that_is_idle_and_silent_ends_in_an_error(book, tmp_path, monkeypatch):
    """The same with nbclient's own widget: the answer is lost, and the wait for it is cut."""
    monkeypatch.setattr(notebooks._Client, "output_widget", slow(OutputWidget))
    monkeypatch.setattr(notebooks, "PATIENCE", 3.0)
    message = "01_book.ipynb, cell 3: the kernel finished the cell 3 s ago"
    with pytest.raises(NotebookError, match=message):
        execute(book(WIDGET, "print('after')"), {}, tmp_path / "done.ipynb")
    assert "after" not in outputs(tmp_path / "done.ipynb")


def test_a_long_cell_is_not_cut(book, tmp_path, monkeypatch):
    monkeypatch.setattr(notebooks, "PATIENCE", 1.0)
    execute(book("import time; time.sleep(3); print('late')"), {}, tmp_path / "done.ipynb")
    assert "late" in outputs(tmp_path / "done.ipynb")


def test_a_dead_kernel_is_named(book, tmp_path):
    with pytest.raises(NotebookError, match="cell 3: the kernel died"):
        execute(book("import os; os._exit(9)"), {}, tmp_path / "done.ipynb")


def test_a_cell_that_raises_is_named(book, tmp_path):
    with pytest.raises(NotebookError, match="cell 4: ZeroDivisionError: division by zero"):
        execute(book("print('before')", "1 / 0", "print('after')"), {}, tmp_path / "done.ipynb")
    assert "before" in outputs(tmp_path / "done.ipynb")

"""Notebooks from the command line: none hangs, and one that stops says where and why."""

import os
import signal
import subprocess
import sys
import time

import nbformat
import pytest
import zmq
from nbclient.output_widget import OutputWidget

from slimlib.common import notebooks
from slimlib.common.notebooks import NotebookError, execute, notebooks_folder

WIDGET = """
import time

import ipywidgets
from IPython.display import display

shown = ipywidgets.Output()
display(shown)
with shown:
    for step in range(2):
        print(step)
        shown.clear_output()
time.sleep(2)  # the messages to the widget are read before the cell is answered
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


def slow(kind: type[OutputWidget], wait: float = 5.0) -> type[OutputWidget]:
    """An output widget whose messages leave when the kernel's answer is there, or after a wait."""

    class Slow(kind):
        def send(self, *args, **kwargs):
            zmq.Socket.shadow(self.kernel_client.shell_channel.socket).poll(1000 * wait)
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
    with pytest.raises(NotebookError, match="cell 3: the kernel finished the cell 3 s ago"):
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


# ---------------------------------------------------------------------------- Ctrl-C and SIGTERM

STOPPABLE = """
import sys
from pathlib import Path
from slimlib import cli
from slimlib.common import notebooks

notebooks.notebooks_folder = lambda: Path(sys.argv[1])
sys.exit(cli.main(["notebooks", "01", "--study", "smoke", "--runs", "runs"]))
"""


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)],
)
def test_a_notebook_that_is_stopped_leaves_no_kernel(number, code, book, tmp_path):
    path = book("import os; open('kernel', 'w').write(str(os.getpid()))", "import time\nwhile 1: 1")
    command = [sys.executable, "-c", STOPPABLE, str(path.parent)]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        note = tmp_path / "kernel"
        while not (note.exists() and note.read_text()):
            time.sleep(0.1)
        time.sleep(0.5)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    again = "slimlib notebooks 01 --study smoke --runs runs"
    assert err.splitlines()[-1] == f"slimlib: stopped; run it again to go on: {again}"
    assert process.returncode == code and "Traceback" not in err
    with pytest.raises(ProcessLookupError):
        os.kill(int(note.read_text()), 0)
    assert "kernel" in (tmp_path / "runs/smoke/notebooks/01_book.ipynb").read_text()


# --------------------------------------------------------------------------------- notebook 05


def execute_analysis(smoke, target):
    _, folder = smoke
    values = {"STUDY": "smoke", "RUNS": str(folder.parent), "RUN": str(folder)}
    return execute(notebooks_folder() / "05_analysis.ipynb", values, target)


@pytest.mark.slow
def test_notebook_05_never_hangs(smoke, tmp_path, monkeypatch):
    monkeypatch.delenv("MPLBACKEND")  # a notebook's kernel has one of its own
    monkeypatch.setattr(notebooks._Client, "output_widget", slow(notebooks._Output, 0.7))
    for number in range(3):
        execute_analysis(smoke, tmp_path / f"{number}.ipynb")

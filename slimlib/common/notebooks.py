"""Running the numbered notebooks, with parameters, from the command line.

The notebooks lie in the checkout; a wheel carries a copy. Each runs in a kernel of its own, after
the cell tagged `parameters` gets a successor with the values asked for; the executed copy is kept.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from tqdm import tqdm

from slimlib.common.files import PACKAGE, atomic_path


class NotebookError(RuntimeError):
    """A notebook stopped; the message names it, the cell and the error."""


def notebooks_folder() -> Path:
    """The checkout's notebooks/, or the copy inside an installed package.

    Raises:
        ValueError: neither is there.
    """
    for folder in (PACKAGE.parent / "notebooks", PACKAGE / "notebooks"):
        if (folder / "01_setup.ipynb").is_file():
            return folder
    raise ValueError("the notebooks are not installed with slimlib; run from a checkout")


def select(text: str) -> list[Path]:
    """The notebooks of a range or a list: "01-05", "03" or "01,05".

    Raises:
        ValueError: no notebook has such a number.
    """
    there = {path.name[:2]: path for path in sorted(notebooks_folder().glob("[0-9][0-9]_*.ipynb"))}
    chosen: list[str] = []
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        numbers = [n for n in there if first.zfill(2) <= n <= (last or first).zfill(2)]
        if not re.fullmatch(r"\d+(-\d+)?", part.strip()) or not numbers:
            raise ValueError(f"--notebooks {text!r}: there are {', '.join(there)} (as in 01-05)")
        chosen += numbers
    return [there[number] for number in chosen]


def execute(path: Path, parameters: Mapping[str, Any], target: Path) -> Path:
    """Execute one notebook and keep the executed copy, also when it stops.

    Args:
        path: the notebook, which is left as it is.
        parameters: name -> value, written after the cell tagged `parameters`.
        target: where the executed copy goes.

    Raises:
        NotebookError: a cell raised; names notebook, cell and error.
    """
    notebook = nbformat.read(path, as_version=4)
    target.parent.mkdir(parents=True, exist_ok=True)
    inject(notebook, parameters, path.name)
    total = sum(cell.cell_type == "code" for cell in notebook.cells)
    with tqdm(total=total, desc=path.stem, file=sys.stderr, unit="cell") as bar:
        client = _Client(notebook, bar, resources={"metadata": {"path": str(Path.cwd())}})
        try:
            with open(target.with_suffix(".log"), "w", encoding="utf-8") as log:
                client.execute(stderr=log)
        except DeadKernelError:
            number, log = client.cell + 1, target.with_suffix(".log")
            what = f"the kernel died, perhaps for lack of memory; see {log}"
            raise NotebookError(f"{path.name}, cell {number}: {what}") from None
        except CellExecutionError as error:
            number = client.cell + 1
            raise NotebookError(
                f"{path.name}, cell {number}: {error.ename}: {error.evalue}"
            ) from None
        finally:
            with atomic_path(target) as temporary:
                nbformat.write(notebook, temporary)
    return target


def inject(notebook: Any, parameters: Mapping[str, Any], name: str) -> None:
    """Insert the parameters after the cell tagged `parameters`.

    Raises:
        ValueError: the notebook has no such cell.
    """
    tagged = [i for i, c in enumerate(notebook.cells) if "parameters" in c.metadata.get("tags", [])]
    if not tagged:
        raise ValueError(f"{name} has no cell tagged 'parameters'")
    source = "\n".join(f"{key} = {value!r}" for key, value in parameters.items())
    cell = nbformat.v4.new_code_cell(source, metadata={"tags": ["injected-parameters"]})
    notebook.cells.insert(tagged[0] + 1, cell)


class _Client(NotebookClient):
    """Shows on the bar which cell runs and the last line that it printed."""

    def __init__(self, notebook: Any, bar: Any, **kwargs: Any):
        super().__init__(notebook, timeout=None, kernel_name="python3", **kwargs)
        self.bar, self.cell = bar, 0
        self.on_cell_start = self._start
        self.on_cell_executed = self._executed

    def _start(self, cell: Any, cell_index: int) -> None:
        self.cell = cell_index

    def _executed(self, cell: Any, **kwargs: Any) -> None:
        self.bar.update(1)

    def output(self, outs: Any, msg: Any, display_id: str, cell_index: int) -> Any:
        """Pass an output on, and show the stage it speaks of."""
        content = msg["content"]
        if msg["msg_type"] == "stream" and content["name"] == "stdout":
            lines: Sequence[str] = content["text"].strip().splitlines()
            if lines:
                self.bar.set_postfix_str(lines[-1][:60])
        return super().output(outs, msg, display_id, cell_index)

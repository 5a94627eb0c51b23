"""Running the numbered notebooks, with parameters, from the command line.

The notebooks lie in the checkout; a wheel carries a copy. Each runs in a kernel of its own, after
the cell tagged `parameters` gets a successor with the values asked for; the executed copy is kept.
A kernel that is dead, or that finished a cell and never answers, ends in an error, not in a wait.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
import zmq
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbclient.output_widget import OutputWidget

from slimlib.common import progress
from slimlib.common.files import PACKAGE, atomic_path
from slimlib.common.stopping import SIGNALS, Stopped

PATIENCE = 60.0  # seconds from a cell's end to the kernel's answer; the cell itself may take hours


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
            raise ValueError(f"notebooks {text!r}: there are {', '.join(there)} (as in 01-05)")
        chosen += numbers
    return [there[number] for number in chosen]


def execute(path: Path, parameters: Mapping[str, Any], target: Path) -> Path:
    """Execute one notebook and keep the executed copy, also when it stops.

    Args:
        path: the notebook, which is left as it is.
        parameters: name -> value, written after the cell tagged `parameters`, as far as that cell
            has the names.
        target: where the executed copy goes.

    Raises:
        NotebookError: a cell raised, or the kernel died or fell silent; names notebook and cell.
        Stopped: Ctrl-C or SIGTERM; the kernel is gone.
    """
    notebook = nbformat.read(path, as_version=4)
    target.parent.mkdir(parents=True, exist_ok=True)
    inject(notebook, parameters, path.name)
    log_path = target.with_suffix(".log")
    with progress.line(path.stem) as line:
        client = _Client(notebook, line, resources={"metadata": {"path": str(Path.cwd())}})
        try:
            with open(log_path, "w", encoding="utf-8") as log:
                client.execute(stderr=log)
        except DeadKernelError:
            if client.stopped:
                raise Stopped(client.stopped) from None
            what = client.silence or f"the kernel died, perhaps for lack of memory; see {log_path}"
            raise NotebookError(f"{path.name}, cell {client.cell + 1}: {what}") from None
        except CellExecutionError as error:
            what = f"{error.ename}: {error.evalue}"
            raise NotebookError(f"{path.name}, cell {client.cell + 1}: {what}") from None
        finally:
            # what the menus chose first stands in outputs of its own; GitHub stumbles over states
            notebook.metadata.pop("widgets", None)
            with atomic_path(target) as temporary:
                nbformat.write(notebook, temporary)
    return target


def inject(notebook: Any, parameters: Mapping[str, Any], name: str) -> None:
    """Insert the parameters after the cell tagged `parameters`: those that it assigns.

    Raises:
        ValueError: the notebook has no such cell.
    """
    tagged = [i for i, c in enumerate(notebook.cells) if "parameters" in c.metadata.get("tags", [])]
    if not tagged:
        raise ValueError(f"{name} has no cell tagged 'parameters'")
    assigned = re.findall(r"^(\w+) *=", notebook.cells[tagged[0]].source, re.M)
    given = {key: value for key, value in parameters.items() if key in assigned}
    source = "\n".join(f"{key} = {value!r}" for key, value in given.items())
    cell = nbformat.v4.new_code_cell(source, metadata={"tags": ["injected-parameters"]})
    notebook.cells.insert(tagged[0] + 1, cell)


class _Output(OutputWidget):
    """An output widget whose messages to the kernel lose none of the kernel's.

    Session.send sends through a shadow of the asynchronous shell socket. That uses up the signal
    of an answer that has come meanwhile (it is given once), and the wait for it never ends. Reading
    the socket's EVENTS makes pyzmq look again (nbclient's issue 311, jupyter_client's 1059).
    """

    def send(self, *args: Any, **kwargs: Any) -> None:
        super().send(*args, **kwargs)
        self.kernel_client.shell_channel.socket.get(zmq.EVENTS)


class _Client(NotebookClient):
    """Shows the last line that was printed; gives up on a kernel that is idle and silent.

    Ctrl-C and SIGTERM end the wait for a cell, after which nbclient ends the kernel; its own
    handlers would end the kernel alone, which looks like a crash.
    """

    output_widget = _Output

    def __init__(self, notebook: Any, line: progress.Line, **kwargs: Any):
        super().__init__(notebook, timeout=None, kernel_name="python3", **kwargs)
        self.line, self.cell, self.silence, self.stopped = line, 0, "", 0
        line.begin("cells", sum(cell.cell_type == "code" for cell in notebook.cells))
        self.answer_due: asyncio.TimerHandle | None = None
        self.widget_registry = {"@jupyter-widgets/output": {"OutputModel": self.output_widget}}
        self.on_cell_start = self._start
        self.on_cell_executed = self._executed

    def process_message(self, msg: Any, cell: Any, cell_index: int) -> Any:
        """Await the answer to a cell from the moment on that the kernel is idle after it."""
        content = msg["content"]
        if content.get("name") == "stdout":
            self._note(content["text"])
        if (content.get("transient") or {}).get("display_id"):  # a live line of `progress`
            self._note(content["data"].get("text/plain", ""))
        if content.get("execution_state") == "idle":
            loop = asyncio.get_running_loop()
            self.answer_due = loop.call_later(PATIENCE, self._give_up)
        return super().process_message(msg, cell, cell_index)

    def _give_up(self) -> None:
        self.silence = (
            f"the kernel finished the cell {PATIENCE:g} s ago and its answer did not come; "
            "run it again"
        )
        self.task_poll_for_reply.cancel()

    async def async_start_new_kernel(self, **kwargs: Any) -> None:
        """Start the kernel, with handlers of signals in the place of nbclient's."""
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            if loop.remove_signal_handler(number):  # none stands outside the main thread
                loop.add_signal_handler(number, self._stop, number)
        await super().async_start_new_kernel(**kwargs)

    def _stop(self, number: int) -> None:
        self.stopped = number
        if self.task_poll_for_reply:
            self.task_poll_for_reply.cancel()

    def _start(self, cell: Any, cell_index: int) -> None:
        self.cell = cell_index
        if self.stopped:  # before there was a cell to end
            raise DeadKernelError

    def _executed(self, cell: Any, **kwargs: Any) -> None:
        if self.answer_due:
            self.answer_due.cancel()
        self.line.update(self.line.done + 1)

    def _note(self, text: str) -> None:
        for last in text.strip().splitlines()[-1:]:
            self.line.update(self.line.done, note=last)

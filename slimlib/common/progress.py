"""What is running: one live line for each arm and task, wherever it is shown.

A terminal has it by rich. Other output gets plain lines: the start of what lasts, one in ten
seconds, the end. A notebook has one display for each cell, which is updated; never a widget, as
nbclient may hang on those (see `notebooks`). There a training may be drawn below its line (see
`drawn_by`). While a line is open, the bars of other libraries are not drawn. Terminal and log are
standard error: standard output holds what a command was asked for and nothing else.

A stage opens a line; what works inside it asks for the `current` one:

    with progress.line("finetune llama-2k"):
        progress.current().begin("steps", total=150)
        progress.current().update(done=1, loss=2.5, tokens=800)
"""

from __future__ import annotations

import contextlib
import html
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
from tqdm.std import tqdm

from slimlib.common.checked import masked
from slimlib.common.document import Document, Shown, plain

SOON = 1.0  # seconds within which nothing is said of a stage but its end
PLAIN_EVERY = 10.0  # seconds between two lines of one stage in a log
NOTE = 60  # characters of a note
NOTEBOOK_EVERY = 1.0  # seconds between two updates of a notebook's display
DRAWN_EVERY = 5.0  # seconds between two pictures of a training
MOST_DRAWING = 0.05  # share of the time that goes into them


class Line:
    """One stage, or one task of it: how far it is."""

    def __init__(self, label: str) -> None:
        self.label, self.begun = plain(label), time.monotonic()
        self.log: Path | None = None  # of a training: what is drawn of it
        self.begin("")

    def begin(self, unit: str, total: int | None = None, done: int = 0) -> None:
        """Count from here on, in such units; `done` were done in an earlier session."""
        self.unit, self.total, self.first, self.done = unit, total, done, done
        self.counting, self.loss, self.tokens, self.note = time.monotonic(), None, 0, ""
        _screen.refresh(self)

    def update(
        self, done: int, loss: float | None = None, tokens: int = 0, note: str | None = None
    ) -> None:
        """Tell how far it is.

        Args:
            done: of the units.
            loss: the newest training loss, nats per token; None keeps the last one.
            tokens: computed since `begin`.
            note: what is at work; None keeps the last one.
        """
        self.done, self.tokens = done, tokens
        self.loss = self.loss if loss is None else loss
        self.note = self.note if note is None else plain(note)[:NOTE]
        _screen.refresh(self)

    @property
    def seconds(self) -> float:
        """Since the line was opened."""
        return time.monotonic() - self.begun

    @property
    def left(self) -> float | None:
        """Seconds that are left at this pace; None: nobody knows yet."""
        if not self.total or self.done <= self.first:
            return None
        pace = (time.monotonic() - self.counting) / (self.done - self.first)
        return pace * (self.total - self.done)

    def facts(self) -> list[str]:
        """Loss and speed, as far as they are known."""
        loss = [] if self.loss is None else [f"loss {self.loss:.3f}"]
        elapsed = time.monotonic() - self.counting
        speed = [f"{self.tokens / elapsed:,.0f} tokens/s"] if self.tokens and elapsed else []
        return loss + speed

    def count(self) -> str:
        """How many of how many."""
        if not self.unit:
            return ""
        return f"{self.done:,} of {self.total:,} {self.unit}" if self.total else self.unit

    def running(self) -> str:
        """The line while it runs, as "finetune llama-2k: 40 of 150 steps, loss 1.234, 9 s left"."""
        left = [] if self.left is None else [f"{duration(self.left)} left"]
        parts = [part for part in (self.count(), *self.facts(), *left, self.note) if part]
        return f"{self.label}: {', '.join(parts) or duration(self.seconds)}"

    def ended(self) -> str:
        """The line that stays."""
        count = [f"{self.done:,} {self.unit}"] if self.unit else []
        facts = ", ".join([*count, *self.facts()])
        return f"{self.label}: done in {duration(self.seconds)}" + (f" ({facts})" if facts else "")


def duration(seconds: float) -> str:
    """Seconds in words: "9 s", "3 min 20 s", "2 h 5 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


# ---------------------------------------------------------------------------------------- screens


class Screen(Protocol):
    """Where lines are shown."""

    def open(self, line: Line) -> None:
        """A line begins; it hides the one that it is a part of."""

    def refresh(self, line: Line) -> None:
        """A line has news."""

    def close(self, line: Line) -> None:
        """A line ends, well or not."""

    def say(self, text: str) -> None:
        """Show a text that stays."""


class Log:
    """Plain lines, where nothing can be written over."""

    def __init__(self) -> None:
        self.lines: dict[Line, float] = {}  # when it was last shown
        self.unsaid: Line | None = None  # has begun, which is not said yet
        self.timer = threading.Timer(SOON, self._begun)

    def open(self, line: Line) -> None:
        if not self.lines:  # the parts of a stage speak when they last, and at their end
            self.unsaid = line
            self.timer = threading.Timer(SOON, self._begun)
            self.timer.daemon = True
            self.timer.start()
        self.lines[line] = time.monotonic()

    def refresh(self, line: Line) -> None:
        now = time.monotonic()
        if now - self.lines.get(line, now) >= PLAIN_EVERY:
            self.lines[line] = now
            self.say(line.running())

    def close(self, line: Line) -> None:
        self.lines.pop(line)
        if not self.lines:
            self.timer.cancel()
            self.unsaid = None

    def say(self, text: str) -> None:
        self._begun()
        print(text, file=sys.stderr, flush=True)

    def _begun(self) -> None:
        line, self.unsaid = self.unsaid, None
        if line is not None:
            print(f"{line.label}: started", file=sys.stderr, flush=True)


class Terminal:
    """One bar by rich below what is printed."""

    def __init__(self) -> None:
        columns = (SpinnerColumn(), BarColumn(20), TextColumn("{task.description}", markup=False))
        console = Console(stderr=True)
        self.bars = Progress(*columns, console=console, transient=True, refresh_per_second=4)
        self.ids: dict[Line, Any] = {}

    def open(self, line: Line) -> None:
        for other in self.ids.values():
            self.bars.update(other, visible=False)
        self.bars.start()
        self.ids[line] = self.bars.add_task(line.running(), total=line.total)

    def refresh(self, line: Line) -> None:
        if line in self.ids:
            what = {"description": line.running(), "total": line.total, "completed": line.done}
            self.bars.update(self.ids[line], **what)

    def close(self, line: Line) -> None:
        self.bars.remove_task(self.ids.pop(line))
        for last in list(self.ids.values())[-1:]:
            self.bars.update(last, visible=True)
        if not self.ids:
            self.bars.stop()

    def say(self, text: str) -> None:
        self.bars.console.print(text, markup=False, highlight=False, soft_wrap=True)


class Cell:
    """The display of one notebook cell: what is done, and below it what runs."""

    def __init__(self, number: int) -> None:
        self.number, self.said, self.lines = number, [], []
        self.display: Any = None
        self.shown = 0.0
        self.picture, self.next_picture = "", 0.0

    def open(self, line: Line) -> None:
        self.lines.append(line)
        self._show()

    def refresh(self, line: Line) -> None:
        if line in self.lines and time.monotonic() - self.shown >= NOTEBOOK_EVERY:
            self._show()

    def close(self, line: Line) -> None:
        self._draw(line)
        self.lines.remove(line)
        self._show()

    def say(self, text: str) -> None:
        self.said.append(text)
        self._show()

    def _draw(self, line: Line) -> None:
        """The picture of a training as it is now; one that fails stops no training."""
        if line.log is None or _drawer is None:
            return
        begun = time.monotonic()
        with contextlib.suppress(Exception):
            self.picture = _drawer(line.log)
        now = time.monotonic()
        self.next_picture = now + max(DRAWN_EVERY, (now - begun) / MOST_DRAWING)

    def _show(self) -> None:
        from IPython.display import display

        if time.monotonic() >= self.next_picture:
            for line in self.lines:
                self._draw(line)
        running = [line.running() for line in self.lines[-1:]]
        text = "\n".join([*self.said, *running])
        content = {"text/plain": text}
        if self.picture:
            content["text/html"] = f"<pre>{html.escape(text)}</pre>{self.picture}"
        if self.display is None:
            self.display = display(content, raw=True, display_id=True)
        else:
            self.display.update(content, raw=True)
        self.shown = time.monotonic()


def find_screen() -> Screen:
    """The screen of the place where this process writes: a notebook's cell, a terminal, a log."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if getattr(shell, "kernel", None) is not None:
        same = isinstance(_screen, Cell) and _screen.number == shell.execution_count
        return _screen if same else Cell(shell.execution_count)
    console = Console(stderr=True)
    return Terminal() if console.is_terminal and not console.is_dumb_terminal else Log()


# ---------------------------------------------------------------------------------- the open lines

_screen: Screen = Log()
_open: list[Line] = []
_drawer: Callable[[Path], str] | None = None  # log.jsonl -> HTML


@contextlib.contextmanager
def drawn_by(drawer: Callable[[Path], str]) -> Iterator[None]:
    """Have a notebook show what a function makes, as HTML, of the log of a training that runs."""
    global _drawer
    before, _drawer = _drawer, drawer
    try:
        yield
    finally:
        _drawer = before


@contextlib.contextmanager
def line(label: str, brief: bool = False) -> Iterator[Line]:
    """Open a line; inside another one it is a part of that, and is called "stage, part".

    Args:
        label: what is done.
        brief: nothing stays of it where it takes less than a second.
    """
    global _screen
    with contextlib.ExitStack() as stack:
        if _open:
            label = f"{_open[-1].label}, {label}"
        else:
            _screen = find_screen()
            stack.enter_context(no_other_bars())
        opened = Line(label)
        _screen.open(opened)
        _open.append(opened)
        try:
            yield opened
        finally:
            _open.remove(opened)
            _screen.close(opened)
        if not brief or opened.seconds >= SOON:
            _screen.say(opened.ended())


def current() -> Line:
    """The innermost line that is open; one that is shown nowhere if none is."""
    return _open[-1] if _open else Line("")


def say(text: str) -> None:
    """Show a text that stays, above the line that runs; tokens in it are masked."""
    _stay(masked(plain(text)))


def show(found: Document | Shown) -> None:
    """Show a document that stays, as `say` does a text."""
    _stay(found.to_text())


def _stay(text: str) -> None:
    global _screen
    if not _open:
        _screen = find_screen()
    _screen.say(text)


@contextlib.contextmanager
def no_other_bars() -> Iterator[None]:
    """Keep the bars of lm-eval, transformers and datasets, all made by tqdm, from being drawn."""
    draw = tqdm.__init__

    def hide(bar: Any, *args: Any, **kwargs: Any) -> None:
        draw(bar, *args, **{**kwargs, "disable": True})

    tqdm.__init__ = hide
    try:
        yield
    finally:
        tqdm.__init__ = draw

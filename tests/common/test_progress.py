"""Live progress: one line for each arm and task, in a terminal, a log and a notebook."""

import io
import os
import pty
import re
import subprocess
import sys
import threading
import types

import pytest
from tqdm import tqdm
from tqdm.auto import tqdm as auto_tqdm

from slimlib.common import progress


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass only when a test says so."""
    now = types.SimpleNamespace(seconds=100.0)
    monkeypatch.setattr(progress.time, "monotonic", lambda: now.seconds)
    return now


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")],
)
def test_durations_in_words(seconds, text):
    assert progress.duration(seconds) == text


class TestLine:
    def test_it_tells_count_loss_speed_and_time_left(self, clock):
        line = progress.Line("train")
        line.begin("steps", 150)
        clock.seconds += 20
        line.update(50, loss=1.2345, tokens=4000)
        # 50 steps in 20 s: the other 100 in 40 s; 4,000 tokens in 20 s
        assert line.running() == "train: 50 of 150 steps, loss 1.234, 200 tokens/s, 40 s left"
        clock.seconds += 60
        line.update(150, tokens=16000)
        assert line.ended() == "train: done in 1 min 20 s (150 steps, loss 1.234, 200 tokens/s)"

    def test_steps_of_an_earlier_session_took_no_time_now(self, clock):
        line = progress.Line("finetune a")
        line.begin("steps", 100, done=90)
        assert line.left is None
        clock.seconds += 10
        line.update(95)
        assert line.left == pytest.approx(10)  # 5 steps in 10 s

    def test_without_a_count_it_tells_the_time(self, clock):
        line = progress.Line("merge a")
        clock.seconds += 3
        assert line.running() == "merge a: 3 s" and line.ended() == "merge a: done in 3 s"

    def test_a_name_cannot_steer_the_terminal(self):
        line = progress.Line("finetune \x1b[31m\n")
        line.update(0, note="\x07ding")
        assert "\x1b" not in line.running() and "\x07" not in line.running()


class TestLog:
    def test_a_stage_has_a_line_in_ten_seconds_and_one_at_the_end(self, clock, capsys):
        with progress.line("finetune a") as line:
            line.begin("steps", 60)
            for step in range(1, 31):
                clock.seconds += 1
                line.update(step)
        assert capsys.readouterr().err.splitlines() == [
            "finetune a: started",
            "finetune a: 10 of 60 steps, 50 s left",
            "finetune a: 20 of 60 steps, 40 s left",
            "finetune a: 30 of 60 steps, 30 s left",
            "finetune a: done in 30 s (30 steps)",
        ]

    def test_a_part_is_called_by_its_stage_and_speaks_at_its_end(self, clock, capsys):
        with progress.line("evaluate a"):
            with progress.line("facts") as part:
                assert progress.current() is part
                part.begin("documents", 20)
                clock.seconds += 2
                part.update(20)
        assert capsys.readouterr().err.splitlines() == [
            "evaluate a: started",
            "evaluate a, facts: done in 2 s (20 documents)",
            "evaluate a: done in 2 s",
        ]

    def test_a_stage_that_fails_is_not_said_to_be_done(self, capsys):
        with pytest.raises(ValueError), progress.line("merge a"):
            raise ValueError
        out, err = capsys.readouterr()
        assert (out, err) == ("", "")
        with progress.line("merge b"):
            assert progress.current().label == "merge b"

    def test_what_takes_no_time_is_said_in_one_line_or_none(self, capsys):
        with progress.line("base: facts") as line:
            line.begin("documents", 20, 20)
        with progress.line("load base", brief=True):
            pass
        assert capsys.readouterr().err == "base: facts: done in 0 s (20 documents)\n"

    def test_what_lasts_is_said_to_have_started_while_it_runs(self, capsys, monkeypatch):
        monkeypatch.setattr(progress, "SOON", 0.01)
        with progress.line("load base", brief=True):
            threading.Event().wait(0.1)
            assert capsys.readouterr().err == "load base: started\n"
        assert capsys.readouterr().err == "load base: done in 0 s\n"

    def test_without_a_stage_updates_go_nowhere(self, capsys):
        progress.current().update(3, loss=1.0)
        assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("kind", [tqdm, auto_tqdm])
def test_bars_of_other_libraries_are_silent_while_a_line_is_open(kind):
    def drawn():
        stream = io.StringIO()
        assert list(kind(range(3), file=stream, disable=False)) == [0, 1, 2]
        return stream.getvalue()

    with progress.line("evaluate a"):
        assert drawn() == ""
        with progress.line("facts"):
            assert drawn() == ""
        assert drawn() == ""
    assert "3/3" in drawn()


# ---------------------------------------------------------------------------------------- terminal

STAGES = """
import time
from slimlib.common import progress
with progress.line("evaluate a"):
    print("something printed")
    with progress.line("facts [/x]") as line:
        line.begin("documents", 4)
        for done in range(1, 5):
            time.sleep(0.3)
            line.update(done)
progress.say("over")
"""


def test_a_terminal_has_a_bar_that_gives_way_to_the_line_that_stays():
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen(
        [sys.executable, "-c", STAGES], stdout=theirs, stderr=theirs, env=environment
    )
    os.close(theirs)
    written = b""
    while chunk := _read(ours):
        written += chunk
    os.close(ours)
    assert process.wait() == 0
    assert "2 of 4 documents" in written.decode()  # drawn, and drawn over
    assert [line for line in seen(written.decode()) if line.strip()] == [
        "something printed",
        "evaluate a, facts [/x]: done in 1 s (4 documents)",
        "evaluate a: done in 1 s",
        "over",
    ]


def seen(written: str) -> list[str]:
    """The lines that a terminal shows in the end: rich goes up, and erases lines."""
    lines, row = [""], 0
    for code, count, text in re.findall(r"\x1b\[\??(\d*)([A-Za-z])|([^\x1b])", written):
        if (code, count) == ("2", "K"):
            lines[row] = ""
        elif count == "A":
            row -= int(code or 1)
        elif text == "\n":
            row += 1
            lines += [""] * (row == len(lines))
        elif text and text != "\r":
            lines[row] += text
    return lines


def _read(stream: int) -> bytes:
    try:
        return os.read(stream, 4096)
    except OSError:  # Linux says so when the other end is closed
        return b""


# ---------------------------------------------------------------------------------------- notebook


def test_a_notebook_cell_has_one_display_that_is_updated(tmp_path):
    """And an executed copy holds what was shown last, not each step of it."""
    import nbformat

    from slimlib.common.notebooks import execute

    source = f"import sys, tqdm\n{STAGES}"
    source += "with progress.line('merge b'):\n    list(tqdm.tqdm(range(9), file=sys.stderr))"
    cells = [nbformat.v4.new_code_cell("A = 1", metadata={"tags": ["parameters"]})]
    cells += [nbformat.v4.new_code_cell(text) for text in (source, "progress.say('next cell')")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "01_book.ipynb")
    done = execute(tmp_path / "01_book.ipynb", {}, tmp_path / "done.ipynb")
    *_, first, second = nbformat.read(done, as_version=4).cells
    assert sorted(output.output_type for output in first.outputs) == ["display_data", "stream"]
    (shown,) = [o.data["text/plain"] for o in first.outputs if o.output_type == "display_data"]
    assert shown.splitlines() == [
        "evaluate a, facts [/x]: done in 1 s (4 documents)",
        "evaluate a: done in 1 s",
        "over",
        "merge b: done in 0 s",
    ]
    assert [output.data["text/plain"] for output in second.outputs] == ["next cell"]

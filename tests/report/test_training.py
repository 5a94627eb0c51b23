"""A training drawn from its log: what it says, what it draws, and live in a notebook's cell."""

import json
import math
import types
from html.parser import HTMLParser

import nbformat
import pytest

from slimlib import metrics
from slimlib.common import progress
from slimlib.report import training

ROWS = [
    {"step": step, "loss": loss, "seconds": 2.0 * step, "tokens": 100 * step,
     "peak_memory_gb": 1.25, "max_steps": 40}
    for step, loss in ((1, 4.0), (2, 3.0), (10, 2.0))
]  # fmt: skip
PROBE = {"step": 10, "epoch": 0.5, "probe": {"micro_facts": 0.6}, "n": {"micro_facts": 50}}
CHECKPOINT = {**ROWS[-1], "checkpoint": 2}


def written(folder, rows):
    folder.mkdir(exist_ok=True)
    (folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "log.jsonl"


# -------------------------------------------------------------------------------------- the numbers


def test_the_smoothed_loss_by_hand():
    assert training.smoothed([2.0, 1.0]) == pytest.approx([2, 2.4 / 1.7])
    assert training.smoothed([3.0] * 50) == pytest.approx([3.0] * 50)
    assert training.smoothed([0.0] * 10 + [1.0])[-1] == pytest.approx(0.3 / (1 - 0.7**11))
    assert len(training.smoothed([])) == 0


def test_speed_and_time_left_by_hand():
    # from step 1 to 10: 9 steps and 900 tokens in 18 s; 30 steps are left
    assert training.pace(ROWS, "tokens") == pytest.approx(50)
    assert training.seconds_left(ROWS) == pytest.approx(60)
    assert training.pace(ROWS[:1], "step") == pytest.approx(0.5)  # one line: since the start


def test_speed_is_that_of_the_last_ten_lines():
    slow = [{"step": i, "loss": 1.0, "seconds": 100.0 * i} for i in range(1, 21)]
    fast = [{"step": 20 + i, "loss": 1.0, "seconds": 2000.0 + i} for i in range(1, 11)]
    assert training.pace(slow + fast, "step") == pytest.approx(1)


def test_a_log_of_older_times_says_what_it_knows():
    rows = [{"step": 4, "loss": 2.0, "seconds": 8.0}, {"step": 8, "loss": 2.0, "seconds": 8.0}]
    assert training.seconds_left(rows) is None and training.pace(rows, "tokens") is None
    assert training.sentence("a", rows) == "a, step 8: loss 2.00, smoothed"


def test_the_sentence_says_all_of_it(tmp_path):
    picture = training.view(written(tmp_path / "llama-2k", [*ROWS[:2], CHECKPOINT, PROBE]))
    loss = (0.49 * 4 + 0.7 * 3 + 2) / 2.19
    assert picture.text == (
        f"llama-2k, step 10 of 40: loss {loss:.2f}, smoothed, 50 tokens/s, 1.25 GB at most, "
        "1 min 0 s left, micro_facts 60 % of 50"
    )


# -------------------------------------------------------------------------------------- the picture


def test_raw_and_smoothed_loss_probes_and_checkpoints_are_drawn(tmp_path):
    above, below = training.draw([*ROWS[:2], CHECKPOINT, PROBE]).axes
    raw, smooth = (line.get_ydata() for line in above.lines[:2])
    assert list(raw) == [4, 3, 2]
    assert smooth == pytest.approx(training.smoothed([4, 3, 2]))
    for ax in (above, below):
        assert ax.get_xlim() == (0, pytest.approx(1.02 * 40))
        assert any(list(line.get_xdata()) == [2, 2] for line in ax.lines)  # the checkpoint
    _, low, high = metrics.wilson_interval(30, 50)
    (bars,) = below.containers
    (segment,) = bars.lines[2][0].get_segments()
    assert segment[:, 1] == pytest.approx([low, high]) and segment[0, 0] == 10
    assert below.get_legend().texts[0].get_text() == "micro_facts: 60 % of 50"


def test_without_probes_there_is_one_panel():
    assert len(training.draw(ROWS).axes) == 1
    assert math.isclose(training.draw(ROWS[:1]).axes[0].lines[1].get_ydata()[0], 4.0)


@pytest.mark.parametrize("rows", [[], [{**PROBE, "step": 0}]])
def test_nothing_yet_is_said_and_drawn_nowhere(tmp_path, rows):
    log = written(tmp_path / "a", rows)
    with pytest.raises(ValueError, match="holds no loss yet"):
        training.view(log)
    assert training.as_html(log) == training.as_html(tmp_path / "none.jsonl") == ""
    with pytest.raises(ValueError, match="does not exist: nothing of this arm"):
        training.view(tmp_path / "none.jsonl")


def test_a_line_that_is_being_written_is_left_out(tmp_path):
    log = written(tmp_path / "a", ROWS)
    log.write_text(log.read_text() + '{"step": 11, "lo')
    assert training.view(log).text.startswith("a, step 10 of 40")


def test_a_run_s_training_is_drawn_after_its_end(tiny_run):
    picture = training.training_view(tiny_run, "llama-2k")
    assert picture.text.startswith("llama-2k, step 6 of 6: loss ")
    assert "tokens/s" in picture.text and "GB at most" in picture.text
    raw = picture.figure.axes[0].lines[0]
    losses = [row["loss"] for row in tiny_run.logs()["llama-2k"] if "loss" in row]
    assert list(raw.get_ydata()) == losses and len(losses) == 6
    with pytest.raises(ValueError, match="nothing of this arm was trained"):
        training.training_view(tiny_run, "llama-base")


def test_names_are_escaped_in_the_page(tmp_path):
    page = training.as_html(written(tmp_path / "a' onerror='x", ROWS))

    class Tags(HTMLParser):
        def handle_starttag(self, tag, attrs):
            found.append((tag, dict(attrs)))

    found = []
    Tags().feed(page)
    ((tag, attributes),) = found
    assert tag == "img" and {*attributes} == {"style", "alt", "src"}
    assert attributes["alt"].startswith("a' onerror='x, step 10")


# ------------------------------------------------------------------------------------------- live


@pytest.fixture
def clock(monkeypatch):
    now = types.SimpleNamespace(seconds=100.0)
    monkeypatch.setattr(progress.time, "monotonic", lambda: now.seconds)
    return now


def test_it_is_redrawn_every_five_seconds_at_most_and_at_the_end(clock, monkeypatch, tmp_path):
    drawn, shown = [], []

    def drawer(log):
        drawn.append(clock.seconds)
        return f"<img alt='{len(drawn)}'>"

    display = types.SimpleNamespace(update=lambda content, raw: shown.append(content))
    cell = progress.Cell(1)
    cell.display = display
    line = progress.Line("finetune a <b>")
    line.log = tmp_path / "log.jsonl"
    with progress.drawn_by(drawer):
        cell.open(line)
        for _ in range(24):
            clock.seconds += 0.5
            cell.refresh(line)
        assert drawn == [100, 105, 110]
        cell.close(line)
    assert drawn == [100, 105, 110, 112]
    assert len(shown) == 1 + 12 + 1
    assert shown[5]["text/plain"].startswith("finetune a <b>")
    assert shown[5]["text/html"].startswith("<pre>finetune a &lt;b&gt;")
    assert shown[-1]["text/html"].endswith("<img alt='4'>")
    cell.say("over")
    assert shown[-1]["text/html"] == "<pre>over</pre><img alt='4'>"


def test_a_slow_drawing_takes_a_twentieth_of_the_time(clock, tmp_path):
    drawn = []

    def drawer(log):
        drawn.append(clock.seconds)
        clock.seconds += 2

    cell = progress.Cell(1)
    cell.display = types.SimpleNamespace(update=lambda content, raw: None)
    line = progress.Line("finetune a")
    line.log = tmp_path
    with progress.drawn_by(drawer):
        cell.open(line)
        for _ in range(90):
            clock.seconds += 1
            cell.refresh(line)
    assert drawn == [100, 142, 184]  # 2 s of drawing, then 40 s without


def test_a_picture_that_fails_stops_no_training(tmp_path):
    def drawer(log):
        raise RuntimeError("no font")

    cell = progress.Cell(1)
    shown = []
    cell.display = types.SimpleNamespace(update=lambda content, raw: shown.append(content))
    line = progress.Line("finetune a")
    line.log = tmp_path
    with progress.drawn_by(drawer):
        cell.open(line)
        cell.close(line)
    assert shown and all("text/html" not in content for content in shown)


def test_in_a_notebook_one_display_holds_line_and_picture(tmp_path, monkeypatch):
    from slimlib.common.notebooks import execute

    log = written(tmp_path / "llama-2k", ROWS)
    source = f"""
from pathlib import Path
import slimlib
from slimlib.common import progress
with slimlib.live_training(), progress.line("finetune llama-2k") as line:
    line.log = Path({str(log)!r})
"""
    cells = [nbformat.v4.new_code_cell("A = 1", metadata={"tags": ["parameters"]})]
    cells += [nbformat.v4.new_code_cell(source)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "02_book.ipynb")
    done = execute(tmp_path / "02_book.ipynb", {}, tmp_path / "done.ipynb")
    *_, cell = nbformat.read(done, as_version=4).cells
    (output,) = cell.outputs
    assert output.data["text/plain"].startswith("finetune llama-2k: done in")
    assert "llama-2k, step 10 of 40" in output.data["text/html"]

"""What a training keeps between sessions: whole checkpoints, sums, the log."""

from types import SimpleNamespace

import pytest
import torch

from slimlib.common.files import read_json, read_jsonl
from slimlib.train import sessions as module
from slimlib.train.sessions import Sessions, last_checkpoint

FILES = ("adapter_model.safetensors", "optimizer.pt", "trainer_state.json")


@pytest.fixture
def clock(monkeypatch):
    now = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(module.time, "monotonic", lambda: now.seconds)
    return now


def started(tmp_path, step=0):
    trainer = SimpleNamespace(accelerator=SimpleNamespace(optimizer_step_was_skipped=False))
    sessions = Sessions(trainer, tmp_path / "log.jsonl", tokens=600)
    about = (
        SimpleNamespace(output_dir=str(tmp_path)),
        SimpleNamespace(global_step=step, max_steps=12, epoch=0.5),
    )
    sessions.on_train_begin(*about, None)
    return sessions, *about


def save(sessions, args, state, tmp_path):
    folder = tmp_path / f"checkpoint-{state.global_step}"
    folder.mkdir()
    for name in FILES:
        (folder / name).write_text(f"{name} of step {state.global_step}")
    torch.save({"step": torch.tensor(state.global_step)}, folder / "optimizer.pt")
    sessions.on_save(args, state, None)


@pytest.fixture
def two(tmp_path):
    """The folder of two checkpoints, of steps 8 and 10."""
    sessions, args, state = started(tmp_path)
    for state.global_step in (8, 10):
        save(sessions, args, state, tmp_path)
    return tmp_path


def test_the_newest_whole_checkpoint_is_taken(two, tmp_path):
    assert last_checkpoint(two).name == "checkpoint-10"  # not by its letters
    assert last_checkpoint(tmp_path / "nowhere") is None


@pytest.mark.parametrize("name", FILES)
def test_a_checkpoint_without_a_part_is_passed_over(two, capsys, name):
    (two / "checkpoint-10" / name).unlink()
    assert last_checkpoint(two).name == "checkpoint-8"
    assert f"checkpoint-10 is passed over: its {name} is missing" in capsys.readouterr().err


@pytest.mark.parametrize("name", FILES)
def test_a_checkpoint_with_a_changed_byte_is_passed_over(two, capsys, name):
    path = two / "checkpoint-10" / name
    path.write_bytes(b"X" + path.read_bytes()[1:])
    assert last_checkpoint(two).name == "checkpoint-8"
    assert f"its {name} is damaged" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"files": 3}', "\x00\x00"])
def test_a_damaged_list_of_files_is_said(two, capsys, text):
    (two / "checkpoint-10" / "whole.json").write_text(text)
    assert last_checkpoint(two).name == "checkpoint-8"
    assert "whole.json is damaged" in capsys.readouterr().err


def test_a_checkpoint_that_was_cut_off_is_said(two, capsys):
    for number in (8, 10):
        (two / f"checkpoint-{number}" / "whole.json").unlink()
    assert last_checkpoint(two) is None
    assert capsys.readouterr().err.count("it was cut off while it was written") == 2


def test_a_line_of_the_log_is_the_mean_of_its_steps(tmp_path, clock):
    sessions, args, state = started(tmp_path)
    for state.global_step, losses in enumerate([(0.5, 0.5), (1.0, 1.0), (1.5, 1.5)], 1):
        for loss in losses:  # two passes a step, each divided by two already
            sessions.micro_batch(loss)
        clock.seconds += 2
        sessions.on_step_end(args, state, SimpleNamespace(should_save=False))
    logs = {"loss": 7.0, "learning_rate": 0.1, "epoch": 1, "total_flos": 5}
    sessions.on_log(args, state, None, logs)
    sessions.on_log(args, state, None, {"train_runtime": 1.0})
    row = {"step": 3, "loss": 2.0, "epoch": 1.0, "learning_rate": 0.1, "seconds": 6.0}
    (logged,) = read_jsonl(tmp_path / "log.jsonl")
    assert logged.pop("peak_memory_gb") > 0
    assert logged == row | {"tokens": 300, "max_steps": 12}  # half an epoch of 600
    assert sessions.sums.loss == 6.0


def test_a_checkpoint_is_asked_for_ten_minutes_after_the_last_one(tmp_path, clock):
    sessions, args, state = started(tmp_path)

    def asks(seconds):
        clock.seconds = seconds
        control = SimpleNamespace(should_save=False)
        sessions.on_step_end(args, state, control)
        return control.should_save

    assert [asks(s) for s in (1, 599, 600, 700)] == [False, False, True, True]
    state.global_step = 4
    save(sessions, args, state, tmp_path)
    assert [asks(s) for s in (800, 1299, 1300)] == [False, False, True]


def test_sums_and_log_go_on(tmp_path, clock):
    sessions, args, state = started(tmp_path)
    sessions.micro_batch(3.0)
    clock.seconds = 5
    sessions.on_step_end(args, state, SimpleNamespace(should_save=False))
    state.global_step = 1
    sessions.on_log(args, state, None, {"loss": 3.0})
    save(sessions, args, state, tmp_path)
    state.global_step = 2  # and is lost
    sessions.on_step_end(args, state, SimpleNamespace(should_save=False))
    sessions.on_log(args, state, None, {"loss": 3.0})

    clock.seconds = 1000  # the next session
    resumed, args, state = started(tmp_path, step=1)
    assert [row["step"] for row in read_jsonl(tmp_path / "log.jsonl")] == [1]
    clock.seconds = 1002
    resumed.micro_batch(1.0)
    resumed.on_step_end(args, state, SimpleNamespace(should_save=False))
    assert (resumed.sums.loss, resumed.sums.seconds) == (4.0, 7.0)
    for state.global_step in (2, 3):
        resumed.on_log(args, state, None, {"loss": 1.0})
        resumed.sums.unlogged_steps = 1
    rows = read_jsonl(tmp_path / "log.jsonl")  # the line after a checkpoint tells of it, once
    assert [row.get("checkpoint") for row in rows] == [None, 1, None]
    assert read_json(tmp_path / "checkpoint-1" / "whole.json")["sums"]["seconds"] == 5.0

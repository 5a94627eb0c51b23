"""Studies by their names: the one that suits the machine, and where its data come from."""

import pytest

import slimlib
from slimlib.studies.get import get_study


def test_auto_takes_micro_without_a_gpu_and_says_why(monkeypatch):
    cpu = slimlib.common.hardware.Device("cpu", "a laptop", None, 8.0, 4.0)
    monkeypatch.setattr("slimlib.studies.get.find_device", lambda: cpu)
    study = get_study("auto")
    assert study.name == "micro" and "no CUDA GPU" in study.reason and "laptop" in study.reason


def test_auto_takes_the_paper_s_on_a_gpu(monkeypatch):
    t4 = slimlib.common.hardware.Device("cuda", "Tesla T4", (7, 5), 14.7, 14.5)
    monkeypatch.setattr("slimlib.studies.get.find_device", lambda: t4)
    study = get_study("auto")
    assert study.name == "paper" and "Tesla T4" in study.reason


def test_an_unknown_study_lists_the_known_ones():
    with pytest.raises(ValueError, match="unknown study 'papr'; known: auto, paper, micro, smoke"):
        get_study("papr")


def test_an_unknown_arm_lists_the_known_ones():
    with pytest.raises(ValueError, match="no arm 'llama-3k'; it has: llama-instruct, llama-base"):
        get_study("micro")["llama-3k"]


def test_rehearsal_needs_a_folder_that_exists(tmp_path):
    with pytest.raises(ValueError, match="--data DIR or set SLIMLIB_DATA"):
        get_study("rehearsal")
    with pytest.raises(ValueError, match="nowhere does not exist"):
        get_study("rehearsal", str(tmp_path / "nowhere"))


def test_rehearsal_reads_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("SLIMLIB_DATA", str(tmp_path))
    assert get_study("rehearsal").data == str(tmp_path.resolve())
    assert get_study("micro").data == "world"


def test_the_paper_s_study_can_read_local_files(tmp_path):
    study = get_study("paper", str(tmp_path))
    assert study.data == str(tmp_path.resolve())
    assert all(task.source == task.name for arm in study.arms for task in arm.evaluate.tasks)


def test_a_made_up_world_takes_no_data_folder(tmp_path):
    with pytest.raises(ValueError, match="makes its own data"):
        get_study("micro", str(tmp_path))

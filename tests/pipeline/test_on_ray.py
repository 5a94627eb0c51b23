"""Ray as an engine: what is refused before it is started. test_killed_sweep.py runs it."""

import sys

import pytest

from slimlib import cli
from slimlib.common import hardware
from slimlib.pipeline import on_ray
from slimlib.pipeline.one_cell import Cells, Outcome
from slimlib.studies.design import Job

GRID = "study: smoke\ngrid: {adapter.r: [4]}\n"


def refused(capsys, tmp_path, *options):
    path, runs = tmp_path / "ranks.yaml", tmp_path / "runs"
    path.write_text(GRID, encoding="utf-8")
    assert cli.main(["sweep", str(path), "--runs", str(runs), "--engine", "ray", *options]) == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1 and said.out == "" and not runs.exists()
    return said.err


def test_without_ray_one_line_says_how_to_install_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)  # as where it is not installed
    assert "pip install 'slimlib[ray]'" in refused(capsys, tmp_path)


@pytest.mark.parametrize(
    "options",
    [
        ("--num-cpus", "0"),
        ("--num-cpus", "nan"),
        ("--num-cpus", "inf"),
        ("--num-gpus", "-1"),
        ("--num-gpus", "nan"),
    ],
)
def test_numbers_that_ask_for_nothing_are_refused(tmp_path, capsys, options):
    assert "give CPUs above 0" in refused(capsys, tmp_path, *options)


def test_a_gpu_that_is_not_there_and_too_many_workers_are_refused(tmp_path, monkeypatch, capsys):
    cpu = hardware.Device("cpu", "a CPU", None, 8.0, 8.0)
    monkeypatch.setattr(on_ray, "find_device", lambda: cpu)
    assert "sees no CUDA GPU here" in refused(capsys, tmp_path, "--num-gpus", "1")
    assert "workers=999: must be from 1" in refused(capsys, tmp_path, "--workers", "999")


def test_a_cell_fails_with_the_one_whose_adapter_it_takes(tmp_path, monkeypatch):
    monkeypatch.setattr(on_ray, "write_to", lambda log: None)
    cells = Cells(None, tmp_path, False, None)  # which nothing may be made of
    source = Outcome(Job(1, "first"), "ValueError: no loss", 2.0)
    found = on_ray._make(cells, Job(1, "second"), source)
    assert found.failure == "it takes the adapter of first, which failed"

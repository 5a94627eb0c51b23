"""Sweeps of a dozen arms that are killed, whole or a worker of Ray: they end with the same table.

Ray is no part of the tests' environment (its wheel has 79 MB, 240 MB unpacked): one is made once,
which sees the packages of this one and has Ray beside them; without a registry it is skipped.
"""

import csv
import importlib.util
import io
import json
import os
import random
import re
import signal
import site
import subprocess
import sys
import time
from pathlib import Path

import pytest
from environments import environment, pip
from places import CHECKOUT

RAY = "ray==2.60.0"
SPEC = {  # the base, 12 arms, 3 trainings; seconds an arm
    "name": "killed",
    "study": "smoke",
    "arm": "llama-2k",
    "set": {
        "data.n": 24,
        "limit": 6,
        "tasks": "micro_facts,micro_stories",
        "train.save_steps": 1,
        "train.max_steps": 12,
        "train.learning_rate": 0.02,
    },
    "grid": {"adapter.r": [2, 4, 8], "merge.scale": [0, 0.25, 0.5, 1]},
}
ARMS = 13
PATIENCE = 1500  # seconds of a machine that has much else to do
DONE = re.compile(r"^\[\d+/\d+\] seed \d+ \S+: done", re.M)


class Sweep:
    """`slimlib sweep` at work, in a process group of its own."""

    def __init__(self, root: Path, *options: str, python: str | Path = sys.executable) -> None:
        spec = root.with_suffix(".json")
        spec.write_text(json.dumps(SPEC), encoding="utf-8")
        self.out = root.with_suffix(".out")
        words = [python, "-m", "slimlib", "sweep", spec, "--runs", root, *options]
        environ = {**os.environ, "PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1"}
        with open(self.out, "wb") as stream:
            self.process = subprocess.Popen(
                [str(word) for word in words],
                stdout=stream,
                stderr=subprocess.STDOUT,
                env={**environ, "CUDA_VISIBLE_DEVICES": ""},
                cwd=root.parent,
                start_new_session=True,
            )

    def said(self) -> str:
        return self.out.read_text(encoding="utf-8", errors="replace")

    def done(self) -> int:
        """How many arms this start has finished."""
        return len(DONE.findall(self.said()))

    def wait_until(self, true) -> None:
        end = time.monotonic() + PATIENCE
        while self.process.poll() is None and not true():
            assert time.monotonic() < end, self.said()
            time.sleep(0.05)

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def end(self) -> str:
        assert self.process.wait(PATIENCE) == 0, self.said()
        return self.said()


def tables(root: Path) -> list[bytes]:
    return [(root / "records" / "killed" / f"table{n}.csv").read_bytes() for n in (1, 2)]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The tables of a sweep that nobody disturbed."""
    root = tmp_path_factory.mktemp("undisturbed") / "runs"
    said = Sweep(root).end()
    assert f"killed: {ARMS} cells asked for, 0 are done already" in said
    found = tables(root)
    columns = {*zip(*csv.reader(io.StringIO(found[1].decode())), strict=True)}
    assert len(columns) > ARMS // 2  # what an arm is shows in its scores
    return found


@pytest.mark.slow
def test_a_sweep_killed_at_three_random_moments_ends_with_the_same_tables(undisturbed, tmp_path):
    draw, root, already = random.Random(), tmp_path / "runs", 0
    for _ in range(3):
        sweep = Sweep(root)
        more, pause = draw.randint(1, 3), draw.uniform(0, 2)
        sweep.wait_until(lambda sweep=sweep, more=more: sweep.done() >= more)
        time.sleep(pause)
        assert sweep.process.poll() is None, sweep.said()
        sweep.kill()
        found = int(re.search(r"(\d+) are done already", sweep.said())[1])
        assert found >= already  # what was done is not made again
        already = found + sweep.done()
    said = Sweep(root).end()
    assert int(re.search(r"(\d+) are done already", said)[1]) >= already >= 3
    assert tables(root) == undisturbed


# --------------------------------------------------------------------------------------------- Ray


@pytest.fixture(scope="module")
def with_ray() -> str | Path:
    """A Python that has Ray."""
    if importlib.util.find_spec("ray"):
        return sys.executable

    def install(python: Path) -> None:
        place = subprocess.check_output(
            [python, "-c", "import site; print(site.getsitepackages()[0])"], text=True
        )
        layers = "\n".join(site.getsitepackages())
        Path(place.strip(), "layer.pth").write_text(layers, encoding="utf-8")
        pip(python, RAY)

    return environment("ray", RAY + sys.executable, install)


def in_training(root: Path) -> int | None:
    """A process that trains an arm and has saved a checkpoint of it."""
    for path in root.glob("seed-*/killed/*/checkpoints/checkpoint-*/whole.json"):
        arm = path.parents[2]
        try:
            holder = json.loads((arm.parent / "locks" / f"{arm.name}.json").read_text("utf-8"))
        except (OSError, ValueError):  # it has just ended
            continue
        if holder["works at"] == f"finetune {arm.name}":
            return holder["process"]
    return None


@pytest.mark.slow
def test_ray_with_two_workers_of_which_one_is_killed_ends_with_the_same_tables(
    undisturbed, with_ray, tmp_path
):
    root = tmp_path / "runs"
    sweep = Sweep(root, "--engine", "ray", "--workers", "2", "--num-cpus", "1", python=with_ray)
    sweep.wait_until(lambda: in_training(root))
    victim = in_training(root)
    assert [*root.glob(f"worker-*-{victim}.log")], sweep.said()
    os.kill(victim, signal.SIGKILL)
    said = sweep.end()
    assert sweep.done() == ARMS and ": failed" not in said
    logs = [path.read_text(encoding="utf-8") for path in root.glob("worker-*.log")]
    assert len(logs) > 2  # another took its place, and went on where it was
    assert any("resuming from checkpoint-" in log for log in logs)
    assert tables(root) == undisturbed

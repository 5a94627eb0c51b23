"""`run` and `sweep`, killed in each stage and between writes: two a goal; run.py kills more."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from places import CHECKOUT

HERE = Path(__file__).parent


@pytest.mark.slow
@pytest.mark.parametrize("command", ["run", "sweep"])
def test_what_is_killed_in_each_stage_ends_as_an_undisturbed_one(command):
    words = [sys.executable, HERE / "run.py", "--only", command, "--kills", "2"]
    done = subprocess.run(words, cwd=CHECKOUT, capture_output=True, text=True, timeout=1500)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]


def test_no_kill_of_the_record_showed():
    record = json.loads((HERE / "kills.json").read_text(encoding="utf-8"))
    assert {*record["commands"]} == {"run", "sweep"}
    for tried in record["commands"].values():
        assert {*tried["kills"]} == {"finetune", "merge", "evaluate", "change"}
        assert all(chain["wrong"] == [] for chain in tried["chains"])

"""The tests of metrics/ and comparison/ can fail: few wrong lines get past them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from places import CHECKOUT

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
from mutants import mutants  # noqa: E402

SAMPLE, SEED = 150, 11


@pytest.mark.slow
def test_few_mutants_of_a_sample_survive():
    command = [sys.executable, HERE / "run.py", "--sample", str(SAMPLE), "--seed", str(SEED)]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]


def test_few_survived_the_whole_run_on_record():
    """record.json: `run.py --record` of all mutants, half an hour on two cores."""
    counts = json.loads((HERE / "record.json").read_text(encoding="utf-8"))["counts"]
    modules = [found for name, found in counts.items() if name != "all"]
    for kind in ("mutants", "killed", "survived", "explained"):
        assert counts["all"][kind] == sum(found[kind] for found in modules)
    assert counts["all"]["survived"] <= 0.05 * counts["all"]["mutants"]


def test_each_explanation_is_of_a_mutant_that_is_made():
    entries = json.loads((HERE / "explained.json").read_text(encoding="utf-8"))
    known = {m.key for e in entries for m in mutants(CHECKOUT, e["mutant"][0])}
    assert [e["mutant"] for e in entries if tuple(e["mutant"]) not in known] == []
    assert all(entry["why"] for entry in entries)


def test_what_is_made_wrong(tmp_path: Path):
    text = '''
"""Doc."""
LEVEL = 0.05
def sign(low, high, strict=True):
    if low < high and not strict:
        return max(low, 1)
    raise ValueError(f"{low + high}")
def ends(values):
    return sorted(values, reverse=True)[0] == 1
def near(values, weights):
    return values @ weights < 1e-9
'''
    (tmp_path / "module.py").write_text(text)
    assert [m.change for m in mutants(tmp_path, "module.py")] == [
        "0.05 -> 0.1",
        "True -> False",
        "low < high and (not strict) -> low < high or not strict",
        "low < high and (not strict) -> its opposite",
        "low < high -> low <= high",
        "low -> high",
        "high -> low",
        "not strict -> strict",
        "max -> min",
        "low -> high",
        "1 -> 2",
        "sorted(values, reverse=True)[0] == 1 -> sorted(values, reverse=True)[0] != 1",
        "reverse=True -> left out",
        "True -> False",
        "0 -> 1",
        "1 -> 2",
        "1e-09 -> 0.001",
    ]


def test_the_code_of_a_mutant_has_one_thing_wrong(tmp_path: Path):
    (tmp_path / "module.py").write_text("def ends(a, b):\n    return a + b, a * b\n")
    found = {}
    for m in mutants(tmp_path, "module.py"):
        names = {}
        exec(m.code(), names)
        found[m.change] = names["ends"](6, 3)
    assert found == {"a + b -> a - b": (3, 18), "a * b -> a / b": (9, 2)}

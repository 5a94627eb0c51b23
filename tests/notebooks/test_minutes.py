"""The minutes that the notebooks and READMEs promise on a T4 are those of the predictor."""

import pytest
from places import CHECKOUT

import slimlib
from slimlib.studies.get import get_study

GB = 2**30


@pytest.fixture(scope="module")
def needs():
    return {arm.name: slimlib.estimate(arm) for arm in get_study("paper").arms}


def text(name):
    return (CHECKOUT / name).read_text(encoding="utf-8")


def test_where_the_minutes_come_from(needs):
    page = text("notebooks/README.md").partition("## Where the minutes come from")[2]
    lines = [line for line in page.splitlines() if line.startswith("|")]
    cells = {(row := [c.strip() for c in line.split("|")])[1]: row[2:4] for line in lines}
    trained = {
        "Llama, 2,000 rows": ("llama-2k", 1),
        "Llama, 500 rows": ("llama-500-r8", 1),
        "TinyLlama, 50,000 rows": ("tinyllama-50k", 0),
    }
    for title, (arm, digits) in trained.items():
        does, minutes = cells[title]
        assert does.startswith(f"{needs[arm].steps:,} steps")
        assert minutes.split()[0] == f"{needs[arm].minutes('training'):.{digits}f}"
    for title, arm in (("Llama", "llama-base"), ("TinyLlama", "tinyllama-base")):
        asked = cells[f"evaluation, an arm of {title}"]
        assert asked[1] == f"{needs[arm].minutes('evaluation'):.0f}"


def test_what_all_arms_take(needs):
    trained = sum(one.minutes("training") for one in needs.values())
    evaluated = sum(one.minutes("evaluation") for one in needs.values())
    drive = sum(sum(one.drive.values()) for one in needs.values()) / GB
    page = " ".join(text("notebooks/README.md").split())
    assert f"so {trained:.0f} minutes of training and {evaluated:.0f} of evaluation" in page
    assert f"On Drive the run takes {drive:.1f} GB" in page
    assert f"| adapters, loss curves | {trained:.0f} min |" in text("README.md")
    assert f"every answer kept | {evaluated:.0f} min |" in text("README.md")
    large = needs["tinyllama-50k"].minutes("training")
    head = f"| {trained:.0f} (TinyLlama's 50,000 rows: {large:.0f}; an estimate) |"
    assert head in text("notebooks/02_finetune.ipynb")
    assert f"| {evaluated:.0f} (an estimate) |" in text("notebooks/04_evaluate.ipynb")

"""A comparison to hand on: page, JUnit, JSON, and what a CI stops at."""

import json
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from slimlib.comparison.change import FORGOT, KEPT
from slimlib.comparison.two_models import Comparison, compare
from slimlib.comparison.validity import BROKEN
from slimlib.report.verdicts import failures, html_page, junit, write_report


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    """One task lost, one kept and one broken, of models with a hostile name."""
    scores = {"acc,none": 0.8, "acc_stderr,none": 0.01}
    names = ("boolq", "copa", "winogrande")
    source = {"results": dict.fromkeys(names, scores), "model_name": "<b>a&b</b>"}
    found = compare(source, source)
    verdicts = (FORGOT, KEPT, BROKEN)
    changes = (replace(c, verdict=v) for c, v in zip(found.changes, verdicts, strict=True))
    return replace(found, changes=tuple(changes))


@pytest.mark.parametrize(
    ("fail_on", "tasks"),
    [("forgot", ["boolq"]), ("broken", ["winogrande"]), ("any", ["boolq", "winogrande"])],
)
def test_what_a_ci_stops_at(comparison, fail_on, tasks):
    assert [change.task for change in failures(comparison, fail_on)] == tasks


def test_another_word_is_refused(comparison):
    with pytest.raises(ValueError, match="--fail-on lost: must be forgot, broken, any"):
        failures(comparison, "lost")


def test_junit_has_a_case_a_task(comparison):
    suite = ElementTree.fromstring(junit(comparison))
    assert suite.attrib | {"name": ""} == {"name": "", "tests": "3", "failures": "1", "errors": "1"}
    children = {case.get("name"): case[0].tag for case in suite}
    assert children == {
        "boolq, acc": "failure",
        "copa, acc": "system-out",
        "winogrande, acc": "error",
    }
    assert suite[0][0].text == comparison.sentence(comparison.changes[0])


def test_the_page_needs_nothing_else_and_holds_no_markup_of_names(comparison):
    page = html_page(comparison)
    assert page.startswith("<!doctype html>") and "<svg" in page
    assert comparison.answer() in page
    assert "<b>a" not in page and "http://" not in page.replace("http://www.w3.org", "")
    assert "<script" not in page and "src=" not in page


@pytest.mark.parametrize("ending", [".html", ".xml", ".json", ".md"])
def test_the_name_says_the_format(comparison, ending, tmp_path):
    path = write_report(comparison, tmp_path / f"report{ending}")
    text = path.read_text(encoding="utf-8")
    assert text.lstrip()[0] in {".json": "{", ".md": "#"}.get(ending, "<")
    if ending == ".json":
        assert json.loads(text)["answer"] == comparison.answer()


def test_another_ending_is_refused_and_writes_nothing(comparison, tmp_path):
    with pytest.raises(ValueError, match="report.pdf: the name must end with .html, .xml"):
        write_report(comparison, tmp_path / "report.pdf")
    assert not [*tmp_path.iterdir()]

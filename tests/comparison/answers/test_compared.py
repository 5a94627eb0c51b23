"""Answers of two compared models: which tasks have them, and why the others have none."""

from dataclasses import replace

import pytest
from test_outcome import gsm8k, results, samples

from slimlib.comparison.answers.compared import compared_answers, without_answers
from slimlib.results import TaskResults


def named(name, task=None):
    return replace(task or gsm8k(["#### 2"], [2]), task=name)


FULL = named("gsm8k")
BARE = replace(FULL, load_rows=None)  # scores, but no answers
MEAN = replace(FULL, samples={k: samples([0], exact_match=[0.5]) for k in FULL.samples})
OTHER = TaskResults("boolq", {}, {"none": samples([0], acc=[1])})


def test_answers_are_found_by_task_and_by_role():
    both = [results(FULL, named("sums"), OTHER, name=name) for name in ("A", "B")]
    found = compared_answers(*both, {"sums": None, "gsm8k": "arithmetic", "boolq": "facts"})
    assert list(found) == ["sums", "gsm8k"]
    assert found["sums"].task == "sums" and found["gsm8k"] is found["arithmetic"]
    assert (found["sums"].base, found["sums"].tuned) == ("A", "B")
    with pytest.raises(ValueError, match="no answers of 'facts'; there are those of: sums, gsm8k"):
        found["facts"]
    with pytest.raises(ValueError, match="no answers of 'x'; .*none, since no task has generated"):
        compared_answers(*both, {"boolq": "facts"})["x"]


def test_answers_are_of_both_sides():
    for sides in ((FULL, BARE), (BARE, FULL), (MEAN, FULL), (FULL, MEAN)):
        base, tuned = map(results, sides)
        assert compared_answers(base, tuned, {"gsm8k": None}) == {}


def test_what_differs_in_settings_is_compared_all_the_same():
    base, tuned = (results(replace(FULL, num_fewshot=shots)) for shots in (0, 5))
    assert list(compared_answers(base, tuned, {"gsm8k": None})) == ["gsm8k"]


@pytest.mark.parametrize(
    ("base", "tuned", "said"),
    [
        (FULL, FULL, None),
        (FULL, BARE, "no answers of B;"),
        (BARE, FULL, "no answers of A;"),
        (BARE, BARE, "no answers of A and B;"),
        (FULL, MEAN, "a mean over seeds"),
        (MEAN, FULL, "a mean over seeds"),
        (MEAN, BARE, "no answers of B;"),
        (named("other"), BARE, None),  # not of both
        (replace(BARE, samples={"strict-match": BARE.samples["strict-match"]}), FULL, None),
        (FULL, replace(BARE, samples={"flexible-extract": samples([0], acc=[1])}), None),
        (BARE, replace(BARE, samples={k: samples([0], acc=[1]) for k in BARE.samples}), None),
    ],
)
def test_why_there_are_no_answers(base, tuned, said):
    lines = without_answers(results(base, OTHER, name="A"), results(tuned, OTHER, name="B"))
    assert len(lines) == (said is not None)
    for line in lines:
        assert line.startswith("gsm8k: format or ability? Not told: ") and said in line


def test_every_task_is_looked_at_in_the_base_s_order():
    base, tuned = results(OTHER, named("x", BARE), BARE), results(BARE, named("x", BARE))
    assert [line.partition(":")[0] for line in without_answers(base, tuned)] == ["x", "gsm8k"]
    assert "answers of model;" in without_answers(base, tuned)[0]  # one name for both

"""Knobs against the plain arm: hand-computed effects, Holm, the front, and when it is decided."""

import math
from dataclasses import replace

import numpy as np
import pytest
from made_records import task_entry
from text_boxes import WIDTHS, faults

from slimlib import metrics
from slimlib.common.schema import SCHEMA
from slimlib.comparison.knobs import (
    BETTER,
    OPEN,
    SAME,
    WORSE,
    Place,
    _joined,
    _p,
    _verdict,
    measure_mitigation,
    pareto_front,
    scale_paths,
)
from slimlib.config import to_dict
from slimlib.metrics import Estimate, Spread
from slimlib.report.tradeoff import plot_scale_paths, plot_tradeoff
from slimlib.results import ResultsError
from slimlib.studies.get import get_study

STUDY = get_study("mitigation_smol")
N = 200
BASE = {"alpaca": 60, "hellaswag": 120, "piqa": 140}
PLAIN = {"alpaca": 100, "hellaswag": 60, "piqa": 140}


def record(arm, right, seed=0, **more):
    """The first `right` of N documents are right, one more with each seed."""
    tasks = {
        f"task_of_{role}": task_entry(role, [int(i < count + seed) for i in range(N)]) | more
        for role, count in right.items()
    }
    return {
        "schema": SCHEMA,
        "study": STUDY.name,
        "arm": arm,
        "label": STUDY[arm].label,
        "compared_with": STUDY[arm].compared_with,
        "seed": seed,
        "config": to_dict(STUDY[arm]),
        "stages": {"evaluate": {"status": "done", "tasks": tasks}},
    }


def measured(knobs, seeds=(0, 1, 2), base=BASE, plain=PLAIN):
    records = [record("base", base), *(record("plain", plain, s) for s in seeds)]
    records += [record(arm, right) for arm, right in knobs.items()]
    return measure_mitigation(records, STUDY)


def test_an_effect_is_the_difference_with_the_chance_of_documents_and_of_runs():
    """Plain 60, 61, 62 of 200 right: 30.5 %; the knob 100: 50 %. Runs: SD 0.5 points, 2 df."""
    found = measured({"into-16bit": PLAIN | {"hellaswag": 100}})
    (effect,) = [e for e in found.effects() if e.role == "hellaswag"]
    plain = np.stack([[int(i < 60 + s) for i in range(N)] for s in range(3)]).mean(axis=0)
    knob = np.array([int(i < 100) for i in range(N)])
    documents = Spread((100 * (knob - plain)).var(ddof=1) / N, N - 1)
    runs = Spread(0.25 * (1 / 3 + 1), 2)  # of three runs, and of one
    by_hand = metrics.cochran_cox(19.5, [documents, runs])
    assert effect.found.difference == pytest.approx(by_hand) and effect.verdict == BETTER
    assert effect.found.p_value == pytest.approx(metrics.cochran_cox_p(19.5, [documents, runs]))


def test_p_is_corrected_over_all_knobs_and_benchmarks():
    knobs = {"into-16bit": PLAIN | {"hellaswag": 90}, "r-4": PLAIN | {"piqa": 125, "alpaca": 101}}
    effects = measured(knobs).effects()
    assert len(effects) == 6
    raw = [e.found.p_value for e in effects]
    assert [e.p_holm for e in effects] == pytest.approx(metrics.holm(raw))
    verdicts = {(e.arm, e.role): e.verdict for e in effects}
    assert verdicts["into-16bit", "hellaswag"] == BETTER and verdicts["r-4", "piqa"] == WORSE
    table = measured(knobs).table()
    assert [*table["side"]] == ["kept", "kept", "learned"] * 2  # as the study lists them
    assert {*table["verdict"]} >= {BETTER, WORSE}
    assert measured(knobs).in_words().loc["rank 4, same scale", "PIQA"].startswith("-8.0 [")


def test_of_single_runs_the_claim_is_about_these_runs():
    found = measured({"into-16bit": PLAIN | {"hellaswag": 66}}, seeds=(0,))
    (effect,) = [e for e in found.effects() if e.role == "hellaswag"]
    assert effect.found.test == "exact McNemar"
    assert effect.found.p_value == pytest.approx(2 / 2**6) and effect.found.gained == 6


def test_what_keeps_more_and_learns_as_much_is_recommended():
    knobs = {
        "into-16bit": PLAIN | {"hellaswag": 120, "alpaca": 106},  # all kept
        "r-4": PLAIN | {"hellaswag": 119, "alpaca": 106},  # not told apart from it
        "kl-0.1": BASE,  # keeps all, and learns nothing
        "rslora": PLAIN | {"hellaswag": 61},
    }
    advice = measured(knobs).advise()
    assert advice.arm == "into-16bit"
    assert "it keeps 14.5 points more" in advice.text and "Not told apart from it: rank 4" in (
        advice.text
    )
    assert "KL" not in advice.text and "rsLoRA" not in advice.text


def test_where_records_do_not_decide_it_says_so():
    nothing = measured({"rslora": PLAIN | {"hellaswag": 62}}).advise()
    assert nothing.arm is None and "Not decided: none is shown to keep more" in nothing.text
    unharmed = measured({"rslora": PLAIN}, plain=PLAIN | {"hellaswag": 120}).advise()
    assert "the plain arm itself loses less than 2 points" in unharmed.text
    only_kept = [{k: v for k, v in s.items() if k != "alpaca"} for s in (BASE, PLAIN)]
    unknown = measured({"rslora": only_kept[1]}, base=only_kept[0], plain=only_kept[1])
    assert "no record says what was learned" in unknown.advise().text and unknown.places() == []
    with pytest.raises(ValueError, match="nothing to draw: its records need the base, a benchmark"):
        plot_tradeoff(unknown)


def test_the_front_is_what_no_other_beats():
    """Learned and kept against the base; kept is the mean of HellaSwag and PIQA."""
    knobs = {
        "into-16bit": PLAIN | {"hellaswag": 120},  # beats the plain arm
        "kl-0.1": PLAIN | {"alpaca": 70, "hellaswag": 130},  # keeps more, learns less
        "r-4": PLAIN | {"alpaca": 90, "hellaswag": 110},  # beaten by the first
    }
    found = measured(knobs, seeds=(0,))
    places = {p.arm: (p.learned.difference.value, p.kept.difference.value) for p in found.places()}
    assert places["plain"] == pytest.approx((20, -15))
    assert places["kl-0.1"] == pytest.approx((5, 2.5))
    assert pareto_front(found.places()) == ["into-16bit", "kl-0.1"]
    ax = plot_tradeoff(found)
    texts = [text.get_text() for text in ax.texts]
    assert texts[:4] == ["1", "2", "3", "4"]
    assert texts[4].splitlines() == [
        "1  plain fine-tuning (QLoRA)",
        "2  into the un-quantised base",
    ]
    assert ax.figure.get_suptitle().splitlines()[0] == (
        "No arm learned and kept more than: into the un-quantised base / KL to the base, 0.1."
    )
    assert [faults(ax.figure, width) for width in WIDTHS] == [[], []]
    dashed = next(line for line in ax.lines if line.get_linestyle() == "--")
    assert dashed.get_xdata() == pytest.approx([5, 20])


def test_two_equal_arms_are_both_on_the_front():
    found = measured({"into-16bit": PLAIN, "r-4": BASE}, seeds=(0,))
    assert pareto_front(found.places()) == ["plain", "into-16bit", "r-4"]


def test_documents_that_belong_together_are_one_draw():
    """Two rows of each equation, always alike: the interval is that of half as many."""
    clusters = [str(i // 2) for i in range(N)]
    plain, knob = {"digits_words": 60, "alpaca": 100}, {"digits_words": 120, "alpaca": 100}
    alone = [record("plain", plain), record("into-16bit", knob)]
    tied = [
        record("plain", plain, clusters=clusters),
        record("into-16bit", knob, clusters=clusters),
    ]
    widths = []
    for records in (alone, tied):
        (effect, _) = measure_mitigation(records, STUDY).effects()
        assert effect.role == "digits_words"
        assert effect.found.difference.value == pytest.approx(30)
        widths.append(effect.found.difference.high - effect.found.difference.low)
    assert widths[1] == pytest.approx(math.sqrt(2) * widths[0], rel=0.05)


def test_shares_of_one_adapter_are_a_path():
    paths = scale_paths(STUDY)
    assert [arm.name for arm in paths["plain, dequant_nf4"]] == ["scale-0.5", "scale-0.75", "plain"]
    assert {*paths} == {"plain, dequant_nf4"}
    found = measured({"scale-0.5": BASE, "scale-0.75": PLAIN}, seeds=(0,))
    ax = plot_scale_paths(found)
    assert [faults(ax.figure, width) for width in WIDTHS] == [[], []]
    kept = ax.containers[0].lines[0]
    assert kept.get_xdata().tolist() == [0.5, 0.75, 1]
    assert kept.get_ydata() == pytest.approx([0, -15, -15])
    with pytest.raises(ValueError, match="no results at several merge.scale"):
        plot_scale_paths(measured({"r-4": PLAIN}))


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match="no results of its plain arm plain: run it first"):
        measure_mitigation([record("base", BASE)], STUDY)
    other = record("r-4", PLAIN, documents="others")
    with pytest.raises(ResultsError, match="plain and r-4 answered different documents of "):
        measure_mitigation([record("plain", PLAIN), other], STUDY)


def test_a_knob_without_results_is_named_and_no_knob_is_no_error():
    found = measured({})
    assert found.knobs == [] and found.effects() == [] and "into-16bit" in found.missing
    assert found.advise().arm is None and found.table().empty and OPEN


def spread_over(value, low, high, p=None, p_equivalence=None):
    """A contrast of these numbers; the rest is that of a measured one."""
    effect = measured({"r-4": PLAIN}, seeds=(0,)).effects()[0]
    limits = Estimate(value, low, high)
    return replace(effect.found, difference=limits, p_value=p, p_equivalence=p_equivalence)


@pytest.mark.parametrize(
    ("value", "p", "p_equivalence", "verdict"),
    [
        (0.5, 0.04, 0.9, BETTER),
        (-0.5, 0.04, 0.9, WORSE),
        (0.5, 0.05, 0.05, OPEN),  # at the level is not below it
        (0.5, 0.05, 0.04, SAME),
        (0.5, 0.5, 0.9, OPEN),
    ],
)
def test_the_verdict_of_an_effect(value, p, p_equivalence, verdict):
    assert _verdict(spread_over(value, -1, 1, p, p_equivalence), p, 0.05) == verdict


def test_a_p_that_is_not_known_counts_as_one():
    assert [_p(spread_over(0, 0, 0, p)) for p in (None, math.nan, 0.25)] == [1.0, 1.0, 0.25]


def test_benchmarks_joined_weigh_the_same_whatever_their_size():
    """Two documents and four: six in all, each benchmark's mean is half of the whole mean."""
    two, four = np.array([[1.0, 0], [1, 1]]), np.array([[1.0, 1, 1, 0]])
    joined = _joined([two, four])
    assert joined == pytest.approx(np.array([[1.5, 0, 0.75, 0.75, 0.75, 0]]))
    assert joined.mean() == pytest.approx((0.5 + 0.75) / 2)


def test_arms_that_are_alike_in_one_and_differ_in_the_other():
    def place(arm, learned, kept):
        return Place(arm, spread_over(learned, 0, 0), spread_over(kept, 0, 0))

    assert pareto_front([place("a", 1, 1), place("b", 2, 1), place("c", 1, 0)]) == ["b"]


def test_limits_are_in_their_columns():
    found = measured({"into-16bit": PLAIN | {"hellaswag": 100}})
    (low, high), (effect, *_) = found.table()[["low", "high"]].to_numpy()[0], found.effects()
    assert (low, high) == (effect.found.difference.low, effect.found.difference.high) and low < high
    (row,) = found.in_words().to_dict("records")
    label = STUDY.task_labels[effect.role]
    assert f"[{low:+.1f}, {high:+.1f}], p " in row[label]
    assert "base" not in found.missing and "into-16bit" not in found.missing


def test_what_may_be_too_much_less_is_not_as_much():
    """Of what is learned half a point less, and two and a half up or down: the low end counts."""
    advice = measured({"into-16bit": PLAIN | {"hellaswag": 120}}).advise()
    assert advice.arm is None and "none is shown to keep more" in advice.text
    hardly = measured({"rslora": PLAIN}, plain=PLAIN | {"hellaswag": 112}).advise()
    assert hardly.arm is None and "none is shown to keep more" in hardly.text

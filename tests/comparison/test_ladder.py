"""The ladder and the study's questions: steps add up, gaps are named, shares of what is real."""

import json

import numpy as np
import pytest
from made_records import MICRO, N, make_record, set_scores

from slimlib import metrics
from slimlib.common.schema import unpack_scores
from slimlib.comparison import benchmarks
from slimlib.comparison.change import FORGOT, UNKNOWN
from slimlib.comparison.ladder import attribute, attribution_of
from slimlib.report import committed
from slimlib.studies.get import get_study

SEEDS = committed.committed_records("micro")


def scores_of(record, role="gsm8k", metric=benchmarks.FLEXIBLE):
    task = record["stages"]["evaluate"]["tasks"][f"task_of_{role}"]
    return unpack_scores(task["metrics"][metric]["scores"])


def ladder_of(*right):
    """One record per rung whose first `right` of 100 answers are right."""
    records = [make_record(arm, n=100, roles=()) for arm in MICRO.ladder]
    for record, count in zip(records, right, strict=True):
        set_scores(record, "gsm8k", [1] * count + [0] * (100 - count))
    return records


@pytest.fixture(scope="module")
def records():
    return [make_record(arm.name) for arm in MICRO.arms]


@pytest.fixture(scope="module")
def attribution(records):
    return attribute(MICRO, records)


# ------------------------------------------------------------------------------- degenerate first


def test_without_two_rungs_the_way_out_is_named(records):
    with pytest.raises(ValueError, match="results of 0 arms of its ladder.*slimlib run --study"):
        attribute(MICRO, [])
    with pytest.raises(ValueError, match="results of 1 arms"):
        attribute(MICRO, records[1:2])
    for few in ([], records[1:2]):
        found = attribution_of(few, MICRO)
        assert found.steps == found.totals == {}


def test_records_by_seed_are_refused_and_the_way_out_is_named():
    message = "records is a mapping of 1, 2, 3407, not a list of records; .*committed.pool"
    with pytest.raises(ValueError, match=message):
        attribute("micro", SEEDS)


def test_records_of_another_study_are_refused(records):
    with pytest.raises(ValueError, match="table of smoke"):
        attribute("smoke", records)


def test_a_missing_rung_gives_its_cause_to_the_next_step(records):
    found = attribute(MICRO, [r for r in records if r["arm"] != "llama-base-nf4"])
    step = found.steps["gsm8k"][1]
    assert (step.before, step.after) == ("llama-base", "llama-2k")
    assert step.cause == "quantisation to NF4 + fine-tuning"
    assert found.missing == ("llama-base-nf4",)
    assert "without results: llama-base-nf4" in found.sentences()


def test_a_rung_left_out_by_an_override_still_gives_its_cause(records):
    study = get_study("micro", arms="llama-base,llama-2k")
    kept = [r for r in records if r["arm"] in ("llama-base", "llama-2k")]
    (step,) = attribute(study, kept).steps["gsm8k"]
    assert step.cause == "quantisation to NF4 + fine-tuning"


# --------------------------------------------------------------------------------------- the ladder


def test_the_steps_add_up_to_the_whole_and_equal_the_paired_statistics(records, attribution):
    by_arm = {record["arm"]: record for record in records}
    for role in MICRO.task_labels:
        steps, total = attribution.steps[role], attribution.totals[role]
        assert [(s.before, s.after) for s in steps] == list(
            zip(MICRO.ladder, MICRO.ladder[1:], strict=False)
        )
        assert sum(s.change.difference.value for s in steps) == pytest.approx(
            total.difference.value
        )
    for step in attribution.steps["gsm8k"]:
        pair = [scores_of(by_arm[arm]) for arm in (step.before, step.after)]
        assert step.change.difference == metrics.paired_difference(*pair)
        assert step.change.p_value == metrics.mcnemar_test(*pair).p_value


def test_shares_of_the_whole_by_hand():
    steps = attribute(MICRO, ladder_of(90, 90, 50, 52, 40)).steps["gsm8k"]
    assert [s.change.verdict == FORGOT for s in steps] == [False, True, False, True]
    assert [s.share for s in steps] == [None, pytest.approx(80), None, pytest.approx(24)]


def test_each_step_has_its_cause(attribution):
    causes = [step.cause for step in attribution.steps["gsm8k"]]
    assert causes == [MICRO.causes[arm] for arm in MICRO.ladder[1:]]


def test_a_step_the_other_way_has_a_share_below_0():
    found = attribute(MICRO, ladder_of(60, 90, 20, 20, 20))
    assert [s.share for s in found.steps["gsm8k"][:2]] == pytest.approx([-75, 175])
    said = found.sentences().splitlines()
    assert said[1].endswith("gained, -75 % of the whole") and said[3].endswith("may be chance")


def test_a_change_that_may_be_chance_has_no_shares():
    found = attribute(MICRO, ladder_of(50, 51, 50, 52, 51))
    assert [s.share for s in found.steps["gsm8k"]] == [None] * 4
    assert "of the whole" not in found.sentences()


def test_holm_runs_over_all_steps_and_benchmarks(attribution):
    changes = [s.change for steps in attribution.steps.values() for s in steps]
    assert len(changes) == 12
    corrected = metrics.holm([c.p_value for c in changes])
    assert [c.p_holm for c in changes] == pytest.approx(corrected)


def test_the_level_reaches_steps_totals_and_questions():
    strict = attribute(MICRO, ladder_of(90, 90, 50, 52, 40), alpha=1e-15)
    assert {s.change.verdict for s in strict.steps["gsm8k"]} == {UNKNOWN}
    assert strict.totals["gsm8k"].verdict == UNKNOWN
    assert {comparison.alpha for _, comparison in strict.answers} == {1e-15}


def test_several_seeds_are_their_mean_per_document(records):
    tuned = [make_record("llama-2k", seed=seed) for seed in (0, 1, 2)]
    others = [r for r in records if r["arm"] != "llama-2k"]
    step = attribute(MICRO, [*others, *tuned]).steps["gsm8k"][2]
    mean = np.mean([scores_of(r) for r in tuned], axis=0)
    base = next(scores_of(r) for r in records if r["arm"] == "llama-base-nf4")
    assert step.change.difference.value == pytest.approx(100 * (mean - base).mean())
    assert step.change.p_t == pytest.approx(metrics.paired_t_test(base, mean).p_value)
    assert step.change.n == N and step.change.seeds == (1, 3)
    assert step.change.subject == "this recipe"


# ------------------------------------------------------------------------------------ the questions


def test_the_studys_questions_are_answered_on_all_tasks_with_holm(records, attribution):
    asked = [(question.base, question.tuned) for question, _ in attribution.answers]
    assert asked == [(q.base, q.tuned) for q in MICRO.comparisons]
    for _, comparison in attribution.answers:
        assert {c.role for c in comparison.headlines} == set(MICRO.task_labels)
        raw = [c.p_value for c in comparison.headlines]
        assert [c.p_holm for c in comparison.headlines] == pytest.approx(metrics.holm(raw))
    for question, comparison in attribution.answers:
        labels = [MICRO[arm].label for arm in (question.base, question.tuned)]
        assert [comparison.base.name, comparison.tuned.name] == labels
        assert question.text in attribution.sentences()


def test_two_models_that_are_not_before_and_after_are_worse_or_better_not_forgetful(attribution):
    told = attribution.sentences().split(MICRO.comparisons[0].text)[1]
    assert "worse" in told and "forgot" not in told


def test_a_question_whose_arm_was_not_run_is_left_out(records):
    kept = [r for r in records if r["arm"] in MICRO.ladder]
    assert [q.tuned for q, _ in attribute(MICRO, kept).answers] == ["llama-2k"]


# ------------------------------------------------------------------------------------------ outputs


def test_every_output_tells_the_same(attribution):
    table = attribution.table()
    assert len(table) == 3 * 5
    told = json.loads(json.dumps(attribution.to_dict(), allow_nan=False))
    assert len(told["ladder"]["gsm8k"]["steps"]) == 4
    verdicts = [step["change"]["verdict"] for step in told["ladder"]["gsm8k"]["steps"]]
    ours = table[table["role"] == "gsm8k"]
    assert [*verdicts, attribution.totals["gsm8k"].verdict] == ours["verdict"].tolist()
    assert ours["difference"].iloc[:4].sum() == pytest.approx(ours["difference"].iloc[4])
    assert table["base"].dtype == float and ours["cause"].iloc[-1] == "all steps"
    lines = attribution.to_markdown().splitlines()
    assert sum(line.startswith("|") for line in lines) == 2 + 15
    assert MICRO.comparisons[0].text in attribution._repr_html_()
    assert "nan" not in attribution.sentences() + attribution.to_markdown()


def test_a_waterfall_by_role_task_or_label(attribution):
    from matplotlib.figure import Figure

    label = MICRO.task_labels["gsm8k"]
    for name in ("gsm8k", "task_of_gsm8k", label, "Arithmetic", None):
        title = attribution.plot(name, Figure().subplots()).get_title("left")
        assert title.startswith(f"{label}: flexible, n = ")
    assert not attribution.plot("facts", Figure().subplots()).get_title("left").startswith(label)
    with pytest.raises(ValueError, match="no benchmark 'sums'; it has: gsm8k .arithmetic"):
        attribution.plot("sums")


def test_the_repr_is_short(attribution):
    told = repr(attribution)
    assert told.startswith("<Attribution of micro; arithmetic (as GSM8K): ") and len(told) < 200


def test_the_committed_micro_ladder_says_that_fine_tuning_lost_it():
    found = attribute("micro", committed.pool(SEEDS))
    for role in MICRO.task_labels:
        steps = {step.cause: step for step in found.steps[role]}
        assert steps["fine-tuning"].change.verdict == FORGOT
        assert steps["quantisation to NF4"].change.verdict == UNKNOWN
        assert steps["fine-tuning"].share > 90

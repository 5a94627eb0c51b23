"""Comparing two results: the paper's numbers, per-document oracles, verdicts, what is refused."""

import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest
from places import LM_EVAL, RECORDS
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from test_sentences import CHANGE

import slimlib
from slimlib.common.files import read_json, write_json
from slimlib.comparison import two_models
from slimlib.comparison.change import FORGOT, HEADLINE, IMPROVED, KEPT, OTHER, SUBTASK, UNKNOWN
from slimlib.comparison.sentences import LEGEND, rules, verdict_sentence
from slimlib.comparison.signatures import check_signatures
from slimlib.comparison.two_models import Comparison, compare
from slimlib.comparison.validity import BROKEN, NOTHING
from slimlib.results import Results, ResultsError, Samples, Score, TaskResults

STRICT, FLEXIBLE = "exact_match,strict-match", "exact_match,flexible-extract"
COUNTS = {"gsm8k": 1319, "hellaswag": 10042, "mmlu_high_school_computer_science": 100}
PUBLISHED = {  # the exact scores behind the paper's Table 2 (PAPER: arXiv 2506.10885)
    "base": {"gsm8k": (442, 442), "hellaswag": (4542, 6103), "mmlu": (47,)},
    "tuned": {"gsm8k": (41, 49), "hellaswag": (4580, 6146), "mmlu": (34,)},
}


def stderr(right: int, n: int) -> float:
    p = right / n
    return math.sqrt(p * (1 - p) / (n - 1))


def entry(names: tuple[str, ...], right: tuple[int, ...], n: int) -> dict:
    found = {}
    for name, count in zip(names, right, strict=True):
        metric, kind = name.split(",")
        found[name] = count / n
        found[f"{metric}_stderr,{kind}"] = stderr(count, n)
    return found


def aggregates(model: str) -> dict:
    """A results file without samples, as lm-eval writes it."""
    right = PUBLISHED[model]
    return {
        "results": {
            "gsm8k": entry((STRICT, FLEXIBLE), right["gsm8k"], 1319),
            "hellaswag": entry(("acc,none", "acc_norm,none"), right["hellaswag"], 10042),
            "mmlu_high_school_computer_science": entry(("acc,none",), right["mmlu"], 100),
        },
        "versions": {"gsm8k": 3.0, "hellaswag": 1.0, "mmlu_high_school_computer_science": 1.0},
        "n-shot": {"gsm8k": 5, "hellaswag": 0, "mmlu_high_school_computer_science": 0},
        "n-samples": {task: {"original": n, "effective": n} for task, n in COUNTS.items()},
        "config": {"model": "hf", "model_args": f"pretrained={model}", "limit": None},
        "model_name": model,
    }


def rows(task: str, kind: str, metric: str, scores) -> list[dict]:
    return [
        {
            "doc_id": i,
            "doc": {"question": f"{task} {i}"},
            "filter": kind,
            "doc_hash": f"{task}-{i}",
            "prompt_hash": f"p{i}",
            "target": "x",
            "resps": [["x"]],
            "filtered_resps": ["x"],
            metric: float(score),
        }
        for i, score in enumerate(scores)
    ]


def sampled(tasks: dict[str, tuple[str, np.ndarray]], name: str = "model", **more) -> dict:
    """What simple_evaluate returns for tasks of one metric each: task -> (metric, scores)."""
    results, samples = {}, {}
    for task, (metric, scores) in tasks.items():
        scores = np.asarray(scores, dtype=float)
        error = float(scores.std(ddof=1) / math.sqrt(len(scores))) if len(scores) > 1 else "N/A"
        results[task] = {f"{metric},none": float(scores.mean()), f"{metric}_stderr,none": error}
        samples[task] = rows(task, "none", metric, scores)
    return {
        "results": results,
        "samples": samples,
        "n-shot": dict.fromkeys(tasks, 0),
        "versions": dict.fromkeys(tasks, 1.0),
        "config": {"model_args": {"pretrained": name}},
        **more,
    }


def pair(n: int, base: float, tuned: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    before = rng.random(n) < base
    after = np.where(rng.random(n) < 0.7, before & (rng.random(n) < tuned / base), 0)
    after = after | (~before & (rng.random(n) < 0.05))
    return before.astype(int), after.astype(int)


def one(base, tuned, **settings):
    """The change of a single task of per-document scores."""
    first, second = (sampled({"arc_easy": ("acc", s)}, m) for s, m in ((base, "a"), (tuned, "b")))
    (change,) = compare(first, second, **settings).changes
    return change


def leaves(value):
    """Every number in nested dicts and lists."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [leaf for item in value for leaf in leaves(item)]
    return [value] if isinstance(value, float) else []


@pytest.fixture(scope="module")
def published():
    return compare(aggregates("base"), aggregates("tuned"))


# ------------------------------------------------------------------------------- degenerate first


def test_a_single_document_claims_nothing():
    change = one([1], [0])
    assert change.verdict == UNKNOWN and change.p_value == 1 and change.p_t is None
    assert (change.lost, change.gained, change.n) == (1, 0, 1)


def test_zero_base_accuracy_has_no_forgetting_rate():
    comparison = compare(
        sampled({"gsm8k": ("exact_match", [0] * 50)}), sampled({"gsm8k": ("exact_match", [0] * 50)})
    )
    (change,) = comparison.changes
    assert math.isnan(change.forgetting.value)
    assert change.to_dict()["forgetting_rate"] == {"value": None, "low": None, "high": None}
    assert "undefined" in comparison.to_text()
    assert "nan" not in comparison.to_text() + comparison.to_markdown() + comparison._repr_html_()


def test_a_model_against_itself_makes_no_claim_of_change_and_no_nan(published):
    scores, _ = pair(300, 0.5, 0.5)
    results = sampled({"arc_easy": ("acc", scores), "gsm8k": ("exact_match", scores)})
    for comparison, verdicts in (
        (compare(results, results), (BROKEN,)),  # every answer is the same
        (compare(aggregates("base"), aggregates("base")), (KEPT, UNKNOWN)),
    ):
        for change in comparison.changes:
            assert change.verdict in verdicts
            assert change.difference.value == 0 and change.p_value == 1
            assert change.difference.low <= 0 <= change.difference.high
            assert change.forgetting.value == 0
        assert all(math.isfinite(number) for number in leaves(comparison.to_dict()))
        assert "nan" not in comparison.to_text()


def test_identical_answers_show_sameness_only_where_documents_suffice():
    """P(no change in n documents although 2 % would change) = 0.98^n: 0.051 at 148, 0.049 at 149.

    The answers themselves are not known here: only their scores are the same.
    """
    scores = np.arange(149) % 2
    for n, verdict in ((148, UNKNOWN), (149, KEPT)):
        base, tuned = (
            sampled({"own_task": ("acc", scores[:n])}),
            sampled({"own_task": ("acc", scores[:n])}),
        )
        for row in tuned["samples"]["own_task"]:
            row["resps"] = [["another"]]
        (change,) = compare(base, tuned).changes
        assert change.verdict == verdict


# ----------------------------------------------------------------------------- the paper's numbers


def test_the_papers_scores_give_the_papers_losses_and_honest_intervals(published):
    mmlu = published.of("mmlu_cs")
    assert mmlu.measure == "dK"
    assert mmlu.measured.value == pytest.approx(13.00, abs=1e-9)
    assert mmlu.plus_minus == pytest.approx(13.55, abs=0.006)
    assert mmlu.measured.high - 13 == pytest.approx(13.55, abs=0.006)
    assert mmlu.p_value == pytest.approx(0.060, abs=0.0005)
    assert mmlu.test == "unpaired z" and mmlu.verdict == UNKNOWN
    assert mmlu.detectable == pytest.approx(19.4, abs=0.05)
    gsm8k = published.of("gsm8k")
    assert gsm8k.metric == FLEXIBLE and gsm8k.measure == "FR" and gsm8k.verdict == FORGOT
    assert gsm8k.measured.value == pytest.approx(88.91, abs=0.005)
    assert 85 < gsm8k.measured.low < 88.91 < gsm8k.measured.high < 93
    hellaswag = published.of("hellaswag")
    assert hellaswag.measure == "dA" and hellaswag.metric == "acc_norm,none"
    assert hellaswag.measured.value == pytest.approx(0.43, abs=0.005)
    assert hellaswag.p_value == pytest.approx(0.53, abs=0.005)


def test_the_sentences_say_what_is_not_established_and_which_test_is_weaker(published):
    gsm8k, hellaswag, mmlu = published.sentences().splitlines()
    assert gsm8k.startswith("GSM8K, flexible: forgot. 33.51 -> 3.71 %")
    assert "FR = 88.91 %" in gsm8k and "The loss of this run is real" in gsm8k
    assert "Catastrophic, by the paper's own line (FR above 50 %)" in gsm8k
    assert published.answer() == "Lost: GSM8K. Kept: HellaSwag. Cannot tell: MMLU-CS."
    assert "13.00 ± 13.55" in mmlu and "p = 0.060" in mmlu
    assert "not established" in mmlu and "19.4 points" in mmlu
    assert all("weaker than a paired test" in line for line in (gsm8k, hellaswag, mmlu))


def test_holm_runs_over_the_tasks_headlines(published):
    raw = [change.p_value for change in published.headlines]
    assert len(raw) == 3
    order = np.argsort(raw)
    by_hand = np.maximum.accumulate([(3 - k) * raw[i] for k, i in enumerate(order)]).clip(max=1)
    for k, i in enumerate(order):
        assert published.headlines[i].p_holm == pytest.approx(by_hand[k], rel=1e-12)


# ----------------------------------------------------------------------------- document by document


@pytest.mark.parametrize("seed", range(5))
def test_paired_results_equal_statsmodels_and_scipy(seed):
    base, tuned = pair(257, 0.6, 0.45, seed)
    change = one(base, tuned)
    table = [[np.sum(base & tuned), np.sum(base & ~tuned & 1)], [np.sum(~base & 1 & tuned), 0]]
    table[1][1] = 257 - np.sum(table)
    assert change.p_value == pytest.approx(mcnemar(table, exact=True).pvalue, rel=1e-9)
    assert change.p_t == pytest.approx(stats.ttest_rel(tuned, base).pvalue, rel=1e-9)
    assert (change.lost, change.gained) == (table[0][1], table[1][0])
    assert change.difference.value == pytest.approx(100 * (tuned - base).mean(), abs=1e-9)
    assert change.base == pytest.approx(100 * base.mean(), abs=1e-9)


def test_swapping_the_models_flips_the_signs_and_nothing_else():
    base, tuned = pair(257, 0.6, 0.45)
    there, back = one(base, tuned), one(tuned, base)
    value, low, high = there.difference
    assert back.difference == (-value, -high, -low)
    assert (back.lost, back.gained) == (there.gained, there.lost)
    assert (back.base, back.tuned) == (there.tuned, there.base)
    assert back.test == there.test
    same = ("p_value", "p_t", "p_holm", "p_equivalence", "detectable", "n")
    for name in same:
        assert getattr(back, name) == pytest.approx(getattr(there, name), rel=1e-12), name
    assert (there.verdict, back.verdict) == (FORGOT, IMPROVED)


def test_scores_between_0_and_1_are_tested_by_t():
    rng = np.random.default_rng(0)
    base = rng.random(80)
    tuned = np.clip(base - 0.3 * rng.random(80), 0, 1)
    first, second = (sampled({"squad": ("f1", s)}) for s in (base, tuned))
    (change,) = compare(first, second).changes
    assert change.test == "paired t" and change.lost is None
    assert change.p_value == pytest.approx(stats.ttest_rel(tuned, base).pvalue, rel=1e-9)
    assert change.measure == "FR" and change.verdict == FORGOT


def test_several_seeds_are_compared_as_their_mean_per_document():
    base, tuned = pair(100, 0.6, 0.3)
    other = np.roll(tuned, 3)
    runs = [sampled({"arc_easy": ("acc", scores)}) for scores in (tuned, other)]
    (change,) = compare(sampled({"arc_easy": ("acc", base)}), runs).changes
    mean = (tuned + other) / 2
    assert change.test == "t over documents and seeds" and change.seeds == (1, 2)
    assert change.p_t == pytest.approx(stats.ttest_rel(mean, base).pvalue, rel=1e-9)
    assert change.difference.value == pytest.approx(100 * (mean - base).mean())


# ----------------------------------------------------------------------------------------- verdicts


def test_the_four_verdicts():
    n = 2000
    base = np.arange(n) % 2
    worse = np.where(np.arange(n) < 400, 0, base)
    near = base.copy()
    near[[0, 1]] = near[[1, 0]]
    assert one(base, worse).verdict == FORGOT
    assert one(worse, base).verdict == IMPROVED
    assert one(base, near).verdict == KEPT
    assert one(base[:40], np.roll(base[:40], 1)).verdict == UNKNOWN


def test_a_wider_margin_turns_not_enough_data_into_kept():
    base, tuned = pair(400, 0.5, 0.5, seed=3)
    tuned = np.where(np.arange(400) < 380, base, tuned)
    changes = [one(base, tuned, margin=margin) for margin in (0.5, 5.0)]
    assert [c.verdict for c in changes] == [UNKNOWN, KEPT]


def test_a_metric_that_is_no_share_is_left_out_and_named():
    both = [sampled({"arc_easy": ("acc", scores)}) for scores in ([1, 0, 1], [1, 0, 0])]
    for results in both:
        results["results"]["arc_easy"] |= {"brier_score,none": 0.5, "tokens,none": 11.0}
        for row in results["samples"]["arc_easy"]:
            row |= {"brier_score": 0.5, "tokens": 11.0}
    comparison = compare(*both)
    assert [c.metric for c in comparison.changes] == ["acc,none"]
    notes = "\n".join(comparison.notes)
    assert "brier_score,none 0.50 -> 0.50, not judged: it is no share of right answers" in notes
    assert "tokens,none 11.00 -> 11.00, not judged: what it measures is not known" in notes


def test_a_groups_subtasks_are_a_family_of_their_own():
    n = 40
    rng = np.random.default_rng(1)
    tasks = {f"mmlu_{name}": ("acc", rng.integers(0, 2, n)) for name in ("law", "logic")}
    base, tuned = sampled(tasks), sampled({t: (m, 1 - s) for t, (m, s) in tasks.items()})
    for results in (base, tuned):
        mean = np.mean([results["results"][task]["acc,none"] for task in tasks])
        results["results"]["mmlu"] = {"acc,none": float(mean), "acc_stderr,none": 0.05}
        results["group_subtasks"] = {"mmlu": list(tasks)}
    families = {c.task: c.family for c in compare(base, tuned).changes}
    assert families == {"mmlu": HEADLINE, "mmlu_law": SUBTASK, "mmlu_logic": SUBTASK}
    assert list(families)[0] == "mmlu"  # ahead of its subtasks


def test_the_groups_of_0_4_0_are_headlines_alone():
    data = LM_EVAL / "0.4.0"
    families = {c.task: c.family for c in compare(data / "base", data / "tuned").changes}
    assert [task for task, family in families.items() if family == HEADLINE] == ["gsm8k", "mmlu"]
    assert [*families.values()].count(SUBTASK) == 4


def test_a_group_of_unlike_tasks_stands_for_none_of_them():
    """As the Open LLM Leaderboard's: its exact_match is that of one of its tasks."""
    scores = {
        "board": {"exact_match,none": 0.1, "acc,none": 0.4},
        "maths": {"exact_match,none": 0.1},
        "reasoning": {"acc,none": 0.4},
        "r_1": {"acc,none": 0.3},
        "r_2": {"acc,none": 0.5},
    }
    groups = {"board": ["maths", "reasoning"], "reasoning": ["r_1", "r_2"]}
    found = compare(*[{"results": scores, "group_subtasks": groups}] * 2)
    assert {c.task for c in found.headlines} == {"maths", "reasoning"}
    families = {c.task: c.family for c in found.changes}
    assert families["board"] == OTHER and families["r_1"] == families["r_2"] == SUBTASK


def test_the_order_of_keys_changes_nothing():
    one = {"t": {"loose,none": 0.3, "tight,none": 0.2}, "u": {"acc,none": 0.5}}
    other = {"u": {"acc,none": 0.5}, "t": {"tight,none": 0.2, "loose,none": 0.3}}
    there = compare({"results": one}, {"results": other}).changes
    back = compare({"results": other}, {"results": one}).changes
    assert [(c.task, c.metric, c.family) for c in there] == [
        (c.task, c.metric, c.family) for c in back
    ]


def test_a_filter_may_have_a_comma_in_its_name():
    source = {"results": {"t": {"exact_match,strict, then loose": 0.5}}}
    (change,) = compare(source, source).changes
    assert change.metric == "exact_match,strict, then loose"


@pytest.mark.parametrize(
    ("name", "value", "error", "kept"),
    [
        ("correlation,none", 0.12, 0.03, False),  # CoLA's correlation: a share has at most 0.0101
        ("gain,none", 0.4, 0.5, False),
        ("f1,none", 0.827, 0.0101, False),  # of the whole corpus, as far as the file tells
        ("acc,none", 0.12, 0.03, True),  # known to be a share
    ],
)
def test_a_score_that_spreads_more_than_a_share_is_left_out(name, value, error, kept):
    metric, kind = name.split(",")
    entry = {name: value, f"{metric}_stderr,{kind}": error, "em,none": 0.2}
    source = {"results": {"t": entry}, "n-samples": {"t": 1043}}
    found = compare(source, source)
    assert (name in {c.metric for c in found.changes}) == kept
    assert kept or any(f"t: {name} {value:.2f} -> " in n and "not judged" in n for n in found.notes)


def test_documents_outside_0_to_1_show_that_a_score_is_no_share():
    first = sampled({"t": ("acc", [0.0, 3.0, -1.0, 0.0])})
    del first["results"]["t"]["acc_stderr,none"]
    found = compare(first, first)
    assert found.changes == () and found.answer() == "Not judged: t."
    assert "t: acc,none 0.50 -> 0.50, not judged: -1 is outside 0 to 1" in found.notes
    assert "not judged" in found.to_text()


@pytest.mark.parametrize("tuned", [0.0, 1.0])
def test_nothing_right_of_a_few_documents_proves_nothing(tuned):
    """The standard error is 0; Wilson's limit for 0 of 5 is 43.4 per cent, over 1.96: 22.2."""

    def source(value, **more):
        return {"results": {"t": {"acc,none": value, "acc_stderr,none": 0.0}}, **more}

    few = {"n-samples": {"t": 5}}
    (change,) = compare(source(0.0, **few), source(tuned, **few)).changes
    error = math.hypot(22.168, 22.168)
    assert change.p_value == pytest.approx(2 * stats.norm.sf(100 * tuned / error), abs=1e-4)
    assert change.verdict != KEPT
    (unknown,) = compare(source(0.0), source(tuned)).changes
    assert unknown.p_value is None and unknown.verdict == UNKNOWN


def test_a_group_without_an_error_is_not_given_one():
    """The mean of two subtasks' scores has not the error of as many documents."""
    scores = {"g": {"acc,none": 0.5}, "a": {"acc,none": 0.6}, "b": {"acc,none": 0.4}}
    counts = {"a": 10, "b": 10_000}
    source = {"results": scores, "group_subtasks": {"g": ["a", "b"]}, "n-samples": counts}
    changes = {c.task: c for c in compare(source, source).changes}
    assert changes["g"].p_value is None and changes["a"].p_value == 1


def test_what_is_detectable_goes_with_the_level_of_the_claims():
    base, tuned = pair(200, 0.6, 0.5)
    usual, hard = (one(base, tuned, alpha=alpha).detectable for alpha in (0.05, 0.001))
    shift = [stats.norm.isf(alpha / 2) + stats.norm.ppf(0.8) for alpha in (0.05, 0.001)]
    assert hard / usual == pytest.approx(shift[1] / shift[0], rel=0.1)
    assert one(base, tuned, alpha=0.9).detectable is None


@pytest.mark.parametrize(
    ("base", "tuned", "what", "never"),
    [
        ([1, 0] * 50, [0, 1, 1, 0] * 25, "change", None),
        ([1] * 3 + [0] * 37, [0] * 20 + [1] * 4 + [0] * 16, "gain", "from 7.50 % no loss"),
        ([0] * 3 + [1] * 37, [1] * 20 + [0] * 4 + [1] * 16, "loss", "from 92.50 % no gain"),
        ([1, 0, 1, 0, 0], [0, 1, 1, 0, 0], None, "from 40.00 % not even the largest"),
        ([1] * 4, [1, 1, 0, 0], None, "from 100.00 % not even the largest"),
    ],
)
def test_a_change_for_which_base_has_no_room_is_not_called_detectable(base, tuned, what, never):
    first, second = (sampled({"own_task": ("acc", s)}, m) for s, m in ((base, "a"), (tuned, "b")))
    comparison = compare(first, second)
    (change,) = comparison.changes
    said = comparison.sentences()
    assert (never or "") in said and ("no change could have been shown" in said) == (what is None)
    assert what is not None or "points 80 % of the time" not in said
    if what:
        assert f"would find a {what} of {change.detectable:.1f} points 80 % of the time" in said
        room = {"loss": change.base, "gain": 100 - change.base}
        found = [kind for kind, points in room.items() if points >= change.detectable]
        assert found == (["loss", "gain"] if what == "change" else [what])


def test_the_second_metric_is_no_headline(published):
    families = {(c.task, c.metric): c.family for c in published.changes}
    assert families["gsm8k", FLEXIBLE] == HEADLINE and families["gsm8k", STRICT] == OTHER
    assert families["hellaswag", "acc,none"] == OTHER


def test_without_errors_and_counts_there_is_no_p_value_and_no_claim():
    bare = {"results": {"hellaswag": {"acc,none": 0.45}}}
    (change,) = compare(bare, {"results": {"hellaswag": {"acc,none": 0.15}}}).changes
    assert change.p_value is None and change.p_holm is None and change.verdict == UNKNOWN
    assert change.difference.value == pytest.approx(-30) and math.isnan(change.difference.low)
    assert change.to_dict()["difference"]["low"] is None


# ------------------------------------------------------------------------------------------ refused


@pytest.mark.parametrize("margin", [0, -1, 100, math.nan])
def test_a_margin_out_of_range_is_named(margin):
    with pytest.raises(ValueError, match=re.escape(f"margin={margin}")):
        compare(aggregates("base"), aggregates("tuned"), margin=margin)


@pytest.mark.parametrize("alpha", [0, 1, math.nan])
def test_an_alpha_out_of_range_is_named(alpha):
    with pytest.raises(ValueError, match=re.escape(f"alpha={alpha}")):
        compare(aggregates("base"), aggregates("tuned"), alpha=alpha)


def test_nothing_in_common_is_refused():
    with pytest.raises(ResultsError, match="arc_easy.*hellaswag|hellaswag.*arc_easy"):
        compare(
            sampled({"arc_easy": ("acc", [1, 0])}),
            {"results": {"hellaswag": {"acc,none": 0.4}}},
        )


# ------------------------------------------------------------------------------------------ outputs


def test_json_markdown_and_html_hold_the_same_verdicts(published):
    told = json.loads(json.dumps(published.to_dict(), allow_nan=False))
    assert [t["verdict"] for t in told["tasks"] if t["family"] == HEADLINE] == [
        FORGOT,
        KEPT,  # HellaSwag: 2 points or more are ruled out, even unpaired
        UNKNOWN,
    ]
    assert told["tasks"][0]["sentence"] == published.sentences().splitlines()[0]
    for text in (published.to_markdown(), published._repr_html_(), published.to_text()):
        assert "13.00 ± 13.55" in text and "not enough data to tell" in text
    assert all(
        line.count("|") == 14 for line in published.to_markdown().splitlines() if "|" in line
    )


def test_a_models_name_cannot_break_html_or_markdown():
    name = "<script>|x|</script>"
    base = sampled({"arc_easy": ("acc", [1, 0])}, name, model_name=name)
    comparison = compare(base, base)
    assert "<script>" not in comparison._repr_html_() + comparison.to_markdown()


def test_the_plot_has_a_row_a_task(published):
    ax = published.plot()
    assert [t.get_text() for t in ax.get_yticklabels()] == [
        "GSM8K, flexible\nn = 1,319",
        "HellaSwag, acc_norm\nn = 10,042",
        "MMLU-CS, acc\nn = 100",
    ]


def test_format_or_ability_and_its_examples_are_in_every_output():
    data = LM_EVAL / "0.4.13"
    comparison = compare(data / "base", data / "tuned")
    (found,) = comparison.answers.values()
    told = comparison.to_dict()["answers"]["gsm8k"]
    assert told["lost"] == found.lost == sum(told["reasons"].values())
    reasons = [reason for reason, count in found.reasons.items() if count]
    assert reasons and list(told["examples"]) == reasons
    texts = (comparison.to_text(), comparison.to_markdown(), comparison._repr_html_())
    for text in texts:
        assert "gsm8k, format or ability? Of " in " ".join(text.split())
        assert all(f"{reason} ({found.reasons[reason]})" in text for reason in reasons)


def test_answers_are_found_by_task_and_by_role():
    data = LM_EVAL / "0.4.13"
    named = {}
    for model in ("base", "tuned"):
        results = slimlib.read_results(data / model)
        task = replace(results.tasks["gsm8k"], task="my_maths", role="gsm8k")
        named[model] = replace(results, tasks={"my_maths": task})
    answers = compare(**named).answers
    assert list(answers) == ["my_maths"]
    assert answers["gsm8k"] is answers["my_maths"]
    with pytest.raises(ValueError, match="no answers of 'mmlu'; there are those of: my_maths"):
        answers["mmlu"]


def test_records_without_answers_say_why_format_or_ability_is_not_told():
    folder = RECORDS / "micro" / "seed-1"
    pair = folder / "llama-base.json", folder / "llama-2k.json"
    comparison = compare(*pair)
    (note,) = [note for note in comparison.notes if "format or ability?" in note]
    assert note.startswith("micro_arithmetic: ") and "scores but no answers of micro base" in note
    with pytest.raises(ValueError, match="no answers of 'gsm8k'; there are those of: none"):
        comparison.answers["gsm8k"]


def test_a_mean_over_seeds_has_no_answers_and_says_so():
    data = LM_EVAL / "0.4.13"
    comparison = compare(data / "base", [data / "base", data / "tuned"])
    assert "gsm8k" not in comparison.answers
    assert [note for note in comparison.notes if "a mean over seeds has no answers" in note]


def test_with_answers_or_without_documents_there_is_no_such_note(published):
    data = LM_EVAL / "0.4.13"
    for comparison in (published, compare(data / "base", data / "tuned")):
        assert not [note for note in comparison.notes if "format or ability?" in note]


def test_the_repr_is_short(published):
    assert repr(published) == (
        "<Comparison 'tuned' against 'base'; GSM8K, flexible: forgot, HellaSwag, acc_norm: kept, "
        "MMLU-CS, acc: not enough data to tell>"
    )


def test_the_level_moves_the_verdict():
    base, tuned = pair(100, 0.5, 0.4, seed=2)
    p = one(base, tuned).p_value
    assert one(base, tuned, alpha=p * 1.01).verdict == FORGOT
    assert one(base, tuned, alpha=p * 0.99).verdict == UNKNOWN


def test_dks_own_interval_is_of_the_documents_that_are_compared():
    """Half of base's documents are compared: 1.96 sqrt(2 * 50 * 50 / 49) = 19.8, not of all 100."""
    scores = np.arange(100) % 2
    base = sampled({"mmlu_law": ("acc", scores)})
    tuned = sampled({"mmlu_law": ("acc", scores[:50])})
    (change,) = compare(base, tuned, strict=False).changes
    assert change.n == 50 and change.measure == "dK"
    assert change.plus_minus == pytest.approx(1.96 * math.sqrt(2 * 50 * 50 / 49))


def test_alignment_takes_paths_too():
    data = LM_EVAL / "0.4.13"
    pairs = slimlib.align_samples(data / "base", str(data / "tuned")).pairs
    assert len(pairs["gsm8k", "strict-match"].base) == 8


def test_the_table_is_of_numbers(published):
    row = published.table().loc[("mmlu_high_school_computer_science", "acc,none")]
    assert row["difference"] == pytest.approx(-13) and row["measure_value"] == pytest.approx(13)
    assert row["low"] == pytest.approx(-26.55, abs=0.01) and row["n"] == 100
    assert row["p_value"] < row["p_holm"] and row["test"] == "unpaired z"


def test_json_says_what_was_compared_and_how():
    first, second = (
        sampled({"arc_easy": ("acc", s)}, m) for s, m in (([1, 1], "a"), ([1, 0], "b"))
    )
    found = compare(first, second, margin=3.0, alpha=0.1, look=2, relation="other").to_dict()
    sides = {key: found[key]["name"] for key in ("base", "tuned")}
    assert sides == {"base": "a", "tuned": "b"}
    assert (found["margin"], found["alpha"], found["look"]) == (3.0, 0.02, 2)
    assert found["related"] is False
    assert [task["task"] for task in found["tasks"]] == ["arc_easy"]
    assert "98 % interval" in found["tasks"][0]["sentence"]
    assert compare(first, second).title == "b, against a"
    assert compare(first, first).title == "a (simple_evaluate), against simple_evaluate"


def test_five_looks_are_allowed():
    base, tuned = pair(400, 0.8, 0.3)
    assert [one(base, tuned, look=look).verdict for look in (1, 5)] == [FORGOT, FORGOT]
    sixth = one(base, tuned, look=6)
    assert sixth.verdict == UNKNOWN and "more than 5 looks" in sixth.reason
    with pytest.raises(ValueError, match="look=0: must be 1 or more"):
        one(base, tuned, look=0)


def test_a_margin_or_level_at_its_end_is_refused():
    base, tuned = pair(40, 0.8, 0.3)
    assert one(base, tuned, margin=99.9).verdict and one(base, tuned, alpha=0.99).verdict
    for bad in ({"margin": 100}, {"margin": 0}, {"alpha": 1.0}, {"alpha": 0.0}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            one(base, tuned, **bad)


# ------------------------------------------------------------------- each number in its own place


def shares(name, *notes, **values):
    """Results of aggregates alone: task -> (value, documents)."""
    tasks = {
        task: TaskResults(task, {"acc,none": Score(value, None)}, {}, n=n)
        for task, (value, n) in values.items()
    }
    return Results(f"files/{name}", name, tasks, {}, notes)


STRICTLY = replace(CHANGE, family=OTHER, metric=STRICT, p_holm=0.5, verdict=UNKNOWN)
KEPT_ONE = replace(CHANGE, task="own", role=None, paired=False, verdict=KEPT, title="own, acc")


def made(*changes, base=None, tuned=None, **more):
    base = base or shares("A", gsm8k=(0.4, 9), x=(0.5, 9), ours=(0.5, 9))
    tuned = tuned or shares("B", x=(0.5, 9), gsm8k=(0.1, 9), theirs=(0.5, 9))
    changes = changes or (STRICTLY, CHANGE, KEPT_ONE)
    return Comparison(base, tuned, changes, None, 3.0, 0.01, ("note",), **more)


def test_a_change_is_found_by_role_or_task_and_metric():
    found = made()
    assert found.of("gsm8k") is CHANGE and found.of("gsm8k", STRICT) is STRICTLY
    assert found.of("own") is KEPT_ONE
    assert found.of("gsm8k", "none such") is found.of("mmlu_cs") is found.of("own", STRICT) is None
    assert found.headlines == (CHANGE, KEPT_ONE)


def test_what_is_shown_but_not_judged_is_of_both():
    assert made().not_judged == ("x",)
    assert made().answer() == "Lost: GSM8K. Kept: own. Not judged: x."


def test_models_of_one_name_are_told_apart_by_their_files():
    assert made().title == "B, against A"
    same = replace(shares("A"), source="other/A")
    assert made(tuned=same).title == "A (other/A), against files/A"


def test_margin_and_level_stand_where_they_belong(monkeypatch):
    found = made(look=2)
    assert found.sentence(KEPT_ONE) == verdict_sentence(KEPT_ONE, 3.0, 0.01)
    assert "within 3 points" in found.sentence(KEPT_ONE)
    assert found.rules() == rules(found.changes, 3.0, 0.01, 2)
    document = found.document()
    assert "99 % interval" in document.table
    (signature,) = check_signatures(found.changes)
    *notes, last = document.notes
    assert notes == [LEGEND, *found.rules(), "note"]
    assert last == f"Failure signatures: {signature.sentence()}."
    assert document.points == [found.answer(), *map(found.sentence, found.headlines)]
    drawn = []
    monkeypatch.setattr(two_models, "plot_changes", lambda *given: drawn.append(given))
    found.plot("axes")
    made(STRICTLY).plot()
    assert drawn == [
        ((CHANGE, KEPT_ONE), 3.0, "B, against A", 0.01, "axes"),
        ((STRICTLY,), 3.0, "B, against A", 0.01, None),
    ]


class Told:
    """In place of a task's answers."""

    def to_dict(self, examples):
        return {"examples": examples}


def test_json_of_a_comparison(monkeypatch):
    asked = []

    def answered(base, tuned, roles):
        asked.append((base.name, tuned.name, roles))
        return {"gsm8k": Told()}

    monkeypatch.setattr(two_models, "compared_answers", answered)
    found = made(related=False, look=2)
    assert found.to_dict() == {
        "answer": found.answer(),
        "base": {"name": "A", "source": "files/A"},
        "tuned": {"name": "B", "source": "files/B"},
        "related": False,
        "alpha": 0.01,
        "margin": 3.0,
        "look": 2,
        "not_judged": ["x"],
        "signatures": [check.to_dict() for check in check_signatures(found.changes)],
        "tasks": [c.to_dict() | {"sentence": found.sentence(c)} for c in found.changes],
        "answers": {"gsm8k": {"examples": 3}},
        "notes": ["note"],
    }
    other = replace(STRICTLY, task="other")
    pair = replace(CHANGE, task="pair", role=None, family=SUBTASK)
    assert made(other, CHANGE, KEPT_ONE, pair).answers
    assert asked == [("A", "B", {"gsm8k": "gsm8k"}), ("A", "B", {"gsm8k": "gsm8k", "pair": None})]
    assert repr(found) == "<Comparison 'B' against 'A'; GSM8K, flexible: forgot, own, acc: kept>"


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"margin": 0}, "margin=0: must be above 0 and below 100"),
        ({"margin": 100}, "margin=100"),
        ({"alpha": 0}, "alpha=0: must be between 0 and 1"),
        ({"alpha": 1}, "alpha=1"),
        ({"alpha": -0.5}, "alpha=-0.5"),
        ({"alpha": 1e-20}, "alpha=1e-20"),
        ({"look": 0}, "look=0: must be 1 or more"),
    ],
)
def test_what_is_out_of_range_is_named(bad, words):
    sides = shares("A", x=(0.5, 9)), shares("B", x=(0.4, 9))
    with pytest.raises(ValueError, match=words):
        compare(*sides, **bad)
    good = compare(*sides, margin=0.5, alpha=0.5, look=1)
    assert (good.margin, good.alpha, good.look) == (0.5, 0.1, 1)


def test_the_last_look_has_a_verdict_and_none_after_it():
    sides = shares("A", x=(0.9, 900)), shares("B", x=(0.1, 900))
    assert compare(*sides, look=5).changes[0].verdict == FORGOT
    (late,) = compare(*sides, look=6).changes
    assert (late.verdict, late.reason) == (UNKNOWN, two_models.TOO_MANY_LOOKS)


def test_the_margin_bounds_what_there_was_to_lose():
    sides = shares("A", x=(0.01, 1000)), shares("B", x=(0.0, 1000))
    assert compare(*sides, margin=5.0).changes[0].verdict == NOTHING
    assert compare(*sides, margin=0.5).changes[0].verdict != NOTHING


def test_notes_are_those_of_both_sides():
    base, tuned = shares("A", "ours", "both", x=(0.5, 9)), shares("B", "theirs", "both", x=(0.4, 9))
    assert compare(base, tuned).notes[:3] == ("ours", "both", "theirs")


def test_unlike_settings_are_refused_unless_asked_for():
    base, tuned = (shares(name, x=(0.5, 9)) for name in "AB")
    fewshot = replace(tuned, tasks={"x": replace(tuned.tasks["x"], num_fewshot=5)})
    base = replace(base, tasks={"x": replace(base.tasks["x"], num_fewshot=0)})
    with pytest.raises(ResultsError, match="files/A and files/B were not asked alike"):
        compare(base, fewshot)
    assert compare(base, fewshot, strict=False).changes[0].caveat


def test_seeds_are_pooled_only_when_asked_for():
    """The seeds of one task vary and those of the other do not."""
    base = np.arange(40) % 2
    runs = [
        sampled(
            {
                "own_a": ("acc", base * (np.arange(40) > cut)),
                "own_b": ("acc", np.roll(base, cut // 8)),
            }
        )
        for cut in (2, 10, 18)
    ]
    first = sampled({"own_a": ("acc", base), "own_b": ("acc", base)})
    own, pooled = (
        [c.p_value for c in compare(first, runs, **how).changes]
        for how in ({}, {"pool_seeds": True})
    )
    assert own == [c.p_value for c in compare(first, runs, pool_seeds=False).changes]
    assert own[0] != pooled[0]


def test_scores_without_answers_are_told_by_the_name_of_their_side():
    ids = ("a", "b")
    filters = {
        kind: Samples(ids, ids, ids, {"exact_match": np.array([1.0, 0.0])})
        for kind in ("strict-match", "flexible-extract")
    }
    bare = TaskResults("gsm8k", {FLEXIBLE: Score(0.5, None)}, filters, n=2)
    full = replace(bare, load_rows=lambda: [{"doc_id": i, "resps": [["x"]]} for i in ids])
    sides = [replace(shares(name), tasks={"gsm8k": t}) for name, t in (("A", full), ("B", bare))]
    assert "no answers of B;" in compare(*sides).notes[-1]
    assert "no answers of B;" in compare(*sides[::-1]).notes[-1]


def test_dollars_in_a_model_s_name_are_no_formula(tmp_path):
    for name in ("llama-base", "llama-2k"):
        record = read_json(RECORDS / "micro" / "seed-1" / f"{name}.json")
        write_json(tmp_path / f"{name}.json", record | {"label": r"$\frac{$ " + name})
    found = compare(tmp_path / "llama-base.json", tmp_path / "llama-2k.json")
    ax = found.plot()
    ax.figure.canvas.draw()
    assert r"\frac{" in ax.figure.get_suptitle()

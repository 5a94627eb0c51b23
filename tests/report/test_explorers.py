"""The explorers: what they offer, that they only choose, and how fast they are."""

import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from lm_eval_files import STAMP, digest, gsm8k_results, write, write_lines
from places import CHECKOUT

from slimlib.common.picture import Picture
from slimlib.comparison.answers import flips, show_flips
from slimlib.comparison.answers.flips import GAINED, LOST
from slimlib.comparison.contrast import over_runs
from slimlib.comparison.two_models import compare
from slimlib.report.answer import Answer, Learned, Stage
from slimlib.report.explorers import (
    ON_A_PAGE,
    OWN,
    WHOLE,
    Flips,
    explore_answers,
    explore_ladder,
    explore_learned,
    narrowed,
    pairs_of,
    steps_of,
)
from slimlib.results import Results, Samples, TaskResults, read_results

N = 10_042  # HellaSwag's documents
WORDS = [f"word{i}" for i in range(500)]


def hellaswag(folder, seed):
    """What lm-eval leaves of a model that chooses by chance, in the size of the real rows."""
    rng, asked = np.random.default_rng(seed), np.random.default_rng(0)
    texts = np.array(WORDS)[asked.integers(0, len(WORDS), (N, 5, 30))]
    golds, values = asked.integers(0, 4, N), rng.normal(-30, 5, (N, 4)).round(3)
    rows = []
    for i in range(N):
        question, *ends = (" ".join(words) for words in texts[i])
        gold, right = int(golds[i]), float(values[i].argmax() == golds[i])
        found = [[str(value), "False"] for value in values[i]]
        rows.append(
            {
                "doc_id": i,
                "doc": {"query": question, "choices": ends, "gold": gold},
                "target": gold,
                "arguments": {
                    f"gen_args_{j}": {"arg_0": question, "arg_1": f" {end}"}
                    for j, end in enumerate(ends)
                },
                "resps": [[one] for one in found],
                "filtered_resps": found,
                "filter": "none",
                "metrics": ["acc"],
                "doc_hash": digest(f"doc {i}"),
                "prompt_hash": digest(f"prompt {i}"),
                "target_hash": digest(str(gold)),
                "acc": right,
            }
        )
    mean = float(np.mean([row["acc"] for row in rows]))
    results = gsm8k_results(
        results={"hellaswag": {"alias": "hellaswag", "acc,none": mean}},
        group_subtasks={"hellaswag": []},
        versions={"hellaswag": 1.0},
        higher_is_better={"hellaswag": {"acc": True}},
    )
    results["n-samples"] = {"hellaswag": {"original": N, "effective": N}}
    results["n-shot"] = {"hellaswag": 0}
    results["config"]["limit"] = None
    write(folder / "me__base" / f"results_{STAMP}.json", results)
    write_lines(folder / "me__base" / f"samples_hellaswag_{STAMP}.jsonl", rows)
    return folder


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    folder = tmp_path_factory.mktemp("large")
    return hellaswag(folder / "base", 1), hellaswag(folder / "tuned", 2)


def spent(work):
    """Seconds of this process that a call takes, the best of two; what it returns."""
    times = []
    for _ in range(2):
        begun = time.process_time()
        found = work()
        times.append(time.process_time() - begun)
    return min(times), found


# -------------------------------------------------------------------------------------- answers


def opened(pair):
    explorer = explore_answers({"tuned": pair})
    explorer.result()
    return explorer


def test_ten_thousand_rows_open_in_two_seconds_and_filter_in_a_third(large):
    """From the results of a comparison, as in the notebooks; the files' rows are read for it."""
    read = tuple(map(read_results, large))
    opening, explorer = spent(lambda: opened(read))
    assert len(explorer.function.__self__.frame("tuned", "hellaswag")) > 3000
    assert opening < 2, opening
    word = WORDS[7]
    for values in ({"change": LOST}, {"text": word}, {"page": 40}, {"change": GAINED, "text": ""}):
        explorer.chosen |= values
        filtering, page = spent(explorer.result)
        assert filtering < 0.3, (values, filtering)
        assert f"{explorer.chosen['change']}: ".replace(">", "&gt;") in page.data


def results(task, name="model"):
    return Results(source=name, name=name, tasks={"gsm8k": task}, settings={})


def gsm8k(texts):
    """Answers to the question whose answer is 2; the strict filter wants it after ####."""
    rows = [
        {"doc_id": i, "doc": {"question": f"q{i}"}, "target": "#### 2", "resps": [[text]],
         "arguments": {"gen_args_0": {"arg_0": f"q{i}", "arg_1": {"until": ["Q:"]}}}}
        for i, text in enumerate(texts)
    ]  # fmt: skip
    ids = tuple(range(len(texts)))
    hashes = tuple(f"hash {i}" for i in ids)

    def scored(pattern):
        scores = np.array([float(pattern in text) for text in texts])
        return Samples(ids, hashes, hashes, {"exact_match": scores})

    kinds = {"strict-match": scored("#### 2"), "flexible-extract": scored("2")}
    return TaskResults("gsm8k", {}, kinds, load_rows=lambda: rows)


@pytest.fixture
def pairs():
    base = results(gsm8k(["#### 2", "no", "#### 2", "it is 2"]), name="base")
    tuned = results(gsm8k(["no", "#### 2", "#### 2", "#### 2"]), name="tuned")
    return {"tuned": (base, tuned), "again": (tuned, base)}


@pytest.mark.parametrize("installed", [True, False])
def test_it_chooses_the_arguments_of_flips_and_show_flips(pairs, installed, monkeypatch):
    if not installed:
        monkeypatch.setitem(sys.modules, "ipywidgets", None)
    explorer = explore_answers(pairs)
    assert list(explorer.choices) == ["arm", "task", "filter", "change", "text", "page"]
    assert list(explorer.choices["filter"]) == [OWN, "strict-match", "flexible-extract"]
    assert bool(explorer.controls) == installed
    if installed:  # a menu shows nothing for a choice of None
        assert explorer.controls["filter"].label == OWN
    frame = flips(*pairs["tuned"], "gsm8k")
    assert explorer.result().data == show_flips(frame, k=ON_A_PAGE).data
    explorer.set(change=GAINED, text="####")
    assert explorer.result().data == show_flips(frame, change=GAINED, text="####").data
    explorer.set(arm="again", filter="strict-match", change=LOST)
    strict = flips(*pairs["again"], "gsm8k", filter="strict-match")
    assert explorer.result().data == show_flips(strict, change=LOST, text="####").data


def test_each_result_is_read_once_and_only_when_asked_for(monkeypatch, tmp_path, pairs):
    from slimlib.report import explorers

    base, tuned = pairs["tuned"]
    read = []

    def reading(source):
        read.append(source)
        return {"base": base, "tuned": tuned}[source]

    monkeypatch.setattr(explorers, "read_results", reading)
    explorer = explore_answers({"a": ("base", "tuned"), "b": ("base", "none such")})
    explorer.result()
    explorer.set(change=LOST)
    explorer.result()
    assert read == ["base", "tuned"]


def test_what_cannot_be_explored_is_said(pairs):
    with pytest.raises(ValueError, match="^no pair of results"):
        explore_answers({})
    with pytest.raises(ValueError, match="^no pair 'x'; there are tuned, again$"):
        Flips(pairs).show("x", "gsm8k")
    bare = replace(pairs["tuned"][0].tasks["gsm8k"], load_rows=None)
    said = explore_answers({"means": (results(bare), results(bare))})
    assert "no answers of both" in said.to_text()


def test_the_pairs_of_a_run_are_the_evaluated_arms_the_fine_tuned_one_first(tiny_run):
    pairs = pairs_of(tiny_run.study, tiny_run.arm_folder)
    study = tiny_run.study
    assert next(iter(pairs)) == study.tuned.label
    assert {*pairs} == {arm.label for arm in study.arms if arm.compared_with}
    for before, after in pairs.values():
        assert (before / "eval").is_dir() and (after / "eval").is_dir()
    explorer = explore_answers(pairs)
    frame = flips(*pairs[study.tuned.label], explorer.chosen["task"])
    assert explorer.result().data == show_flips(frame, k=ON_A_PAGE).data
    assert pairs_of(study, lambda arm: tiny_run.folder / "nowhere" / arm) == {}


# -------------------------------------------------------------------------------------- the ladder


def test_the_ladder_shows_each_benchmark_three_ways(tiny_run):
    from slimlib.comparison.ladder import attribution_of

    study, records = tiny_run.study, tiny_run.records()
    explorer = explore_ladder(study, records)
    assert list(explorer.choices["benchmark"]) == [*study.task_labels.values()]
    attribution = attribution_of(records, study)
    for role in study.task_labels:
        explorer.set(benchmark=role, view="waterfall")
        assert explorer.result().has_data()
        explorer.set(view="scores of all arms")
        assert explorer.result().has_data()
        explorer.set(view="steps in words")
        document = explorer.result()
        steps = attribution.steps[role]
        assert list(document.points[1:]) == [step.sentence() for step in steps]


def test_a_ladder_of_one_arm_has_no_steps(tiny_run):
    from slimlib.comparison.ladder import attribution_of

    attribution = attribution_of(tiny_run.records()[:1], tiny_run.study)
    (said,) = steps_of(attribution, next(iter(tiny_run.study.task_labels))).points
    assert said.startswith("Fewer than two arms")


# -------------------------------------------------------------------------------------- learned


def test_a_step_and_a_task_narrow_the_answer():
    records = CHECKOUT / "figures" / "records" / "micro" / "seed-3407"
    base, quantised, tuned = (
        records / f"{arm}.json" for arm in ("llama-base", "llama-base-nf4", "llama-2k")
    )
    learned = Learned(10, 3.0, 2.0, over_runs(np.array([-1.0]), []))
    steps = [
        Stage("quantising", compare(base, quantised, relation="tuned")),
        Stage("fine-tuning", compare(quantised, tuned, relation="tuned")),
    ]
    whole = compare(base, tuned, relation="tuned")
    answer = Answer("m on r", ["10 rows"], learned, whole, steps, "Take it.", "runs/tuned")
    assert narrowed(answer).sentence() == answer.sentence()
    explorer = explore_learned(answer)
    assert explorer.choices["step"] == [WHOLE, *(step.cause for step in answer.steps)]
    shown = explorer.result()
    assert isinstance(shown, Picture) and shown.text == answer.sentence()
    for step in answer.steps:
        alone = narrowed(answer, step.cause)
        assert alone.learned is answer.learned and step.cause in alone.title
        assert alone.comparison.changes == step.comparison.changes
    for change in answer.comparison.headlines:
        one = narrowed(answer, task=change.task)
        assert [c.task for c in one.comparison.headlines] == [change.task]
        assert one.comparison.not_judged == ()
    with pytest.raises(ValueError, match="^no step 'none'; there are all steps together"):
        narrowed(answer, "none")
    with pytest.raises(ValueError, match="^no task 'none' at this step; there are"):
        narrowed(answer, task="none")

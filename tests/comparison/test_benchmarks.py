"""What is known of metrics and tasks, and that it is what the installed lm-eval's files say."""

from __future__ import annotations

import importlib.util
import json
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest
from places import CHECKOUT

from slimlib.comparison.benchmarks import (
    ACC,
    ACC_NORM,
    BENCHMARKS,
    CORPUS,
    LOSS,
    RATE,
    REGISTRY,
    SHARE,
    Benchmark,
    Metric,
    _endings,
    headline,
    measure_of,
    metric_of,
    prefixes,
    task_facts,
    title_of,
    why_not_judged,
)

SHARES = ["acc", "acc_norm", "exact_match", "em", "prompt_level_strict_acc", "bleu_acc"]
LOSSES = ["word_perplexity", "bits_per_byte", "brier_score", "eval_loss", "wer", "mse"]
RATES = ["pct_stereotype", "likelihood_diff", "bypass", "amb_bias_score_Age", "percent_parseable"]
SCORES = [
    *("rouge1", "rougeLsum", "rouge_l", "ROUGE-L", "BERTScore", "bertscore_f1", "bert_score"),
    *("comet", "COMET-22", "bleu", "sacrebleu", "bleu_max", "chrf++", "chrF", "ter", "mcc"),
    *("pearson", "spearmanr", "eqbench", "HasAns_f1", "bleurt", "meteor"),
]


@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, name) for kind, names in zip(
        (SHARE, LOSS, RATE, CORPUS), (SHARES, LOSSES, RATES, SCORES), strict=True
    ) for name in names],
)  # fmt: skip
def test_the_kind_of_a_metric(kind: str, name: str) -> None:
    assert metric_of(name).kind == metric_of(f"{name},some-filter").kind == kind
    assert bool(why_not_judged(name)) == (kind != SHARE)


def test_the_direction_of_a_metric() -> None:
    assert all(metric_of(name).higher_is_better for name in SHARES)
    assert not any(metric_of(name).higher_is_better for name in LOSSES)
    assert all(metric_of(name).higher_is_better is None for name in RATES)
    assert metric_of("ter").higher_is_better is False and metric_of("bleu").higher_is_better


def test_results_that_say_the_direction_are_believed() -> None:
    assert metric_of("acc", higher_is_better=False) == Metric(RATE, False, "mean")
    assert metric_of("pct_stereotype", higher_is_better=True).higher_is_better is None


@pytest.mark.parametrize("name", ["my_metric", "inter", "filter", "character", "", "points"])
def test_an_unknown_metric_is_not_judged(name: str) -> None:
    assert metric_of(name) is None
    assert why_not_judged(name) == "what it measures is not known"


def test_f1_is_what_its_task_makes_of_it() -> None:
    assert metric_of("f1", task="drop") == Metric(SHARE, True, "mean")  # over documents
    assert metric_of("f1", task="mrpc") == Metric(CORPUS, True, "bootstrap")
    assert metric_of("f1", task="squadv2") == Metric(CORPUS, True, None)
    assert metric_of("f1", task="masakhaner_amh_prompt_1") == Metric(CORPUS, True, None)
    assert metric_of("f1").kind == CORPUS  # unknown task: no error is made up
    assert metric_of("f1", mean=True) == Metric(SHARE, True, "mean")


def test_a_share_that_lm_eval_gives_no_error() -> None:
    assert metric_of("inst_level_strict_acc") == Metric(SHARE, True, None)
    assert metric_of("acc_norm", task="tinyMMLU") == Metric(SHARE, True, None)  # by a model


@pytest.mark.parametrize(
    ("task", "choices", "capability"),
    [
        ("hellaswag", 4, "commonsense"),
        ("mmlu", 4, "knowledge"),
        ("mmlu_high_school_computer_science", 4, "knowledge"),
        ("arc_challenge", 4, "knowledge"),
        ("winogrande", 2, "commonsense"),
        ("piqa", 2, "commonsense"),
        ("boolq", 2, "language"),
        ("commonsense_qa", 5, "commonsense"),
        ("truthfulqa_mc2", None, "knowledge"),
        ("gsm8k", None, "maths"),
        ("ifeval", None, "instruction"),
        ("leaderboard_ifeval", None, "instruction"),
        ("crows_pairs_english", 2, "safety"),
        ("multirc", None, "language"),
        ("glue", None, "language"),  # a group of tasks with two and with three choices
    ],
)
def test_the_facts_of_a_task(task: str, choices: int | None, capability: str) -> None:
    facts = task_facts(task)
    assert (facts.choices, facts.capability) == (choices, capability)
    assert facts.chance == (1 / choices if choices else None)


def test_the_floor_of_a_task() -> None:
    assert task_facts("gsm8k").floor == 0.0 and task_facts("gsm8k").chance is None
    assert task_facts("hellaswag").floor == 0.25
    assert task_facts("truthfulqa_mc2").floor is None


def test_a_task_that_lm_eval_does_not_have() -> None:
    assert task_facts("micro_stories") is None and task_facts("") is None
    assert task_facts("mmlu_of_next_year") == task_facts("mmlu")


def test_beginnings_of_a_name() -> None:
    assert list(prefixes("a_b-c")) == ["a_b-c", "a_b", "a"]
    assert list(prefixes("_x")) == ["_x"]


# ------------------------------------------------------------------------- against lm-eval's files


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """figures/lm_eval_registry.py, beside the lm-eval that it was run with."""
    if version("lm_eval") != json.loads(REGISTRY.read_text())["lm_eval"]:
        pytest.skip("another lm-eval than the registry was made from")
    spec = importlib.util.spec_from_file_location(
        "lm_eval_registry", CHECKOUT / "figures" / "lm_eval_registry.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FILES = [
    "hellaswag/hellaswag.yaml",
    "gsm8k/gsm8k.yaml",
    "mmlu/default/mmlu_virology.yaml",
    "truthfulqa/truthfulqa_gen.yaml",
    "crows_pairs/crows_pairs_english.yaml",
    "lambada/lambada_openai.yaml",
    "drop/default.yaml",
    "glue/mrpc/default.yaml",
    "ifeval/ifeval.yaml",
    "wikitext/wikitext.yaml",
]


@pytest.mark.parametrize("file", FILES)
def test_the_registry_says_what_a_task_file_says(script: ModuleType, file: str) -> None:
    from lm_eval.tasks._yaml_loader import load_yaml

    path = Path(find_spec("lm_eval").origin).parent / "tasks" / file
    config = load_yaml(path, resolve_func=False)
    facts, known = script.task_facts(config["task"], path), task_facts(config["task"])
    assert known.output_type == facts.output_type == config["output_type"]
    listed = config.get("doc_to_choice")
    assert known.choices == facts.choices
    if isinstance(listed, list):
        assert known.choices == len(listed)
    for row in config["metric_list"]:
        found = metric_of(row["metric"], task=config["task"])
        assert found is not None
        if "aggregation" in row:
            assert (found.stderr == "mean") == (row["aggregation"] == "mean")
        if found.kind != RATE and "higher_is_better" in row:
            assert found.higher_is_better == row["higher_is_better"]


@pytest.mark.slow
def test_the_registry_is_what_the_script_makes(script: ModuleType) -> None:
    """About a minute: all 13,000 files of lm-eval are read; then each task is looked up."""
    assert script.text(script.registry()) == REGISTRY.read_text(encoding="utf-8")
    for name, facts in script.read_tasks().items():
        known = task_facts(name)
        assert (known.output_type, known.choices) == (facts.output_type, facts.choices), name
        assert known.capability == facts.capability, name
        assert all(metric_of(metric, task=name) for metric, *_ in facts.metrics), name


def test_a_task_is_judged_by_the_best_known_share_that_it_has() -> None:
    both = ["exact_match,strict-match", "exact_match,flexible-extract"]
    assert headline("gsm8k", both) == headline(None, both) == both[1]
    assert headline("gsm8k", both[:1]) == both[0]
    assert headline("gsm8k", ["acc,none"]) == "acc,none"
    assert headline("hellaswag", ["acc,none", "acc_norm,none"]) == "acc_norm,none"
    assert headline(None, ["f1,x", "acc,none", "em,y"]) == "acc,none"
    assert headline(None, iter(["own,x", "other,y"])) == "own,x"


def test_each_task_has_the_measure_that_fits() -> None:
    assert measure_of("any", "mmlu_cs", "acc,none") == measure_of("mmlu_law", None, "em") == "dK"
    assert measure_of("any", "gsm8k", "acc,none") == measure_of("own", None, "em,none") == "FR"
    assert measure_of("gsm8k", "hellaswag", "em") == measure_of("own", None, "acc_norm") == "dA"


def test_a_row_is_called_by_task_and_metric() -> None:
    assert title_of("gsm8k", "gsm8k", "exact_match,strict-match") == "GSM8K, strict"
    assert title_of("own", None, "acc,none") == title_of("own", None, "acc") == "own, acc"
    assert title_of("own", "gsm8k", "em,first") == "own, em (first)"


def test_f1_is_a_share_where_it_is_a_mean_over_documents() -> None:
    assert metric_of("f1") == Metric(CORPUS, True, None) and why_not_judged("f1")
    assert metric_of("f1", mean=True) == Metric(SHARE, True, "mean")
    assert why_not_judged("f1", mean=True) == ""


def test_what_is_known_of_benchmarks_with_given_endings() -> None:
    both, one = {"acc,none": "acc", "acc_norm,none": "acc_norm"}, {"acc,none": "acc"}
    four = Benchmark(both, "acc_norm,none", "dA", "points", 25.0)
    assert _endings(4, ACC, ACC_NORM) == four
    assert _endings(2, ACC) == Benchmark(one, "acc,none", "dA", "points", 50.0)
    three = _endings(2, "a,none", "b,none", "c,none")
    assert three.headline == "c,none"
    assert BENCHMARKS["hellaswag"] == BENCHMARKS["arc_easy"] == four
    assert BENCHMARKS["piqa"] == four._replace(chance=50.0)
    assert BENCHMARKS["winogrande"] == _endings(2, ACC)

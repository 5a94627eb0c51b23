"""Evaluation: what is stored is lm-eval's own; nothing is mistaken for another model's."""

import json
import math
import shutil
import sys
import types
from dataclasses import replace
from importlib.machinery import ModuleSpec
from types import SimpleNamespace

import pytest

from slimlib.common import hardware
from slimlib.common.files import read_json, read_jsonl
from slimlib.common.schema import unpack_scores
from slimlib.config import EvalConfig, Task
from slimlib.evaluate import harness
from slimlib.evaluate.harness import count_truncated, evaluate_arm, evaluate_model, task_entry
from slimlib.run import Run
from slimlib.studies.get import get_study

ARITHMETIC = Task("micro_arithmetic", "gsm8k", 2, 4, limit=4, source="arithmetic")
FACTS = Task("micro_facts", "mmlu_cs", 0, 4, limit=4, source="facts")


def config_of(*tasks, **kwargs):
    return EvalConfig(tasks=tasks, dtype="float32", **{"max_length": 1024, **kwargs})


@pytest.fixture
def world(tiny_run):
    return tiny_run.data_folder()


def tasks_of(run, arm):
    return run.record(arm)["stages"]["evaluate"]["tasks"]


# ------------------------------------------------------------------------------- what is recorded


def test_stored_scores_are_lm_eval_s(tiny_run):
    for arm in tiny_run.study.arms:
        for name, task in tasks_of(tiny_run, arm.name).items():
            folder = tiny_run.arm_folder(arm.name) / "eval" / name
            theirs = read_json(folder / "results.json")["results"][name]
            assert task["metrics"]
            for metric, result in task["metrics"].items():
                assert result["value"] == theirs[metric]
                scores = unpack_scores(result["scores"])
                n, mean = len(scores), sum(scores) / len(scores)
                assert mean == pytest.approx(theirs[metric], abs=1e-12)
                error = theirs[metric.replace(",", "_stderr,")]
                assert result["stderr"] == error
                by_hand = math.sqrt(sum((s - mean) ** 2 for s in scores) / (n - 1) / n)
                assert error == pytest.approx(by_hand, abs=1e-12)


def test_every_answer_is_kept(tiny_run):
    folder = tiny_run.arm_folder("llama-2k") / "eval"
    counts = {"micro_arithmetic": 8, "micro_stories": 4, "micro_facts": 4}  # arithmetic: 2 filters
    for name, rows in counts.items():
        samples = read_jsonl(folder / name / "samples.jsonl")
        assert len(samples) == rows
        assert all(sample["resps"] and sample["doc_hash"] for sample in samples)


def test_a_record_names_roles_metrics_and_documents(tiny_run):
    tasks = tasks_of(tiny_run, "llama-2k")
    shown = {task["role"]: (task["num_fewshot"], set(task["metrics"])) for task in tasks.values()}
    assert shown == {
        "gsm8k": (2, {"exact_match,strict-match", "exact_match,flexible-extract"}),
        "hellaswag": (0, {"acc,none", "acc_norm,none"}),
        "mmlu_cs": (0, {"acc,none"}),
    }
    for task in tasks.values():
        assert (task["n"], task["truncated"], task["version"]) == (4, 0, 1.0)


def test_arms_answer_the_same_documents(tiny_run):
    for name in ("micro_arithmetic", "micro_stories", "micro_facts"):
        hashes = {tasks_of(tiny_run, arm.name)[name]["documents"] for arm in tiny_run.study.arms}
        assert len(hashes) == 1


def test_the_scores_are_those_of_a_plain_lm_eval_call(tiny_run, checkpoint, world, tmp_path):
    """The same task by simple_evaluate on the checkpoint's path, no slimlib between."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    from slimlib.data.tasks import task_yaml

    task = next(t for t in tiny_run.study["llama-base"].evaluate.tasks if t.role == "hellaswag")
    plain = lm_eval.simple_evaluate(
        model="hf",
        model_args={"pretrained": str(checkpoint), "dtype": "float32", "device": "cpu"},
        tasks=[str(task_yaml(task, world, tmp_path))],
        task_manager=TaskManager(include_defaults=False),
        limit=task.limit,
        batch_size=2,
        bootstrap_iters=0,
    )["results"][task.name]
    ours = tasks_of(tiny_run, "llama-base")[task.name]["metrics"]
    assert {metric: result["value"] for metric, result in ours.items()} == {
        metric: plain[metric] for metric in ours
    }


# ------------------------------------------------------------------------------ what is kept, when


def test_finished_tasks_are_kept(checkpoint, world, tmp_path, monkeypatch):
    asked = []
    stage = harness._evaluate_task

    def cut(loaded, task, *rest):
        asked.append(task.name)
        if asked == ["micro_facts", "micro_arithmetic"]:
            raise KeyboardInterrupt
        return stage(loaded, task, *rest)

    monkeypatch.setattr(harness, "_evaluate_task", cut)
    config = config_of(FACTS, ARITHMETIC)
    with pytest.raises(KeyboardInterrupt):
        evaluate_model(str(checkpoint), config, tmp_path, world)
    entries = evaluate_model(str(checkpoint), config, tmp_path, world)
    assert list(entries) == ["micro_facts", "micro_arithmetic"]
    assert asked == ["micro_facts", "micro_arithmetic", "micro_arithmetic"]
    assert evaluate_model(str(checkpoint), config, tmp_path, world) == entries
    assert len(asked) == 3


def test_two_models_in_one_folder_are_not_confused(tiny_run, checkpoint, world, tmp_path):
    """lm-eval's response cache has no model in its key."""
    other = str(tiny_run.arm_folder("llama-2k") / "merged")
    config = config_of(FACTS)
    first = evaluate_model(str(checkpoint), config, tmp_path / "shared", world)
    second = evaluate_model(other, config, tmp_path / "shared", world)
    alone = evaluate_model(other, config, tmp_path / "alone", world)
    assert first["micro_facts"]["key"] != second["micro_facts"]["key"]
    answers = [
        [s["filtered_resps"] for s in read_jsonl(tmp_path / d / "micro_facts" / "samples.jsonl")]
        for d in ("shared", "alone")
    ]
    assert answers[0] == answers[1]
    assert second["micro_facts"]["metrics"] == alone["micro_facts"]["metrics"]
    tiny = tiny_run.arm_folder("llama-base") / "eval" / "micro_facts" / "samples.jsonl"
    assert answers[0] != [s["filtered_resps"] for s in read_jsonl(tiny)]


@pytest.mark.parametrize("change", [{"max_length": 512}, {"fewshot_seed": 1}, {"dtype": "float16"}])
def test_other_settings_are_another_key(change, world):
    config = config_of(FACTS)
    keys = {harness._key("w", FACTS, c, world) for c in (config, replace(config, **change))}
    assert len(keys) == 2


def test_auto_is_the_dtype_of_the_device(checkpoint, world, tmp_path, monkeypatch):
    """What a machine answered in bfloat16 is no answer in float32."""
    config = replace(config_of(FACTS), dtype="auto")
    entries = {}
    for kind in ("bfloat16", "float32"):
        monkeypatch.setattr(hardware, "find_device", lambda kind=kind: SimpleNamespace(dtype=kind))
        entries[kind] = evaluate_model(str(checkpoint), config, tmp_path, world)["micro_facts"]
    assert entries["bfloat16"]["key"] != entries["float32"]["key"]
    named = replace(config, dtype="float32")
    assert (
        evaluate_model(str(checkpoint), named, tmp_path, world)["micro_facts"]
        == (entries["float32"])
    )


def test_other_documents_are_another_key(world, tmp_path):
    copy = shutil.copytree(world, tmp_path / "data")
    config = config_of(FACTS)
    assert harness._key("w", FACTS, config, copy) == harness._key("w", FACTS, config, world)
    lines = (copy / "facts_test.jsonl").read_text().splitlines(keepends=True)
    (copy / "facts_test.jsonl").write_text("".join(lines[1:]))
    assert harness._key("w", FACTS, config, copy) != harness._key("w", FACTS, config, world)


def test_no_cache_and_no_half_file_is_left(tiny_run):
    for arm in tiny_run.study.arms:
        for folder in (tiny_run.arm_folder(arm.name) / "eval").iterdir():
            names = {path.name for path in folder.iterdir()}
            assert names == {"entry.json", "results.json", "samples.jsonl"}


def test_evaluating_before_merging_is_refused(tmp_path):
    run = Run(get_study("micro"), tmp_path)
    with pytest.raises(ValueError, match="'llama-2k' has no merged/ folder yet; merge it first"):
        evaluate_arm(run, "llama-2k")
    assert not run.folder.exists()


@pytest.mark.slow
def test_a_process_with_unsloth_hands_over_to_a_clean_one(tiny_study, tmp_path, monkeypatch):
    fake = types.ModuleType("unsloth")
    fake.__spec__ = ModuleSpec("unsloth", None)
    monkeypatch.setitem(sys.modules, "unsloth", fake)
    monkeypatch.setattr(harness, "_evaluate", lambda *_: pytest.fail("evaluated beside unsloth"))
    base = tiny_study["llama-base"]
    base = replace(base, compared_with=None, evaluate=config_of(FACTS))
    run = Run(replace(tiny_study, arms=(base,), ladder=()), tmp_path)
    stage = evaluate_arm(run, "llama-base")
    assert stage["status"] == "done" and stage["tasks"]["micro_facts"]["n"] == 4


# ------------------------------------------------------------------------------ truncated prompts


class Window:
    """An lm whose tokens are characters."""

    max_length, max_gen_toks = 10, 3

    def tok_encode(self, text):
        return list(text)


@pytest.mark.parametrize(
    ("request_", "cut"),
    [
        (("1234567", {"until": []}), 0),  # 7 + 3 = 10
        (("12345678", {"until": []}), 1),
        (("123456", {"max_gen_toks": 4}), 0),
        (("1234567", {"max_gen_toks": 4}), 1),
        (("12345", "67890"), 0),
        (("12345", "678901"), 1),
    ],
)
def test_a_prompt_that_does_not_fit_is_counted_once(request_, cut):
    sample = {"doc_id": 3, "arguments": [request_]}
    assert count_truncated([sample, sample], Window()) == cut  # one row per filter


def test_truncated_prompts_reach_the_record(checkpoint, world, tmp_path, capsys):
    config = config_of(ARITHMETIC, max_length=64)
    entry = evaluate_model(str(checkpoint), config, tmp_path, world)["micro_arithmetic"]
    assert entry["truncated"] == 4
    assert "4 prompts were longer than 64 tokens" in capsys.readouterr().err


# --------------------------------------------------------------------------------- task_entry


def hand_made(scores, value=0.5):
    samples = [
        {"doc_id": i, "doc_hash": f"h{i}", "filter": "none", "acc": score}
        for i, score in enumerate(scores)
    ]
    results = {
        "results": {"micro_facts": {"alias": "x", "acc,none": value, "acc_stderr,none": "N/A"}},
        "versions": {"micro_facts": 1.0},
        "n-shot": {"micro_facts": 0},
    }
    return results, samples


def test_an_entry_by_hand():
    results, samples = hand_made([1.0, 0.0])
    entry = task_entry(results, samples[::-1], FACTS)  # lm-eval's order does not matter
    assert entry["metrics"] == {"acc,none": {"value": 0.5, "stderr": None, "scores": "10"}}
    assert (entry["n"], entry["role"], entry["num_fewshot"]) == (2, "mmlu_cs", 0)
    assert json.dumps(entry)


def test_an_entry_names_the_documents_that_belong_together():
    results, samples = hand_made([1.0, 0.0, 1.0])
    results = {key: {"digits_words": value["micro_facts"]} for key, value in results.items()}
    for sample, equation in zip(samples, ("7 + 5", "7 + 6", "7 + 5"), strict=True):
        sample["doc"] = {"equation": equation}
    task = replace(FACTS, name="digits_words")
    assert task_entry(results, samples, task)["clusters"] == ["7 + 5", "7 + 6", "7 + 5"]
    assert "clusters" not in task_entry(results, samples[:1], task)  # alone, it shares nothing
    assert "clusters" not in task_entry(*hand_made([1.0, 0.0]), FACTS)


def test_documents_are_told_apart_by_their_hash():
    results, samples = hand_made([1.0, 0.0])
    first = task_entry(results, samples, FACTS)["documents"]
    assert first == task_entry(results, samples, FACTS)["documents"]
    samples[1]["doc_hash"] = "other"
    assert first != task_entry(results, samples, FACTS)["documents"]


@pytest.mark.parametrize("score", [float("nan"), float("inf"), None, "1"])
def test_a_score_that_is_not_a_number_is_refused(score):
    with pytest.raises(ValueError, match="task micro_facts: acc,none has"):
        task_entry(*hand_made([1.0, score]), FACTS)


def test_a_missing_score_is_refused():
    results, samples = hand_made([1.0, 0.0])
    del samples[1]["acc"]
    with pytest.raises(ValueError, match="documents without a score"):
        task_entry(results, samples, FACTS)

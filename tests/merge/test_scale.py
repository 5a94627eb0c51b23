"""A share of an adapter on the embedded model: the answers, document by document."""

from dataclasses import replace

import pytest

from slimlib.adapters.saving import load_adapter
from slimlib.common.files import read_jsonl
from slimlib.data.tasks import task_yaml
from slimlib.evaluate.harness import evaluate_arm
from slimlib.merge.plain import merge_arm
from slimlib.model.load import load_model
from slimlib.run import Run
from slimlib.scoring.answering import ask_lm_eval
from slimlib.scoring.responses import Responses
from slimlib.studies.get import get_study
from slimlib.train.finetune import finetune_arm

pytestmark = pytest.mark.slow

SCALES = (0.0, 0.5, 1.0)
TUNED, NF4 = "llama-2k", "llama-base-nf4"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Fifteen steps on micro, and the adapter merged at several scales."""
    asked = {"arms": f"llama-base,{NF4},{TUNED}", "tasks": "micro_stories,micro_arithmetic"}
    study = get_study("smoke", limit=10, n=120, **asked)
    tuned = study[TUNED]
    arms = (
        replace(tuned, name=f"at-{s}", adapter_from=TUNED, merge=replace(tuned.merge, scale=s))
        for s in SCALES
    )
    run = Run(replace(study, arms=(*study.arms[1:], *arms)), tmp_path_factory.mktemp("scales"))
    finetune_arm(run, TUNED)
    for arm in run.study.arms:
        merge_arm(run, arm.name)
        evaluate_arm(run, arm.name)
    return run


def answers(run, arm, task):
    samples = read_jsonl(run.arm_folder(arm) / "eval" / task / "samples.jsonl")
    return [row["resps"] for row in samples if row["filter"] in ("none", "strict-match")]


def likelihoods(found):
    return [float(one[0][0]) for row in found for one in row]


@pytest.mark.parametrize(("scale", "same_as"), [(0.0, NF4), (1.0, TUNED)])
@pytest.mark.parametrize("task", ["micro_stories", "micro_arithmetic"])
def test_none_of_it_is_the_quantised_base_and_all_of_it_the_tuned_model(run, scale, same_as, task):
    found, wanted = answers(run, f"at-{scale}", task), answers(run, same_as, task)
    assert found == wanted and len(found) == 10
    assert answers(run, NF4, task) != answers(run, TUNED, task)


@pytest.mark.parametrize("task", ["micro_stories", "micro_arithmetic"])
def test_half_of_it_merged_answers_as_the_adapter_at_a_half(run, task, tmp_path):
    arm = run.study["at-0.5"]
    model, tokenizer = load_model(arm.model)
    model = load_adapter(model, run.adapter_folder("at-0.5"), scale=0.5).eval()
    asked = next(t for t in arm.evaluate.tasks if t.name == task)
    with Responses(tmp_path / "answers.jsonl", _line()) as responses:
        _, results = ask_lm_eval(
            (model, tokenizer),
            str(task_yaml(asked, run.data_folder(), tmp_path)),
            arm.evaluate,
            responses,
            batch_size=asked.batch_size,
            max_length=arm.evaluate.max_length,
            num_fewshot=asked.num_fewshot,
            limit=asked.limit,
        )
    rows = [r for r in results["samples"][task] if r["filter"] in ("none", "strict-match")]
    found = [row["resps"] for row in sorted(rows, key=lambda row: row["doc_id"])]
    merged = answers(run, "at-0.5", task)
    if task == "micro_stories":
        assert likelihoods(found) == pytest.approx(likelihoods(merged), abs=1e-3)
    else:
        assert found == merged
    assert merged != answers(run, TUNED, task)


def _line():
    from slimlib.common import progress

    return progress.current()

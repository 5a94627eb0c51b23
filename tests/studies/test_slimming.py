"""The named studies, held against the records that they come from."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

import slimlib
from slimlib.config import ADAPTERS, ALL_LINEAR, AdapterConfig, to_dict
from slimlib.studies.get import get_study
from slimlib.studies.slimming import HYPERPARAMETERS, STUDIES
from slimlib.train.finetune import steps_of

ARMS = (
    "llama-instruct",
    "llama-base",
    "llama-base-nf4",
    "llama-2k",
    "llama-2k-requantised",
    "llama-500-r8",
    "tinyllama-base",
    "tinyllama-50k",
)
ROLES = {"gsm8k", "hellaswag", "mmlu_cs", "mmlu_cs_college"}
LADDER = ("llama-instruct", "llama-base", "llama-base-nf4", "llama-2k", "llama-2k-requantised")
# Llama 3.2 1B, from its config.json: width 2048, 8 key-value heads of 64, MLP 8192, 16 layers.
LLAMA_SHAPES = {
    "q_proj": (2048, 2048),
    "k_proj": (2048, 512),
    "v_proj": (2048, 512),
    "o_proj": (2048, 2048),
    "gate_proj": (2048, 8192),
    "up_proj": (2048, 8192),
    "down_proj": (8192, 2048),
}


def study_of(name: str, tmp_path: Path, **overrides):
    data = str(tmp_path) if name == "rehearsal" else None
    return get_study(name, data, **overrides)


def lora_parameters(adapter: AdapterConfig) -> int:
    return 16 * sum(adapter.r * sum(LLAMA_SHAPES[m]) for m in adapter.target_modules)


@pytest.mark.parametrize("name", STUDIES)
class TestEveryStudy:
    def test_has_the_eight_arms_and_the_ladder(self, name, tmp_path):
        study = study_of(name, tmp_path)
        assert tuple(arm.name for arm in study.arms) == ARMS
        assert study.ladder == LADDER

    def test_compares_arms_that_exist(self, name, tmp_path):
        study = study_of(name, tmp_path)
        pairs = {(arm.compared_with, arm.name) for arm in study.arms if arm.compared_with}
        asked = {(question.base, question.tuned) for question in study.comparisons}
        for base, tuned in pairs | asked:
            assert base in ARMS and tuned in ARMS and base != tuned
        assert {("llama-2k", "tinyllama-50k"), ("llama-base", "tinyllama-50k")} <= asked
        assert list(study.causes) == list(LADDER[1:])

    def test_ladder_changes_one_thing_a_step(self, name, tmp_path):
        instruct, base, nf4, tuned, requantised = (study_of(name, tmp_path)[a] for a in LADDER)
        assert instruct.model != base.model
        assert base.model == nf4.model == tuned.model == requantised.model
        assert (base.quantise, nf4.quantise) == (False, True)
        assert nf4.adapter is None and not nf4.trains and nf4.writes_weights
        assert tuned.trains and tuned.merge.merge_base == "dequant_nf4"
        assert requantised.adapter_from == "llama-2k" and not requantised.trains
        assert requantised.merge == replace(tuned.merge, merge_base="requantised")

    def test_evaluates_all_arms_alike(self, name, tmp_path):
        study = study_of(name, tmp_path)
        assert len({arm.evaluate for arm in study.arms}) == 1
        roles = [task.role for task in study.arms[0].evaluate.tasks]
        assert set(roles) == set(study.task_labels) <= ROLES
        assert len(roles) == len(set(roles))

    def test_survives_json(self, name, tmp_path):
        for arm in study_of(name, tmp_path).arms:
            stored = to_dict(arm)
            assert stored["name"] == arm.name
            assert stored["model"]["name"] == arm.model.name


def test_the_llama_run_is_the_author_s():
    arm = get_study("paper")["llama-2k"]
    assert (arm.adapter.r, arm.adapter.lora_alpha, arm.adapter.lora_dropout) == (16, 16, 0.0)
    assert set(arm.adapter.target_modules) == set(LLAMA_SHAPES) == set(ALL_LINEAR)
    assert lora_parameters(arm.adapter) == 11_272_192
    assert arm.train.per_device_train_batch_size == arm.train.gradient_accumulation_steps == 4
    assert arm.train.learning_rate == 2e-4
    assert (arm.train.lr_scheduler_type, arm.train.warmup_ratio) == ("cosine", 0.05)
    assert (arm.train.optim, arm.train.num_train_epochs) == ("adamw_torch", 1)
    assert (arm.data.dataset, arm.data.n, arm.data.subset) == ("alpaca", 2000, "head")
    assert (arm.data.template, arm.data.append_eos) == ("as-run", False)
    assert (arm.model.max_seq_length, arm.seed, arm.model.load_in_4bit) == (1024, 3407, True)
    assert steps_of(2000, arm) == 125


def test_the_paper_s_evaluation_is_the_author_s():
    arm = get_study("paper")["llama-base"]
    shots = {task.name: (task.num_fewshot, task.limit) for task in arm.evaluate.tasks}
    assert shots == {
        "hellaswag": (0, None),
        "gsm8k": (5, None),
        "mmlu_high_school_computer_science": (0, None),
        "mmlu_college_computer_science": (0, None),
    }
    assert (arm.evaluate.dtype, arm.evaluate.max_length) == ("float16", 2048)


def test_the_tinyllama_run_is_the_author_s():
    arm = get_study("paper")["tinyllama-50k"]
    assert arm.model.name == "TinyLlama/TinyLlama-1.1B-Chat-v1.0"
    assert (arm.adapter.r, arm.adapter.lora_alpha, arm.adapter.lora_dropout) == (8, 32, 0.05)
    assert arm.train.per_device_train_batch_size * arm.train.gradient_accumulation_steps == 16
    assert (arm.train.learning_rate, arm.data.n) == (2e-5, 50_000)
    assert arm.compared_with == "tinyllama-base"


def test_the_minimal_run_is_the_paper_s():
    arm = get_study("paper")["llama-500-r8"]
    assert (arm.adapter.r, arm.data.n, arm.trains) == (8, 500, True)


def test_every_hub_model_of_the_paper_is_pinned_to_a_commit():
    for arm in get_study("paper").arms:
        assert re.fullmatch(r"[0-9a-f]{40}", arm.model.revision)


def test_as_written_is_what_the_paper_says():
    arm = get_study("paper", hyperparameters="as-written")["llama-2k"]
    assert arm.adapter.r == 8
    assert arm.adapter.target_modules == ("q_proj", "k_proj", "v_proj")
    assert (arm.data.template, arm.data.append_eos) == ("alpaca", True)
    # r(d_in + d_out), eq. 1.2: 16 layers x 8 x (4096 + 2560 + 2560)
    assert lora_parameters(arm.adapter) == 1_179_648


def test_as_written_reaches_the_arm_that_shares_the_adapter_and_no_other():
    study = get_study("paper", hyperparameters="as-written")
    assert study["llama-2k-requantised"].adapter == study["llama-2k"].adapter
    assert study["llama-500-r8"].adapter == get_study("paper")["llama-500-r8"].adapter


def test_as_run_is_the_default():
    assert get_study("paper", hyperparameters="as-run") == get_study("paper")
    assert list(HYPERPARAMETERS) == ["as-run", "as-written", "as-article"]


def test_as_article_is_what_paper_b_says():
    """Section 3.3: paged AdamW, batch 4 x 4, constant 2e-5, norm 0.3, 10,000 steps."""
    study = get_study("paper", hyperparameters="as-article")
    train = study["llama-2k"].train
    assert (train.optim, train.learning_rate) == ("paged_adamw_32bit", 2e-5)
    assert (train.lr_scheduler_type, train.warmup_ratio) == ("constant", 0)
    assert (train.max_grad_norm, train.max_steps) == (0.3, 10_000)
    assert train.per_device_train_batch_size == train.gradient_accumulation_steps == 4
    assert study["llama-2k"].data.n is None and study["llama-2k-requantised"].train == train
    assert study["tinyllama-50k"] == get_study("paper")["tinyllama-50k"]


def test_as_article_reaches_every_cell_of_a_grid_and_no_adapter():
    grid, plain = (
        get_study("key_variables", hyperparameters="as-article"),
        get_study("key_variables"),
    )
    train = HYPERPARAMETERS["as-article"]["train"]
    for arm, before in zip(grid.arms, plain.arms, strict=True):
        assert arm.adapter == before.adapter
        assert arm.train == (train if arm.trains else before.train)
    with pytest.raises(ValueError, match="hyperparameters=as-written .*of the arm llama-2k alone"):
        get_study("key_variables", hyperparameters="as-written")


def test_smoke_has_a_tenth_of_micro_s_rows():
    micro, smoke = get_study("micro")["llama-2k"], get_study("smoke")["llama-2k"]
    assert smoke.data.n * 10 == micro.data.n
    assert [t.limit * 10 for t in smoke.evaluate.tasks] == [t.limit for t in micro.evaluate.tasks]


def test_small_studies_say_that_they_are_micro(tmp_path):
    for name in ("micro", "smoke", "rehearsal"):
        study = study_of(name, tmp_path)
        assert "micro" in study.title and "micro" in study.note
        assert not study.paper_columns


def test_no_code_asks_for_the_name_of_a_study_or_a_method():
    """`if study.name == "micro"` anywhere would make the small study another program.

    Nor is a method asked for: what it does stands in its class.
    """
    quoted = r"""["'](%s)["']"""
    studies = re.compile(r"(==|!=|\bin\b|\bcase\b)\s*[\[\(\{]?\s*" + quoted % "|".join(STUDIES))
    methods = re.compile(r"(==|!=|\bcase\b)\s*" + quoted % "|".join(ADAPTERS))
    for path in sorted(Path(slimlib.__file__).parent.rglob("*.py")):
        text = path.read_text("utf-8")
        assert studies.findall(text) + methods.findall(text) == [], path

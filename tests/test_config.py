"""Studies: the presets against the records they come from; overrides and their errors."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

import slimlib
from slimlib import config
from slimlib.config import ALL_LINEAR, to_dict
from slimlib.studies.checks import validate
from slimlib.studies.get import STUDIES, get_study
from slimlib.studies.overrides import settable_keys
from slimlib.studies.slimming import HYPERPARAMETERS
from slimlib.train import steps_of

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


def lora_parameters(adapter: config.AdapterConfig) -> int:
    return 16 * sum(adapter.r * sum(LLAMA_SHAPES[m]) for m in adapter.target_modules)


# ---------------------------------------------------------------------------------------- presets


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
        assert set(roles) == set(study.task_labels) <= set(config.ROLES)
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
    assert list(HYPERPARAMETERS) == ["as-run", "as-written"]


def test_smoke_has_a_tenth_of_micro_s_rows():
    micro, smoke = get_study("micro")["llama-2k"], get_study("smoke")["llama-2k"]
    assert smoke.data.n * 10 == micro.data.n
    assert [t.limit * 10 for t in smoke.evaluate.tasks] == [t.limit for t in micro.evaluate.tasks]


def test_small_studies_say_that_they_are_micro(tmp_path):
    for name in ("micro", "smoke", "rehearsal"):
        study = study_of(name, tmp_path)
        assert "micro" in study.title and "micro" in study.note
        assert not study.paper_columns


def test_no_code_outside_the_presets_asks_for_a_study_s_name():
    """`if study.name == "micro"` anywhere would make the small study another program."""
    names = "|".join(STUDIES)
    compared = re.compile(rf"""(==|!=|\bin\b|\bcase\b)\s*[\[\(\{{]?\s*["']({names})["']""")
    for path in sorted(Path(slimlib.__file__).parent.rglob("*.py")):
        assert compared.findall(path.read_text("utf-8")) == [], path


# -------------------------------------------------------------------------------------- get_study


def test_auto_takes_micro_without_a_gpu_and_says_why(monkeypatch):
    cpu = slimlib.common.hardware.Device("cpu", "a laptop", None, 8.0, 4.0)
    monkeypatch.setattr("slimlib.common.hardware.find_device", lambda: cpu)
    study = get_study("auto")
    assert study.name == "micro" and "no CUDA GPU" in study.reason and "laptop" in study.reason


def test_auto_takes_the_paper_s_on_a_gpu(monkeypatch):
    t4 = slimlib.common.hardware.Device("cuda", "Tesla T4", (7, 5), 14.7, 14.5)
    monkeypatch.setattr("slimlib.common.hardware.find_device", lambda: t4)
    study = get_study("auto")
    assert study.name == "paper" and "Tesla T4" in study.reason


def test_an_unknown_study_lists_the_known_ones():
    with pytest.raises(ValueError, match="unknown study 'papr'; known: auto, paper, micro, smoke"):
        get_study("papr")


def test_an_unknown_arm_lists_the_known_ones():
    with pytest.raises(ValueError, match="no arm 'llama-3k'; it has: llama-instruct, llama-base"):
        get_study("micro")["llama-3k"]


def test_rehearsal_needs_a_folder_that_exists(tmp_path):
    with pytest.raises(ValueError, match="--data DIR or set SLIMLIB_DATA"):
        get_study("rehearsal")
    with pytest.raises(ValueError, match="nowhere does not exist"):
        get_study("rehearsal", str(tmp_path / "nowhere"))


def test_rehearsal_reads_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("SLIMLIB_DATA", str(tmp_path))
    assert get_study("rehearsal").data == str(tmp_path.resolve())
    assert get_study("micro").data == "world"


def test_the_paper_s_study_can_read_local_files(tmp_path):
    study = get_study("paper", str(tmp_path))
    assert study.data == str(tmp_path.resolve())
    assert all(task.source == task.name for arm in study.arms for task in arm.evaluate.tasks)


def test_a_made_up_world_takes_no_data_folder(tmp_path):
    with pytest.raises(ValueError, match="makes its own data"):
        get_study("micro", str(tmp_path))


# -------------------------------------------------------------------------------------- overrides


def test_override_reaches_every_arm_that_has_the_field():
    study = get_study("paper", **{"adapter.r": "32"})
    assert [a.adapter.r for a in study.arms if a.adapter] == [32] * 4
    assert get_study("paper")["llama-2k"].adapter.r == 16


def test_override_of_one_arm_leaves_the_others():
    study = get_study("paper", **{"llama-500-r8.data.n": "100"})
    assert study["llama-500-r8"].data.n == 100
    assert study["llama-2k"].data.n == 2000


def test_override_of_an_adapter_follows_to_the_arm_that_takes_it():
    """Else the record of llama-2k-requantised would show an adapter that it has not."""
    study = get_study("paper", **{"llama-2k.adapter.r": "8", "llama-2k.merge.dtype": "float32"})
    assert study["llama-2k-requantised"].adapter.r == 8
    assert study["llama-2k-requantised"].merge.dtype == "float16"


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("adapter.r", "8", 8),
        ("adapter.target_modules", "q_proj, v_proj", ("q_proj", "v_proj")),
        ("train.learning_rate", "1e-5", 1e-5),
        ("train.max_steps", "-1", -1),
        ("data.append_eos", "True", True),
        ("data.n", "none", None),
        ("data.mixture", '{"alpaca": 0.5, "gsm8k": 0.5}', {"alpaca": 0.5, "gsm8k": 0.5}),
        ("model.revision", "main", "main"),
        ("evaluate.max_length", "512", 512),
        ("merge.merge_base", "16bit", "16bit"),
        ("seed", "7", 7),
    ],
)
def test_text_becomes_the_field_s_type(key, text, value):
    overrides = {"data.n": "9"} if key == "data.mixture" else {}
    found = get_study("paper", **overrides, **{key: text})["llama-2k"]
    for part in key.split("."):
        found = getattr(found, part)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize("pair", [("r", "adapter.r"), ("n", "data.n"), ("dataset", "data.dataset")])
def test_short_keys_are_the_long_ones(pair):
    short, full = pair
    value = "rows.jsonl" if short == "dataset" else "9"
    assert get_study("paper", **{short: value}) == get_study("paper", **{full: value})


def test_values_from_python_are_taken_as_they_are():
    study = get_study("paper", **{"adapter.r": 8, "adapter.target_modules": ["q_proj"], "limit": 3})
    assert study["llama-2k"].adapter.target_modules == ("q_proj",)
    assert {t.limit for arm in study.arms for t in arm.evaluate.tasks} == {3}


def test_an_unknown_key_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"unknown key 'adapter.rank'; known: .*adapter\.r\b"):
        get_study("micro", **{"adapter.rank": "8"})


def test_every_listed_key_can_be_set():
    """Each key that an error message offers is one that `override` takes."""
    values = {
        "arms": "llama-base",
        "model": "some/model",
        "hyperparameters": "as-written",
        "dataset": "x.jsonl",
        "data.mixture": '{"alpaca": 1}',
        "adapter.target_modules": "q_proj",
        "adapter.lora_dropout": "0.5",
        "data.subset": "random",
        "data.template": "alpaca",
        "data.append_eos": "true",
        "merge.merge_base": "16bit",
        "model.load_in_4bit": "false",
        "train.warmup_ratio": "0.5",
        "adapter.method": "q-bara",
        "adapter.keep_scale": "true",
        "adapter.rules": '[{"layer_type": "mlp", "r": 8}]',
        "model.quantiser": "int4",
        "model.block_size": "32",
        "evaluator": "hf",
        "evaluate.evaluator": "hf",
    }
    # the study's own re-quantised arm goes with NF4 alone, and NF4 with blocks of 64
    needs = {"model.quantiser": {"arms": "llama-base,llama-2k"}}
    needs["model.block_size"] = needs["model.quantiser"] | {"model.quantiser": "int4"}
    dtypes = ("model.dtype", "merge.dtype", "evaluate.dtype")
    for key in settable_keys():
        value = "float32" if key in dtypes else values.get(key, "3")
        given = needs.get(key, {})
        assert get_study("paper", **given, **{key: value}) != get_study("paper", **given), key


@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        ("adapter.r", "0", r"adapter\.r=0 \(arm llama-2k\): must be 1 or more"),
        ("adapter.r", "eight", "r='eight' is not a value of type int"),
        ("adapter.r", 8.5, "r='8.5' is not a value of type int"),
        ("adapter.lora_dropout", "1", "lora_dropout=1.0"),
        ("adapter.lora_alpha", "0", "lora_alpha=0"),
        ("adapter.method", "hira", "adapter.method=hira .*must be qlora"),
        ("data.n", "0", "data.n=0"),
        ("data.template", "chatml", "data.template=chatml .*must be as-run or alpaca"),
        ("data.subset", "tail", "data.subset=tail"),
        ("data.append_eos", "maybe", "append_eos='maybe' is not a value of type bool"),
        ("data.mixture", "alpaca", "mixture='alpaca'"),
        ("data.mixture", '{"alpaca": 0}', "data.mixture"),
        ("train.learning_rate", "0", "learning_rate=0.0"),
        ("train.learning_rate", "nan", "learning_rate=nan"),
        ("train.learning_rate", "inf", "learning_rate=inf"),
        ("train.max_steps", "0", "max_steps=0"),
        ("train.num_train_epochs", "-1", "num_train_epochs=-1.0"),
        ("train.per_device_train_batch_size", "0", "batch_size=0"),
        ("train.warmup_ratio", "2", "warmup_ratio=2.0"),
        ("train.save_steps", "0", "save_steps=0"),
        ("merge.merge_base", "8bit", "merge_base=8bit .*dequant_nf4 or 16bit or requantised"),
        ("merge.dtype", "int8", "merge.dtype=int8 .*float16"),
        ("evaluate.dtype", "half", "evaluate.dtype=half .*float16"),
        ("model.dtype", "fp16", "model.dtype=fp16 .*auto"),
        ("model.max_seq_length", "0", "max_seq_length=0"),
        ("evaluate.max_length", "0", "max_length=0"),
        ("limit", "0", "limit=0"),
        ("limit", "ten", "limit='ten'"),
        ("batch_size", "0", "batch_size=0"),
        ("seed", "-1", "seed=-1"),
        ("hyperparameters", "as-told", "unknown hyperparameters 'as-told'; known: as-run, as-writ"),
        ("arms", "llama-9k", "no arm 'llama-9k'"),
        ("arms", "llama-2k-requantised", "takes its adapter from 'llama-2k': keep both"),
        ("arms", "llama-base,llama-base", "llama-base.*twice"),
        ("llama-base.adapter.r", "8", "no arm of study 'paper' has a field 'llama-base.adapter.r'"),
    ],
)
def test_bad_values_are_named_with_the_way_out(key, text, message):
    with pytest.raises(ValueError, match=message):
        get_study("paper", **{key: text})


def test_a_mixture_needs_the_number_of_rows():
    with pytest.raises(ValueError, match="data.n=None"):
        get_study("paper", **{"data.n": "none", "data.mixture": '{"alpaca": 1, "gsm8k": 1}'})


def test_kept_arms_keep_only_what_stands():
    study = get_study("paper", arms="llama-base, llama-2k")
    assert [arm.name for arm in study.arms] == ["llama-base", "llama-2k"]
    assert study.ladder == ("llama-base", "llama-2k")
    assert study.comparisons == ()
    assert study["llama-base"].compared_with is None  # llama-instruct is gone
    assert study["llama-2k"].compared_with == "llama-base"


def test_another_model_takes_the_llama_arms_along():
    study = get_study("paper", model="me/my-1b")
    names = [arm.name for arm in study.arms]
    assert names == [
        "llama-base",
        "llama-base-nf4",
        "llama-2k",
        "llama-2k-requantised",
        "llama-500-r8",
    ]
    assert {(a.model.name, a.model.revision) for a in study.arms} == {("me/my-1b", None)}
    assert study["llama-base"].label == "my-1b base"
    assert study.paper_columns == {}  # another model's numbers are not the paper's
    assert study.ladder == LADDER[1:]


def test_configs_cannot_be_changed_in_place():
    arm = get_study("paper")["llama-2k"]
    with pytest.raises(AttributeError):
        arm.seed = 1


def test_validate_returns_a_good_study_unchanged():
    study = get_study("micro")
    assert validate(study) is study

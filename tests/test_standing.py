"""What a stage's key covers, and folders that other settings, content or versions made."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from short_stages import failing, rerun, work

from slimlib import standing
from slimlib.common.checked import fields_of
from slimlib.common.files import (
    read_json,
    write_json,
)
from slimlib.run import Run
from slimlib.standing import SettingsError
from slimlib.studies.get import get_study


@pytest.fixture
def run(tmp_path):
    return Run(get_study("micro"), tmp_path)


class TestOtherSettings:
    def test_of_a_training_are_named_with_the_way_out(self, run):
        run.stage("llama-2k", "finetune", work())
        other = rerun(run, **{"adapter.r": 8})
        with pytest.raises(SettingsError) as raised:
            other.stage("llama-2k", "finetune", failing)
        message = str(raised.value)
        assert "finetune: adapter.r was 16, now 8" in message
        assert "its training is kept: choose another --runs folder" in message
        assert "\n" not in message and "delete" not in message

    def test_of_the_adapter_reach_merge_and_evaluation(self, run):
        for stage in ("finetune", "merge", "evaluate"):
            run.stage("llama-2k", stage, work(tasks={}))
        other = rerun(run, **{"adapter.r": 8})
        assert other.state("llama-2k", "merge") == ("stale", "adapter's settings changed")
        assert other.state("llama-2k", "evaluate") == ("stale", "merged weights' settings changed")
        with pytest.raises(SettingsError):
            other.check()

    def test_of_the_adapter_reach_the_arm_that_takes_it(self, run):
        run.stage("llama-2k-requantised", "merge", work())
        other = rerun(run, **{"llama-2k.train.learning_rate": 1e-3})
        assert not other.done("llama-2k-requantised", "merge")

    def test_of_the_merge_leave_the_training_done(self, run, capsys):
        run.stage("llama-2k", "finetune", work())
        run.stage("llama-2k", "merge", work())
        other = rerun(run, **{"llama-2k.merge.merge_base": "16bit"})
        assert other.done("llama-2k", "finetune")
        other.stage("llama-2k", "merge", work())
        told = capsys.readouterr().err
        assert 'merge llama-2k: merge.merge_base was "dequant_nf4", now "16bit": merges' in told
        assert other.done("llama-2k", "merge")

    def test_of_the_evaluation_leave_the_weights_done(self, run):
        for stage in ("finetune", "merge", "evaluate"):
            run.stage("llama-2k", stage, work(tasks={}))
        other = rerun(run, limit=7)
        assert other.done("llama-2k", "finetune") and other.done("llama-2k", "merge")
        state = other.state("llama-2k", "evaluate")
        assert state.word == "stale"
        assert "evaluate.tasks.micro_stories.limit was 200, now 7" in state.why

    def test_that_change_no_weight_leave_all_done(self, run):
        for stage in ("finetune", "merge", "evaluate"):
            run.stage("llama-2k", stage, work(tasks={}))
        assert rerun(run, **{"merge.keep_merged": False}).done("llama-2k", "merge")

    def test_of_a_training_that_has_no_checkpoint_yet_are_no_hindrance(self, run):
        with pytest.raises(RuntimeError):
            run.stage("llama-2k", "finetune", failing)
        other = rerun(run, **{"adapter.r": 8})
        other.stage("llama-2k", "finetune", work())
        assert other.done("llama-2k", "finetune")

    def test_of_a_training_that_was_cut_off_are_refused(self, run):
        with pytest.raises(RuntimeError):
            run.stage("llama-2k", "finetune", failing)
        (run.folder / "llama-2k" / "checkpoints" / "checkpoint-100").mkdir(parents=True)
        with pytest.raises(SettingsError, match="adapter.r was 16, now 8"):
            rerun(run, **{"adapter.r": 8}).stage("llama-2k", "finetune", failing)

    def test_of_one_arm_leave_the_others_done(self, run):
        run.stage("llama-500-r8", "finetune", work())
        assert rerun(run, **{"llama-2k.adapter.r": 4}).done("llama-500-r8", "finetune")

    def test_are_refused_by_check_which_writes_nothing(self, run):
        run.stage("llama-2k", "finetune", work())
        before = {p: p.read_bytes() for p in run.root.rglob("*") if p.is_file()}
        with pytest.raises(SettingsError):
            rerun(run, **{"data.n": 10}).check()
        assert {p: p.read_bytes() for p in run.root.rglob("*") if p.is_file()} == before

    def test_a_changed_file_of_rows_is_trained_on_again(self, tmp_path, capsys):
        rows = tmp_path / "mine.jsonl"
        for key in ("data.path", "data.dataset"):
            rows.write_text('{"instruction": "a", "output": "b"}\n')
            study = get_study("micro", **{key: str(rows), "n": 1})
            run = Run(study, tmp_path / key)
            run.stage("llama-2k", "finetune", work())
            assert Run(study, run.root).done("llama-2k", "finetune")
            rows.write_text('{"instruction": "a", "output": "c"}\n')
            Run(study, run.root).stage("llama-2k", "finetune", work(rows=3))
            assert run.record("llama-2k")["stages"]["finetune"]["rows"] == 3
            told = capsys.readouterr().err
            assert "finetune llama-2k: rows changed: trains again" in told

    def test_changed_benchmark_files_are_asked_again(self, tmp_path, data_folder):
        import shutil

        copy = tmp_path / "data"
        for part in ("gsm8k", "mmlu", "hellaswag", "alpaca"):
            (copy / part).mkdir(parents=True)
            shutil.copytree(data_folder / part, copy / part, dirs_exist_ok=True)
        study = get_study("rehearsal", str(copy))
        Run(study, tmp_path).stage("llama-base", "evaluate", work(tasks={}))
        with open(copy / "gsm8k" / "test.jsonl", "a") as stream:
            stream.write('{"question": "1 + 1?", "answer": "#### 2"}\n')
        state = Run(study, tmp_path).state("llama-base", "evaluate")
        assert state == ("stale", "documents changed")


# ------------------------------------------------------------------------------ what a key covers


def test_a_run_from_before_a_field_came_keeps_its_key(run):
    """Where the field says what was so before it came."""
    assert {"dataset", "n", "template"} <= run.settings("llama-2k", "finetune")["data"].keys()
    assert not {"learn", "held_out", "system"} & run.settings("llama-2k", "finetune")["data"].keys()
    for stage in ("finetune", "merge", "evaluate"):
        model = run.settings("llama-2k", stage)["model"]
        assert "quantiser" in model and not {"block_offset", "error_scale"} & model.keys()


CHANGED = {  # another value for each field that a stage reads
    "finetune": {
        "model": {
            "name": "micro:instruct",
            "revision": "abc",
            "dtype": "float16",
            "load_in_4bit": False,
            "quantiser": "int4",
            "block_size": 64,
            "block_offset": 8,
            "error_scale": 0.5,
            "max_seq_length": 99,
            "keep": ("mlp",),
            "backend": "unsloth",
        },
        "data": {
            "dataset": "gsm8k",
            "path": "rows.jsonl",
            "n": 7,
            "subset": "random",
            "mixture": {"alpaca": 0.5, "gsm8k": 0.5},
            "template": "alpaca",
            "append_eos": True,
            "learn": "answer",
            "held_out": 0.1,
            "system": "to-user",
            "replay": 0.1,
            "replay_from": "digits",
        },
        "train": {
            "per_device_train_batch_size": 99,
            "gradient_accumulation_steps": 99,
            "learning_rate": 0.5,
            "lr_scheduler_type": "constant",
            "warmup_ratio": 0.5,
            "num_train_epochs": 9.0,
            "max_steps": 9,
            "optim": "adafactor",
            "weight_decay": 0.5,
            "max_grad_norm": 0.5,
            "save_steps": 9,
            "logging_steps": 9,
            "kl_weight": 0.5,
            "probe_steps": 5,
            "probe_limit": 7,
            "probes": ("micro_facts",),
            "padding_free": True,
        },
    },
    "merge": {"merge": {"merge_base": "16bit", "dtype": "bfloat16", "scale": 0.5}},
    "evaluate": {
        "evaluate": {
            "tasks": (),
            "dtype": "bfloat16",
            "max_length": 99,
            "fewshot_seed": 9,
            "evaluator": "hf",
        }
    },
}
FIELDS = [
    (stage, part, field)
    for stage, parts in CHANGED.items()
    for part, values in parts.items()
    for field in values
]


@pytest.mark.parametrize(("stage", "part", "field"), FIELDS)
def test_each_field_that_a_stage_reads_is_in_its_key(stage, part, field, tmp_path):
    """Another value is another key, of this stage and of those that stand on it."""
    (tmp_path / "rows.jsonl").write_text('{"instruction": "a", "output": "b"}\n')
    made = get_study("micro", arms="llama-2k")
    (arm,) = made.arms
    value = CHANGED[stage][part][field]
    value = str(tmp_path / value) if field == "path" else value
    if field == "block_size":
        arm = replace(arm, model=replace(arm.model, quantiser="int4", block_size=32))
    if field == "replay":
        arm = replace(arm, data=replace(arm.data, replay_from="own-text"))
    other = replace(arm, **{part: replace(getattr(arm, part), **{field: value})})
    first, second = (Run(replace(made, arms=(one,)), tmp_path) for one in (arm, other))
    after = ["finetune", "merge", "evaluate"]
    for later in after[after.index(stage) :]:
        assert first.settings("llama-2k", later) != second.settings("llama-2k", later), later


def test_every_field_of_the_keys_is_looked_at():
    arm = get_study("micro")["llama-2k"]
    for parts in CHANGED.values():
        for part, values in parts.items():
            known = {*fields_of(type(getattr(arm, part)))}
            assert {*values} == known - {"keep_merged"}, part  # which changes no weight


def test_rows_of_the_hub_that_moved_are_trained_on_again(tmp_path, monkeypatch):
    made = get_study("micro", arms="llama-2k", **{"data.dataset": "me/rows"})
    run = Run(made, tmp_path)
    monkeypatch.setattr(standing, "moving_rows", lambda _: {"me/rows": "abc"})
    run.stage("llama-2k", "finetune", work())
    assert run.done("llama-2k", "finetune")
    monkeypatch.setattr(standing, "moving_rows", lambda _: {})  # the hub does not answer
    assert run.done("llama-2k", "finetune")
    monkeypatch.setattr(standing, "moving_rows", lambda _: {"me/rows": "def"})
    assert run.state("llama-2k", "finetune") == ("stale", "rows changed")


def test_the_seed_and_the_content_of_local_rows_are_in_the_key(tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"instruction": "a", "output": "b"}\n')
    made = get_study("micro", arms="llama-2k", **{"data.path": str(rows), "data.n": 1})
    before = Run(made, tmp_path).settings("llama-2k", "finetune")
    (arm,) = made.arms
    other = Run(replace(made, arms=(replace(arm, seed=arm.seed + 1),)), tmp_path)
    assert other.settings("llama-2k", "finetune") != before
    rows.write_text('{"instruction": "a", "output": "c"}\n')  # as long as before
    assert Run(made, tmp_path).settings("llama-2k", "finetune") != before


# --------------------------------------------------------------------------- folders of slimlib 0.1


@pytest.fixture
def first(tmp_path):
    """The run folder of four arms of micro, as slimlib 0.1 left it."""
    shutil.copytree(OLD / "micro", tmp_path / "micro")
    return Run(get_study("micro", arms=",".join(ARMS)), tmp_path)


OLD = Path(__file__).parent / "data" / "slimlib_0.1"  # not of places: other processes import this
ARMS = ("llama-base", "llama-base-nf4", "llama-2k", "llama-2k-requantised")


def test_what_an_older_slimlib_did_is_done(first):
    first.check()
    for arm in ARMS:
        for stage in first.stages(arm):
            assert first.done(arm, stage), (arm, stage)
            first.stage(arm, stage, failing)  # skipped
    assert first.record("llama-2k")["stages"]["finetune"]["last_loss"] > 0


def test_an_older_folder_of_other_settings_is_refused(first):
    with pytest.raises(SettingsError, match="adapter.r was 16, now 8"):
        rerun(first, **{"adapter.r": 8}).done("llama-2k", "finetune")


def test_a_source_written_anew_still_made_the_adapter(first):
    record = first.record("llama-2k")
    write_json(first.arm_folder("llama-2k") / "record.json", record)
    assert first.done("llama-2k-requantised", "merge")
    assert first.done("llama-2k-requantised", "evaluate")


def test_a_record_of_a_newer_slimlib_is_refused_by_name(first):
    path = first.arm_folder("llama-base") / "record.json"
    write_json(path, read_json(path) | {"schema": 3})
    with pytest.raises(ValueError, match=r"llama-base/record.json: a record of schema 3"):
        first.record("llama-base")

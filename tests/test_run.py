"""Run folders: whole files or none, what is done, and folders that other settings made."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from slimlib import run as run_module
from slimlib.common.checked import fields_of
from slimlib.common.files import (
    atomic_path,
    clear_leftovers,
    file_sha256,
    read_json,
    read_jsonl,
    sha256,
    write_json,
)
from slimlib.pipeline import study
from slimlib.run import Run, SettingsError, in_clean_process
from slimlib.studies.get import get_study


def work(**outcome):
    return lambda: outcome


def failing():
    raise RuntimeError("the kernel was cut off")


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.fixture
def run(tmp_path):
    return Run(get_study("micro"), tmp_path)


def rerun(run: Run, **overrides) -> Run:
    """The same folder, other settings."""
    return Run(get_study("micro", **overrides), run.root)


# -------------------------------------------------------------------------------------- the files


class TestAtomicPath:
    def test_the_file_appears_when_the_block_ends(self, tmp_path):
        target = tmp_path / "deep" / "file.txt"
        with atomic_path(target) as temporary:
            temporary.write_text("new")
            assert not target.exists()
        assert target.read_text() == "new"
        assert files(tmp_path) == ["deep", "deep/file.txt"]

    def test_an_exception_leaves_the_old_file_and_nothing_else(self, tmp_path):
        target = tmp_path / "file.txt"
        target.write_text("old")
        with pytest.raises(RuntimeError), atomic_path(target) as temporary:
            temporary.write_text("half")
            raise RuntimeError
        assert target.read_text() == "old"
        assert files(tmp_path) == ["file.txt"]

    def test_an_exception_leaves_the_old_folder_and_nothing_else(self, tmp_path):
        target = tmp_path / "folder"
        target.mkdir()
        (target / "weights").write_text("old")
        with pytest.raises(KeyboardInterrupt), atomic_path(target) as temporary:
            temporary.mkdir()
            (temporary / "weights").write_text("half")
            raise KeyboardInterrupt
        assert (target / "weights").read_text() == "old"
        assert files(tmp_path) == ["folder", "folder/weights"]

    def test_a_folder_replaces_a_folder_whole(self, tmp_path):
        target = tmp_path / "folder"
        target.mkdir()
        (target / "stale").touch()
        with atomic_path(target) as temporary:
            temporary.mkdir()
            (temporary / "fresh").touch()
        assert files(tmp_path) == ["folder", "folder/fresh"]

    def test_what_a_dead_process_of_this_number_left_is_no_hindrance(self, tmp_path):
        (tmp_path / f".folder.{os.getpid()}.tmp").mkdir()
        (tmp_path / f".folder.{os.getpid()}.old").touch()
        for name in ("stale", "fresh"):
            with atomic_path(tmp_path / "folder") as temporary:
                temporary.mkdir()
                (temporary / name).touch()
        assert files(tmp_path) == ["folder", "folder/fresh"]

    def test_what_is_written_is_on_the_disk_before_it_gets_its_name(self, tmp_path, monkeypatch):
        seen = []
        monkeypatch.setattr(os, "fsync", lambda _: seen.append((tmp_path / "folder").exists()))
        with atomic_path(tmp_path / "folder") as temporary:
            temporary.mkdir()
            (temporary / "weights").touch()
        assert seen == [False, False, True]  # the file, its folder; then the name

    def test_a_disk_that_fails_to_keep_it_is_an_error(self, tmp_path, monkeypatch):
        def fail(_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="No space left"):
            write_json(tmp_path / "record.json", {})
        assert files(tmp_path) == []

    def test_a_file_system_that_cannot_flush_is_none(self, tmp_path, monkeypatch):
        def refuse(_):
            raise OSError(22, "Invalid argument")

        monkeypatch.setattr(os, "fsync", refuse)
        write_json(tmp_path / "record.json", {})
        assert files(tmp_path) == ["record.json"]

    def test_leftovers_of_dead_processes_go_and_those_of_living_ones_stay(self, tmp_path):
        names = [".a.99999999.tmp", ".b.99999999.old", f".c.{os.getppid()}.tmp", ".hidden"]
        for name in names:
            (tmp_path / name).touch()
        clear_leftovers(tmp_path)
        assert files(tmp_path) == [f".c.{os.getppid()}.tmp", ".hidden", "b"]
        clear_leftovers(tmp_path, owned=True)
        assert files(tmp_path) == [".hidden", "b"]

    def test_a_full_disk_loses_nothing(self, tmp_path, monkeypatch):
        path = tmp_path / "record.json"
        write_json(path, {"stages": "old"})

        def full(self, content):
            with open(self, "wb") as stream:
                stream.write(content[:5])
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, "write_bytes", full)
        with pytest.raises(OSError, match="No space left"):
            write_json(path, {"stages": "new"})
        monkeypatch.undo()
        assert read_json(path) == {"stages": "old"}
        assert files(tmp_path) == ["record.json"]


def test_json_keeps_order_and_letters(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"z": "é", "a": [1, 2.5, None]})
    assert list(read_json(path)) == ["z", "a"]
    assert "é" in path.read_text("utf-8")


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_number_that_json_has_not_is_refused_before_writing(tmp_path, number):
    with pytest.raises(ValueError):
        write_json(tmp_path / "a.json", {"score": number})
    assert files(tmp_path) == []


@pytest.mark.parametrize("text", ["", '{"stages": {"finet', "\x00\x00"])
def test_a_half_written_json_file_is_named(tmp_path, text):
    path = tmp_path / "record.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"record\.json is not valid JSON"):
        read_json(path)


def test_a_log_that_was_cut_off_keeps_its_whole_lines(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"st')
    assert read_jsonl(path) == [{"step": 1}, {"step": 2}]


def test_a_line_ends_at_a_newline_only(tmp_path):
    """Python's splitlines would cut a text at U+2028 or U+0085, which JSON leaves as they are."""
    path = tmp_path / "samples.jsonl"
    row = {"text": "a\u2028b\u0085c"}
    path.write_text(2 * (json.dumps(row, ensure_ascii=False) + "\n"), encoding="utf-8")
    assert read_jsonl(path) == [row, row]
    path.write_text("")
    assert read_jsonl(path) == []


def test_a_log_that_is_broken_in_the_middle_is_refused(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1}\n{"st\n{"step": 3}\n')
    with pytest.raises(ValueError, match=r"log\.jsonl line 2"):
        read_jsonl(path)


def test_sha256_does_not_depend_on_the_order_of_keys():
    assert sha256({"a": 1, "b": [2]}) == sha256({"b": [2], "a": 1})
    assert sha256({"a": 1}) != sha256({"a": 2})


def test_file_sha256_is_the_one_of_sha256sum(tmp_path):
    (tmp_path / "abc").write_text("abc")
    assert file_sha256(tmp_path / "abc") == "ba7816bf8f01cfea"  # FIPS 180-2, appendix B.1


# ---------------------------------------------------------------------------------------- the run


def test_the_root_is_the_argument_then_the_environment_then_runs(tmp_path, monkeypatch):
    study = get_study("micro")
    assert Run(study).folder == Path("runs/micro")
    monkeypatch.setenv("SLIMLIB_RUNS", str(tmp_path / "drive"))
    assert Run(study).folder == tmp_path / "drive" / "micro"
    assert Run(study, tmp_path).folder == tmp_path / "micro"


def test_an_arm_that_takes_an_adapter_reads_it_from_the_other_s_folder(run):
    assert run.adapter_folder("llama-2k") == run.folder / "llama-2k" / "adapter"
    assert run.adapter_folder("llama-2k-requantised") == run.adapter_folder("llama-2k")


def test_stages_of_each_kind_of_arm(run):
    assert run.stages("llama-base") == ("evaluate",)
    assert run.stages("llama-base-nf4") == ("merge", "evaluate")
    assert run.stages("llama-2k") == ("finetune", "merge", "evaluate")
    assert run.stages("llama-2k-requantised") == ("merge", "evaluate")  # trains nothing of its own


def test_a_bare_checkpoint_is_evaluated_where_it_lies(run):
    assert (Path(run.model_path("llama-base")) / "config.json").exists()
    assert run.model_path("llama-2k") == str(run.folder / "llama-2k" / "merged")


def test_a_stage_is_done_once(run, capsys):
    first = run.stage("llama-2k", "finetune", work(train_loss=1.5))
    again = run.stage("llama-2k", "finetune", failing)
    assert first == again
    assert (again["status"], again["train_loss"]) == ("done", 1.5)
    assert "already done, skipped" in capsys.readouterr().err


def test_a_record_says_where_it_was_made(run):
    run.stage("llama-2k", "finetune", work())
    record = run.record("llama-2k")
    assert (record["schema"], record["study"], record["arm"]) == (2, "micro", "llama-2k")
    assert record["config"]["adapter"]["r"] == 16
    assert record["environment"]["versions"]["torch"]
    assert record["environment"]["device"]["kind"] in ("cpu", "cuda")
    assert "git" in record["environment"]
    assert record["stages"]["finetune"]["seconds"] >= 0


def test_a_stage_that_fails_is_not_done(run):
    with pytest.raises(RuntimeError):
        run.stage("llama-2k", "finetune", failing)
    assert run.record("llama-2k")["stages"]["finetune"]["status"] == "started"
    assert not run.done("llama-2k", "finetune")
    assert run.stage("llama-2k", "finetune", work(rows=3))["rows"] == 3


class TestDamagedRecord:
    @pytest.mark.parametrize("damage", [b'{"stages": {', b"[]", b"\xff\x00", None])
    def test_is_put_back_from_its_copy_and_nothing_is_done_again(self, run, damage, capsys):
        run.stage("llama-2k", "finetune", work(rows=3))
        path = run.folder / "llama-2k" / "record.json"
        before = path.read_bytes()
        path.write_bytes(damage) if damage else path.unlink()
        run.check()
        assert run.records()[0]["stages"]["finetune"]["rows"] == 3  # reading writes nothing
        assert not path.exists() if damage is None else path.read_bytes() == damage
        assert run.stage("llama-2k", "finetune", failing)["rows"] == 3
        assert path.read_bytes() == before
        what = "damaged" if damage else "missing"
        assert f"record.json is {what}: put back from its copy" in capsys.readouterr().err

    def test_without_a_copy_is_set_aside(self, run, capsys):
        run.stage("llama-2k", "finetune", work())
        path = run.folder / "llama-2k" / "record.json"
        path.write_text("{")
        (path.parent / "record.json.bak").write_text("{")
        run.check()
        assert run.records() == []
        run.stage("llama-2k", "finetune", work(rows=3))
        assert path.with_name("record.json.damaged").read_text() == "{"
        assert run.record("llama-2k")["stages"]["finetune"]["rows"] == 3
        assert "the arm begins anew" in capsys.readouterr().err


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


def test_check_writes_nothing_in_a_new_folder(tmp_path):
    run = Run(get_study("micro"), tmp_path / "new")
    run.check()
    assert not run.root.exists()


def test_a_record_follows_which_arms_are_asked_for(run):
    """An arm run alone is compared with nothing; beside its base it is compared with it."""
    rerun(run, arms="llama-2k").stage("llama-2k", "finetune", work())
    assert rerun(run, arms="llama-2k").record("llama-2k")["compared_with"] is None
    assert run.record("llama-2k")["compared_with"] == "llama-base"


def test_records_come_in_the_study_s_order(run):
    for arm in ("tinyllama-base", "llama-instruct"):
        run.stage(arm, "evaluate", work(tasks={}))
    assert [record["arm"] for record in run.records()] == ["llama-instruct", "tinyllama-base"]


def test_the_world_is_written_once_and_whole(run):
    folder = run.data_folder()
    stamp = (folder / "instructions.jsonl").stat().st_mtime_ns
    assert run.data_folder() == folder == run.folder / "data"
    assert (folder / "instructions.jsonl").stat().st_mtime_ns == stamp
    assert not list(run.folder.glob(".*"))


def test_local_and_hub_studies_write_no_data(tmp_path):
    local = Run(get_study("paper", str(tmp_path)), tmp_path / "runs")
    assert local.data_folder() == tmp_path
    assert Run(get_study("paper"), tmp_path / "runs").data_folder() is None
    assert not (tmp_path / "runs").exists()


def test_open_run_says_what_it_chose_and_why(tmp_path, capsys):
    run = study.open_run("smoke", "", str(tmp_path), {"adapter.r": 8})
    assert run.study["llama-2k"].adapter.r == 8
    text = capsys.readouterr().out
    for part in ("smoke", "asked for by name", str(tmp_path / "smoke"), "float"):
        assert part in text


# ------------------------------------------------------------------------------- a clean process


def note_modules(run: Run, arm: str) -> None:
    """A stage for `in_clean_process`: leaves a note of what its process had imported."""
    import sys

    run.folder.mkdir(parents=True, exist_ok=True)
    (run.folder / "note").write_text(json.dumps([os.getpid(), "unsloth" in sys.modules]))


def stop(run: Run, arm: str) -> None:
    raise ValueError("no such luck")


def test_a_clean_process_is_another_one(run, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "unsloth", json)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    in_clean_process(note_modules, run, "llama-2k")
    process, unsloth = json.loads((run.folder / "note").read_text())
    assert process != os.getpid() and not unsloth


def test_a_stage_that_fails_in_its_own_process_fails_here(run, monkeypatch, capfd):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    with pytest.raises(RuntimeError, match="stop llama-2k failed in its own process"):
        in_clean_process(stop, run, "llama-2k")
    assert "no such luck" in capfd.readouterr().err


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


def test_a_reason_is_kept_until_the_arm_goes_on(run):
    run.fail("llama-base", "OSError: disk full")
    assert run.record("llama-base")["failed"] == "OSError: disk full"
    run.stage("llama-base", "evaluate", work(tasks={}))
    assert "failed" not in run.record("llama-base")


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
        },
    },
    "merge": {"merge": {"merge_base": "16bit", "dtype": "bfloat16"}},
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
    monkeypatch.setattr(run_module, "moving_rows", lambda _: {"me/rows": "abc"})
    run.stage("llama-2k", "finetune", work())
    assert run.done("llama-2k", "finetune")
    monkeypatch.setattr(run_module, "moving_rows", lambda _: {})  # the hub does not answer
    assert run.done("llama-2k", "finetune")
    monkeypatch.setattr(run_module, "moving_rows", lambda _: {"me/rows": "def"})
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

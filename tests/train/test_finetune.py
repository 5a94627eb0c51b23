"""Fine-tuning: the loss falls, a cut-off run goes on where it was, a seed is a run."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from adapters_of_all import adapter_with
from safetensors.torch import load_file

from slimlib.common.checked import fields_of
from slimlib.config import ModelConfig, TrainConfig
from slimlib.model import load
from slimlib.model.load import load_transformers
from slimlib.run import Run
from slimlib.studies.get import get_study
from slimlib.train import finetune as train
from slimlib.train.finetune import finetune_arm, merge_note, steps_of
from slimlib.train.sessions import last_checkpoint

KEYS = {"step", "epoch", "loss", "learning_rate", "grad_norm", "seconds"}
KEYS |= {"tokens", "peak_memory_gb", "max_steps"}


@pytest.fixture(scope="module")
def dropout_study(checkpoint):
    """Six steps with dropout, whose random state a resumed run takes up; checkpoints at 2, 4."""
    return get_study(
        "smoke",
        model=str(checkpoint),
        arms="llama-2k",
        **{"data.n": 24, "train.per_device_train_batch_size": 4, "train.learning_rate": 0.02},
        **{"train.logging_steps": 1, "adapter.lora_dropout": 0.1, "train.save_steps": 2},
    )


def trained(study, root):
    run = Run(study, root)
    finetune_arm(run, "llama-2k")
    return run


@pytest.fixture(scope="module")
def whole(dropout_study, tmp_path_factory):
    return trained(dropout_study, tmp_path_factory.mktemp("whole"))


def adapter_bytes(run):
    return (run.adapter_folder("llama-2k") / "adapter_model.safetensors").read_bytes()


def test_the_loss_falls(tiny_run):
    losses = [row["loss"] for row in tiny_run.logs()["llama-2k"]]
    assert sum(losses[-2:]) / 2 < sum(losses[:2]) / 2 - 0.3


def test_the_adapter_is_trained_in_float32(tiny_run):
    """TRL casts the adapter of a 4-bit model to bfloat16; rounded weights would show it."""
    tensors = load_file(tiny_run.adapter_folder("llama-2k") / "adapter_model.safetensors")
    assert {str(tensor.dtype) for tensor in tensors.values()} == {"torch.float32"}
    rounded = [tensor.bfloat16().float() for tensor in tensors.values()]
    assert not any(map(torch.equal, tensors.values(), rounded))


def test_the_log_has_a_row_a_step(tiny_run):
    rows = tiny_run.logs()["llama-2k"]
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert all(KEYS == set(row) for row in rows)
    assert rows[-1]["epoch"] == 1.0
    assert list(tiny_run.logs()) == ["llama-2k"]


def test_the_record_counts_what_was_trained(tiny_run):
    stage = tiny_run.record("llama-2k")["stages"]["finetune"]
    assert (stage["rows"], stage["optimizer_steps"], stage["skipped_steps"]) == (24, 6, 0)
    # r 16, 2 layers of 7 modules: 16 (d_in + d_out), eq. 1.2
    widths = [(32, 32), (32, 16), (32, 16), (32, 32), (32, 48), (32, 48), (48, 32)]
    assert stage["trainable_parameters"] == 2 * sum(16 * (a + b) for a, b in widths)
    # embeddings and head 1024 x 32, the modules, 5 norms of 32
    assert stage["parameters"] == 2 * 1024 * 32 + 2 * sum(a * b for a, b in widths) + 5 * 32
    losses = [row["loss"] for row in tiny_run.logs()["llama-2k"]]
    assert stage["train_loss"] == pytest.approx(sum(losses) / 6, abs=1e-3)
    assert stage["tokens"] > 0 and stage["tokens_per_second"] > 0 and stage["peak_memory_gb"] > 0
    assert stage["truncated_rows"] == 0


def test_an_arm_that_takes_an_adapter_trains_none(tiny_run, capsys):
    assert finetune_arm(tiny_run, "llama-2k-requantised") is None
    assert "takes the adapter of llama-2k" in capsys.readouterr().err
    assert not (tiny_run.arm_folder("llama-2k-requantised") / "adapter").exists()
    assert "finetune" not in tiny_run.record("llama-2k-requantised")["stages"]


def test_a_base_arm_trains_nothing(tiny_run, capsys):
    assert finetune_arm(tiny_run, "llama-base") is None
    assert "nothing to train (untuned)" in capsys.readouterr().err


def test_a_done_arm_is_skipped(tiny_run, monkeypatch, capsys):
    monkeypatch.setattr(train, "_finetune", lambda *_: pytest.fail("trained again"))
    stage = finetune_arm(tiny_run, "llama-2k")
    assert stage == tiny_run.record("llama-2k")["stages"]["finetune"]
    assert "already done, skipped" in capsys.readouterr().err


def test_a_finished_run_keeps_no_checkpoints(whole):
    assert not (whole.arm_folder("llama-2k") / "checkpoints").exists()


def test_the_same_seed_gives_the_same_bytes(whole, dropout_study, tmp_path):
    assert adapter_bytes(trained(dropout_study, tmp_path)) == adapter_bytes(whole)


def test_another_seed_gives_another_adapter(whole, dropout_study, tmp_path):
    arms = tuple(replace(arm, seed=1) for arm in dropout_study.arms)
    other = trained(replace(dropout_study, arms=arms), tmp_path)
    assert adapter_bytes(other) != adapter_bytes(whole)


# a value that is not dropout_study's, for each field that the weights depend on
OTHERWISE = {
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 2,
    "learning_rate": 0.01,
    "lr_scheduler_type": "constant",
    "warmup_ratio": 0.5,
    "num_train_epochs": 2.0,
    "max_steps": 3,
    "optim": "adafactor",
    "weight_decay": 0.5,
    "max_grad_norm": 0.01,
    "kl_weight": 1.0,
}
# what is written along the way, and how a pass is laid out (see below: the losses are the same)
OF_THE_FILES = {"save_steps", "logging_steps", "padding_free"}
# what is looked at on the way (tests/train/test_probes.py: it changes nothing)
OF_THE_FILES |= {"probe_steps", "probe_limit", "probes"}


def test_every_field_of_the_training_is_looked_at():
    assert {*OTHERWISE} | OF_THE_FILES == {*fields_of(TrainConfig)}


@pytest.mark.slow
@pytest.mark.parametrize("field", OTHERWISE)
def test_each_field_of_the_training_changes_what_is_trained(field, whole, dropout_study, tmp_path):
    (arm,) = dropout_study.arms
    assert getattr(arm.train, field) != OTHERWISE[field]
    arm = replace(arm, train=replace(arm.train, **{field: OTHERWISE[field]}))
    assert adapter_bytes(trained(replace(dropout_study, arms=(arm,)), tmp_path)) != (
        adapter_bytes(whole)
    )


def test_rows_behind_one_another_do_not_see_each_other(whole, dropout_study, tmp_path):
    """Float32 losses equal to 1e-5 at each step: attention and positions begin anew at each row."""
    (arm,) = dropout_study.arms
    runs = []
    for padding_free in (False, True):
        still = replace(arm.adapter, lora_dropout=0.0)  # whose draws hang on the layout
        given = replace(arm.train, padding_free=padding_free)
        study = replace(dropout_study, arms=(replace(arm, adapter=still, train=given),))
        runs.append(trained(study, tmp_path / str(padding_free)))
    padded, free = ([row["loss"] for row in run.logs()["llama-2k"]] for run in runs)
    assert free == pytest.approx(padded, abs=1e-5) and len(padded) == 6


@pytest.mark.parametrize("asked", [{"kl_weight": 0.1}, {"padding_free": True}])
def test_what_unsloth_does_its_own_way_is_refused_before_any_weight(
    asked, dropout_study, tmp_path, monkeypatch
):
    (arm,) = dropout_study.arms
    arm = replace(arm, train=replace(arm.train, **asked))
    monkeypatch.setattr(load, "choose_backend", lambda _: "unsloth")
    with pytest.raises(ValueError, match="does not go with Unsloth: set model.backend=transf"):
        trained(replace(dropout_study, arms=(arm,)), tmp_path)


def test_a_model_whose_rows_see_each_other_is_refused_without_padding(checkpoint):
    from transformers import AutoModelForCausalLM, MambaConfig

    rows = [[5, 9, 14, 3], [7, 2, 6]]
    train.check_apart(load_transformers(ModelConfig(str(checkpoint), dtype="float32")), rows)
    small = MambaConfig(vocab_size=20, hidden_size=16, state_size=4, num_hidden_layers=1)
    recurrent = AutoModelForCausalLM.from_config(small)
    with pytest.raises(ValueError, match="padding_free does not go with mamba: there a row would"):
        train.check_apart(recurrent, rows)


def test_a_pass_without_padding_is_the_rows_in_it():
    inputs = {
        "input_ids": torch.tensor([[5, 6, 7, 8, 9, 4]]),
        "position_ids": torch.tensor([[0, 1, 2, 0, 0, 1]]),
    }
    assert [row.tolist() for row in train._apart(inputs)] == [[5, 6, 7], [8], [9, 4]]
    padded = {"input_ids": torch.tensor([[5, 6, 7], [8, 0, 0]])}
    assert [row.tolist() for row in train._apart(padded)] == [[5, 6, 7], [8, 0, 0]]


def cut_off(run, monkeypatch, step):
    """Train until the step is done, and no further."""
    from transformers import TrainerCallback

    class Cut(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == step:
                raise KeyboardInterrupt

    make_trainer = train.make_trainer

    def cut(*args):
        trainer = make_trainer(*args)
        trainer.add_callback(Cut())
        return trainer

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(train, "make_trainer", cut)
        finetune_arm(run, "llama-2k")
    assert not run.done("llama-2k", "finetune")
    assert not run.adapter_folder("llama-2k").exists()


def assert_same_training(run, whole, tolerance=1e-6):
    """Adapter, log and record equal, but for what the clock and the memory say."""
    stage, expected = (r.record("llama-2k")["stages"]["finetune"] for r in (run, whole))
    of_the_machine = ("train_seconds", "tokens_per_second", "peak_memory_gb", "seconds", "started")
    sums = {key: expected[key] for key in ("optimizer_steps", "skipped_steps", "tokens", "rows")}
    assert {key: stage[key] for key in sums} == sums and {*stage} == {*expected}, of_the_machine
    for key in ("train_loss", "last_loss"):
        assert stage[key] == pytest.approx(expected[key], abs=1e-5)
    rows, logged = (r.logs()["llama-2k"] for r in (run, whole))
    assert [row["step"] for row in rows] == [row["step"] for row in logged]
    assert [row["loss"] for row in rows] == pytest.approx([r["loss"] for r in logged], abs=1e-5)
    found, weights = (
        load_file(r.adapter_folder("llama-2k") / "adapter_model.safetensors") for r in (run, whole)
    )
    for name, weight in weights.items():
        assert found[name].sub(weight).abs().max() < tolerance, name


@pytest.mark.parametrize(("step", "resumed"), [(1, None), (5, 4)])
def test_a_cut_off_run_ends_as_an_uninterrupted_one(
    step, resumed, whole, dropout_study, tmp_path, monkeypatch, capsys
):
    run = Run(dropout_study, tmp_path)
    cut_off(run, monkeypatch, step)
    finetune_arm(run, "llama-2k")
    assert (f"resuming from checkpoint-{resumed}" in capsys.readouterr().err) == bool(resumed)
    assert_same_training(run, whole)
    seconds = [row["seconds"] for row in run.logs()["llama-2k"]]
    assert seconds == sorted(seconds)  # those of the first session count


def test_a_log_of_several_steps_a_line_is_the_same_after_a_cut(
    dropout_study, tmp_path, monkeypatch
):
    """Checkpoints at 2 and 4, lines at 1, 3 and 6: each line's mean is over two sessions."""
    (arm,) = dropout_study.arms
    arm = replace(arm, train=replace(arm.train, logging_steps=3))
    study = replace(dropout_study, arms=(arm,))
    undisturbed = trained(study, tmp_path / "whole")
    run = Run(study, tmp_path / "cut")
    cut_off(run, monkeypatch, 5)
    finetune_arm(run, "llama-2k")
    assert_same_training(run, undisturbed)


def test_killed_between_the_last_step_and_the_end_nothing_is_trained_again(
    whole, dropout_study, tmp_path, monkeypatch
):
    run = Run(dropout_study, tmp_path)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(train, "save_adapter", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        finetune_arm(run, "llama-2k")
    from trl import SFTTrainer

    monkeypatch.setattr(SFTTrainer, "training_step", lambda *_, **__: pytest.fail("trained again"))
    finetune_arm(run, "llama-2k")
    assert_same_training(run, whole)


def test_out_of_memory_the_same_steps_are_made_of_smaller_passes(
    whole, dropout_study, tmp_path, monkeypatch, capsys
):
    """Two rows at once are the most that fits; the fourth step is the first that does not."""
    from trl import SFTTrainer

    step_of = SFTTrainer.training_step

    def training_step(self, model, inputs, *args, **kwargs):
        if self.state.global_step >= 3 and len(inputs["input_ids"]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return step_of(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(SFTTrainer, "training_step", training_step)
    (arm,) = dropout_study.arms
    still = replace(arm, adapter=replace(arm.adapter, lora_dropout=0.0))  # which draws by the pass
    study = replace(dropout_study, arms=(still,))
    run = trained(study, tmp_path / "small")
    assert "out of memory with 4 rows at once: goes on with 2, 2 times" in capsys.readouterr().err
    assert run.record("llama-2k")["stages"]["finetune"]["rows_at_once"] == 2
    monkeypatch.setattr(SFTTrainer, "training_step", step_of)
    assert_same_training(run, trained(study, tmp_path / "whole"), tolerance=1e-4)


def test_a_row_that_does_not_fit_alone_is_said(dropout_study):
    (arm,) = dropout_study.arms
    with pytest.raises(ValueError, match="one row at a time is too much .* max_seq_length than"):
        train._with_smaller_passes(
            replace(arm, train=replace(arm.train, per_device_train_batch_size=1)), "2 GiB"
        )
    six = replace(arm.train, per_device_train_batch_size=9, gradient_accumulation_steps=2)
    smaller = train._with_smaller_passes(replace(arm, train=six), "").train
    sizes = smaller.per_device_train_batch_size, smaller.gradient_accumulation_steps
    assert sizes == (3, 6)


def test_a_loss_that_is_no_number_stops_the_training_and_keeps_the_last_checkpoint(
    dropout_study, tmp_path, monkeypatch
):
    """Checkpoints at 2 and 4; the fourth step's loss is NaN, so that of 2 is the last."""
    from trl import SFTTrainer

    step_of, calls = SFTTrainer.training_step, []

    def training_step(self, *args, **kwargs):
        calls.append(1)
        return step_of(self, *args, **kwargs) * (float("nan") if len(calls) == 4 else 1)

    monkeypatch.setattr(SFTTrainer, "training_step", training_step)
    run = Run(dropout_study, tmp_path)
    with pytest.raises(
        ValueError, match=r"step 4: the loss is nan on rows \d+(, \d+){3};"
    ) as error:
        finetune_arm(run, "llama-2k")
    assert "lower learning_rate" in str(error.value)
    folder = run.arm_folder("llama-2k")
    assert last_checkpoint(folder / "checkpoints").name == "checkpoint-2"
    assert not (folder / "adapter").exists() and not run.done("llama-2k", "finetune")


def test_a_learning_rate_that_diverges_saves_no_adapter(dropout_study, tmp_path):
    settings = dropout_study.overrides | {"train.learning_rate": 1e6, "train.max_grad_norm": 0}
    run = Run(get_study("smoke", **settings), tmp_path)
    with pytest.raises(
        ValueError, match=r"step \d(: the loss is (nan|inf)|, on rows [\d, ]+: the adapter's)"
    ):
        finetune_arm(run, "llama-2k")
    assert not (run.arm_folder("llama-2k") / "adapter").exists()


def test_bad_rows_stop_before_any_weight_is_loaded(dropout_study, tmp_path, monkeypatch):
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"instruction": "a"}\n')
    arm = dropout_study.arms[0]
    arm = replace(arm, data=replace(arm.data, path=str(rows), n=1))
    monkeypatch.setattr(train, "load_model", lambda *_: pytest.fail("loaded"))
    with pytest.raises(ValueError, match="row 1 has no text column 'output'"):
        finetune_arm(Run(replace(dropout_study, arms=(arm,)), tmp_path), "llama-2k")


def on_rows(study, path, **data):
    """The arm's study on rows of a file, all of them, answers learned."""
    (arm,) = study.arms
    data = {"n": None, "template": "auto", "append_eos": True, "learn": "answer"} | data
    return replace(study, arms=(replace(arm, data=replace(arm.data, path=str(path), **data)),))


def test_a_file_of_conversations_is_trained_on_its_answers_but_for_what_is_held_out(
    dropout_study, tmp_path, capsys
):
    asked = [{"from": "human", "value": f"Say yes to {n}."} for n in range(20)]
    rows = [
        {"conversations": [turn, {"from": "gpt", "value": "Yes."}], "id": n}
        for n, turn in enumerate(asked)
    ]
    rows[4] = {"conversations": asked[:1], "id": 4}
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(rows))
    study = on_rows(dropout_study, path, held_out=0.25)
    stage = trained(study, tmp_path).record("llama-2k")["stages"]["finetune"]
    kept = stage["rows"]
    assert (kept, stage["dropped_rows"]) == (14, 1)  # and 5 of the 19 others are held out
    assert 0 < stage["learned_tokens"] < stage["tokens"] and stage["rows_without_end"] == 0
    assert stage["learned_tokens"] % kept == 0  # equal answers
    said = capsys.readouterr().err
    assert "14 of 20 rows are trained on, 5 held out" in said and "not used: id." in said


def test_a_row_is_no_longer_than_the_model_has_places(dropout_study, checkpoint, tmp_path):
    """GPT-2 and OPT have no more; the window that is asked for may be longer."""
    folder = tmp_path / "model"
    shutil.copytree(checkpoint, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 120}))
    path = tmp_path / "rows.jsonl"
    path.write_text(
        '{"question": "q", "answer": "a"}\n{"question": "q", "answer": "' + 99 * "a " + '"}'
    )
    (arm,) = on_rows(dropout_study, path).arms
    arm = replace(arm, model=replace(arm.model, name=str(folder)))
    dataset, _, report = train.training_sets(arm, Run(dropout_study, tmp_path))
    assert max(map(len, dataset["input_ids"])) == 120 and report.truncated == (2,)


def test_a_system_turn_that_is_refused_is_said_before_any_weight_is_loaded(
    dropout_study, checkpoint, tmp_path, monkeypatch
):
    from chat_templates import FAMILIES
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    tokenizer.chat_template = FAMILIES["gemma"].template
    monkeypatch.setattr(train, "load_tokenizer", lambda _: tokenizer)
    monkeypatch.setattr(train, "load_model", lambda *_, **__: pytest.fail("loaded"))
    path = tmp_path / "rows.jsonl"
    path.write_text(
        '{"question": "q", "answer": "a"}\n{"system": "s", "question": "q", "answer": 1}'
    )
    with pytest.raises(ValueError, match="rows.jsonl row 2: .*not supported; data.system=to-user"):
        trained(on_rows(dropout_study, path), tmp_path)


# ------------------------------------------------------------------------------ steps, checkpoints


@pytest.mark.parametrize(
    ("rows", "batch", "accumulation", "epochs", "max_steps", "steps"),
    [
        (2000, 4, 4, 1, -1, 125),  # the author's
        (2001, 4, 4, 1, -1, 126),  # 501 batches, 125.25 -> 126
        (1, 4, 4, 1, -1, 1),
        (400, 8, 1, 3, -1, 150),
        (17, 8, 1, 2, -1, 6),
        (2000, 4, 4, 1, 20, 20),
    ],
)
def test_steps(rows, batch, accumulation, epochs, max_steps, steps):
    settings = {
        "train.per_device_train_batch_size": batch,
        "train.gradient_accumulation_steps": accumulation,
        "train.num_train_epochs": epochs,
        "train.max_steps": max_steps,
    }
    assert steps_of(rows, get_study("paper", **settings)["llama-2k"]) == steps


@pytest.mark.parametrize(
    ("method", "quantiser", "block", "merges"),
    [
        ("qlora", "nf4", 64, True),  # never merges in 4 bit, and nobody expects it
        ("qa-lora", "int4", None, True),
        ("qa-lora", "int4", 16, True),
        ("qa-lora", "int4", 64, False),  # groups of 16 inputs do not fill one of 64
        ("qa-lora", "nf4", 64, False),
        ("qa-hira", "tiles", 32, True),
        ("qa-hira", "tiles", 64, False),
        ("qa-hira", "int4", 16, False),
    ],
)
def test_a_base_that_an_adapter_cannot_merge_into_is_named(
    method, quantiser, block, merges, checkpoint
):
    model = load_transformers(ModelConfig(str(checkpoint), load_in_4bit=False))
    config = replace(
        get_study("micro")["llama-2k"],
        model=ModelConfig(str(checkpoint), quantiser=quantiser, block_size=block),
        adapter=adapter_with(method, group_size=16),
    )
    note = merge_note(config, model)
    assert (note == "") == merges
    assert merges or f"quantiser={quantiser}, block_size={block}; in 4 bit from" in note

"""Pickles that run code when they are read, and tokens: planted everywhere, to no effect."""

import json
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from slimlib import cli
from slimlib.common.files import file_sha256, read_json, write_json
from slimlib.evaluate.harness import evaluate_arm
from slimlib.merge.plain import merge_arm
from slimlib.run import Run
from slimlib.train.finetune import finetune_arm
from slimlib.train.sessions import Sessions

TOKEN = "hf_" + "pLaNtEd" * 5
# As loaders of models, adapters, tokenizers, checkpoints, caches and results call their files.
PICKLES = (
    *("pytorch_model.bin", "model.bin", "model.pt", "model.ckpt", "consolidated.00.pth"),
    *("adapter_model.bin", "adapter_model.pt", "structured.pt", "training_args.bin"),
    *("optimizer.pt", "optimizer.bin", "scheduler.pt", "scaler.pt", "rng_state.pth"),
    *("tokenizer.pkl", "vocab.pkl", "special_tokens_map.pkl", "spiece.pkl"),
    *("results.pkl", "samples.pkl", "responses.db", "responses-0.jsonl", "cache.pkl"),
    *("hashes.pkl", "data.pkl", "state.pkl", "dataset.arrow", "__init__.pkl"),
)


ANY = {"weights_only": False}


class Bomb:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.fixture
def bombs(tmp_path):
    """Plant pickles in folders; afterwards none may have been executed."""
    mark, made = tmp_path / "executed", [tmp_path / "plain", tmp_path / "zipped"]
    made[0].write_bytes(pickle.dumps(Bomb(mark)))
    torch.save(Bomb(mark), made[1])
    for load in (lambda: pickle.loads(made[0].read_bytes()), lambda: torch.load(made[1], **ANY)):
        load()  # they do work
        mark.unlink()

    def plant(*folders):
        for folder in folders:
            for number, name in enumerate(PICKLES):
                if not (folder / name).exists():
                    shutil.copy(made[number % 2], folder / name)

    plant.files = made
    yield plant
    assert not mark.exists()


def ends(capsys, *words):
    """How a command ends, and all that it said."""
    return cli.main([str(word) for word in words]), "".join(capsys.readouterr())


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SLIMLIB_RUNS", str(tmp_path / "runs"))
    return tmp_path


@pytest.fixture
def copied(tiny_run, here):
    """The finished tiny run in a folder of its own."""
    shutil.copytree(tiny_run.folder, here / "runs" / "smoke")
    return Run(tiny_run.study, here / "runs")


def test_pickles_beside_the_files_of_a_run_are_not_read(copied, bombs, capsys):
    bombs(copied.folder, *(path for path in copied.folder.rglob("*") if path.is_dir()))
    for words in (["status"], ["doctor", "runs"]):
        ends(capsys, *words)
    arm = copied.arm_folder("llama-2k")
    shutil.rmtree(arm / "merged")
    shutil.rmtree(arm / "eval" / "micro_facts")
    merge_arm(copied, "llama-2k")
    evaluate_arm(copied, "llama-2k")
    for name in ("eval", "adapter", "record.json"):
        ends(capsys, "compare", arm / name, copied.arm_folder("llama-base") / "record.json")


@pytest.mark.parametrize("kind", [0, 1])
def test_pickles_in_place_of_files_are_refused(kind, copied, bombs, checkpoint, here, capsys):
    """Each file that a loader opens is one, in turn."""
    model = shutil.copytree(checkpoint, here / "model")
    arm = copied.arm_folder("llama-2k")
    adapter = shutil.copytree(arm / "adapter", here / "adapter")
    results = shutil.copytree(arm / "eval" / "micro_facts", here / "results")
    rows = here / "rows.jsonl"
    rows.write_text('{"instruction": "a", "output": "b"}\n')
    asked = ("--tasks", "micro_facts", "--limit", 1, "--out", here / "out")
    for folder in (model, adapter, results):
        for path in sorted(p for p in folder.iterdir() if p.is_file()):
            whole = path.read_bytes()
            shutil.copy(bombs.files[kind], path)
            other = results if folder == results else checkpoint
            words = ["compare", results, other] if folder == results else ["check", other, folder]
            code, said = ends(capsys, *words, *(asked if folder != results else ()))
            assert code in (0, 2) and "Traceback" not in said, path
            path.write_bytes(whole)
    for name in ("rows.jsonl", "rows.json", "rows.csv", "rows.parquet", "rows.jsonl.gz", "x.gguf"):
        shutil.copy(bombs.files[kind], here / name)
        words = ["tune", checkpoint, here / name] if name != "x.gguf" else ["check", name, name]
        assert ends(capsys, *words)[0] == 2, name


@pytest.mark.parametrize("part", ["optimizer.pt", "scheduler.pt", "rng_state.pth"])
def test_a_pickle_in_a_signed_checkpoint_is_not_executed(part, tiny_study, bombs, here, capsys):
    study = replace(tiny_study, arms=(tiny_study["llama-2k"],))
    (config,) = study.arms
    study = replace(study, arms=(replace(config, train=replace(config.train, save_steps=2)),))
    run, arm = Run(study, here / "runs"), "llama-2k"
    step_end = Sessions.on_step_end

    def cut(self, args, state, control, **how):
        step_end(self, args, state, control, **how)
        if state.global_step == 5:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Sessions, "on_step_end", cut)
        finetune_arm(run, arm)
    newest = run.arm_folder(arm) / "checkpoints" / "checkpoint-4"
    shutil.copy(bombs.files[1], newest / part)
    whole = read_json(newest / "whole.json")
    assert part in whole["files"]
    whole["files"][part] = file_sha256(newest / part)
    write_json(newest / "whole.json", whole)
    finetune_arm(run, arm)
    assert f"checkpoint-4 is passed over: its {part} holds more than" in capsys.readouterr().err


@pytest.mark.slow
def test_a_token_is_kept_and_said_nowhere(tiny_study, checkpoint, here, capfd, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("HUGGING_FACE_HUB_TOKEN", TOKEN)
    model = shutil.copytree(checkpoint, here / "model")
    config = read_json(model / "config.json") | {"token": TOKEN, "use_auth_token": TOKEN}
    write_json(model / "config.json", config)
    settings = {"model": model, "arms": "llama-base,llama-2k", "data.n": 24, "limit": 2}
    words = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    url = f"https://me:{TOKEN}@hub.example/rows"
    said = ""
    for command in (
        ["run", "--study", "smoke", *words],
        ["status"],
        ["doctor", "runs"],
        ["check", model, "runs/smoke/llama-2k/merged", "--tasks", "micro_facts", "--limit", 2],
        ["check", url, model],
        ["check", f"org/model@{TOKEN}", model],
        ["tune", model, url],
        *(["run", "--study", "smoke", "--set", f"{k}={url}"] for k in ("data.dataset", "model")),
        ["sweep", "--set", f"data.path={url}"],
        ["compare", url, "runs"],
    ):
        cli.main([str(word) for word in command])
        said += "".join(capfd.readouterr())
    assert "Table 2" in said and TOKEN not in said
    for path in here.rglob("*"):
        if path.is_file() and path != model / "config.json":
            assert TOKEN.encode() not in path.read_bytes(), path
    study = here / "runs" / "smoke" / "study.json"
    asked = json.loads(study.read_text()) | {"overrides": {"data.dataset": url}}
    study.write_text(json.dumps(asked))
    for command in (["status"], ["doctor", "runs"]):
        cli.main(command)
        assert TOKEN not in "".join(capfd.readouterr())

"""What is rehearsed: which rows, how many, kept once written, and in the key of the training."""

from dataclasses import replace

import pytest

from slimlib.data.rows import load_rows
from slimlib.model.load import load_tokenizer
from slimlib.run import Run
from slimlib.studies.get import get_study
from slimlib.train import rehearse
from slimlib.train.finetune import finetune_arm, training_sets
from slimlib.train.rehearse import FOLDER, rehearsed_rows

ARM = "llama-2k"


def opened(checkpoint, folder, source=None, share=0.25, **values):
    given = {"data.replay": share, "data.replay_from": source} if source else {}
    given = {"data.n": 8} | given | values
    study = get_study("smoke", model=str(checkpoint), arms=ARM, **given)
    return Run(study, folder)


def rehearsed(run):
    arm = run.study[ARM]
    rows = load_rows(arm.data, arm.seed, run.data_folder())
    return rehearsed_rows(arm, rows, load_tokenizer(arm.model), run), rows


@pytest.mark.parametrize(("share", "count"), [(0.01, 0), (0.25, 2), (1.5, 12)])
def test_so_many_come_beside_the_own_rows_and_none_is_held_out(share, count, checkpoint, tmp_path):
    run = opened(checkpoint, tmp_path, "digits", share, **{"data.held_out": 0.25})
    (train, held, report), (rows, _) = training_sets(run.study[ARM], run), rehearsed(run)
    assert len(rows) == count and (len(train), len(held)) == (6 + count, 2)
    assert report.counts().get("rehearsed_rows", 0) == count
    tokenizer = load_tokenizer(run.study[ARM].model)
    texts = [tokenizer.decode(ids, skip_special_tokens=True) for ids in train["input_ids"]]
    assert texts[6:] == [row["text"] for row in rows]
    plain = opened(checkpoint, tmp_path / "plain", **{"data.held_out": 0.25})
    own, same, _ = training_sets(plain.study[ARM], plain)
    assert [*own["input_ids"]] == [*train["input_ids"]][:6]
    assert [*same["input_ids"]] == [*held["input_ids"]]


def test_rows_of_a_data_set_are_drawn_by_the_seed(checkpoint, tmp_path):
    run = opened(checkpoint, tmp_path, "world-maths")
    first, _ = rehearsed(run)
    arm = replace(run.study[ARM], seed=5)
    rows = load_rows(arm.data, 5, run.data_folder())
    other = rehearsed_rows(arm, rows, load_tokenizer(arm.model), run)
    assert len(first) == len(other) == 2 and first != other
    assert all("####" in row["output"] for row in [*first, *other])


@pytest.mark.parametrize("source", ["own-text", "own-answers"])
def test_the_base_writes_once_for_the_same_weights_prompts_and_seed(
    source, checkpoint, tmp_path, monkeypatch
):
    run = opened(checkpoint, tmp_path, source)
    written, rows = rehearsed(run)
    assert len(written) == 2
    if source == "own-answers":
        asked = {(row["instruction"], row["input"]): row["output"] for row in rows}
        assert all(asked[row["instruction"], row["input"]] != row["output"] for row in written)
    assert len([*(run.folder / FOLDER).glob("*.jsonl")]) == 1
    anew = rehearse._sampled
    monkeypatch.setattr(rehearse, "_sampled", lambda *_: pytest.fail("written again"))
    assert rehearsed(run)[0] == written
    monkeypatch.setattr(rehearse, "_sampled", anew)
    assert rehearsed(opened(checkpoint, tmp_path / "other", source))[0] == written
    assert rehearsed(opened(checkpoint, tmp_path, source, seed=2))[0] != written
    assert len([*(run.folder / FOLDER).glob("*.jsonl")]) == 2


def test_the_embedded_base_writes_of_its_own_world(tmp_path):
    """Ten texts from nothing: most are of what it was trained on, which no random model hits."""
    study = get_study("smoke", arms=ARM, **{"data.replay": 0.25, "data.replay_from": "own-text"})
    rows, _ = rehearsed(Run(study, tmp_path))
    known = ("=", "####", "Question:", " the ", " is ", "kind")
    assert len(rows) == 10 and sum(any(k in row["text"] for k in known) for row in rows) >= 8


def test_what_is_rehearsed_changes_the_key_and_the_adapter(checkpoint, tmp_path):
    adapters = []
    runs = [
        opened(checkpoint, tmp_path / str(i), *given, **{"train.learning_rate": 0.05})
        for i, given in enumerate([(), ("digits",), ("world-maths",)])
    ]
    keys = [run.settings(ARM, "finetune") for run in runs]
    assert not {"replay", "replay_from"} & keys[0]["data"].keys() and keys[0]["rows"] == "world"
    assert keys[1]["rows"].startswith("world; digits ") and keys[2]["rows"] == "world; world"
    for run in runs:
        finetune_arm(run, ARM)
        adapters.append((run.adapter_folder(ARM) / "adapter_model.safetensors").read_bytes())
    assert len({*adapters}) == 3
    assert runs[1].record(ARM)["stages"]["finetune"]["rehearsed_rows"] == 2
    assert "rehearsed_rows" not in runs[0].record(ARM)["stages"]["finetune"]


def test_turns_cannot_be_answered_anew(checkpoint, tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text('{"messages": [{"role": "user", "content": "a"}]}\n' * 4)
    run = opened(checkpoint, tmp_path, "own-answers", 0.5, **{"data.path": str(file), "data.n": 4})
    with pytest.raises(ValueError, match="replay_from=own-answers needs rows of a question and"):
        rehearsed(run)

"""Opening files: what is not whole, and each file of another tool that must be refused."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from lm_eval_files import (
    STAMP,
    gsm8k_results,
    gsm8k_rows,
    refused,
    row,
    run_folder,
    samples_file,
    write,
    write_lines,
)

from slimlib.results import read_results

FOREIGN = {
    "lighteval": ({"results": {"harness|arc:challenge|25": {"acc": 0.5}}}, "lighteval"),
    "leaderboard": ({"config_general": {}, "results": {}}, "empty"),
    "opencompass": ({"0": {"origin_prompt": "?", "prediction": "A"}}, "but '0'"),
    "opencompass-scores": ({"accuracy": 43.2}, "but 'accuracy'"),
    "deeper": (
        {"mine": {"results": {"gsm8k": {"acc,none": 0.5}}}, "other": {}},
        "one level deeper, under 'mine'",
    ),
    "helm": ({"adapter_spec": {}, "name": "mmlu"}, "but 'adapter_spec', 'name'"),
    "helm-stats": ([{"name": {"name": "exact_match"}, "sum": 1}], "JSON list"),
    "trainer_state": ({"log_history": [], "global_step": 4}, "but 'log_history'"),
    "adapter_config": ({"peft_type": "LORA", "r": 16}, "but 'peft_type', 'r'"),
    "config": (
        {"architectures": ["LlamaForCausalLM"], "model_type": "llama"},
        "but 'architectures'",
    ),
    "samples-array": ([{"doc_id": 0, "acc": 1.0}], "samples file"),
    "one-sample": ({"doc_id": 0, "acc": 1.0}, "samples file"),
    "metrics": ({"eval_loss": 1.25}, 'no "results" object'),
    "results-list": ({"results": [1, 2]}, 'no "results" object'),
    "no-tasks": ({"results": {}}, "empty"),
    "number": (3, "not a JSON object"),
    "samples-lines": (json.dumps(row(0, "none", acc=1)) + "\n" + "{}\n", "samples file"),
    "log-lines": ('{"loss": 1}\n{"loss": 2}\n', "JSON Lines"),
    "no-json": ("hello", "not valid JSON"),
    "cut-off": ('{"results": {"gsm8k"', "not valid JSON"),
    "empty": ("", "an empty file"),
    "blank": (" \n", "an empty file"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_foreign_file_is_refused_by_name_with_the_reason(tmp_path: Path, kind: str) -> None:
    value, reason = FOREIGN[kind]
    path = write(tmp_path / f"{kind}.json", value)
    message = refused(path)
    assert (
        message.startswith(f"{path}: not results of lm-evaluation-harness or slimlib (")
        and reason in message
        and "give a results JSON" in message
    )


def test_a_binary_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"\x10\x00\xff\xfe\x80")
    assert "binary" in refused(path)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "1" * 5_000])
def test_json_that_cannot_be_taken_in_is_refused(tmp_path: Path, text: str) -> None:
    assert "not valid JSON" in refused(write(tmp_path / "r.json", text))
    folder = run_folder(tmp_path / "out")
    write(folder / "me__base" / f"samples_gsm8k_{STAMP}.jsonl", text)
    assert "gsm8k" in refused(folder)


def test_a_line_cut_off_is_named(tmp_path: Path) -> None:
    path = samples_file(run_folder(tmp_path))
    path.write_text(path.read_text()[:-200])
    message = refused(tmp_path)
    assert message.startswith(f"{path} line 8 is not whole JSON")


def test_samples_may_start_with_a_byte_order_mark(tmp_path: Path) -> None:
    file = run_folder(tmp_path) / "me__base" / f"samples_gsm8k_{STAMP}.jsonl"
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n"))
    assert read_results(tmp_path).tasks["gsm8k"].n == 4


def test_a_line_end_inside_a_string_ends_no_row(tmp_path: Path) -> None:
    rows = gsm8k_rows()
    rows[0]["target"] = "one\u2028two\x85three\r"
    path = run_folder(tmp_path) / "me__base" / f"samples_gsm8k_{STAMP}.jsonl"
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), newline="")
    assert read_results(tmp_path).tasks["gsm8k"].n == 4


def test_results_of_another_level_are_said(tmp_path: Path) -> None:
    nested = {"results": {"all": {"gsm8k": {"acc,none": 0.5}}, "t": {"acc,none": 0.5}}}
    results = read_results(write(tmp_path / "r.json", nested))
    assert list(results.tasks) == ["t"]
    assert results.notes == ("all: gsm8k holds another level of results, not read",)
    del nested["results"]["t"]
    assert "all: gsm8k holds another level" in refused(write(tmp_path / "r.json", nested))


def zipped(path: Path, content: bytes | None = None) -> Path:
    """The file in gzip's format, or what is given in its place."""
    found = path.with_name(path.name + ".gz")
    found.write_bytes(gzip.compress(path.read_bytes()) if content is None else content)
    path.unlink()
    return found


def test_gzipped_samples_are_read(tmp_path: Path) -> None:
    path = zipped(samples_file(run_folder(tmp_path)))
    for source in (tmp_path, path.with_name(f"results_{STAMP}.json")):
        results = read_results(source)
        assert results.tasks["gsm8k"].samples["strict-match"].scores["exact_match"].sum() == 2
        assert results.notes == () and len(list(results.tasks["gsm8k"].load_rows())) == 8
    path.with_name(f"results_{STAMP}.json").unlink()
    assert list(read_results(path.parent).tasks) == ["gsm8k"]


@pytest.mark.parametrize(
    "content", [b"", b"no gzip", gzip.compress(b'{"doc_id": 0}\n', mtime=0)[:-9]]
)
def test_a_gzip_file_that_is_not_whole(tmp_path: Path, content: bytes) -> None:
    path = zipped(samples_file(run_folder(tmp_path)), content)
    assert refused(tmp_path).startswith(str(path))


def test_linked_folders_and_files_are_followed(tmp_path: Path) -> None:
    real = run_folder(tmp_path / "real") / "me__base"
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "me").symlink_to(real, target_is_directory=True)
    (linked / "round").symlink_to(linked, target_is_directory=True)  # must end
    assert read_results(linked).tasks["gsm8k"].n == 4
    blobs = tmp_path / "snapshot"  # as the hub's cache keeps files
    blobs.mkdir()
    for i, file in enumerate(sorted(real.iterdir())):
        (tmp_path / f"blob-{i}").write_bytes(file.read_bytes())
        (blobs / file.name).symlink_to(tmp_path / f"blob-{i}")
    assert read_results(blobs).tasks["gsm8k"].samples["strict-match"].doc_ids == (0, 1, 2, 3)


def test_samples_lie_beside_what_a_link_leads_to(tmp_path: Path) -> None:
    real = run_folder(tmp_path / "real") / "me__base" / f"results_{STAMP}.json"
    link = tmp_path / "base.json"
    link.symlink_to(real)
    assert read_results(link).tasks["gsm8k"].samples


@pytest.mark.parametrize("args", ["pretrained=" + "x" * 4000, {"pretrained": "x" * 4000}])
def test_model_arguments_longer_than_a_file_name(tmp_path: Path, args: Any) -> None:
    data = gsm8k_results(config={"model": "hf", "model_args": args}, model_name=None)
    assert read_results(write(tmp_path / "results.json", data)).tasks["gsm8k"].samples == {}
    rows = write_lines(tmp_path / "samples_gsm8k.jsonl", gsm8k_rows())
    assert read_results(tmp_path).tasks["gsm8k"].samples and rows.is_file()


def test_controls_in_names_are_written_out_in_errors(tmp_path: Path) -> None:
    data = {"results": {"t\x1b[31m": {"acc,none": 47.0}}}
    message = refused(write(tmp_path / "r.json", data))
    assert "\x1b" not in message and "t\\x1b[31m has acc,none" in message

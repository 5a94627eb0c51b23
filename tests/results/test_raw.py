"""Opening files: what is not whole, and each file of another tool that must be refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from lm_eval_files import (
    STAMP,
    gsm8k_rows,
    refused,
    row,
    run_folder,
    samples_file,
    write,
)

from slimlib.results import read_results

FOREIGN = {
    "lighteval": ({"results": {"harness|arc:challenge|25": {"acc": 0.5}}}, "lighteval"),
    "leaderboard": ({"config_general": {}, "results": {}}, "empty"),
    "opencompass": ({"0": {"origin_prompt": "?", "prediction": "A"}}, "but '0'"),
    "opencompass-scores": ({"accuracy": 43.2}, "but 'accuracy'"),
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

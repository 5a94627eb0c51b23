"""Files of lm-eval made up for tests: results and sample rows of 0.4.13, and their folder."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from slimlib.results import ResultsError, read_results

STAMP = "2025-03-08T16-08-13.421411"
LATER = "2025-03-09T09-00-00.000001"
LETTERS = [" A", " B", " C", " D"]
STRICT, FLEXIBLE = [1, 0, 0, 1], [1, 1, 0, 1]  # what two filters make of four answers


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def row(doc_id: int, filter: str, **scores: Any) -> dict[str, Any]:
    """A sample row of lm-eval 0.4.13."""
    return {
        "doc_id": doc_id,
        "doc": {"question": f"question {doc_id}"},
        "target": "#### 1",
        "arguments": {"gen_args_0": {"arg_0": f"prompt {doc_id}", "arg_1": {"until": ["\n"]}}},
        "resps": [["an answer"]],
        "filtered_resps": ["1"],
        "filter": filter,
        "metrics": list(scores),
        "doc_hash": digest(f"doc {doc_id}"),
        "prompt_hash": digest(f"prompt {doc_id}"),
        "target_hash": digest("#### 1"),
        **scores,
    }


def choice_row(
    target: Any, choices: list[str], values: list[Any] | None = None, **more: Any
) -> dict[str, Any]:
    """A row of 0.4.13 with one log-likelihood a choice."""
    values = [-1.5 - i for i in range(len(choices))] if values is None else values
    asked = {f"gen_args_{i}": {"arg_0": "?", "arg_1": c} for i, c in enumerate(choices)}
    return {
        "target": target,
        "arguments": asked,
        "resps": [[[str(value), "False"]] for value in values],
        **more,
    }


def gsm8k_rows() -> list[dict[str, Any]]:
    strict = [row(i, "strict-match", exact_match=float(v)) for i, v in enumerate(STRICT)]
    return strict + [row(i, "flexible-extract", exact_match=v) for i, v in enumerate(FLEXIBLE)]


def gsm8k_results(**changes: Any) -> dict[str, Any]:
    """A results object of lm-eval 0.4.13 with GSM8K on four documents."""
    data = {
        "results": {
            "gsm8k": {
                "alias": "gsm8k",
                "sample_len": 4,
                "exact_match,strict-match": 0.5,
                "exact_match_stderr,strict-match": 0.2886751345948129,
                "exact_match,flexible-extract": 0.75,
                "exact_match_stderr,flexible-extract": "N/A",
            }
        },
        "group_subtasks": {"gsm8k": []},
        "versions": {"gsm8k": 3.0},
        "n-shot": {"gsm8k": 5},
        "higher_is_better": {"gsm8k": {"exact_match": True}},
        "n-samples": {"gsm8k": {"original": 1319, "effective": 4}},
        "config": {
            "model": "hf",
            "model_args": {"pretrained": "me/base", "max_length": 2048},
            "model_dtype": "torch.float16",
            "batch_size": "4",
            "limit": 4.0,
        },
        "date": 1741443071.3,
        "lm_eval_version": "0.4.13",
        "model_name": "me/base",
        "chat_template": None,
    }
    return {**data, **changes}


def write(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = value if isinstance(value, str) else json.dumps(value)
    path.write_text(text, encoding="utf-8")
    return path


def write_lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    return write(path, "".join(json.dumps(r) + "\n" for r in rows))


def run_folder(folder: Path, rows: list | None = None, stamp: str = STAMP, **changes: Any) -> Path:
    """What --output_path holds after a run of 0.4.13 with --log_samples."""
    write(folder / "me__base" / f"results_{stamp}.json", gsm8k_results(**changes))
    rows = gsm8k_rows() if rows is None else rows
    write_lines(folder / "me__base" / f"samples_gsm8k_{stamp}.jsonl", rows)
    return folder


def refused(source: Any) -> str:
    with pytest.raises(ResultsError) as error:
        read_results(source)
    assert "\n" not in str(error.value)
    return str(error.value)


def samples_file(folder: Path) -> Path:
    return folder / "me__base" / f"samples_gsm8k_{STAMP}.jsonl"


def group_results(value: float = 0.6, **changes: Any) -> dict[str, Any]:
    data = {
        "results": {
            "mmlu": {"acc,none": value, "acc_stderr,none": "N/A"},
            "mmlu_stem": {" ": " ", "alias": " - stem"},
            "mmlu_a": {"acc,none": 0.5},
            "mmlu_b": {"acc,none": 2 / 3},
        },
        "group_subtasks": {"mmlu": ["mmlu_stem", "mmlu_b"], "mmlu_stem": ["mmlu_a"], "mmlu_a": []},
        "n-samples": {"mmlu_a": {"effective": 2}, "mmlu_b": {"effective": 3}},
        "n-shot": {"mmlu_a": 5, "mmlu_b": 5},
        "samples": {
            "mmlu_a": [row(i, "none", acc=i) for i in range(2)],
            "mmlu_b": [row(i, "none", acc=min(i, 1)) for i in range(3)],
        },
    }
    return {**data, **changes}

"""The author's result files: recognised by their scores, unmasked by their end token."""

import json
import math

import pytest

from slimlib.papers.slimming import audit, published
from slimlib.papers.slimming.author_files import column_of, end_token
from slimlib.papers.slimming.findings import AGREES, DIFFERS, ROUNDED, UNCHECKABLE
from slimlib.results import read_results

MMLU = "mmlu_high_school_computer_science"
DOCUMENTS = {"gsm8k": 1_319, "hellaswag": 10_042, MMLU: 100}
RIGHT = {  # right answers: strict, flexible, acc, acc_norm, acc
    "base": (442, 442, 4_542, 6_103, 47),
    "tuned": (41, 49, 4_580, 6_146, 34),
    "other": (442, 442, 4_542, 6_103, 46),
}
METRICS = [
    ("gsm8k", "exact_match", "strict-match"),
    ("gsm8k", "exact_match", "flexible-extract"),
    ("hellaswag", "acc", "none"),
    ("hellaswag", "acc_norm", "none"),
    (MMLU, "acc", "none"),
]
TOKENS = {128_001: "<|end_of_text|>", 128_009: "<|eot_id|>"}


def content(which="base", end=128_009, **config):
    """A results file of that shape: the numbers and keys that an audit reads."""
    results = {task: {"alias": task} for task in DOCUMENTS}
    for (task, metric, kind), right in zip(METRICS, RIGHT[which], strict=True):
        n = DOCUMENTS[task]
        p = right / n
        results[task][f"{metric},{kind}"] = p
        results[task][f"{metric}_stderr,{kind}"] = math.sqrt(p * (1 - p) / (n - 1))
    return {
        "results": results,
        "group_subtasks": {task: [] for task in DOCUMENTS},
        "configs": {t: {"task": t, "output_type": "multiple_choice"} for t in DOCUMENTS},
        "higher_is_better": {t: {"acc": True, "exact_match": True} for t in DOCUMENTS},
        "versions": {"gsm8k": 3.0, "hellaswag": 1.0, MMLU: 1.0},
        "n-shot": {"gsm8k": 5, "hellaswag": 0, MMLU: 0},
        "n-samples": {t: {"original": n, "effective": n} for t, n in DOCUMENTS.items()},
        "config": {
            "model": "hf",
            "model_args": "pretrained=/content/model",
            "model_dtype": "torch.float16",
            "batch_size": "4",
            "limit": None,
            "gen_kwargs": None,
            **config,
        },
        "tokenizer_eos_token": [TOKENS.get(end, "</s>"), str(end)],
        "eot_token_id": end,
        "model_name": "/content/model",
    }


def write(folder, name, value):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


@pytest.fixture
def author(tmp_path):
    """The three files: fine-tuned, 'base', and fine-tuned again with other settings."""
    folder = tmp_path / "eval_results"
    write(folder, "results_2025-03-08T16.json", content("tuned", 128_001))
    write(folder, "results_2025-03-08T17.json", content("base", 128_009))
    again = content(
        "tuned",
        128_001,
        gen_kwargs={"do_sample": False},
        model_args="pretrained=/content/model,dtype=float16",
    )
    write(folder, "results_2025-03-08T19.json", again)
    return folder


def about(report, *words):
    found = [f for f in report.findings if all(word in f.claim for word in words)]
    assert found, words
    return found[0]


def test_the_end_token_betrays_the_base(author):
    report = audit([author])
    base = about(report, "checkpoint of 'Base")
    assert (base.printed, base.verdict) == ("Llama-3.2-1B", DIFFERS)
    assert "Llama-3.2-1B-Instruct" in base.recomputed
    assert "128009 <|eot_id|>" in base.recomputed
    tuned = about(report, "checkpoint of 'Fine-tuned")
    assert "128001 <|end_of_text|>" in tuned.recomputed and tuned.verdict == AGREES


def test_a_true_base_would_agree(tmp_path):
    path = write(tmp_path, "x.json", content("base", 128_001))
    assert about(audit([path]), "checkpoint of").verdict == AGREES


def test_scores_and_settings(author):
    report = audit([author])
    scores = about(report, "T17.json holds the column 'Base Llama 3.2 1B'")
    assert scores.printed == "33.51 / 33.51 / 45.23 / 60.77 / 47.00"
    assert scores.recomputed == "33.5102 / 33.5102 / 45.2300 / 60.7747 / 47.0000"
    assert scores.verdict == AGREES and "5 of its 5 standard errors" in scores.why
    settings = about(report, "T17.json", "all documents")
    assert settings.verdict == AGREES
    for words in ("gsm8k 1,319 (5-shot)", "hellaswag 10,042 (0-shot)", "float16", "batch 4"):
        assert words in settings.recomputed


def test_a_standard_error_that_does_not_fit_is_counted_out(tmp_path):
    value = content()
    value["results"]["gsm8k"]["exact_match_stderr,strict-match"] *= 1.96
    found = about(audit([write(tmp_path, "x.json", value)]), "holds the column")
    assert found.verdict == DIFFERS and "4 of its 5 standard errors" in found.why


def test_the_two_fine_tuned_files_are_one_result(author):
    found = about(audit([author]), "2 files, one result")
    assert found.verdict == AGREES and found.recomputed == "equal to the last digit"
    assert "model_args" in found.why and "gen_kwargs" in found.why
    assert "batch_size" not in found.why


def test_copies_that_differ_in_a_last_digit(author):
    other = content("tuned", 128_001)
    other["results"]["hellaswag"]["acc,none"] += 1e-7
    write(author, "results_2025-03-08T20.json", other)
    assert about(audit([author]), "3 files, one result").verdict == DIFFERS


def test_the_exact_forgetting_rate_needs_both(author):
    found = about(audit([author]), "FR from the result files")
    assert found.recomputed == "88.91 %" and found.verdict == ROUNDED
    alone = audit([author / "results_2025-03-08T17.json"])
    assert not [f for f in alone.findings if "FR from the result files" in f.claim]
    assert about(alone, "Checkpoint of 'Fine-tuned").verdict == UNCHECKABLE


def test_a_file_given_twice_counts_once(author):
    assert audit([author, author / "results_2025-03-08T17.json"]) == audit([author])


def test_a_foreign_file_has_a_row_of_its_own(tmp_path):
    path = write(tmp_path, "mine.json", content("other"))
    found = about(audit([path]), "mine.json is a result file of Table 2")
    assert found.verdict == UNCHECKABLE
    assert "mmlu_cs acc 46.00" in found.recomputed and "left out" in found.why


def test_a_file_of_other_tasks_has_a_row_of_its_own(tmp_path):
    value = content()
    value["results"] = {"arc_easy": {"acc,none": 0.5, "acc_stderr,none": 0.01}}
    path = write(tmp_path, "arc.json", value)
    assert about(audit([path]), "arc.json").recomputed == "none of the three benchmarks"


def test_a_limit_is_found(tmp_path):
    value = content(limit=100)
    value["n-samples"]["gsm8k"]["effective"] = 100
    value["n-samples"]["hellaswag"]["effective"] = 100
    found = about(audit([write(tmp_path, "x.json", value)]), "all documents")
    assert found.verdict == DIFFERS and "Limit 100" in found.why


def test_a_file_that_says_less(tmp_path):
    """No n, no end token: not checked rather than agreed."""
    value = content()
    for key in ("n-samples", "eot_token_id", "tokenizer_eos_token", "n-shot"):
        del value[key]
    report = audit([write(tmp_path, "x.json", value)])
    assert about(report, "all documents").verdict == UNCHECKABLE
    found = about(report, "checkpoint of 'Base")
    assert found.verdict == UNCHECKABLE and "not said" in found.recomputed


def test_an_end_token_of_neither_checkpoint(tmp_path):
    path = write(tmp_path, "x.json", content("base", 2))
    found = about(audit([path]), "checkpoint of 'Base")
    assert found.verdict == UNCHECKABLE and "end token 2" in found.recomputed


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, None),
        ({"eot_token_id": 128_009}, 128_009),
        ({"eot_token_id": "128009"}, 128_009),
        ({"eot_token_id": None, "tokenizer_eos_token": ["<|eot_id|>", "128009"]}, 128_009),
        ({"tokenizer_eos_token": []}, None),
        ({"tokenizer_eos_token": ["</s>"]}, None),
        ({"eot_token_id": "none"}, None),
    ],
)
def test_end_token(settings, expected):
    assert end_token(settings) == expected


def test_a_column_needs_all_five_scores(tmp_path):
    value = content()
    del value["results"][MMLU]
    assert column_of(read_results(write(tmp_path, "x.json", value))) is None
    assert column_of(read_results(write(tmp_path, "y.json", content("tuned")))) == "llama-2k"


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"gone\.json"):
        audit([tmp_path / "gone.json"])


def test_an_empty_folder_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"no results\*\.json in this folder"):
        audit([tmp_path])


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", '{"loss": 3}'])
def test_a_file_of_another_kind_is_named(tmp_path, text):
    path = tmp_path / "trainer_state.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"trainer_state\.json"):
        audit([path])


def test_every_finding_is_complete(author):
    report = audit([author])
    assert all(all(finding) for finding in report.findings)
    assert {f.paper for f in report.findings} == {"A", "B"}
    assert published.RECORDS not in report.to_text()  # nothing is left to ask for

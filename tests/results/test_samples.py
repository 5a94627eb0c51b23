"""Every document's score: rows that are bad, rewritten, or of old versions."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from lm_eval_files import (
    FLEXIBLE,
    STAMP,
    STRICT,
    digest,
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


def test_rows_are_read_again_only_when_asked_for(tmp_path: Path) -> None:
    task = read_results(run_folder(tmp_path)).tasks["gsm8k"]
    rows = list(task.load_rows())
    assert len(rows) == 8 and rows[0]["resps"] == [["an answer"]]
    assert {r["filter"] for r in rows} == {"strict-match", "flexible-extract"}


def test_the_order_of_rows_does_not_matter(tmp_path: Path) -> None:
    rows = gsm8k_rows()
    random.Random(1).shuffle(rows)
    one, other = run_folder(tmp_path / "a"), run_folder(tmp_path / "b", rows)
    for kind in ("strict-match", "flexible-extract"):
        ours, theirs = (read_results(f).tasks["gsm8k"].samples[kind] for f in (one, other))
        assert ours.doc_ids == theirs.doc_ids and ours.documents == theirs.documents
        assert ours.scores["exact_match"].tolist() == theirs.scores["exact_match"].tolist()


def test_rows_cut_off_at_a_line_end_are_missed(tmp_path: Path) -> None:
    path = samples_file(run_folder(tmp_path, gsm8k_rows()[:-1]))
    message = refused(tmp_path)
    assert str(path) in message and "3 documents where the results say 4" in message


def test_rows_cut_off_between_filters_are_missed(tmp_path: Path) -> None:
    run_folder(tmp_path, gsm8k_rows()[:4])
    assert "no rows of filter 'flexible-extract'" in refused(tmp_path)


def test_fewer_rows_than_said_are_whole_if_their_hash_says_so(tmp_path: Path) -> None:
    rows = gsm8k_rows()
    keys = ("doc_hash", "prompt_hash", "target_hash")
    hashes = {"gsm8k": digest("".join(r[key] for r in rows for key in keys))}
    counts = {"gsm8k": {"original": 1319, "effective": 1319}}  # as 0.4.9 says with --samples
    results = read_results(run_folder(tmp_path, **{"n-samples": counts, "task_hashes": hashes}))
    assert results.tasks["gsm8k"].n == 4 and "1319" in results.notes[0]


def test_a_doubled_row_is_refused(tmp_path: Path) -> None:
    run_folder(tmp_path, [*gsm8k_rows(), gsm8k_rows()[2]])
    assert "doc_id 2 is there twice" in refused(tmp_path)


@pytest.mark.parametrize("score", ["1", "", 10**400])
def test_a_score_that_is_no_number_is_refused(tmp_path: Path, score: Any) -> None:
    rows = gsm8k_rows()
    rows[1]["exact_match"] = score
    path = samples_file(run_folder(tmp_path, rows))
    message = refused(tmp_path)
    shown = "a huge number" if isinstance(score, int) else repr(score)
    assert f"{path} (gsm8k): doc_id 1 has exact_match = {shown}" in message


def test_truth_values_count_as_numbers(tmp_path: Path) -> None:
    rows = gsm8k_rows()
    for each in rows:
        each["exact_match"] = bool(each["exact_match"])
    samples = read_results(run_folder(tmp_path, rows)).tasks["gsm8k"].samples
    assert samples["strict-match"].scores["exact_match"].tolist() == STRICT


def test_documents_that_contradict_the_aggregate_are_refused(tmp_path: Path) -> None:
    rows = gsm8k_rows()
    rows[1]["exact_match"] = 1.0
    run_folder(tmp_path, rows)
    message = refused(tmp_path)
    assert "mean exact_match is 0.75" in message and "the results say 0.5" in message


def test_rows_of_another_task_are_refused(tmp_path: Path) -> None:
    rows = [row(i, f, acc=1.0) for f in ("strict-match", "flexible-extract") for i in range(4)]
    run_folder(tmp_path, rows)
    assert "no row has exact_match" in refused(tmp_path)


def test_a_metric_that_is_no_mean_keeps_its_aggregate_only(tmp_path: Path) -> None:
    data = {"results": {"t": {"acc,none": 0.5, "mcc,none": 0.1, "ppl,none": 7.0, "f1,none": 0.5}}}
    write(tmp_path / f"results_{STAMP}.json", data)
    rows = [row(i, "none", acc=i, mcc=float(i), ppl=[-3.2, 4], f1=0.5) for i in range(2)]
    del rows[0]["f1"]
    write_lines(tmp_path / f"samples_t_{STAMP}.jsonl", rows)
    results = read_results(tmp_path)
    assert set(results.tasks["t"].scores) == {"acc,none", "mcc,none", "ppl,none", "f1,none"}
    assert set(results.tasks["t"].samples["none"].scores) == {"acc"}
    assert sorted(results.notes) == [
        "t: f1 is missing in some documents; only its aggregate is used",
        "t: mcc is not the mean of its documents' values; only its aggregate is used",
        "t: ppl is not one number a document; only its aggregate is used",
    ]


@pytest.mark.parametrize("text", ["", "\n", "[]", '{"doc": 1}\n', "[1, 2]"])
def test_a_samples_file_that_is_none(tmp_path: Path, text: str) -> None:
    path = samples_file(run_folder(tmp_path))
    path.write_text(text)
    message = refused(tmp_path)
    assert str(path) in message and ("no rows" in message or "no doc_id" in message)


@pytest.mark.parametrize("rewrite", [str, float])
def test_ids_that_another_tool_rewrote_are_the_same(tmp_path: Path, rewrite: Any) -> None:
    rows = [{**r, "doc_id": rewrite(r["doc_id"])} for r in gsm8k_rows()]
    task = read_results(run_folder(tmp_path, rows)).tasks["gsm8k"]
    assert task.samples["strict-match"].doc_ids == (0, 1, 2, 3)
    assert {r["doc_id"] for r in task.load_rows()} == {0, 1, 2, 3}


def test_an_id_that_is_a_text_stays_one(tmp_path: Path) -> None:
    names = ["07", "a", "", "1" * 20]
    rows = [{**r, "doc_id": names[r["doc_id"]]} for r in gsm8k_rows()]
    task = read_results(run_folder(tmp_path, rows)).tasks["gsm8k"]
    assert set(task.samples["strict-match"].doc_ids) == set(names)


@pytest.mark.parametrize("named", [5, "exact_match", {"a": 1}, [{"a": 1}], []])
def test_metrics_that_are_no_list_of_names(tmp_path: Path, named: Any) -> None:
    rows = [{**r, "metrics": named} for r in gsm8k_rows()]
    folder = run_folder(tmp_path, rows) / "me__base"
    (folder / f"results_{STAMP}.json").unlink()
    found = read_results(folder).tasks["gsm8k"].scores
    assert found["exact_match,flexible-extract"].value == 0.75


def test_half_a_character_in_a_document_is_hashed(tmp_path: Path) -> None:
    rows = [{**r, "doc": {"question": "\ud83d"}, "doc_hash": None} for r in gsm8k_rows()]
    found = read_results(run_folder(tmp_path, rows)).tasks["gsm8k"].samples["strict-match"]
    assert None not in found.doc_hashes


def old_rows(first: list[int], second: list[int]) -> list[dict[str, Any]]:
    """Rows of 0.4.0 to 0.4.2: neither filter nor hashes, one filter's after the other's."""
    keep = ("doc_id", "doc", "target", "arguments", "resps", "filtered_resps")
    scores = [*enumerate(first), *enumerate(second)]
    return [{**{k: row(i, "")[k] for k in keep}, "exact_match": float(v)} for i, v in scores]


def old_folder(folder: Path, rows: list[dict[str, Any]]) -> Path:
    data = gsm8k_results()
    for key in ("n-samples", "lm_eval_version", "model_name", "higher_is_better"):
        del data[key]
    data["config"] = {"model": "hf", "model_args": "pretrained=me/base,dtype=float32"}
    write(folder / "results.json", data)
    name = "pretrained__me__base,dtype__float32_gsm8k.jsonl"
    write(folder / name, json.dumps(rows, indent=2))
    return folder


def test_old_rows_without_a_filter_go_by_their_turn(tmp_path: Path) -> None:
    task = read_results(old_folder(tmp_path, old_rows(STRICT, FLEXIBLE))).tasks["gsm8k"]
    assert task.samples["strict-match"].scores["exact_match"].tolist() == STRICT
    assert task.samples["flexible-extract"].scores["exact_match"].tolist() == FLEXIBLE
    assert [r["filter"] for r in task.load_rows()] == ["strict-match"] * 4 + [
        "flexible-extract"
    ] * 4
    assert task.n == 4 and task.samples["strict-match"].prompt_hashes == (None,) * 4


def test_old_rows_whose_turns_are_the_other_way_round(tmp_path: Path) -> None:
    task = read_results(old_folder(tmp_path, old_rows(FLEXIBLE, STRICT))).tasks["gsm8k"]
    assert task.samples["strict-match"].scores["exact_match"].tolist() == STRICT
    assert next(iter(task.load_rows()))["filter"] == "flexible-extract"


def test_old_rows_have_the_document_hash_of_newer_ones(tmp_path: Path) -> None:
    task = read_results(old_folder(tmp_path, old_rows(STRICT, FLEXIBLE))).tasks["gsm8k"]
    text = '{\n  "question": "question 2"\n}'  # what lm-eval's json.dumps(indent=2) makes of it
    assert task.samples["strict-match"].doc_hashes[2] == digest(text)


def test_old_rows_that_fit_no_filter_are_refused(tmp_path: Path) -> None:
    old_folder(tmp_path, old_rows([1, 1, 1, 1], FLEXIBLE))
    assert "fit no filter" in refused(tmp_path)


def test_old_rows_in_another_order_are_refused(tmp_path: Path) -> None:
    rows = old_rows(STRICT, FLEXIBLE)
    random.Random(2).shuffle(rows)
    old_folder(tmp_path, rows)
    assert "order lm-eval wrote them" in refused(tmp_path)


def test_old_rows_doubled_or_missing_are_refused(tmp_path: Path) -> None:
    for rows in (old_rows(STRICT, FLEXIBLE)[:-1], old_rows(STRICT, FLEXIBLE) * 2):
        old_folder(tmp_path, rows)
        assert "doubled or missing" in refused(tmp_path)


def test_an_array_cut_off_is_named(tmp_path: Path) -> None:
    folder = old_folder(tmp_path, old_rows(STRICT, FLEXIBLE))
    path = next(folder.glob("*.jsonl"))
    path.write_text(path.read_text()[:-30])
    assert refused(folder).startswith(f"{path} line ")


def test_samples_of_another_model_in_the_folder_are_not_taken(tmp_path: Path) -> None:
    folder = old_folder(tmp_path, old_rows(STRICT, FLEXIBLE))
    next(folder.glob("*.jsonl")).rename(folder / "pretrained__me__other_gsm8k.jsonl")
    assert read_results(folder).tasks["gsm8k"].samples == {}

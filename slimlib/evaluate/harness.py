"""Evaluation with lm-evaluation-harness on plain 16- or 32-bit weights.

Never in a process that imported Unsloth, which patches transformers for good: such a process starts
a clean one. Every response is kept in a file of its own for each combination of weights, dtype and
task, until the task is done.

Requests are answered by `scoring.SlimLM`, or with evaluator="hf" by lm-eval's own HFLM; the answers
are the same, and which it was is recorded.
"""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from slimlib.common import progress
from slimlib.common.clusters import cluster_field, cluster_of, shared
from slimlib.common.content import Hashes, differing
from slimlib.common.files import (
    documents_hash,
    file_sha256,
    read_json,
    remove,
    sha256,
    write_text,
)
from slimlib.common.hardware import find_device, name_dtype, resolve_dtype, unsloth_loaded
from slimlib.common.hub import fetched
from slimlib.common.schema import pack_scores, upgrade_task
from slimlib.common.values import is_number
from slimlib.config import Arm, EvalConfig, Task
from slimlib.data.tasks import check_files, hub_documents, task_yaml
from slimlib.merge.plain import merge_arm
from slimlib.model.opened import FRESH, weights_identity
from slimlib.model.stored import load_whole
from slimlib.run import Run, in_clean_process
from slimlib.scoring.answering import ask_lm_eval
from slimlib.scoring.responses import Responses

RESULTS = ("results.json", "samples.jsonl")  # of a task, beside its entry.json


def evaluate_arm(run: Run, arm: str) -> dict[str, Any]:
    """Evaluate one arm on the study's tasks, keeping each task that is finished.

    Returns:
        The evaluate part of the record.

    Example:

        run = slimlib.open_run("micro")
        entry = slimlib.evaluate_arm(run, "llama-2k")

    Raises:
        ValueError: the merged weights are not there yet, or a task or data file is missing.
    """
    config = run.study[arm]
    if not run.done(arm, "evaluate"):
        if config.writes_weights:
            _bring_weights(run, arm)
        if unsloth_loaded():
            in_clean_process(evaluate_arm, run, arm)
    return run.stage(arm, "evaluate", lambda: _evaluate(run, config))


def _bring_weights(run: Run, arm: str) -> None:
    """Merge again what was merged once and is no longer as it was."""
    state = run.state(arm, "merge")
    if state.word == "not done":
        raise ValueError(f"arm {arm!r} has no merged/ folder yet; merge it first")
    if not state.done:
        merge_arm(run, arm)


def _evaluate(run: Run, config: Arm) -> dict[str, Any]:
    folder = run.arm_folder(config.name) / "eval"
    revision = None if config.writes_weights else config.model.revision
    model = run.model_path(config.name)
    how = {"revision": revision, "hashes": run.hashes}
    tasks = evaluate_model(model, config.evaluate, folder, run.data_folder(), **how)
    return {"parameters": next(iter(tasks.values()))["parameters"], "tasks": tasks}


def evaluate_model(
    model: str,
    config: EvalConfig,
    folder: str | Path,
    data_folder: Path | None = None,
    revision: str | None = None,
    hashes: Hashes = FRESH,
) -> dict[str, Any]:
    """Evaluate any model that transformers loads, task by task.

    What was answered by the same weights in the same way is taken as it is; results of a task in
    another way are kept beside, in FOLDER-kept.

    Args:
        model: folder or hub id.
        config: tasks, dtype, max_length (tokens), evaluator.
        folder: where <task>/results.json and samples.jsonl are written.
        data_folder: of the tasks' local files; None reads the hub.
        revision: hub commit.
        hashes: of the model's files, as far as they are remembered.

    Returns:
        task name -> entry of a record (see `task_entry`).

    Example:

        arm = slimlib.get_study("paper")["llama-base"]
        slimlib.evaluate_model("unsloth/Llama-3.2-1B", arm.evaluate, "my-results")
    """
    folder = Path(folder)
    config = replace(config, dtype=name_dtype(config.dtype))  # in the key, too
    weights = weights_identity(model, revision, hashes)
    loaded = None
    entries = {}
    for task in config.tasks:
        entry = _take(folder, task.name, _key(weights, task, config, data_folder), hashes)
        if entry is None:
            loaded = loaded or _load(model, config, revision)
            place = folder / task.name
            entry = _evaluate_task(loaded, task, config, weights, place, data_folder)
        entries[task.name] = entry
    return entries


def _take(folder: Path, task: str, key: str, hashes: Hashes) -> dict[str, Any] | None:
    """A task's entry if it was evaluated so before; what was made otherwise goes aside."""
    place, kept = folder / task, folder.with_name(f"{folder.name}-kept")
    found, aside = _read_entry(place), kept / f"{task}-{key}"
    if found and found["key"] != key:
        other = kept / f"{task}-{found['key']}"
        remove(other)
        kept.mkdir(exist_ok=True)
        place.replace(other)
        found = None
    if found is None and _read_entry(aside):
        remove(place)
        aside.replace(place)
        found = _read_entry(place)
    if found is None:
        return None
    there = [place / file for file in RESULTS if (place / file).is_file()]
    # an older slimlib's entry does not say what its files were
    wanted = found.get("files") or hashes.files(place, there)
    if lost := differing(hashes.files(place, there), wanted):
        progress.say(f"{task}: {lost}: asks again")
        return None
    for answers in place.glob("responses-*.jsonl"):  # a kill came between
        answers.unlink()
    return upgrade_task(found)  # one cut off by slimlib 0.1


def _read_entry(place: Path) -> dict[str, Any] | None:
    """What entry.json holds; None where it is missing or damaged."""
    try:
        entry = read_json(place / "entry.json")
    except (FileNotFoundError, ValueError):
        return None
    return entry if isinstance(entry, dict) and {"key", "metrics"} <= entry.keys() else None


def _key(weights: str, task: Task, config: EvalConfig, data_folder: Path | None) -> str:
    weights, about, asked = _way(weights, task, config)
    if task.source:
        documents = file_sha256(*check_files(task, data_folder).values())
    else:
        documents = hub_documents(task) or file_sha256()
    return sha256([weights, about, documents, asked])


def _way(weights: str, task: Task, config: EvalConfig) -> list[Any]:
    """What an answer depends on beside its request."""
    return [weights, {**asdict(config), "tasks": None}, asdict(task)]


def _load(model: str, config: EvalConfig, revision: str | None) -> tuple[Any, Any]:
    from transformers import AutoTokenizer

    network = load_whole(
        model,
        revision=revision,
        dtype=resolve_dtype(config.dtype),
        device_map={"": find_device().kind},
    )
    where = fetched(model, revision)
    tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=False, **where)
    return network.eval(), tokenizer


def _evaluate_task(
    loaded: tuple[Any, Any],
    task: Task,
    config: EvalConfig,
    weights: str,
    folder: Path,
    data_folder: Path | None,
) -> dict[str, Any]:
    begin = time.perf_counter()
    network, _ = loaded
    folder.mkdir(parents=True, exist_ok=True)
    cache = folder / f"responses-{sha256(_way(weights, task, config))}.jsonl"
    with progress.line(task.name) as line, Responses(cache, line, alike=True) as responses:
        lm, results = _answer(loaded, task, config, responses, data_folder)
    samples = results.pop("samples")[task.name]
    truncated = count_truncated(samples, lm)
    if truncated:
        limit = f"{config.max_length} tokens"
        progress.say(
            f"{task.name}: {truncated} prompts were longer than {limit} and lost their beginning"
        )
    key = _key(weights, task, config, data_folder)  # the hub's documents may have been loaded anew
    about = {"key": key, "truncated": truncated, "parameters": network.num_parameters()}
    if reason := getattr(lm, "stock_reason", None):
        progress.say(f"{task.name}: left to lm-eval's own HFLM: {reason}")
        about["stock_reason"] = reason
    about["seconds"] = round(time.perf_counter() - begin, 3)
    entry = {**about, **task_entry(results, samples, task)}
    entry = _write(folder, results, samples, entry)
    cache.unlink()
    return entry


def _answer(
    loaded: tuple[Any, Any],
    task: Task,
    config: EvalConfig,
    responses: Responses,
    data_folder: Path | None,
) -> tuple[Any, dict[str, Any]]:
    """lm-eval's model of a loaded network, and its results on a task."""
    with tempfile.TemporaryDirectory() as temporary:
        return ask_lm_eval(
            loaded,
            str(task_yaml(task, data_folder, Path(temporary))),
            config,
            responses,
            batch_size=task.batch_size,
            max_length=config.max_length,
            num_fewshot=task.num_fewshot,
            limit=task.limit,
        )


def count_truncated(samples: list[dict[str, Any]], lm: Any) -> int:
    """Requests whose prompt does not fit the window beside what is to be generated or scored."""
    first = {s["doc_id"]: s for s in samples}.values()  # one row per document, not per filter
    return sum(_too_long(request, lm) for sample in first for request in sample["arguments"])


def _too_long(request: tuple[Any, ...], lm: Any) -> bool:
    context, rest = request[0], request[1]
    if isinstance(rest, dict):
        room = lm.max_length - rest.get("max_gen_toks", lm.max_gen_toks)
        return len(lm.tok_encode(context)) > room
    return len(lm.tok_encode(context + rest)) > lm.max_length


def _write(
    folder: Path, results: dict[str, Any], samples: list[dict[str, Any]], entry: dict[str, Any]
) -> dict[str, Any]:
    """samples.jsonl and results.json in lm-eval's layout; entry.json, the record's part, last.

    Returns:
        The entry, with the hashes of the other two.
    """
    write_text(folder / "samples.jsonl", lm_eval_lines(samples))
    write_text(folder / "results.json", lm_eval_text(results, indent=1))
    entry = {**entry, "files": FRESH.files(folder, (folder / name for name in RESULTS))}
    write_text(folder / "entry.json", lm_eval_text(entry))
    return entry


def lm_eval_text(value: Any, indent: int | None = None) -> str:
    """A value as a line of JSON, or as lines, with what lm-eval makes of numbers of its own."""
    from lm_eval.utils import handle_non_serializable

    kwargs = {"default": handle_non_serializable, "ensure_ascii": False, "indent": indent}
    return json.dumps(value, **kwargs) + "\n"


def lm_eval_lines(samples: Iterable[Any]) -> str:
    """Samples as JSON Lines."""
    return "".join(map(lm_eval_text, samples))


def task_entry(
    results: dict[str, Any], samples: list[dict[str, Any]], task: Task
) -> dict[str, Any]:
    """What a record keeps of one task.

    Args:
        results: of `lm_eval.simple_evaluate`.
        samples: its samples of this task: one row per document and filter.
        task: as it was asked for.

    Returns:
        role, task, version, num_fewshot, n, `documents` (a hash over the documents in order: equal
        hashes mean paired scores), `clusters` (where some documents belong together, a name for
        each), and per "metric,filter" its value, standard error and scores (one per document, in
        0..1; see `slimlib.common.schema.pack_scores`).

    Raises:
        ValueError: a score is missing or not a number.
    """
    scores = results["results"][task.name]
    by_filter: dict[str, list[dict[str, Any]]] = {}
    for sample in sorted(samples, key=lambda s: s["doc_id"]):
        by_filter.setdefault(sample["filter"], []).append(sample)
    rows = next(iter(by_filter.values()))
    clusters = _clusters(task.name, rows)
    names = [k for k, v in scores.items() if "," in k and "_stderr" not in k and is_number(v)]
    return {
        "role": task.role,
        "task": task.name,
        "version": results["versions"].get(task.name),
        "num_fewshot": results["n-shot"].get(task.name, task.num_fewshot),
        "n": len(rows),
        "documents": documents_hash(*([row[k] for row in rows] for k in ("doc_id", "doc_hash"))),
        **({"clusters": clusters} if clusters else {}),
        "metrics": {name: _metric(name, scores, by_filter, task) for name in names},
    }


def _clusters(task: str, rows: list[dict[str, Any]]) -> list[str]:
    """What each document shares with others; empty where none does, or no field says it."""
    field = cluster_field(task)
    return [*shared([cluster_of(row["doc"], field) for row in rows])] if field else []


def _metric(
    name: str, scores: dict[str, Any], by_filter: dict[str, list[dict[str, Any]]], task: Task
) -> dict[str, Any]:
    metric, _, kind = name.partition(",")
    rows = by_filter.get(kind, [])
    if not rows or not all(is_number(row.get(metric)) for row in rows):
        raise ValueError(f"task {task.name}: {name} has documents without a score")
    values = [float(row[metric]) for row in rows]
    if not all(math.isfinite(value) for value in values):
        raise ValueError(f"task {task.name}: {name} has a score that is not a number")
    stderr = scores.get(f"{metric}_stderr,{kind}")
    return {
        "value": scores[name],
        "stderr": stderr if is_number(stderr) else None,
        "scores": pack_scores(values),
    }

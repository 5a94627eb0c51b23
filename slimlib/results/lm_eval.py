"""One results object of lm-evaluation-harness, 0.3 to 0.4.13, as `Results`.

What a version did not write stays unknown. Where the documents' rows lie is the caller's business
(`slimlib.results.read` for files, the object itself for what `simple_evaluate` returns).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from slimlib.common.clusters import cluster_field
from slimlib.common.names import without_tokens
from slimlib.common.values import is_finite, is_number, short
from slimlib.results.broken import is_no_number, tell_aggregate
from slimlib.results.groups import indented_groups, joined, leaves_of
from slimlib.results.raw import Rows
from slimlib.results.samples import PLAIN_MEANS, TaskSamples, read_samples
from slimlib.results.types import Results, ResultsError, Samples, Score, TaskResults

LONGEST = 160  # characters of a model's name
OLD_MMLU = "hendrycksTest-"  # what 0.3 called mmlu_
MODEL_KEYS = ("peft", "delta", "pretrained", "model", "path", "engine")  # as lm-eval names a model
SETTINGS = (
    "lm_eval_version",
    "transformers_version",
    "date",
    "model_name",
    "chat_template",
    "chat_template_sha",
    "system_instruction",
    "fewshot_as_multiturn",
    "eot_token_id",
    "tokenizer_eos_token",
    "max_length",
)
CONFIG_SETTINGS = (
    "model",
    "batch_size",
    "limit",
    "gen_kwargs",
    "random_seed",
    "fewshot_seed",
    "model_revision",
)


def read_object(
    data: Mapping[str, Any],
    source: str,
    find_rows: Callable[[str], Rows | None],
    name: str | None = None,
    only: set[str] | None = None,
) -> Results:
    """Results of one model from one object of lm-eval.

    Args:
        data: the object.
        source: path or "simple_evaluate", for messages.
        find_rows: a task's name as the object has it -> its rows; None: aggregates only.
        name: of the model where the object does not say it; None: the source.
        only: canonical names of the tasks wanted; None: all.

    Raises:
        ResultsError: see `slimlib.results.samples.read_samples`.
    """
    notes: list[str] = []
    tasks = {}
    groups = part(data, "group_subtasks") or indented_groups(data["results"], notes)
    for raw in data["results"]:
        task = canonical(raw)
        if only is not None and task not in only:
            continue
        leaves = tuple(canonical(leaf) for leaf in leaves_of(groups, raw))
        found = _task(data, raw, leaves, source, find_rows, notes)
        if found is not None:
            tasks[task] = found
    for task, found in list(tasks.items()):
        if found.subtasks:
            tasks[task] = joined(found, tasks, notes)
    settings = _settings(data)
    return Results(source, model_name(data) or name or source, tasks, settings, tuple(notes))


def canonical(task: str) -> str:
    """A task's name today, in one line: hendrycksTest-x of 0.3 is mmlu_x."""
    task = _one_line(task)
    return f"mmlu_{task[len(OLD_MMLU) :]}" if task.startswith(OLD_MMLU) else task


def _one_line(name: str) -> str:
    """A name as it can be printed: without line ends and half characters (\\ud83d of JSON)."""
    return " ".join(name.encode("utf-8", "replace").decode("utf-8").split())


def model_args(data: Mapping[str, Any]) -> dict[str, Any]:
    """The model's arguments, a dict also where the file has "a=b,c=d"; one may be a token."""
    args = part(data, "config").get("model_args") or {}
    if not isinstance(args, Mapping):
        pairs = (part.partition("=") for part in str(args).split(",") if part)
        args = {key.strip(): value for key, _, value in pairs}
    return {k: without_tokens(v) if isinstance(v, str) else v for k, v in args.items()}


def model_name(data: Mapping[str, Any]) -> str | None:
    """What the file calls the model; None: it does not say."""
    args = model_args(data)
    named = [data.get("model_name"), *(args.get(key) for key in MODEL_KEYS)]
    named = [_one_line(str(name)) for name in named if name]
    model = part(data, "config").get("model")
    if isinstance(model, str) and "/" in model:  # not a kind such as "hf"
        named.append(model)
    return next((_shortened(without_tokens(name)) for name in named if name), None)


def _shortened(name: str) -> str:
    half = LONGEST // 2
    return name if len(name) <= LONGEST else f"{name[:half]}...{name[-half:]}"


def part(data: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """A mapping inside the object; empty where it is missing or null."""
    value = data.get(key)
    return value if isinstance(value, Mapping) else {}


def _settings(data: Mapping[str, Any]) -> dict[str, Any]:
    config = part(data, "config")
    settings = {key: data[key] for key in SETTINGS if key in data}
    settings |= {key: config[key] for key in CONFIG_SETTINGS if key in config}
    if "model_args" in config:
        settings["model_args"] = model_args(data)
    dtype = config.get("model_dtype") or model_args(data).get("dtype")
    if dtype:
        settings["dtype"] = str(dtype).removeprefix("torch.")
    return settings


def _task(
    data: Mapping[str, Any],
    raw: str,
    leaves: tuple[str, ...],
    source: str,
    find_rows: Callable[[str], Rows | None],
    notes: list[str],
) -> TaskResults | None:
    """One task or group; None: an entry without scores, such as a group that only lists tasks."""
    task = canonical(raw)
    scores, broken = _scores(data, raw, source, notes)
    if not scores and not broken:
        return None
    rows = None if leaves else find_rows(raw)
    n = _count(data, raw)
    found = TaskSamples({}, [], None)
    if rows is not None:
        values = dict.fromkeys(broken, math.nan) | {k: score.value for k, score in scores.items()}
        whole = part(data, "task_hashes").get(raw)
        found = read_samples(rows, task, values, n, _aggregations(data, raw), whole)
        notes.extend(found.notes)
    return TaskResults(
        task=task,
        scores=scores,
        samples=found.samples,
        version=_version(data, raw),
        num_fewshot=_num_fewshot(data, raw),
        limit=_number(part(data, "config").get("limit")),
        n=count_documents(found.samples) or n,
        subtasks=leaves,
        higher_is_better=_higher_is_better(data, raw),
        output_type=_output_type(data, raw) or found.output_type,
        generation=_generation(data, raw),
        chance=found.chance,
        cluster=cluster_field(task),
        broken=broken | found.broken,
        load_rows=found.load_rows,
    )


def _scores(
    data: Mapping[str, Any], raw: str, source: str, notes: list[str]
) -> tuple[dict[str, Score], dict[str, str]]:
    """The entry's scores under "metric,filter", and why others are no numbers.

    Strings (alias) and counts are no scores.
    """
    entry = data["results"][raw]
    # 0.3 knew no filters; one key with a comma anywhere means a later version
    old = not any("," in str(key) for row in data["results"].values() for key in row)
    scores, broken = {}, {}
    for key, value in ((str(key), value) for key, value in entry.items()):
        metric, _, kind = key.partition(",")
        name = f"{metric},{kind or 'none'}"
        if isinstance(value, Mapping):
            notes.append(f"{canonical(raw)}: {key} holds another level of results, not read")
            continue
        if not (metric and (old or "," in key)) or "_stderr" in key or key.startswith("bypass"):
            continue
        if isinstance(value, bool) or not is_finite(value):
            named = is_number(value) or "," in key or metric in PLAIN_MEANS  # else an alias
            if named and value is not None and is_no_number(value):
                broken[name] = tell_aggregate(key, value)
            elif named:
                shown = short(value)
                notes.append(f"{canonical(raw)}: {key} is {shown} in the results and is left out")
            continue
        stderr = _finite(entry.get(f"{metric}_stderr,{kind}" if kind else f"{metric}_stderr"))
        if why := _impossible(metric, value, stderr):
            raise ResultsError(
                f"{source}: {raw} has {key} = {value}{why}; give the file that lm-eval wrote"
            )
        scores[name] = Score(float(value), stderr)
    return scores, broken


def _impossible(metric: str, value: float, stderr: float | None) -> str:
    """What cannot be about a score; "" where all may be."""
    if metric in PLAIN_MEANS and not 0 <= value <= 1:
        return ", which is no share in 0..1"
    # sqrt(p (1 - p) / (n - 1)) is at most 0.5, for one of two documents
    if stderr is not None and (stderr < 0 or (metric in PLAIN_MEANS and stderr > 0.5)):
        return f" with a standard error of {stderr:g}, which no share in 0..1 has"
    return ""


def _finite(value: Any) -> float | None:
    return float(value) if is_finite(value) else None


def _number(value: Any) -> float | int | None:
    if _finite(value) is None:
        return None
    return int(value) if float(value).is_integer() else float(value)


def _count(data: Mapping[str, Any], raw: str) -> int | None:
    counts = part(data, "n-samples").get(raw)
    count = counts.get("effective") if isinstance(counts, Mapping) else counts
    return None if _finite(count) is None or count < 1 else int(count)


def count_documents(samples: dict[str, Samples]) -> int | None:
    """How many documents the samples have; None without samples."""
    return next((len(kind.doc_ids) for kind in samples.values()), None)


def _configured(data: Mapping[str, Any], raw: str) -> Mapping[str, Any]:
    return part(part(data, "configs"), raw)


def _output_type(data: Mapping[str, Any], raw: str) -> str | None:
    kind = _configured(data, raw).get("output_type")
    return kind if isinstance(kind, str) else None


def _generation(data: Mapping[str, Any], raw: str) -> dict[str, Any] | None:
    """The task's generation arguments; None where the file does not say them."""
    arguments = _configured(data, raw).get("generation_kwargs")
    return dict(arguments) if isinstance(arguments, Mapping) else None


def _version(data: Mapping[str, Any], raw: str) -> float | int | str | None:
    version = part(data, "versions").get(raw)
    metadata = _configured(data, raw).get("metadata")
    if version is None:
        # 0.4.0 had a list of one mapping here
        metadata = metadata[0] if isinstance(metadata, list) and metadata else metadata
        version = metadata.get("version") if isinstance(metadata, Mapping) else None
    return None if version in ("N/A", "Yaml", "") else version  # "Yaml": no version was given


def _num_fewshot(data: Mapping[str, Any], raw: str) -> int | None:
    named = [
        part(data, "n-shot").get(raw),
        _configured(data, raw).get("num_fewshot"),
        part(data, "config").get("num_fewshot"),  # 0.3: one for all tasks
    ]
    return next((int(value) for value in named if _finite(value) is not None), None)


def _metric_list(data: Mapping[str, Any], raw: str) -> list[Mapping[str, Any]]:
    listed = _configured(data, raw).get("metric_list")
    rows = listed if isinstance(listed, list) else []
    return [row for row in rows if isinstance(row, Mapping) and isinstance(row.get("metric"), str)]


def _higher_is_better(data: Mapping[str, Any], raw: str) -> dict[str, bool]:
    better = {row["metric"]: row.get("higher_is_better") for row in _metric_list(data, raw)}
    better |= part(part(data, "higher_is_better"), raw)
    return {str(metric): value for metric, value in better.items() if isinstance(value, bool)}


def _aggregations(data: Mapping[str, Any], raw: str) -> dict[str, str]:
    rows = _metric_list(data, raw)
    named = [(str(row["metric"]), row.get("aggregation")) for row in rows]
    return {metric: value for metric, value in named if isinstance(value, str)}

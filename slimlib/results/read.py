"""Find what lm-eval wrote: results files, the samples beside them, several runs of one model."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from slimlib.common.clusters import cluster_field
from slimlib.common.values import is_number
from slimlib.results.lm_eval import (
    MODEL_KEYS,
    canonical,
    count_documents,
    model_args,
    model_name,
    part,
    read_object,
)
from slimlib.results.raw import (
    Rows,
    embedded_rows,
    file_rows,
    foreign,
    is_record,
    load_results_json,
    why_foreign,
)
from slimlib.results.record import read_record
from slimlib.results.samples import read_samples
from slimlib.results.types import Results, ResultsError, Score, Source, TaskResults

STAMP = re.compile(r"_(\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d(?:\.\d+)?)$")  # at the end of a file's stem
LINES = (".jsonl", ".jsonl.gz")  # how a samples file ends
# Arguments that make other weights of the same name: two runs that differ in one are two models.
OF_WEIGHTS = ("revision", "subfolder", "dtype", "load_in_4bit", "load_in_8bit", "gguf_file")
LOOKED_FOR = "results_*.json and samples_*.jsonl of lm-eval, or a record.json of slimlib"


class _File(NamedTuple):
    path: Path
    data: dict[str, Any]


def read_results(source: Source) -> Results:
    """Read evaluation results, whoever made them.

    Args:
        source: a results JSON of lm-eval 0.3 to 0.4.13; a folder that its --output_path wrote, with
            the models' sub-folders or without; a slimlib arm's folder or record; or the mapping
            that `lm_eval.simple_evaluate` returned. Results are returned as they are.

    Returns:
        the model's tasks, with every document's score where samples lie beside (--log_samples).

    Example:

        slimlib.read_results("results-after/").tasks["gsm8k"].scores

    Raises:
        ResultsError: nothing is there, or it is cut off, contradictory, of several models or of
            another tool; names the file and the way out.
    """
    if isinstance(source, Results):
        return source
    return _read_mapping(source) if isinstance(source, Mapping) else _read_path(Path(source))


def _read_mapping(data: Mapping[str, Any]) -> Results:
    """What `lm_eval.simple_evaluate` returned, or a record already read."""
    if reason := why_foreign(data):
        raise foreign("simple_evaluate", reason)
    if is_record(data):
        return read_record(data, Path(f"{data['arm']}.json"))
    rows = partial(embedded_rows, data, source="simple_evaluate")
    return _scored(read_object(data, "simple_evaluate", rows))


def _read_path(path: Path) -> Results:
    if not path.exists():
        raise ResultsError(f"{path} does not exist")
    if path.is_dir():
        return _read_folder(path)
    data = load_results_json(path)
    if is_record(data):
        return read_record(data, path)
    file, stamp = _File(path, data), STAMP.search(path.stem)
    samples = _beside(path.parent, f"samples_*{stamp[0]}") if stamp else []
    return _noted(_read_file(file, str(path)), [file], samples)


def _read_file(file: _File, source: str, only: set[str] | None = None) -> Results:
    name = file.path.parent.name if file.path.stem == "results" else file.path.stem
    return read_object(file.data, source, partial(_find_rows, file), name, only)


def _noted(results: Results, files: list[_File], samples: list[Path]) -> Results:
    """With a note for each samples file that no results file knows."""
    return _scored(replace(results, notes=(*results.notes, *_orphans(files, samples))))


def _scored(results: Results) -> Results:
    if not results.tasks:
        why = "; ".join(results.notes[:3]) or "a run that only predicts?"
        raise ResultsError(f"{results.source} has no task with a score ({why}); evaluate again")
    return results


def _orphans(files: list[_File], samples: list[Path]) -> list[str]:
    if not all(STAMP.search(file.path.stem) for file in files):
        return []
    known = {
        file.path.with_name(f"samples_{task}{STAMP.search(file.path.stem)[0]}{end}")
        for file in files
        for task in file.data["results"]
        for end in LINES
    }
    return [f"{p.name} belongs to no results and is left out" for p in samples if p not in known]


def _find_rows(file: _File, task: str) -> Rows | None:
    """The rows of a task, embedded or beside the results file; None: there are none."""
    if embedded := embedded_rows(file.data, task, str(file.path)):
        return embedded
    found = _rows_beside(file, task)
    if found or not file.path.is_symlink():
        return found
    return _rows_beside(file._replace(path=file.path.resolve()), task)


def _rows_beside(file: _File, task: str) -> Rows | None:
    folder, stamp = file.path.parent, STAMP.search(file.path.stem)
    if stamp:  # the Open LLM Leaderboard calls JSON Lines .json
        ends = (*LINES, ".json")
        return _first_rows(folder, [f"samples_{task}{stamp[0]}{end}" for end in ends])
    prefix = re.sub("/|=", "__", str(part(file.data, "config").get("model_args")))
    stems = [f"{prefix}_{task}", f"samples_{task}"]
    if len(file.data["results"]) == 1:
        stems.append("samples")  # as slimlib lays it out: a folder for each task
    found = _first_rows(folder, [f"{stem}{end}" for stem in stems for end in LINES])
    return found or _only_stamped(file.path, task)


def _first_rows(folder: Path, names: Iterable[str]) -> Rows | None:
    return next((rows for name in names if (rows := _rows(folder / name))), None)


def _rows(path: Path) -> Rows | None:
    # os.path: a name that is too long for a file is no error there
    return Rows(str(path), partial(file_rows, path)) if os.path.isfile(path) else None


def _only_stamped(path: Path, task: str) -> Rows | None:
    """Stamped samples beside a renamed results file, if no other results could own them."""
    pattern = re.compile(re.escape(f"samples_{task}") + STAMP.pattern)
    found = [file for file in _beside(path.parent, "samples_*") if pattern.match(_stem(file))]
    alone = len(list(path.parent.glob("*.json"))) == 1
    return _rows(found[0]) if alone and len(found) == 1 else None


def _beside(folder: Path, stem: str) -> list[Path]:
    """Samples files in a folder."""
    return sorted(path for end in LINES for path in folder.glob(stem + end))


def _read_folder(folder: Path) -> Results:
    if (folder / "record.json").is_file():
        path = folder / "record.json"
        return read_record(load_results_json(path), path)
    arms = [*folder.glob("*/record.json"), *folder.glob("*/*/record.json")]
    if arms:
        raise _several(folder, "slimlib arms", sorted(path.parent for path in arms))
    files = _results_files(folder)
    if not files:
        return _read_samples_only(folder)
    if records := [file.path for file in files if is_record(file.data)]:
        if len(files) > 1:
            raise _several(folder, "slimlib records", records)
        return read_record(files[0].data, files[0].path)
    models: dict[tuple[str, ...], list[_File]] = {}
    for file in files:
        models.setdefault(_identity(file), []).append(file)
    if len(models) > 1:
        raise _several(folder, "models", _places(list(models.values())))
    found = _read_file(files[0], str(folder)) if len(files) == 1 else _merge(folder, files)
    return _noted(found, files, _found(folder, *(f"samples_*{end}" for end in LINES)))


def _several(folder: Path, what: str, places: Iterable[Path]) -> ResultsError:
    names = [str(place.relative_to(folder)) for place in places]
    listed = ", ".join(names[:8]) + (f", ... ({len(names)} in all)" if len(names) > 8 else "")
    return ResultsError(f"{folder} holds several {what}; give one of them: {listed}")


def _places(models: list[list[_File]]) -> list[Path]:
    """What to name for each model: its folder if that holds no other one, else a file."""
    folders = [{file.path.parent for file in files} for files in models]
    shared = any(a & b for i, a in enumerate(folders) for b in folders[:i])
    return [files[-1].path if shared else files[-1].path.parent for files in models]


def _results_files(folder: Path) -> list[_File]:
    """Results files under a folder: by name, or where no name tells, by content."""
    # lm-eval makes a folder of --output_path scores.json
    found = _found(folder, "*.json")
    found = [p for p in found if not p.name.startswith("samples_")] or found
    named = [p for p in found if p.name.startswith("results") or STAMP.search(p.stem)]
    if named:
        return [_File(p, load_results_json(p)) for p in named]
    if len(found) == 1:
        return [_File(found[0], load_results_json(found[0]))]
    return [_File(p, data) for p in found if (data := _tried(p)) is not None]


def _tried(path: Path) -> dict[str, Any] | None:
    """The content of a file that is one of results; None: it is something else."""
    try:
        return load_results_json(path)
    except ResultsError:
        return None


def _found(folder: Path, *patterns: str) -> list[Path]:
    """Files at any depth whose path has no hidden part, behind links too."""
    found, seen = [], set()
    for place, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        folders[:] = [] if real in seen else [f for f in folders if not f.startswith(".")]
        if real not in seen:
            found += [Path(place, name) for p in patterns for name in fnmatch.filter(names, p)]
        seen.add(real)
    return [p for p in sorted(found) if p.is_file() and not p.name.startswith(".")]


def _stem(path: Path) -> str:
    """A samples file's name without .jsonl or .jsonl.gz."""
    return path.name.removesuffix(".gz").removesuffix(".jsonl")


def _identity(file: _File) -> tuple[str, ...]:
    args = model_args(file.data)
    name = model_name(file.data) or str(_series(file))
    return (name, *(str(args.get(key)) for key in (*MODEL_KEYS, *OF_WEIGHTS)))


def _series(file: _File) -> Path:
    """What runs of one model into one --output_path share: the path without its time stamp."""
    return file.path.with_name(STAMP.sub("", file.path.stem))


def _merge(folder: Path, files: list[_File]) -> Results:
    """Several runs of one model: of each task the newest."""
    files = _newest_first(folder, files)
    taken: dict[str, _File] = {}
    for file in files:
        for raw in file.data["results"]:
            taken.setdefault(canonical(raw), file)
    parts = []
    for file in files:
        only = {task for task, owner in taken.items() if owner is file}
        if only:
            parts.append((file, _read_file(file, str(folder), only)))
    tasks = {task: found for _, part in parts for task, found in part.tasks.items()}
    used = "; ".join(f"{', '.join(part.tasks)} from {file.path.name}" for file, part in parts)
    note = f"{len(files)} results files of one model, of each task the newest run: {used}"
    notes = (note, *_unlike(parts), *(line for _, part in parts for line in part.notes))
    first = parts[0][1]
    return Results(str(folder), first.name, tasks, first.settings, notes)


def _unlike(parts: list[tuple[_File, Results]]) -> list[str]:
    """A note on settings in which the files that were taken differ."""
    keys = {key for _, part in parts for key in part.settings} - {"date"}
    differ = [k for k in sorted(keys) if len({str(p.settings.get(k)) for _, p in parts}) > 1]
    line = f"the files differ in {', '.join(differ)}; the newest file's are shown"
    return [line] if differ else []


def _newest_first(folder: Path, files: list[_File]) -> list[_File]:
    names = [canonical(raw) for file in files for raw in file.data["results"]]
    overlap = len(names) != len(set(names))
    if overlap and len({_series(file) for file in files}) > 1:
        raise _several(folder, "runs of one model under different names", [f.path for f in files])
    stamps = {f.path: m[1] if (m := STAMP.search(f.path.stem)) else None for f in files}
    dates = {f.path: d if is_number(d := f.data.get("date")) else None for f in files}
    for times in (stamps, dates):
        if None not in times.values():
            return sorted(files, key=lambda file: (times[file.path], str(file.path)), reverse=True)
    if overlap:
        what = "runs of one model, and neither names nor dates tell which is newer"
        raise _several(folder, what, [f.path for f in files])
    return files


def _read_samples_only(folder: Path) -> Results:
    """A folder with nothing but samples files: scores are the means over their documents."""
    found = _found(folder, *(f"samples_*{end}" for end in LINES))
    if not found:
        raise ResultsError(f"{folder} holds no results; looked for {LOOKED_FOR}")
    if len({path.parent for path in found}) > 1:
        raise _several(folder, "models", sorted({path.parent for path in found}))
    newest: dict[str, Path] = {}
    for path in found:  # sorted: of one task the newest comes last
        newest[canonical(STAMP.sub("", _stem(path)).removeprefix("samples_"))] = path
    tasks, notes = {}, ["no results file: scores are the means over the documents"]
    for task, path in newest.items():
        tasks[task] = _from_samples(task, path, notes)
    if len(newest) < len(found):
        notes.append("several samples files of one task: of each task the newest")
    return Results(str(folder), folder.name, tasks, {}, tuple(notes))


def _from_samples(task: str, path: Path, notes: list[str]) -> TaskResults:
    found = read_samples(Rows(str(path), partial(file_rows, path)), task, {})
    notes.extend(found.notes)
    scores = {
        f"{metric},{kind}": Score(float(values.mean()), None)
        for kind, samples in found.samples.items()
        for metric, values in samples.scores.items()
    }
    return TaskResults(
        task,
        scores,
        found.samples,
        n=count_documents(found.samples),
        output_type=found.output_type,
        chance=found.chance,
        cluster=cluster_field(task),
        broken=found.broken,
        load_rows=found.load_rows,
    )

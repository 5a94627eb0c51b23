"""Records of slimlib 0.1 in today's schema: what a grid had in place of records, whole folders.

One record is brought up to date by `slimlib.common.schema.upgrade`, whenever it is read. Here is
what a grid had instead: seed-S.jsonl with a header (study, seed, environment, the settings that its
cells share) and a line per cell: what differs from those settings, what was trained and measured,
and for each task the headline score with right and wrong as hexadecimal digits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from slimlib.common.files import read_json, read_jsonl, write_json, write_jsonl
from slimlib.common.schema import upgrade
from slimlib.results.raw import is_record

Lines = Sequence[Mapping[str, Any]]


def is_grid(rows: Lines) -> bool:
    """Whether these are a grid's header and lines, not records."""
    return bool(rows) and "arm" not in rows[0] and {"study", "seed", "config"} <= rows[0].keys()


def grid_records(rows: Lines) -> list[dict[str, Any]]:
    """A record for each cell of a grid's file that was begun; what it does not hold is None.

    Args:
        rows: header and lines.

    Raises:
        ValueError: digits that do not fit their number of documents.
    """
    head, *lines = rows
    return [_record(head, line) for line in lines if line.get("missing") != "not run"]


def _record(head: Mapping[str, Any], line: Mapping[str, Any]) -> dict[str, Any]:
    name, seed, partner = line["arm"], head["seed"], line.get("compared_with")
    about = {"study": head["study"], "arm": name, "label": name, "compared_with": partner}
    about |= {"seed": seed, "config": {}, "stages": {}, "environment": head["environment"]}
    if "missing" in line:
        return upgrade(about | {"failed": line["missing"]})
    own = {key: _whole(shared, line["config"].get(key)) for key, shared in head["config"].items()}
    config = {"name": name, "label": name, "compared_with": partner, "adapter_from": None}
    config |= {"quantise": "merge" in line and own["adapter"] is None, "seed": seed, **own}
    return upgrade(about | {"config": config, "stages": dict(_stages(line))})


def _whole(shared: Mapping[str, Any], own: Mapping[str, Any] | str | None) -> dict[str, Any] | None:
    """A cell's settings from the shared ones and what differs; "none" is said of untuned models."""
    return None if own == "none" else {**shared, **(own or {})}


def _stages(line: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """What a line keeps of each stage, in the place that it has in a record."""
    done = {"status": "done"}
    if line.get("finetune"):
        yield "finetune", {**done, **line["finetune"], "last_loss": line["last_loss"]}
    quantised = {"quantisation": line["quantisation"]} if line.get("quantisation") else {}
    if "merge" in line:
        yield "merge", {**done, **line["merge"], **quantised}
    tasks = {name: _task(name, task) for name, task in line["tasks"].items()}
    yield "evaluate", {**done, **line.get("evaluate", {}), "tasks": tasks}


def _task(name: str, task: Mapping[str, Any]) -> dict[str, Any]:
    about = {key: task[key] for key in ("role", "version", "num_fewshot", "n", "documents")}
    metric = {"value": task["value"], "stderr": None, "scores": digits(task["bits"], task["n"])}
    return {"task": name, **about, "truncated": None, "metrics": {task["metric"]: metric}}


def digits(bits: str, n: int) -> str:
    """The first n documents of hexadecimal digits, four each, as a digit 0 or 1 each.

    Example: "b8", 5 -> "10111".

    Raises:
        ValueError: too few digits, or too many.
    """
    if len(bits) != -(-n // 4):
        raise ValueError(f"{len(bits)} hexadecimal digits cannot hold {n} documents")
    return "".join(f"{int(digit, 16):04b}" for digit in bits)[:n]


def migrate_folder(folder: Path) -> list[Path]:
    """Rewrite the older records in a folder and below in today's schema; returns their paths.

    An arm's NAME.json is brought up to date with NAME.log.jsonl beside it, record.json with
    log.jsonl; a grid's seed-S.jsonl becomes seed-S.jsonl.gz.
    """
    found = {path: read_json(path) for path in sorted(folder.rglob("*.json"))}
    records = {p: r for p, r in found.items() if isinstance(r, dict) and is_record(r)}
    written = []
    for path, record in records.items():
        source = records.get(_beside(path, record, record.get("config", {}).get("adapter_from")))
        log = path.with_name("log.jsonl" if path.stem == "record" else f"{path.stem}.log.jsonl")
        new = upgrade(record, source, read_jsonl(log) if log.exists() else ())
        if new != record:
            write_json(path, new)
            written.append(path)
    for path in sorted(folder.rglob("seed-*.jsonl")):
        if is_grid(rows := read_jsonl(path)):
            written.append(path.with_suffix(".jsonl.gz"))
            write_jsonl(written[-1], grid_records(rows))
            path.unlink()
    return written


def _beside(path: Path, record: Mapping[str, Any], arm: str | None) -> Path | None:
    """Where the record of another arm lies, if this one lies at `path`."""
    if arm is None:
        return None
    return path.parents[1] / arm / path.name if path.stem == "record" else path.with_stem(arm)

"""figures/: records of finished small studies, and the pictures and numbers made from them alone.

`slimlib figures RUNS...` takes records over from run folders and redraws; without arguments it
redraws from what is committed. Running a study never writes here.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from slimlib.config import get_study
from slimlib.runs import atomic_path, read_json, read_jsonl

FIGURES = Path(__file__).resolve().parent.parent / "figures"


def committed_records(study: str) -> dict[int, list[dict[str, Any]]]:
    """seed -> records of a study that are committed; empty where there are none."""
    folders = (FIGURES / "records" / study).glob("seed-*")
    by_seed = {int(folder.name.removeprefix("seed-")): folder for folder in folders}
    return {seed: _records(by_seed[seed]) for seed in sorted(by_seed)}


def _records(folder: Path) -> list[dict[str, Any]]:
    order = [arm.name for arm in get_study("micro").arms]  # the same in every study
    paths = {path.stem: path for path in folder.glob("*.json")}
    return [read_json(paths[name]) for name in order if name in paths]


def collect(run_folder: Path) -> Path:
    """Copy the finished records and loss logs of a study's run folder into figures/records.

    Args:
        run_folder: as runs/micro.

    Raises:
        ValueError: no records there, or a stage that is not done.
    """
    paths = sorted(run_folder.glob("*/record.json"))
    if not paths:
        raise ValueError(f"{run_folder} holds no */record.json; give the folder of one study")
    records = [read_json(path) for path in paths]
    for record in records:
        for name, stage in record["stages"].items():
            if stage["status"] != "done":
                raise ValueError(f"{run_folder}: stage {name} of {record['arm']} is not done")
    first = records[0]
    target = FIGURES / "records" / first["study"] / f"seed-{first['seed']}"
    with atomic_path(target) as folder:
        folder.mkdir(parents=True)
        for path, record in zip(paths, records, strict=True):
            text = json.dumps(record, ensure_ascii=False, separators=(",", ":"))
            (folder / f"{record['arm']}.json").write_text(text + "\n", encoding="utf-8")
            log = path.parent / "log.jsonl"
            if log.exists():
                shutil.copyfile(log, folder / f"{record['arm']}.log.jsonl")
    return target


def redraw() -> list[Path]:
    """Redraw the pictures and tables of every committed study; returns the paths."""
    from slimlib.plots import make_figures
    from slimlib.presets import STUDIES
    from slimlib.report import render_table2, seeds_table, table2, write_tables

    written = []
    for folder in sorted((FIGURES / "records").iterdir()):
        by_seed = committed_records(folder.name)
        records = [record for seed in by_seed.values() for record in seed]
        study = STUDIES[folder.name]()
        target = FIGURES / folder.name
        logs = _logs(folder / f"seed-{min(by_seed)}")
        written += make_figures(records, study, target, logs)
        written += write_tables(records, study, target)
        with atomic_path(target / "table2.txt") as temporary:
            temporary.write_text(render_table2(table2(records, study)) + "\n", encoding="utf-8")
        with atomic_path(target / "seeds.csv") as temporary:
            seeds_table(by_seed).to_csv(temporary, index=False, lineterminator="\n")
        written += [target / "table2.txt", target / "seeds.csv"]
    return written


def _logs(folder: Path) -> dict[str, list[dict[str, Any]]]:
    return {p.name.removesuffix(".log.jsonl"): read_jsonl(p) for p in folder.glob("*.log.jsonl")}

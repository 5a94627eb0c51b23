"""The records that came with slimlib: a checkout's figures/records, or an installed copy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from slimlib.common.files import PACKAGE, read_json
from slimlib.comparison.arms import tasks_of
from slimlib.config import Study
from slimlib.results.record import read_records
from slimlib.studies.get import get_study
from slimlib.studies.whole import keep_arms, keep_tasks

RECORDS = (PACKAGE.parent / "figures" / "records", PACKAGE / "records")


def committed_records(study: str) -> dict[int, list[dict[str, Any]]]:
    """seed -> records of a study that are committed; empty where there are none."""
    return {seed: _records(folder) for seed, folder in _seeds(study).items()}


def _seeds(study: str) -> dict[int, Path]:
    """seed -> folder, from the first place that has this study."""
    for place in RECORDS:
        folders = (place / study).glob("seed-*/")
        by_seed = {int(folder.name.removeprefix("seed-")): folder for folder in folders}
        if by_seed:
            return dict(sorted(by_seed.items()))
    return {}


def _records(folder: Path) -> list[dict[str, Any]]:
    order = [arm.name for arm in get_study(folder.parent.name).arms]
    paths = {path.stem: path for path in folder.glob("*.json")}
    return [record for name in order if name in paths for record in read_records(paths[name])]


def pooled(study: str, otherwise: Sequence[dict[str, Any]] = ()) -> list[dict[str, Any]]:
    """The committed records of all seeds of a study, or others where there are none."""
    by_seed = committed_records(study)
    return pool(by_seed) if by_seed else [*otherwise]


def source(study: str) -> str:
    """Which records `pooled` takes, in words."""
    seeds = ", ".join(map(str, committed_records(study)))
    return (
        f"committed records of {study}, seeds {seeds}"
        if seeds
        else f"no records of {study} are committed yet: those of this run"
    )


def study_of(name: str, records: Sequence[dict[str, Any]]) -> Study:
    """A named study as far as records of it go: their arms and their tasks."""
    arms, tasks = [record["arm"] for record in records], {}
    for record in records:
        tasks |= tasks_of(record)
    study = get_study(name)
    kept = [arm.name for arm in study.arms if arm.name in arms]
    return keep_tasks(keep_arms(study, kept), [*tasks])


def committed_answers(study: str, arm: str) -> dict[int, dict[str, Any]]:
    """seed -> task -> what became of an arm's answers (`FormatOrAbility.to_dict`)."""
    paths = {seed: folder / f"{arm}.answers.json" for seed, folder in _seeds(study).items()}
    return {seed: read_json(path) for seed, path in paths.items() if path.exists()}


def pool(by_seed: Mapping[int, Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The records of all seeds; an untuned arm once, since the seed plays no part in it."""
    pooled, there = [], set()
    for records in by_seed.values():
        for record in records:
            if record["config"]["adapter"] or record["arm"] not in there:
                there.add(record["arm"])
                pooled.append(record)
    return pooled

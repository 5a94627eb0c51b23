"""The records that came with slimlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from slimlib.common.files import PACKAGE, read_json
from slimlib.results.record import read_records
from slimlib.studies.get import get_study

CHECKOUT = PACKAGE.parent


FIGURES = CHECKOUT / "figures"


def committed_records(study: str) -> dict[int, list[dict[str, Any]]]:
    """seed -> records of a study that are committed; empty where there are none."""
    folders = (FIGURES / "records" / study).glob("seed-*")
    by_seed = {int(folder.name.removeprefix("seed-")): folder for folder in folders}
    return {seed: _records(by_seed[seed]) for seed in sorted(by_seed)}


def _records(folder: Path) -> list[dict[str, Any]]:
    order = [arm.name for arm in get_study("micro").arms]  # the same in every study
    paths = {path.stem: path for path in folder.glob("*.json")}
    return [record for name in order if name in paths for record in read_records(paths[name])]


def committed_answers(study: str, arm: str) -> dict[int, dict[str, Any]]:
    """seed -> task -> what became of an arm's answers (`FormatOrAbility.to_dict`)."""
    paths = (FIGURES / "records" / study).glob(f"seed-*/{arm}.answers.json")
    by_seed = {int(path.parent.name.removeprefix("seed-")): path for path in paths}
    return {seed: read_json(by_seed[seed]) for seed in sorted(by_seed)}


def pool(by_seed: Mapping[int, Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The records of all seeds; an untuned arm once, since the seed plays no part in it."""
    first = min(by_seed)
    return [
        record
        for seed, records in by_seed.items()
        for record in records
        if seed == first or record["config"]["adapter"]
    ]

"""figures/: records of finished small studies, and the pictures and numbers made from them alone.

`slimlib figures RUNS...` takes records over from run folders and redraws; without arguments it
redraws from what is committed. Running a study never writes here.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from slimlib.attribution import attribute
from slimlib.comparison import compare
from slimlib.config import get_study
from slimlib.files import atomic_path, read_json, read_jsonl
from slimlib.summaries import answers_markdown, seeds_markdown

CHECKOUT = Path(__file__).resolve().parent.parent
FIGURES = CHECKOUT / "figures"
README = CHECKOUT / "README.md"


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
        run_folder: as runs/micro; of a grid, the folder of its compact records.

    Raises:
        ValueError: no records there, or a stage that is not done.
    """
    from slimlib.variables.gallery import collect_grid
    from slimlib.variables.records import seed_files

    if seed_files(run_folder):
        return collect_grid(run_folder, FIGURES / "records")
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
            if record["config"]["adapter"]:
                counts = _answers(run_folder / record["compared_with"], path.parent)
                (folder / f"{record['arm']}.answers.json").write_text(json.dumps(counts) + "\n")
    return target


def _answers(base: Path, tuned: Path) -> dict[str, Any]:
    """Task -> what became of the generated answers; records keep scores, not answers."""
    answers = compare(base, tuned).answers
    return {task: outcome.to_dict() for task, outcome in answers.items()}


def committed_answers(study: str, arm: str) -> dict[int, dict[str, Any]]:
    """seed -> task -> what became of an arm's answers (`FormatOrAbility.to_dict`)."""
    paths = (FIGURES / "records" / study).glob(f"seed-*/{arm}.answers.json")
    by_seed = {int(path.parent.name.removeprefix("seed-")): path for path in paths}
    return {seed: read_json(by_seed[seed]) for seed in sorted(by_seed)}


def redraw() -> list[Path]:
    """Redraw pictures and tables of every committed study; returns the paths."""
    from slimlib import diagram
    from slimlib.plots import make_figures, save_figure
    from slimlib.report import render_table2, seeds_table, table2, write_tables
    from slimlib.variables.gallery import redraw_grid
    from slimlib.variables.records import seed_files

    written = [*save_figure(diagram.methods(), FIGURES, "methods")]
    for folder in sorted((FIGURES / "records").iterdir()):
        if seed_files(folder):
            written += redraw_grid(folder, FIGURES / folder.name)
            continue
        by_seed = committed_records(folder.name)
        records = pool(by_seed)
        study = get_study(folder.name)
        target = FIGURES / folder.name
        written += make_figures(records, study, target, _logs(folder / f"seed-{min(by_seed)}"))
        written += write_tables(records, study, target)
        _write(target / "table2.txt", render_table2(table2(records, study)) + "\n")
        _write(target / "seeds.csv", seeds_table(by_seed).to_csv(index=False, lineterminator="\n"))
        written += [target / "table2.txt", target / "seeds.csv"]
    return written


def update_readme() -> Path:
    """Write the README's numbers anew from the committed records; returns its path."""
    _write(README, fill(README.read_text(encoding="utf-8"), readme_blocks()))
    return README


def pool(by_seed: Mapping[int, Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The records of all seeds; an untuned arm once, since the seed plays no part in it."""
    first = min(by_seed)
    return [
        record
        for seed, records in by_seed.items()
        for record in records
        if seed == first or record["config"]["adapter"]
    ]


def readme_blocks() -> dict[str, str]:
    """name -> text between the README's markers of that name, all from committed records."""
    from slimlib.variables import judge_claims, read_grid
    from slimlib.variables.records import committed_folder

    study, by_seed = get_study("micro"), committed_records("micro")
    default = by_seed[study.arms[0].seed]
    arms = {record["arm"]: record for record in default}
    grid = read_grid(committed_folder("key_variables_micro"))
    text = compare(arms[study.tuned.compared_with], arms[study.tuned.name]).to_text(columns=160)
    verdict = "\n\n".join(text.split("\n\n")[:2])  # title and sentences
    return {
        "example": f"```\n{verdict}\n```",
        "answers": answers_markdown(committed_answers("micro", study.tuned.name)),
        "seeds": seeds_markdown(by_seed, study, study.tuned.name),
        "claims": f"```\n{judge_claims(grid).summary()}\n```",
        "ladder": f"```\n{attribute(study, pool(by_seed)).sentences()}\n```",
    }


def fill(text: str, blocks: Mapping[str, str]) -> str:
    """Put each block between `<!-- NAME -->` and `<!-- /NAME -->`.

    Raises:
        ValueError: the text lacks the markers of a block.
    """
    for name, block in blocks.items():
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        if text.count(begin) != 1 or text.count(end) != 1:
            raise ValueError(f"the README needs {begin} and {end}, once each")
        before, rest = text.split(begin)
        text = f"{before}{begin}\n{block}\n{end}{rest.split(end)[1]}"
    return text


def _write(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _logs(folder: Path) -> dict[str, list[dict[str, Any]]]:
    return {p.name.removesuffix(".log.jsonl"): read_jsonl(p) for p in folder.glob("*.log.jsonl")}

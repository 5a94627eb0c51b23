"""figures/: records of finished small studies, and the pictures and numbers made from them alone.

`python figures/redraw.py RUNS...` takes records over from run folders and redraws; without
arguments it redraws from what is committed. Running a study never writes here.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from slimlib.common.checked import shown
from slimlib.common.document import markdown_table
from slimlib.common.files import atomic_path, read_json, read_jsonl, write_json, write_jsonl
from slimlib.common.names import check_name
from slimlib.common.style import save_figure
from slimlib.comparison.answers import REASONS
from slimlib.comparison.answers.kinds import answer_table, has_answers
from slimlib.comparison.answers.slips import count_slips
from slimlib.comparison.arms import Record, by_arm, compare_arms, judge_arms
from slimlib.comparison.change import Change
from slimlib.comparison.ladder import attribute
from slimlib.comparison.two_models import compare
from slimlib.config import Study
from slimlib.metrics.text import interval, number, p_cell
from slimlib.papers.key_variables import article_plots
from slimlib.papers.key_variables.article_tables import cells_table
from slimlib.papers.key_variables.cells import committed_folder, read_grid, seed_files
from slimlib.papers.key_variables.claims import judge_claims
from slimlib.report import diagram
from slimlib.report.committed import committed_answers, committed_records, pool, study_of
from slimlib.report.effects import cells_in_words, effects_in_words, effects_table, plot_effects
from slimlib.report.figures import make_figures
from slimlib.report.tables import document, seeds_table, table2, write_tables
from slimlib.results import read_results
from slimlib.results.migrate import migrate_folder
from slimlib.results.record import read_records
from slimlib.studies import alignment
from slimlib.studies.get import get_study
from slimlib.studies.whole import keep_arms

FIGURES = Path(__file__).resolve().parent
# Arms of the study smol that are draws of one error: title -> their names.
DRAWS = {"normal noise": r"noise-\d+", "NF4, blocks moved": r"nf4(-from-\d+)?"}
# Studies of switches that are on or off: study -> its cells and the switches
FACTORIAL = {"alignment": (alignment.CELLS, alignment.FACTORS)}
# page -> the blocks in it that are made from records
PAGES = {
    FIGURES.parent / "README.md": ("front", "example"),
    FIGURES / "README.md": (
        *("seeds", "answers", "ladder", "cells", "effects", "smol", "steps", "slips"),
    ),
    FIGURES.parent / "slimlib" / "papers" / "README.md": ("claims",),
    FIGURES.parent / "slimlib" / "data" / "micro" / "checkpoints" / "README.md": ("rate",),
}


def collect(run_folder: Path) -> Path:
    """Copy the finished records and loss logs of a study's run folder into figures/records.

    Arms of the same study and seed that are committed, and that this run lacks, stay.

    Args:
        run_folder: as runs/micro; of a grid, the folder of its records.

    Raises:
        ValueError: no records there, names in one that lead elsewhere, a stage not done, or arms
            that would stay although what they are compared with now scores otherwise.
    """
    if seed_files(run_folder):
        return collect_grid(run_folder, FIGURES / "records")
    paths = sorted(run_folder.glob("*/record.json"))
    if not paths:
        raise ValueError(f"{run_folder} holds no */record.json; give the folder of one study")
    records = [record for path in paths for record in read_records(path)]
    for path, record in zip(paths, records, strict=True):
        _check_names(path, record)
        for name, stage in record["stages"].items():
            if stage["status"] != "done":
                raise ValueError(f"{run_folder}: stage {name} of {record['arm']} is not done")
    records = _asked_together(records)
    first = records[0]
    target = FIGURES / "records" / first["study"] / f"seed-{first['seed']}"
    _check_company(target, records)
    with atomic_path(target) as folder:
        shutil.copytree(target, folder) if target.is_dir() else folder.mkdir(parents=True)
        for path, record in zip(paths, records, strict=True):
            write_json(folder / f"{record['arm']}.json", record)
            log = path.parent / "log.jsonl"
            if log.exists() and first["study"] not in FACTORIAL:  # whose losses nobody draws
                shutil.copyfile(log, folder / f"{record['arm']}.log.jsonl")
            if record["config"]["adapter"] and record["compared_with"]:
                counts = _answers(run_folder / record["compared_with"], path.parent)
                (folder / f"{record['arm']}.answers.json").write_text(json.dumps(counts) + "\n")
            if slips := record["compared_with"] and _slips(run_folder, record):
                write_json(folder / f"{record['arm']}.slips.json", slips)
    return target


def _asked_together(records: Sequence[Record]) -> list[Record]:
    """The records with what each is compared with, as if all arms had been asked for at once."""
    study = study_of(records[0]["study"], records)
    partner = {arm.name: arm.compared_with for arm in study.arms}
    return [record | {"compared_with": partner[record["arm"]]} for record in records]


def _check_company(target: Path, records: Sequence[Record]) -> None:
    """Refuse records that change what committed arms, which stay, are compared with."""
    new = {record["arm"]: record for record in records}
    for path in target.glob("*.json"):
        if path.name.count(".") > 1:  # answers and slips
            continue
        (old,) = read_records(path)
        partner = new.get(old["compared_with"])
        if old["arm"] in new or partner is None:
            continue
        (known,) = read_records(target / f"{partner['arm']}.json")
        changed = compare(known, partner, strict=False).changes
        if any(c.difference.value or c.lost or c.gained for c in changed):
            raise ValueError(
                f"{path} stays, but {partner['arm']} has other answers now: collect both from "
                "one run folder"
            )


def _check_names(path: Path, record: Record) -> None:
    """Refuse a record whose names, which become paths, lead elsewhere."""
    for key in ("study", "arm", "seed", "compared_with"):
        try:
            check_name(str(record[key]))  # an arm without a partner has "None" for one
        except ValueError as error:
            raise ValueError(f"{path}: {key}={shown(record[key])}: {error}") from None


def _slips(run_folder: Path, record: Record) -> dict[str, dict[str, int]]:
    """Task of one-digit arithmetic -> how the answers are wrong that the base had right."""
    sides = [read_results(run_folder / arm) for arm in (record["compared_with"], record["arm"])]
    found = {}
    for name in (name for name in sides[1].tasks if name.startswith("digits_")):
        base, tuned = (side.tasks.get(name) for side in sides)
        if base and has_answers(base) and has_answers(tuned):
            before, after = answer_table(base), answer_table(tuned)
            lost = after[before["flexible"].to_numpy() & ~after["flexible"].to_numpy()]
            found[name] = count_slips(zip(lost["answer"], lost["gold"], strict=True))
    return found


def slips_table(study: Study) -> pd.DataFrame:
    """How the answers that the base had right were lost: all wordings together, an arm a row.

    Of several seeds the mean.
    """
    rows = {}
    for arm in study.arms:
        paths = sorted((FIGURES / "records" / study.name).glob(f"seed-*/{arm.name}.slips.json"))
        if not arm.adapter:  # all seeds are alike
            paths = paths[:1]
        totals = [pd.DataFrame(read_json(path)).sum(axis=1) for path in paths]
        if totals:
            mean = sum(totals) / len(totals)
            rows[arm.label] = {"lost": mean.sum(), **mean}
    table = pd.DataFrame(rows).T.map(lambda count: f"{count:.1f}".removesuffix(".0"))
    table.index.name = "against base"
    return table


def _answers(base: Path, tuned: Path) -> dict[str, Any]:
    """Task -> what became of the generated answers; records keep scores, not answers."""
    answers = compare(base, tuned).answers
    return {task: outcome.to_dict() for task, outcome in answers.items()}


def redraw() -> list[Path]:
    """Redraw pictures and tables of every committed study; returns the paths.

    Records of an older schema are brought up to date first.
    """
    written = migrate_folder(FIGURES / "records")
    written += [*save_figure(diagram.methods(), FIGURES, "methods")]
    for folder in sorted((FIGURES / "records").iterdir()):
        if seed_files(folder):
            written += redraw_grid(folder, FIGURES / folder.name)
            continue
        if folder.name in FACTORIAL:
            written += redraw_effects(folder.name, FIGURES / folder.name)
            continue
        by_seed = committed_records(folder.name)
        records = pool(by_seed)
        study = study_of(folder.name, records)
        target = FIGURES / folder.name
        written += make_figures(records, study, target, _logs(folder / f"seed-{min(by_seed)}"))
        written += write_tables(records, study, target)
        _write(target / "table2.txt", document(table2(records, study)).to_text(80) + "\n")
        _write(target / "seeds.csv", seeds_table(by_seed).to_csv(index=False, lineterminator="\n"))
        written += [target / "table2.txt", target / "seeds.csv"]
    return written


def redraw_effects(name: str, folder: Path) -> list[Path]:
    """Write the effects of a factorial study: picture, numbers, and the scores of its cells."""
    study, records, effects = _effects_of(name)
    tables = {
        "effects.csv": effects.round(4).to_csv(index=False, lineterminator="\n"),
        "cells.csv": cells_in_words(records, study).to_csv(lineterminator="\n"),
    }
    for file, text in tables.items():
        _write(folder / file, text)
    pictures = save_figure(plot_effects(effects, study), folder, "effects")
    return [*pictures, *(folder / file for file in tables)]


def _effects_of(name: str) -> tuple[Study, list[Record], pd.DataFrame]:
    """A factorial study, its committed records of all seeds, and its effects."""
    study, records = get_study(name), pool(committed_records(name))
    return study, records, effects_table(records, study, *FACTORIAL[name])


def update_pages() -> list[Path]:
    """Write the pages' numbers anew from the committed records; returns their paths."""
    blocks = page_blocks()
    for page, names in PAGES.items():
        text = page.read_text(encoding="utf-8")
        _write(page, fill(text, {name: blocks[name] for name in names}))
    return list(PAGES)


def page_blocks() -> dict[str, str]:
    """name -> text between a page's markers of that name, all from committed records."""
    study, by_seed = get_study("micro"), committed_records("micro")
    default = by_seed[study.arms[0].seed]
    arms = {record["arm"]: record for record in default}
    grid = read_grid(committed_folder("key_variables_micro"))
    text = compare(arms[study.tuned.compared_with], arms[study.tuned.name]).to_text(columns=160)
    title, sentences = text.split("\n\n")[:2]
    first = "\n".join(re.split(r"\n(?! )", sentences)[:2])  # the answer, and one benchmark
    verdict = f"{title}\n\n{first}"
    smol = pool(committed_records("smol"))
    real = study_of("smol", smol)
    steps = attribute(real, smol)
    rehearsed, cells, effects = _effects_of("alignment")
    return {
        "cells": markdown_table(cells_in_words(cells, rehearsed)),
        "effects": markdown_table(effects_in_words(effects)),
        "front": markdown_table(front_table(real, smol)),
        "smol": markdown_table(controls_table(real, smol)),
        "steps": f"```\n{steps.sentences()}\n```",
        "slips": markdown_table(slips_table(real)),
        "example": f"```\n{verdict}\n```",
        "answers": markdown_table(answers_table(committed_answers("micro", study.tuned.name))),
        "seeds": markdown_table(changes_table(by_seed, study, study.tuned.name)),
        "rate": markdown_table(rate_table(read_json(FIGURES / "rate" / "search.json"))),
        "claims": f"```\n{judge_claims(grid).summary()}\n```",
        "ladder": f"```\n{attribute(study, pool(by_seed)).sentences()}\n```",
    }


def rate_table(log: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """The search for micro's fine-tuning as text; see rate.py."""
    lowest = min(row["loss"] for row in log)
    rows = []
    for row in log:
        mark = ", the lowest" if row["loss"] == lowest else ""
        loss = f"{number(row['loss'], 3)} +- {number(row['error'], 3)}{mark}"
        shown = {"rows x epochs": row["steps"], "rate": f"{row['rate']:g}"}
        shown["loss per token of the answer"] = loss
        shown["exact match, %"] = number(row["exact"], 1)
        shown["training loss, at the end"] = number(row["training loss"], 3)
        rows.append(shown)
    return pd.DataFrame(rows).set_index(["rows x epochs", "rate"])


def front_table(study: Study, records: Sequence[Record]) -> pd.DataFrame:
    """What the first page says of smol: the arms of its ladder and of its first question."""
    arms = [*study.ladder[:-1], study.comparisons[0].tuned]
    few = keep_arms(study, arms)
    table = controls_table(few, [r for r in records if r["arm"] in arms])
    return table.map(lambda cell: re.sub(r": (.*), p .*", r" (\1)", cell))


def changes_table(by_seed: Mapping[int, Sequence[Record]], study: Study, arm: str) -> pd.DataFrame:
    """One arm's changes, seed by seed, as text."""
    rows = []
    for role, label in study.task_labels.items():
        for seed, records in by_seed.items():
            groups = by_arm(records, study)
            c = compare_arms(groups[study[arm].compared_with], groups[arm]).of(role)
            change = f"{number(c.difference.value, 1, '+')} {interval(c.difference, '+', 1)}"
            row = {"benchmark": label, "seed": seed, "base %": f"{c.base:.1f}"}
            row |= {"tuned %": f"{c.tuned:.1f}", "change, 95 %": change}
            row |= {"p (Holm)": p_cell(c.p_holm)}
            row |= {"measure": f"{c.measure} {number(c.measured.value, 1)}", "verdict": c.verdict}
            rows.append(row)
    return pd.DataFrame(rows).set_index(["benchmark", "seed"])


def controls_table(study: Study, records: Sequence[Record]) -> pd.DataFrame:
    """Every arm against the base on every task, judged as one family, and the spread of draws."""
    groups = by_arm(records, study)
    changes = judge_arms(groups, study)
    pairs = list(dict.fromkeys(arm for arm, _ in changes))
    rows = {study[arm].label: _cells(study, changes, arm) for arm in pairs}
    (base,) = {group[0]["compared_with"] for group in groups.values()} - {None}
    of_base = {role: changes[pairs[0], role].base for role in study.task_labels}
    rows = {study[base].label: {r: f"{value:.1f}" for r, value in of_base.items()}, **rows}
    for name, arms in DRAWS.items():
        drawn = [arm for arm in pairs if re.fullmatch(arms, arm)]
        if len(drawn) > 1:
            title = f"{name}, {len(drawn)} draws: mean, SD"
            rows[title] = _spread(study, changes, drawn)
    table = pd.DataFrame(rows).T.rename(columns=study.task_labels)
    table.index.name = "against base"
    return table


def _cells(study: Study, changes: Mapping[tuple[str, str], Change], arm: str) -> dict[str, str]:
    found = {role: changes.get((arm, role)) for role in study.task_labels}
    return {
        role: f"{c.tuned:.1f}: {number(c.difference.value, 1, '+')} "
        f"{interval(c.difference, '+', 1)}, p {p_cell(c.p_holm)}"
        if c
        else "-"
        for role, c in found.items()
    }


def _spread(
    study: Study, changes: Mapping[tuple[str, str], Change], arms: Sequence[str]
) -> dict[str, str]:
    cells = {}
    for role in study.task_labels:
        values = [changes[arm, role].tuned for arm in arms if (arm, role) in changes]
        spread = f"{np.mean(values):.1f}, {np.std(values, ddof=1):.1f}" if values[1:] else "-"
        cells[role] = spread
    return cells


def answers_table(by_seed: Mapping[int, Mapping[str, Mapping[str, Any]]]) -> pd.DataFrame:
    """What became of one arm's lost answers, seed by seed, as text.

    Args:
        by_seed: seed -> task -> `FormatOrAbility.to_dict()`.
    """
    rows = []
    for seed, tasks in by_seed.items():
        for found in tasks.values():
            shares = [found["equations"][when]["share"] for when in ("before", "after")]
            shown = ["none" if share is None else f"{share:.0f} %" for share in shares]
            row = {"seed": seed, "lost": found["lost"]}
            known = found["reasons"]  # older answers were not asked for every reason
            row |= {reason: known[reason] for reason in REASONS if reason in known}
            rows.append(row | {"equations right, before -> after": " -> ".join(shown)})
    return pd.DataFrame(rows).set_index("seed")


def fill(text: str, blocks: Mapping[str, str]) -> str:
    """Put each block between `<!-- NAME -->` and `<!-- /NAME -->`.

    Raises:
        ValueError: the text lacks the markers of a block.
    """
    for name, block in blocks.items():
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        if text.count(begin) != 1 or text.count(end) != 1:
            raise ValueError(f"the page needs {begin} and {end}, once each")
        before, rest = text.split(begin)
        text = f"{before}{begin}\n{block}\n{end}{rest.split(end)[1]}"
    return text


def collect_grid(source: Path, records: Path) -> Path:
    """Take the records of a grid over into records/<study>.

    Raises:
        ValueError: they are no records of a grid.
    """
    target = records / read_grid(source).design.study.name
    with atomic_path(target) as folder:
        folder.mkdir(parents=True)
        for seed, path in seed_files(source).items():
            write_jsonl(folder / f"seed-{seed}.jsonl.gz", read_records(path))
    return target


def redraw_grid(records: Path, folder: Path) -> list[Path]:
    """Write every experiment's figure, the claims in words and the cells as numbers.

    Args:
        records: with seed-*.jsonl.gz.
        folder: where they go.

    Returns:
        The paths written.
    """
    grid = read_grid(records)
    texts = {
        "claims.txt": f"{grid.sentence()}\n\n{judge_claims(grid).sentences()}\n",
        "cells.csv": cells_table(grid).round(4).to_csv(lineterminator="\n"),
    }
    for name, text in texts.items():
        with atomic_path(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return [*article_plots.make_figures(grid, folder), *(folder / name for name in texts)]


def _write(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _logs(folder: Path) -> dict[str, list[dict[str, Any]]]:
    return {p.name.removesuffix(".log.jsonl"): read_jsonl(p) for p in folder.glob("*.log.jsonl")}


if __name__ == "__main__":
    for folder in sys.argv[1:]:
        collect(Path(folder))
    for path in [*redraw(), *update_pages()]:
        print(path)

"""Tables 1 and 2, made from records alone: DataFrames, documents, CSV.

What a record lacks is shown as "-"; records of two studies never meet in one table. The paper's FR,
dA and dK stand beside paired statistics: each arm is compared, document by document, with the arm
its record names in `compared_with`. An arm with several seeds is shown as their mean and SD; see
`seeds_table` for each one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from slimlib.common.document import Document
from slimlib.common.files import atomic_path
from slimlib.comparison.arms import (
    Record,
    by_arm,
    compare_all,
    compare_arms,
    compare_seeds,
    results_of,
    seed_spread,
    task_of,
)
from slimlib.comparison.benchmarks import BENCHMARKS
from slimlib.comparison.change import Change
from slimlib.config import Study
from slimlib.methods.definitions import METHODS
from slimlib.metrics.text import number, p_cell
from slimlib.papers.slimming import published

LEGEND = (
    "Scores in per cent. ± is one standard error; in dK 1.96 of the difference's, unpaired, as the "
    "paper defines it; in columns of several seeds the SD over seeds. FR: forgetting rate, dA: "
    "ability augmentation, dK: knowledge loss. The 95 % intervals (score intervals that agree with "
    "McNemar's exact test) and p-values are paired by document, not corrected for their number and "
    "of this run; of several seeds the variance between them counts too (t, Cochran and Cox), so "
    "they are of the recipe. gain: FR and dK are of losses only."
)
PAPER_LEGEND = "paper: as published; its * is p < 0.05 by a paired t-test on unpublished answers."


def table1(records: Sequence[Record]) -> pd.DataFrame:
    """Table 1: model, size, data, samples and method of each base and each trained arm."""
    groups = by_arm(records)
    sizes = {
        record["config"]["model"]["name"]: stage["parameters"]
        for record in records
        for stage in record["stages"].values()
        if "parameters" in stage
    }
    rows = [_set_up(group[0], sizes) for group in groups.values() if _in_table1(group[0])]
    columns = ["study", "model", "size", "data", "samples", "method"]
    table = pd.DataFrame(rows, columns=columns).set_index(["study", "model"])
    table.attrs = {"title": "Table 1. Models and fine-tuning", "notes": []}
    return table


def _in_table1(record: Record) -> bool:
    config = record["config"]
    untouched = config["adapter"] is None and not config["quantise"]
    return untouched or "finetune" in record["stages"]


def _set_up(record: Record, sizes: Mapping[str, int]) -> dict[str, str]:
    config, finetune = record["config"], record["stages"].get("finetune", {})
    row = {"study": record["study"], "model": record["label"]}
    row |= {"size": _size(sizes.get(config["model"]["name"]))}
    if config["adapter"] is None:
        return row | {"data": "none", "samples": "-", "method": "-"}
    mixture = config["data"]["mixture"]
    parts = " + ".join(f"{100 * share:.0f} % {name}" for name, share in mixture.items())
    adapter = config["adapter"]
    return row | {
        "data": parts or config["data"]["dataset"],
        "samples": f"{finetune['rows']:,}" if "rows" in finetune else "-",
        "method": METHODS[adapter["method"]].describe(adapter),
    }


def _size(parameters: int | None) -> str:
    if parameters is None:
        return "-"
    return f"{parameters / 1e9:.2f}B" if parameters >= 1e9 else f"{parameters / 1e6:.2f}M"


def table2(records: Sequence[Record], study: Study) -> pd.DataFrame:
    """Table 2: every benchmark and metric by arm, with FR, dA, dK, their intervals and p-values.

    Returns:
        Text cells; index (study, benchmark, metric), first row: what each arm is compared with.
        One column per arm of the study and, after an arm that `study.paper_columns` names, the
        published one. `attrs` holds the title and the notes for `document`.

    Raises:
        ValueError: records of another study or arm, two of the same seed, or compared arms that
            answered different documents.
    """
    groups = by_arm(records, study)
    labels = {arm.name: arm.label for arm in study.arms}
    columns: dict[str, dict[tuple[str, str], str]] = {}
    for arm in study.arms:
        group = groups.get(arm.name, [])
        partner = group[0]["compared_with"] if group else arm.compared_with
        seeds = f" ({len(group)} seeds)" if len(group) > 1 else ""
        columns[arm.label + seeds] = {
            ("", "compared with"): labels.get(partner, "-"),
            **_arm_cells(group, groups.get(partner, []), study.task_labels),
        }
        if arm.name in study.paper_columns:
            column = study.paper_columns[arm.name]
            columns[published.COLUMN_LABELS[column]] = _published_cells(column)
    rows = [("", "compared with")] + [(r, t) for r in study.task_labels for t in row_titles(r)]
    titles = [(study.name, study.task_labels.get(role, ""), title) for role, title in rows]
    index = pd.MultiIndex.from_tuples(titles, names=["study", "benchmark", "metric"])
    cells = {name: [column.get(row, "-") for row in rows] for name, column in columns.items()}
    table = pd.DataFrame(cells, index=index)
    notes = [LEGEND, *filter(None, [study.note]), *[PAPER_LEGEND] * bool(study.paper_columns)]
    notes += _truncations(records, study)
    table.attrs = {"title": f"Table 2. {study.title}", "notes": notes}
    return table


def _truncations(records: Sequence[Record], study: Study) -> list[str]:
    """One line per arm and task whose prompts did not fit: its scores are not comparable."""
    cut = [
        (record["label"], task)
        for record in records
        for role in study.task_labels
        if (task := task_of(record, role)) and task["truncated"]
    ]
    return [f"{label}: {t['truncated']} prompts of {t['task']} were truncated" for label, t in cut]


def row_titles(role: str) -> list[str]:
    """The rows of one benchmark in Table 2: its metrics, FR, dA or dK, and the tests."""
    benchmark = BENCHMARKS[role]
    measure = [f"{benchmark.measure} ({benchmark.unit})", f"{benchmark.measure} 95 % interval"]
    return [*benchmark.metrics.values(), *measure, "p, exact McNemar", "p, t-test"]


def _arm_cells(
    group: Sequence[Record], partner: Sequence[Record], roles: Iterable[str]
) -> dict[tuple[str, str], str]:
    cells = {}
    comparison, seeds = compare_arms(partner, group), compare_seeds(partner, group)
    for role in roles:
        titles = row_titles(role)
        for metric, title in BENCHMARKS[role].metrics.items():
            cells[role, title] = _score_cell(results_of(group, role, metric))
        change = comparison.of(role, BENCHMARKS[role].headline) if comparison else None
        if change:
            texts = _measure_cells(change, seed_spread(seeds, role))
            cells |= {(role, t): text for t, text in zip(titles[-4:], texts, strict=True)}
    return cells


def _score_cell(results: Sequence[Mapping[str, Any]]) -> str:
    """One seed: value ± standard error, as lm-eval gives them; several: mean ± SD over seeds."""
    if not results:
        return "-"
    values = [100 * result["value"] for result in results]
    if len(values) > 1:
        spread: float | None = float(np.std(values, ddof=1))
    else:
        error = results[0]["stderr"]
        spread = None if error is None else 100 * error
    digits = _digits(results[0]["n"])
    value = number(float(np.mean(values)), digits)
    return value if spread is None else f"{value} ± {number(spread, digits)}"


def _measure_cells(change: Change, spread: float | None) -> list[str]:
    """FR, dA or dK (± SD over seeds, or dK's own ±), its paired interval and both p-values."""
    digits = _digits(change.n)
    sign = "" if change.measure == "FR" else "+"
    if spread is None and change.measure == "dK":
        spread = change.plus_minus
    value, low, high = (number(limit, digits, sign) for limit in change.measured)
    cells = [value if spread is None else f"{value} ± {number(spread, digits)}", f"[{low}, {high}]"]
    if change.measure != "dA" and change.difference.value > 0:  # nothing was forgotten
        cells = ["gain", "-"]
    return [*cells, p_cell(_mcnemar(change)), p_cell(_t_test(change))]


def _mcnemar(change: Change) -> float | None:
    """The test is about single answers: scores between 0 and 1, as means over seeds, have none."""
    return change.p_value if change.lost is not None else None


def _t_test(change: Change) -> float | None:
    """The paper's test over documents; of several seeds, over documents and seeds."""
    return change.p_t if max(change.seeds) == 1 else change.p_value


def _published_cells(column: str) -> dict[tuple[str, str], str]:
    cells = {
        (role, BENCHMARKS[role].metrics[metric]): f"{score.value:.2f} ± {score.plus_minus:.2f}"
        for (role, metric), score in published.TABLE2[column].items()
    }
    for role, printed in published.MEASURES.get(column, {}).items():
        benchmark = BENCHMARKS[role]
        sign = "" if benchmark.measure == "FR" else "+"
        spread = f" ± {printed.plus_minus:.2f}" if printed.plus_minus else ""
        title = f"{benchmark.measure} ({benchmark.unit})"
        cells[role, title] = f"{printed.value:{sign}.2f}{spread}{'*' if printed.starred else ''}"
    if column in published.COMPARED_WITH:
        cells["", "compared with"] = published.COLUMN_LABELS[published.COMPARED_WITH[column]]
    return cells


def _digits(n: int) -> int:
    return 2 if n >= 1000 else 1  # below 1,000 documents a second decimal is finer than one answer


def seeds_table(records_by_seed: Mapping[int, Sequence[Record]]) -> pd.DataFrame:
    """Each seed's changes: one row per seed, arm and benchmark, as numbers.

    Columns: those of `Change.row`: base, tuned (per cent), difference with its paired 95 % limits
    (points), test, p-values, answers lost and gained, FR, dA or dK with its limits, verdict.

    Raises:
        ValueError: a record filed under another seed than its own; and as `table2`.
    """
    rows = []
    for seed, records in records_by_seed.items():
        for record in records:
            if record["seed"] != seed:
                raise ValueError(f"record {record['arm']} of seed {record['seed']} is under {seed}")
        groups = by_arm(records)
        for arm, comparison in compare_all(groups).items():
            first = groups[arm][0]
            head = {"study": first["study"], "seed": seed, "arm": arm}
            head["compared_with"] = first["compared_with"]
            changes = {role: comparison.of(role) for role in BENCHMARKS}
            rows += [
                head | {"role": role, "metric": change.metric} | change.row()
                for role, change in changes.items()
                if change
            ]
    return pd.DataFrame(rows)


def document(table: pd.DataFrame) -> Document:
    """Table 1 or 2 as it is shown, with its title and notes."""
    return Document(table.attrs["title"], (), table.droplevel("study"), table.attrs["notes"])


def results_document(records: Sequence[Record], study: Study) -> Document:
    """A study's answer: what its fine-tuned arm lost, in words, and its part of Table 2."""
    tuned = study.tuned
    found = compare_all(by_arm(records, study)).get(tuned.name)
    points = [found.answer(), *found.sentences().splitlines()] if found else []
    whole = document(table2(records, study))
    pair = [arm.label for arm in study.arms if arm.name in (tuned.compared_with, tuned.name)]
    shown = [c for c in whole.table if any(c == p or c.startswith(f"{p} (") for p in pair)]
    return replace(whole, points=points, table=whole.table[shown])


def write_tables(records: Sequence[Record], study: Study, folder: Path) -> list[Path]:
    """Write table1.csv and table2.csv (UTF-8) into a folder, each whole or not at all."""
    tables = {"table1": table1(records), "table2": table2(records, study)}
    paths = [folder / f"{name}.csv" for name in tables]
    for path, table in zip(paths, tables.values(), strict=True):
        with atomic_path(path) as temporary:
            table.to_csv(temporary, lineterminator="\n")
    return paths

"""Tables 1 and 2, made from records alone: DataFrames, text for a terminal, CSV.

What a record lacks is shown as "-"; records of two studies never meet in one table. The paper's FR,
dA and dK stand beside paired statistics: each arm is compared, document by document, with the arm
its record names in `compared_with`. An arm with several seeds is shown as their mean and SD; see
`seeds_table` for each one.
"""

from __future__ import annotations

import html
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

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
from slimlib.methods.definitions import METHODS
from slimlib.metrics.text import number, p_cell
from slimlib.papers.slimming import published

if TYPE_CHECKING:
    from slimlib.config import Study

LEGEND = (
    "Scores in per cent. ± is one standard error; in dK 1.96 of the difference's, unpaired, as the "
    "paper defines it; in columns of several seeds the SD over seeds. FR: forgetting rate, dA: "
    "ability augmentation, dK: knowledge loss. The 95 % intervals (Newcombe's; FR: Fieller's) and "
    "p-values are paired by document and not corrected for their number; of several seeds each "
    "document's mean is compared (t intervals; FR: Fieller's)."
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
    return pd.DataFrame(rows, columns=columns).set_index(["study", "model"])


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
        published one. `attrs` holds the title and the notes for `render_table2`.

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
    table.attrs = {"title": f"Table 2. {study.title}", "notes": [LEGEND, study.note]}
    table.attrs["notes"] += [PAPER_LEGEND] if study.paper_columns else []
    table.attrs["notes"] += _truncations(records, study)
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
    """The rows of one benchmark in Table 2: its metrics, its loss, the loss's statistics."""
    benchmark = BENCHMARKS[role]
    loss = f"{benchmark.loss} ({benchmark.unit})"
    interval = f"{benchmark.loss} 95 % interval"
    return [*benchmark.metrics.values(), loss, interval, "p, exact McNemar", "p, paired t"]


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
            texts = _loss_cells(change, seed_spread(seeds, role))
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


def _loss_cells(change: Change, spread: float | None) -> list[str]:
    """The loss (± SD over seeds, or dK's own ±), its paired interval and both p-values."""
    digits = _digits(change.n)
    sign = "" if change.loss == "FR" else "+"
    estimate = change.loss_estimate
    if spread is None and change.loss == "dK":
        spread = change.plus_minus
    value, low, high = (number(limit, digits, sign) for limit in estimate)
    return [
        value if spread is None else f"{value} ± {number(spread, digits)}",
        f"[{low}, {high}]",
        p_cell(_mcnemar(change)),
        p_cell(change.p_t),
    ]


def _mcnemar(change: Change) -> float | None:
    """The test is about single answers: scores between 0 and 1, as means over seeds, have none."""
    return change.p_value if change.lost is not None else None


def _published_cells(column: str) -> dict[tuple[str, str], str]:
    cells = {
        (role, BENCHMARKS[role].metrics[metric]): f"{score.value:.2f} ± {score.plus_minus:.2f}"
        for (role, metric), score in published.TABLE2[column].items()
    }
    for role, loss in published.LOSSES.get(column, {}).items():
        sign = "" if role == "gsm8k" else "+"
        spread = f" ± {loss.plus_minus:.2f}" if loss.plus_minus else ""
        title = f"{BENCHMARKS[role].loss} ({BENCHMARKS[role].unit})"
        cells[role, title] = f"{loss.value:{sign}.2f}{spread}{'*' if loss.starred else ''}"
    if column in published.COMPARED_WITH:
        cells["", "compared with"] = published.COLUMN_LABELS[published.COMPARED_WITH[column]]
    return cells


def _digits(n: int) -> int:
    return 2 if n >= 1000 else 1  # below 1,000 documents a second decimal is finer than one answer


def seeds_table(records_by_seed: Mapping[int, Sequence[Record]]) -> pd.DataFrame:
    """Each seed's losses: one row per seed, arm and benchmark, as numbers.

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


def render_table2(table: pd.DataFrame, width: int = 160) -> str:
    """Table 2 as text for a terminal; columns that do not fit go into a second block below."""
    names = [f"  {metric}" for _, _, metric in table.index]
    left = max(map(len, names)) + 2
    widths = {name: max([10, *map(len, table[name].iloc[1:])]) for name in table}
    blocks: list[list[str]] = [[]]
    for name in table:
        if left + sum(widths[n] + 2 for n in [*blocks[-1], name]) > width and blocks[-1]:
            blocks.append([])
        blocks[-1].append(name)
    parts = [_render_block(table[block], names, left, widths) for block in blocks]
    notes = [textwrap.fill(note, min(width, 120)) for note in table.attrs["notes"] if note]
    return "\n\n".join([table.attrs["title"], *parts, *notes])


def _render_block(
    block: pd.DataFrame, names: Sequence[str], left: int, widths: Mapping[str, int]
) -> str:
    def line(title: str, cells: Iterable[str]) -> str:
        padded = (f"{cell:>{widths[n]}}  " for n, cell in zip(block, cells, strict=True))
        return (f"{title:<{left}}" + "".join(padded)).rstrip()

    def wrapped(title: str, cells: Iterable[str]) -> list[str]:
        stacks = [
            textwrap.wrap(c, widths[n], break_on_hyphens=False)
            for n, c in zip(block, cells, strict=True)
        ]
        depth = range(max(map(len, stacks)))
        rows = [[stack[i] if i < len(stack) else "" for stack in stacks] for i in depth]
        return [line(title if i == 0 else "", row) for i, row in enumerate(rows)]

    rule = "-" * (left + sum(widths[n] + 2 for n in block) - 2)
    lines = [rule, *wrapped("", block.columns), *wrapped(names[0], block.iloc[0])]
    benchmark = ""
    for position in range(1, len(block)):
        if block.index[position][1] != benchmark:
            benchmark = block.index[position][1]
            lines += [rule, benchmark]
        lines.append(line(names[position], block.iloc[position]))
    return "\n".join([*lines, rule])


def write_tables(records: Sequence[Record], study: Study, folder: Path) -> list[Path]:
    """Write table1.csv and table2.csv (UTF-8) into a folder, each whole or not at all."""
    tables = {"table1": table1(records), "table2": table2(records, study)}
    paths = [folder / f"{name}.csv" for name in tables]
    for path, table in zip(paths, tables.values(), strict=True):
        with atomic_path(path) as temporary:
            table.to_csv(temporary, lineterminator="\n")
    return paths


def show_table2(table: pd.DataFrame) -> Any:
    """Table 2 for a notebook: the frame under its title, its notes below."""
    from IPython.display import HTML

    notes = "".join(f"<p><small>{html.escape(note)}</small></p>" for note in table.attrs["notes"])
    frame = table.droplevel(0).to_html()
    return HTML(f"<h4>{html.escape(table.attrs['title'])}</h4>{frame}{notes}")

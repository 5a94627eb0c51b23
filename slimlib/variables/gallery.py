"""Figures and tables of a grid's committed records, for `slimlib figures`."""

from __future__ import annotations

import shutil
from pathlib import Path

from slimlib.files import atomic_path
from slimlib.variables.claims import judge_claims
from slimlib.variables.plots import make_figures
from slimlib.variables.records import read_grid, seed_files
from slimlib.variables.tables import cells_table


def collect_grid(source: Path, records: Path) -> Path:
    """Take seed-*.jsonl over into records/<study>.

    Raises:
        ValueError: they are no records of a grid.
    """
    target = records / read_grid(source).design.study.name
    with atomic_path(target) as folder:
        folder.mkdir(parents=True)
        for path in seed_files(source):
            shutil.copyfile(path, folder / path.name)
    return target


def redraw_grid(records: Path, folder: Path) -> list[Path]:
    """Write every experiment's figure, the claims in words and the cells as numbers.

    Args:
        records: with seed-*.jsonl.
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
    return [*make_figures(grid, folder), *(folder / name for name in texts)]

"""The committed records of the miniature grid: whole, and what the committed figures show."""

import pytest
from places import RECORDS as COMMITTED

from slimlib.papers.key_variables.article_tables import cells_table
from slimlib.papers.key_variables.cells import read_grid
from slimlib.papers.key_variables.claims import judge_claims

RECORDS = COMMITTED / "key_variables_micro"


@pytest.fixture(scope="module")
def grid():
    return read_grid(RECORDS)


def test_as_many_records_as_the_compiled_grid_has_cells_or_a_reason_for_each(grid):
    study = grid.design.study
    trained = sum(arm.trains for arm in study.arms)
    assert len(grid.seeds) >= 3
    whole = len(grid.seeds) * trained + len(study.arms) - trained
    assert len(grid) + len(grid.missing) == whole
    assert grid.missing == {}, grid.sentence()


def test_every_merge_kept_the_function(grid):
    for job, cell in grid.cells.items():
        if grid.design.study[job.cell].writes_weights:
            assert cell.record["stages"]["merge"]["logit_check"]["equal"], job


def test_parameters_are_what_the_plan_says(grid):
    from slimlib.methods.shapes import count_parameters

    for job, cell in grid.cells.items():
        arm = grid.design.study[job.cell]
        if arm.adapter:
            counted = count_parameters("micro", arm.adapter)
            assert cell.parameters == counted, job


def test_the_committed_words_and_numbers_are_made_from_them(grid):
    folder = COMMITTED.parent / "key_variables_micro"
    words = f"{grid.sentence()}\n\n{judge_claims(grid).sentences()}\n"
    assert (folder / "claims.txt").read_text("utf-8") == words
    numbers = cells_table(grid).round(4).to_csv(lineterminator="\n")
    assert (folder / "cells.csv").read_text("utf-8") == numbers


def test_all_seeds_together_are_small():
    assert sum(path.stat().st_size for path in RECORDS.iterdir()) < 500_000

"""The article's tables from a grid's records."""

import math

import numpy as np
import pytest
from grid_records import draw

from slimlib.config import ATTENTION
from slimlib.papers.key_variables.article_tables import (
    PLACES,
    baselines_table,
    cells_table,
    experiment_table,
    experiments_table,
    layers_table,
    methods_table,
    paper_tables,
)
from slimlib.papers.key_variables.cells import read_grid
from slimlib.studies.design import Job

CUT = "qlora-r4-mlp-r2"


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    """Nothing makes a difference."""
    return read_grid(draw(tmp_path_factory.mktemp("grid"), runs_sd=0.05))


def test_every_place_of_the_article_has_a_table(grid):
    tables = paper_tables(grid)
    assert [*tables] == ["Table 1", "Table 2", *PLACES]
    assert all(len(table) for table in tables.values())


def test_an_experiment_s_table_has_a_row_per_bar(grid):
    table = experiment_table(grid, "E1")
    assert len(table) == len(grid.design["E1"].bars)
    assert experiment_table(grid, "Figure 2").equals(table)
    row = table[table["cell"] == CUT].iloc[0]
    scores = [c.score for c in grid.of(CUT)]
    base = [c.score for c in grid.of("qlora-r4")]
    assert row["score"] == pytest.approx(np.mean(scores))
    assert row["sd seeds"] == pytest.approx(np.std(scores, ddof=1))
    assert row["change"] == pytest.approx(np.mean(scores) - np.mean(base))
    assert row["low"] < row["score"] < row["high"] and 0 <= row["p"] <= 1
    baseline = table[table["cell"] == "qlora-r4"].iloc[0]
    assert math.isnan(baseline["change"]) and baseline["saved %"] == 0
    # lambda 8 at rank 4 is 32 wide; k and v of micro have 96 outputs, so their rank is at most 12,
    # and q, o, gate, up and down reach 192 / 8 = 24
    wide = experiment_table(grid, "E5")["saturated %"]
    assert wide[("micro", "q-bara", 4, "lam 8", "")] == 100
    assert wide[("micro", "q-bara", 4, "lam 4", "")] == 0
    assert experiment_table(grid, "E5").loc[("micro", "q-bara", 16, "lam 2", "")]["saved %"] == 0
    with pytest.raises(ValueError, match="no experiment 'E9'"):
        experiment_table(grid, "E9")


def test_a_missing_cell_is_a_row_without_numbers(tmp_path):
    gaps = {Job(seed, CUT): "cut off" for seed in (1, 2, 3)}
    grid = read_grid(draw(tmp_path, missing=gaps))
    table = experiment_table(grid, "E1")
    row = table[table["cell"] == CUT].iloc[0]
    assert row["seeds"] == 0 and math.isnan(row["score"])
    assert cells_table(grid).loc[CUT, "seeds"] == 0
    assert len(cells_table(grid)) == len(grid.design.study.arms)


def test_the_article_s_table_1_is_its_layers_and_their_dimensions():
    """LLaMA: 4,096 and 11,008 wide at 7B, 5,120 and 13,824 at 13B (Touvron et al. 2023)."""
    table = layers_table()
    seven = {name: table.loc[("attention", name), "LLaMA-7B"] for name in ATTENTION}
    assert seven == dict.fromkeys(ATTENTION, "4,096 x 4,096")
    assert [*table.loc[("MLP", "down_proj")]] == ["11,008 x 4,096", "13,824 x 5,120"]
    assert [*table.loc[("MLP", "gate_proj")]] == ["4,096 x 11,008", "5,120 x 13,824"]
    assert [*table.loc[("all", "decoder layers")]] == ["32", "40"]
    assert layers_table(["Llama-3.2-1B"]).loc[("attention", "k_proj"), "Llama-3.2-1B"] == (
        "2,048 x 512"
    )


def test_the_article_s_table_2_is_the_list_of_experiments(grid):
    table = experiments_table(grid.design)
    assert [*table.index] == [f"E{i}" for i in range(1, 8)]
    assert table["cells"].sum() >= len({c for e in grid.design.experiments for c in e.cells})
    for place, id in PLACES.items():
        short = place.replace("Figure", "Fig.")
        assert short in table.loc[id, "in the article"], place
    assert table.loc["E5", "in the article"] == "Fig. A2"
    assert table.loc["E6", "methods"] == "QA-HiRA" and table.loc["E7", "controls"] == "-"


def test_the_methods_side_by_side(grid):
    table = methods_table(grid)
    assert [*table.index] == ["QLoRA", "IR-QLoRA", "QA-LoRA", "Q-BaRA", "QA-HiRA"]
    merges = table["merges into the quantised format"]
    assert [*merges[merges == "yes"].index] == ["QA-LoRA", "QA-HiRA"]
    # q of micro is 192 x 192: min(16, 192 / 32), min(2 x 16, 192 / 2), min(192 / 4, 192 / 8)
    assert [*table["rank of dW in q at most"]] == [16, 16, 6, 32, 24]
    second = baselines_table(grid)
    assert second.loc["base-nf4-64", "compared with"] == "base"
    gain = second.loc["qlora-r16", "score"] - second.loc["base-nf4-64", "score"]
    assert second.loc["qlora-r16", "change"] == pytest.approx(gain)

"""The article's figures from a grid's records."""

import numpy as np
import pytest
from grid_records import draw

from slimlib.common.style import alt_text
from slimlib.papers.key_variables.article_plots import message, plot_experiment
from slimlib.papers.key_variables.cells import committed_folder, read_grid
from slimlib.papers.key_variables.claims import judge_claims
from slimlib.studies.design import Job

CUT = "qlora-r4-mlp-r2"


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    """Nothing makes a difference."""
    return read_grid(draw(tmp_path_factory.mktemp("grid"), runs_sd=0.05))


def points(ax):
    """The dots of cells: one a row."""
    return [line for line in ax.lines if line.get_marker() == "o"]


@pytest.mark.parametrize("id", ["E1", "E3", "E6"])
def test_figures_have_a_row_per_cell_that_is_there(id, grid):
    from matplotlib import pyplot as plt

    figure = plot_experiment(grid, id)
    experiment, scores = grid.design[id], figure.axes[::2]
    drawn = sorted(round(float(dot.get_xdata()[0]), 6) for ax in scores for dot in points(ax))
    found = [np.mean([c.score for c in grid.of(bar.cell)]) for bar in experiment.bars]
    assert drawn == sorted(round(float(score), 6) for score in found)
    hollow = [dot for ax in scores for dot in points(ax) if dot.get_markerfacecolor() == "white"]
    assert len(hollow) == sum(bool(bar.control) for bar in experiment.bars)
    assert "micro" in alt_text(figure)
    plt.close(figure)


def test_the_number_beside_each_row_is_its_cell_s(grid):
    from matplotlib import pyplot as plt

    figure = plot_experiment(grid, "E4")
    (ax, _), bars = figure.axes, grid.design["E4"].bars
    said = {text.get_position()[1]: text.get_text() for text in ax.texts if "." in text.get_text()}
    labels = [label.get_text() for label in ax.get_yticklabels()]
    for bar in bars:
        score = np.mean([cell.score for cell in grid.of(bar.cell)])
        assert said[labels.index(bar.label)] == f"{score:.1f}"
    plt.close(figure)


def test_figures_show_gaps_and_single_benchmarks(tmp_path):
    from matplotlib import pyplot as plt

    gaps = {Job(seed, CUT): "cut off" for seed in (1, 2, 3)}
    grid = read_grid(draw(tmp_path, missing=gaps))
    figure = plot_experiment(grid, "Figure 2", role="gsm8k")
    ax, _ = figure.axes
    shown = sum(bar.cell != CUT for bar in grid.design["E1"].bars)
    assert len(points(ax)) == shown
    assert [t.get_text() for t in ax.texts].count("-") == len(grid.design["E1"].bars) - shown
    assert "arithmetic" in ax.get_xlabel()
    plt.close(figure)
    with pytest.raises(ValueError, match="role 'piqa': must be one of"):
        plot_experiment(grid, "E1", role="piqa")


def test_a_title_gives_each_part_of_the_claim_its_interval_and_verdict(grid):
    claims = judge_claims(grid)
    said = message(grid, grid.design["E1"], claims)
    assert said.startswith("MLP cut minus attention cut, over all methods: ") and said.endswith(
        ", not decided"
    )
    value, low, high = next(f for f in claims.findings if f.claim == 1).effect.difference
    assert f"{value:+.1f} points [{low:+.1f}, {high:+.1f}]" in said
    assert message(grid, grid.design["E5"], claims).count("Lambda") == 3
    assert message(grid, grid.design["E4"], claims).count("minus") == 2


def test_an_experiment_without_a_claim_is_told_by_its_losses():
    """The cell with the highest score of E7 is the one that learnt least: the title says so."""
    grid = read_grid(committed_folder("key_variables_micro"))
    said = message(grid, grid.design["E7"], judge_claims(grid))
    losses = {
        f"{bar.label}, r {bar.r}".capitalize(): np.mean([cell.loss for cell in grid.of(bar.cell)])
        for bar in grid.design["E7"].bars
    }
    least, most = (f(losses, key=losses.get) for f in (max, min))
    first = f"{least} learnt least (loss {losses[least]:.2f}), {most.lower()} most ("
    assert said.startswith(first)
    assert "points [" in said


@pytest.mark.slow
def test_every_figure_is_written(tmp_path):
    from redraw import redraw_grid

    paths = redraw_grid(draw(tmp_path / "records"), tmp_path / "figures")
    assert len(paths) == 8 * 2 + 2 and all(path.stat().st_size for path in paths)

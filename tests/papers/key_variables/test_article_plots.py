"""The article's figures from a grid's records."""

import matplotlib
import numpy as np
import pytest
from grid_records import draw

from slimlib.papers.key_variables.article_plots import plot_experiment
from slimlib.papers.key_variables.cells import read_grid
from slimlib.studies.design import Job

CUT = "qlora-r4-mlp-r2"


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    """Nothing makes a difference."""
    return read_grid(draw(tmp_path_factory.mktemp("grid"), runs_sd=0.05))


@pytest.mark.parametrize("id", ["E1", "E3", "E6"])
def test_figures_have_a_bar_per_cell_that_is_there(id, grid):
    from matplotlib import pyplot as plt

    figure = plot_experiment(grid, id)
    bars = [p for ax in figure.axes for p in ax.patches]
    experiment = grid.design[id]
    assert len(bars) == len(experiment.bars)
    heights = sorted(round(bar.get_height(), 6) for bar in bars)
    scores = [np.mean([c.score for c in grid.of(bar.cell)]) for bar in experiment.bars]
    assert heights == sorted(round(float(score), 6) for score in scores)
    texts = [text.get_text() for text in figure.findobj(matplotlib.text.Text)]
    assert any("micro" in text for text in texts)
    plt.close(figure)


def test_figures_show_gaps_and_single_benchmarks(tmp_path):
    from matplotlib import pyplot as plt

    gaps = {Job(seed, CUT): "cut off" for seed in (1, 2, 3)}
    grid = read_grid(draw(tmp_path, missing=gaps))
    figure = plot_experiment(grid, "Figure 2", role="gsm8k")
    (ax,) = figure.axes
    shown = sum(bar.cell != CUT for bar in grid.design["E1"].bars)
    assert len(ax.patches) == shown
    assert [t.get_text() for t in ax.texts].count("-") == len(grid.design["E1"].bars) - shown
    assert "arithmetic" in ax.get_ylabel()
    plt.close(figure)
    with pytest.raises(ValueError, match="role 'piqa': must be one of"):
        plot_experiment(grid, "E1", role="piqa")


@pytest.mark.slow
def test_every_figure_is_written(tmp_path):
    from redraw import redraw_grid

    paths = redraw_grid(draw(tmp_path / "records"), tmp_path / "figures")
    assert len(paths) == 7 * 2 + 2 and all(path.stat().st_size for path in paths)

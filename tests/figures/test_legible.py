"""Every figure can be read 600 and 1,280 pixels wide: drawn from the committed records."""

import math
from dataclasses import replace

import pytest
import redraw
from grid_records import draw
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from text_boxes import WIDTHS, faults

from slimlib.common.style import WIDTH, alt_text
from slimlib.comparison.answers.kinds import KINDS
from slimlib.comparison.contrast import Contrast
from slimlib.comparison.plots import plot_answers
from slimlib.metrics import Estimate
from slimlib.papers.key_variables.article_plots import grid_figures, plot_experiment
from slimlib.papers.key_variables.cells import committed_folder, read_grid
from slimlib.report import committed, diagram, figures
from slimlib.report.answer import Answer, Learned
from slimlib.studies.design import Job

STUDIES = ("micro", "smol")


def check(figure, name):
    assert figure.get_figwidth() == WIDTH, name
    for width in WIDTHS:
        assert faults(figure, width) == [], (name, width)
    assert figure.get_suptitle() and alt_text(figure).startswith(figure.get_suptitle()[:20])


@pytest.mark.parametrize("study", STUDIES)
def test_the_figures_of_a_study(study):
    by_seed = committed.committed_records(study)
    records = committed.pool(by_seed)
    logs = redraw._logs(redraw.FIGURES / "records" / study / f"seed-{min(by_seed)}")
    drawn = figures.study_figures(records, committed.study_of(study, records), logs)
    assert {"scores", "waterfall"} <= {*drawn}
    for name, figure in drawn.items():
        check(figure, name)
        assert "n = " in alt_text(figure) or name == "losses"


@pytest.mark.slow
def test_the_figures_of_the_grid():
    grid = read_grid(committed_folder("key_variables_micro"))
    for name, figure in grid_figures(grid):
        check(figure, name)
        assert "n = " in alt_text(figure)
        plt.close(figure)


def test_an_experiment_with_gaps(tmp_path):
    gaps = {Job(seed, "qlora-r4-mlp-r2"): "cut off" for seed in (1, 2, 3)}
    figure = plot_experiment(read_grid(draw(tmp_path, missing=gaps)), "E1", role="gsm8k")
    check(figure, "gaps")
    plt.close(figure)


def test_the_methods():
    figure = diagram.methods()
    check(figure, "methods")
    plt.close(figure)


def test_one_benchmark_a_comparison_and_kinds_of_answers():
    study = committed.get_study("micro")
    by_seed = committed.committed_records("micro")
    records = committed.pool(by_seed)
    role = next(iter(study.task_labels))
    first, second = (redraw.by_arm(records)[arm] for arm in ("llama-base", "llama-2k"))
    (found,) = committed.committed_answers("micro", "llama-2k")[min(by_seed)].values()
    before, after = ({**dict.fromkeys(KINDS, 0), **found[when]} for when in ("before", "after"))
    drawn = {
        "scores": figures.plot_scores(records, study, role),
        "waterfall": redraw.attribute(study, records).plot(role),
        "comparison": redraw.compare_arms(first, second).plot(),
        "answers": plot_answers(("base", "tuned"), (before, after)),
    }
    for name, ax in drawn.items():
        check(ax.figure, name)
        plt.close(ax.figure)


def test_an_answer_on_one_s_own_model():
    records = redraw.by_arm(committed.pool(committed.committed_records("micro")))
    comparison = redraw.compare_arms(records["llama-base"], records["llama-2k"])
    lower = Contrast(Estimate(-1.2, -1.6, -0.8), "t", 0.001, 1.0, None)
    learned = Learned(rows=40, before=3.1, after=1.9, change=lower)
    for some in (learned, replace(learned, rows=0, before=math.nan)):
        figure = Answer("my model", (), some, comparison, (), "", "").figure()
        check(figure, "answer")
        plt.close(figure)


def test_the_check_sees_texts_on_one_another_outside_and_small():
    figure = Figure(figsize=(WIDTH, 2))
    figure.text(0.5, 0.5, "one")
    figure.text(0.51, 0.5, "other")
    figure.text(0.99, 0.2, "half outside")
    figure.text(0.1, 0.8, "tiny", fontsize=6)
    assert faults(figure, 600) == [
        "'one' lies on 'other'",
        "'half outside' leaves the figure",
        "'tiny' is 7.8 pixels high",
    ]
    assert faults(figure, 1280) == ["'one' lies on 'other'", "'half outside' leaves the figure"]

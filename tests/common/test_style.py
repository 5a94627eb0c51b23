"""What figures say in words, and where it is kept."""

import pytest
from matplotlib.figure import Figure
from PIL import Image

from slimlib.common import style


@pytest.fixture
def figure():
    figure = Figure(figsize=(style.WIDTH, 2), layout="constrained")
    ax = figure.subplots()
    ax.set_yticks((0, 1), ("base", "tuned"))
    ax.set(ylim=(1.5, -0.5), xlabel="% right")
    ax.set_title("sums", loc="left")
    style.draw_beside(ax, 0, "79.0")
    style.draw_beside(ax, 1, "12.5")
    ax.text(20, 1, "50", label="format")
    ax.text(0.5, 0.5, "chance", transform=ax.transAxes)
    style.entitle(figure, "Lost: sums", "a study of $5", "Lines: intervals.")
    return figure


SAID = (
    "Lost: sums. a study of $5. "
    "sums, % right: base: 79.0; tuned: 12.5, format 50; chance. Lines: intervals."
)


def test_a_figure_says_its_title_and_each_row_with_its_numbers(figure):
    assert style.alt_text(figure) == SAID


def test_rows_of_panels_that_share_an_axis_have_the_same_labels():
    figure = Figure(layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    axes[0].set_yticks((0, 1), ("a", "b"))
    for x, ax in enumerate(axes):
        style.draw_beside(ax, 1, str(x))
    figure.canvas.draw()
    assert style.alt_text(figure) == "b: 0. b: 1."


def test_an_empty_figure_says_nothing():
    assert style.alt_text(Figure()) == ""


def test_a_written_figure_carries_what_it_says(figure, tmp_path):
    png, svg = style.save_figure(figure, tmp_path, "sums")
    with Image.open(png) as picture:
        assert picture.info["Description"] == SAID
        assert picture.size[0] == 1280
    assert f"<title>{SAID}</title>" in svg.read_text("utf-8")
    assert style.show(png).metadata["alt"] == SAID


def test_names_with_commas_are_kept_apart():
    assert style.listed(["sums", "facts"]) == "sums, facts"
    assert style.listed(["sums, words", "facts"]) == "sums, words / facts"

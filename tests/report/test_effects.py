"""Effects of switches from records: hand-computed points, Holm's correction, what is drawn."""

import pytest
from made_records import make_rehearsed
from text_boxes import WIDTHS, faults

from slimlib import metrics
from slimlib.report.effects import (
    cells_in_words,
    effects_in_words,
    effects_message,
    effects_table,
    plot_effects,
)
from slimlib.studies.alignment import CELLS, FACTORS
from slimlib.studies.get import get_study

STUDY = get_study("alignment")
RECORDS = [
    make_rehearsed("base", 0),
    *(make_rehearsed(arm, seed) for seed in (0, 1, 2) for arm in CELLS),
]


@pytest.fixture(scope="module")
def table():
    return effects_table(RECORDS, STUDY, CELLS, FACTORS)


def test_every_effect_on_every_benchmark_stands_in_a_row(table):
    assert len(table) == 7 * len(STUDY.task_labels)
    points = table.set_index(["benchmark", "effect"])["points"]
    own = (STUDY.task_labels["gsm8k"], "maths")
    assert points[own] == pytest.approx(30)
    assert points.drop([own]).abs().max() == pytest.approx(0, abs=1e-9)
    assert set(table["documents"]) == {100} and set(table["seeds"]) == {3}


def test_p_values_are_corrected_over_the_whole_table(table):
    assert list(table["p (Holm)"]) == pytest.approx(metrics.holm(table["p"]))
    clear = table[table["p (Holm)"] < 0.05]
    assert list(clear["effect"]) == ["maths"] and clear["low"].item() > 0


def test_words_say_the_numbers(table):
    words = effects_in_words(table)
    assert list(words.columns) == list(STUDY.task_labels.values())
    assert list(words.index)[:3] == list(FACTORS) and len(words) == 7
    assert words.loc["maths", STUDY.task_labels["gsm8k"]].startswith("+30.0 [+2")
    cells = cells_in_words(RECORDS, STUDY)
    assert cells.loc["base", STUDY.task_labels["gsm8k"]] == "40.0"
    # 70, 71 and 72 % by seed
    assert cells.loc["rehearsed: maths", STUDY.task_labels["gsm8k"]] == "71.0 (SD 1.0)"


def test_a_cell_without_records_is_refused():
    records = [record for record in RECORDS if record["arm"] != "maths"]
    with pytest.raises(ValueError, match="7 cells: 3 switches need 8"):
        effects_table(records, STUDY, CELLS, FACTORS)


def test_the_picture_shows_each_effect_and_colours_what_is_no_chance(table):
    figure = plot_effects(table, STUDY)
    axes = figure.axes
    message = "Points that are shown: maths +30.0 on arithmetic (as GSM8K)."
    assert figure.get_suptitle().startswith(message)
    assert [faults(figure, width) for width in WIDTHS] == [[], []]
    assert len(axes) == len(STUDY.task_labels)
    colours = [{line.get_color() for line in ax.lines} for ax in axes]
    for ax, role, found in zip(axes, STUDY.task_labels, colours, strict=True):
        assert len(ax.get_yticks()) == 7
        assert ("#0072B2" in found) == (role == "gsm8k")


def test_no_effect_is_said_and_many_are_counted(table):
    assert effects_message(table.assign(**{"p (Holm)": 1.0})) == (
        "No effect of what is rehearsed is shown"
    )
    said = effects_message(table.assign(**{"p (Holm)": 0.001}))
    assert said.count(" on ") == 3 and said.endswith(f"; {len(table) - 3} more effects are shown")

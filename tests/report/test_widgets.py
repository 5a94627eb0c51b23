"""Controls only choose arguments; without them the first choice stands there."""

import sys

import nbformat
import pytest
from nbclient import NotebookClient

import slimlib
from slimlib.common.picture import described
from slimlib.report.widgets import WIDGET, choose, outputs_of


def size(bits=16, model="7B", doubled=False, name=""):
    weights = {"7B": 7e9, "13B": 13e9}[model]
    if name == "broken":
        raise ValueError("no such model")
    return f"{name}{(1 + doubled) * weights * bits / 8e9:g} GB"


ALL = {"bits": range(4, 33, 4), "model": ["13B", "7B"], "doubled": False, "name": ""}


@pytest.fixture(params=["ipywidgets", "none"])
def installed(request, monkeypatch):
    if request.param == "none":
        monkeypatch.setitem(sys.modules, "ipywidgets", None)
    else:
        pytest.importorskip("ipywidgets")
    return request.param == "ipywidgets"


# ----------------------------------------------------------------------------------- what is chosen


def test_the_first_choice_is_the_function_s_own(installed):
    choice = choose(size, **ALL)
    assert choice.result() == size() == "14 GB"
    assert repr(choice) == "size(bits = 16, model = 7B, doubled = False, name = )"
    assert bool(choice.controls) == installed


def test_a_default_that_is_not_offered_is_not_chosen(installed):
    assert choose(size, bits=range(2, 5), model=["13B"]).result() == size(2, "13B")


def test_choosing_changes_the_result(installed):
    choice = choose(size, **ALL)
    choice.set(bits=4, model="13B", name="LLaMA: ", doubled=True)
    assert choice.result() == size(4, "13B", True, "LLaMA: ") == "LLaMA: 13 GB"


def test_a_control_chooses_like_set():
    pytest.importorskip("ipywidgets")
    choice = choose(size, **ALL)
    choice.controls["bits"].value = 8
    choice.controls["model"].value = "13B"
    choice.controls["doubled"].value = True
    choice.controls["name"].value = "a "
    assert choice.chosen == {"bits": 8, "model": "13B", "doubled": True, "name": "a "}
    assert choice.result() == "a 26 GB"


def test_the_controls_are_of_the_choices_kinds():
    widgets = pytest.importorskip("ipywidgets")
    controls = choose(
        size,
        **ALL,
    ).controls
    kinds = [widgets.IntSlider, widgets.Dropdown, widgets.Checkbox, widgets.Text]
    assert [type(control) for control in controls.values()] == kinds
    slider = controls["bits"]
    assert (slider.min, slider.max, slider.step, slider.value) == (4, 32, 4, 16)
    assert not slider.continuous_update  # redrawn when it is let go, not on the way


def test_a_menu_shows_labels_and_passes_values(installed):
    choice = choose(size, model={"small": "7B", "large": "13B"})
    choice.set(model="13B")
    assert choice.result() == "26 GB" and repr(choice) == "size(model = large)"


def test_one_choice_is_a_menu():
    pytest.importorskip("ipywidgets")
    assert choose(size, bits=range(8, 9)).result() == "7 GB"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"bytes": [1]}, "takes no 'bytes'; it takes bits, model"),
        ({"model": []}, "model: nothing to choose from"),
        ({"bits": range(0)}, "bits: nothing to choose from"),
    ],
)
def test_what_cannot_be_chosen_is_said(wrong, said, installed):
    with pytest.raises(ValueError, match=said):
        choose(size, **wrong)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"r": 3}, "no choice 'r'; there are bits, model, doubled, name"),
        ({"bits": 5}, "bits=5 is not offered: 4, 8"),
        ({"model": "1B"}, "model='1B' is not offered: 13B, 7B"),
        ({"doubled": "yes"}, "doubled='yes': must be a bool"),
        ({"name": 3}, "name=3: must be a str"),
    ],
)
def test_a_wrong_choice_changes_nothing(wrong, said, installed):
    choice = choose(size, **ALL)
    with pytest.raises(ValueError, match=said):
        choice.set(**wrong)
    assert choice.result() == "14 GB"


# ------------------------------------------------------------------------------------ what is shown


def figure(number=1):
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(2, 1))
    drawn.subplots().set_title(f"number {number}")
    return drawn


def test_a_figure_and_its_sentence_are_two_outputs():
    (image, about), (said, _) = outputs_of(described(figure(), "it is 1"))
    assert "image/png" in image and about["image/png"]["alt"] == "it is 1"
    assert said["text/plain"] == "it is 1"


def test_axes_are_their_figure_read_by_its_title():
    ((image, about),) = outputs_of(figure().axes[0])
    assert "image/png" in image and about["image/png"]["alt"] == "number 1"


def test_anything_else_is_shown_as_a_notebook_does():
    import pandas as pd

    ((data, _),) = outputs_of(pd.DataFrame({"a": [1]}))
    assert "<td>1</td>" in data["text/html"] and "a" in data["text/plain"]


def test_what_does_not_go_is_said_in_the_result_s_place():
    choice = choose(size, name="")
    choice.set(name="broken")
    assert choice._outputs() == [({"text/plain": "no such model"}, {}), ({"text/plain": ""}, {})]


# ---------------------------------------------------------------------------------- in a notebook

SETUP = """
import sys
{before}
import slimlib
from slimlib.common.picture import described
from matplotlib.figure import Figure

def draw(number=1):
    return described(Figure(figsize=(1, number)), f"it is {{number}}")

choice = slimlib.choose(draw, number=range(1, 4))
{end}
"""


def executed(before: str, after: str, tmp_path, end: str = "choice"):
    cells = [SETUP.format(before=before, end=end), after]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    client = NotebookClient(
        notebook, timeout=120, kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path)}},
    )  # fmt: skip
    client.execute()
    return notebook


def shown(before: str, after: str, tmp_path, **how):
    """The first cell's outputs after the second cell has run."""
    return executed(before, after, tmp_path, **how).cells[0].outputs


def texts(outputs):
    return [output["data"]["text/plain"] for output in outputs]


@pytest.mark.parametrize("act", ["choice.controls['number'].value = 3", "choice.set(number=3)"])
def test_a_choice_replaces_picture_and_sentence_where_they_stand(act, tmp_path):
    pytest.importorskip("ipywidgets")
    controls, image, said = shown("", act, tmp_path)
    assert controls["data"]["text/plain"] == "number = 1"
    assert WIDGET in controls["data"]
    assert said["data"]["text/plain"] == image["metadata"]["image/png"]["alt"] == "it is 3"


def test_a_picture_alone_is_shown_with_its_sentence(tmp_path):
    outputs = shown("", "", tmp_path, end="draw(2)")
    assert [list(output["data"])[0] for output in outputs] == ["image/png", "text/html"]
    assert texts(outputs)[1] == "it is 2"


def test_without_ipywidgets_the_picture_alone_stands_there(tmp_path):
    outputs = shown("sys.modules['ipywidgets'] = None", "choice.set(number=2)", tmp_path)
    assert [list(output["data"])[0] for output in outputs] == ["image/png", "text/html"]
    assert texts(outputs)[1] == "it is 2"


def test_in_colab_a_choice_redraws_an_output_widget(tmp_path):
    pytest.importorskip("ipywidgets")
    colab = "import types; sys.modules['google.colab'] = types.ModuleType('google.colab')"
    after = "choice.controls['number'].value = 3"
    notebook = executed(colab, after, tmp_path)
    controls, image, said = notebook.cells[0].outputs
    assert texts([controls, said]) == ["number = 1", "it is 1"]  # what a saved copy shows
    assert "image/png" in image["data"]
    states = notebook.metadata.widgets["application/vnd.jupyter.widget-state+json"]["state"]
    place = states[said["data"][WIDGET]["model_id"]]["state"]
    assert texts(place["outputs"]) == ["it is 3"]


def test_it_stands_in_the_facade():
    assert slimlib.choose is choose

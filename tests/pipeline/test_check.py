"""`slimlib check`: two models, one verdict; looks are counted, answers kept, bad input refused."""

import json
import shutil

import pytest
from safetensors.torch import load_file, save_file
from transformers import BertConfig

from slimlib.cli import main
from slimlib.pipeline import looks as looks_module
from slimlib.pipeline.check import check, split_names
from slimlib.pipeline.looks import Looks


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """An empty folder to stand in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def questions(tmp_path):
    rows = [{"question": f"What is {a} plus 1?", "answer": a + 1} for a in range(6)]
    path = tmp_path / "sums.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return str(path)


def test_two_models_are_asked_alike_and_compared(here):
    found = check("micro:base", "micro:tiny", tasks="micro_facts", limit=30, out="out")
    (change,) = found.headlines
    assert (change.n, change.paired, found.look) == (30, True, None)
    assert change.base > change.tuned  # micro:tiny knows less
    assert (here / "out" / "report.html").read_text().startswith("<!doctype html>")
    written = json.loads((here / "out" / "comparison.json").read_text())
    assert written["tasks"][0]["verdict"] == change.verdict


def test_results_already_made_need_no_model_and_stand_beside_one(here, questions):
    check("micro:base", "micro:instruct", tasks=questions, out="out")
    again = check("out/base", "out/tuned")
    assert [change.n for change in again.headlines] == [6]
    mixed = check("out/base", "micro:instruct", tasks=questions)
    assert [c.to_dict() for c in mixed.headlines] == [c.to_dict() for c in again.headlines]


def test_each_look_is_counted_and_the_sample_grows(here, capsys):
    tasks = ["micro_facts"]
    for look in (1, 2):
        found = check("micro:base", "micro:tiny", tasks=tasks, minutes=0.02, out="out")
        assert found.look == look and found.alpha == pytest.approx(0.01)
    looks = Looks.read(here / "out")
    (asked,) = looks.asked.values()
    assert looks.taken == 2 and not looks.target and found.headlines[0].n == asked
    assert "look 2 of 5" in capsys.readouterr().err


@pytest.fixture
def tuned(here, checkpoint):
    """A model's folder whose weights may change."""
    return shutil.copytree(checkpoint, here / "tuned-model")


def change(model):
    """Other weights at the same path."""
    file = model / "model.safetensors"
    weights = load_file(file)
    save_file({name: -weight for name, weight in weights.items()}, file, {"format": "pt"})


def answers_of(here):
    """Name -> content of the answers that are kept."""
    return {path.name: path.read_text() for path in here.rglob("answers/*.jsonl")}


def test_a_model_that_changed_is_asked_anew_and_the_other_is_not(here, tuned, questions, capsys):
    asked = {"tasks": questions, "out": "out"}
    check("micro:base", str(tuned), **asked)
    check("micro:base", str(tuned), **asked)
    assert "another model" not in capsys.readouterr().err
    before = answers_of(here)
    change(tuned)
    found = check("micro:base", str(tuned), **asked)
    assert "out/tuned was of another model: tuned-model is asked anew" in capsys.readouterr().err
    now = answers_of(here)
    assert len(before) == 2 and len(now) == 3 and before.items() <= now.items()
    (fresh,) = now.keys() - before.keys()
    assert len(now[fresh].splitlines()) == found.headlines[0].n == 6
    alone = check("micro:base", str(tuned), tasks=questions, out="elsewhere")
    assert [c.to_dict() for c in found.changes] == [c.to_dict() for c in alone.changes]


def test_looks_at_a_model_that_changed_begin_anew(here, tuned, questions, capsys):
    asked = {"tasks": questions, "minutes": 5, "out": "out"}
    for _ in range(2):
        assert check("micro:base", str(tuned), **asked).look == 1  # nothing was left to ask
    looks = Looks.read(here / "out")
    looks.taken = 5
    looks.write(here / "out")
    capsys.readouterr()
    change(tuned)
    found = check("micro:base", str(tuned), **asked)
    assert found.look == 1 and found.headlines[0].n == 6
    said = capsys.readouterr().err
    assert "looks.json is of other models: the looks at these begin at 1" in said
    assert "look 1 of 5" in said


def test_a_look_cut_off_at_another_model_is_not_gone_on_with(here, tuned, capsys):
    asked = {"tasks": "micro_facts", "minutes": 0.02, "out": "out"}
    check("micro:base", str(tuned), **asked)
    looks = Looks.read(here / "out")
    looks.target = dict(looks.asked)
    looks.write(here / "out")
    change(tuned)
    assert check("micro:base", str(tuned), **asked).look == 1
    assert "goes on with the look" not in capsys.readouterr().err


def test_each_round_of_a_look_asks_more_than_the_one_before(here, monkeypatch):
    asked = []
    monkeypatch.setattr(looks_module.Sampling, "_ask", noting(asked, looks_module.Sampling._ask))
    check("micro:base", "micro:tiny", tasks="micro_facts", minutes=0.03, out="out")
    numbers = [target["micro_facts"] for target in asked]
    assert numbers == sorted(numbers) and len(numbers) >= 3


def test_a_look_asks_something_even_if_its_time_is_over_before_it_begins(here):
    found = check("micro:base", "micro:tiny", tasks="micro_facts", minutes=1e-6, out="out")
    assert found.headlines[0].n == looks_module.WARM_UP


def noting(seen, ask):
    """A method that keeps what it was given."""

    def noted(self, target):
        seen.append(dict(target))
        return ask(self, target)

    return noted


def test_a_look_that_was_cut_off_is_gone_on_with(here, capsys):
    check("micro:base", "micro:tiny", tasks="micro_facts", minutes=0.02, out="out")
    looks = Looks.read(here / "out")
    (key,) = looks.asked
    looks.target = {key: looks.asked[key] + 5}  # as a kill in the second look leaves it
    looks.write(here / "out")
    found = check("micro:base", "micro:tiny", tasks="micro_facts", minutes=0.02, out="out")
    assert found.headlines[0].n == looks.target[key] and found.look == 2
    assert "goes on with the look that was cut off" in capsys.readouterr().err


def test_answers_that_a_cut_off_pilot_left_behind_tell_no_speed(here, monkeypatch):
    """Read from a file they take no time: the plan would be all documents, whatever the minutes."""
    asked = {"tasks": "micro_facts", "minutes": 0.02, "out": "out"}
    speeds, planned = [], looks_module.Sampling._planned

    def cut_off(*_, **__):
        raise KeyboardInterrupt

    def noted(self, *given, **how):
        speeds.append(dict(self.seconds))
        return planned(self, *given, **how)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(looks_module.Sampling, "_planned", cut_off)
        check("micro:base", "micro:tiny", **asked)
    monkeypatch.setattr(looks_module.Sampling, "_planned", noted)
    found = check("micro:base", "micro:tiny", **asked)
    assert speeds[0]["micro_facts"] > 1e-5 and found.look == 1


def test_when_every_document_was_asked_no_look_is_spent(here, questions):
    for _ in range(2):
        found = check("micro:base", "micro:tiny", tasks=questions, minutes=5, out="out")
        assert (found.look, found.headlines[0].n) == (1, 6)


def test_quantising_a_model_is_a_change_of_it():
    found = check("micro:base", "nf4:micro:base", tasks="micro_facts", limit=10)
    assert found.related and found.title == "nf4:micro:base, against micro:base"


@pytest.mark.parametrize(("tuned", "code"), [("micro:tiny", 3), ("micro:base", 0)])
def test_a_ci_stops_at_a_loss(tuned, code):
    asked = ["check", "micro:instruct", tuned, "--tasks", "micro_facts", "--limit", "300"]
    assert main([*asked, "--fail-on", "any" if code == 0 else "forgot"]) == code


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["micro:bse", "micro:base"], "unknown embedded checkpoint 'micro:bse'"),
        (["micro:base"], "micro:base is no adapter: give the model after it, too"),
        (["./nowhere", "micro:base"], "nowhere does not exist"),
        (["rows.jsonl", "micro:base"], "rows.jsonl is a file of rows and no model: the order is"),
        (["micro:base", "Rows.CSV"], "Rows.CSV is a file of rows and no model: the order is"),
        (["micro:base", "micro:tiny", "--minutes", "0"], "minutes=0.0: must be above 0"),
        (["micro:base", "micro:tiny", "--limit", "0"], "limit=0: must be 1 or more"),
        (["micro:base", "micro:tiny", "--limit", "1", "--minutes", "1"], "give one of them"),
        (["micro:base", "micro:tiny", "--tasks", "no.jsonl"], "no.jsonl does not exist"),
        (["micro:base", "micro:tiny", "--num-fewshot", "-1"], "num_fewshot"),
        (["micro:base", "micro:tiny", "--alpha", "2"], "alpha=2.0: must be between 0 and 1"),
        (["micro:base", "micro:tiny", "--margin", "0"], "margin=0.0: must be above 0"),
        (["micro:base", "micro:tiny", "--data", "nowhere"], "data=nowhere: no such folder"),
        (["micro:base", "micro:tiny", "--out", "/dev/null"], "/dev/null is not a folder"),
        (["micro:base", "micro:tiny", "--out", "/dev/null/in"], "/dev/null is not a folder"),
    ],
)
def test_bad_input_ends_in_one_line_with_nothing_written(here, capsys, arguments, said):
    assert main(["check", *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not [path for path in here.rglob("*") if path.is_file()]


def test_a_file_of_rows_that_is_there_is_no_results_either(here, questions):
    with pytest.raises(ValueError, match="sums.jsonl is a file of rows and no model"):
        check("micro:base", questions)


def test_a_model_that_cannot_be_asked_is_refused_before_the_other_is_asked(here):
    BertConfig().save_pretrained(here / "bert")
    (here / "bert" / "model.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match="bert: model: bert reads a text in both directions"):
        check("micro:base", "bert", tasks="micro_facts", limit=2)
    assert not [*here.rglob("answers")]


@pytest.mark.parametrize("extra", [["--limit", "4"], ["--minutes", "0.02"]])
def test_standard_output_holds_the_answer_alone(here, capfd, extra):
    """What runs, and what libraries have to say, goes to standard error."""
    asked = ["check", "micro:base", "micro:tiny", "--tasks", "micro_facts", *extra]
    assert main([*asked, "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["tasks"][0]["task"] == "micro_facts"
    assert main([*asked, "--markdown"]) == 0
    out, err = capfd.readouterr()
    assert out.startswith("### ") and "micro:base: micro_facts" in err


def test_names_of_tasks():
    assert split_names(" a, b,,") == split_names(["a", "b "]) == ["a", "b"]


@pytest.mark.parametrize(
    "text",
    [
        *("[]", "null", '{"looked": 1}', '{"taken": "x"}', '{"taken": null}', '{"taken": -5}'),
        *('{"asked": [1]}', '{"asked": {"a": "b"}}', '{"flipping": {"a": "x"}}'),
    ],
)
def test_looks_that_cannot_be_are_refused_in_words(here, text):
    """A traceback in the middle of a check; a count below 0 would have bought more looks."""
    (here / "looks.json").write_text(text)
    with pytest.raises(ValueError, match="looks.json is no looks.json of slimlib: move it away"):
        Looks.read(here)

"""`slimlib.<TAB>`: what the package shows of itself, and what that costs."""

import doctest
import inspect
import json
import os
import re
import subprocess
import sys
from types import ModuleType

import pytest
from places import CHECKOUT, TESTS

import slimlib

ROOMS = {name for name in dir(slimlib) if name not in slimlib.__all__}
HEAVY = {"torch", "transformers", "peft", "datasets", "lm_eval", "matplotlib", "pandas", "numpy"}
# every name of version 0.1, under the word that it has now
FORMER = {
    *("AdapterConfig", "ModelConfig", "Rule", "Arm", "Study", "get_study", "Run", "open_run"),
    *("find_device", "preflight", "load_rows", "mix_datasets", "load_model", "attach"),
    *("merge_arm", "load_adapter", "save_adapter", "trainables_to_float32", "compile_plan"),
    *("count_parameters", "equal_cut", "finetune_arm", "evaluate_arm", "evaluate_model"),
    *("read_results", "align_samples", "compare", "flips", "format_or_ability", "attribute"),
}


def in_a_new_python(code: str) -> object:
    """What the code puts into `found`, run by a Python that has imported nothing."""
    code = f"{code}\nimport json, sys\njson.dump(found, sys.stdout)"
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    done = subprocess.run(  # not in the checkout: IPython completes names of files too
        [sys.executable, "-c", code], cwd=TESTS, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# -------------------------------------------------------------------------------------- the names


def test_nothing_of_the_former_facade_is_lost():
    assert {*slimlib.__all__} >= {*FORMER, "SlimLM", "METHODS", "audit", "read_grid", "run_study"}


def test_dir_shows_the_names_in_their_order_and_the_rooms():
    assert len({*slimlib.__all__}) == len(slimlib.__all__)
    assert {*dir(slimlib)} == {*slimlib.__all__} | ROOMS
    walk = ["get_study", "Run", "load_rows", "attach", "finetune_arm", "merge_arm", "evaluate_arm"]
    walk += ["read_results", "compare", "attribute"]
    assert sorted(walk, key=slimlib.__all__.index) == walk


def test_the_rooms_are_attributes():
    for room in ROOMS:
        assert isinstance(getattr(slimlib, room), ModuleType)
        assert getattr(slimlib, room).__name__ == f"slimlib.{room}"


def test_no_public_name_is_a_room_s():
    from pkgutil import iter_modules

    rooms = {module.name for module in iter_modules(slimlib.__path__)}
    assert rooms - {"__main__", "notebooks", "records"} == ROOMS
    assert {*slimlib.__all__} & rooms == set()


@pytest.mark.slow
def test_each_name_stays_what_it_was_when_every_module_is_imported():
    code = """
import importlib, pkgutil, slimlib
before = {name: getattr(slimlib, name) for name in slimlib.__all__}
for module in pkgutil.walk_packages(slimlib.__path__, "slimlib."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
found = [name for name in before if getattr(slimlib, name) is not before[name]]
"""
    assert in_a_new_python(code) == []


@pytest.mark.parametrize("name", slimlib.__all__)
def test_each_name_is_the_one_of_its_home(name):
    value = getattr(slimlib, name)
    assert value is getattr(slimlib, name)  # the second time an ordinary attribute
    if callable(value):
        assert value.__name__ == name and value.__module__.startswith("slimlib.")


def test_an_unknown_name_is_said():
    with pytest.raises(AttributeError, match="module 'slimlib' has no attribute 'fintune'"):
        slimlib.fintune  # noqa: B018
    with pytest.raises(ImportError, match="fintune"):
        from slimlib import fintune  # noqa: F401


def test_a_name_can_be_replaced_and_put_back(monkeypatch):
    monkeypatch.setattr(slimlib, "compare", "another")
    assert slimlib.compare == "another"
    monkeypatch.undo()
    assert slimlib.compare.__module__ == "slimlib.comparison.two_models"


# --------------------------------------------------------------------------------------- the words


FUNCTIONS = [name for name in slimlib.__all__ if callable(getattr(slimlib, name))]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_each_docstring_begins_with_a_sentence_and_has_an_example(name):
    words = inspect.getdoc(getattr(slimlib, name))
    first = words.partition("\n")[0]
    assert len(first) < 80 and first.endswith(".")
    shown = re.findall(r"^ *>>> (.*)$", words, re.M) + re.findall(r"^ {4}(.*\S\(.*)$", words, re.M)
    assert any(f"{name}(" in line for line in shown), words


@pytest.mark.parametrize("name", FUNCTIONS)
def test_examples_that_are_shown_with_their_answer_are_true(name):
    value = getattr(slimlib, name)
    tests = doctest.DocTestFinder(recurse=False).find(value, name, globs={"slimlib": slimlib})
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for test in tests:
        runner.run(test)
    assert runner.summarize().failed == 0


# ---------------------------------------------------------------------------------------- the cost


def test_importing_is_light_and_quick():
    code = """
import sys, time
begin = time.perf_counter()
import slimlib
found = [time.perf_counter() - begin, sorted({name.partition(".")[0] for name in sys.modules})]
"""
    seconds, packages = in_a_new_python(code)
    assert {*packages} & HEAVY == set()
    assert seconds < 1  # 0.02 on an idle core


COMPLETE = """
import sys
from IPython.core.completer import provisionalcompleter
from IPython.core.interactiveshell import InteractiveShell

shell = InteractiveShell.instance()
shell.Completer.use_jedi = {use_jedi}
shell.run_cell("import slimlib")
found = {{}}
for text in {texts}:
    with provisionalcompleter():
        listed = [*shell.Completer.completions(text, len(text))]
    found[text] = [c.text.rpartition(".")[2] for c in listed]  # 7.34 repeats what stands before
found["loaded"] = sorted({{name.partition(".")[0] for name in sys.modules}})
"""


@pytest.mark.parametrize("use_jedi", [False, True])
def test_completing_in_ipython_lists_the_names_and_loads_no_torch(use_jedi):
    texts = ["slimlib.", "slimlib.finetune", "slimlib.Slim", "slimlib.train", "slimlib.metrics.mc"]
    found = in_a_new_python(COMPLETE.format(use_jedi=use_jedi, texts=texts))
    loaded = found.pop("loaded")
    assert ("jedi" in loaded) or not use_jedi
    assert {*found["slimlib."]} == {*dir(slimlib)}
    assert found["slimlib.finetune"] == ["finetune_arm"]
    assert found["slimlib.Slim"] == ["SlimLM"]
    assert {*found["slimlib.train"]} == {"train", "training_view", "trainables_to_float32"}
    assert found["slimlib.metrics.mc"] == ["mcnemar_test"]
    assert {*loaded} & {"torch", "transformers", "peft", "lm_eval"} == set()


def test_what_was_used_once_is_completed_with_its_signature():
    code = COMPLETE.format(use_jedi=True, texts=["slimlib.load_rows(se"])
    code = code.replace("import slimlib", "import slimlib; used = slimlib.load_rows")
    assert in_a_new_python(code)["slimlib.load_rows(se"][0] == "seed="

"""Whether two models are before and after of one another, as their names tell."""

import pytest

from slimlib.comparison.relation import OTHER_MODEL, TUNED, are_related
from slimlib.comparison.two_models import compare
from slimlib.results import Results


def model(name, **settings):
    return Results("somewhere", name, {}, settings)


@pytest.mark.parametrize(
    ("base", "tuned", "related"),
    [
        ("meta-llama/Llama-3.2-1B", "me/llama-1B-alpaca", True),
        ("meta-llama/Llama-3.2-1B", "Qwen/Qwen2.5-1.5B", False),
        ("meta-llama/Llama-3.2-1B", "meta-llama/Llama-3.2-3B", False),
        ("TinyLlama-1.1B-Chat", "Llama-3.2-1B", False),
        ("gpt2", "gpt-2-mine", True),
        ("my-model", "another-model", True),  # nothing speaks against it
        ("Llama-3.2-1B", "tuned", True),
        ("", "", True),
    ],
)
def test_names_tell(base, tuned, related):
    assert are_related(model(base), model(tuned)) is related
    assert are_related(model(tuned), model(base)) is related


def test_an_adapter_names_its_base():
    args = {"pretrained": "unsloth/Llama-3.2-1B", "peft": "runs/a"}
    assert are_related(model("Llama-3.2-1B"), model("runs/a", model_args=args))


@pytest.mark.parametrize(
    ("ours", "theirs", "related"),
    [
        ("micro:base", "micro:instruct", False),
        ("micro:base", "micro:base", True),
        ("own", "micro:base", False),
        ("micro:base", "own", False),
        ("own", "another", True),
        (None, "micro:base", True),
        ("micro:base", None, True),
    ],
)
def test_embedded_checkpoints_are_no_versions_of_one_another(ours, theirs, related):
    sides = [model("a", **({"model": name} if name else {})) for name in (ours, theirs)]
    assert are_related(*sides) is related


def test_the_user_knows_better():
    pair = model("Llama-3.2-1B"), model("Qwen2.5-1.5B")
    assert are_related(*pair, TUNED) and not are_related(model("a"), model("a"), OTHER_MODEL)
    with pytest.raises(ValueError, match="relation='sister': must be auto, tuned, other"):
        are_related(*pair, "sister")


def test_models_of_other_families_are_worse_or_better():
    def source(name, value):
        scores = {"acc,none": value, "acc_stderr,none": 0.01}
        return {"results": {"boolq": scores}, "config": {"model_args": {"pretrained": name}}}

    base, tuned = source("Llama-3.2-1B", 0.8), source("Qwen2.5-1.5B", 0.6)
    for pair, related, verdict, first in (
        ((base, tuned), "auto", "worse", "Worse: boolq."),
        ((tuned, base), "auto", "better", "Better: boolq."),
        ((base, tuned), "tuned", "forgot", "Lost: boolq."),
    ):
        found = compare(*pair, relation=related)
        assert (found.changes[0].verdict, found.answer()) == (verdict, first)

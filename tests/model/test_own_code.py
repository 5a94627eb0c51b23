"""A model that brings code of its own: refused where it is needed, and never run."""

import json
import shutil

import pytest

from slimlib.model.own_code import refuse_own_code

CODE = "from pathlib import Path\nPath({mark!r}).touch()\nclass Own: ...\n"


@pytest.fixture
def folder(checkpoint, tmp_path):
    """A copy of the random checkpoint that can be told to ask for its own code."""
    shutil.copytree(checkpoint, tmp_path / "model")
    (tmp_path / "model" / "own.py").write_text(CODE.format(mark=str(tmp_path / "ran")))

    def change(file="config.json", **values):
        path = tmp_path / "model" / file
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
        return str(tmp_path / "model")

    yield change
    assert not (tmp_path / "ran").exists()


def test_a_model_without_code_passes(folder):
    refuse_own_code(folder())


def test_an_architecture_that_only_the_repository_has_is_refused_in_one_line(folder):
    name = folder(model_type="own", auto_map={"AutoModelForCausalLM": "own.Own"})
    with pytest.raises(ValueError, match=r"needs code of its own \(own\.Own\), .*never") as caught:
        refuse_own_code(name)
    assert "\n" not in str(caught.value)


def test_code_beside_an_architecture_that_transformers_has_is_left_alone(folder):
    """As Phi-3's repositories have it: transformers' own Llama is loaded."""
    from slimlib.config import ModelConfig
    from slimlib.model.load import load_model

    name = folder(auto_map={"AutoModelForCausalLM": "own.Own", "AutoConfig": "own.Own"})
    refuse_own_code(name)
    model, _ = load_model(ModelConfig(name, load_in_4bit=False), backend="transformers")
    assert type(model).__name__ == "LlamaForCausalLM"


def test_a_tokenizer_of_its_own_is_refused(folder):
    name = folder(
        "tokenizer_config.json",
        tokenizer_class="OwnTokenizer",
        auto_map={"AutoTokenizer": ["own.Own", None]},
    )
    with pytest.raises(ValueError, match=r"needs code of its own \(own\.Own\)"):
        refuse_own_code(name)

"""An adapter that is asked: whether it fits its model is told before either of them is asked."""

import json

import pytest
import torch
from peft import IA3Config, LoraConfig, PromptTuningConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from slimlib.evaluate.loading import load_opened
from slimlib.model.load import resolve_name
from slimlib.model.opened import open_model
from slimlib.pipeline.check import check
from slimlib.pipeline.one_model import refuse_unreadable

FILE = "adapter_model.safetensors"
FIRST = "model.layers.0.self_attn.q_proj.lora_A"
IA3 = {"target_modules": ["k_proj", "down_proj"], "feedforward_modules": ["down_proj"]}


def lora(targets=("q_proj", "v_proj"), **values):
    return LoraConfig(r=4, target_modules=[*targets], task_type="CAUSAL_LM", **values)


def saved(folder, config=None, added=0):
    """A new adapter of micro:base, with its tokenizer where tokens are added."""
    name = resolve_name("micro:base")
    model, tokenizer = (
        auto.from_pretrained(name) for auto in (AutoModelForCausalLM, AutoTokenizer)
    )
    if added:
        tokenizer.add_tokens([f"<new{number}>" for number in range(added)])
        tokenizer.save_pretrained(folder)
    if config and config.peft_type == "LORA" and config.modules_to_save and added:
        model.resize_token_embeddings(len(tokenizer))
    get_peft_model(model, config or lora()).save_pretrained(folder)
    return folder


def change_weights(folder, change):
    weights = load_file(folder / FILE)
    change(weights, next(iter(weights)))
    save_file(weights, folder / FILE, metadata={"format": "pt"})


def change_config(folder, **values):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def deeper(weights, _):
    """As of a model with more layers."""
    of_last = {key: value for key, value in weights.items() if "layers.3." in key}
    for key, value in of_last.items():
        weights[key.replace("layers.3.", "layers.30.")] = value.clone()


def cut(folder):
    (folder / FILE).write_bytes((folder / FILE).read_bytes()[:-1000])


BAD = {
    "nan": (lambda w, first: w[first].fill_(float("nan")), f"{FIRST}.weight is not finite"),
    "infinite": (lambda w, first: w[first].fill_(float("inf")), f"{FIRST}.weight is not finite"),
    "other shape": (lambda w, first: w.update({first: torch.zeros(4, 64)}), r"Size\(\[4, 64\]\)"),
    "lacking": (lambda w, first: w.pop(first), f"it lacks {FIRST}"),
    "deeper": (deeper, "the model has no place for model.layers.30.self_attn.q_proj.lora_A"),
}


@pytest.mark.parametrize("name", BAD)
def test_an_adapter_that_does_not_fit_is_refused_in_one_line_before_its_base_is_asked(
    name, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    change, said = BAD[name]
    change_weights(saved(tmp_path / "adapter"), change)
    with pytest.raises(ValueError, match=said) as refused:
        check("adapter", tasks="micro_facts", limit=2)
    assert "\n" not in str(refused.value)
    assert not [*tmp_path.rglob("answers")] and not [*tmp_path.rglob("runs")]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda folder: change_config(folder, target_modules=["query"]), "'query'.* not found"),
        (cut, f"{FILE} is damaged"),
        (lambda folder: saved(folder, added=2), "1,026 tokens, .* rows for 1,024"),
    ],
)
def test_other_modules_a_cut_file_and_tokens_without_a_row_are_refused_likewise(
    spoil, said, tmp_path
):
    spoil(saved(tmp_path / "adapter"))
    with pytest.raises(ValueError, match=said):
        refuse_unreadable(open_model(str(tmp_path / "adapter")))


def test_a_folder_of_weights_that_are_not_finite_is_refused_likewise(tmp_path, checkpoint):
    model = AutoModelForCausalLM.from_pretrained(checkpoint)
    model.model.layers[0].mlp.up_proj.weight.data[0, 0] = float("nan")
    model.save_pretrained(tmp_path / "whole")
    AutoTokenizer.from_pretrained(checkpoint).save_pretrained(tmp_path / "whole")
    with pytest.raises(ValueError, match="whole: its model.layers.0.mlp.up_proj.weight is not fin"):
        refuse_unreadable(open_model(str(tmp_path / "whole")))


@pytest.mark.parametrize(
    ("config", "added"),
    [
        (lora(use_dora=True), 0),
        (lora(modules_to_save=["lm_head"]), 0),
        (lora(modules_to_save=["embed_tokens", "lm_head"]), 2),
        (lora(trainable_token_indices=[3, 4]), 0),
        (IA3Config(task_type="CAUSAL_LM", **IA3), 0),
        (PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4), 0),
    ],
)
def test_whatever_peft_loads_is_let_through(config, added, tmp_path):
    opened = open_model(str(saved(tmp_path / "adapter", config, added)))
    refuse_unreadable(opened)
    load_opened(opened, "float32")

"""Adapters on disk: what is written loads the same, with slimlib and without, or fails loudly."""

import json
import subprocess
import sys

import pytest
import torch
from adapters_of_all import adapter_with
from closed_forms import delta, randomise
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

from slimlib.adapters.layers import Slim4bit, attach, peft_config
from slimlib.adapters.modules import adapted_layers, linear_shapes
from slimlib.adapters.saving import export_plain, load_adapter, save_adapter
from slimlib.common.files import read_jsonl
from slimlib.config import ALL_LINEAR, AdapterConfig, ModelConfig, Rule
from slimlib.methods import METHODS, compile_plan
from slimlib.model.load import load_transformers
from slimlib.run import Run
from slimlib.studies.get import get_study
from slimlib.train import finetune as train
from slimlib.train.finetune import finetune_arm

STRUCTURED = [name for name, method in METHODS.items() if method.structured]
EXPORTED = [name for name, method in METHODS.items() if method.exports]
IDS = torch.arange(20)[None]
# another rank (or tile) for the MLP and one for a single module, so that the patterns are needed
RULES = {
    "q-bara": (Rule(layer_type="mlp", r=2), Rule(projection=("q_proj",), layers="1", lam=4)),
    "qa-hira": (Rule(layer_type="mlp", lam1=8), Rule(projection=("q_proj",), lam2=4)),
}
PLAIN_RULES = (Rule(layer_type="mlp", r=2), Rule(projection=("q_proj",), layers="1", r=3))


def adapter_of(method, **values):
    rules = RULES.get(method, PLAIN_RULES)
    return adapter_with(method, r=4, lora_alpha=8, group_size=8, rules=rules, **values)


def base(checkpoint, four_bit=False):
    return load_transformers(
        ModelConfig(str(checkpoint), load_in_4bit=four_bit, dtype="float32")
    ).eval()


def logits(model):
    with torch.no_grad():
        return model.eval()(input_ids=IDS).logits


def new_adapter(model, config):
    """As trained: on the model, with random weights."""
    return randomise(attach(model, config, 0, 64), 0.2)


@pytest.fixture(scope="module")
def saved(checkpoint, tmp_path_factory):
    """method -> (adapter folder of ours, folder of PEFT's save_pretrained, logits in float32)."""
    root = tmp_path_factory.mktemp("adapters")
    found = {}
    for method in METHODS:
        model = new_adapter(base(checkpoint), adapter_of(method))
        save_adapter(model, root / method)
        model.save_pretrained(root / f"{method}-peft")
        found[method] = (root / method, root / f"{method}-peft", logits(model))
    return found


@pytest.fixture(scope="module")
def plain_logits(checkpoint):
    return logits(base(checkpoint))


# ------------------------------------------------------------------------------------ with slimlib


@pytest.mark.parametrize("method", METHODS)
def test_a_saved_adapter_loads_without_any_difference(method, saved, checkpoint, plain_logits):
    folder, _, expected = saved[method]
    assert (expected - plain_logits).abs().max() > 0.1  # the adapter does something
    model = load_adapter(base(checkpoint), folder)
    assert torch.equal(logits(model), expected)
    assert not any(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("method", METHODS)
def test_so_it_does_on_a_4_bit_base(method, checkpoint, tmp_path):
    model = new_adapter(base(checkpoint, four_bit=True), adapter_of(method))
    expected = logits(model)
    save_adapter(model, tmp_path)
    assert torch.equal(logits(load_adapter(base(checkpoint, four_bit=True), tmp_path)), expected)


@pytest.mark.parametrize("method", METHODS)
def test_a_share_of_an_adapter_is_a_share_of_what_it_adds(method, saved, checkpoint, plain_logits):
    """Scale 0 is the base, and each layer's part grows in proportion."""
    folder = saved[method][0]
    assert torch.equal(logits(load_adapter(base(checkpoint), folder, scale=0.0)), plain_logits)
    x, added = torch.randn(1, 32), {}
    for scale in (0.0, 0.5, 1.0):
        model = load_adapter(base(checkpoint), folder, scale=scale).eval()
        added[scale] = dict(adapted_layers(model))["model.layers.1.self_attn.q_proj"](x)
    half = (added[0.0] + added[1.0]) / 2
    assert torch.allclose(added[0.5], half, atol=1e-6) and not torch.equal(half, added[0.0])


@pytest.mark.parametrize("low_cpu_mem_usage", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_pefts_own_saving_and_loading_do_too(method, low_cpu_mem_usage, saved, checkpoint):
    _, folder, expected = saved[method]
    model = PeftModel.from_pretrained(base(checkpoint), folder, low_cpu_mem_usage=low_cpu_mem_usage)
    assert torch.equal(logits(model), expected)


@pytest.mark.parametrize("method", METHODS)
def test_an_adapter_can_be_trained_on(method, saved, checkpoint):
    folder, _, expected = saved[method]
    model = load_adapter(base(checkpoint), folder, trainable=True)
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert (
        sum(model.get_parameter(n).numel() for n in trained)
        == compile_plan(linear_shapes(base(checkpoint)), adapter_of(method)).parameters
    )
    model.train()
    out = model(input_ids=IDS, labels=IDS)
    assert torch.equal(out.logits, expected)
    out.loss.backward()
    assert all(model.get_parameter(n).grad.abs().max() > 0 for n in trained)


def test_a_fixed_beta_is_read_back(checkpoint, tmp_path):
    model = new_adapter(base(checkpoint), adapter_of("ir-qlora", iec_beta=0.3))
    save_adapter(model, tmp_path)
    assert not any("beta" in name for name in load_file(tmp_path / "slimlib" / WEIGHTS))
    assert torch.equal(logits(load_adapter(base(checkpoint), tmp_path)), logits(model))


def test_every_module_keeps_its_rank_beyond_ten_layers(tmp_path):
    """Sorted keys put layer 10 before layer 2, and layer 1 must not speak for layer 11."""
    shape = LlamaConfig(
        vocab_size=32,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=12,
        num_attention_heads=2,
        num_key_value_heads=1,
    )
    rules = (
        Rule(layers="10-11", projection=("q_proj", "v_proj"), r=5),
        Rule(layers="1", projection=("q_proj", "o_proj"), r=2),
        Rule(layer_type="mlp", r=3),
    )
    config = AdapterConfig(r=4, lora_alpha=8, rules=rules, keep_scale=True)
    torch.manual_seed(0)
    model = LlamaForCausalLM(shape)
    fresh = LlamaForCausalLM(shape)
    fresh.load_state_dict(model.state_dict())
    plan = compile_plan(linear_shapes(model), config)
    model = new_adapter(model, config)
    save_adapter(model, tmp_path)
    again = PeftModel.from_pretrained(fresh, tmp_path)
    modules = dict(again.get_base_model().named_modules())
    for name, entry in plan.items():
        assert modules[name].r["default"] == len(modules[name].lora_A["default"].weight) == entry.r
        assert modules[name].scaling["default"] == 2
    assert torch.equal(logits(again), logits(model))


# ---------------------------------------------------------------------------------------- files

WEIGHTS = "adapter_model.safetensors"


@pytest.mark.parametrize("method", METHODS)
def test_the_files(method, saved):
    folder = saved[method][0]
    found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    plain = {"adapter_config.json", WEIGHTS}
    expected = set() if method == "qa-hira" else plain
    if method != "qlora":
        expected = expected | {f"slimlib/{name}" for name in plain}
    assert {name for name in found if not name.endswith("README.md")} == expected
    if method != "qa-hira":
        assert json.loads((folder / "adapter_config.json").read_text())["peft_type"] == "LORA"


@pytest.mark.parametrize("method", [name for name in EXPORTED if name in STRUCTURED])
def test_the_plain_form_holds_the_closed_form(method, saved, checkpoint):
    """From the two files alone: s B A of the plain one is dW of the structured one."""
    folder = saved[method][0]
    plain, slim = load_file(folder / WEIGHTS), load_file(folder / "slimlib" / WEIGHTS)
    config = json.loads((folder / "adapter_config.json").read_text())
    plan = compile_plan(linear_shapes(base(checkpoint)), adapter_of(method))
    parts = {"lora_A.core": "A", "lora_B.core": "B", "lora_A.beta": "b1", "lora_B.beta": "b2"}
    for name, entry in plan.items():
        prefix = f"base_model.model.{name}."
        trained = {
            part: slim[prefix + key].double() for key, part in parts.items() if prefix + key in slim
        }
        values = {"r": entry.r, "lam": entry.lam, "group_size": entry.group_size}
        expected = delta(method, trained, entry.d_in, entry.d_out, values) * 8 / 16  # its ALPHA
        a, b = (plain[f"{prefix}lora_{part}.weight"] for part in "AB")
        key = "^" + name.replace(".", r"\.")
        alpha = config["alpha_pattern"].get(key, config["lora_alpha"])
        rank = config["rank_pattern"].get(key, config["r"])
        assert rank == len(a) == entry.r * (entry.lam if method == "q-bara" else 1) == b.shape[1]
        torch.testing.assert_close(alpha / rank * (b @ a).double(), expected, atol=1e-5, rtol=0)
    assert len(plain) == 2 * len(plan)


def test_qa_hira_has_no_plain_form(checkpoint, tmp_path):
    model = new_adapter(base(checkpoint), adapter_of("qa-hira"))
    with pytest.raises(ValueError, match="QA-HiRA has no plain LoRA form: ship it merged"):
        export_plain(model, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("method", METHODS)
def test_the_scale_is_what_the_configuration_says(method, checkpoint):
    """s = lora_alpha / r, for Q-BaRA of its own larger rank and alpha."""
    config = adapter_with(method, r=4, lora_alpha=12, group_size=8)
    layers = dict(adapted_layers(attach(base(checkpoint), config, 0, 64)))
    assert {layer.scaling["default"] for layer in layers.values()} == {3.0}


def test_the_betas_are_trained(checkpoint, tmp_path):
    settings = {"model": str(checkpoint), "arms": "llama-2k", "data.n": 8, "train.max_steps": 2}
    settings |= {"adapter.method": "ir-qlora", "train.learning_rate": 0.02}
    run = Run(get_study("smoke", **settings), tmp_path)
    finetune_arm(run, "llama-2k")
    saved = load_file(run.adapter_folder("llama-2k") / "slimlib" / "adapter_model.safetensors")
    betas = {name: float(value) for name, value in saved.items() if "beta" in name}
    assert len(betas) == 2 * 7 * 2 and all(betas.values())  # they begin at 0


@pytest.mark.parametrize("method", ["qlora", "q-bara"])
def test_an_adapter_of_nan_is_neither_written_nor_loaded(method, saved, checkpoint, tmp_path):
    model = new_adapter(base(checkpoint), adapter_of(method))
    weight = next(p for name, p in model.named_parameters() if "lora_B" in name)
    with torch.no_grad():
        weight[0, 0] = torch.nan
    with pytest.raises(ValueError, match="the adapter's .*lora_B.* is not finite"):
        save_adapter(model, tmp_path / "new")
    assert not (tmp_path / "new").exists()
    model.save_pretrained(tmp_path / "peft")  # as another tool may have left it
    with pytest.raises(ValueError, match=r"peft: the adapter's .*lora_B.* is not finite"):
        load_adapter(base(checkpoint), tmp_path / "peft")


def test_a_folder_without_an_adapter_is_refused(checkpoint, tmp_path):
    with pytest.raises(ValueError, match=f"no adapter in {tmp_path}; fine-tune it first"):
        load_adapter(base(checkpoint), tmp_path)


# --------------------------------------------------------------------------------- without slimlib

ELSEWHERE = """
import json, sys
sys.modules["slimlib"] = None
import torch
from peft import PeftModel
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM
checkpoint, target, folders = json.loads(sys.argv[1])
found, errors = {}, {}
for name, folder in folders.items():
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    try:
        model = PeftModel.from_pretrained(model, folder)
    except (KeyError, ValueError) as error:
        errors[name] = f"{type(error).__name__}: {error}"
        continue
    with torch.no_grad():
        found[name] = model.eval()(input_ids=torch.arange(20)[None]).logits
save_file(found, target)
print(json.dumps(errors))
"""


@pytest.fixture(scope="module")
def elsewhere(saved, checkpoint, tmp_path_factory):
    """What PEFT makes of the folders in a process without slimlib: (logits, errors)."""
    folders = {method: str(folder) for method, (folder, _, _) in saved.items()}
    folders |= {f"{method}/slimlib": str(saved[method][0] / "slimlib") for method in STRUCTURED}
    folders |= {f"{method}-peft": str(saved[method][1]) for method in STRUCTURED}
    target = tmp_path_factory.mktemp("elsewhere") / "logits.safetensors"
    arguments = json.dumps([str(checkpoint), str(target), folders])
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, arguments], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return load_file(target), json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("method", EXPORTED)
def test_the_plain_form_loads_in_stock_peft(method, saved, elsewhere, plain_logits):
    found, expected = elsewhere[0][method], saved[method][2]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert (found - plain_logits).abs().max() > 0.1


@pytest.mark.parametrize("method", STRUCTURED)
def test_the_structured_form_fails_in_stock_peft(method, elsewhere):
    """It would be an untrained adapter there, so PEFT must not know its type."""
    found, errors = elsewhere
    for name in (f"{method}/slimlib", f"{method}-peft"):
        assert name not in found
        assert "SLIMLIB_LORA" in errors[name]


def test_qa_hiras_folder_fails_in_stock_peft(elsewhere):
    found, errors = elsewhere
    assert "qa-hira" not in found
    assert "adapter_config.json" in errors["qa-hira"]


# ------------------------------------------------------------------------------- two adapters


@pytest.mark.parametrize("four_bit", [False, True])
@pytest.mark.parametrize("method", STRUCTURED)
def test_a_plain_adapter_beside_a_structured_one(method, four_bit, checkpoint, tmp_path):
    model = new_adapter(base(checkpoint, four_bit), adapter_of(method))
    alone = logits(model)
    plain = LoraConfig(r=2, lora_alpha=4, target_modules=["q_proj", "up_proj"])
    other = randomise(get_peft_model(base(checkpoint, four_bit), plain), 0.2)
    other.save_pretrained(tmp_path)
    model.load_adapter(tmp_path, "plain")
    assert torch.equal(logits(model), alone)
    model.set_adapter("plain")
    assert torch.equal(logits(model), logits(other))
    model.set_adapter("default")
    assert torch.equal(logits(model), alone)
    model.delete_adapter("plain")
    assert torch.equal(logits(model), alone)


@pytest.mark.parametrize("four_bit", [False, True])
@pytest.mark.parametrize("method", STRUCTURED)
def test_a_structured_adapter_on_plain_ones_layers_fails(method, four_bit, saved, checkpoint):
    """PEFT asks the layers that are there, and those would make an untrained plain one of it."""
    plain = LoraConfig(r=2, target_modules=["q_proj"])
    model = get_peft_model(base(checkpoint, four_bit), plain)
    with pytest.raises(ValueError, match="init_lora_weights='slimlib'"):
        model.load_adapter(saved[method][1], "structured")


# ------------------------------------------------------------------- refused, and nothing touched


def state_of(model):
    """Module types, weights and what trains: all that a refusal must leave alone."""
    return (
        {name: type(module) for name, module in model.named_modules()},
        {name: tensor.clone() for name, tensor in model.state_dict().items()},
        {name: (p.requires_grad, p.dtype) for name, p in model.named_parameters()},
    )


def assert_untouched(model, before):
    types, weights, flags = state_of(model)
    assert types == before[0] and flags == before[2] and weights.keys() == before[1].keys()
    assert all(torch.equal(weights[name], tensor) for name, tensor in before[1].items())


REFUSED = [
    (AdapterConfig(method="q-bara", r=4, lam=3), r"self_attn\.q_proj \(32 x 32\): lam=3"),
    # k and v alone do not fit, after q of the same layer did
    (AdapterConfig(method="q-bara", r=17, lam=1), r"k_proj \(16 x 32\): r=17 exceeds the layer"),
    (AdapterConfig(method="qlora", r=17), r"self_attn\.k_proj \(16 x 32\): r=17 exceeds the layer"),
    (AdapterConfig(method="ir-qlora", r=17), r"k_proj \(16 x 32\): r=17 exceeds the layer"),
    # 32 divides the inputs of all but the last module of a layer
    (
        AdapterConfig(method="qa-lora", r=4, group_size=32),
        r"mlp\.down_proj \(32 x 48\): group_size",
    ),
    (AdapterConfig(method="qa-hira", lam1=32), r"mlp\.down_proj \(32 x 48\): lam1=32 does not"),
    (AdapterConfig(method="qa-hira", lam2=32), r"self_attn\.k_proj \(16 x 32\): lam2=32 does not"),
    (AdapterConfig(r=4, rules=(Rule(layers="7", r=2),)), "matches none of the 14"),
    (
        AdapterConfig(method="q-bara", r=4, target_modules=("q_proj", "lm_head")),
        "lm_head: no such linear",
    ),
    (AdapterConfig(r=4, target_modules=("q_proj", "embed_tokens")), "embed_tokens: no such"),
]


@pytest.mark.parametrize("four_bit", [False, True])
@pytest.mark.parametrize(("config", "message"), REFUSED)
def test_attach_refuses_before_anything_is_touched(config, message, four_bit, checkpoint):
    model = base(checkpoint, four_bit)
    before = state_of(model)
    with pytest.raises(ValueError, match=message):
        attach(model, config, 0, 64)
    assert_untouched(model, before)


@pytest.mark.parametrize(
    "forbidden", [{"use_rslora": True}, {"use_dora": True}, {"init_lora_weights": "pissa"}]
)
def test_what_does_not_combine_is_refused_before_anything_is_touched(forbidden, checkpoint):
    model = base(checkpoint)
    before = state_of(model)
    plan = compile_plan(linear_shapes(model), adapter_of("q-bara"))
    lora = {"r": 4, "lora_alpha": 8, "target_modules": list(ALL_LINEAR), "bias": "none"}
    with pytest.raises(ValueError, match=r"q_proj \(32 x 32\): (use|init)_.* does not go with it"):
        get_peft_model(model, peft_config(plan, lora | forbidden))
    assert_untouched(model, before)


def other_model(layers, intermediate):
    shape = LlamaConfig(
        vocab_size=1024,
        hidden_size=32,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    return LlamaForCausalLM(shape)


@pytest.mark.parametrize(
    ("layers", "intermediate", "message"),
    [
        (3, 48, r"model\.layers\.2\.self_attn\.q_proj is 32 x 32, and the .* plan has no entry"),
        (1, 48, r"model\.layers\.1\.self_attn\.q_proj is not in the model, and .* has 32 x 32"),
        (2, 56, r"model\.layers\.0\.mlp\.gate_proj is 56 x 32, and the .* plan has 48 x 32 for it"),
    ],
)
@pytest.mark.parametrize("method", STRUCTURED)
def test_a_plan_for_another_model_is_refused(method, layers, intermediate, message, saved):
    model = other_model(layers, intermediate)
    before = state_of(model)
    with pytest.raises(ValueError, match=message):
        load_adapter(model, saved[method][0])
    assert_untouched(model, before)


def test_peft_too_refuses_a_module_that_the_plan_has_not(saved):
    with pytest.raises(ValueError, match=r"model\.layers\.0\.mlp\.gate_proj is 56 x 32"):
        PeftModel.from_pretrained(other_model(2, 56), saved["q-bara"][1])


# ------------------------------------------------------------------------------------- cut off


@pytest.fixture(scope="module")
def q_bara_study(checkpoint):
    """Four steps with dropout, whose random state a resumed run takes up; a checkpoint at 2."""
    return get_study(
        "smoke",
        model=str(checkpoint),
        arms="llama-2k",
        **{"data.n": 16, "train.per_device_train_batch_size": 4, "train.learning_rate": 0.02},
        **{"train.logging_steps": 1, "train.save_steps": 2, "adapter.lora_dropout": 0.1},
        **{"adapter.method": "q-bara", "adapter.r": 4},
    )


def test_a_cut_off_structured_training_goes_on(q_bara_study, tmp_path, monkeypatch, capsys):
    from transformers import TrainerCallback

    class Cut(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == 3:
                raise KeyboardInterrupt

    make_trainer = train.make_trainer

    def cut(*args):
        trainer = make_trainer(*args)
        assert any(isinstance(module, Slim4bit) for module in trainer.model.modules())
        trainer.add_callback(Cut())
        return trainer

    whole, run = Run(q_bara_study, tmp_path / "whole"), Run(q_bara_study, tmp_path / "cut")
    finetune_arm(whole, "llama-2k")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(train, "make_trainer", cut)
        finetune_arm(run, "llama-2k")
    assert not run.adapter_folder("llama-2k").exists()
    assert finetune_arm(run, "llama-2k")["optimizer_steps"] == 4
    assert "resuming from checkpoint-2" in capsys.readouterr().err
    rows = read_jsonl(run.arm_folder("llama-2k") / "log.jsonl")
    losses = [row["loss"] for row in whole.logs()["llama-2k"]]
    assert [row["loss"] for row in rows] == pytest.approx(losses, abs=1e-5)
    for part in (WEIGHTS, f"slimlib/{WEIGHTS}"):
        found, expected = (load_file(r.adapter_folder("llama-2k") / part) for r in (run, whole))
        for name, weight in expected.items():
            assert found[name].sub(weight).abs().max() < 1e-6, name

"""The five methods under Unsloth on a CPU: what test_unsloth.py runs where it is installed.

python tests/unsloth_methods.py fused FOLDER    Unsloth's fused functions against PEFT's own forward
python tests/unsloth_methods.py train FOLDER    each method trained, saved and loaded again

Each writes FOLDER/STAGE.json; the second leaves a run for each method and seed, and the logits of
each method's last model as Unsloth computes them. gpu_path.py takes the comparisons from here.
"""

import sys
from collections.abc import Callable
from contextlib import nullcontext
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import unsloth_path
from torch import Tensor

from slimlib.adapters import layers, structure
from slimlib.adapters.modules import adapted_layers
from slimlib.adapters.saving import adapter_path
from slimlib.common.files import write_json
from slimlib.config import AdapterConfig, ModelConfig, Rule, Study
from slimlib.merge import plain
from slimlib.methods import definitions
from slimlib.model.load import load_model
from slimlib.run import Run
from slimlib.studies.get import get_study
from slimlib.train import finetune as train

ARM = "llama-2k"
SEEDS = (1, 2, 3)
# Ranks and lambdas differ between the modules that are fused together.
VARIED = {
    "qlora": AdapterConfig(r=4, rules=(Rule(projection=("k_proj", "up_proj"), r=2),)),
    "ir-qlora": AdapterConfig("ir-qlora", r=4, rules=(Rule(projection=("k_proj",), r=6),)),
    "qa-lora": AdapterConfig("qa-lora", r=4, rules=(Rule(projection=("v_proj",), r=2),)),
    "q-bara": AdapterConfig("q-bara", r=4, rules=(Rule(layer_type="mlp", lam=4),)),
    "qa-hira": AdapterConfig("qa-hira", rules=(Rule(layer_type="mlp", lam1=8),)),
}


def study(method: str, seed: int) -> Study:
    """50 steps of 4 rows of one method on the embedded base in NF4, by Unsloth."""
    settings = {
        "arms": f"llama-base,{ARM}",
        "seed": seed,
        "model.backend": "unsloth",
        "adapter.method": method,
        "adapter.r": 8,
        "data.n": 200,
        "train.per_device_train_batch_size": 4,
        "train.gradient_accumulation_steps": 1,
        "train.learning_rate": 5e-3,
        "train.max_steps": 50,
        "train.logging_steps": 1,
    }
    return get_study("smoke", **settings)


# ------------------------------------------------------------------------------------------- train


def train_all(folder: Path) -> dict[str, Any]:
    """Every method and seed: what came of each training."""
    found, seen = {}, watch()
    for method in definitions.METHODS:
        for seed in SEEDS:
            run = Run(study(method, seed), folder / f"{method}-{seed}")
            train.finetune_arm(run, ARM)
            found[f"{method}-{seed}"] = outcome(seen)
        keep_logits(run, seen, folder / f"{method}.safetensors")
    return found


def watch() -> dict[str, Any]:
    """Let finetune_arm leave here its last trainer and the weights that it began with."""
    seen = unsloth_path.watch_trainer()
    build = train.make_trainer

    def make_trainer(model, tokenizer, dataset, config, folder):
        trainer = build(model, tokenizer, dataset, config, folder)
        seen["begin"] = {name: p.detach().clone() for name, p in trained(model).items()}
        return trainer

    train.make_trainer = make_trainer
    return seen


def trained(model: Any) -> dict[str, Any]:
    """The parameters that an optimiser would be given."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def outcome(seen: dict[str, Any]) -> dict[str, Any]:
    """What the tests assert on, as plain JSON."""
    begin, end = seen["begin"], trained(seen["trainer"].model)
    return {
        "changed": {name: not torch.equal(p, begin[name]) for name, p in end.items()},
        "same": list(begin) == list(end),
        "dtypes": sorted({str(p.dtype) for p in end.values()}),
    }


def keep_logits(run: Run, seen: dict[str, Any], path: Path) -> None:
    """Logits of the trained model, and of its folders as FastLanguageModel loads them."""
    from safetensors.torch import save_file
    from unsloth import FastLanguageModel

    models = {"trained": seen["trainer"].model}
    folder = run.adapter_folder(ARM)
    for name, saved in (("reloaded", adapter_path(folder)), ("plain", folder)):
        if (saved / "adapter_config.json").exists():
            models[name], _ = FastLanguageModel.from_pretrained(
                str(saved), max_seq_length=512, dtype=torch.float32, load_in_4bit=True
            )
    logits = {
        f"{name} {i}": x.contiguous()
        for name, model in models.items()
        for i, x in enumerate(plain._logits(model, seen["tokenizer"]))
    }
    save_file(logits, path)


# ------------------------------------------------------------------------------------------- fused


class NoTriton(ModuleType):
    """Stands for triton where it is not installed: what it decorates can be read, not launched."""

    __path__: list[str] = []
    __version__ = "3.0.0"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return NoTriton(name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self

    def __getitem__(self, grid: Any) -> None:
        raise RuntimeError("a kernel that needs a GPU was launched")


def fused_all(folder: Path) -> dict[str, Any]:
    """How far PEFT's forward and Unsloth's functions over the same layers are apart."""
    import unsloth  # noqa: F401  before its kernels

    if find_spec("triton") is None:
        for name in ("triton", "triton.language", "triton.language.extra"):
            sys.modules[name] = NoTriton(name)
            sys.modules[name].__spec__ = ModuleSpec(name, None)
    from unsloth.kernels import fast_lora

    fast_lora.swiglu_fg_kernel = swiglu
    fast_lora.swiglu_DWf_DW_dfg_kernel = swiglu_gradients
    return {method: fused(config) for method, config in VARIED.items()}


def swiglu(e: Tensor, g: Tensor) -> Tensor:
    """silu(e) g, in place of a kernel."""
    return torch.nn.functional.silu(e) * g


def swiglu_gradients(gradient: Tensor, e: Tensor, g: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """silu(e) g and its gradients by g and by e, in place of a kernel; by autograd."""
    with torch.enable_grad():
        e, g = e.detach().requires_grad_(), g.detach().requires_grad_()
        h = swiglu(e, g)
        by_e, by_g = torch.autograd.grad(h, (e, g), gradient)
    return h.detach(), by_g, by_e


def fused(config: AdapterConfig) -> dict[str, Any]:
    """One method on the embedded base in float32, its numbers drawn anew; then in 16 bit."""
    whole = ModelConfig("micro:base", dtype="float32", load_in_4bit=False, backend="unsloth")
    model = layers.attach(load_model(whole)[0], config, seed=0, max_seq_length=64)
    randomise(model)
    names = list(trained(model))
    for kept in (structure.pooling_matrix, structure.input_means, structure.output_repeats):
        kept.cache_clear()  # so that the matrices are first built in inference mode
    found = {
        "decode": decode(model),
        "blocks": blocks(model, layer=1, patched=False),
        "rewritten": rewritten_forward(model),
        "merge": merges(model),
        "patch": patch(model),
    }
    found["prepared"] = {
        "same": list(trained(model)) == names,
        "dtypes": sorted({str(p.dtype) for p in trained(model).values()}),
    }
    found["blocks in 16 bit"] = blocks(model, layer=1, patched=True, dtype=torch.bfloat16)
    found["decode in 16 bit"] = decode(model, torch.bfloat16)
    with torch.no_grad():
        for parameter in trained(model).values():  # in place, as an optimiser does
            parameter.mul_(1.5)
    found["decode after a step"] = decode(model, torch.bfloat16)
    return found


def randomise(model: Any, dtype: torch.dtype = torch.float32) -> None:
    """Draw every trained number anew, each layer's adapter giving as much as the layer itself."""
    torch.manual_seed(1)
    for _, layer in adapted_layers(model):
        with torch.no_grad():
            for parameter in trained(layer).values():
                parameter.normal_(std=0.1)
            x = torch.randn(64, layer.in_features).to(layer.base_layer.weight.device, dtype)
            base = layer.base_layer(x).float()
            factor = base.norm() / (layer(x).float() - base).norm()
            for parameter in layer.lora_B.parameters():
                parameter.mul_(factor)


def distance(found: Tensor, expected: Tensor) -> float:
    """The largest difference as a share of the largest expected number."""
    difference = (found.float() - expected.float()).abs().max() / expected.float().abs().max()
    return difference.item()


def blocks(
    model: Any, layer: int, patched: bool, dtype: torch.dtype = torch.float32
) -> dict[str, Any]:
    """Unsloth's fused training functions on one decoder layer, against PEFT's own forward.

    Args:
        model: with an adapter on all seven projections.
        layer: its number.
        patched: take the functions that the layer was given; else Unsloth's by name.
        dtype: of the activations; float16 and bfloat16 under autocast, as in training.
    """
    decoder = model.get_base_model().model.layers[layer]
    attention, mlp = decoder.self_attn, decoder.mlp
    q, k, v, o = (getattr(attention, f"{name}_proj") for name in "qkvo")
    if patched:
        qkv, out, feed = attention.apply_qkv, attention.apply_o, lambda mlp, x: mlp(x)
    else:
        from unsloth.kernels import fast_lora

        qkv, out = fast_lora.apply_lora_qkv, fast_lora.apply_lora_o
        feed = fast_lora.apply_lora_mlp_swiglu
    own = {
        "qkv": lambda x: (q(x), k(x), v(x)),
        "o": lambda x: (o(x),),
        "mlp": lambda x: (mlp.down_proj(mlp.act_fn(mlp.gate_proj(x)) * mlp.up_proj(x)),),
    }
    theirs = {
        "qkv": lambda x: qkv(attention, x),
        "o": lambda x: (out(attention, x),),
        "mlp": lambda x: (feed(mlp, x),),
    }
    parts = {"qkv": (q, k, v), "o": (o,), "mlp": (mlp.gate_proj, mlp.up_proj, mlp.down_proj)}
    return {name: compare(model, theirs[name], own[name], parts[name], dtype) for name in parts}


def compare(
    model: Any, theirs: Callable, own: Callable, parts: tuple[Any, ...], dtype: torch.dtype
) -> dict[str, Any]:
    """Outputs and gradients (of the input and of all that is trained) by two forwards."""
    weights = [p for part in parts for p in part.parameters() if p.requires_grad]
    device = weights[0].device
    autocast = dtype != torch.float32
    context = torch.autocast(device.type, dtype) if autocast else nullcontext()
    torch.manual_seed(2)
    x = torch.randn(2, 7, parts[0].in_features).to(device, dtype)
    sides = []
    with context:
        for call in (theirs, own):
            inputs = x.clone().requires_grad_()
            outputs = call(inputs)
            # unequal weights, so that outputs in another order would show
            loss = sum(
                (y * torch.arange(y.numel(), device=device).cos().view_as(y)).sum() for y in outputs
            )
            gradients = torch.autograd.grad(loss, [inputs, *weights])
            sides.append((outputs, gradients))
        with torch.no_grad(), model.disable_adapter():
            base = own(x)
    (found, found_gradients), (expected, expected_gradients) = sides
    return {
        "node": type(found[0].grad_fn).__name__,
        "forward": max(map(distance, found, expected)),
        "gradients": gradient_distance(found_gradients, expected_gradients),
        "weights": len(weights),
        "effect": min(map(distance, base, expected)),
    }


def gradient_distance(found: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> float:
    """As `distance`, the worst of all; a single number (a beta) by the largest of all gradients.

    Its gradient is a sum over a whole matrix that may all but cancel, and no scale for itself.
    """
    largest = max(gradient.abs().max() for gradient in expected)
    shares = [
        distance(a, b) if b.numel() > 1 else ((a - b).abs() / largest).item()
        for a, b in zip(found, expected, strict=True)
    ]
    return max(shares)


def decode(model: Any, dtype: torch.dtype = torch.float32) -> dict[str, float]:
    """Generation's linear function (a token and a prompt, alone and batched), layer by layer."""
    from unsloth.kernels.utils import fast_linear_forward

    found, effects = [], []
    for shape in ((1, 1), (3, 1), (2, 5)):
        for _, layer in adapted_layers(model):
            x = torch.randn(*shape, layer.in_features).to(layer.base_layer.weight.device, dtype)
            with torch.inference_mode():
                out = fast_linear_forward(layer, x.clone())
            with torch.no_grad():
                expected = layer(x)
                effects.append(distance(layer.base_layer(x), expected))
            found.append(distance(out, expected))
    return {"difference": max(found), "effect": min(effects)}


def rewritten_forward(model: Any) -> float:
    """Unsloth's own text for the adapter's share of PEFT's forward, run as it stands."""
    from unsloth_zoo.compiler import COMPILED_LORA_FORWARD

    names: dict[str, Any] = {"torch": torch}
    exec(COMPILED_LORA_FORWARD, names)
    found = []
    for _, layer in adapted_layers(model):
        x = torch.randn(2, 7, layer.in_features)
        parts = (layer.lora_A, layer.lora_B, layer.lora_dropout)
        a, b, dropout = (part["default"] for part in parts)
        with torch.no_grad():
            scaling = layer.scaling["default"]
            out = names["lora_forward"](layer.base_layer(x), a, b, dropout, x, scaling)
            found.append(distance(out, layer(x)))
    return max(found)


def merges(model: Any) -> dict[str, float]:
    """Unsloth's two merges, against what PEFT's layers make of the identity."""
    from unsloth.save import _merge_lora
    from unsloth_zoo import saving_utils

    statistics, _ = saving_utils.create_lora_statistics(model)
    found: dict[str, list[float]] = {"live": [], "by statistics": []}
    for name, layer in adapted_layers(model):
        with torch.no_grad():
            expected = layer(torch.eye(layer.in_features)).T
            weight = layer.base_layer.weight.detach().clone()
            merged = saving_utils._merge_lora(weight.clone(), statistics[name], name)
            found["by statistics"].append(distance(merged, expected))
            found["live"].append(distance(_merge_lora(layer, name)[0], expected))
            layer.base_layer.weight.copy_(weight)  # this merge writes to a float32 one
    return {name: max(shares) for name, shares in found.items()}


def patch(model: Any) -> dict[str, int]:
    """Unsloth's patch of a model for a GPU, on a 16-bit base: layers with fused functions."""
    from transformers import Trainer
    from unsloth.kernels import fast_lora
    from unsloth.models import llama

    # it asks whether its loader for a GPU has been here, which names the loop so
    Trainer._inner_training_loop.__name__ = "_fast_inner_training_loop"
    llama.clean_gpu_cache = lambda: None
    for parameter in model.parameters():
        if not parameter.requires_grad:
            parameter.data = parameter.data.bfloat16()
    llama.FastLlamaModel.patch_peft_model(model, False)
    layers = model.get_base_model().model.layers
    return {
        "layers": len(layers),
        "qkv": sum(x.self_attn.apply_qkv is fast_lora.apply_lora_qkv for x in layers),
        "o": sum(x.self_attn.apply_o is fast_lora.apply_lora_o for x in layers),
        "mlp": sum(x.mlp.forward.__func__ is fast_lora.apply_lora_mlp_swiglu for x in layers),
    }


if __name__ == "__main__":
    stage, folder = sys.argv[1], Path(sys.argv[2])
    write_json(folder / f"{stage}.json", {"fused": fused_all, "train": train_all}[stage](folder))

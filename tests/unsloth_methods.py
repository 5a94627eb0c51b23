"""The five methods under Unsloth on a CPU: what test_unsloth.py runs where it is installed.

python tests/unsloth_methods.py fused FOLDER    Unsloth's fused functions against PEFT's layers
python tests/unsloth_methods.py train FOLDER    each method trained, saved and loaded again

Both write FOLDER/STAGE.json; the second leaves a run for each method and seed, and the logits of the
first seed's models by Unsloth.
"""

import sys
from dataclasses import replace
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import unsloth_path
from torch import Tensor

from slimlib import adapters, train
from slimlib.adapters.saving import adapter_path
from slimlib.config import AdapterConfig, ModelConfig, Rule, Study, get_study
from slimlib.files import write_json
from slimlib.model import load_model
from slimlib.runs import Run

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
    """Every method and seed; `changed` says of each trained tensor whether the training moved it."""
    found = {}
    for method in adapters.METHODS:
        for seed in SEEDS:
            run, seen = Run(study(method, seed), folder / f"{method}-{seed}"), watch()
            train.finetune_arm(run, ARM)
            found[f"{method}-{seed}"] = outcome(seen)
        keep_logits(run, seen, folder / f"{method}.safetensors")
    return found


def watch() -> dict[str, Any]:
    """Let finetune_arm leave here its trainer and the weights that it began with."""
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
    end = trained(seen["trainer"].model)
    return {
        "changed": {n: not torch.equal(seen["begin"].pop(n), p) for n, p in end.items()},
        "frozen meanwhile": list(seen["begin"]),
        "dtypes": sorted({str(p.dtype) for p in end.values()}),
        "numbers": sum(p.numel() for p in end.values()),
    }


def keep_logits(run: Run, seen: dict[str, Any], path: Path) -> None:
    """Logits of the trained model, of both its folders as FastLanguageModel loads them."""
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
        for i, x in enumerate(adapters.merge._logits(model, seen["tokenizer"]))
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
    """How far each method's layers and Unsloth's functions over them are apart, by function."""
    import unsloth  # noqa: F401  before its kernels

    if find_spec("triton") is None:
        for name in ("triton", "triton.language", "triton.language.extra"):
            sys.modules[name] = NoTriton(name)
            sys.modules[name].__spec__ = ModuleSpec(name, None)
    from unsloth.kernels import fast_lora

    fast_lora.swiglu_fg_kernel = swiglu
    fast_lora.swiglu_DWf_DW_dfg_kernel = swiglu_gradients
    return {method: fused(config) for method, config in VARIED.items()}


def fused(config: AdapterConfig) -> dict[str, Any]:
    from unsloth.kernels.fast_lora import apply_lora_mlp_swiglu, apply_lora_o, apply_lora_qkv

    model = random_adapter(config)
    before = trained(model)
    layer = model.get_base_model().model.layers[1]
    attention, mlp = layer.self_attn, layer.mlp
    q, k, v = attention.q_proj, attention.k_proj, attention.v_proj
    found = {
        "qkv": compare(model, attention, apply_lora_qkv, lambda x: (q(x), k(x), v(x)), (q, k, v)),
        "o": compare(model, attention, apply_lora_o, attention.o_proj, (attention.o_proj,)),
        "mlp": compare(model, mlp, apply_lora_mlp_swiglu, mlp, (mlp,)),
        "rewritten": rewritten_forward(projections(model)),
        "merge": merged(model),
        "decode": decode(projections(model), torch.float32),
        "prepare": prepare(model, before),
    }
    found["patched"] = patch(model)
    found["decode 16 bit"] = decode(projections(model), torch.bfloat16)
    with torch.no_grad():
        for parameter in trained(model).values():  # as an optimiser step: in place
            parameter.neg_()
    found["decode after a step"] = decode(projections(model), torch.bfloat16)
    return found


def random_adapter(config: AdapterConfig) -> Any:
    """The embedded base in float32, with an adapter whose every number is drawn anew."""
    whole = ModelConfig("micro:base", dtype="float32", load_in_4bit=False, backend="unsloth")
    model = adapters.attach(load_model(whole)[0], config, seed=0, max_seq_length=64)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in trained(model).values():
            parameter.normal_(std=0.3)
    return model


def projections(model: Any) -> dict[str, Any]:
    """The adapted layers of the whole model by name."""
    return dict(adapters.saving._adapted(model))


def swiglu(e: Tensor, g: Tensor) -> Tensor:
    """silu(e) g, in place of a kernel."""
    return torch.nn.functional.silu(e) * g


def swiglu_gradients(gradient: Tensor, e: Tensor, g: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(silu(e) g, its gradient by g, by e), in place of a kernel; by autograd."""
    with torch.enable_grad():
        e, g = e.detach().requires_grad_(), g.detach().requires_grad_()
        h = swiglu(e, g)
        by_e, by_g = torch.autograd.grad(h, (e, g), gradient)
    return h.detach(), by_g, by_e


def distance(found: Tensor, expected: Tensor) -> float:
    """The largest difference as a share of the largest expected number."""
    difference = (found.float() - expected.float()).abs().max() / expected.float().abs().max()
    return difference.item()


def compare(model: Any, block: Any, fused: Any, plain: Any, parts: tuple[Any, ...]) -> dict:
    """Outputs and gradients of a fused training function, against PEFT's own forward."""
    weights = [p for part in parts for p in part.parameters() if p.requires_grad]
    first = next(m for m in parts[0].modules() if hasattr(m, "lora_A"))
    torch.manual_seed(2)
    x = torch.randn(2, 7, first.in_features)
    sides, nodes = [], []
    for call in (lambda x: fused(block, x), plain):
        inputs = x.clone().requires_grad_()
        outputs = call(inputs)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        nodes.append(type(outputs[0].grad_fn).__name__)
        # cosines weigh the outputs unequally, so that a permutation of them would show
        loss = sum((y * torch.arange(y.numel()).cos().view_as(y)).sum() for y in outputs)
        gradients = torch.autograd.grad(loss, [inputs, *weights])
        sides.append(([y.detach() for y in outputs], gradients))
    (found, found_gradients), (expected, expected_gradients) = sides
    with torch.no_grad(), model.disable_adapter():
        base = plain(x)
    base = base if isinstance(base, tuple) else (base,)
    return {
        "node": nodes[0],
        "forward": max(map(distance, found, expected)),
        "gradients": max(map(distance, found_gradients, expected_gradients)),
        "weights": len(weights),
        "effect": min(map(distance, base, expected)),
    }


def rewritten_forward(layers: dict[str, Any]) -> float:
    """Unsloth's text for the adapter's share of PEFT's forward, run as it is."""
    from unsloth_zoo.compiler import COMPILED_LORA_FORWARD

    names: dict[str, Any] = {"torch": torch}
    exec(COMPILED_LORA_FORWARD, names)  # noqa: S102
    found = []
    for layer in layers.values():
        x, a, b = torch.randn(2, 7, layer.in_features), *pair(layer)
        with torch.no_grad():
            out = names["lora_forward"](
                layer.base_layer(x), a, b, layer.lora_dropout["default"], x, layer.scaling["default"]
            )
            found.append(distance(out, layer(x)))
    return max(found)


def pair(layer: Any) -> tuple[Any, Any]:
    return layer.lora_A["default"], layer.lora_B["default"]


def merged(model: Any) -> dict[str, float]:
    """Unsloth's two merges, against what PEFT's layers make of the identity."""
    from unsloth.save import _merge_lora
    from unsloth_zoo import saving_utils

    statistics, _ = saving_utils.create_lora_statistics(model)
    found: dict[str, list[float]] = {"live": [], "by statistics": []}
    for name, layer in projections(model).items():
        with torch.no_grad():
            expected = layer(torch.eye(layer.in_features)).T
            weight = layer.base_layer.weight.detach()
            found["live"].append(distance(_merge_lora(layer, name)[0], expected))
            by_statistics = saving_utils._merge_lora(weight.clone(), statistics[name], name)
            found["by statistics"].append(distance(by_statistics, expected))
    return {name: max(shares) for name, shares in found.items()}


def decode(layers: dict[str, Any], dtype: torch.dtype) -> dict[str, float]:
    """Generation's linear layer (one token and a prompt, alone and batched), layer after layer."""
    from unsloth.kernels.utils import fast_linear_forward

    found, effects = [], []
    for shape in ((1, 1), (3, 1), (2, 5)):
        for layer in layers.values():
            x = torch.randn(*shape, layer.in_features, dtype=dtype)
            with torch.inference_mode():
                out = fast_linear_forward(layer, x.clone())
            with torch.no_grad():
                expected = layer(x)
                effects.append(distance(layer.base_layer(x), expected))
            found.append(distance(out, expected))
    return {"difference": max(found), "effect": min(effects)}


def prepare(model: Any, before: dict[str, Any]) -> dict[str, Any]:
    """What Unsloth, when it patches a model for a GPU, freezes and casts."""
    from unsloth_zoo.training_utils import prepare_model_for_training

    prepare_model_for_training(model, use_gradient_checkpointing=False)
    after = trained(model)
    return {
        "same": list(after) == list(before),
        "dtypes": sorted({str(p.dtype) for p in after.values()}),
    }


def patch(model: Any) -> dict[str, int]:
    """Unsloth's patch of a model for a GPU, on a base in 16 bit: layers with a fused function."""
    from unsloth.kernels import fast_lora
    from unsloth.models.llama import FastLlamaModel

    for parameter in model.parameters():
        if not parameter.requires_grad:
            parameter.data = parameter.data.bfloat16()
    model = FastLlamaModel.patch_peft_model(model, False)
    layers = model.get_base_model().model.layers
    return {
        "layers": len(layers),
        "qkv": sum(x.self_attn.apply_qkv is fast_lora.apply_lora_qkv for x in layers),
        "o": sum(x.self_attn.apply_o is fast_lora.apply_lora_o for x in layers),
        "mlp": sum(x.mlp.forward.__func__ is fast_lora.apply_lora_mlp_swiglu for x in layers),
        "trained": len(trained(model)),
    }


if __name__ == "__main__":
    stage, folder = sys.argv[1], Path(sys.argv[2])
    write_json(folder / f"{stage}.json", {"fused": fused_all, "train": train_all}[stage](folder))

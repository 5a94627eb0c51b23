"""One stage of the paper's study at a given shape, in a process of its own: what test_gpu.py runs.

python tests/gpu_path.py STAGE SHAPE RUNS_FOLDER DATA_FOLDER. The model is random, of the named
shape, with the embedded tokenizer (its 1,024 ids fit); rows and benchmarks are the real ones. The
GPU's memory is capped to what a T4 leaves. The stages train-methods and merge-methods do it with
each method's adapter: the first where Unsloth trains, the second in a process without it.
"""

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import llama_shapes
import torch
import unsloth_methods

from slimlib.adapters import saving
from slimlib.common.files import atomic_path, read_json, write_json
from slimlib.common.hardware import free_memory, peak_memory_gb, resolve_dtype, unsloth_loaded
from slimlib.config import Study
from slimlib.evaluate import harness
from slimlib.merge import plain
from slimlib.methods import definitions
from slimlib.model.load import load_base
from slimlib.run import Run
from slimlib.studies.get import get_study
from slimlib.train import finetune as train

ARM = "llama-2k"
NEW_TOKENS = 12

T4_GIB = 14.7  # usable, as Unsloth prints it
CONTEXT_GIB = 0.7  # of it for the CUDA context, which torch's allocator does not count


@dataclass(frozen=True)
class Shape:
    """A random model and how it is trained; the rest of the settings are the paper's."""

    config: dict[str, Any]
    dtype: str
    settings: dict[str, Any]


SHAPES = {
    # in float16 as on a T4, on any GPU
    "llama-3.2-1b": Shape(
        llama_shapes.SHAPES["llama-3.2-1b"], "float16", {"data.n": 320, "limit": 8}
    ),
    # the same functions where there is no GPU
    "two-layers": Shape(
        {
            **llama_shapes.SHAPES["llama-3.2-1b"],
            "hidden_size": 128,
            "intermediate_size": 320,
            "num_hidden_layers": 2,
            "num_attention_heads": 8,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "vocab_size": 1024,
        },
        "float32",
        {"data.n": 40, "limit": 2, "train.gradient_accumulation_steps": 1},
    ),
}


def linears(shape: Shape) -> dict[str, tuple[int, int]]:
    """The seven projections of every layer: path -> (d_in, d_out)."""
    config = shape.config
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    values = config["num_key_value_heads"] * config["head_dim"]
    queries = config["num_attention_heads"] * config["head_dim"]
    sizes = {
        "self_attn.q_proj": (hidden, queries),
        "self_attn.k_proj": (hidden, values),
        "self_attn.v_proj": (hidden, values),
        "self_attn.o_proj": (queries, hidden),
        "mlp.gate_proj": (hidden, inner),
        "mlp.up_proj": (hidden, inner),
        "mlp.down_proj": (inner, hidden),
    }
    layers = range(config["num_hidden_layers"])
    return {f"model.layers.{i}.{name}": size for i in layers for name, size in sizes.items()}


def make_checkpoint(folder: Path, config: dict[str, Any]) -> None:
    """Random weights in bfloat16, as the hub's are."""
    tokenizer = llama_shapes.embedded_tokenizer()
    with atomic_path(folder) as temporary:
        model = llama_shapes.random_llama(config, tokenizer, torch.bfloat16)
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)


def study(shape: Shape, checkpoint: Path, data: Path) -> Study:
    """The paper's fine-tuned arm, 20 steps, merged on each of the three bases."""
    settings = {
        "model": str(checkpoint),
        "arms": "llama-2k,llama-2k-requantised",
        "model.dtype": shape.dtype,
        "merge.dtype": shape.dtype,
        "evaluate.dtype": shape.dtype,
        "evaluate.max_length": 4096,  # the small tokenizer needs more tokens than Llama's
        "batch_size": 4,
        "train.learning_rate": 1e-3,
        "train.max_steps": 20,
        "train.logging_steps": 1,
        **shape.settings,
    }
    paper = get_study("paper", str(data), **settings)
    tuned = paper["llama-2k"]
    on_16bit = replace(
        tuned,
        name="llama-2k-16bit",
        adapter_from=tuned.name,
        merge=replace(tuned.merge, merge_base="16bit"),
    )
    return replace(paper, arms=(*paper.arms, on_16bit))


def method_run(method: str, shape: Shape, runs: Path, data: Path) -> Run:
    """The run of the same arm with another method, in a folder of its own."""
    whole = study(shape, runs / "checkpoint", data)
    arm = whole[ARM]
    arm = replace(arm, adapter=arm.adapter.as_method(method))
    return Run(replace(whole, arms=(arm,)), runs / method)


def train_methods(shape: Shape, runs: Path, data: Path) -> None:
    """Fine-tune with each method, generate, and compare the fused functions that were installed."""
    seen = unsloth_methods.watch()
    for method in definitions.METHODS:
        run = method_run(method, shape, runs, data)
        train.finetune_arm(run, ARM)
        model = seen["trainer"].model
        found = {
            **unsloth_methods.outcome(seen),
            "peak_memory_gb": peak_memory_gb(),
            "texts": generate(model, seen["tokenizer"]),
            "unsloth": unsloth_loaded(),
            "fused": fused(model, resolve_dtype(shape.dtype)) if unsloth_loaded() else {},
        }
        write_json(run.root / "trained.json", found)
        seen.clear()
        del model
        free_memory()


def generate(model: Any, tokenizer: Any) -> list[dict[str, Any]]:
    """What greedy decoding adds to two prompts, by Unsloth's own decoder where it is there."""
    if unsloth_loaded():
        from unsloth import FastLanguageModel

        FastLanguageModel.for_inference(model)
    model.eval()
    found = []
    for text in plain.CHECK_PROMPTS[:2]:
        batch = tokenizer(text, return_tensors="pt").to(model.device)
        given = {key: batch[key] for key in ("input_ids", "attention_mask")}
        with torch.inference_mode():
            out = model.generate(**given, do_sample=False, max_new_tokens=NEW_TOKENS)
        found.append({"ids": out[0].tolist(), "prompt": batch["input_ids"].shape[1]})
    return found


def fused(model: Any, dtype: Any) -> dict[str, Any]:
    """The installed functions of every decoder layer, with an adapter of visible effect."""
    unsloth_methods.randomise(model, dtype)
    layers = range(len(model.get_base_model().model.layers))
    return {
        "decode": unsloth_methods.decode(model, dtype),
        "blocks": [unsloth_methods.blocks(model, i, patched=True, dtype=dtype) for i in layers],
    }


def merge_methods(shape: Shape, runs: Path, data: Path) -> None:
    """Merge each method's adapter, and ask plain PEFT for the tokens that were generated."""
    for method in definitions.METHODS:
        run = method_run(method, shape, runs, data)
        plain.merge_arm(run, ARM)
        config = run.study[ARM]
        base = load_base(config.model, config.adapter)
        model = saving.load_adapter(base, run.adapter_folder(ARM)).eval()
        gaps = [gap(model, **text) for text in read_json(run.root / "trained.json")["texts"]]
        write_json(run.root / "plain.json", {"gaps": gaps, "unsloth": unsloth_loaded()})
        del base, model
        free_memory()


def gap(model: Any, ids: list[int], prompt: int) -> list[float]:
    """By how much each generated token's logit falls short of the highest, as a share of the range.

    0 throughout: greedy decoding with this model gives these tokens. Two that are equal but for
    rounding may change places, so equality of the tokens would ask too much in float16.
    """
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids], device=model.device)).logits[0].float()
    before = logits[prompt - 1 : -1]  # what precedes each new token
    chosen = before.gather(1, torch.tensor(ids[prompt:], device=before.device)[:, None])[:, 0]
    highest, lowest = before.max(1).values, before.min(1).values
    return ((highest - chosen) / (highest - lowest)).tolist()


def cap_memory() -> None:
    """Leave torch no more of the GPU than a T4 has."""
    if torch.cuda.is_available():
        total = torch.cuda.get_device_properties(0).total_memory / 2**30
        torch.cuda.set_per_process_memory_fraction(min(1.0, (T4_GIB - CONTEXT_GIB) / total))


def main(stage: str, shape: Shape, runs: Path, data: Path) -> None:
    checkpoint = runs / "checkpoint"
    if not checkpoint.exists():
        make_checkpoint(checkpoint, shape.config)
    cap_memory()
    if stage.endswith("-methods"):
        {"train-methods": train_methods, "merge-methods": merge_methods}[stage](shape, runs, data)
        return
    run = Run(study(shape, checkpoint, data), runs)
    if stage == "finetune":
        train.finetune_arm(run, ARM)
    elif stage == "merge":
        for arm in run.study.arms:
            plain.merge_arm(run, arm.name)
    else:
        harness.evaluate_arm(run, ARM)


if __name__ == "__main__":
    main(sys.argv[1], SHAPES[sys.argv[2]], Path(sys.argv[3]), Path(sys.argv[4]))

"""One stage of the paper's study at a given shape, in a process of its own: what test_gpu.py runs.

python tests/gpu_path.py STAGE SHAPE RUNS_FOLDER DATA_FOLDER. The model is random, of the named
shape, with the embedded tokenizer (its 1,024 ids fit); rows and benchmarks are the real ones. The
GPU's memory is capped to what a T4 leaves.
"""

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from slimlib import adapters, evaluate, train
from slimlib.config import Study, get_study
from slimlib.files import atomic_path
from slimlib.runs import Run

T4_GIB = 14.7  # usable, as Unsloth prints it
CONTEXT_GIB = 0.7  # of it for the CUDA context, which torch's allocator does not count


@dataclass(frozen=True)
class Shape:
    """A random model and how it is trained; the rest of the settings are the paper's."""

    config: dict[str, int]
    dtype: str
    settings: dict[str, Any]


SHAPES = {
    # meta-llama/Llama-3.2-1B, config.json; in float16 as on a T4, on any GPU
    "llama-3.2-1b": Shape(
        {
            "hidden_size": 2048,
            "intermediate_size": 8192,
            "num_hidden_layers": 16,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "head_dim": 64,
            "vocab_size": 128256,
        },
        "float16",
        {"data.n": 320, "limit": 8},
    ),
    # the same functions where there is no GPU
    "two-layers": Shape(
        {
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


def make_checkpoint(folder: Path, config: dict[str, int]) -> None:
    """Random weights in bfloat16, as the hub's are, with Llama 3.2's tied and scaled embeddings."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

    from slimlib.model import resolve_name

    tokenizer = AutoTokenizer.from_pretrained(resolve_name("micro:base"))
    rope = {
        "rope_type": "llama3",
        "rope_theta": 500000.0,
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    llama = LlamaConfig(
        **config,
        max_position_embeddings=131072,
        rope_parameters=rope,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    with atomic_path(folder) as temporary:
        AutoModelForCausalLM.from_config(llama, dtype=torch.bfloat16).save_pretrained(temporary)
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
    paper = get_study("paper", data=str(data), **settings)
    tuned = paper["llama-2k"]
    on_16bit = replace(
        tuned,
        name="llama-2k-16bit",
        adapter_from=tuned.name,
        merge=replace(tuned.merge, merge_base="16bit"),
    )
    return replace(paper, arms=(*paper.arms, on_16bit))


def cap_memory() -> None:
    """Leave torch no more of the GPU than a T4 has."""
    import torch

    if torch.cuda.is_available():
        total = torch.cuda.get_device_properties(0).total_memory / 2**30
        torch.cuda.set_per_process_memory_fraction(min(1.0, (T4_GIB - CONTEXT_GIB) / total))


def main(stage: str, shape: Shape, runs: Path, data: Path) -> None:
    checkpoint = runs / "checkpoint"
    if not checkpoint.exists():
        make_checkpoint(checkpoint, shape.config)
    cap_memory()
    run = Run(study(shape, checkpoint, data), runs)
    if stage == "finetune":
        train.finetune_arm(run, "llama-2k")
    elif stage == "merge":
        for arm in run.study.arms:
            adapters.merge_arm(run, arm.name)
    else:
        evaluate.evaluate_arm(run, "llama-2k")


if __name__ == "__main__":
    main(sys.argv[1], SHAPES[sys.argv[2]], Path(sys.argv[3]), Path(sys.argv[4]))

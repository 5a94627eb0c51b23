"""Attaching a LoRA adapter to a quantised model, and merging it into plain weights.

y = (W + s B A) x with W frozen in 4 bit (paper eq. 1.3; s = lora_alpha / r). Merging writes
W + s B A as 16- or 32-bit safetensors that stock transformers loads. There are three choices of W:

    dequant_nf4   what the adapter was trained against: the NF4 weights, dequantised
    16bit         the original weights, which differ from those by the quantisation error
    requantised   as run by the author: PEFT's merge on 4 bit, which quantises W + dW again and
                  so loses most of a small dW
"""

from __future__ import annotations

import gc
from dataclasses import replace
from pathlib import Path
from typing import Any

from slimlib.config import AdapterConfig, ModelConfig, RunConfig
from slimlib.files import atomic_path
from slimlib.hardware import find_device, peak_memory_gb, resolve_dtype
from slimlib.model import load_transformers, resolve_name, unsloth_loaded
from slimlib.runs import Run, in_clean_process

# Largest allowed |merged - adapter| as a share of the logits' range, by the dtype written.
TOLERANCE = {"float32": 1e-4, "float16": 2e-2, "bfloat16": 1e-1}
CHECK_PROMPTS = (
    "Question: A box holds 5 pens. How many pens are in 6 boxes?\nAnswer:",
    "The quick brown fox jumps over the lazy dog.",
    "<|user|>\nInstruction: Name three colours.\nInput: \nOutput:\n<|assistant|>\n",
    "Water boils at one hundred degrees. Ice melts at",
)


def attach(model: Any, config: AdapterConfig, seed: int, max_seq_length: int) -> Any:
    """Attach a trainable LoRA adapter, its weights in float32.

    Args:
        model: from `load_model`, by either backend.
        config: r, lora_alpha, lora_dropout, target_modules.
        seed: of the initial A (B starts at zero, so the model is unchanged at step 0).
        max_seq_length: tokens; Unsloth sizes its buffers by it.

    Raises:
        ValueError: no module of the model has a name in target_modules (PEFT's message).
    """
    import torch

    torch.manual_seed(seed)
    lora = {
        "r": config.r,
        "lora_alpha": config.lora_alpha,
        "lora_dropout": config.lora_dropout,
        "target_modules": list(config.target_modules),
        "bias": "none",
    }
    if unsloth_loaded():
        from unsloth import FastLanguageModel

        model = FastLanguageModel.get_peft_model(
            model,
            use_gradient_checkpointing="unsloth" if find_device().kind == "cuda" else False,
            random_state=seed,
            max_seq_length=max_seq_length,
            **lora,
        )
    else:
        from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training

        checkpointing = find_device().kind == "cuda"  # trades time for memory; a CPU has memory
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=checkpointing)
        model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **lora))
    trainables_to_float32(model)
    return model


def trainables_to_float32(model: Any) -> None:
    """Store the trainable weights in float32, whatever the frozen ones are in.

    fp16's GradScaler needs them so, and bfloat16 would round most steps of Adam away. TRL casts the
    adapter of a quantised model to bfloat16, so this is done once more when the trainer is built.
    """
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


# --------------------------------------------------------------------------------------- merging


def merge_arm(run: Run, arm: str) -> dict[str, Any] | None:
    """Write an arm's merged/ folder: its adapter in the weights, or the quantised model alone.

    Returns:
        The merge part of the record, with the logit check; None for an arm that writes no weights.

    Raises:
        ValueError: the adapter is not there yet.
        RuntimeError: the merged logits differ from the adapter's by more than the tolerance.
    """
    config = run.study[arm]
    if not config.writes_weights:
        print(f"merge {arm}: nothing to merge, {config.model.name} is evaluated as it is")
        return None
    adapter = run.adapter_folder(arm) if config.adapter else None
    if adapter and not (adapter / "adapter_config.json").exists():
        raise ValueError(f"arm {arm!r}: no adapter in {adapter}; fine-tune it first")
    if unsloth_loaded() and not run.done(arm, "merge"):
        in_clean_process(merge_arm, run, arm)
    target = run.arm_folder(arm) / "merged"
    return run.stage(arm, "merge", lambda: write_merged(config, adapter, target))


def write_merged(config: RunConfig, adapter: Path | None, target: Path) -> dict[str, Any]:
    """Merge, save atomically, and check the saved model against the 4-bit one it stands for."""
    from transformers import AutoTokenizer

    name = resolve_name(config.model.name)
    # the vocabulary and pad token as they were: evaluation must see every arm with one tokenizer
    tokenizer = AutoTokenizer.from_pretrained(name, revision=config.model.revision)
    expected = reference_logits(config.model, adapter, tokenizer)
    merge_base = config.merge.merge_base if adapter else "dequant_nf4"
    model = merged_model(config.model, adapter, merge_base)
    with atomic_path(target) as folder:
        model.to(resolve_dtype(config.merge.dtype)).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        del model
        free_memory()
        check = compare_logits(expected, saved_logits(folder, tokenizer), config.merge.dtype)
        if merge_base == "dequant_nf4" and not check["equal"]:
            raise RuntimeError(
                f"arm {config.name}: merged logits differ from the adapter's by "
                f"{check['share_of_range']:.1e} of their range, tolerance {check['tolerance']:.0e}"
            )
    return {
        "merge_base": merge_base,
        "dtype": config.merge.dtype,
        "logit_check": check,
        "peak_memory_gb": round(peak_memory_gb(), 3),
    }


def merged_model(config: ModelConfig, adapter: Path | None, merge_base: str) -> Any:
    """A plain float32 model of W (+ s B A), by one of the three choices of W."""
    from peft import PeftModel

    if merge_base == "16bit":
        model = load_transformers(replace(config, load_in_4bit=False, dtype="float32"))
    else:
        model = load_transformers(replace(config, load_in_4bit=True))
    if merge_base == "requantised":
        return PeftModel.from_pretrained(model, adapter).merge_and_unload().dequantize().float()
    if merge_base == "dequant_nf4":
        model = model.dequantize().float()
    if adapter is None:
        return model
    return PeftModel.from_pretrained(model, adapter).merge_and_unload()


def reference_logits(config: ModelConfig, adapter: Path | None, tokenizer: Any) -> list[Any]:
    """Logits of what was trained: the 4-bit model with its adapter."""
    model = load_transformers(replace(config, load_in_4bit=True))
    if adapter:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, adapter)
    logits = _logits(model, tokenizer)
    del model
    free_memory()
    return logits


def saved_logits(folder: Path, tokenizer: Any) -> list[Any]:
    """Logits of a saved model as stock transformers loads it."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype="auto", device_map={"": find_device().kind}
    )
    return _logits(model, tokenizer)


def _logits(model: Any, tokenizer: Any) -> list[Any]:
    import torch

    model.eval()
    with torch.no_grad():
        batches = [tokenizer(text, return_tensors="pt").to(model.device) for text in CHECK_PROMPTS]
        return [
            model(input_ids=b["input_ids"], attention_mask=b["attention_mask"]).logits.float().cpu()
            for b in batches
        ]


def compare_logits(expected: list[Any], found: list[Any], dtype: str) -> dict[str, Any]:
    """How far two lists of logits (1 x tokens x vocabulary) are apart, for the record."""
    import torch

    a, b = (torch.cat([x[0] for x in logits]) for logits in (expected, found))
    log_p, log_q = a.log_softmax(-1), b.log_softmax(-1)
    share = ((a - b).abs().max() / (a.max() - a.min())).item()
    return {
        "prompts": len(expected),
        "max_abs_difference": round((a - b).abs().max().item(), 6),
        "share_of_range": float(f"{share:.3e}"),
        "kl_nats": round((log_p.exp() * (log_p - log_q)).sum(-1).mean().item(), 6),
        "top1_agreement": round((a.argmax(-1) == b.argmax(-1)).float().mean().item(), 4),
        "tolerance": TOLERANCE[dtype],
        "equal": share <= TOLERANCE[dtype],
    }


def free_memory() -> None:
    """Give the memory of dropped models back, the GPU's too."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()

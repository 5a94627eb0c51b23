"""Merging an adapter into plain weights.

y = (W + s B A) x with W frozen in 4 bit (paper eq. 1.3; s = lora_alpha / r). Merging writes
W + s B A as 16- or 32-bit safetensors that stock transformers loads. There are three choices of W:

    dequant_nf4   the quantised weights, dequantised: what a 4-bit adapter was trained on
    16bit         the un-quantised weights: what an adapter of load_in_4bit=false was trained on;
                  for a 4-bit one they differ from what it saw by the quantisation error
    requantised   as run by the author: PEFT's merge on 4 bit, which quantises W + dW again and
                  so loses most of a small dW
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from slimlib.adapters.places import adapter_path
from slimlib.adapters.saving import load_adapter
from slimlib.common import progress
from slimlib.common.checked import SECRET
from slimlib.common.files import atomic_path
from slimlib.common.flaky import again
from slimlib.common.hardware import (
    find_device,
    free_memory,
    peak_memory_gb,
    reset_peak_memory,
    resolve_dtype,
    unsloth_loaded,
)
from slimlib.common.hub import fetched
from slimlib.config import Arm
from slimlib.model.load import choose_backend, load_base, resolve_name
from slimlib.model.stored import GENERATION, generation_file, load_whole
from slimlib.run import Run, in_clean_process
from slimlib.train.finetune import finetune_arm

# Largest allowed |merged - adapter| as a share of the logits' range, by the dtype written.
TOLERANCE = {"float32": 1e-4, "float16": 2e-2, "bfloat16": 1e-1}
CHECK_PROMPTS = (
    "Question: A box holds 5 pens. How many pens are in 6 boxes?\nAnswer:",
    "The quick brown fox jumps over the lazy dog.",
    "<|user|>\nInstruction: Name three colours.\nInput: \nOutput:\n<|assistant|>\n",
    "Water boils at one hundred degrees. Ice melts at",
)


def merge_arm(run: Run, arm: str) -> dict[str, Any] | None:
    """Write an arm's merged/ folder: adapter in the weights, or the quantised model.

    Returns:
        The merge part of the record, with the logit check; None for an arm that writes no weights.

    Example:

        run = slimlib.open_run("micro")
        entry = slimlib.merge_arm(run, "llama-2k")

    Raises:
        ValueError: nothing was trained yet.
        RuntimeError: the merged logits differ from the adapter's by more than the tolerance.
    """
    config = run.study[arm]
    if not config.writes_weights:
        progress.say(f"merge {arm}: nothing to merge, {config.model.name} is evaluated as it is")
        return None
    adapter = run.adapter_folder(arm) if config.adapter else None
    if not run.done(arm, "merge"):
        if adapter:
            _bring_adapter(run, config.adapter_from or arm)
        if unsloth_loaded():
            in_clean_process(merge_arm, run, arm)
    target = run.arm_folder(arm) / "merged"
    return run.stage(arm, "merge", lambda: write_merged(config, adapter, target))


def _bring_adapter(run: Run, arm: str) -> None:
    """Train again what was trained once and is no longer as it was.

    Raises:
        ValueError: it was never trained.
    """
    if not run.state(arm, "finetune").again:
        adapter_path(run.arm_folder(arm) / "adapter")
        return
    backend = choose_backend(run.study[arm].model.backend)
    if backend == "unsloth" and not unsloth_loaded():
        in_clean_process(finetune_arm, run, arm)
    finetune_arm(run, arm)


def write_merged(config: Arm, adapter: Path | None, target: Path) -> dict[str, Any]:
    """Merge, save atomically, and check the saved model against the base and adapter it is of."""
    reset_peak_memory()
    from transformers import AutoTokenizer

    name = resolve_name(config.model.name)
    # the vocabulary and pad token as they were: evaluation must see every arm with one tokenizer
    where = fetched(name, config.model.revision)
    tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False, **where)
    merge_base = config.merge.merge_base if adapter else "dequant_nf4"
    expected = reference_logits(config, adapter, merge_base, tokenizer)
    model = merged_model(config, adapter, merge_base)
    quantisation = getattr(model, "quantisation", None)
    with atomic_path(target) as folder:
        again(
            partial(save_plain, model.to(resolve_dtype(config.merge.dtype)), config, folder), folder
        )
        tokenizer.save_pretrained(folder)
        del model
        free_memory()
        found = saved_logits(folder, tokenizer)
        check = compare_logits(expected, found, config.merge.dtype)
        if merge_base != "requantised" and not check["equal"]:
            raise RuntimeError(
                f"arm {config.name}: merged logits differ from the adapter's by "
                f"{check['share_of_range']:.1e} of their range, tolerance {check['tolerance']:.0e}"
            )
    return {
        "merge_base": merge_base,
        "dtype": config.merge.dtype,
        "logit_check": check,
        **({"quantisation": quantisation} if quantisation else {}),
        "peak_memory_gb": round(peak_memory_gb(), 3),
    }


def merged_model(config: Arm, adapter: Path | None, merge_base: str) -> Any:
    """A plain float32 model of W (+ scale s B A), by one of the three choices of W."""
    model = base_of(config, merge_base)
    if merge_base == "requantised":
        return dequantised(_with_adapter(model, config, adapter).merge_and_unload()).float()
    if merge_base == "dequant_nf4" and config.model.by_bitsandbytes:
        model = dequantised(model)
    model = model.float()
    return _with_adapter(model, config, adapter).merge_and_unload() if adapter else model


def _with_adapter(model: Any, config: Arm, adapter: Path) -> Any:
    return load_adapter(model, adapter, scale=config.merge.scale)


def dequantised(model: Any) -> Any:
    """A 4-bit model with plain weights, which can be saved."""
    import torch

    model = model.dequantize(torch.float32)
    # how transformers read a 4-bit file, which it would undo in what it saves, and cannot
    if read_by := getattr(model, "_weight_conversions", None):
        model._weight_conversions = [step for step in read_by if not _reads_4bit(step)]
    return model


def _reads_4bit(step: Any) -> bool:
    return any(type(op).__name__.startswith("Bnb4bit") for op in getattr(step, "operations", ()))


def drop_tokens(config: Any) -> None:
    """Take a hub's token out of a model's config, which is saved with the weights."""
    held = [k for k, v in vars(config).items() if isinstance(v, str) and SECRET.search(v)]
    for key in held:
        delattr(config, key)


def save_plain(model: Any, config: Arm, folder: Path) -> None:
    """Write a plain model, its generation settings as the base has them, odd ones too."""
    from transformers import GenerationConfig

    own = generation_file(resolve_name(config.model.name), config.model.revision)
    if own:  # transformers refuses to write settings that contradict each other, as some are
        model.generation_config = GenerationConfig()
    drop_tokens(model.config)
    model.save_pretrained(folder)
    if own:
        shutil.copyfile(own, folder / GENERATION)


def base_of(config: Arm, merge_base: str) -> Any:
    """The base that a merge base names: un-quantised, or quantised as it is trained on."""
    if merge_base != "16bit":
        return load_base(replace(config.model, load_in_4bit=True), config.adapter)
    if config.model.load_in_4bit:  # the adapter has seen none of it: take it as exact as it is
        return load_base(replace(config.model, load_in_4bit=False, dtype="float32"))
    return load_base(config.model)


def reference_logits(
    config: Arm, adapter: Path | None, merge_base: str, tokenizer: Any
) -> list[Any]:
    """Logits that the merged model must have: of the base that is named, with its adapter.

    They are computed in float32 with the weights as they were trained on, so that nothing but the
    rounding to the written dtype sets the two apart. Requantised weights are compared with what
    was trained.
    """
    model = in_float32(base_of(config, merge_base))
    if adapter:
        model = _with_adapter(model, config, adapter)
    logits = _logits(model, tokenizer)
    del model
    free_memory()
    return logits


def in_float32(model: Any) -> Any:
    """A model that computes in float32, its 4-bit layers as the weights that they multiply by.

    Those are read off the layer's own forward pass, on the identity: not from what dequantises.
    """
    import torch
    from bitsandbytes.nn import Linear4bit

    for name, layer in [*model.named_modules()]:
        if isinstance(layer, Linear4bit):
            model.set_submodule(name, _as_it_multiplies(layer))
    return torch.nn.Module.float(model)  # transformers' own refuses what was loaded quantised


def _as_it_multiplies(layer: Any) -> Any:
    import torch

    bias, layer.bias = layer.bias, None
    identity = torch.eye(layer.in_features, dtype=layer.compute_dtype, device=layer.weight.device)
    with torch.no_grad():
        weight = layer(identity).T.contiguous()
    plain = torch.nn.Linear(layer.in_features, layer.out_features, bias=False, device="meta")
    plain.weight, plain.bias = torch.nn.Parameter(weight), bias
    return plain


def saved_logits(folder: Path, tokenizer: Any) -> list[Any]:
    """Logits of a saved model as stock transformers loads it."""
    model = load_whole(str(folder), dtype="auto", device_map={"": find_device().kind})
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
    """How far two lists of logits (1 x tokens x vocabulary) are apart, for the record.

    Args:
        expected, found: one of each prompt.
        dtype: that the weights were written in.
    """
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

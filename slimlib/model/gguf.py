"""GGUF files: weights by transformers, dequantised; everything else from the file's metadata."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slimlib.common.hardware import find_device, resolve_dtype
from slimlib.model.gguf_tokenizer import build_tokenizer

# Llama 3.1 to 3.3: a file holds what these make of the frequencies, not the numbers themselves.
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


def load_gguf(path: str | Path, dtype: str = "auto") -> tuple[Any, Any]:
    """Load a GGUF file: its weights, dequantised, and its tokenizer.

    Args:
        path: of the file.
        dtype: of the weights: auto, float16, bfloat16 or float32.

    Returns:
        (model, tokenizer), which `save_pretrained` writes as an ordinary folder.

    Raises:
        ValueError: the package gguf is missing; no whole GGUF file; an architecture, a tokenizer or
            a scaling of positions that cannot be read rightly. Names the file.
    """
    path = Path(path)
    said = read_metadata(path)
    tokenizer = build_tokenizer(said, path)
    model = _load_weights(path, said, dtype)
    _set_ends(model, said)
    tokenizer.model_max_length = model.config.max_position_embeddings
    return model, tokenizer


def read_metadata(path: Path) -> dict[str, Any]:
    """The key-value part of a GGUF file; no tensor is read.

    Raises:
        ValueError: the package gguf is missing; no file, no GGUF, a cut-off one, or a part.
    """
    if importlib.util.find_spec("gguf") is None:
        raise ValueError(f"{path.name} is a GGUF file: pip install gguf to read it")
    from gguf import GGUFReader

    if not path.is_file():
        raise ValueError(f"GGUF file {path} does not exist")
    try:
        reader = GGUFReader(path)
    except (ValueError, IndexError, KeyError, OSError, OverflowError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{path}: is no whole GGUF file ({reason})") from None
    said = {key: field.contents() for key, field in reader.fields.items()}
    if said.get("split.count", 1) > 1:
        raise ValueError(
            f"{path.name} is one of {said['split.count']} parts: join them into one file with "
            "llama.cpp's gguf-split --merge"
        )
    factors = next((t.data for t in reader.tensors if t.name == "rope_freqs.weight"), None)
    if factors is not None:
        said["rope_freqs.weight"] = [float(x) for x in factors]
    return said


def _load_weights(path: Path, said: Mapping[str, Any], dtype: str) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    where = {"gguf_file": path.name}
    if rope := scaled_rope(said, path):
        config = AutoConfig.from_pretrained(path.parent, trust_remote_code=False, **where)
        config.rope_parameters = rope
        where["config"] = config
    model, info = AutoModelForCausalLM.from_pretrained(
        path.parent,
        dtype=resolve_dtype(dtype),
        device_map={"": find_device().kind},
        output_loading_info=True,
        trust_remote_code=False,
        **where,
    )
    if info["missing_keys"]:
        missing = sorted(info["missing_keys"])
        raise ValueError(
            f"{path.name}: {len(missing)} weights of the model are not found in it, such as "
            f"{missing[0]}; transformers does not read this kind of GGUF whole"
        )
    plain = {"quantization_config", "_pre_quantization_dtype"} & vars(model.config).keys()
    for name in plain:  # the weights are plain now; a saved config must not say otherwise
        delattr(model.config, name)
    model.hf_quantizer, model.is_quantized = None, False
    return model


def scaled_rope(said: Mapping[str, Any], path: Path) -> dict[str, Any] | None:
    """The config's rope_parameters where the file scales its positions; None where it does not.

    transformers drops the file's scaling without a word, which shows in long texts only.

    Raises:
        ValueError: a scaling that is neither none nor Llama 3's.
    """
    about = f"{said['general.architecture']}.rope"
    kind, factors = said.get(f"{about}.scaling.type", "none"), said.get("rope_freqs.weight")
    if kind != "none":
        raise ValueError(f"{path.name}: its positions are scaled by {kind!r}, which is not read")
    if factors is None or max(factors) == 1:
        return None
    theta = said.get(f"{about}.freq_base", 10_000.0)
    rope = {**LLAMA3_ROPE, "rope_theta": theta, "factor": float(max(factors))}
    wanted = llama3_factors(rope, len(factors))
    if not all(math.isclose(x, y, rel_tol=1e-3) for x, y in zip(factors, wanted, strict=True)):
        raise ValueError(
            f"{path.name}: its positions are scaled by other factors than Llama 3's, which cannot "
            "be said in a config of transformers"
        )
    return rope


def llama3_factors(rope: Mapping[str, Any], count: int) -> list[float]:
    """By how much Llama 3.1 slows each of `count` frequencies: from 1 up to its factor."""
    lowest, highest = rope["low_freq_factor"], rope["high_freq_factor"]
    factors = []
    for i in range(count):
        turns = rope["original_max_position_embeddings"] / (
            2 * math.pi * rope["rope_theta"] ** (i / count)
        )  # of this frequency, in the window it was trained with
        kept = min(1.0, max(0.0, (turns - lowest) / (highest - lowest)))
        factors.append(1 / (kept + (1 - kept) / rope["factor"]))
    return factors


def _set_ends(model: Any, said: Mapping[str, Any]) -> None:
    """The ids at which texts begin and end, from the file; a turn's end ends an answer too."""
    ids = {
        role: said.get(f"tokenizer.ggml.{name}_token_id")
        for role, name in {"bos": "bos", "eos": "eos", "pad": "padding"}.items()
    }
    for role, value in ids.items():
        setattr(model.config, f"{role}_token_id", value)
        setattr(model.generation_config, f"{role}_token_id", value)
    ends = dict.fromkeys([ids["eos"], said.get("tokenizer.ggml.eot_token_id")])
    ends.pop(None, None)
    if len(ends) > 1:
        model.generation_config.eos_token_id = [*ends]

"""Tiny GGUF files, written with llama.cpp's own package."""

from pathlib import Path
from typing import Any

import numpy as np

# Names of Llama's tensors in a GGUF file.
OUTSIDE = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
INSIDE = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def write_gguf(path: Path, model: Any, said: dict[str, Any], factors: Any = None) -> Path:
    """Write a Llama with a tokenizer's metadata ("pre": ..., "tokens": [...], ...) in float32.

    Args:
        path: of the file.
        model: a LlamaForCausalLM.
        said: after "tokenizer.ggml."; keys with a dot as they are.
        factors: of the frequencies of its positions, or None.
    """
    from gguf import GGUFWriter

    config = model.config
    writer = GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_vocab_size(config.vocab_size)
    for key, value in said.items():
        _add(writer, key if "." in key else f"tokenizer.ggml.{key}", value)
    for name, tensor in model.state_dict().items():
        writer.add_tensor(*_tensor(name, tensor.float().numpy(), config))
    if factors is not None:
        writer.add_tensor("rope_freqs.weight", np.asarray(factors, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add(writer: Any, key: str, value: Any) -> None:
    kinds = {str: "string", bool: "bool", int: "uint32", list: "array"}
    getattr(writer, f"add_{kinds[type(value)]}")(key, value)


def _tensor(name: str, weight: np.ndarray, config: Any) -> tuple[str, np.ndarray]:
    """A tensor's name there; q and k with the halves of each head interleaved, as llama.cpp has."""
    short = name.removesuffix(".weight")
    if short in OUTSIDE:
        return f"{OUTSIDE[short]}.weight", weight
    _, _, layer, inner = short.split(".", 3)
    heads = {"self_attn.q_proj": config.num_attention_heads}
    heads["self_attn.k_proj"] = config.num_key_value_heads
    if n := heads.get(inner):
        weight = weight.reshape(n, 2, -1, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)
    return f"blk.{layer}.{INSIDE[inner]}.weight", np.ascontiguousarray(weight)

"""Random models of real Llama shapes, as in their config.json, with the embedded tokenizer's ids.

They run without a download: the 1,024 ids of the embedded tokenizer are the first of the real
vocabulary, whose size the embeddings keep.
"""

from typing import Any

# as LlamaConfig takes them
SHAPES: dict[str, dict[str, Any]] = {
    "llama-3.2-1b": {  # meta-llama/Llama-3.2-1B
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "vocab_size": 128256,
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": True,
        "rope_parameters": {
            "rope_type": "llama3",
            "rope_theta": 500000.0,
            "factor": 32.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        },
    },
    "tinyllama-1.1b": {  # TinyLlama/TinyLlama-1.1B-Chat-v1.0
        "hidden_size": 2048,
        "intermediate_size": 5632,
        "num_hidden_layers": 22,
        "num_attention_heads": 32,
        "num_key_value_heads": 4,
        "head_dim": 64,
        "vocab_size": 32000,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": False,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    },
}


def embedded_tokenizer() -> Any:
    """The tokenizer of the embedded checkpoints."""
    from transformers import AutoTokenizer

    from slimlib.model.load import resolve_name

    return AutoTokenizer.from_pretrained(resolve_name("micro:base"))


def random_llama(config: dict[str, Any], tokenizer: Any, dtype: Any) -> Any:
    """A Llama of this shape with random weights (seed 0), ended and padded by the tokenizer's."""
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    llama = LlamaConfig(
        **config,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(llama, dtype=dtype)

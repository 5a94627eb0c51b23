"""Whether a model can be computed SlimLM's way: what is known to differ, then a trial.

The trial is the rule: the same tokens, packed, behind a prefix and decoded in buffers, must give
what HFLM's plain pass gives. It is what tells ALiBi, recurrent layers, prompt tuning and heads that
scale their logits from models that only need positions and a cache.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from accelerate.utils.memory import should_reduce_batch_size

from slimlib.common.hardware import unsloth_loaded
from slimlib.scoring.cache import KeysValues
from slimlib.scoring.decoding import decode, prefill
from slimlib.scoring.endings import compute_prefix, packed_hidden
from slimlib.scoring.forward import ATTENTION, Forward, noting_windows
from slimlib.scoring.packing import Tokens, pack

SLIDING = "sliding_attention"  # the kind of a layer that has a window, in `layer_types`

# Differences of logits, as a share of their range: rounding, and what no rounding explains. In
# float32 at most 4e-7 was measured where models are computed alike.
TOLERANCE = 1e-5
HALF_TOLERANCE = 0.05
# What a model may raise that does not know how to be called so.
REFUSALS = (TypeError, ValueError, RuntimeError, AttributeError, KeyError, IndexError)

# Fields of a generation config that leave greedy decoding as it is, whatever they hold.
IGNORED = frozenset(
    """bos_token_id eos_token_id pad_token_id decoder_start_token_id max_length
    do_sample temperature top_k top_p min_p top_h typical_p epsilon_cutoff eta_cutoff early_stopping
    length_penalty use_cache transformers_version num_return_sequences output_attentions
    output_hidden_states output_scores output_logits return_dict_in_generate renormalize_logits
    disable_compile compile_config cache_config max_cache_len num_assistant_tokens
    num_assistant_tokens_schedule assistant_confidence_threshold assistant_lookbehind
    target_lookbehind max_matching_ngram_size is_assistant""".split()
)
NEUTRAL = {
    "min_length": 0,
    "num_beams": 1,
    "num_beam_groups": 1,
    "repetition_penalty": 1.0,
    "encoder_repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "encoder_no_repeat_ngram_size": 0,
    "diversity_penalty": 0.0,
    "guidance_scale": 1.0,
    "cache_implementation": "dynamic",
}


def only_greedy(config: Any) -> bool:
    """Whether a generation config asks for nothing that changes greedy decoding."""
    return all(
        value is None or value is False or (name in NEUTRAL and value == NEUTRAL[name])
        for name, value in config.to_dict().items()
        if name not in IGNORED and not name.startswith("_")
    )


def out_of_memory(error: Exception) -> bool:
    """Whether less at once would help; torch has a class for it, but not on every device."""
    cublas = "CUBLAS_STATUS_ALLOC_FAILED" in str(error)
    return cublas or isinstance(error, torch.OutOfMemoryError) or should_reduce_batch_size(error)


def plain_network(model: Any) -> Any:
    """The model of transformers, its adapters in place, without PEFT's shell."""
    peft = sys.modules.get("peft")  # not imported: then it is no model of PEFT's
    return model.get_base_model() if peft and isinstance(model, peft.PeftModel) else model


def why_stock(lm: Any) -> str | None:
    """Why a model goes to HFLM's own code; None where it need not."""
    if lm.backend != "causal":
        return "it is an encoder-decoder model"
    if unsloth_loaded():
        return "Unsloth has replaced transformers' forward passes in this process"
    network = plain_network(lm.model)
    if (getattr(network, "tp_size", None) or 1) > 1:
        return "it is split by tensor parallelism"
    for adapter in (getattr(lm.model, "peft_config", None) or {}).values():
        if adapter.is_prompt_learning or getattr(adapter, "alora_invocation_tokens", None):
            return f"its adapter ({adapter.peft_type}) reads the prompt"
    config = network.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ()) - {"full_attention", SLIDING}
    if kinds:
        return f"it has layers of the kind {', '.join(sorted(kinds))}"
    if getattr(config, "attention_chunk_size", None) is not None:
        chunk = config.attention_chunk_size
        return f"attention_chunk_size={chunk}: not every token sees all before it"
    rope = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    if rope in ("dynamic", "longrope"):
        return f"its positions (rope_type={rope}) depend on the longest sequence of a batch"
    return _trial(lm)


def windows_of(config: Any) -> list[int | None]:
    """The sliding window of each layer, None where it sees all, as a text model's config has it."""
    window = getattr(config, "sliding_window", None)
    layers = getattr(config, "layer_types", None) or [SLIDING] * config.num_hidden_layers
    return [window if kind == SLIDING else None for kind in layers]


def _trial(lm: Any) -> str | None:
    try:
        share, allowed = _largest_difference(lm)
    except REFUSALS as error:
        if out_of_memory(error):
            raise
        text = str(error).partition("\n")[0]
        return f"it cannot be computed packed ({type(error).__name__}: {text})"
    if not share <= allowed:  # not a number is no proof either
        return f"packed, its logits differ by {share:.2g} of their range"
    return None


def _largest_difference(lm: Any) -> tuple[float, float]:
    """Logits computed SlimLM's way against HFLM's, and what is allowed: shares of their range."""
    config = plain_network(lm.model).config.get_text_config()
    vocabulary = min(len(lm.tokenizer), config.vocab_size)
    seed = torch.Generator().manual_seed(0)
    ids = torch.randint(vocabulary, (28,), generator=seed).tolist()
    sequences = [tuple(ids[:20]), tuple(ids[:9] + ids[20:])]  # nine tokens in common
    plain = [lm._model_call(torch.tensor([s], device=lm.device))[0].float() for s in sequences]
    extent = max(float(logits.max() - logits.min()) for logits in plain) or 1.0  # all alike
    forward = lm.make_forward()
    _check_head(forward, sequences[0], plain[0], extent)
    with forward.ready():
        if forward.network.config._attn_implementation != ATTENTION:
            raise TypeError("its attention is not one that transformers lets be chosen")
        _check_windows(forward, sequences[0], windows_of(config))
        found = [*_packed(forward, sequences, 4), *_decoded(forward, sequences[0], (12, 7))]
    wanted = [logits[4:] for logits in plain] + [plain[0][[12, 7]]]
    share = max(_gap(x, y) for x, y in zip(found, wanted, strict=True)) / extent
    half = {lm.model.dtype, lm.mixed_precision_dtype} & {torch.float16, torch.bfloat16}
    return share, HALF_TOLERANCE if half else TOLERANCE


def _gap(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a.float() - b.float()).abs().max())


def _check_head(forward: Forward, ids: Tokens, plain: torch.Tensor, extent: float) -> None:
    """Refuse a model that does more to its logits than the head: the same pass must give them."""
    tokens = torch.tensor([ids], device=forward.device)
    with torch.no_grad(), forward.autocast():
        logits = forward.head(forward.decoder(input_ids=tokens).last_hidden_state[0])
    if not _gap(logits, plain) <= TOLERANCE * extent:
        raise ValueError("its logits are not those of its head alone")


def _check_windows(forward: Forward, ids: Tokens, windows: list[int | None]) -> None:
    """Refuse a model that does not hand its layers' windows to the attention.

    The trial's sequences are shorter than most windows, so that their logits cannot tell.
    """
    with noting_windows() as seen:
        compute_prefix(forward, ids)
    if [*filter(None, seen)] != [*filter(None, windows)]:
        raise ValueError("its layers do not say their sliding window")


def _packed(forward: Forward, sequences: list[Tokens], start: int) -> list[torch.Tensor]:
    """Logits of sequences that share a prefix, from its end on."""
    cache = compute_prefix(forward, sequences[0][:start])
    packed = pack(sequences, start)
    hidden = packed_hidden(forward, packed, start, cache)
    return [forward.logits(hidden[path]) for path in packed.paths]


def _decoded(forward: Forward, ids: Tokens, sizes: tuple[int, int]) -> list[torch.Tensor]:
    """Logits of one step behind two beginnings of a sequence."""
    cache = KeysValues(2, len(ids))
    prefill(forward, cache, [ids[:size] for size in sizes])
    newest = torch.tensor([ids[size] for size in sizes], device=forward.device)
    lengths = torch.tensor(sizes, device=forward.device)
    return [forward.logits(decode(forward, cache, newest, lengths, max(sizes)))]

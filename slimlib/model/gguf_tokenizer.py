"""A GGUF file's tokenizer, from the file's own metadata.

transformers' converter reads the vocabulary and leaves the pre-tokenizer away: SmolLM2 then joins
digits that it was never shown joined, and every sum is tokenised otherwise than in training. So the
tokenizer is built here from what the file says: vocabulary, merges or scores, the kinds of tokens,
the pre-tokenizer's name, the special ids, and whether a begin or an end token is added.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

# What `tokenizer.ggml.pre` may be: names of one way to cut a text into words.
GPT2 = ("gpt-2", "phi-2", "olmo", "mpt", "granite-docling")
DIGITS = ("smollm", "starcoder", "refact", "command-r", "exaone")  # as GPT-2, digits one by one
LLAMA3 = ("llama-bpe", "llama3", "llama-v3", "lfm2", "smaug-bpe", "dbrx")
QWEN2 = ("qwen2", "deepseek-r1-qwen", "stablelm2")
KNOWN = (*GPT2, *DIGITS, *LLAMA3, *QWEN2)
WHOLE_WORDS = ("llama-bpe", "llama3", "llama-v3", "lfm2")  # a word of the vocabulary is no merge's
BEGIN = WHOLE_WORDS  # and a begin token is added where the file does not say
NORMALISED = ("qwen2", "deepseek-r1-qwen")  # to NFC, as the tokenizers of that family do

# Words as Llama 3 and Qwen 2 cut them; Llama takes up to three digits together, Qwen one.
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{digits}"
    r"| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

NORMAL, UNKNOWN, CONTROL, USER_DEFINED = 1, 2, 3, 4  # `tokenizer.ggml.token_type`
SPACE = "\u2581"  # SentencePiece's sign for a space
ROLES = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}  # as GGUF calls them


def build_tokenizer(said: Mapping[str, Any], path: Path) -> Any:
    """The tokenizer that a GGUF file describes, as a fast tokenizer of transformers.

    Args:
        said: the file's metadata: key -> value.
        path: of the file, for messages.

    Raises:
        ValueError: a kind of tokenizer or a pre-tokenizer that is not known here.
    """
    from transformers import PreTrainedTokenizerFast

    makers = {"gpt2": _byte_level, "llama": _sentencepiece}
    kind = said.get("tokenizer.ggml.model")
    if kind not in makers:
        raise ValueError(
            f"{path.name}: its tokenizer is of the kind {kind!r}; known: {', '.join(makers)}"
        )
    core = makers[kind](said, path)
    tokens = said["tokenizer.ggml.tokens"]
    core.add_tokens([*_added(said)])
    special = {
        f"{role}_token": tokens[said[key]]
        for role, name in ROLES.items()
        if (key := f"tokenizer.ggml.{name}_token_id") in said
    }
    if template := _ends(said, special):
        core.post_processor = template
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, clean_up_tokenization_spaces=False, **special
    )
    tokenizer.chat_template = said.get("tokenizer.chat_template")
    tokenizer.name_or_path = str(path)
    return tokenizer


def _byte_level(said: Mapping[str, Any], path: Path) -> Any:
    """BPE over bytes, as GPT-2, Llama 3, Qwen and SmolLM have it."""
    from tokenizers import Tokenizer, decoders, models, normalizers

    pre = said.get("tokenizer.ggml.pre")
    if pre not in KNOWN:
        raise ValueError(
            f"{path.name}: its pre-tokenizer {pre!r} is not known, and without it a text becomes "
            f"other tokens than the model learned; known: {', '.join(KNOWN)}"
        )
    merges = [tuple(merge.split(" ", 1)) for merge in said["tokenizer.ggml.merges"]]
    vocabulary = {token: i for i, token in enumerate(said["tokenizer.ggml.tokens"])}
    core = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=pre in WHOLE_WORDS))
    if pre in NORMALISED:
        core.normalizer = normalizers.NFC()
    core.pre_tokenizer = pre_tokenizer(pre)
    core.decoder = decoders.ByteLevel()
    return core


def pre_tokenizer(name: str) -> Any:
    """How a known pre-tokenizer cuts a text, bytes written as letters."""
    from tokenizers import Regex
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence, Split

    if name in GPT2:
        return ByteLevel(add_prefix_space=False)
    if name in DIGITS:
        return Sequence([Digits(individual_digits=True), ByteLevel(add_prefix_space=False)])
    words = WORDS.format(digits="{1,3}" if name in LLAMA3 else "")
    return Sequence(
        [Split(Regex(words), "isolated"), ByteLevel(add_prefix_space=False, use_regex=False)]
    )


def _sentencepiece(said: Mapping[str, Any], path: Path) -> Any:
    """SentencePiece's BPE, as Llama 2, Mistral, TinyLlama and Gemma have it: merges by score."""
    from tokenizers import Tokenizer, decoders, models, normalizers

    tokens, kinds = said["tokenizer.ggml.tokens"], said["tokenizer.ggml.token_type"]
    scores = said["tokenizer.ggml.scores"]
    pieces = {t: i for i, (t, kind) in enumerate(zip(tokens, kinds, strict=True)) if kind == NORMAL}
    if len({scores[i] for i in pieces.values()}) < 2:
        raise ValueError(
            f"{path.name}: all its tokens have the score {scores[-1]}, so that nothing says which "
            "are joined first: take a file with the scores of SentencePiece, or the original"
        )
    unknown = said.get("tokenizer.ggml.unknown_token_id")
    core = Tokenizer(
        models.BPE(
            {token: i for i, token in enumerate(tokens)},
            merges_by_score(pieces, scores),
            unk_token=None if unknown is None else tokens[unknown],
            fuse_unk=True,
            byte_fallback="<0x0A>" in tokens,
        )
    )
    first = said.get("tokenizer.ggml.add_space_prefix", True)
    steps = [normalizers.Prepend(SPACE)] if first else []
    core.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", SPACE)])
    back = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    core.decoder = decoders.Sequence(back + ([decoders.Strip(" ", 1, 0)] if first else []))
    return core


def merges_by_score(pieces: Mapping[str, int], scores: Any) -> list[tuple[str, str]]:
    """The merges that SentencePiece's scores stand for: the piece with the highest score first.

    Args:
        pieces: token -> its place.
        scores: of each place.

    Example: merges_by_score({"a": 0, "b": 1, "ab": 2}, [0, 0, -1]) is [("a", "b")].
    """
    found = []
    for piece, place in pieces.items():
        for cut in range(1, len(piece)):
            left, right = piece[:cut], piece[cut:]
            if left in pieces and right in pieces:
                found.append((-scores[place], pieces[left], pieces[right], (left, right)))
    return [pair for *_, pair in sorted(found)]


def _added(said: Mapping[str, Any]) -> list[Any]:
    """Tokens that are found in a text before it is cut into words."""
    from tokenizers import AddedToken

    pairs = zip(said["tokenizer.ggml.tokens"], said["tokenizer.ggml.token_type"], strict=True)
    return [
        AddedToken(token, special=kind != USER_DEFINED, normalized=False)
        for token, kind in pairs
        if kind in (UNKNOWN, CONTROL, USER_DEFINED)
    ]


def _ends(said: Mapping[str, Any], special: Mapping[str, str]) -> Any:
    """What is put before and behind every text; None where nothing is."""
    from tokenizers.processors import TemplateProcessing

    begins = said["tokenizer.ggml.model"] == "llama" or said.get("tokenizer.ggml.pre") in BEGIN
    bos = special.get("bos_token") if said.get("tokenizer.ggml.add_bos_token", begins) else None
    eos = special.get("eos_token") if said.get("tokenizer.ggml.add_eos_token", False) else None
    if not bos and not eos:
        return None
    places = {token: i for i, token in enumerate(said["tokenizer.ggml.tokens"])}
    return TemplateProcessing(
        single=[token for token in (bos, "$A", eos) if token],
        special_tokens=[(token, places[token]) for token in {bos, eos} if token],
    )

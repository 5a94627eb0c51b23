"""What a checkpoint's files hold, seen before any weight is read, and what is refused of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

BITSANDBYTES_4BIT = "bitsandbytes in 4 bit"
GENERATION = "generation_config.json"


def stored_quantisation(name: str, revision: str | None = None) -> str | None:
    """What the weights of a checkpoint are quantised by already.

    Args:
        name: folder or hub id; only its config.json is read.
        revision: hub commit.

    Returns:
        BITSANDBYTES_4BIT, as of unsloth/...-bnb-4bit; another method's name, as "gptq"; None for
        plain weights.

    Raises:
        OSError: there is no config.json (transformers' own message).
    """
    from transformers import PretrainedConfig

    config, _ = PretrainedConfig.get_config_dict(name, revision=revision)
    stored = config.get("quantization_config") or config.get("compression_config")
    if not stored:
        return None
    if stored.get("load_in_4bit"):  # older files of bitsandbytes name no method
        return BITSANDBYTES_4BIT
    return "bitsandbytes in 8 bit" if stored.get("load_in_8bit") else stored.get("quant_method")


def check_stored(name: str, revision: str | None, load_in_4bit: bool, quantiser: str) -> bool:
    """Refuse a checkpoint that cannot be loaded as it is asked for.

    Args:
        name: folder or hub id.
        revision: hub commit.
        load_in_4bit, quantiser: of the ModelConfig.

    Returns:
        Whether its weights are in bitsandbytes' 4 bit already, to be loaded as they are.

    Raises:
        ValueError: an adapter, pickled weights, or weights quantised otherwise than asked for.
    """
    _refuse_adapter(name, revision)
    stored = stored_quantisation(name, revision)
    if stored is None:
        return False
    if stored != BITSANDBYTES_4BIT:
        raise ValueError(
            f"{name}: its weights are quantised by {stored}, on which nothing is trained here: "
            "take the un-quantised model, or one in bitsandbytes' 4 bit"
        )
    if not load_in_4bit:
        raise ValueError(
            f"{name}: its weights are in 4 bit already (bitsandbytes), and it has no others: set "
            "load_in_4bit=true and merge_base=dequant_nf4, or take the un-quantised model"
        )
    if quantiser != "nf4":
        raise ValueError(
            f"{name}: its weights are in 4 bit already (bitsandbytes), and quantiser={quantiser} "
            "starts from un-quantised ones: take quantiser=nf4, or the un-quantised model"
        )
    return True


def _refuse_adapter(name: str, revision: str | None) -> None:
    """Refuse what transformers would load as another model with an adapter on it."""
    from transformers.utils import find_adapter_config_file

    if find_adapter_config_file(name, revision=revision):
        raise ValueError(
            f"{name}: must be a model, and this is an adapter: give the model that it is for; "
            "slimlib check takes the adapter itself"
        )


def refuse_pickles(name: str) -> None:
    """Refuse a folder whose weights are pickles.

    Raises:
        ValueError: it has weights, and none in safetensors.
    """
    folder = Path(name)
    if any(folder.glob("*.bin")) and not any(folder.glob("*.safetensors")):
        raise ValueError(no_safetensors(name))


def no_safetensors(name: str) -> str:
    """Why a model without safetensors is refused, in words."""
    return (
        f"{name}: has no weights in safetensors; pickles (.bin) are never read, since they can run "
        "any code on this machine: take a copy or a revision in safetensors"
    )


def generation_file(name: str, revision: str | None = None) -> Path | None:
    """A checkpoint's own generation_config.json; None where it has none."""
    from transformers.utils import cached_file

    found: Any = cached_file(
        name,
        GENERATION,
        revision=revision,
        _raise_exceptions_for_gated_repo=False,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    return Path(found) if found else None

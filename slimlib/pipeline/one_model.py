"""One model, before it is downloaded or trained: what cannot work is said here, in words.

Configs and tokenizers alone are read: no weight is loaded, none is downloaded.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

from slimlib.adapters.modules import linear_shapes, refuse_transposed_4bit
from slimlib.common.files import parse_json
from slimlib.common.hardware import find_device, resolve_dtype
from slimlib.common.hub import fetched
from slimlib.config import AdapterConfig, ModelConfig
from slimlib.methods.plan import Plan, check_names, compile_plan
from slimlib.model.gguf import read_metadata, scaled_rope
from slimlib.model.gguf_tokenizer import build_tokenizer
from slimlib.model.load import check_base, hub_revision, load_tokenizer, resolve_name
from slimlib.model.opened import WEIGHTS, Opened
from slimlib.model.own_code import refuse_own_code
from slimlib.model.stored import (
    GENERATION,
    check_finite_files,
    check_readable,
    generation_file,
    refuse_no_writer,
)
from slimlib.model.vocabulary import check_vocabulary
from slimlib.pipeline.preflight import Check, checked

NF4_BYTES = 0.52  # of a weight: 4 bits, and its share of a doubly quantised scale
TRAINED_BYTES = 16  # of a trained number: itself, its gradient and Adam's two, in float32
READ = ("model", "tokenizer", "vocabulary", "weights", "generation")  # what asking takes
RUNTIME_GB = 1.0  # of Python, torch and what a step makes besides its logits


class Outline(NamedTuple):
    """A model without its weights: its config, its modules on no device, what it would train."""

    config: Any
    model: Any
    plan: Plan | None


def preflight_model(
    config: ModelConfig, adapter: AdapterConfig | None = None, root: str | Path = "runs"
) -> list[Check]:
    """Check one model in seconds, before anything of it is downloaded or trained.

    Args:
        config: of the model: a folder, a hub id, an embedded checkpoint or a GGUF file.
        adapter: that shall be trained on it; None where it is only evaluated.
        root: where the runs will lie.

    Returns:
        One line each on the model, its tokenizer, vocabulary, quantised weights, targets,
        generation, memory and disk; only those that can be told while an earlier one is red.

    Example:

        config = slimlib.ModelConfig("Qwen/Qwen2.5-0.5B")
        adapter = slimlib.AdapterConfig(target_modules="all-linear")
        red = [check for check in preflight_model(config, adapter) if not check.ok]
    """
    if config.name.endswith(".gguf"):
        return [checked("model", lambda: _gguf(config, adapter), "Take the original checkpoint")]
    outline: list[Outline] = []
    model = checked(
        "model", lambda: _architecture(config, outline), "Check the name, or the folder"
    )
    if not outline:
        return [model]
    network = outline[0].config
    checks = [model, *_tokens(config, network)]
    checks += [checked("weights", lambda: _weights(config, adapter))]
    if adapter:
        checks += [checked("adapter", lambda: _targets(config, adapter, outline))]
    checks += [checked("generation", lambda: _generation(config, network))]
    return [*checks, _memory(config, outline[0]), _disk(config, outline[0], Path(root))]


def refuse_unreadable(opened: Opened) -> None:
    """Refuse a model that cannot be asked, before another one is.

    Its small files are read, the weights of a folder, and an adapter's; nothing is computed.

    Raises:
        ValueError: with the way out.
    """
    from slimlib.evaluate.loading import check_adapter

    config = ModelConfig(opened.base, opened.revision, load_in_4bit=False)
    for check in preflight_model(config):
        if not check.ok and check.name in READ:
            raise ValueError(f"{opened.name}: {check}")
    if (folder := Path(opened.base)).is_dir():
        check_finite_files(opened.name, sorted(folder.glob(WEIGHTS)))
    if opened.adapter:
        check_adapter(opened, outline_of(opened))


def outline_of(opened: Opened) -> Any:
    """The whole model on no device, without weights."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    path, where = Path(opened.base), fetched(opened.base, opened.revision)
    if path.suffix == ".gguf":
        path, where = path.parent, {"gguf_file": path.name}
    config = AutoConfig.from_pretrained(
        str(path) if path.exists() else opened.base, trust_remote_code=False, **where
    )
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, trust_remote_code=False)


def _gguf(config: ModelConfig, adapter: AdapterConfig | None) -> str:
    path = Path(config.name)
    said = read_metadata(path)
    build_tokenizer(said, path)
    scaled_rope(said, path)
    if adapter:
        raise ValueError(f"{path.name}: a GGUF file is read only; it can be checked, not tuned")
    return f"GGUF of {said['general.architecture']}, read only"


def _architecture(config: ModelConfig, outline: list[Outline]) -> str:
    """Read the config and build the model on no device; `outline` gets both."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    name, revision = resolve_name(config.name), hub_revision(config)
    refuse_own_code(name, revision)
    where = fetched(name, revision)
    network = AutoConfig.from_pretrained(name, trust_remote_code=False, **where)
    if network.model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise ValueError(
            f"{network.model_type} is no language model that goes on with a text: take one that "
            "is, as GPT, Llama and Qwen are"
        )
    refuse_no_writer(network)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(network, trust_remote_code=False)
    outline.append(Outline(network, model, None))
    size = sum(p.numel() for p in model.parameters())
    return f"{network.model_type}, {size / 1e6:,.1f} million weights"


def _tokens(config: ModelConfig, network: Any) -> list[Check]:
    """Whether the tokenizer is there and knows its ends, and has a row for every token."""
    found: list[Any] = []

    def tokenizer() -> str:
        found.append(load_tokenizer(config))
        end, pad = found[0].eos_token, found[0].pad_token
        if end is None:
            raise ValueError(
                f"{config.name}: its tokenizer names no end token: set eos_token in its "
                "tokenizer_config.json"
            )
        also = " (masked by its position, so that the end is learned)" if pad == end else ""
        return f"{len(found[0]):,} tokens; {end} ends a text, {pad} pads a batch{also}"

    def vocabulary() -> str:
        check_vocabulary(found[0], network)
        return f"every token has one of the embedding's {rows:,} rows"

    rows = network.get_text_config().vocab_size
    way_out = "Save the tokenizer that the model was trained with into its folder"
    checks = [checked("tokenizer", tokenizer, way_out)]
    return [*checks, checked("vocabulary", vocabulary)] if found else checks


def _weights(config: ModelConfig, adapter: AdapterConfig | None) -> str:
    """How the weights are stored, and that this can be read, and trained on where it shall be."""
    if adapter:
        check_base(config)
    method = check_readable(resolve_name(config.name), hub_revision(config))
    return f"quantised by {method}" if method else "not quantised"


def _targets(config: ModelConfig, adapter: AdapterConfig, outline: list[Outline]) -> str:
    """Plan the adapter on the shapes; the outline gets the plan."""
    from slimlib.adapters.layers import check_layers

    model = outline[0].model
    linears = linear_shapes(model)
    check_names(linears, adapter.target_modules)
    plan = compile_plan(linears, adapter)
    check_layers(model, plan, adapter)
    if config.load_in_4bit:
        refuse_transposed_4bit(model)
    outline[0] = outline[0]._replace(plan=plan)
    names = ", ".join(dict.fromkeys(name.rsplit(".", 1)[-1] for name in plan))
    experts = any(p.ndim == 3 and "experts" in key for key, p in model.named_parameters())
    note = "; its experts are no linear layers and stay as they are" if experts else ""
    return f"{plan.parameters:,} weights to train, on {len(plan)} layers ({names}){note}"


def _generation(config: ModelConfig, network: Any) -> str:
    from transformers import GenerationConfig

    name, revision = resolve_name(config.name), hub_revision(config)
    if (own := generation_file(name, revision)) and not isinstance(_json(own), dict):
        raise ValueError(f"{own} holds no object: delete it, or take another copy")
    try:
        generation = GenerationConfig.from_pretrained(name, **fetched(name, revision))
    except OSError:  # it has none: transformers takes the model's config
        generation = GenerationConfig.from_model_config(network)
    ends = generation.eos_token_id
    ends = [ends] if isinstance(ends, int) else ends or []
    rows = network.get_text_config().vocab_size
    if beyond := [end for end in ends if end >= rows]:
        raise ValueError(
            f"generation ends at token {beyond[0]}, and there are {rows:,}: mend eos_token_id in "
            f"its {GENERATION}"
        )
    said = f"an answer ends at token {' or '.join(map(str, ends))}" if ends else "no end is named"
    return said + (
        ", repetition penalised" if generation.repetition_penalty not in (None, 1) else ""
    )


def _json(path: Path) -> Any:
    try:
        return parse_json(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is no JSON ({error}): delete it, or take another copy") from None


# -------------------------------------------------------------------------------- memory and disk


def memory_gb(config: ModelConfig, outline: Outline) -> float:
    """GB that training needs by count, and that merging does, whichever is more.

    Weights in their dtype (0.52 bytes where quantised), 16 bytes a trained number, two float32
    copies of one row's logits; merging holds all weights in float32.
    """
    weights = sum(p.numel() for p in outline.model.parameters())
    linear = sum(d_in * d_out for d_in, d_out in linear_shapes(outline.model).values())
    size = resolve_dtype(config.dtype).itemsize
    in_4bit = linear if config.load_in_4bit else 0
    trained = outline.plan.parameters if outline.plan else 0
    logits = 8 * config.max_seq_length * outline.config.get_text_config().vocab_size
    step = in_4bit * NF4_BYTES + (weights - in_4bit) * size + trained * TRAINED_BYTES + logits
    merge = 4 * weights if outline.plan else 0
    return max(step, merge) / 2**30 + RUNTIME_GB


def _memory(config: ModelConfig, outline: Outline) -> Check:
    device, need = find_device(), memory_gb(config, outline)
    detail = f"{device.free_gb:.1f} of {device.memory_gb:.1f} GB free, about {need:.1f} needed"
    way_out = "A smaller model, or a shorter max_seq_length; or restart the runtime"
    return Check("memory", device.free_gb >= need, detail, way_out)


def _disk(config: ModelConfig, outline: Outline, root: Path) -> Check:
    """Room for the download in 16 bit, and for the merged weights in at most 32."""
    weights = sum(p.numel() for p in outline.model.parameters())
    download = 0 if Path(resolve_name(config.name)).exists() else 2
    need = weights * (download + (4 if outline.plan else 0)) / 2**30
    existing = next(p for p in (root.absolute(), *root.absolute().parents) if p.exists())
    free = shutil.disk_usage(existing).free / 2**30
    detail = f"{free:.1f} GB free, about {need:.1f} needed"
    return Check("disk", free >= need, detail, f"Free space on {existing}, or another folder")

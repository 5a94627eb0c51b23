"""One model, before it is downloaded or trained: what cannot work is said here, in words.

`preflight_model` reads configs and tokenizers only: no weight is loaded, none is downloaded.
`try_model` takes the first layers of the model through one step of everything.
"""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from slimlib.common.hardware import find_device, resolve_dtype
from slimlib.config import EVERY_LINEAR, AdapterConfig, Arm, ModelConfig
from slimlib.methods.plan import Plan, compile_plan
from slimlib.model.load import load_tokenizer, resolve_name
from slimlib.model.own_code import refuse_own_code
from slimlib.model.tokens import check_vocabulary
from slimlib.pipeline.preflight import Check

NF4_BYTES = 0.52  # of a weight: 4 bits, and its share of a doubly quantised scale
TRAINED_BYTES = 16  # of a trained number: itself, its gradient and Adam's two, in float32
RUNTIME_GB = 1.0  # of Python, torch and what a step makes besides its logits
QUANTISED = {"bitsandbytes": None, "gptq": "gptqmodel"}  # how a base may come; what reads it


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
        return [_check("model", lambda: _gguf(config, adapter), "Take the original checkpoint")]
    outline: list[Outline] = []
    model = _check("model", lambda: _architecture(config, outline), "Check the name, or the folder")
    if not outline:
        return [model]
    network = outline[0].config
    checks = [model, *_tokens(config, network)]
    checks += [_check("quantised base", lambda: _quantised(network), "Take its plain checkpoint")]
    if adapter:
        way_out = f"target_modules={EVERY_LINEAR}, or names of those that there are"
        checks += [_check("targets", lambda: _targets(config, adapter, outline), way_out)]
    checks += [_check("generation", lambda: _generation(config, network), "Mend the file")]
    return [*checks, _memory(config, outline[0]), _disk(config, outline[0], Path(root))]


def _check(name: str, find: Callable[[], str], way_out: str) -> Check:
    """A green line of what was found, or a red one of the error's first line."""
    try:
        return Check(name, True, find())
    except (ValueError, OSError, ImportError, KeyError) as error:
        return Check(name, False, str(error).strip().partition("\n")[0], way_out)


def _gguf(config: ModelConfig, adapter: AdapterConfig | None) -> str:
    from slimlib.model.gguf import read_metadata, scaled_rope
    from slimlib.model.gguf_tokenizer import build_tokenizer

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

    name, revision = resolve_name(config.name), _revision(config)
    refuse_own_code(name, revision)
    network = AutoConfig.from_pretrained(name, revision=revision, trust_remote_code=False)
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
            raise ValueError(f"{config.name}: its tokenizer names no end token")
        also = ", masked by its position" if pad == end else ""
        return f"{len(found[0]):,} tokens, end {end}, padding {pad}{also}"

    def vocabulary() -> str:
        check_vocabulary(found[0], network)
        return f"{len(found[0]):,} tokens, {network.get_text_config().vocab_size:,} rows"

    checks = [_check("tokenizer", tokenizer, "Set eos_token in its tokenizer_config.json")]
    if found:
        checks += [_check("vocabulary", vocabulary, "Resize the embedding, save, name that folder")]
    return checks


def _quantised(network: Any) -> str:
    how = getattr(network, "quantization_config", None)
    if how is None:
        return "none: plain weights"
    method = (how if isinstance(how, dict) else how.to_dict()).get("quant_method")
    method = getattr(method, "value", method)
    if method not in QUANTISED:
        known = ", ".join(QUANTISED)
        raise ValueError(f"its weights are quantised by {method}, which is not known; {known} are")
    library = QUANTISED[method]
    if library and importlib.util.find_spec(library) is None:
        raise ValueError(f"its weights are quantised by {method}: pip install {library} to read it")
    return f"quantised by {method}"


def _targets(config: ModelConfig, adapter: AdapterConfig, outline: list[Outline]) -> str:
    """Plan the adapter on the shapes; the outline gets the plan."""
    from slimlib.adapters.layers import check_layers
    from slimlib.adapters.modules import linear_shapes, refuse_transposed_4bit

    model = outline[0].model
    plan = compile_plan(linear_shapes(model), adapter)
    check_layers(model, plan, adapter)
    if config.load_in_4bit:
        refuse_transposed_4bit(model)
    outline[0] = outline[0]._replace(plan=plan)
    names = ", ".join(dict.fromkeys(name.rsplit(".", 1)[-1] for name in plan))
    experts = any(p.ndim == 3 for p in model.parameters())
    note = "; its experts are no linear layers and stay as they are" if experts else ""
    return f"{len(plan)} modules ({names}), {plan.parameters:,} parameters{note}"


def _generation(config: ModelConfig, network: Any) -> str:
    from transformers import GenerationConfig

    try:
        name = resolve_name(config.name)
        generation = GenerationConfig.from_pretrained(name, revision=_revision(config))
    except OSError:  # it has none: transformers takes the model's config
        generation = GenerationConfig.from_model_config(network)
    ends = generation.eos_token_id
    ends = [ends] if isinstance(ends, int) else ends or []
    rows = network.get_text_config().vocab_size
    if beyond := [end for end in ends if end >= rows]:
        raise ValueError(f"generation ends at token {beyond[0]}, and there are {rows:,}")
    said = f"ends at {', '.join(map(str, ends))}" if ends else "ends where the tokenizer says"
    return said + (
        ", repetition penalised" if generation.repetition_penalty not in (None, 1) else ""
    )


# -------------------------------------------------------------------------------- memory and disk


def memory_gb(config: ModelConfig, outline: Outline) -> float:
    """GB that training needs by count, and that merging does, whichever is more.

    Weights in their dtype (0.52 bytes where quantised), 16 bytes a trained number, two float32
    copies of one row's logits; merging holds all weights in float32.
    """
    from slimlib.adapters.modules import linear_shapes

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


def _revision(config: ModelConfig) -> str | None:
    return None if Path(resolve_name(config.name)).exists() else config.revision


# ---------------------------------------------------------------------------------- the rehearsal


def try_model(arm: Arm, rows: Sequence[dict[str, Any]], layers: int = 2) -> list[Check]:
    """Take a model's first layers through one step of everything, with its own rows.

    One row rendered, one step trained, saved, merged, loaded again by stock transformers and
    compared; what would fail after an hour fails here in seconds. Nothing of it is kept.

    Args:
        arm: model, adapter, data, training and merging as they shall be.
        rows: of the user, one or more; the first batch is trained on.
        layers: how many of the model's are taken.

    Example:

        checks = try_model(study.tuned, rows)
    """
    from slimlib.merge.plain import write_merged

    with tempfile.TemporaryDirectory() as folder:
        trial: list[Arm] = []
        place = Path(folder)
        adapter = place / "adapter"
        steps = {
            "first layers": lambda: _cut(arm, layers, place / "base", trial),
            "one step": lambda: _one_step(trial[0], rows, place),
            "merge": lambda: _told(write_merged(trial[0], adapter, place / "merged")),
        }
        checks: list[Check] = []
        for name, step in steps.items():
            if all(check.ok for check in checks):
                checks.append(_tried(name, step))
        return checks


def _tried(name: str, step: Callable[[], str]) -> Check:
    way_out = "The model cannot be tuned so: see what was found"
    try:
        return Check(name, True, step())
    except (ValueError, OSError, RuntimeError, TypeError, KeyError, NotImplementedError) as error:
        return Check(name, False, str(error).strip().partition("\n")[0], way_out)


def _cut(arm: Arm, layers: int, folder: Path, trial: list[Arm]) -> str:
    """Write the model's first layers as a model of its own; `trial` gets the arm on it."""
    from transformers import AutoConfig, AutoModelForCausalLM

    name, where = resolve_name(arm.model.name), {"revision": _revision(arm.model)}
    config = AutoConfig.from_pretrained(name, trust_remote_code=False, **where)
    text = config.get_text_config()
    whole = text.num_hidden_layers
    for key, value in text.to_dict().items():  # what is said layer by layer
        if isinstance(value, list) and len(value) == whole:
            setattr(text, key, value[:layers])
    text.num_hidden_layers = min(layers, whole)
    model = AutoModelForCausalLM.from_pretrained(
        name, config=config, dtype="auto", trust_remote_code=False, **where
    )
    model.save_pretrained(folder)
    load_tokenizer(arm.model).save_pretrained(folder)
    once = replace(arm.train, max_steps=1, gradient_accumulation_steps=1, warmup_ratio=0.0)
    model_config = replace(arm.model, name=str(folder), revision=None)
    trial.append(replace(arm, model=model_config, train=once))
    return f"{text.num_hidden_layers} of {whole} layers"


def _one_step(arm: Arm, rows: Sequence[dict[str, Any]], folder: Path) -> str:
    from slimlib.adapters.layers import attach
    from slimlib.adapters.saving import save_adapter
    from slimlib.data.prompts import tokenize_rows
    from slimlib.model.load import load_model
    from slimlib.train import make_trainer

    length = arm.model.max_seq_length
    model, tokenizer = load_model(arm.model, "transformers", arm.adapter)
    batch = [*rows[: arm.train.per_device_train_batch_size]]
    dataset, _ = tokenize_rows(batch, arm.data, tokenizer, length)
    model = attach(model, arm.adapter, arm.seed, length)
    trainer = make_trainer(model, tokenizer, dataset, arm, folder)
    loss = trainer.train().training_loss
    if not loss < float("inf"):
        raise ValueError(f"the loss of the first rows is {loss}")
    save_adapter(trainer.model, folder / "adapter")
    return f"{len(dataset['input_ids'][0])} tokens in the first row, loss {loss:.2f}"


def _told(entry: dict[str, Any]) -> str:
    """What the merge's record says of its check."""
    check = entry["logit_check"]
    return f"loaded again, logits apart by {check['share_of_range']:.1e} of their range"

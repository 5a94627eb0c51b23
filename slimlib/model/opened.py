"""What somebody means by a model: a hub id, a folder, an adapter, a GGUF file, an embedded one.

`open_model` finds out what it is, from its small files alone; `load_opened` loads it to be asked.
An adapter is asked on the model that it was trained on, unmerged: in 16 bit its change is often
smaller than the rounding of a merged weight. Only safetensors are read, and no code of a model's.
"""

from __future__ import annotations

import importlib.util
import json
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from slimlib.adapters.saving import check_finite, load_adapter
from slimlib.common import progress
from slimlib.common.files import file_sha256, read_json, sha256
from slimlib.common.hardware import find_device, resolve_dtype
from slimlib.model.gguf import load_gguf
from slimlib.model.load import keep_packing, nf4_config, resolve_name
from slimlib.model.own_code import refuse_own_code
from slimlib.model.vocabulary import check_vocabulary

NF4 = "nf4:"  # before a name: quantised on load
CONFIG, ADAPTER_CONFIG = "config.json", "adapter_config.json"
STRUCTURED = "slimlib"  # the subfolder of an adapter of ours in its own form
WEIGHTS = "*.safetensors"
# What a model's answers depend on beside its weights.
SMALL_FILES = ("*.json", "*.jinja", "tokenizer.model", "merges.txt", "vocab.txt")
QUANTISED_BY = {"gptq": "gptqmodel", "awq": "gptqmodel", "bitsandbytes": "bitsandbytes"}
LEFT_OUT = ("merged", "adapter", STRUCTURED)  # folders whose names say nothing


@dataclass(frozen=True)
class Opened:
    """A model that was found, and not yet loaded."""

    name: str  # as it was given
    base: str  # folder, hub id or GGUF file of the whole weights
    revision: str | None = None  # of the hub
    adapter: str | None = None  # folder of a PEFT adapter, or its hub id
    adapter_revision: str | None = None
    quantise: bool = False  # to NF4, on load

    @property
    def label(self) -> str:
        """A short name for tables."""
        prefix, name = (NF4 if self.quantise else ""), self.name.removeprefix(NF4)
        parts = [part for part in name.rstrip("/").split("/") if part not in ("", ".", "..")]
        short = 2 if parts[-1] in LEFT_OUT else 1
        return prefix + "/".join(parts[-short:])

    def without_adapter(self) -> Opened:
        """The model that the adapter was trained on."""
        if not self.adapter:
            return self
        prefix = NF4 if self.quantise else ""
        return replace(self, name=prefix + self.base, adapter=None, adapter_revision=None)


def open_model(name: str, fallback: Opened | None = None) -> Opened:
    """Find out what a name means, before any weight is read.

    Args:
        name: "micro:base"; a hub id, or one with @revision; a folder with full weights (sharded,
            quantised by bitsandbytes or GPTQ too) or a PEFT adapter; a .gguf file or the folder of
            one; any of them behind "nf4:", to be quantised on load.
        fallback: the model for an adapter whose own is not on this machine, nor on the hub.

    Raises:
        ValueError: nothing is there, or what is there cannot be read; says the way out.
        OSError: the hub does not answer, and the model is not in its cache.
    """
    given = name.removeprefix(NF4)
    quantise = given != name
    if not given:
        raise ValueError(f"{name!r} is no model: give a hub id, a folder or a file")
    if _is_local(given):
        return _open_local(name, Path(given).expanduser(), quantise, fallback)
    if given.startswith("micro:"):
        return Opened(name, resolve_name(given), quantise=quantise)
    repository, _, revision = given.partition("@")
    revision = revision or None
    path = _hub_file(repository, ADAPTER_CONFIG, revision)
    if path:
        opened = _on_its_base(name, read_json(path), quantise, fallback)
        return replace(opened, adapter=repository, adapter_revision=revision)
    _check_whole(repository, revision)
    return Opened(name, repository, revision, quantise=quantise)


def _is_local(name: str) -> bool:
    return name.startswith(("/", ".", "~")) or "\\" in name or Path(name).exists()


def _open_local(name: str, path: Path, quantise: bool, fallback: Opened | None) -> Opened:
    if not path.exists():
        raise ValueError(f"model {path} does not exist")
    found = [path] if path.is_file() else sorted(path.glob("*.gguf"))
    if path.is_dir():
        adapter = next(
            (p for p in (path / STRUCTURED, path) if (p / ADAPTER_CONFIG).exists()), None
        )
        if adapter:
            opened = _on_its_base(name, read_json(adapter / ADAPTER_CONFIG), quantise, fallback)
            if not any(adapter.glob(WEIGHTS)):
                raise ValueError(f"{adapter} has no {WEIGHTS}: pickled adapters are not read")
            return replace(opened, adapter=str(adapter))
        if (path / CONFIG).exists():
            if not any(path.glob(WEIGHTS)):
                raise ValueError(
                    f"{path} has no {WEIGHTS}: pickled weights (.bin, .pt) can run code and are "
                    "never read; save the model with save_pretrained, which writes safetensors"
                )
            _check_whole(str(path), None)
            return Opened(name, str(path), quantise=quantise)
    if len(found) != 1 or found[0].suffix != ".gguf":
        listed = ", ".join(p.name for p in found) or "no config.json, adapter or .gguf file"
        raise ValueError(f"{path} is no model: it holds {listed}; name one model")
    if quantise:
        raise ValueError(f"{name}: a GGUF file is quantised already; leave {NF4} away")
    return Opened(name, str(found[0]))


def _on_its_base(
    name: str, config: dict[str, Any], quantise: bool, fallback: Opened | None
) -> Opened:
    """The model that an adapter's configuration names; the fallback where it is out of reach."""
    base, revision = config.get("base_model_name_or_path"), config.get("revision")
    try:
        if not base:
            raise ValueError("no base_model_name_or_path in its adapter_config.json")
        opened = open_model(f"{base}@{revision}" if revision and not _is_local(base) else base)
    except (ValueError, OSError) as error:
        if fallback is None:
            reason = str(error).partition("\n")[0]
            raise ValueError(
                f"{name}: the model of this adapter cannot be found ({reason}); name it, too: "
                f"slimlib check BASE {name}"
            ) from None
        progress.say(f"{name}: its own base {base} is out of reach; it goes on {fallback.name}")
        opened = fallback
    return replace(opened, name=name, quantise=quantise)


def _check_whole(name: str, revision: str | None) -> None:
    """Refuse code of a model's own, and a quantisation whose library is missing."""
    refuse_own_code(name, revision)
    config = read_json(Path(_hub_file(name, CONFIG, revision)))
    method = (config.get("quantization_config") or {}).get("quant_method")
    library = QUANTISED_BY.get(method)
    if library and importlib.util.find_spec(library) is None:
        raise ValueError(f"{name} is quantised by {method}: pip install {library} to read it")


def _hub_file(name: str, file: str, revision: str | None) -> str | None:
    """The path of a small file of a folder or a repository; None where it has no such file."""
    from transformers.utils import cached_file

    return cached_file(
        name,
        file,
        revision=revision,
        _raise_exceptions_for_missing_entries=False,
    )


# ---- identity ----


def identity(opened: Opened) -> str:
    """What a model is, whatever it is called: a hash of its files, or its commit on the hub."""
    parts = [_identity(opened.base, opened.revision), opened.quantise]
    if opened.adapter:
        parts.append(_identity(opened.adapter, opened.adapter_revision))
    return sha256(parts)


def _identity(name: str, revision: str | None) -> str:
    path = Path(name)
    if path.is_file():
        return file_sha256(path)
    if path.is_dir():
        files = {file for pattern in (WEIGHTS, *SMALL_FILES) for file in path.glob(pattern)}
        return file_sha256(*sorted(files))
    from transformers.utils.hub import extract_commit_hash

    file = _hub_file(name, CONFIG, revision) or _hub_file(name, ADAPTER_CONFIG, revision)
    return f"{name}@{extract_commit_hash(file, None)}"


# ---- loading ----


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
        own = _own_tokenizer(opened)
        tokenizer = own or tokenizer
        model = _put_on(model, opened, tokenizer)
    check_vocabulary(tokenizer, model.config)
    return model.eval(), tokenizer


def _load_whole(opened: Opened, dtype: str) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where = {"revision": opened.revision, "trust_remote_code": False}
    kind = resolve_dtype(dtype)
    quantised = {"quantization_config": nf4_config(kind)} if opened.quantise else {}
    model = AutoModelForCausalLM.from_pretrained(
        opened.base,
        dtype=kind,
        device_map={"": find_device().kind},
        use_safetensors=True,
        **where,
        **quantised,
    )
    if getattr(model, "is_loaded_in_4bit", False):
        keep_packing(model)
        if model.device.type == "cpu":  # there 4 bit saves no time; the numbers are the same
            model = model.dequantize()
    return model, AutoTokenizer.from_pretrained(opened.base, **where)


def _own_tokenizer(opened: Opened) -> Any:
    """The tokenizer that an adapter brings; None where it brings none."""
    from transformers import AutoTokenizer

    revision = opened.adapter_revision
    for name in (opened.adapter, str(Path(opened.adapter).parent)):
        if (name == opened.adapter or Path(opened.adapter).name == STRUCTURED) and _hub_file(
            name, "tokenizer_config.json", revision
        ):
            return AutoTokenizer.from_pretrained(name, revision=revision, trust_remote_code=False)
    return None


def _put_on(model: Any, opened: Opened, tokenizer: Any) -> Any:
    """A model with its adapter; with rows for the tokens that the adapter adds and learned."""
    from peft import PeftModel

    rows = model.get_input_embeddings().weight.shape[0]
    learned = _learned_rows(opened)
    if learned and learned != rows:
        model.resize_token_embeddings(learned)
    elif len(tokenizer) > rows:
        raise ValueError(
            f"{opened.name}: its tokenizer has {len(tokenizer):,} tokens, the model {opened.base} "
            f"rows for {rows:,}, and the adapter holds none for the others: give the merged model"
        )
    try:
        if Path(opened.adapter).is_dir():
            return load_adapter(model, opened.adapter)
        adapted = PeftModel.from_pretrained(
            model, opened.adapter, revision=opened.adapter_revision, use_safetensors=True
        )
    except RuntimeError as error:  # torch's list of sizes that differ
        first = str(error).strip().partition("\n")[2].strip() or str(error)
        raise ValueError(
            f"{opened.name}: this adapter does not fit {opened.base} ({first[:200]}); name the "
            "model that it was trained on"
        ) from None
    check_finite(adapted, f"{opened.name}: ")
    return adapted


def _learned_rows(opened: Opened) -> int | None:
    """Rows of the embedding that an adapter holds; None where it leaves the model's as they are."""
    path = _hub_file(opened.adapter, "adapter_model.safetensors", opened.adapter_revision)
    if path is None:
        return None
    with open(path, "rb") as stream:  # a safetensors file begins with the length of its header
        (length,) = struct.unpack("<Q", stream.read(8))
        header = json.loads(stream.read(length))
    shapes = [about["shape"] for name, about in header.items() if "embed_tokens.weight" in name]
    return shapes[0][0] if shapes else None

"""What somebody means by a model: a hub id, a folder, an adapter, a GGUF file, an embedded one.

`open_model` finds out what it is, from its small files alone; `evaluate.loading` loads it to be
asked. Only safetensors are read, and no code of a model's.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from slimlib.adapters.places import CONFIG_FILE, STRUCTURED, find_adapter
from slimlib.common import progress
from slimlib.common.checked import shown
from slimlib.common.content import Hashes, identity_of
from slimlib.common.files import read_json, sha256
from slimlib.common.hub import COMMIT, SMALL, fetch
from slimlib.data.sources import refuse_rows
from slimlib.model.load import resolve_name
from slimlib.model.own_code import refuse_own_code
from slimlib.model.stored import check_readable
from slimlib.model.wheel import WHEEL

NF4 = "nf4:"  # before a name: quantised on load
CONFIG = "config.json"
WEIGHTS = "*.safetensors"
FRESH = Hashes()  # remembers nothing
LEFT_OUT = ("merged", "adapter", STRUCTURED)  # folders whose names say nothing


@dataclass(frozen=True)
class Opened:
    """A model that was found, and not yet loaded."""

    name: str  # as it was given
    base: str  # folder, hub id or GGUF file of the whole weights
    revision: str | None = None  # commit on the hub; None: no hub's
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
        name: "micro:base" or "wheel:PACKAGE"; a hub id, or one with @revision; a folder with full
            weights (sharded, quantised by bitsandbytes or GPTQ too) or a PEFT adapter; a .gguf file
            or the folder of one; any of them behind "nf4:", to be quantised on load.
        fallback: the model for an adapter whose own is not on this machine, nor on the hub.

    Raises:
        ValueError: nothing is there, what is there cannot be read, or the hub does not answer and
            the model is not in its cache; says the way out.
    """
    given = name.removeprefix(NF4)
    quantise = given != name
    if not given:
        raise ValueError(f"{name!r} is no model: give a hub id, a folder or a file")
    refuse_rows(given)
    if "://" in given:
        raise ValueError(f"{shown(name)} is no model: must be a hub id or a folder, no address")
    if _is_local(given):
        return _open_local(name, Path(given).expanduser(), quantise, fallback)
    if given.startswith(("micro:", WHEEL)):
        return Opened(name, resolve_name(given), quantise=quantise)
    repository, _, revision = given.partition("@")
    folder = fetch(repository, revision or None)  # its name is the commit: what moves is not read
    if (folder / CONFIG_FILE).is_file():
        opened = _on_its_base(name, folder / CONFIG_FILE, quantise, fallback)
        return replace(opened, adapter=repository, adapter_revision=folder.name)
    _check_whole(repository, folder.name)
    return Opened(name, repository, folder.name, quantise=quantise)


def _is_local(name: str) -> bool:
    return name.startswith(("/", ".", "~")) or "\\" in name or os.path.exists(name)


def _open_local(name: str, path: Path, quantise: bool, fallback: Opened | None) -> Opened:
    if not path.exists():
        raise ValueError(f"model {path} does not exist")
    found = [path] if path.is_file() else sorted(path.glob("*.gguf"))
    if path.is_dir():
        adapter = find_adapter(path)
        if adapter:
            opened = _on_its_base(name, adapter / CONFIG_FILE, quantise, fallback)
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


def _on_its_base(name: str, file: str | Path, quantise: bool, fallback: Opened | None) -> Opened:
    """The model that an adapter's configuration names; the fallback where it is out of reach."""
    config = read_json(Path(file))
    if not isinstance(config, dict):
        raise ValueError(f"{file} is no adapter's configuration; save the adapter again")
    base, revision = config.get("base_model_name_or_path"), config.get("revision")
    if not all(part is None or isinstance(part, str) for part in (base, revision)):
        raise ValueError(f"{file} names the model {base!r:.80} at {revision!r:.80}: must be texts")
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
    check_readable(name, revision)


# ---- identity ----


def identity(opened: Opened, hashes: Hashes = FRESH) -> str:
    """What a model is, whatever it is called: a hash of its files, or its commit on the hub."""
    parts = [weights_identity(opened.base, opened.revision, hashes), opened.quantise]
    if opened.adapter:
        parts.append(weights_identity(opened.adapter, opened.adapter_revision, hashes))
    return sha256(parts)


def weights_identity(name: str, revision: str | None = None, hashes: Hashes = FRESH) -> str:
    """What weights are, with their config and tokenizer: a hash, or a commit of the hub.

    Args:
        name: folder of a model or an adapter, GGUF file, or hub id.
        revision: asked for of the hub; one that moves, such as a branch, is resolved.
        hashes: of files, as far as they are remembered.

    Raises:
        HubError: the hub does not answer, and has not been asked before.
    """
    path = Path(name)
    if path.is_file():
        return hashes.file(path)
    if path.is_dir():
        return identity_of(model_files(path, hashes))
    if revision and COMMIT.fullmatch(revision):
        return f"{name}@{revision}"
    return f"{name}@{fetch(name, revision).name}"


def model_files(folder: Path, hashes: Hashes = FRESH) -> dict[str, str]:
    """Name -> hash of the files that make a model's or an adapter's answers."""
    folders = (folder, folder / STRUCTURED)
    patterns = (WEIGHTS, *SMALL)
    return hashes.files(folder, (f for at in folders for p in patterns for f in at.glob(p)))

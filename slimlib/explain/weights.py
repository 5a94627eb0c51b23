"""One weight matrix of a checkpoint as numpy numbers, without torch and without the other weights.

A file of safetensors is a length, a table of names with type, shape and place, and the numbers
(the format's own description: github.com/huggingface/safetensors).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

KINDS = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": np.uint16}
LARGEST_HEADER = 2**25  # bytes


def read_weight(folder: str | Path, name: str) -> np.ndarray:
    """Read one tensor of a checkpoint as float32.

    Args:
        folder: with *.safetensors, one file or several.
        name: as in the files: "model.layers.0.self_attn.q_proj.weight".

    Example: `read_weight(CHECKPOINTS["base"], "model.norm.weight").shape` -> (192,).

    Raises:
        ValueError: no such tensor, or numbers that are no floats; names what is there.
    """
    there = []
    for path, start, table in _tables(Path(folder)):
        if name in table:
            return _read(path, start, name, table[name])
        there += [*table]
    if not there:
        raise ValueError(f"{folder}: has no .safetensors; give the folder of a checkpoint")
    raise ValueError(f"{folder}: has no {name!r}; it has {', '.join(there[:3])}, ...")


def _tables(folder: Path) -> Iterator[tuple[Path, int, dict[str, Any]]]:
    """Each file with the place where its numbers begin, and its table."""
    for path in sorted(folder.glob("*.safetensors")):
        with open(path, "rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if length > min(LARGEST_HEADER, path.stat().st_size):
                raise ValueError(f"{path}: is no file of safetensors")
            table = json.loads(stream.read(length))
        table.pop("__metadata__", None)
        yield path, 8 + length, table


def _read(path: Path, start: int, name: str, about: dict[str, Any]) -> np.ndarray:
    if about["dtype"] not in KINDS:
        kinds = ", ".join(KINDS)
        raise ValueError(f"{path}: {name} is stored as {about['dtype']}; must be one of {kinds}")
    kind, (begin, end) = np.dtype(KINDS[about["dtype"]]), about["data_offsets"]
    count = (end - begin) // kind.itemsize
    numbers = np.fromfile(path, kind.newbyteorder("<"), count, offset=start + begin)
    if about["dtype"] == "BF16":  # the upper half of a float32
        numbers = (numbers.astype(np.uint32) << 16).view(np.float32)
    return numbers.astype(np.float32).reshape(about["shape"])

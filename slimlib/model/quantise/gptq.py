"""GPTQ: INT4 groups whose codes are chosen, on calibration text, to keep each layer's outputs.

The quantising itself (Frantar et al. 2023) is gptqmodel's. Here its checkpoints are read, in the
packed layout that AutoGPTQ began: eight codes in an int32, along the inputs for the weights and
along the outputs for the zero points. Run on a CPU with gptqmodel 7.7.0 and a small Llama, in both
of its formats; not run on a GPU. Its releases ask for newer versions than this package allows, so
an environment of its own is the usual way: quantise and save there, `read_gptq` here.
"""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slimlib.common.files import read_json
from slimlib.model.quantise.blocks import pack
from slimlib.model.quantise.numbers import Numbers
from slimlib.model.quantise.storage import Quantised
from slimlib.model.stored import refusing_damage

if TYPE_CHECKING:
    import torch

FORMATS = ("gptq", "gptq_v2")  # the first stores zero points less one


def quantise_gptq(weight: torch.Tensor, block: tuple[int, int]) -> Quantised:
    """There is no GPTQ of a weight alone.

    Raises:
        ValueError: always; says what to call instead.
    """
    raise ValueError(
        "gptq needs calibration text, not the weights alone: load_gptq(name, group_size, rows, "
        'FOLDER), then quantiser="gptq:FOLDER"; int4 rounds to nearest without it'
    )


def load_gptq(
    name: str, group_size: int, calibration_rows: Sequence[str], folder: str | Path | None = None
) -> dict[str, Quantised]:
    """Quantise a model with gptqmodel: asymmetric, without act-order, as QA-LoRA needs it.

    Args:
        name: hub id or folder of the 16-bit model.
        group_size: inputs of one row that share scale and zero point.
        calibration_rows: texts; some hundred of the kind the model will see.
        folder: keep the GPTQ checkpoint there.

    Returns:
        module -> `Quantised`, for `replace_weights_` and merging.

    Raises:
        ValueError: gptqmodel is not installed, or no text is given.
    """
    if importlib.util.find_spec("gptqmodel") is None:
        raise ValueError(
            "gptq needs gptqmodel: pip install gptqmodel (best in an environment of its own), or "
            "read a checkpoint made elsewhere with read_gptq; int4 rounds to nearest without it"
        )
    if not calibration_rows:
        raise ValueError("calibration_rows is empty: gptq needs texts to calibrate on")
    from gptqmodel import GPTQModel, QuantizeConfig

    config = QuantizeConfig(
        bits=4, group_size=group_size, desc_act=False, sym=False, format="gptq_v2"
    )
    model = GPTQModel.load(str(name), config)
    model.quantize(list(calibration_rows), batch_size=1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = str(folder or temporary)
        model.save(folder)
        return read_gptq(folder)


def read_gptq(folder: str | Path) -> dict[str, Quantised]:
    """Read a 4-bit GPTQ checkpoint, whoever made it; gptqmodel need not be installed.

    Args:
        folder: with quantize_config.json, or the same inside config.json, and *.safetensors.

    Returns:
        module -> `Quantised`, zero points as the integers they are stored as.

    Raises:
        ValueError: no such checkpoint, another number of bits, another format, or act-order, under
            which a group's inputs are not neighbours.
    """
    from safetensors.torch import load_file

    less_one = _zeros_less_one(Path(folder))
    tensors: dict[str, Any] = {}
    for path in sorted(Path(folder).glob("*.safetensors")):
        with refusing_damage(path):
            tensors |= load_file(path)
    names = [name.removesuffix(".qweight") for name in tensors if name.endswith(".qweight")]
    if not names:
        raise ValueError(f"{folder}: no .qweight in its safetensors; not a GPTQ checkpoint")
    parts = ("qweight", "qzeros", "scales", "g_idx")
    return {
        name: from_packed(
            *(tensors.get(f"{name}.{part}") for part in parts), zeros_less_one=less_one, where=name
        )
        for name in names
    }


def _zeros_less_one(folder: Path) -> bool:
    """Check a checkpoint's settings; whether its zero points are stored less one."""
    if (folder / "quantize_config.json").is_file():
        config = read_json(folder / "quantize_config.json")
    elif (folder / "config.json").is_file():
        config = read_json(folder / "config.json").get("quantization_config", {})
    else:
        raise ValueError(f"{folder}: no quantize_config.json and no config.json")
    layout = config.get("format") or config.get("checkpoint_format") or "gptq"
    if config.get("bits") != 4 or layout not in FORMATS:
        raise ValueError(
            f"{folder}: bits={config.get('bits')}, format={layout}: must be 4 and one of "
            f"{', '.join(FORMATS)}"
        )
    return layout == "gptq"


def from_packed(
    qweight: torch.Tensor,
    qzeros: torch.Tensor,
    scales: torch.Tensor,
    g_idx: torch.Tensor | None = None,
    zeros_less_one: bool = False,
    where: str = "gptq",
) -> Quantised:
    """One linear layer's packed tensors as a `Quantised`.

    Args:
        qweight: int32 (d_in / 8, d_out), inputs packed, the first in the lowest bits.
        qzeros: int32 (groups, d_out / 8), outputs packed.
        scales: (groups, d_out).
        g_idx: (d_in), the group of each input; None: neighbours.
        zeros_less_one: as the format "gptq" stores them, over the whole int32.
        where: the module, for messages.

    Raises:
        ValueError: inputs of a group that are not neighbours (act-order).
    """
    import torch

    groups, d_out = scales.shape
    d_in = 8 * qweight.shape[0]
    size = d_in // groups
    neighbours = torch.arange(d_in, device=qweight.device) // size
    if g_idx is not None and not torch.equal(g_idx.long(), neighbours):
        raise ValueError(f"{where}: its groups are permuted (act-order): quantise without desc_act")
    if zeros_less_one:
        qzeros = (qzeros.long() + 0x11111111).to(torch.int32)
    codes = _nibbles(qweight.T)  # (d_out, d_in)
    zeros = _nibbles(qzeros)[:, :d_out]  # (groups, d_out)
    return Quantised(
        "gptq",
        (d_out, d_in),
        (1, size),
        pack(codes),
        Numbers.of(scales.T, str(scales.dtype).removeprefix("torch."), f"{where}: the scales"),
        Numbers.of(zeros.T.float(), "int", f"{where}: the zero points"),
        "zero",
    )


def _nibbles(packed: torch.Tensor) -> torch.Tensor:
    """int32 (rows, n) -> uint8 (rows, 8 n), the lowest four bits first."""
    import torch

    shifts = torch.arange(0, 32, 4, device=packed.device)
    return ((packed[..., None] >> shifts) & 15).to(torch.uint8).flatten(-2)

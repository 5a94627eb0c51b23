"""Merging an adapter inside the quantised format: codes and scales untouched, constants changed.

QA-LoRA's dW is the same number on every group of inputs, QA-HiRA's on every tile, so it can be
added to the zero points or offsets of a quantiser with those blocks. The precision in which they
are then stored decides how much of dW survives: float32 loses about 1e-5 of it, integers nearly
everything. A group's midpoint (form="offset") survives float16 four to six times better than its
zero point. The other methods' dW varies from weight to weight: for them only a merge into 16 or 32
bit is faithful. No kernel computes with such a container: `load_inside` gives a plain model.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slimlib.adapters.modules import adapted_layers
from slimlib.adapters.structure import build_pair
from slimlib.common.files import atomic_path, read_json, write_json
from slimlib.methods.definitions import Entry
from slimlib.model.quantise import Quantised
from slimlib.model.quantise.blocks import Block, check_shape, to_blocks

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

Cores = tuple["Tensor | None", "Tensor"]  # what is trained: lora_A's (QA-HiRA has none), lora_B's
INDEX, CODES, REST = "quantised.json", "quantised.safetensors", "rest.safetensors"


def exact_delta(entry: Entry, a_core: Tensor | None, b_core: Tensor) -> Tensor:
    """dW = s B_eff A_eff of one module, (d_out, d_in), float64.

    Args:
        entry: of the plan.
        a_core: what lora_A trains: r x d_in / G for QA-LoRA, None for QA-HiRA.
        b_core: what lora_B trains: d_out x r, or C of d_out / lam2 x d_in / lam1.

    Raises:
        ValueError: a core of another shape, or one that is missing or too many.
    """
    import torch

    built = build_pair(entry)
    for part, module, core in zip("AB", built, (a_core, b_core), strict=True):
        wanted = getattr(module, "core", None)
        shapes = [None if tensor is None else tuple(tensor.shape) for tensor in (wanted, core)]
        if shapes[0] != shapes[1]:
            raise ValueError(f"{entry.where}: lora_{part} of {shapes[1]}: must be {shapes[0]}")
        if core is not None:
            module.core = torch.nn.Parameter(core.detach(), requires_grad=False)
        module.to(b_core.device, torch.float64)
    a, b = (module.weight for module in built)
    return entry.scaling * (b @ a)


def surviving_share(delta: Tensor, block: Block) -> float:
    """How much of dW's square is left when each block keeps only its mean: 1 is all of it.

    Args:
        delta: (d_out, d_in).
        block: (rows, cols) that divide it.
    """
    check_shape(delta.shape, block, "dW")
    whole = delta.double().square().sum().item()
    means = to_blocks(delta.double(), block).mean(dim=1)
    return block[0] * block[1] * means.square().sum().item() / whole if whole else 1.0


def merge_inside(
    quantised: Quantised,
    entry: Entry,
    a_core: Tensor | None,
    b_core: Tensor,
    dtype: str = "float32",
    form: str | None = None,
) -> tuple[Quantised, float]:
    """Add an adapter to the constants of the quantised weight it was trained on.

    Args:
        quantised: the base weight; its blocks must divide those on which dW is constant.
        entry: the module's in the plan.
        a_core, b_core: as in `exact_delta`.
        dtype: storage of the merged constants (see `Quantised.add_constant`).
        form: "zero" or "offset"; default as it is stored now.

    Returns:
        The merged weight, and the error: the rms of what became of dW less dW, over dW's. 0 is
        lossless; 1 is as if the adapter had been left away; an untrained adapter has 0 or infinity.

    Raises:
        ValueError: a method or blocks with which no lossless merge exists; see `add_constant` too.
    """
    import torch

    _check_blocks(quantised, entry)
    delta = exact_delta(entry, a_core, b_core).to(quantised.codes.device)
    if not entry.merges_into(quantised.block):
        raise ValueError(
            f"{entry.where}: dW is constant on {_by(entry.block)} (outputs x inputs), and the "
            f"quantiser's blocks of {_by(quantised.block)} do not divide that; "
            f"{surviving_share(delta, quantised.block):.0%} of its square would survive: quantise "
            "in the adapter's blocks, or merge into 16 bit"
        )
    rows, cols = quantised.block
    merged = quantised.add_constant(delta[::rows, ::cols], dtype, form)
    change = merged.dequantize(torch.float64) - quantised.dequantize(torch.float64)
    lost, size = (change - delta).norm().item(), delta.norm().item()
    return merged, lost / size if size else float("inf") if lost else 0.0


def _check_blocks(quantised: Quantised, entry: Entry) -> None:
    if entry.block is None:
        raise ValueError(
            f"{entry.where}: its dW varies inside every block, so there is no lossless merge into "
            "the quantised format; only a merge into 16 or 32 bit is faithful"
        )
    if quantised.shape != (entry.d_out, entry.d_in):
        raise ValueError(f"{entry.where}: the quantised weight is {_by(quantised.shape)}")


def _by(sides: tuple[int, int]) -> str:
    return f"{sides[0]} x {sides[1]}"


# ----------------------------------------------------------------------------------- whole models


def adapter_cores(model: Any) -> dict[str, Cores]:
    """What a PEFT model with a QA-LoRA or QA-HiRA adapter has trained, by module path."""
    name, cores = model.active_adapter, {}
    for path, layer in adapted_layers(model):
        parts = (layer.lora_A[name], layer.lora_B[name])
        cores[path] = tuple(getattr(part, "core", None) for part in parts)
    return cores


def merge_model_inside(
    model: Any,
    quantised: Mapping[str, Quantised],
    plan: Mapping[str, Entry],
    cores: Mapping[str, Cores],
    folder: str | Path,
    dtype: str = "float32",
    form: str | None = None,
) -> pd.DataFrame:
    """Merge an adapter into a quantised model and write it: 4-bit codes, scales and constants.

    Args:
        model: the plain transformers model that was quantised; gives config and the other weights.
        quantised: module -> the base weight as it was trained on (`quantise_linears`, `read_gptq`);
            modules without an adapter stay as they are.
        plan: module -> entry (`compile_plan`).
        cores: module -> what was trained (`adapter_cores`).
        folder: is written whole or not at all.
        dtype, form: storage of the merged constants, as for `merge_inside`.

    Returns:
        One row per quantised module: quantiser, block, form, storage, bits_per_weight, and the
        retained_error of its dW (NaN without an adapter).

    Raises:
        ValueError: an adapter's module is not quantised or has no cores; else as `merge_inside`.
    """
    for name, entry in plan.items():
        if name not in quantised or name not in cores:
            missing = "quantised weight" if name not in quantised else "trained cores"
            raise ValueError(f"{entry.where}: no {missing} for it")
        _check_blocks(quantised[name], entry)
    merged, errors = dict(quantised), {}
    for name, entry in plan.items():
        merged[name], errors[name] = merge_inside(
            quantised[name], entry, *cores[name], dtype=dtype, form=form
        )
    save_inside(model, merged, folder)
    return _table(merged, errors)


def _table(merged: Mapping[str, Quantised], errors: Mapping[str, float]) -> pd.DataFrame:
    import pandas as pd

    rows = [
        {
            "module": name,
            "quantiser": stored.quantiser,
            "block": _by(stored.block),
            "form": stored.form,
            "storage": stored.constant.kind if stored.constant else "-",
            "bits_per_weight": stored.bits_per_weight,
            "retained_error": errors.get(name, float("nan")),
        }
        for name, stored in merged.items()
    ]
    return pd.DataFrame(rows)


def save_inside(model: Any, quantised: Mapping[str, Quantised], folder: str | Path) -> None:
    """Write quantised weights with the model's config and its other weights beside them."""
    from safetensors.torch import save_file

    tensors, index = {}, {}
    for name, stored in quantised.items():
        own, index[name] = stored.tensors()
        tensors |= {f"{name}:{key}": tensor.cpu().contiguous() for key, tensor in own.items()}
    rest, seen = {}, set()
    for key, tensor in model.state_dict().items():
        # tied weights are one tensor under two names, which safetensors refuses
        if key.removesuffix(".weight") not in quantised and tensor.data_ptr() not in seen:
            seen.add(tensor.data_ptr())
            rest[key] = tensor.cpu().contiguous()
    with atomic_path(Path(folder)) as temporary:
        temporary.mkdir()
        model.config.save_pretrained(temporary)
        save_file(tensors, temporary / CODES)
        save_file(rest, temporary / REST)
        write_json(temporary / INDEX, index)


def load_inside(folder: str | Path, dtype: str = "float32") -> Any:
    """A plain transformers model with the dequantised weights of a folder of `save_inside`.

    Raises:
        ValueError: no such folder, or weights in it that are missing for its config.
    """
    import torch
    from safetensors.torch import load_file
    from transformers import AutoConfig, AutoModelForCausalLM

    folder = Path(folder)
    if not (folder / INDEX).is_file():
        raise ValueError(f"{folder} holds no model merged inside the quantised format (no {INDEX})")
    dtype = getattr(torch, dtype)
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder), dtype=dtype)
    state = load_file(folder / REST) | {
        f"{name}.weight": stored.dequantize(dtype) for name, stored in read_inside(folder).items()
    }
    missing, unexpected = model.load_state_dict(state, strict=False)
    own = {name for name, _ in model.named_parameters()}  # lists a tied weight once
    if unexpected or own & {*missing}:
        raise ValueError(f"{folder}: weights missing or too many: {[*missing, *unexpected]}")
    return model.eval()


def read_inside(folder: str | Path) -> dict[str, Quantised]:
    """The quantised weights of a folder of `save_inside`, by module."""
    from safetensors.torch import load_file

    tensors = load_file(Path(folder) / CODES)
    parts: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        name, _, part = key.partition(":")
        parts.setdefault(name, {})[part] = tensor
    index = read_json(Path(folder) / INDEX)
    return {name: Quantised.from_tensors(parts[name], text) for name, text in index.items()}

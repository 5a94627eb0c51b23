"""What would fail after minutes or hours, checked in seconds."""

from __future__ import annotations

import os
import shutil
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from slimlib.common.hardware import Device, find_device, versions
from slimlib.common.hub import HubError, find_commit
from slimlib.config import Study
from slimlib.data.rows import check_local_rows
from slimlib.data.sources import MADE, WORLD, check_in_world, is_path, repository_of
from slimlib.data.tasks import check_files
from slimlib.methods.plan import check_names, compile_plan
from slimlib.methods.shapes import shape_of_folder
from slimlib.model.load import check_backend, resolve_name
from slimlib.model.wheel import WHEEL, find_gguf
from slimlib.run import Run


@dataclass(frozen=True)
class Check:
    """One line of the preflight: green or red, and the way out of a red."""

    name: str
    ok: bool
    detail: str
    way_out: str = ""

    def __str__(self) -> str:
        """One line, with the way out of a red."""
        out = "" if self.ok or not self.way_out else f". {self.way_out}"
        return f"{self.name}: {self.detail}{out}"


def checked(name: str, find: Callable[[], str], way_out: str = "") -> Check:
    """A green line of what `find` says, or a red one of the first line of its error.

    Args:
        way_out: of another library's error; slimlib's own name theirs.
    """
    try:
        return Check(name, True, find())
    except ANYTHING as error:
        first = str(error).strip().partition("\n")[0].rstrip(".")
        return Check(name, False, first or type(error).__name__, "" if _ours(error) else way_out)


# What transformers, peft and torch raise of a strange model; ValueError and OSError are slimlib's.
ANYTHING = (
    ValueError,
    OSError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    NotImplementedError,
    RuntimeError,
    TypeError,
)


def _ours(error: Exception) -> bool:
    """Whether slimlib raised it."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return frames[-1].f_globals.get("__name__", "").startswith("slimlib")


def preflight(study: Study, root: str | Path = "runs") -> list[Check]:
    """Check, in seconds, what would otherwise fail after minutes or hours.

    Args:
        study: what is to be run.
        root: where its folder will lie.

    Example:

        failed = [check for check in slimlib.preflight(study) if not check.ok]
    """
    device = find_device()
    checks = [_check_device(study, device), _check_memory(study, device)]
    checks += [_check_disk(study, Path(root)), _check_writable(Path(root)), _check_versions(device)]
    if study.data == "hub":
        checks += [_check_token()]
        checks += [_check_access(*asked) for asked in _repositories(study)]
    return checks


def _repositories(study: Study) -> list[tuple[str, str | None, str]]:
    """Name, revision and kind of what a study reads from the hub, tasks left out."""
    models = [(arm.model.name, arm.model.revision, "model") for arm in study.arms]
    rows = [
        (*repository_of(name), "dataset")
        for arm in study.arms
        if arm.trains and not arm.data.path
        for data in arm.data.sets
        for name in data.names
        if not is_path(name) and name not in (*WORLD, *MADE)
    ]
    return [*dict.fromkeys([*models, *rows])]


class Size(NamedTuple):
    """What models of one size need, in GB."""

    memory: float
    download: float
    merged: float  # one arm's weights
    gpu: bool


SIZES = {  # beginnings of names; others are taken for 1B models in float16
    ("micro:",): Size(1.5, 0.3, 0.0, False),
    ("wheel:", "HuggingFaceTB/SmolLM2-135M"): Size(4.0, 0.6, 0.6, False),
}
LARGE = Size(6.0, 6.0, 2.6, True)  # merged beside its 4 bit; three downloads


def size_of(study: Study) -> Size:
    """What the largest models of a study need."""
    names = {arm.model.name for arm in study.arms}
    sizes = [
        next((size for starts, size in SIZES.items() if name.startswith(starts)), LARGE)
        for name in names
    ]
    return max(sizes)


def needs_gpu(study: Study) -> bool:
    """Whether a study has models that a CPU does not carry."""
    return size_of(study).gpu


def _check_device(study: Study, device: Device) -> Check:
    ok = device.kind == "cuda" or not needs_gpu(study)
    way_out = "Colab: Runtime > Change runtime type > T4 GPU. Or take the micro study"
    return Check("device", ok, f"{device.name}; {device.reason}", way_out)


def _check_memory(study: Study, device: Device) -> Check:
    need = size_of(study).memory
    detail = f"{device.free_gb:.1f} of {device.memory_gb:.1f} GB free, {need:.1f} needed"
    way_out = "Restart the runtime: another notebook may hold the memory"
    return Check("memory", device.free_gb >= need, detail, way_out)


def _check_disk(study: Study, root: Path) -> Check:
    weights = sum(arm.writes_weights for arm in study.arms)
    size = size_of(study)
    need = size.download + size.merged * weights
    existing = next(p for p in (root.absolute(), *root.absolute().parents) if p.exists())
    free = shutil.disk_usage(existing).free / 2**30
    way_out = f"Free space on {existing}, or give another --runs folder"
    return Check("disk", free >= need, f"{free:.0f} GB free, {need:.1f} needed", way_out)


def _check_writable(root: Path) -> Check:
    existing = next(p for p in (root.absolute(), *root.absolute().parents) if p.exists())
    ok = os.access(existing, os.W_OK)
    return Check("run folder", ok, str(root), f"{existing} is not writable: give another folder")


def _check_versions(device: Device) -> Check:
    found = versions()
    wanted = ["torch", "transformers", "peft", "trl", "bitsandbytes", "datasets", "lm_eval"]
    wanted += ["unsloth"] if device.kind == "cuda" else []
    missing = [package for package in wanted if package not in found]
    detail = ", ".join(f"{package} {found[package]}" for package in wanted if package in found)
    way_out = f"missing: {', '.join(missing)}. Run the install cell, then restart the runtime"
    return Check("packages", not missing, detail, way_out)


def _check_token() -> Check:
    from huggingface_hub import get_token

    known = get_token() is not None
    detail = "a token is set" if known else "no token; the default checkpoints are not gated"
    return Check("HF token", True, detail)


def _check_access(name: str, revision: str | None, kind: str) -> Check:
    if name.startswith("micro:") or os.path.exists(name):
        return Check(f"access {name}", True, "on this machine")
    if name.startswith(WHEEL):
        return checked(f"access {name}", lambda: f"{find_gguf(name).name}, on this machine")
    try:
        commit = find_commit(name, revision, kind)
        detail = f"granted, commit {commit[:12]}" if commit else "offline: the cache is read"
        return Check(f"access {name}", True, detail)
    except HubError as error:
        return Check(f"access {name}", False, error.problem, error.way_out)


def check_adapters(study: Study) -> None:
    """Hold every adapter against the shapes of its model, where those are at hand.

    Raises:
        ValueError: values or rules that do not fit a module, named with its shape.
    """
    for arm in study.arms:
        folder = Path(resolve_name(arm.model.name))
        if arm.adapter and (folder / "config.json").is_file():
            shape = shape_of_folder(folder)
            if shape:
                check_names(shape.modules(), arm.adapter.target_modules)
                compile_plan(shape.modules(), arm.adapter)


def check_writable(folder: Path) -> None:
    """ValueError for a folder that can neither be made nor written to."""
    folder = folder.absolute()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise ValueError(f"folder {folder}: {existing} is not a folder that can be written to")


def check_input(run: Run) -> None:
    """Refuse bad settings, rows and files before anything is written.

    Raises:
        ValueError: naming the value and the way out.
    """
    check_writable(run.folder)
    run.study.tuned  # noqa: B018  refuses a study without one
    run.check()
    check_arms(run)


def check_arms(run: Run) -> None:
    """Refuse arms that cannot be made: their adapters, models, rows and files.

    Raises:
        ValueError: naming the value and the way out.
    """
    check_adapters(run.study)
    for arm in run.study.arms:
        for task in arm.evaluate.tasks if run.local_data else ():
            check_files(task, run.local_data)
        resolve_name(arm.model.name)
        check_backend(arm)
        for data in arm.data.sets if arm.trains else ():
            if run.study.data == "world" and not arm.data.path:
                check_in_world(data)
            check_local_rows(data, run.local_data)


GREEN, RED = "background-color: #d6f0d9; color: black", "background-color: #f8d3d0; color: black"


def preflight_table(checks: Sequence[Check]) -> Any:
    """The preflight as a red/green table (a pandas Styler)."""
    import pandas as pd

    rows = [
        {"check": c.name, "ok": "green" if c.ok else "RED", "found": c.detail}
        | {"way out": "" if c.ok else c.way_out}
        for c in checks
    ]
    table = pd.DataFrame(rows)
    return table.style.map(lambda ok: GREEN if ok == "green" else RED, subset=["ok"]).hide()

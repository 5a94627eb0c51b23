"""What a measure is taken with: the peak of memory, the device's name, the work of a model."""

import ctypes
import gc
import platform
import re
import sys
import time
from pathlib import Path
from typing import Any


class Memory:
    """Peak memory from here on: all of it on a GPU, and on a CPU what exceeds the start's.

    On a CPU the resident set is measured, as Linux alone lets a process reset its peak.
    """

    def __init__(self, device: str) -> None:
        import torch

        self.device = device
        self.start = None
        gc.collect()
        if device == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        elif sys.platform == "linux":
            ctypes.CDLL("libc.so.6").malloc_trim(0)  # else what is free already would be taken
            Path("/proc/self/clear_refs").write_text("5")  # the peak is now what is resident
            self.start = _resident("VmRSS")

    def peak_mb(self) -> float | None:
        """The peak in MB (2**20 bytes); None where it cannot be known."""
        import torch

        if self.device == "cuda":
            return torch.cuda.max_memory_allocated() / 2**20
        return None if self.start is None else (_resident("VmHWM") - self.start) / 2**10


def _resident(field: str) -> int:
    """A field of the process's status, in kilobytes."""
    text = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(re.search(rf"^{field}:\s+(\d+) kB", text, re.MULTILINE)[1])


def device_name(device: str) -> str:
    """The GPU's name, or the processor's."""
    import torch

    if device == "cuda":
        return torch.cuda.get_device_name()
    information = Path("/proc/cpuinfo")
    text = information.read_text(encoding="utf-8") if information.exists() else ""
    named = re.search(r"^model name\s*:\s*(.+)", text, re.MULTILINE)
    return named[1].strip() if named else platform.machine()


def flops(model: Any, tokens: int, positions: int) -> int:
    """Operations of the linear modules on the tokens, and of the head on the scored positions.

    Two for each weight and token. The attention's products are left out: they depend on the
    lengths, and at a thousand tokens they are a few per cent of Llama-3.2-1B.
    """
    from slimlib.adapters.modules import linear_shapes

    linear = sum(d_in * d_out for d_in, d_out in linear_shapes(model).values())
    head = model.get_output_embeddings().weight
    return 2 * linear * tokens + 2 * head.shape[0] * head.shape[1] * positions


def product_rate(model: Any) -> float:
    """FLOP/s of one large matrix product in the model's dtype: what a pass cannot exceed."""
    import torch

    a, b = torch.randn(2, 2048, 2048, dtype=model.dtype, device=model.device)
    best = 0.0
    for _ in range(5):
        begin = time.perf_counter()
        float((a @ b)[0, 0])  # waits for a GPU
        best = max(best, 2 * 2048**3 / (time.perf_counter() - begin))
    return best

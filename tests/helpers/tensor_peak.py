"""The peak of the memory that tensors take on a CPU: every allocation, inside operations too."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path


def tensor_peak(work: Callable[[], object]) -> int:
    """Bytes that tensors take at most while `work` runs, beside what was there before it.

    Read from the profiler's trace: each event of torch's CPU allocator tells the bytes that are
    allocated then. The resident set would count Python, code and the allocator's leavings too.
    """
    import torch

    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True, acc_events=True
    ) as profile:
        work()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profile.export_chrome_trace(str(path))
        events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    return max(e["args"]["Total Allocated"] for e in events if e.get("name") == "[memory]")


def stored(model: object) -> int:
    """Bytes of a model's parameters and buffers, each storage once, and its 4-bit scales."""
    tensors = [*model.parameters(), *model.buffers()]
    for parameter in model.parameters():
        if state := getattr(parameter, "quant_state", None):
            tensors += [state.absmax, state.code]
            if state.nested:
                tensors += [state.state2.absmax, state.state2.code]
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values())

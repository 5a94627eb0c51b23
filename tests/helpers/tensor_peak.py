"""The peak of the memory that tensors take on a CPU: every allocation, inside operations too."""

import gc
from collections.abc import Callable
from itertools import accumulate
from typing import Any


def tensor_peak(work: Callable[[], object]) -> int:
    """Bytes that tensors take at most while `work` runs, beside what was there before it.

    Each allocation and release of torch's CPU allocator is an event of its profiler. The resident
    set would count Python, code and the allocator's leavings too.
    """
    import torch

    gc.collect()  # else an earlier model, freed in between, would count as less
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        work()
    # as torch.autograd.profiler reads them; profile.events() would first build a tree of all others
    events = profile.profiler.kineto_results.events()
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    return max(accumulate(size for _, size in changes))


def stored(model: Any) -> int:
    """Bytes of a model's parameters and buffers, each storage once, and of its 4-bit scales."""
    tensors = [*model.parameters(), *model.buffers()]
    for parameter in model.parameters():
        if state := getattr(parameter, "quant_state", None):
            tensors += [state.absmax, state.code]
            tensors += [state.state2.absmax, state.state2.code] if state.nested else []
    storages = (tensor.untyped_storage() for tensor in tensors)
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())

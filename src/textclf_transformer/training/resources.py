"""How much memory the process has taken at its peak."""

from __future__ import annotations

import sys

import torch

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

_MIB = 1 << 20


def peak_memory(device: torch.device) -> dict[str, float | None]:
    """Return ``memory_host_mib``, the peak resident set, and ``memory_device_mib``, torch's peak on a GPU.

    A figure that the platform does not give is None.
    """
    host = None
    if resource is not None:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        host = round(peak * (1 if sys.platform == "darwin" else 1024) / _MIB, 1)  # bytes there, KiB elsewhere
    on_device = None
    if device.type == "cuda":
        on_device = round(torch.cuda.max_memory_allocated(device) / _MIB, 1)
    return {"memory_host_mib": host, "memory_device_mib": on_device}

"""glibc's heap under tensors; to be settled before torch takes its first memory, hence without torch.

glibc serves large requests by fresh pages and gives those back, but each one that is freed raises the size
from which it does so, up to 32 MB. From then on tensors live in the heap, where sizes that change from step
to step leave holes: a process grows for thousands of steps, and what a long document frees stays taken. With
the size fixed, the memory of a tensor ends with it. Fresh pages cost time, huge ones little: LOG.md has the
measurements.
"""

from __future__ import annotations

import ctypes
import os
import sys

_MMAP_THRESHOLD = 1 << 20  # bytes
_M_MMAP_THRESHOLD = -3  # the parameter's number in malloc.h


def settle_allocator() -> None:
    """Give large tensors pages of their own, huge ones where the system has them; no result depends on it.

    What the user set, by ``MALLOC_MMAP_THRESHOLD_`` and ``THP_MEM_ALLOC_ENABLE``, stays. Does nothing outside
    Linux with glibc.
    """
    if sys.platform != "linux":
        return
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # read by torch: huge pages for tensors from 2 MB on
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries have none
    if mallopt is not None and "MALLOC_MMAP_THRESHOLD_" not in os.environ:
        mallopt(_M_MMAP_THRESHOLD, _MMAP_THRESHOLD)

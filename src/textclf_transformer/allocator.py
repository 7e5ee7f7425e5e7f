"""glibc's heap under tensors; to be settled before torch takes its first memory, hence without torch.

Left alone, glibc gives the pages of a large tensor back to the system when it is freed and takes fresh ones,
zeroed page by page, for the next: a quarter of a training step's time. Here the heap keeps what is freed, in
huge pages, and the long-running loops give it back now and then, since sizes that change from step to step
leave holes. LOG.md has the measurements.
"""

from __future__ import annotations

import ctypes
import os
import sys

_KEPT_BELOW = (1 << 30, 32 << 20)  # bytes; older versions of glibc take 32 MiB at most
_TRIM_THRESHOLD = 2**31 - 1  # free bytes at the heap's end from which on they are given back
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # the parameters' numbers in malloc.h


def settle_allocator() -> None:
    """Keep freed memory for the next tensor, in huge pages where there are some; no result depends on it.

    What the user set, by glibc's ``MALLOC_…`` variables and ``THP_MEM_ALLOC_ENABLE``, stays. Does nothing
    outside Linux with glibc.
    """
    if sys.platform != "linux":
        return
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # read by torch: huge pages for tensors from 2 MB on
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries have none
    if mallopt is None or any(name.startswith("MALLOC_") for name in os.environ):
        return
    any(mallopt(_M_MMAP_THRESHOLD, size) for size in _KEPT_BELOW)  # returns 0 where it refuses
    mallopt(_M_TRIM_THRESHOLD, _TRIM_THRESHOLD)


def release_free_memory() -> None:
    """Give what the heap holds for nothing back to the system; does nothing where that cannot be done."""
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)

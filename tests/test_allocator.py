"""Freed tensors give their memory back, unless the user wants glibc's own way."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from types import SimpleNamespace

import pytest

from textclf_transformer import allocator

# A freed tensor of 31 MB lets glibc put all smaller ones into the heap; each small tensor that stays then
# pins what lies below it.
LEAVE_HOLES = """
import os
from textclf_transformer.allocator import settle_allocator
if {settle}:
    settle_allocator()
import torch

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20

torch.ones(31 * 2**18)
before = resident()
staying, going = [], []
for _ in range(60):
    going.append(torch.ones(3 * 2**18))
    staying.append(torch.ones(1000))
del going
print(resident() - before)
"""


def megabytes_left(*, settle: bool) -> float:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "THP_", "LD_PRELOAD"))}
    code = LEAVE_HOLES.format(settle=settle)
    result = subprocess.run(
        [sys.executable, "-c", code], env=clean, capture_output=True, text=True, check=True
    )
    return float(result.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_tensors_leave_no_holes() -> None:
    assert megabytes_left(settle=False) > 90, "this machine's allocator needs no help"
    assert megabytes_left(settle=True) < 20


def test_what_the_user_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    library = SimpleNamespace(mallopt=lambda *arguments: calls.append(arguments))
    monkeypatch.setattr(allocator.sys, "platform", "linux")
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: library)
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "4096")
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", "0")
    allocator.settle_allocator()
    assert not calls
    assert os.environ["THP_MEM_ALLOC_ENABLE"] == "0"
    monkeypatch.delenv("MALLOC_MMAP_THRESHOLD_")
    monkeypatch.delenv("THP_MEM_ALLOC_ENABLE")
    allocator.settle_allocator()
    assert calls == [(-3, 1 << 20)]
    assert os.environ["THP_MEM_ALLOC_ENABLE"] == "1"
    library = SimpleNamespace()
    allocator.settle_allocator()

"""Freed tensors give their memory back, unless the user wants glibc's own way."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from types import SimpleNamespace

import pytest

from textclf_transformer import allocator

# A step's worth of tensors, freed at its end and taken again at the next.
TAKE_AND_FREE = """
import os, resource
from textclf_transformer.allocator import release_free_memory, settle_allocator
if {settle}:
    settle_allocator()
import torch

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

before, staying = resident(), []
for step in range(6):
    if step == 1:
        start = faults()
    going = [torch.ones(6 * 2**20) for _ in range(6)]
    staying.append(torch.ones(1000))
    del going
again = faults() - start
release_free_memory()
print(again, resident() - before)
"""


def faults_and_megabytes_left(*, settle: bool) -> tuple[int, float]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "THP_", "LD_PRELOAD"))}
    code = TAKE_AND_FREE.format(settle=settle)
    result = subprocess.run(
        [sys.executable, "-c", code], env=clean, capture_output=True, text=True, check=True
    )
    faults, megabytes = result.stdout.split()
    return int(faults), float(megabytes)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_freed_pages_are_used_again_and_can_be_given_back() -> None:
    unsettled, _ = faults_and_megabytes_left(settle=False)
    assert unsettled > 50_000, "this machine's allocator needs no help"
    faults, megabytes = faults_and_megabytes_left(settle=True)
    assert faults < unsettled / 3
    assert megabytes < 40  # of 144 that were taken


def test_what_the_user_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    library = SimpleNamespace(mallopt=lambda *arguments: calls.append(arguments) or arguments[1] != 1 << 30)
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
    assert calls == [(-3, 1 << 30), (-3, 32 << 20), (-1, 2**31 - 1)]
    assert os.environ["THP_MEM_ALLOC_ENABLE"] == "1"
    library = SimpleNamespace()
    allocator.settle_allocator()
    allocator.release_free_memory()

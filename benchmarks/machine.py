"""The machine that a benchmark ran on: hardware, versions, commit, and how fast it multiplies matrices."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

import torch
from torch.nn import functional as F

from textclf_transformer.experiment import CHECKOUT
from textclf_transformer.training.numerics import choose_amp_dtype
from textclf_transformer.utils import cpu_capabilities, cpu_name

PACKAGES = ("torch", "transformers", "tokenizers", "numpy")
GEMM_SHAPES = ((4096, 768, 3072), (2048, 2048, 2048))
CODE_FOLDERS = ("src", "benchmarks")


def gemm_rate(device: torch.device, dtype: torch.dtype, *, seconds: float = 0.6) -> float:
    """Return the operations per second of the fastest matrix product, over sizes as a model has them."""
    fastest = 0.0
    for m, k, n in GEMM_SHAPES:
        inputs = torch.randn(m, k, device=device).to(dtype)
        weight = torch.randn(n, k, device=device).to(dtype)
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            start = time.perf_counter()
            F.linear(inputs, weight)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            fastest = max(fastest, 2 * m * k * n / (time.perf_counter() - start))
    return fastest


def describe_machine(device: torch.device, *, seconds: float = 0.6) -> dict[str, Any]:
    """Return hardware, versions, threads, commit, date and the rates of matrix products, measured now."""
    return {
        "hardware": _hardware(device),
        "versions": {name: _version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
        "commit": code_commit(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "multiplies_bf16": choose_amp_dtype(device, use_amp=True, amp_dtype="auto") is not None,
        "gemm_bf16": gemm_rate(device, torch.bfloat16, seconds=seconds),
        "gemm_fp32": gemm_rate(device, torch.float32, seconds=seconds),
    }


def machine_line(machine: Mapping[str, Any]) -> str:
    """Return the machine in words."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    load = "" if machine["load"] is None else f", load {machine['load']:.1f} before"
    return (
        f"{machine['date']}, {machine['hardware']}, {machine['threads']} threads{load}; {versions}, "
        f"Python {machine['python']}; commit {machine['commit']}; matrix products "
        f"{machine['gemm_bf16'] / 1e9:.0f} GFLOP/s in bf16, {machine['gemm_fp32'] / 1e9:.0f} in fp32"
    )


def code_commit() -> str:
    """Return the last commit that changed code that is measured, with ``+`` if the checkout differs."""
    try:
        commit = _git("log", "-1", "--format=%h", "--", *CODE_FOLDERS)
        return commit + ("+" if _git("status", "--porcelain", "--", *CODE_FOLDERS) else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(CHECKOUT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _hardware(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    capabilities = cpu_capabilities()
    bf16 = next((name for name in ("amx_bf16", "avx512_bf16", "arm_bf16") if capabilities.get(name)), None)
    return f"{os.cpu_count()} cores {cpu_name()}" + (f" ({bf16})" if bf16 else "")

"""Number formats of a run and the switches that make it repeat itself to the bit."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any, Literal

import torch

from textclf_transformer.errors import ConfigError
from textclf_transformer.utils import cpu_capabilities

AmpDtypeName = Literal["auto", "bf16", "fp16"]


def choose_amp_dtype(device: torch.device, *, use_amp: bool, amp_dtype: AmpDtypeName) -> torch.dtype | None:
    """Return the dtype of autocast's matrix products on ``device``; None computes in float32.

    ``auto`` takes bfloat16 where the hardware multiplies it, else float16 on a GPU and float32 on a CPU. The
    choice follows from config and hardware alone. Weights and optimizer state are float32 in every case.

    Raises:
        ConfigError: float16 on a CPU, which has neither the speed nor the gradient scaler; bfloat16 on a GPU
            without it.
    """
    if not use_amp:
        return None
    if device.type == "cuda":
        has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        if amp_dtype == "bf16" and not has_bf16:
            raise ConfigError(
                "this GPU has no bfloat16",
                where="training.amp_dtype",
                found=torch.cuda.get_device_name(device),
                mend="use fp16 or auto",
            )
        return torch.float16 if amp_dtype == "fp16" or not has_bf16 else torch.bfloat16
    if amp_dtype == "fp16":
        raise ConfigError(
            "fp16 needs a GPU", where="training.amp_dtype", found=device, mend="use bf16 or auto"
        )
    return torch.bfloat16 if amp_dtype == "bf16" or cpu_has_bf16() else None


def available_amp_dtype(device: torch.device, trained: torch.dtype | None) -> torch.dtype | None:
    """Return the dtype that a run was ``trained`` in if ``device`` multiplies it in hardware, else None:
    float32.
    """
    if trained is None:
        return None
    if device.type == "cuda":
        has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        return trained if trained == torch.float16 or has_bf16 else None
    return trained if trained == torch.bfloat16 and cpu_has_bf16() else None


def cpu_has_bf16() -> bool:
    """Whether this CPU multiplies bfloat16; without that, autocast converts back and forth and is slower."""
    capabilities = cpu_capabilities()
    if any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "arm_bf16")):
        return True
    check = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return bool(check())


def autocast(device: torch.device, amp_dtype: torch.dtype | None) -> AbstractContextManager[object]:
    """Return the autocast region of one forward pass; None computes in float32."""
    return torch.autocast(device.type, dtype=amp_dtype, enabled=amp_dtype is not None)


def settle_libraries() -> None:
    """Set what oneDNN and cuBLAS read when they first start, unless the user has; to be called before that.

    Fewer kernels are kept of those that are compiled for each new shape: micro-batches have ever new numbers
    of tokens, and by default a thousand kernels with their buffers are kept twice, by oneDNN and by torch's
    layer above it (ideep), more than a gigabyte at no gain in speed (LOG.md, 2026-11-21). And cuBLAS gets a
    fixed workspace, without which it does not repeat itself.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
    os.environ.setdefault("LRU_CACHE_CAPACITY", "64")


@contextlib.contextmanager
def deterministic_algorithms(device: torch.device) -> Iterator[None]:
    """Make torch choose kernels that repeat themselves to the bit; the former settings come back afterwards.

    Without it the backward pass of an embedding, for one, adds up repeated rows in the order in which threads
    arrive. An operation that has no such kernel is an error; on other devices than a CPU and CUDA, which lack
    many, it warns and goes on.
    """
    settle_libraries()
    memory: Any = torch.utils.deterministic  # a module with properties, which its type does not tell
    was_enabled = torch.are_deterministic_algorithms_enabled()
    was_warning = torch.is_deterministic_algorithms_warn_only_enabled()
    was_filling = memory.fill_uninitialized_memory
    # Not only warn on CUDA: with that, flash and memory-efficient attention go backward by their faster way,
    # which adds up in the order in which blocks arrive, though they have another.
    torch.use_deterministic_algorithms(True, warn_only=device.type not in {"cpu", "cuda"})
    # writing NaN into each fresh tensor helps to find bugs only, and costs time
    memory.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(was_enabled, warn_only=was_warning)
        memory.fill_uninitialized_memory = was_filling

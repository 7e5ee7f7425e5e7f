from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from toys import CPU

from textclf_transformer.errors import ConfigError
from textclf_transformer.training import numerics
from textclf_transformer.training.numerics import choose_amp_dtype
from textclf_transformer.training.resources import peak_memory

GPU = torch.device("cuda")


@pytest.mark.parametrize(("native", "chosen"), [(True, torch.bfloat16), (False, None)])
def test_auto_on_a_cpu_follows_the_hardware(
    monkeypatch: pytest.MonkeyPatch, native: bool, chosen: torch.dtype | None
) -> None:
    monkeypatch.setattr(numerics, "cpu_has_bf16", lambda: native)
    assert choose_amp_dtype(CPU, use_amp=True, amp_dtype="auto") == chosen
    assert choose_amp_dtype(CPU, use_amp=True, amp_dtype="bf16") == torch.bfloat16
    assert choose_amp_dtype(CPU, use_amp=False, amp_dtype="auto") is None


def test_fp16_on_a_cpu_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"fp16 needs a GPU; training\.amp_dtype"):
        choose_amp_dtype(CPU, use_amp=True, amp_dtype="fp16")


@pytest.mark.parametrize(("native", "chosen"), [(True, torch.bfloat16), (False, torch.float16)])
def test_auto_on_a_gpu_follows_the_hardware(
    monkeypatch: pytest.MonkeyPatch, native: bool, chosen: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "an old GPU")
    assert choose_amp_dtype(GPU, use_amp=True, amp_dtype="auto") == chosen
    assert choose_amp_dtype(GPU, use_amp=True, amp_dtype="fp16") == torch.float16
    if not native:
        with pytest.raises(ConfigError, match="no bfloat16"):
            choose_amp_dtype(GPU, use_amp=True, amp_dtype="bf16")


def test_peak_memory_is_in_mebibytes() -> None:
    memory = peak_memory(CPU)
    assert memory["memory_device_mib"] is None
    if memory["memory_host_mib"] is not None:
        assert 50 < memory["memory_host_mib"] < 100_000  # torch alone takes more than 50


def test_the_kernel_cache_is_limited_before_the_first_product() -> None:
    # in a process of its own: oneDNN reads the variable once
    script = (
        "import os, torch\n"
        "from textclf_transformer.training.numerics import deterministic_algorithms\n"
        "with deterministic_algorithms(torch.device('cpu')):\n"
        "    print(os.environ['ONEDNN_PRIMITIVE_CACHE_CAPACITY'])\n"
    )
    given = {name: value for name, value in os.environ.items() if not name.startswith("ONEDNN")}
    for environment, expected in ((given, "64"), (given | {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "7"}, "7")):
        done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
        assert done.stdout.strip() == expected, done.stderr

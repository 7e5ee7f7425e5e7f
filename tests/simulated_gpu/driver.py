"""Builds and loads ``driver.cpp``; does not import torch, since torch must find the driver when it starts."""

from __future__ import annotations

import ctypes
import importlib.util
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).with_name("driver.cpp")


def _torch_folder() -> Path:
    spec = importlib.util.find_spec("torch")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent


def build_driver(library: Path) -> None:
    """Compile the driver against the headers of the installed torch."""
    torch = _torch_folder()
    command = ["g++", "-std=c++20", "-shared", "-fPIC", f"-I{torch / 'include'}", str(SOURCE)]
    command += ["-o", str(library), f"-L{torch / 'lib'}", "-lc10", "-ltorch_cpu"]
    subprocess.run(command, check=True, capture_output=True, text=True)


def load_driver(library: Path) -> None:
    """Register the driver with torch; to be called before torch is imported."""
    assert "torch" not in sys.modules, "torch has started without the driver"
    ctypes.CDLL(str(_torch_folder() / "lib" / "libtorch_cpu.so"), ctypes.RTLD_GLOBAL)
    ctypes.CDLL(str(library))

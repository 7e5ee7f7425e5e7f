"""Seeds, devices, classes named in a config, and the one table from YAML names to Python names."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import importlib.util
import math
import operator
import os
import platform
import random
import re
import sys
import threading
from numbers import Real
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from textclf_transformer.errors import ConfigError, UsageError

PACKAGE = "textclf_transformer"

# The only place where the names of the YAML file and the names of the Python modules meet.
ARCHITECTURE_NAMES = {
    "max_sequence_length": "max_sequence_length",
    "embedding_dim": "hidden_size",
    "num_layers": "num_hidden_layers",
    "ffn_dim": "intermediate_size",
    "attention.kind": "attention_kind",
    "attention.num_heads": "num_attention_heads",
    "attention.max_relative_positions": "max_relative_positions",
    "layer_norm_eps": "layer_norm_eps",
    "dropouts.hidden": "hidden_dropout_prob",
    "dropouts.attention": "attention_probs_dropout_prob",
    "dropouts.embedding": "embedding_dropout_prob",
}

# Padded tokens computed at once where nothing else is said, by the kind of device: enough to keep the matrix
# units busy. Fixed and not taken from free memory, so that a run repeats itself.
AUTO_MICRO_BATCH_TOKENS = {"cpu": 16_384, "cuda": 65_536}

_FOREIGN_LOCK = threading.RLock()


def derive_seed(*parts: int | str) -> int:
    """Return a seed in 0 .. 2**63 - 1 that depends on the parts, their order and their types, and on nothing
    else.

    It is the BLAKE2b hash of the parts, each written with its type and length, so that no two lists of parts
    are written alike: ``("a", "b")`` and ``("ab",)`` differ, and so do ``1`` and ``"1"``. Equal on every
    machine.

    Raises:
        TypeError: a part is neither an integer nor a string.
    """
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        kind, text = ("s", part) if isinstance(part, str) else ("i", str(operator.index(part)))
        data = text.encode("utf-8")
        digest.update(f"{kind}{len(data)}:".encode("ascii") + data)
    return int.from_bytes(digest.digest(), "big") >> 1


def check_integer(value: Any, name: str, *, at_least: int | None = None) -> int:
    """Return what a notebook gives for the integer ``name``, numpy's or torch's too, as Python's own.

    Raises:
        ConfigError: it is none, or below ``at_least``.
    """
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or (at_least is not None and number < at_least):
        expected = "an integer" if at_least is None else f"an integer from {at_least} up"
        raise ConfigError("not a number that can be used", where=name, found=repr(value), expected=expected)
    return number


def check_share(value: Any, name: str, *, below_one: bool = False) -> float:
    """Return what a notebook gives for the share ``name``, numpy's too, as Python's own number.

    Raises:
        ConfigError: it is none, or not from 0 to 1; with ``below_one`` 1 is too much.
    """
    number = float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan
    if not 0 <= number <= 1 or (below_one and number == 1):
        expected = "a number from 0 to below 1" if below_one else "a number from 0 to 1"
        raise ConfigError("not a share", where=name, found=repr(value), expected=expected)
    return number


def real_path(path: Path) -> Path:
    """Return the absolute path without links; links in a circle, which ``Path.resolve`` refuses, stay."""
    return Path(os.path.realpath(path))


def check_path(value: Any, name: str, *, expected: str = "the path of a folder") -> None:
    """Refuse what a notebook gives for the path ``name`` and is none.

    Raises:
        ConfigError: it is neither a string nor a path, or holds the character NUL, which no path may.
    """
    if not isinstance(value, str | os.PathLike):
        raise ConfigError("not a path", where=name, found=type(value).__name__, expected=expected)
    if "\0" in str(value):
        raise ConfigError("not a path", where=name, found=repr(str(value)), expected=expected)


def seed_everything(seed: int) -> None:
    """Seed the global random streams of Python, numpy and torch with ``seed`` (0 .. 2**63 - 1)."""
    random.seed(seed)
    # numpy takes words of 32 bits; both halves go in, so that seeds that differ above bit 32 stay different.
    np.random.seed([seed & 0xFFFFFFFF, seed >> 32])
    # torch's CPU generator looks at the lower 32 bits only; hashing lets all bits of the seed reach them.
    torch.manual_seed(derive_seed("torch", seed))


def resolve_device(name: str, *, where: str = "training.device") -> torch.device:
    """Return the device for ``auto`` (CUDA where there is one), ``cpu``, ``cuda`` or ``cuda:N``.

    Args:
        name: of the device.
        where: what gave it, for messages.

    Raises:
        ConfigError: another name, or CUDA is asked for and this machine, or this build of torch, has none of
            that number.
    """
    match = re.fullmatch(r"auto|cpu|cuda(?::(\d{1,3}))?", name) if isinstance(name, str) else None
    if match is None:
        raise ConfigError(
            "unknown device", where=where, found=repr(name), expected="auto, cpu, cuda or cuda:N"
        )
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cpu":
        return torch.device("cpu")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(match.group(1) or 0) >= count:
        raise ConfigError(
            "this CUDA device is not there",
            where=where,
            found=f"{name} with {count} CUDA devices",
            mend="use auto or cpu, or install a torch build for CUDA",
        )
    return torch.device(name)


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """Return ``tensor`` on ``device``; from the CPU to a GPU without waiting, through pinned memory."""
    if tensor.device.type == "cpu" and device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def cpu_capabilities() -> dict[str, object]:
    """Return the instruction sets and the like that torch sees; nothing in a build that does not say."""
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return capabilities


@functools.cache
def cpu_name() -> str:
    """Return what the processor calls itself: ``Intel(R) Xeon(R) …``, ``12th Gen Intel(R) Core(TM) …``."""
    return _of_cpuinfo("model name") or platform.processor() or platform.machine()


@functools.cache
def cpu_is_intels() -> bool:
    """Whether Intel made the processor; a virtual machine may give it a name without its maker."""
    return "Intel" in (_of_cpuinfo("vendor_id") or cpu_name())


def _of_cpuinfo(key: str) -> str | None:
    """Return what Linux says of the first processor under ``key``, if anything."""
    with contextlib.suppress(OSError):
        information = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        if (found := re.search(rf"^{key}\s*: (.+)$", information, re.MULTILINE)) is not None:
            return found[1]
    return None


def processor_name(device: torch.device) -> str:
    """Return what computes on ``device``, in words: on another processor sums are rounded otherwise."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{cpu_name()}, {torch.backends.cpu.get_cpu_capability()}"


def architecture_arguments(architecture: object) -> dict[str, Any]:
    """Return the encoder's keyword arguments for the ``architecture`` section of a config.

    ``max_sequence_length`` keeps its name: the caller turns it into ``max_position_embeddings`` (S +
    pad_token_id + 1) because only the tokenizer knows the PAD id.
    """
    return {
        python_name: operator.attrgetter(yaml_name)(architecture)
        for yaml_name, python_name in ARCHITECTURE_NAMES.items()
    }


def load_class(wrapper_path: str, *, trust_code: bool) -> type:
    """Import the class named by ``path/to/file.py:Class`` or ``module.path:Class``.

    Args:
        wrapper_path: the file or module and the class in it.
        trust_code: whether the user agreed, on this command line, that code from outside this package is run.

    Raises:
        UsageError: the name has another form, code outside the package is not trusted, or the import fails.
    """
    location, colon, class_name = wrapper_path.rpartition(":")
    if not colon or not location or not class_name.isidentifier():
        raise UsageError(
            "not the name of a class", found=repr(wrapper_path), expected="FILE.py:CLASS or MODULE:CLASS"
        )
    is_file = location.endswith(".py")
    is_ours = not is_file and location.split(".")[0] == PACKAGE
    if not is_ours and not trust_code:
        raise UsageError(
            f"{wrapper_path} is code from outside this package, and loading it runs it",
            mend="read it, and add --trust-code to the command if you trust it",
        )
    try:
        module = _import_file(Path(location)) if is_file else importlib.import_module(location)
    except (Exception, SystemExit) as error:  # whatever foreign code raises while it is imported
        raise UsageError(
            "this code cannot be imported", where=wrapper_path, found=f"{type(error).__name__}: {error}"
        ) from error
    loaded = getattr(module, class_name, None)
    if not isinstance(loaded, type):
        raise UsageError(f"there is no class {class_name}", where=location)
    if not trust_code and loaded.__module__.split(".")[0] != PACKAGE:
        # a module of ours has names of others in it, which it imports for itself
        raise UsageError(f"{class_name} is no class of this package", where=wrapper_path)
    return loaded


def _import_file(path: Path) -> ModuleType:
    """Run ``path`` as a module of its own; it stands in ``sys.modules``, as dataclasses and pickling need.

    The same file is run once in a process, so that its classes stay the same ones; a changed one is another
    module.
    """
    resolved = path.resolve(strict=True)
    name = f"textclf_foreign_{derive_seed(str(resolved), resolved.read_bytes().hex()):016x}"
    with _FOREIGN_LOCK:  # another thread may be at it
        return sys.modules[name] if name in sys.modules else _run_file(name, resolved)


def _run_file(name: str, resolved: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, resolved)
    if spec is None or spec.loader is None:
        raise ImportError(f"{resolved} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module

"""Checkpoint files: tensors and plain Python, with digests that are checked on reading.

A file is one dict, written by ``torch.save`` and readable by ``torch.load(..., weights_only=True)``: the
caller's entries, ``format_version`` and ``digests`` (the path of each tensor → the hash of its bytes; ``""``
→ the hash of everything else, shapes and types and the order of keys included). Digests find damage, not
forgery: whoever can write the file can renew them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.utils.serialization.config  # else torch.save imports it, and needs more disks than its own
from torch import Tensor

from textclf_transformer.atomic import atomic_write
from textclf_transformer.errors import CheckpointError
from textclf_transformer.safe_load import safe_load
from textclf_transformer.training.checkpoint_outline import check_outline

FORMAT_VERSION = 1

_PLAIN = (str, int, float, bool, type(None))
_DIGEST_BYTES = 16
_OWN_KEYS = ("format_version", "digests")


class UnknownFormatError(CheckpointError):
    """The file is whole, but of a format version that this code cannot read."""


def save_checkpoint(path: Path, state: Mapping[str, Any], *, keep_previous: Path | None = None) -> None:
    """Write ``state`` to ``path`` in one step; whatever happens, the old file or the new one is there.

    Args:
        path: where to; the folder exists.
        state: str → tensors and plain Python (str, int, float, bool, None, list, tuple, dict), nested at
            will.
        keep_previous: where the file that ``path`` names now is kept.

    Raises:
        StorageError: the disk is full, read-only or gone; ``path`` and ``keep_previous`` are as they were.
        TypeError: there is something else than tensors and plain Python in ``state``; nothing was written.
        ValueError: ``state`` uses a key of the format.
    """
    if clash := [key for key in _OWN_KEYS if key in state]:
        raise ValueError(f"these keys belong to the format: {clash}")
    plain = _plain_copy(state, path="", copies={})
    content = {"format_version": FORMAT_VERSION, **plain, "digests": compute_digests(plain)}
    atomic_write(path, lambda stream: torch.save(content, stream), keep_previous=keep_previous)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Return the state that ``save_checkpoint`` wrote, tensors on the CPU, after checking digests and types.

    Raises:
        CheckpointError: the file is missing, truncated, altered, was not written by ``save_checkpoint``, or
            holds what no run of this project writes (``check_outline``).
        UnknownFormatError: another version of this project wrote it.
        StorageError: the disk or the permissions keep it from being read.
    """
    content = safe_load(path, error=CheckpointError)
    if not isinstance(content, dict) or not isinstance(content.get("format_version"), int):
        raise CheckpointError("this file is not a checkpoint of this project", where=str(path))
    if content["format_version"] != FORMAT_VERSION:
        raise UnknownFormatError(
            "this checkpoint has another format",
            where=str(path),
            found=f"version {content['format_version']}",
            expected=f"version {FORMAT_VERSION}",
            mend="use the version of textclf_transformer that wrote it",
        )
    state = {key: value for key, value in content.items() if key not in _OWN_KEYS}
    recorded = content.get("digests")
    if not isinstance(recorded, dict):
        raise CheckpointError("this checkpoint has no digests", where=str(path))
    try:
        actual = compute_digests(state)
    except RecursionError as fault:
        raise CheckpointError(
            "this checkpoint holds lists in lists that no run writes", where=str(path)
        ) from fault
    differing = [key for key in {**recorded, **actual} if recorded.get(key) != actual.get(key)]
    if differing:
        # a lost tensor also alters the rest (""); its own name says more
        names = [str(key) for key in differing if key] or ["the plain values"]
        raise CheckpointError(
            "this checkpoint is damaged: its digests do not match",
            where=str(path),
            found=", ".join(names[:3]),
        )
    check_outline(state, where=path)
    return state


def load_latest(
    checkpoint: Path, previous: Path, *, warn: Callable[[str], None]
) -> tuple[dict[str, Any], Path] | None:
    """Return the newest state that can be read, and its file; None where there is no file at all.

    Args:
        checkpoint: the last state.
        previous: the one before; read only if the last one is missing or damaged.
        warn: is told when that happens.

    Raises:
        CheckpointError: there are files but none can be read; names them all. Nothing is deleted.
        UnknownFormatError: the last state has another format; an older one is not taken in its place.
        StorageError: the disk or the permissions keep a file from being read.
    """
    faults: list[CheckpointError] = []
    for path in (checkpoint, previous):
        if not path.exists():
            continue
        try:
            state = load_checkpoint(path)
        except UnknownFormatError:
            raise
        except CheckpointError as fault:
            faults.append(fault)
            continue
        if path != checkpoint:
            reason = f"({faults[0]})" if faults else f"(there is no {checkpoint.name})"
            warn(f"going on from {path}, the state before the last one {reason}")
        return state, path
    if not faults:
        return None
    raise CheckpointError(
        "no checkpoint of this run can be read: " + " | ".join(str(fault) for fault in faults),
        mend="restore one from a backup, or begin anew with --overwrite; nothing was deleted",
    )


def compute_digests(state: Mapping[str, Any]) -> dict[str, str]:
    """Return path → hex digest of each tensor in ``state``, and under ``""`` that of everything else."""
    digests: dict[str, str] = {}
    structure = _structure(state, "", digests)
    rest = json.dumps(structure, ensure_ascii=True, separators=(",", ":"))
    digests[""] = hashlib.blake2b(rest.encode("utf-8"), digest_size=_DIGEST_BYTES).hexdigest()
    return digests


def _plain_copy(value: Any, *, path: str, copies: dict[tuple[Any, ...], Tensor]) -> Any:
    """Return ``value`` with plain dicts and CPU tensors; a tensor that stands twice is written once."""
    if isinstance(value, Tensor):
        identity = (value.data_ptr(), value.dtype, value.device, tuple(value.shape), value.stride())
        if identity not in copies:
            tensor = value.detach().cpu()
            # a view of a larger tensor would take all of it into the file
            is_part = tensor.untyped_storage().nbytes() != tensor.numel() * tensor.element_size()
            copies[identity] = tensor.clone() if is_part else tensor
        return copies[identity]
    if isinstance(value, Mapping):
        for key in value:
            if type(key) not in _PLAIN:
                raise TypeError(f"a checkpoint cannot hold a key of {type(key)} at {path or 'the top'}")
        return {key: _plain_copy(entry, path=f"{path}/{key}", copies=copies) for key, entry in value.items()}
    if type(value) in (list, tuple):
        return type(value)(
            _plain_copy(entry, path=f"{path}/{n}", copies=copies) for n, entry in enumerate(value)
        )
    if type(value) in _PLAIN:  # exactly: numpy's float64 is a float too, but would be pickled as numpy's
        return value
    raise TypeError(f"a checkpoint holds tensors and plain Python only, not {type(value)} at {path}")


def _structure(value: Any, path: str, digests: dict[str, str]) -> Any:
    """Return ``value`` as unambiguous JSON, tensors as dtype and shape; their digests go to ``digests``."""
    if isinstance(value, Tensor):
        digests[path] = _tensor_digest(value)
        return ["tensor", str(value.dtype), list(value.shape)]
    if isinstance(value, Mapping):
        entries = [[repr(key), _structure(entry, f"{path}/{key}", digests)] for key, entry in value.items()]
        return ["dict", entries]
    if isinstance(value, list | tuple):
        items = [_structure(entry, f"{path}/{n}", digests) for n, entry in enumerate(value)]
        return [type(value).__name__, items]
    return [type(value).__name__, repr(value)]


def _tensor_digest(tensor: Tensor) -> str:
    values: Any = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return hashlib.blake2b(values, digest_size=_DIGEST_BYTES).hexdigest()

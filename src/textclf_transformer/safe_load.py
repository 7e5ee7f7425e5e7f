"""Reading ``.pt`` files that may come from strangers: no code is run, and no more memory is taken than the
file has.

``torch.load(weights_only=True)`` keeps a pickle from calling functions of its choice. Four things it leaves
open are closed here, before or right after it: records that unpack to more than the file holds, bytes that
were flipped on the disk (torch does not compare the checksums of the records), tensors whose shape is larger
than their storage, and values that name each other so often that whoever goes through them never ends.

What is checked must be what is loaded, but two programs read the zip: Python's ``zipfile`` here, miniz in
torch. A file that they could read differently is refused: with bytes before or behind the archive, with a
directory elsewhere than its end says, or with names that differ in capitals only.
"""

from __future__ import annotations

import os
import pickletools
import re
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch.utils.data import TensorDataset

from textclf_transformer.errors import DataError, StorageError, UsageError, UserError, is_out_of_memory

# Plain Python and tensors need no other names than these and the storage classes (torch.LongStorage and so
# on). torch would allow more, such as bytearray(10**12) and sparse tensors of any declared shape.
ALLOWED_GLOBALS = frozenset(
    {
        "_codecs.encode",  # bytes, in the pickle protocol that torch.save uses
        "builtins.set",
        "__builtin__.set",
        "collections.OrderedDict",
        "torch.Size",
        "torch._utils._rebuild_parameter",
        "torch._utils._rebuild_tensor_v2",
        "torch.serialization._get_layout",
        "torch.utils.data.dataset.TensorDataset",
    }
)

# A pickle may also hold the functions and classes that it may name, and bare storages: no use for data.
CONTAINERS = frozenset({dict, OrderedDict, list, tuple, set, torch.Size, TensorDataset})
PLAIN = frozenset({str, bytes, int, float, bool, type(None)})

# Times the bytes of a file: the values that are gone through if one that is named twice counts twice. Each of
# them has a byte of its own where none is.
_MOST_VALUES_PER_BYTE = 10

OLDEST_SAFE_TORCH = (2, 10)  # CVE-2025-32434 and CVE-2026-24747 get past weights_only in older ones


def safe_load(path: Path, *, error: type[UserError] = DataError) -> Any:
    """Return what ``torch.save`` wrote to ``path``: tensors (on the CPU), plain Python values,
    TensorDatasets.

    Args:
        path: a file in the zip format of ``torch.save``; the older formats are refused.
        error: the class of the error for a file that is not right (``DataError``, ``CheckpointError`` …).

    Raises:
        UserError: of the class ``error``: the file is missing, truncated, altered, compressed, names anything
            other than tensors and plain Python, or declares more than it holds. It names the file.
        StorageError: the disk or the permissions keep it from being read.
        UsageError: torch is older than 2.10.
        MemoryError, RuntimeError: there is not enough memory for it.
    """
    _check_version(path)
    try:
        with path.open("rb") as stream:
            try:
                _check_archive(stream)
                value = _load_weights(stream)
                _check_values(value, most=_most_values(stream))
            except OSError:
                raise
            except _RefusedError as refused:
                raise error(str(refused), where=str(path)) from None
            except Exception as fault:  # torch and zipfile raise all kinds of errors for a damaged file
                if is_out_of_memory(fault):  # the file is no larger than it says, and may be all right
                    raise
                raise error(
                    "this file is damaged, or was not written by torch.save",
                    where=str(path),
                    found=f"{type(fault).__name__}: {_first_line(fault)}",
                ) from fault
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as fault:
        raise error(f"cannot read this file: {fault.strerror}", where=str(path)) from fault
    except OSError as fault:
        raise StorageError(f"cannot read this file: {fault.strerror or fault}", where=str(path)) from fault
    return value


def _check_version(path: Path) -> None:
    numbers = re.match(r"(\d+)\.(\d+)", torch.__version__)
    if numbers is None or tuple(map(int, numbers.groups())) < OLDEST_SAFE_TORCH:
        raise UsageError(
            "this torch has holes through which a file can run code",
            where=str(path),
            found=torch.__version__,
            expected=".".join(map(str, OLDEST_SAFE_TORCH)) + " or newer",
            mend="pip install --upgrade torch",
        )


# Sizes of what a zip ends with: the end record, before it those two of a zip of the 64-bit kind.
_END, _LOCATOR, _END_64 = 22, 20, 56
_ENDS = _END_64 + _LOCATOR + _END

_NO_ARCHIVE = "this file is truncated, or was not written by torch.save in its zip format (torch >= 1.6)"


class _RefusedError(Exception):
    """A finding about the file, in words for the user."""


def _first_line(fault: Exception) -> str:
    # behind these words stands the reason, before them the advice to load the file with its code
    text = str(fault).rpartition("WeightsUnpickler error:")[2]
    return text.strip().split("\n", maxsplit=1)[0][:200] or "no further word"


def _check_archive(stream: BinaryIO) -> None:
    """Refuse all but a zip of stored, unaltered records that together are no larger than the file."""
    file_size = os.fstat(stream.fileno()).st_size
    # torch judges by these bytes alone, and without them reads an old pickle, whatever zip lies behind it.
    stream.seek(0)
    if stream.read(4) != b"PK\x03\x04":
        raise _RefusedError(_NO_ARCHIVE)
    _check_directory(stream, file_size)
    with zipfile.ZipFile(stream) as archive:
        records = archive.infolist()
        if any(record.compress_type != zipfile.ZIP_STORED for record in records):
            raise _RefusedError("this file holds compressed records, which torch.save never writes")
        declared = sum(record.file_size for record in records)
        if declared > file_size:
            raise _RefusedError(
                f"this file of {file_size} bytes declares {declared} bytes; it is truncated or forged"
            )
        # As torch seeks them: as they stand in the file, which zipfile may change, capitals or not.
        names = [record.orig_filename.lower() for record in records]
        if len(set(names)) != len(names):
            raise _RefusedError("this file holds two records of the same name")
        if any(name.endswith("/constants.pkl") for name in names):
            raise _RefusedError("this file is a TorchScript program, not data")
        damaged = archive.testzip()
        if damaged is not None:
            raise _RefusedError(
                f"the checksum of the record {damaged!r} does not match; the file was altered"
            )
        for name, record in zip(names, records, strict=True):
            if name.endswith(".pkl"):
                pickled = archive.read(record)
                _check_globals(pickled)
                _check_tuples(pickled, most=_most_values(stream))


def _check_directory(stream: BinaryIO, file_size: int) -> None:
    """Refuse a zip whose directory is not at the place that the end of the file names.

    zipfile looks right before the end, wherever the end says, and moves all places by the difference; torch
    goes to the place named, where another directory may lie.
    """
    stream.seek(max(0, file_size - _ENDS))
    tail = stream.read().rjust(_ENDS, b"\0")
    if b"PK\x05\x06" not in tail:
        raise _RefusedError(_NO_ARCHIVE)
    (mark,) = struct.unpack_from("<4s", tail, _END_64 + _LOCATOR)
    size, start, comment = struct.unpack_from("<LLH", tail, _END_64 + _LOCATOR + 12)
    end = file_size - _END
    right = mark == b"PK\x05\x06" and comment == 0
    if tail[_END_64:].startswith(b"PK\x06\x07"):
        end = file_size - _ENDS
        right = right and tail.startswith(b"PK\x06\x06")
        right = right and struct.unpack_from("<Q", tail, _END_64 + 8) == (end,)
        size, start = struct.unpack_from("<QQ", tail, 40)
    if not right or start + size != end:
        raise _RefusedError(
            "the directory of this file does not lie where its end says; it is damaged or forged"
        )


def _check_globals(pickled: bytes) -> None:
    """Refuse a pickle that names anything other than tensors and plain Python; nothing is run or imported."""
    for name in _named_globals(pickled):
        is_storage = name.startswith("torch.") and name.endswith("Storage") and name.count(".") == 1
        if not is_storage and name not in ALLOWED_GLOBALS:
            raise _RefusedError(f"this file asks for {name!r}; only tensors and plain Python are read")


def _named_globals(pickled: bytes) -> Iterator[str]:
    for opcode, argument, _ in pickletools.genops(pickled):
        if opcode.name in {"GLOBAL", "INST"}:
            yield str(argument).replace(" ", ".", 1)
        elif opcode.name in {"STACK_GLOBAL", "EXT1", "EXT2", "EXT4"}:
            raise _RefusedError("this file uses a pickle protocol that torch.save does not use")


def _most_values(stream: BinaryIO) -> int:
    return _MOST_VALUES_PER_BYTE * os.fstat(stream.fileno()).st_size


def _check_tuples(pickled: bytes, *, most: int) -> None:
    """Refuse tuples of tuples that unfold without end: torch hashes them, as keys, and Ctrl-C stops no hash.

    Each entry of ``stack`` and ``memo`` is the number of values in what the unpickler has there. A list that
    grows later is counted as it was, which matters to no hash; see ``_check_values``.
    """
    stack: list[int] = []
    marks: list[int] = []
    memo: dict[int, int] = {}
    for opcode, argument, _ in pickletools.genops(pickled):
        if opcode.name == "MARK":
            marks.append(len(stack))
        elif opcode.name in {"PUT", "BINPUT", "LONG_BINPUT"}:
            assert isinstance(argument, int)
            memo[argument] = stack[-1]
        elif opcode.name in {"GET", "BINGET", "LONG_BINGET"}:
            assert isinstance(argument, int)
            stack.append(memo[argument])
        else:
            start = len(stack)
            if pickletools.markobject in opcode.stack_before:
                start = marks.pop()
            start -= sum(part.name not in {"mark", "stackslice"} for part in opcode.stack_before)
            values = 1 + sum(stack[start:])
            if values > most:
                raise _RefusedError("this file holds tuples of tuples without end")
            stack[start:] = [values] * len(opcode.stack_after)


def _load_weights(stream: BinaryIO) -> Any:
    stream.seek(0)
    with torch.serialization.safe_globals([TensorDataset]):
        # Said outright, so that TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD in the environment cannot switch it off.
        return torch.load(stream, map_location="cpu", weights_only=True)


def _check_values(value: object, *, most: int) -> None:
    """Refuse all but plain Python and tensors as large as their storage, and more than ``most`` of them if
    what is named twice counts twice; no recursion.
    """
    pending: list[tuple[object, bool]] = [(value, False)]
    counts: dict[int, int] = {}  # by identity, of containers that were gone through
    inside: set[int] = set()
    while pending:
        item, is_done = pending.pop()
        if isinstance(item, torch.Tensor):
            _check_tensor(item)
            continue
        if type(item) in PLAIN or id(item) in counts:
            continue
        if type(item) not in CONTAINERS:
            found = f"{type(item).__module__}.{type(item).__qualname__}"
            raise _RefusedError(f"this file holds a {found!r}; only tensors and plain Python are read")
        parts = _parts(item)
        if is_done:
            counts[id(item)] = count = 1 + sum(counts.get(id(part), 1) for part in parts)
            if count > most:
                raise _RefusedError("this file holds values that name each other without end")
        elif id(item) in inside:
            raise _RefusedError("this file holds a value that has itself as a part")
        else:
            inside.add(id(item))
            pending.append((item, True))
            pending.extend((part, False) for part in parts if type(part) not in PLAIN)


def _parts(container: object) -> list[object]:
    if isinstance(container, dict):
        return [*container.keys(), *container.values()]
    if isinstance(container, TensorDataset):
        return [vars(container)]
    assert isinstance(container, list | tuple | set)
    return list(container)


def _check_tensor(tensor: torch.Tensor) -> None:
    if tensor.layout != torch.strided or tensor.device.type != "cpu":
        raise _RefusedError(
            f"this file holds a tensor of kind {tensor.layout} on {tensor.device}; only dense ones are read"
        )
    held = tensor.untyped_storage().nbytes()
    # A shape expanded by strides of 0 costs nothing here and all the memory there is at the first copy.
    if tensor.numel() * tensor.element_size() > held:
        raise _RefusedError(
            f"this file declares a tensor of shape {tuple(tensor.shape)} but holds {held} bytes of it "
            "(an expanded tensor is saved with .contiguous())"
        )

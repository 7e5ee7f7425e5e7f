"""Writing files so that a reader, or a power cut, meets the old file or the new one and never a part."""

from __future__ import annotations

import contextlib
import errno
import io
import itertools
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from textclf_transformer.errors import StorageError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

# A name of ours beyond doubt, so that clearing up after a killed process deletes nothing else.
TEMPORARY = re.compile(r"\..+\.[0-9a-f]{16}\.tmp")
NO_HARD_LINKS = frozenset(
    {errno.EPERM, errno.EACCES, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
)


@contextlib.contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn an OSError of the block into a StorageError that names ``path``."""
    try:
        yield
    except OSError as fault:
        raise StorageError(
            "cannot read or write here",
            where=str(path),
            found=fault.strerror or str(fault),
            mend=mend_of(fault),
        ) from fault


def mend_of(fault: OSError) -> str:
    """Return what to do about an error of the system."""
    if fault.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        return "free space on the disk"
    if fault.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return "mend the permissions"
    return "see that the place is there, is of the right kind, and that its disk is well"


def atomic_write(
    path: Path, write: Callable[[BinaryIO], object], *, keep_previous: Path | None = None
) -> None:
    """Write ``path`` in one step, as seen from outside, and onto the disk before returning.

    A device, a pipe or a name of an open stream (``/dev/stdout``, the shell's ``>(gzip)``) is not a file that
    could be replaced: the content goes straight to it.

    Order: a temporary in the same folder is written and flushed to the disk; the current file is linked to
    ``keep_previous``; the temporary takes the place of the current file; the folder is flushed. Whenever it
    is cut off, ``path`` and ``keep_previous`` each hold a whole file if they held one before.

    Args:
        path: the file to create or replace; its folder must exist.
        write: puts the content into the binary stream that it is handed.
        keep_previous: in the same folder; where the file that is replaced goes. It stays as it is if there is
            none.

    Raises:
        StorageError: the disk is full, a permission is missing …; the old files are as they were.
    """
    with storage_errors(path):
        is_stream = _is_stream(path)
    if is_stream:
        left = contextlib.suppress(BrokenPipeError)  # by its reader, as ``| head`` does: no error
        with storage_errors(path), left, path.open("wb") as stream:
            write(stream)
        return
    temporary = _temporary_beside(path)
    with storage_errors(path):
        try:
            _write_and_flush(temporary, write)
            if keep_previous is not None and path.exists():
                _keep(path, keep_previous)
            temporary.replace(path)
        finally:
            # Still there only if something failed; that failure is the one to report.
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
        flush_folder(path.parent)


def atomic_write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8 with ``atomic_write``; line ends stay as they are.

    A byte of a file's name that is no UTF-8 is written as JSON escapes it, ``\\udcff``.
    """
    atomic_write(path, lambda stream: stream.write(_utf8(text)))


def atomic_write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON with ``atomic_write``; ValueError for NaN and infinity."""

    def write(stream: BinaryIO) -> None:
        # in pieces: the whole text of a confusion of 5,000 labels takes gigabytes
        pieces = json.JSONEncoder(indent=2, ensure_ascii=False, allow_nan=False).iterencode(value)
        while text := "".join(itertools.islice(pieces, 1 << 16)):
            stream.write(_utf8(text))
        stream.write(b"\n")

    atomic_write(path, write)


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", errors="backslashreplace")


def make_folder(folder: Path) -> None:
    """Make ``folder`` and what is missing above it; unlike bare ``mkdir``, they last through a power cut."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for made in reversed(missing):
        flush_folder(made.parent)


def remove_stray_temporaries(folder: Path) -> list[Path]:
    """Delete what a killed ``atomic_write`` left in ``folder`` and return it. Hold the lock."""
    with storage_errors(folder):
        strays = [entry for entry in sorted(folder.iterdir()) if TEMPORARY.fullmatch(entry.name)]
        for stray in strays:
            stray.unlink()
    return strays


def _is_stream(path: Path) -> bool:
    """Say whether ``path`` is a device or a pipe, or leads to a stream that is open, be it a plain file's."""
    if not path.exists() or path.is_dir():
        return False
    link = path
    while link.is_symlink():
        if link.parent.resolve().is_relative_to("/proc"):
            return True
        link = link.parent / link.readlink()
    return not link.is_file()


def _temporary_beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")


class _RecordingWriter(io.BufferedWriter):
    """Remembers the OSError of a write: torch.save reports a full disk as a RuntimeError about positions."""

    fault: OSError | None = None

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data)
        except OSError as fault:
            self.fault = self.fault or fault
            raise


def _write_and_flush(temporary: Path, write: Callable[[BinaryIO], object]) -> None:
    raw = io.FileIO(temporary, "x")
    stream = _RecordingWriter(raw)
    try:
        write(cast("BinaryIO", stream))
        stream.flush()
        os.fsync(raw.fileno())
        stream.close()
    except BaseException:
        # Closing the buffered stream would write its rest, and fail once more; the raw file just closes.
        raw.close()
        if stream.fault is not None:
            raise stream.fault from None
        raise


def _keep(path: Path, keep_previous: Path) -> None:
    """Let ``keep_previous`` name the file at ``path`` too, without a moment in which it names nothing."""
    second_name = _temporary_beside(keep_previous)
    try:
        try:
            os.link(path, second_name)
        except OSError as fault:
            if fault.errno not in NO_HARD_LINKS:
                raise
            _copy_and_flush(path, second_name)
        second_name.replace(keep_previous)
    finally:
        # POSIX renames nothing if both names are links to one file, as after a kill between two replacements.
        second_name.unlink(missing_ok=True)


def _copy_and_flush(source: Path, target: Path) -> None:
    with source.open("rb") as reader, target.open("xb") as writer:
        shutil.copyfileobj(reader, writer, 1 << 20)
        writer.flush()
        os.fsync(writer.fileno())


def flush_folder(folder: Path) -> None:
    """Make the names in ``folder`` last through a power cut; Windows and some file systems cannot."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as fault:
        if fault.errno not in {errno.EINVAL, errno.ENOTSUP}:
            raise
    finally:
        os.close(descriptor)

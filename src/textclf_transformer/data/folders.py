"""Making a whole folder so that it is there complete or not at all."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from textclf_transformer.atomic import flush_folder, storage_errors
from textclf_transformer.errors import UsageError
from textclf_transformer.utils import real_path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


_DISK_IS_FULL = {errno.ENOSPC, errno.EDQUOT}


@contextmanager
def building_folder(target: Path, *, overwrite: bool, is_ours: Callable[[Path], bool]) -> Iterator[Path]:
    """Give an empty folder to fill; after the block it takes the place of ``target``, on an error it is
    removed.

    Ctrl-C and SIGTERM remove it too, and what a killed process left is removed at the next start. With
    ``overwrite`` the old folder stays until the new one is complete.

    Args:
        target: where the folder is to be; the folders above it are made.
        overwrite: whether a folder that is there may be replaced.
        is_ours: tells whether a folder that is there holds nothing but what would be made anew; no other is
            replaced.

    Raises:
        UsageError: ``target`` is there, before the block or after it, and may not be replaced.
        StorageError: no folder can be made there, or the disk does not keep it or is full.
    """
    if target.is_symlink():
        raise UsageError("the folder to write must not be a symbolic link", where=str(target))
    target = real_path(target)  # "." has no name to put a temporary beside
    _check_target(target, overwrite=overwrite, is_ours=is_ours)
    mark = secrets.token_hex(8)
    temporary, old = _temporaries(target, mark)
    with storage_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        _clear_what_the_dead_left(target)
        temporary.mkdir()
    try:
        with _terminated_as_exit(), _held(temporary):
            try:
                yield temporary
            except OSError as fault:
                if fault.errno not in _DISK_IS_FULL:
                    raise
                with storage_errors(target):  # what fails in a write names no file
                    raise
            with storage_errors(target):
                for folder in (*(path for path in temporary.rglob("*") if path.is_dir()), temporary):
                    flush_folder(folder)
                # what has come there meanwhile is somebody's, too
                _check_target(target, overwrite=overwrite, is_ours=is_ours)
                _put_in_place(temporary, target, old=old)
    finally:
        # Gone if all went well; what is half made must not stay.
        shutil.rmtree(temporary, ignore_errors=True)


def _temporaries(target: Path, mark: str) -> tuple[Path, Path]:
    """Return where the new folder is made, and where the old one waits while they change places."""
    return target.with_name(f".{target.name}.{mark}.tmp"), target.with_name(f".{target.name}.{mark}.old")


def _clear_what_the_dead_left(target: Path) -> None:
    """Remove half-made folders that no process holds; an old one comes back if nothing has replaced it."""
    if fcntl is None:
        return  # nobody can tell there whether their maker lives
    pattern = re.compile(rf"\.{re.escape(target.name)}\.([0-9a-f]{{16}})\.(?:tmp|old)")
    matches = [pattern.fullmatch(entry.name) for entry in target.parent.iterdir()]
    for mark in sorted({match.group(1) for match in matches if match is not None}):
        temporary, old = _temporaries(target, mark)
        if not temporary.is_dir():
            shutil.rmtree(old, ignore_errors=True)
            continue
        with _held(temporary) as is_free:
            if not is_free:
                continue
            if old.is_dir() and not target.exists():
                old.rename(target)
            shutil.rmtree(old, ignore_errors=True)
            shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def _held(folder: Path) -> Iterator[bool]:
    """Hold a lock on ``folder`` that ends with the process, or give False where another process does."""
    if fcntl is None:
        yield True
        return
    with storage_errors(folder):
        descriptor = os.open(folder, os.O_RDONLY)
    try:
        yield _try_lock(descriptor, folder)
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int, folder: Path) -> bool:
    """Lock without waiting; StorageError where the file system has no locks."""
    with storage_errors(folder):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def _check_target(target: Path, *, overwrite: bool, is_ours: Callable[[Path], bool]) -> None:
    if not target.exists():
        return
    if not target.is_dir():
        raise UsageError("there is a file of this name", where=str(target), mend="choose another folder")
    if not any(target.iterdir()):
        return
    if not overwrite:
        raise UsageError(
            "the folder is there already", where=str(target), mend="add --overwrite to replace it"
        )
    if not is_ours(target):
        raise UsageError(
            "the folder holds other files, which --overwrite would delete",
            where=str(target),
            mend="choose another folder",
        )


def _put_in_place(temporary: Path, target: Path, *, old: Path) -> None:
    if target.exists():
        target.rename(old)
        try:
            temporary.rename(target)
        except BaseException:
            old.rename(target)
            raise
    else:
        temporary.rename(target)
    flush_folder(target.parent)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _terminated_as_exit() -> Iterator[None]:
    """Turn SIGTERM into SystemExit(143), so that what is half made is removed.

    Only in the main thread, where Python can, and only where it would kill: one that is ignored, or handled
    by the caller, say by a web server, stays so.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

"""A run's folder: every name on disk, the lock, and writes that are never seen half done."""

from __future__ import annotations

import errno
import os
import re
import shutil
import socket
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Literal

from textclf_transformer.atomic import (
    TEMPORARY,
    make_folder,
    storage_errors,
)
from textclf_transformer.errors import RunInUseError, UsageError

CHECKOUT = Path(__file__).resolve().parents[2]
"""The checkout (the folder that holds ``src/``): run folders lie under it whatever the working directory."""

Kind = Literal["pretraining", "finetuning"]

# A model on Hugging Face's hub: owner/name or owner/name@revision.
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}(@[\w./-]{1,200})?", re.ASCII)
RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
# Windows opens the device of that name, whatever the folder and the ending.
RESERVED_NAMES = frozenset(
    {"con", "prn", "aux", "nul"} | {f"{port}{number}" for port in ("com", "lpt") for number in range(10)}
)


# What a run writes itself, so that no file of another meaning is put in its place; see ``RunFolder``.
RUN_NAMES = frozenset(
    {
        "config.yaml",
        "config.resolved.yaml",
        "model.ckpt",
        "model.ckpt.prev",
        "best.ckpt",
        "best.ckpt.prev",
        "tokenizer",
        "run.json",
        "report.html",
        "wandb",
        "frozen_cache",
        ".lock",
    }
)


def validate_run_name(name: str) -> str:
    """Return ``name`` if a run may be called so.

    Raises:
        UsageError: it has other characters than letters, digits, ``.``, ``_`` and ``-``, begins or ends
            wrongly, is longer than 100, or is a name that Windows keeps for devices (``con``, ``nul`` …).
    """
    if RUN_NAME.fullmatch(name) is None or name.endswith("."):
        raise UsageError(
            "not a name for a run",
            found=repr(name),
            expected="1 to 100 letters, digits or ._-, a letter or digit first, no dot last",
        )
    if name.split(".", maxsplit=1)[0].lower() in RESERVED_NAMES:
        raise UsageError("Windows keeps this name for a device", found=repr(name), mend="choose another name")
    return name


def is_hub_name(text: str, base: Path) -> bool:
    """Whether ``text`` names a model on the hub: it looks so, and there is no such folder below ``base``."""
    return HUB_NAME.fullmatch(text) is not None and not (base / text).is_dir()


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The names of a run's files below ``root``; nothing is read or created by holding one."""

    root: Path

    @classmethod
    def locate(cls, kind: Kind, name: str, output_dir: Path | None = None) -> RunFolder:
        """Return the folder of the run ``name``, which need not exist.

        Args:
            kind: ``pretraining`` or ``finetuning``.
            name: the run's name.
            output_dir: the folder that takes the place of ``<checkout>/experiments/<kind>``
                (``experiment.output_dir``).

        Raises:
            UsageError: the name is not allowed, or the folder is a symbolic link.
        """
        parent = CHECKOUT / "experiments" / kind if output_dir is None else output_dir
        return cls.at(parent.absolute() / validate_run_name(name))

    @classmethod
    def at(cls, root: Path) -> RunFolder:
        """Return the run folder ``root``; a symbolic link is refused with UsageError."""
        if root.is_symlink():
            raise UsageError("a run folder must not be a symbolic link", where=str(root))
        return cls(root)

    @property
    def name(self) -> str:
        """The run's name."""
        return self.root.name

    @property
    def config(self) -> Path:
        """The config that the user edits."""
        return self.root / "config.yaml"

    @property
    def resolved_config(self) -> Path:
        """The config that the run used: defaults and ``--set`` filled in, paths absolute."""
        return self.root / "config.resolved.yaml"

    @property
    def train_metrics(self) -> Path:
        """The default place of the training metrics."""
        return self.root / "metrics" / "train" / "metrics.csv"

    @property
    def eval_metrics(self) -> Path:
        """The default place of the evaluation metrics."""
        return self.root / "metrics" / "eval" / "metrics.csv"

    @property
    def checkpoint(self) -> Path:
        """The last resumable state."""
        return self.root / "model.ckpt"

    @property
    def previous_checkpoint(self) -> Path:
        """The resumable state before the last one, in case that is damaged."""
        return self.root / "model.ckpt.prev"

    @property
    def best_checkpoint(self) -> Path:
        """The best weights by the chosen metric."""
        return self.root / "best.ckpt"

    @property
    def best_of_before(self) -> Path:
        """The best weights of a training that was lost, once the run begins anew."""
        return self.root / "best.ckpt.prev"

    @property
    def tokenizer_dir(self) -> Path:
        """The copy of the tokenizer that the run used."""
        return self.root / "tokenizer"

    @property
    def frozen_cache(self) -> Path:
        """What a frozen encoder made of the chunks, while only the head is trained."""
        return self.root / "frozen_cache"

    @property
    def run_json(self) -> Path:
        """What a reader of the run wants to know: versions, commit, data, times, results."""
        return self.root / "run.json"

    @property
    def report(self) -> Path:
        """Everything there is to see of the run, as one page."""
        return self.root / "report.html"

    @property
    def lock_file(self) -> Path:
        """Held by the process that works in the folder."""
        return self.root / ".lock"

    def inside(self, relative: str) -> Path:
        """Return the path ``relative`` inside the folder; UsageError if it leads out, by ``..`` or a link."""
        path = self.root / relative
        if not path.resolve().is_relative_to(self.root.resolve()):
            raise UsageError("this path leads out of the run folder", where=str(self.root), found=relative)
        return path

    def has_checkpoint(self) -> bool:
        """Whether there is a state that a resume would go on from."""
        return self.checkpoint.exists() or self.previous_checkpoint.exists()

    def clear_results(self) -> list[str]:
        """Delete what a run writes, but for ``config.yaml`` and the lock, and return the names of what stays.

        Links are removed, not followed; what no run writes is the user's. Hold the lock.

        Raises:
            UsageError: the folder has files but none that a run writes, so it may be something else of the
                user's.
            StorageError: something cannot be deleted.
        """
        marks = (self.config, self.resolved_config, self.run_json, self.checkpoint)
        with storage_errors(self.root):
            entries = [entry for entry in self.root.iterdir() if entry not in (self.config, self.lock_file)]
            if entries and not any(mark.exists() for mark in marks):
                raise UsageError(
                    "this folder is not a run's, so nothing is deleted in it", where=str(self.root)
                )
            ours = RUN_NAMES | {"metrics"}
            kept = {e for e in entries if e.name not in ours and TEMPORARY.fullmatch(e.name) is None}
            for entry in entries:
                if entry in kept:
                    continue
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry)
                else:
                    entry.unlink()
        return sorted(entry.name for entry in kept)


class RunLock:
    """Keeps a second process out of a run folder: ``with RunLock(run): ...``.

    The operating system holds the lock for the process and frees it when the process ends, however it ends; a
    file that is left behind means nothing. The file's text (process, host, start) is only for the message.

    Raises:
        RunInUseError: another process holds it; names the process.
        StorageError: the folder cannot be written.
    """

    def __init__(self, run: RunFolder) -> None:
        self._run = run
        self._descriptor: int | None = None

    def __enter__(self) -> RunLock:
        path = self._run.lock_file
        with storage_errors(path):
            make_folder(self._run.root)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o644)
            try:
                if not _try_lock(descriptor):
                    raise RunInUseError(
                        "another process works in this run folder",
                        where=str(self._run.root),
                        found=os.read(descriptor, 500).decode("utf-8", "replace") or None,
                        mend="wait for it, stop it, or use another name",
                    )
                started = datetime.now(UTC).isoformat(timespec="seconds")
                _overwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}, started {started}")
            except BaseException:
                os.close(descriptor)
                raise
        self._descriptor = descriptor
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        exc_traceback: TracebackType | None,
    ) -> None:
        if self._descriptor is not None:
            # The file stays: deleting it would let a third process lock a new file beside a waiting second
            # one's.
            os.close(self._descriptor)
            self._descriptor = None


def _overwrite(descriptor: int, text: str) -> None:
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.ftruncate(descriptor, 0)
    os.write(descriptor, text.encode("utf-8"))


if sys.platform == "win32":
    import msvcrt

    def _try_lock(descriptor: int) -> bool:
        """Lock without waiting; far behind the text, as Windows lets nobody read locked bytes."""
        os.lseek(descriptor, 1 << 30, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError as fault:
            if fault.errno in {errno.EACCES, errno.EDEADLK}:
                return False
            raise
        finally:
            os.lseek(descriptor, 0, os.SEEK_SET)
        return True

else:
    import fcntl

    def _try_lock(descriptor: int) -> bool:
        """Lock without waiting."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

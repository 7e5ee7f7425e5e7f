"""metrics.csv: one header, each (split, step) once, also after any number of kills and resumes."""

from __future__ import annotations

import contextlib
import csv
import io
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from textclf_transformer.atomic import flush_folder, make_folder, mend_of
from textclf_transformer.errors import CheckpointError, StorageError

Value = str | int | float | None

# What repeats itself to the bit. Other columns end in _seconds or _per_second, or begin with memory_.
SHARED_COLUMNS = ("step", "epoch", "split", "loss", "learning_rate", "grad_norm", "tokens_seen")
TRAIN_COLUMNS = (
    *SHARED_COLUMNS,
    "tokens_per_second",
    "elapsed_seconds",
    "memory_host_mib",
    "memory_device_mib",
)


def eval_columns(metric_names: Sequence[str]) -> tuple[str, ...]:
    """Return the columns of the evaluation log: the shared ones, the metrics besides the loss, the time."""
    return (*SHARED_COLUMNS, *(name for name in metric_names if name != "loss"), "elapsed_seconds")


class MetricsLog:
    """A CSV file that grows by whole rows.

    A checkpoint stores ``sync()``, the length of the file at its step; a resume calls ``truncate`` with it,
    which drops the rows of steps that will be run again. A row that the disk refuses stays in memory and goes
    with the next one; ``sync`` is where that becomes an error.

    Args:
        path: the file; its folder is made if need be.
        columns: the header, ``split`` and ``step`` among it.
        warn: is told when the file is not what it should be.

    Raises:
        StorageError: the file cannot be opened.
    """

    def __init__(self, path: Path, columns: Sequence[str], *, warn: Callable[[str], None]) -> None:
        self.path = path
        self.columns = tuple(columns)
        self._warn = warn
        self._pending = b""
        self._sync_failed = False
        try:
            make_folder(path.parent)
            # unbuffered and not in append mode: what is on the disk is known at every moment, and can be cut
            self._file = io.FileIO(
                os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644), "r+"
            )
            flush_folder(path.parent)  # fsync of a file keeps its rows, but not that there is such a file
            self._length = self._file.seek(0, os.SEEK_END)
            self._rows = self._read_keys()
        except OSError as fault:
            raise self._storage_error(fault) from fault

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        exc_traceback: TracebackType | None,
    ) -> None:
        self._file.close()

    def contains(self, split: str, step: int) -> bool:
        """Whether there is a row of ``split`` at ``step``."""
        return (split, str(step)) in self._rows

    def append(self, row: Mapping[str, Value]) -> None:
        """Add a row; floats are written so that reading gives the same bits, missing columns stay empty.

        Raises:
            ValueError: a key is no column, or (split, step) stands in the file already.
        """
        if unknown := [key for key in row if key not in self.columns]:
            raise ValueError(f"{self.path} has no column {unknown}, only {list(self.columns)}")
        key = (str(row.get("split")), str(row.get("step")))
        if key in self._rows:
            raise ValueError(f"{self.path} has a row of split {key[0]} at step {key[1]} already")
        self._rows.add(key)
        if self._length == 0 and not self._pending:
            self._pending = _csv_line(self.columns)
        self._pending += _csv_line([_format(row.get(column)) for column in self.columns])
        self._write_pending()

    def sync(self) -> int:
        """Put all rows onto the disk and return the length of the file in bytes.

        Raises:
            StorageError: the disk is full or gone; the rows stay in memory.
        """
        if fault := self._write_pending():
            raise self._storage_error(fault)
        try:
            if self._sync_failed:
                # a system may take what it could not write for written, and have nothing to do: write it anew
                self._write_at(0, self._read(self._length))
            self._sync_failed = True
            os.fsync(self._file.fileno())
            self._sync_failed = False
        except OSError as fault:
            raise self._storage_error(fault) from fault
        return self._length

    def truncate(self, length: int) -> None:
        """Cut the file to the ``length`` that ``sync`` gave; 0 empties it.

        A file that is shorter, because somebody deleted or edited it, is cut to whole rows and goes on, with
        a warning.

        Raises:
            CheckpointError: what is left has other columns.
            StorageError: the file cannot be cut.
        """
        self._pending = b""
        try:
            kept = self._read(min(length, self._length))
            if len(kept) < length or (kept and not kept.endswith(b"\n")):
                self._warn(f"{self.path} is shorter than the checkpoint knows it; rows are missing")
                kept = kept[: kept.rfind(b"\n") + 1]
            if kept and not kept.startswith(_csv_line(self.columns)):
                raise CheckpointError(
                    "the metrics have other columns than this run writes",
                    where=str(self.path),
                    found=repr(kept.split(b"\n", 1)[0].decode("utf-8", errors="replace")),
                    expected=repr(",".join(self.columns)),
                    mend="move the file away; a new one is begun",
                )
            if len(kept) != self._length:  # a file that is right is not touched
                self._file.truncate(len(kept))
            self._length = len(kept)
            self._rows = self._read_keys()
        except OSError as fault:
            raise self._storage_error(fault) from fault

    def _read(self, length: int) -> bytes:
        self._file.seek(0)
        data = b""
        while len(data) < length and (part := self._file.read(length - len(data))):
            data += part
        return data

    def _read_keys(self) -> set[tuple[str, str]]:
        text = self._read(self._length).decode("utf-8", errors="replace")
        rows = csv.DictReader(io.StringIO(text, newline=""))
        return {(row.get("split") or "", row.get("step") or "") for row in rows}

    def _write_at(self, place: int, data: bytes) -> None:
        self._file.seek(place)
        written = 0
        while written < len(data):  # a nearly full disk takes a part
            written += self._file.write(data[written:]) or 0

    def _write_pending(self) -> OSError | None:
        """Write the rows in memory, or return the fault that kept them there; half a row never stays."""
        try:
            self._write_at(self._length, self._pending)
        except OSError as fault:
            with contextlib.suppress(OSError):  # the next resume cuts it too
                self._file.truncate(self._length)
            return fault
        self._length += len(self._pending)
        self._pending = b""
        return None

    def _storage_error(self, fault: OSError) -> StorageError:
        return StorageError(
            "cannot write the metrics",
            where=str(self.path),
            found=fault.strerror or str(fault),
            mend=mend_of(fault),
        )


def _csv_line(cells: Sequence[str]) -> bytes:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(cells)
    return line.getvalue().encode("utf-8")


def _format(value: Value) -> str:
    if value is None:
        return ""
    return repr(float(value)) if isinstance(value, float) else str(value)

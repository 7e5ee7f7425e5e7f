"""A file of float32 vectors that grows, and after a crash goes on from the last part that is surely whole."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

from textclf_transformer.atomic import atomic_write_json, storage_errors

_READ_BYTES = 1 << 22


class VectorFile:
    """Vectors (rows, D) in ``path``; what of it is whole stands in a record beside it, written afterwards.

    Rows beyond the record, of a process that was killed, are cut off on opening. A file of another key, or
    whose bytes do not have the record's digest, is begun anew.

    Args:
        path: the file; its folder exists.
        width: D.
        key: names what the vectors are made from.

    Attributes:
        rows: vectors in the file so far.

    Raises:
        StorageError: the disk or the permissions refuse.
    """

    def __init__(self, path: Path, *, width: int, key: str) -> None:
        self._path = path
        self._record = path.with_suffix(".json")
        self._width = width
        self._key = key
        self.rows = 0
        self._digest = hashlib.blake2b(digest_size=16)
        with storage_errors(path):
            self._stream: BinaryIO = path.open("r+b" if path.exists() else "w+b")
            self.rows = self._whole_rows()
            self._stream.truncate(self.rows * self._row_bytes)
            self._stream.seek(0, os.SEEK_END)

    @property
    def _row_bytes(self) -> int:
        return self._width * np.dtype(np.float32).itemsize

    def _whole_rows(self) -> int:
        """Return how many rows are as the record says, and leave their digest to go on with."""
        try:
            record = json.loads(self._record.read_text(encoding="utf-8"))
            rows, wanted = int(record["rows"]), (record["key"], record["digest"])
        except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
            return 0
        digest, left = hashlib.blake2b(digest_size=16), rows * self._row_bytes
        while left > 0 and (part := self._stream.read(min(left, _READ_BYTES))):
            digest.update(part)
            left -= len(part)
        if left or (self._key, digest.hexdigest()) != wanted:
            return 0
        self._digest = digest
        return rows

    def append(self, vectors: NDArray[np.float32]) -> None:
        """Add (n, D) vectors; they count after the next ``commit``."""
        content = np.ascontiguousarray(vectors, dtype=np.float32).tobytes()
        with storage_errors(self._path):
            self._stream.write(content)
        self._digest.update(content)
        self.rows += len(vectors)

    def commit(self) -> None:
        """Put all rows onto the disk, then say so in the record."""
        with storage_errors(self._path):
            self._stream.flush()
            os.fsync(self._stream.fileno())
        atomic_write_json(
            self._record, {"key": self._key, "rows": self.rows, "digest": self._digest.hexdigest()}
        )

    def read(self) -> NDArray[np.float32]:
        """Return the committed vectors (rows, D) as a read-only memory map."""
        with storage_errors(self._path):
            return np.memmap(self._path, dtype=np.float32, mode="r", shape=(self.rows, self._width))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        with storage_errors(self._path):
            self._stream.close()

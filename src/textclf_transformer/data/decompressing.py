"""Reading bzip2 and xz files to their very end.

The standard library's ``BZ2File`` and ``LZMAFile`` take bytes that begin no stream for garbage behind the
last one and stop there without a word. A file may hold several streams, as pbzip2 and ``cat`` make them: one
flipped bit where the second begins would lose all documents from there on.
"""

from __future__ import annotations

import bz2
import io
import lzma
from collections.abc import Callable
from typing import IO

_READ_AT_A_TIME = 1 << 16  # bytes


class StreamReader(io.RawIOBase):
    """Reads compressed streams, one after the other, out of a file that the caller closes.

    Bytes of zero between and behind the streams are padding, as xz allows it and tapes leave it.

    Args:
        compressed: the file.
        decompressor: makes one for the next stream.
    """

    def __init__(
        self,
        compressed: IO[bytes],
        decompressor: Callable[[], bz2.BZ2Decompressor | lzma.LZMADecompressor],
    ) -> None:
        self._compressed = compressed
        self._new = decompressor
        self._current = decompressor()

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill ``buffer`` from its begin and return the number of bytes, 0 at the end.

        Raises:
            EOFError: the file ends within a stream.
            OSError, lzma.LZMAError: it is damaged, or something else stands behind a stream.
        """
        data = b""
        while not data:
            if self._current.eof:
                following = self._behind_the_stream()
                if not following:
                    return 0
                self._current = self._new()
                data = self._current.decompress(following, len(buffer))
            elif self._current.needs_input:
                following = self._compressed.read(_READ_AT_A_TIME)
                if not following:
                    raise EOFError("the compressed file ended before the end of a stream")
                data = self._current.decompress(following, len(buffer))
            else:
                data = self._current.decompress(b"", len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _behind_the_stream(self) -> bytes:
        """Return bytes from the begin of what follows, without the padding; empty at the end of the file."""
        following = self._current.unused_data or self._compressed.read(_READ_AT_A_TIME)
        while following and not (rest := following.lstrip(b"\0")):
            following = self._compressed.read(_READ_AT_A_TIME)
        return rest if following else b""

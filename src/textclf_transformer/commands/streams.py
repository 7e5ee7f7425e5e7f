"""Standard streams that are closed, full or left by their reader: what is said never ends what is done."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO, cast


def open_missing_streams() -> None:
    """Give the process the standard streams that it was started without, as by ``2>&-``; they lead nowhere.

    Python has None in their place. And the system hands the lowest free number to the next file that is
    opened: what a library prints to "descriptor 2" would land in a checkpoint.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, os.fdopen(null, mode, encoding="utf-8"))


def escape_what_stdout_lacks() -> None:
    """Show a character that stdout has no code for (LC_ALL=C, Latin-1) as ``\\u2013``, as stderr does."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


@contextlib.contextmanager
def messages_that_may_be_lost() -> Iterator[None]:
    """Go on in silence where stderr cannot be written: ``2>&1 | head``, a closed terminal, a full disk."""
    with contextlib.redirect_stderr(cast("TextIO", _Messages(sys.stderr))):
        yield


def lead_nowhere(stream: TextIO) -> None:
    """Point ``stream`` to the null device; what is still buffered goes there when Python ends, too."""
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, stream.fileno())
    except (OSError, ValueError):
        pass  # no real file (a test captures it), so nothing is flushed at the end either
    finally:
        os.close(null)


class _Messages:
    """Stderr as it is, but for errors of the system in writing."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write ``text``, if that can be; returns its length either way."""
        try:
            self._stream.write(text)
        except OSError:
            lead_nowhere(self._stream)
        return len(text)

    def flush(self) -> None:
        """Flush, if that can be."""
        try:
            self._stream.flush()
        except OSError:
            lead_nowhere(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

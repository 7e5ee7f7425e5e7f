"""Standard streams that are closed, full or left by their reader: what is said never ends what is done."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO, cast


def open_missing_streams() -> None:
    """Give the process the standard streams that it was started without, as by ``2>&-``, or that a caller has
    closed; they lead nowhere.

    Python has None in their place. And the system hands the lowest free number to the next file that is
    opened: what a library prints to "descriptor 2" would land in a checkpoint.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None or getattr(stream, "closed", False):
            null = os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, os.fdopen(null, mode, encoding="utf-8"))


def stdout_is_terminal() -> bool:
    """Whether stdout is a terminal; an object of a caller that cannot tell is none."""
    return bool(getattr(sys.stdout, "isatty", bool)())


@contextlib.contextmanager
def encoding_of_stdout(encoding: str | None = None, *, errors: str) -> Iterator[None]:
    """Have stdout encode what is written inside otherwise; the former settings come back.

    Args:
        encoding: of the characters; None: the one that stdout has.
        errors: what becomes of a character without a code: ``backslashreplace`` shows it as ``\\u2013``, as
            stderr does.
    """
    stream = sys.stdout
    if not isinstance(stream, io.TextIOWrapper):
        yield
        return
    encoding_before, errors_before = stream.encoding, stream.errors
    stream.reconfigure(encoding=encoding or stream.encoding, errors=errors)
    try:
        yield
    finally:
        with contextlib.suppress(OSError, ValueError):  # full, left by its reader, or closed meanwhile
            stream.reconfigure(encoding=encoding_before, errors=errors_before)


@contextlib.contextmanager
def messages_that_may_be_lost() -> Iterator[None]:
    """Go on in silence where stderr cannot be written: ``2>&1 | head``, a closed terminal, a full disk."""
    with contextlib.redirect_stderr(cast("TextIO", _Messages(sys.stderr))):
        yield


@contextlib.contextmanager
def flushed(stream: TextIO) -> Iterator[None]:
    """Write out at the end what ``stream`` holds; what prevents it is raised if there is no error already.

    What cannot be written goes nowhere afterwards: Python would try again when it shuts down, complain, and
    leave with an exit code of its own.
    """
    try:
        yield
        stream.flush()
    finally:
        try:
            stream.flush()
        except Exception:  # a caller's object may raise anything; what came first is the error to tell
            if stream is sys.__stdout__:  # a caller's own file stays the caller's
                lead_nowhere(stream)


def lead_nowhere(stream: TextIO) -> None:
    """Point ``stream`` to the null device; what is still buffered goes there when Python ends, too."""
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, stream.fileno())
    except (OSError, ValueError, AttributeError):
        pass  # no real file (a test or a notebook captures it), so nothing is flushed at the end either
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

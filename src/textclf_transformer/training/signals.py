"""Ctrl-C, SIGTERM and a closed terminal: the first signal asks the loop to save and leave, the second leaves
at once.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType, TracebackType

_EXIT_CODE_BASE = 128  # the shell's convention: 128 + signal number, so 130 for Ctrl-C and 143 for SIGTERM

# What a closed terminal sends; there is none on Windows.
_HANG_UP: signal.Signals | None = getattr(signal, "SIGHUP", None)


def die_of_interrupt() -> None:
    """Let Ctrl-C end the process as SIGTERM does, without a word: while torch is imported, or Python ends.

    A KeyboardInterrupt there would end in a traceback, or be taken for a module that cannot be imported. A
    Ctrl-C that is ignored, as in a background job of a script, or handled by a caller, stays so.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    if in_main_thread and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextlib.contextmanager
def raising_on_interrupt() -> Iterator[None]:
    """Where Ctrl-C would end the process, make it a KeyboardInterrupt inside: work in hand can be cleared up.

    Afterwards it is as before: in a command, a second Ctrl-C is quiet while Python shuts down.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGINT) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def run_to_its_end(command: Sequence[str], *, cwd: Path) -> int:
    """Run a command that Ctrl-C reaches as well, and return its exit code once it has ended by itself.

    ``subprocess.run`` would kill it a quarter of a second after the Ctrl-C, in the middle of its save.
    """
    with subprocess.Popen(command, cwd=cwd) as process:
        while True:
            with contextlib.suppress(KeyboardInterrupt):
                code = process.wait()
                return code if code >= 0 else _EXIT_CODE_BASE - code


class EvaluationInterrupted(Exception):
    """An evaluation saw the stop signal and gave up; it has changed nothing and is done again later."""


class StopSignal:
    """Catches SIGINT, SIGTERM and SIGHUP inside ``with``; the former handlers come back afterwards.

    The first signal only sets ``requested``, which the loop reads after each step and an evaluation between
    its batches. The second leaves at once with its exit code, without clean-up: whatever the process was
    stuck in cannot delay it, and writes are atomic and the lock ends with the process. A terminal that closes
    sends SIGHUP twice, through the shell and by itself, so SIGHUP is never a second signal; where it was
    ignored, as under nohup, it stays so. Outside the main thread, where Python cannot catch signals, and
    outside ``with``, ``requested`` stays None.

    Attributes:
        requested: None, or the exit code of the signal that came (129, 130, 143).
    """

    def __init__(self) -> None:
        self.requested: int | None = None
        self._former: dict[signal.Signals, signal._HANDLER] = {}

    def __enter__(self) -> StopSignal:
        if threading.current_thread() is threading.main_thread():
            numbers = [signal.SIGINT, signal.SIGTERM]
            if _HANG_UP is not None and signal.getsignal(_HANG_UP) is not signal.SIG_IGN:
                numbers.append(_HANG_UP)
            for number in numbers:
                self._former[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        exc_traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        self._former.clear()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        code = _EXIT_CODE_BASE + number
        if self.requested is not None:
            if number == _HANG_UP:
                return
            _write("left at once, without saving\n")
            os._exit(code)
        self.requested = code
        _write("stopping: saving at the end of this step; once more leaves at once\n")


def _write(text: str) -> None:
    """Write to stderr below Python's buffers, which may be in use; show a cursor that a bar has hidden."""
    with contextlib.suppress(OSError, ValueError, AttributeError):  # stderr is closed, or not a file
        descriptor = sys.stderr.fileno()
        show_cursor = "\x1b[?25h" if os.isatty(descriptor) else ""
        os.write(descriptor, f"\n{text}{show_cursor}".encode())

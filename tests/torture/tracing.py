"""strace around a halted process: records its system calls, or lets one of them fail."""

from __future__ import annotations

import functools
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from torture.bench import PATIENCE, Bench, Ended


@functools.cache
def why_not() -> str | None:
    """Return why strace cannot be used here, None if it can."""
    if shutil.which("strace") is None:
        return "strace is not installed (Debian: apt-get install strace)"
    with subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE
    ) as process:
        try:
            tracer = _attach(process.pid, ["-o", os.devnull])
        except PermissionError as refusal:
            return f"strace may not be attached here: {refusal}"
        assert process.stdin is not None
        process.stdin.close()
        tracer.wait(timeout=PATIENCE)
    return None


def run_traced(
    bench: Bench, task: str, folder: Path, options: list[str], *, hook: dict[str, Any], record: Path
) -> Ended:
    """Start a run, halt it where ``hook`` says, and let it go on under strace.

    Args:
        bench: where.
        task: ``pretrain`` or ``finetune``.
        folder: the run's.
        options: of strace.
        hook: ``phase`` and ``occurrence``, or none for the whole process.
        record: where strace writes.
    """
    tracers: list[subprocess.Popen[str]] = []

    def attach(pid: int) -> None:
        tracers.append(_attach(pid, [*options, "-o", str(record)]))
        os.kill(pid, signal.SIGCONT)

    record.unlink(missing_ok=True)
    ended = bench.train(task, folder, hook={"moment": 1, **hook, "action": "stop"}, when_stopped=attach)
    for tracer in tracers:
        tracer.wait(timeout=PATIENCE)
    if not tracers:
        raise AssertionError(f"the run was over before {hook}")
    return ended


def _attach(pid: int, options: list[str]) -> subprocess.Popen[str]:
    """Return a strace that holds the main thread of ``pid``; PermissionError if it is not allowed to."""
    tracer = subprocess.Popen(["strace", *options, "-p", str(pid)], stderr=subprocess.PIPE, text=True)
    assert tracer.stderr is not None
    line = tracer.stderr.readline()
    if "attached" not in line:
        tracer.kill()
        tracer.wait()
        raise PermissionError(line.strip())
    return tracer

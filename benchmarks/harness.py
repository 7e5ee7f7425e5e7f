"""Timing two sides alternately, each in a process of its own.

A *side* is an object with ``run()``, the work that is timed, and ``check()``, numbers by which two sides are
compared: same tokens and equal weights must give the same numbers.
"""

from __future__ import annotations

import multiprocessing
import re
import statistics
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import torch

MIB = 1 << 20

# How long a side works before it is the other's turn, once at least. The first step after a pause takes 15 to
# 20 % longer than those that follow it, and a training has no pauses.
TURN_SECONDS = 3.0

_WARM_UPS, _WARM_UP_SECONDS = 5, 60.0

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")


class Side(Protocol):
    """One contender."""

    def run(self) -> None:
        """Do the work once."""

    def check(self) -> list[float]:
        """Return numbers that must agree between sides; not timed."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One turn.

    Attributes:
        seconds: wall-clock time of the work, the mean over the turn.
        peak_mib: largest resident size of the process during the turn; on a GPU torch's peak.
        growth_mib: by how much that is above the size just before the turn.
    """

    seconds: float
    peak_mib: float
    growth_mib: float


def take_turn(work: Callable[[], object], device: torch.device, *, seconds: float) -> Sample:
    """Do ``work`` again and again until so many seconds have passed, once at least, and measure it."""
    before = _start_peak(device)
    start, count, elapsed = time.perf_counter(), 0, 0.0
    while count == 0 or elapsed < seconds:
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        count, elapsed = count + 1, time.perf_counter() - start
    peak = _peak_mib(device)
    return Sample(elapsed / count, peak, max(peak - before, 0.0))


def _start_peak(device: torch.device) -> float:
    """Make the peak start anew where the system can, and return the present size in MiB."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device) / MIB
    with suppress(OSError):
        _CLEAR_REFS.write_text("5", encoding="ascii")  # Linux: the peak becomes the present size
    return _status_mib("VmRSS")


def _peak_mib(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / MIB
    return _status_mib("VmHWM")


def _status_mib(key: str) -> float:
    """Return a line of /proc/self/status in MiB; NaN where there is no such file."""
    try:
        found = re.search(rf"^{key}:\s+(\d+) kB$", _STATUS.read_text(encoding="ascii"), re.MULTILINE)
    except OSError:
        return float("nan")
    return float("nan") if found is None else int(found[1]) / 1024


class SideProcess:
    """A side that lives in a process of its own, so that its memory is its own.

    Args:
        name: for messages.
        open_side: makes the side; called in the new process, so it must be picklable.
        device: where the side works.
    """

    def __init__(self, name: str, open_side: Callable[[], Side], device: torch.device) -> None:
        context = multiprocessing.get_context("spawn")
        self._name = name
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, open_side, device), daemon=True)
        self._process.start()
        theirs.close()
        self._answer()

    def check(self) -> list[float]:
        """Return the side's numbers."""
        self._connection.send(None)
        numbers: list[float] = self._answer()
        return numbers

    def run(self, seconds: float) -> Sample:
        """Let the side take a turn of so many seconds, see ``take_turn``."""
        self._connection.send(seconds)
        sample: Sample = self._answer()
        return sample

    def _answer(self) -> Any:
        try:
            kind, content = self._connection.recv()
        except EOFError:
            self._process.join()
            raise RuntimeError(
                f"{self._name}: the process ended with code {self._process.exitcode}; "
                "-9 mostly means that memory ran out"
            ) from None
        if kind == "error":
            raise RuntimeError(f"{self._name}:\n{content}")
        return content

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()  # the process ends when it sees that
        self._process.join(timeout=30)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def _serve(connection: Connection, open_side: Callable[[], Side], device: torch.device) -> None:
    """Answer a ``SideProcess`` until it hangs up: seconds with a turn, None with the check's numbers."""
    try:
        side = open_side()
        connection.send(("ready", None))
        while True:
            seconds = connection.recv()
            content = side.check() if seconds is None else take_turn(side.run, device, seconds=seconds)
            connection.send(("done", content))
    except EOFError:
        return
    except Exception:
        connection.send(("error", traceback.format_exc()))


def alternate(runs: Mapping[str, Callable[[float], Sample]], *, repetitions: int) -> dict[str, list[Sample]]:
    """Return ``repetitions`` samples of each side, taken in turn (A B A B) after runs that are not counted.

    Turns share out among the sides what else goes on on the machine.

    Args:
        runs: each takes a turn of so many seconds, see ``take_turn``.
    """
    for run in runs.values():
        _warm_up(run)
    samples: dict[str, list[Sample]] = {name: [] for name in runs}
    for _ in range(repetitions):
        for name, run in runs.items():
            samples[name].append(run(TURN_SECONDS))
    return samples


def _warm_up(run: Callable[[float], Sample]) -> None:
    """Run up to five times, for about a minute: what is compiled is, and the heap has found its size."""
    elapsed = 0.0
    for _ in range(_WARM_UPS):
        elapsed += run(0.0).seconds
        if elapsed > _WARM_UP_SECONDS:
            return


def compare(
    ours: Callable[[], Side], theirs: Callable[[], Side], *, repetitions: int, device: torch.device
) -> dict[str, Any]:
    """Measure two sides against each other.

    Returns:
        ``ours`` and ``theirs`` (see ``summary``), ``ratio`` of the medians, ``ratios`` of the single pairs,
        smallest and largest, and ``difference`` of the checks (see ``difference``).
    """
    with ExitStack() as stack:
        sides = {
            name: stack.enter_context(SideProcess(name, open_side, device))
            for name, open_side in (("ours", ours), ("theirs", theirs))
        }
        checks = {name: side.check() for name, side in sides.items()}
        samples = alternate({name: side.run for name, side in sides.items()}, repetitions=repetitions)
    return {
        "difference": difference(checks["ours"], checks["theirs"]),
        **comparison(samples["ours"], samples["theirs"]),
    }


def comparison(ours: Sequence[Sample], theirs: Sequence[Sample]) -> dict[str, Any]:
    """Return what ``compare`` says of the times."""
    pairs = [b.seconds / a.seconds for a, b in zip(ours, theirs, strict=True)]
    return {
        "ours": summary(ours),
        "theirs": summary(theirs),
        "ratio": summary(theirs)["seconds"] / summary(ours)["seconds"],
        "ratios": [min(pairs), max(pairs)],
    }


def summary(samples: Sequence[Sample]) -> dict[str, Any]:
    """Return the median time, the largest peak and growth of memory, and all samples."""
    return {
        "seconds": statistics.median(sample.seconds for sample in samples),
        "peak_mib": max(sample.peak_mib for sample in samples),
        "growth_mib": max(sample.growth_mib for sample in samples),
        "samples": [asdict(sample) for sample in samples],
    }


def difference(numbers: Sequence[float], others: Sequence[float]) -> float:
    """Return the largest distance between two lists, relative to the largest value of the second."""
    largest = max(abs(value) for value in others)
    return max(abs(a - b) for a, b in zip(numbers, others, strict=True)) / largest

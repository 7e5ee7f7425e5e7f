"""Counts what a training process does and strikes at one exact place of it: a kill, a signal, a halt.

Every call and return of a Python or built-in function in the main thread is an event, and belongs to a phase
of the run. "The 1234th event of the phase ``save``" is the same place each time, so what a seed has found it
finds again. Nothing is mocked: the process kills itself with a real SIGKILL, which runs no handler and no
clean-up.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

# Calls on these names show in strace's record that the phase in which the process was halted is over, and
# that ``Checkpointer.save`` has returned.
END_OF_PHASE = "/the-phase-is-over"
SAVED = "/saved"

PHASES = ("start-up", "step", "accumulation", "between steps", "save", "evaluation", "shutdown")

# (file, function) whose call begins a phase that its return ends
_INSIDE = {
    ("loop.py", "run"): "between steps",
    ("loop.py", "_train_step"): "step",
    ("loop.py", "_evaluate"): "evaluation",
    ("training_session.py", "_evaluate_test"): "evaluation",
    ("checkpointer.py", "save"): "save",
    ("checkpointer.py", "save_best"): "save",
}


class Hook:
    """Counts events by phase and acts at one of them.

    Args:
        record: a file that gets a JSON line: where the process was struck, or at the end the counts.
        phase: where to act; None only counts.
        moment: at which event of that phase, from 1.
        occurrence: the event is counted from the beginning of this occurrence of the phase, from 1; None:
            from the beginning of the process.
        action: ``kill``, ``stop`` (SIGSTOP, for strace to attach), ``SIGTERM``, ``SIGINT``.
        again: for a second signal: how many events later, and which.
    """

    def __init__(
        self,
        *,
        record: str,
        phase: str | None = None,
        moment: int = 1,
        occurrence: int | None = None,
        action: str = "kill",
        again: tuple[int, str] | None = None,
    ) -> None:
        self.record, self.phase, self.moment, self.action, self.again = record, phase, moment, action, again
        self.occurrence = occurrence
        self.counts: Counter[str] = Counter()
        self.occurrences: Counter[str] = Counter()
        self.stack = ["start-up"]
        self.owners: list[FrameType] = []
        self.micro_batches = 0
        self.began: int | None = None  # steps done before the first one of this process
        self.left = 0
        self.struck = False
        self.traced: FrameType | None = None
        self.owner_process = os.getpid()  # git, asked for the commit, begins as a fork of this process

    def install(self) -> None:
        sys.setprofile(self.event)

    def event(self, frame: FrameType, event: str, argument: Any) -> None:
        if event == "call":
            self._enter(frame)
        if self.struck:
            self.left -= 1
            if self.left == 0:
                assert self.again is not None
                self._act(frame, self.again[1])
        else:
            phase = self.stack[-1]
            self.counts[phase] += 1
            if (
                phase == self.phase
                and self.counts[phase] == self.moment
                and self.occurrence in (None, self.occurrences[phase])
                and os.getpid() == self.owner_process
            ):
                self.struck = True
                self.left = self.again[0] if self.again is not None else 0
                self._act(frame, self.action)
        if event == "return" and self.owners and self.owners[-1] is frame:
            self._leave(frame)

    def _enter(self, frame: FrameType) -> None:
        name, file = frame.f_code.co_name, frame.f_code.co_filename
        if name == "autocast" and self.stack[-1] in ("step", "accumulation") and file.endswith("numerics.py"):
            self.micro_batches += 1
            if self.micro_batches > 1:
                self.stack[-1] = "accumulation"
        elif name == "_get_total_norm" or name == "get_total_norm":
            if self.stack[-1] == "accumulation":
                self.stack[-1] = "step"
        elif (phase := _INSIDE.get((Path(file).name if name in _NAMES else "", name))) is not None:
            self.stack.append(phase)
            self.owners.append(frame)
            self.occurrences[phase] += 1
            if phase == "step" and self.began is None:
                self.began = frame.f_locals["self"].state.step
            if self.occurrence is not None:
                self.counts[phase] = 0
            self.micro_batches = 0

    def _leave(self, frame: FrameType) -> None:
        self.owners.pop()
        self.stack.pop()
        if frame is self.traced:
            os.access(END_OF_PHASE, os.F_OK)
            sys.setprofile(None)
        elif self.action == "stop" and frame.f_code.co_name == "save":
            os.access(SAVED, os.F_OK)
        if frame.f_code.co_name == "run":
            self.stack[-1] = "shutdown"

    def _act(self, frame: FrameType, action: str) -> None:
        self.write(
            {
                "phase": self.stack[-1],
                "action": action,
                "where": _place(frame),
                "steps": self.occurrences["step"],
                "began": self.began,
            }
        )
        if action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif action == "stop":
            self.traced = self.owners[-1] if self.owners else None
            os.kill(os.getpid(), signal.SIGSTOP)
        else:
            os.kill(os.getpid(), signal.Signals[action])

    def write(self, line: dict[str, Any]) -> None:
        descriptor = os.open(self.record, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.write(descriptor, json.dumps(line).encode() + b"\n")
        os.close(descriptor)

    def finish(self) -> None:
        """Record the counts of a process that nothing struck, or that went on."""
        sys.setprofile(None)
        self.write({"counts": dict(self.counts), "threads": len(list(Path("/proc/self/task").iterdir()))})


_NAMES = {name for _, name in _INSIDE}


def _place(frame: FrameType) -> str:
    """Return the innermost lines of this project that lead to ``frame``, outermost first."""
    places: list[str] = []
    walk: FrameType | None = frame
    while walk is not None and len(places) < 4:
        if "textclf_transformer" in walk.f_code.co_filename:
            places.append(f"{Path(walk.f_code.co_filename).name}:{walk.f_lineno} {walk.f_code.co_name}")
        walk = walk.f_back
    return " > ".join(reversed(places))

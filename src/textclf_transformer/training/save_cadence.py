"""When the loop's state goes onto the disk."""

from __future__ import annotations

import time


class SaveCadence:
    """Tells after each optimizer step whether a save is due, by steps, by time, or because one failed.

    Args:
        every_steps: optimizer steps between two saves; None: by time alone.
        every_minutes: minutes between two saves; None: by steps alone. It cannot change the numbers.
    """

    def __init__(self, *, every_steps: int | None, every_minutes: float | None) -> None:
        self._every_steps = every_steps
        self._seconds = None if every_minutes is None else 60 * every_minutes
        self._failed = False
        self.begin(step=0)

    def begin(self, *, step: int) -> None:
        """Start the clock of a session whose state of ``step`` is on the disk, or is none yet."""
        self._saved_step = step
        self._last = time.monotonic()

    def is_new(self, step: int) -> bool:
        """Whether the state after ``step`` is not on the disk."""
        return step > self._saved_step

    def due(self, step: int) -> bool:
        """Whether the state after ``step`` is to be saved now."""
        at_step = self._every_steps is not None and step % self._every_steps == 0
        late = self._seconds is not None and time.monotonic() - self._last >= self._seconds
        return self.is_new(step) and (at_step or late or self._failed)

    def count(self, step: int, *, saved: bool) -> None:
        """Note a save of the state after ``step``; one that failed is due again after the next step."""
        self._failed = not saved
        if saved:
            self._saved_step = step
        self._last = time.monotonic()

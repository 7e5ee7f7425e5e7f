"""What the user sees while a run goes on: a bar on a terminal, plain lines elsewhere, both on stderr."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from types import TracebackType
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn
from rich.progress import Progress as Bar
from rich.table import Column

from textclf_transformer.errors import printable
from textclf_transformer.training.health import Health

Value = str | int | float | None

_SPEED_MEMORY = 0.95  # of the running mean of a step's time: about the last 20 steps


class Progress:
    """Shows step, loss, learning rate, tokens per second, memory and time left; a context manager.

    Args:
        stream: where to; None is stderr.
        quiet: show warnings only.
        health: says what looks wrong in the rows that are shown; None: nobody does.
        seconds_between_lines: shortest time between two plain lines about training steps.
    """

    def __init__(
        self,
        *,
        stream: TextIO | None = None,
        quiet: bool = False,
        health: Health | None = None,
        seconds_between_lines: float = 5.0,
    ) -> None:
        self._health = health or Health()
        self._console = Console(file=stream, stderr=stream is None, highlight=False, soft_wrap=True)
        self._quiet = quiet
        self._seconds_between_lines = seconds_between_lines
        self._bar: Bar | None = None
        self._task = TaskID(0)
        self._done = 0
        self._total = 0
        self._last_advance = 0.0
        self._last_line = -math.inf
        self._seconds_per_step: float | None = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        exc_traceback: TracebackType | None,
    ) -> None:
        self.close()

    def start(self, *, done: int, total: int) -> None:
        """Begin with ``done`` of ``total`` steps behind."""
        self.close()
        self._done, self._total = done, total
        self._last_advance = time.monotonic()
        if self._console.is_terminal and not self._quiet:
            self._bar = Bar(
                # a narrow terminal cuts the end of the line, not the count
                TextColumn(
                    "{task.completed}/{task.total}",
                    table_column=Column(no_wrap=True, min_width=len(f"{total}/{total}")),
                ),
                BarColumn(),
                TextColumn("{task.description}", markup=False),
                console=self._console,
                refresh_per_second=4,
                redirect_stdout=False,  # results go to stdout and must arrive there unaltered
                redirect_stderr=False,
            )
            self._task = self._bar.add_task("", total=total, completed=done)
            self._bar.start()

    def advance(self) -> None:
        """Count one finished step."""
        now = time.monotonic()
        seconds, self._last_advance = now - self._last_advance, now
        if self._seconds_per_step is None:
            self._seconds_per_step = seconds
        self._seconds_per_step += (1 - _SPEED_MEMORY) * (seconds - self._seconds_per_step)
        self._done += 1
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done)

    def show(self, row: Mapping[str, Value]) -> None:
        """Show a row of the training log and the time left, and what the health says to it."""
        parts = [
            f"epoch {row['epoch']:.2f}",
            f"loss {row['loss']:.4f}",
            f"lr {row['learning_rate']:.2e}",
            f"{row['tokens_per_second']:,.0f} tokens/s",
            *memory_in_words(row),
            f"{self.time_left()} left",
        ]
        for text in self._health.training(row):
            self.warn(f"warning: {text}")
        if self._bar is not None:
            self._bar.update(self._task, description="  ".join(parts))
            return
        now = time.monotonic()
        is_last = self._done >= self._total
        if not self._quiet and (is_last or now - self._last_line >= self._seconds_between_lines):
            self._last_line = now
            self._print(f"step {self._done}/{self._total}  " + "  ".join(parts))

    def show_evaluation(self, row: Mapping[str, Value], *, is_best: bool) -> None:
        """Show a row of the evaluation log on a line that stays."""
        shared = ("step", "epoch", "split", "learning_rate", "grad_norm", "tokens_seen", "elapsed_seconds")
        metrics = "  ".join(
            f"{name} {value:.4f}"
            for name, value in row.items()
            if name not in shared and isinstance(value, float)
        )
        self.message(f"{row['split']} at step {row['step']}: {metrics}{'  (best so far)' if is_best else ''}")
        if (verdict := self._health.verdict(row)) is not None:
            self.message(verdict)
        for text in self._health.evaluation(row):
            self.warn(f"warning: {text}")

    def message(self, text: str) -> None:
        """Show a line that stays, unless quiet."""
        if not self._quiet:
            self._print(printable(text))

    def warn(self, text: str) -> None:
        """Show a line that stays, quiet or not."""
        self._print(printable(text))

    def time_left(self) -> str:
        """Return the expected time for the remaining steps, as ``1 h 05 min``, ``12 min`` or ``34 s``."""
        if self._seconds_per_step is None:
            return "?"
        seconds = round(self._seconds_per_step * max(self._total - self._done, 0))
        if seconds < 60:
            return f"{seconds} s"
        minutes = round(seconds / 60)
        return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"

    def close(self) -> None:
        """Take the bar off the screen and give the cursor back; plain lines stay possible."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _print(self, text: str) -> None:
        self._console.print(text, markup=False)


def memory_in_words(row: Mapping[str, Value]) -> list[str]:
    """Return the peak memory of a row of the training log: the device's, or the process's on a CPU."""
    for name in ("memory_device_mib", "memory_host_mib"):
        if isinstance(mebibytes := row.get(name), int | float):
            return [f"{mebibytes / 1024:.1f} GiB"]
    return []

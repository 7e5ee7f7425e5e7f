"""Tables in the terminal: text from documents and labels is shown as it is, never taken for markup."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from textclf_transformer.commands.streams import stdout_is_terminal
from textclf_transformer.errors import printable

WIDTH_ELSEWHERE = 200
"""Columns of a file or a pipe, which have no width of their own; nothing should be cut off in them.

The widest table of fixed columns, the scores of ordered labels with their intervals, takes up to 188.
"""

MAX_LABELS_SHOWN = 50
"""Rows of a table of labels."""

_LEAST_TEXT = 12  # columns that a name keeps where there is no room; the rest of it goes to further lines


class _Results(Console):
    """Leaves a closed pipe to ``run_command``; rich's own ends the process, with exit code 1."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Print, and let a table that does not fit run over the edge: a number without its end is another."""
        super().print(*objects, **{"crop": False, **options})

    def on_broken_pipe(self) -> None:
        """Pass the error on."""
        raise BrokenPipeError


def results_console() -> Console:
    """Return a console on stdout; numbers and names are not coloured by their looks."""
    width = None if stdout_is_terminal() else WIDTH_ELSEWHERE
    return _Results(file=sys.stdout, width=width, highlight=False)


def new_table(left: Sequence[str], right: Sequence[str]) -> Table:
    """Return an empty table; text columns to the left, numbers to the right."""
    table = Table(box=None, pad_edge=False)
    for name in left:
        table.add_column(Text(printable(name)), overflow="fold")
    for name in right:
        table.add_column(Text(printable(name)), justify="right")
    _keep_whole(table, [*left, *right])
    return table


def add_row(table: Table, cells: Sequence[str]) -> None:
    """Add a row of plain text; control characters are shown as escapes."""
    _keep_whole(table, cells)
    table.add_row(*(Text(printable(cell)) for cell in cells))


def _keep_whole(table: Table, cells: Sequence[str]) -> None:
    """Make the columns at least as wide as the longest word of these cells, of names up to a measure."""
    for column, cell in zip(table.columns, cells, strict=True):
        longest = max((cell_len(word) for word in printable(cell).split()), default=0)
        if column.justify != "right":
            longest = min(longest, _LEAST_TEXT)
        column.min_width = max(column.min_width or 0, longest)


def number_or_dash(value: float | None) -> str:
    """Return the number with four digits, a dash for None."""
    return "–" if value is None else f"{value:.4f}"

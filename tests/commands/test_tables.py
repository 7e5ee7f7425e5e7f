"""Tables on a narrow terminal: whatever else gives way, a number stays whole."""

from __future__ import annotations

import io

import pytest

from textclf_transformer.commands import tables
from textclf_transformer.commands.tables import add_row, new_table, results_console


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("columns", ["20", "40", "80"])
def test_numbers_are_never_cut(columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    stream = Terminal()
    monkeypatch.setattr(tables.sys, "stdout", stream)
    numbers = [f"{123456 + 1111 * place:,}" for place in range(8)]
    name = "a name that goes on and on for longer than any terminal"
    table = new_table(["name"], [f"documents{place}" for place in range(8)])
    add_row(table, [name, *numbers])
    add_row(table, ["b", *(f"0.{place}846 [-0.1519, 0.6154]" for place in range(8))])
    results_console().print(table)
    shown = stream.getvalue().split()
    assert "…" not in stream.getvalue()
    assert set(numbers) | {"[-0.1519,", "0.6154]"} <= set(shown) and "documents7" in stream.getvalue()
    assert set(name.split()) <= set(shown)


def test_a_pipe_cuts_nothing_of_many_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(tables.sys, "stdout", stream)
    names = [f"label_with_a_long_name_{place}" for place in range(20)]  # the confusion of 20 labels
    table = new_table([""], names)
    add_row(table, [names[0], *map(str, range(1000, 1020))])
    results_console().print(table)
    assert set(names) | set(map(str, range(1000, 1020))) <= set(stream.getvalue().split())

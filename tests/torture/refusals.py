"""A command that must refuse what it is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

Main = Callable[[Sequence[str]], int]


def refused(capsys: pytest.CaptureFixture[str], code: int, named: str, main: Main, *arguments: object) -> str:
    """Run a command that must refuse: with this exit code, one line that names what is wrong, no fault."""
    capsys.readouterr()
    found = main([str(argument) for argument in arguments])
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert errors
    assert (found, named in errors[0], "fault of ours" in errors[0]) == (code, True, False), errors
    assert all(line.isprintable() for line in errors)
    return errors[0]

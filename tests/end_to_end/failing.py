"""Commands that must fail, and what lies in a folder before and after."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

Main = Callable[[Sequence[str]], int]


def fails(capsys: pytest.CaptureFixture[str], main: Main, *arguments: str) -> tuple[int, str]:
    """Return exit code and the error line of a command that must fail."""
    capsys.readouterr()
    code = main(list(arguments))
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) >= 1
    assert not any("fault of ours" in line for line in errors), errors
    return code, "\n".join(errors)


def snapshot(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}

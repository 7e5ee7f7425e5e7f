"""One bench for the tests of a process; its data and imports are made once. A canary for hostile files."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from torture.bench import Bench


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    if sys.platform != "linux":
        pytest.skip("forks, counts and traces processes as Linux does")
    with Bench(tmp_path_factory.mktemp("torture") / "bench") as bench:
        yield bench


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """A file that is there once code of a hostile file has run."""
    return tmp_path / "canary"

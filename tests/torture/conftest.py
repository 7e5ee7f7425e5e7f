"""One bench for the tests of a process; its data and imports are made once."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from torture.bench import Bench

# fork, flock, SIGKILL: there is no such thing to torment on Windows
collect_ignore_glob = ["*"] if sys.platform == "win32" else []


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with Bench(tmp_path_factory.mktemp("torture") / "bench") as bench:
        yield bench

"""One bench for the tests of a process; its data and imports are made once."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from torture.bench import Bench


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    if sys.platform != "linux":
        pytest.skip("forks, counts and traces processes as Linux does")
    with Bench(tmp_path_factory.mktemp("torture") / "bench") as bench:
        yield bench

"""The quick part of the torture suite: every row with few cases. ``make torture`` runs the long part."""

from __future__ import annotations

import pytest
from torture.bench import TASKS, Bench, Result
from torture.kills import kill_runs
from torture.stops import stop_runs

SEED = 1


def check(result: Result) -> None:
    assert result.cases > 0
    assert not result.faults, "\n".join(result.faults)
    assert result.passed == result.cases


@pytest.mark.parametrize("task", TASKS)
def test_killed_runs_end_with_the_same_bits(bench: Bench, task: str) -> None:
    check(kill_runs(bench, task, runs=3, seed=SEED))


def test_stopped_runs_leave_a_checkpoint_and_end_with_the_same_bits(bench: Bench) -> None:
    check(stop_runs(bench, cases=8, seed=SEED))

"""The quick part of the torture suite: every row with few cases. ``make torture`` runs the long part."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from torture.bench import REPOSITORY, TASKS, Bench, Result
from torture.formats import kill_in_formats
from torture.full_disk import fill_disks
from torture.kills import kill_runs
from torture.lost_disk import lose_disks
from torture.power_loss import cut_power
from torture.sabotage import SABOTAGES, catch_sabotage
from torture.stops import stop_runs
from torture.system_calls import SAVES, break_system_calls

SEED = 1


def check(result: Result) -> None:
    if result.skipped is not None:
        pytest.skip(result.skipped)
    assert result.cases > 0
    assert not result.faults, "\n".join(result.faults)
    assert result.passed == result.cases


@pytest.mark.parametrize("task", TASKS)
def test_killed_runs_end_with_the_same_bits(bench: Bench, task: str) -> None:
    check(kill_runs(bench, task, runs=3, seed=SEED))


def test_stopped_runs_leave_a_checkpoint_and_end_with_the_same_bits(bench: Bench) -> None:
    check(stop_runs(bench, cases=8, seed=SEED))


def test_a_system_call_that_fails_in_a_save_is_survived(bench: Bench) -> None:
    check(break_system_calls(bench, saves=tuple(SAVES), sample=6, seed=SEED))


def test_a_power_cut_loses_nothing_that_was_saved(bench: Bench) -> None:
    check(cut_power(bench, "pretrain", resumed=1, seed=SEED))


def test_a_full_disk_costs_nothing_but_time(bench: Bench) -> None:
    check(fill_disks(bench, sizes=6))


def test_a_disk_that_is_lost_costs_nothing_that_was_saved(bench: Bench) -> None:
    check(lose_disks(bench, cases=4, seed=SEED))


def test_killed_runs_end_with_the_same_bits_with_two_threads_in_bf16(bench: Bench) -> None:
    check(kill_in_formats(bench, runs=1, seed=SEED, kinds=[("finetune", 2, "bf16")]))


def test_a_fault_of_ours_is_caught(bench: Bench) -> None:
    faults = [fault for fault in SABOTAGES if fault.name == "the sampler is off by one after a resume"]
    check(catch_sabotage(bench, faults))


def test_faults_of_ours_find_their_places(tmp_path: Path) -> None:
    for number, fault in enumerate(SABOTAGES):
        package = tmp_path / str(number)
        for file in {file for file, _, _ in fault.edits}:
            (package / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / "src" / "textclf_transformer" / file, package / file)
        fault.apply(package)

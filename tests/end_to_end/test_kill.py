"""Runs that are killed go on to the same bits: weights, optimizer and metrics of both tasks."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from end_to_end.conftest import Checkout

from textclf_transformer import experiment

REPOSITORY = Path(__file__).resolve().parents[2]


def start(checkout: Checkout, command: str, name: str, *more: str) -> subprocess.Popen[bytes]:
    """Start a training command in a process of its own, with its run folders under the test's checkout."""
    code = (
        "import pathlib, sys; from textclf_transformer import experiment; "
        f"experiment.CHECKOUT = pathlib.Path({str(checkout.root)!r}); import {command}; "
        f"sys.exit({command}.main(sys.argv[1:]))"
    )
    path = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "src")])  # not the installed one
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", code, name, "--quiet", *more], cwd=checkout.root, env=environment
    )


def wait_for_rows(path: Path, count: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until a metrics file has ``count`` lines, or the process has ended."""
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if path.exists() and path.read_bytes().count(b"\n") >= count:
            return
        time.sleep(0.002)
    assert process.poll() is not None, "no rows appeared"


def comparable(folder: Path) -> dict[str, Any]:
    """Return what must be equal to the bit: tensors of the checkpoints and the reproducible columns."""
    state = torch.load(folder / "model.ckpt", weights_only=True)
    best = torch.load(folder / "best.ckpt", weights_only=True)
    result: dict[str, Any] = {f"model/{name}": tensor for name, tensor in state["model"].items()}
    result |= {f"best/{name}": tensor for name, tensor in best["model"].items()}
    for name, entry in state["optimizer"].items():
        result |= {f"optimizer/{name}/{key}": value for key, value in entry.items()}
    for file in ("metrics/train/metrics.csv", "metrics/eval/metrics.csv"):
        with (folder / file).open(encoding="utf-8", newline="") as stream:
            result[file] = [
                {
                    key: value
                    for key, value in row.items()
                    if not key.endswith(("_seconds", "_per_second")) and not key.startswith("memory_")
                }
                for row in csv.DictReader(stream)
            ]
    return result


def assert_same_bits(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    for key, value in one.items():
        same = torch.equal(value, other[key]) if isinstance(value, torch.Tensor) else value == other[key]
        assert same, key


CADENCE = ("--set", "training.save_every=3", "--set", "logging.eval_every=4", "--set", "logging.log_every=1")


@pytest.fixture(scope="session")
def uninterrupted(prepared_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a pretraining run leaves that nobody stopped; made once for all tests that compare with it."""
    root = tmp_path_factory.mktemp("uninterrupted") / "checkout"
    shutil.copytree(prepared_folder, root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiment, "CHECKOUT", root)
        folder = Checkout(root).pretraining("whole", *CADENCE)
    assert start(Checkout(root), "pretrain", "whole").wait(timeout=300) == 0
    return comparable(folder)


def kill_twice_and_finish(checkout: Checkout, command: str, folder: Path) -> None:
    log = folder / "metrics" / "train" / "metrics.csv"
    for rows in (6, 12):
        process = start(checkout, command, folder.name)
        wait_for_rows(log, rows, process)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL  # it did not end before
    assert start(checkout, command, folder.name).wait(timeout=300) == 0


def test_pretraining_killed_and_resumed(checkout: Checkout, uninterrupted: dict[str, Any]) -> None:
    folder = checkout.pretraining("killed", *CADENCE)
    kill_twice_and_finish(checkout, "pretrain", folder)
    assert_same_bits(uninterrupted, comparable(folder))


def test_finetuning_killed_and_resumed(pretrained: Checkout) -> None:
    folders = [pretrained.finetuning(name, "pre", *CADENCE) for name in ("whole", "killed")]
    assert start(pretrained, "finetune", "whole").wait(timeout=300) == 0
    kill_twice_and_finish(pretrained, "finetune", folders[1])
    assert_same_bits(comparable(folders[0]), comparable(folders[1]))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signal_saves_and_leaves(
    checkout: Checkout, uninterrupted: dict[str, Any], number: signal.Signals, code: int
) -> None:
    folder = checkout.pretraining("stopped", *CADENCE)
    process = start(checkout, "pretrain", "stopped", "--set", "training.save_every=1000")
    wait_for_rows(folder / "metrics" / "train" / "metrics.csv", 6, process)
    process.send_signal(number)
    assert process.wait(timeout=60) == code
    saved = torch.load(folder / "model.ckpt", weights_only=True)
    assert saved["loop"]["step"] >= 5
    assert start(checkout, "pretrain", "stopped").wait(timeout=300) == 0
    assert_same_bits(uninterrupted, comparable(folder))

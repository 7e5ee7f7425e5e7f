"""What stands in the logs beside the loss: the tokens per second, the seconds of the run."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest
from toys import CPU

from textclf_transformer.training import run_log as run_log_module
from textclf_transformer.training.metrics_log import TRAIN_COLUMNS, MetricsLog, eval_columns
from textclf_transformer.training.progress import Progress
from textclf_transformer.training.run_log import RunLog
from textclf_transformer.training.state import LoopState


def test_tokens_per_second_are_those_of_training_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(run_log_module.time, "monotonic", lambda: now)
    train_csv = tmp_path / "train.csv"
    with (
        MetricsLog(train_csv, TRAIN_COLUMNS, warn=pytest.fail) as train_log,
        MetricsLog(tmp_path / "eval.csv", eval_columns(["loss"]), warn=pytest.fail) as eval_log,
    ):
        progress = Progress(quiet=True)
        log = RunLog(train_log=train_log, eval_log=eval_log, progress=progress, warn=pytest.fail, device=CPU)
        now = 200.0
        state = LoopState(elapsed_seconds=50.0, target_count=1)
        log.begin(state, total_steps=4)
        # two steps in a quarter of a second, with an evaluation of three seconds between them
        for step, tokens in ((1, 30), (2, 20)):
            log.count_step(num_tokens=tokens)
            now += 0.125
            if step == 1:
                with log.pause():
                    now += 3.0
        log.add_training(replace(state, step=2), epoch=0.5)
        log.count_step(num_tokens=10)
        now += 4.0
        log.add_training(replace(state, step=3), epoch=0.75)
        train_log.sync()
    with train_csv.open(encoding="utf-8", newline="") as stream:
        rows = [(float(r["tokens_per_second"]), float(r["elapsed_seconds"])) for r in csv.DictReader(stream)]
    assert rows == [(200.0, 53.25), (2.5, 57.25)]

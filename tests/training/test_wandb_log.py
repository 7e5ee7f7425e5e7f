from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from toys import Run, StopAt, interrupting, toy_evaluate

from textclf_transformer.errors import ConfigError
from textclf_transformer.training.checkpoint import load_checkpoint
from textclf_transformer.training.wandb_log import WandbLog


class FakeRun:
    def __init__(self, run_id: str) -> None:
        self.id = run_id
        self.rows: list[dict[str, Any]] = []
        self.finished = self.broken = False
        self.exit_code: int | None = None

    def define_metric(self, name: str, step_metric: str | None = None) -> None:
        pass

    def log(self, row: dict[str, Any]) -> None:
        if self.broken:
            raise ConnectionError("no network")
        self.rows.append(row)

    def finish(self, exit_code: int = 0) -> None:
        self.finished = True
        self.exit_code = exit_code


class FakeWandb:
    """Stands in for the package: remembers what it was told."""

    def __init__(self) -> None:
        self.arguments: dict[str, Any] = {}
        self.runs: dict[str, FakeRun] = {}
        self.run: Any = None  # the open one

    exit_code: int | None = None

    def finish(self, exit_code: int = 0) -> None:
        self.exit_code = exit_code

    plot = SimpleNamespace(confusion_matrix=lambda **values: values)

    def Settings(self, **settings: Any) -> SimpleNamespace:
        return SimpleNamespace(**settings)

    def init(self, **arguments: Any) -> FakeRun:
        self.arguments = arguments
        return self.runs.setdefault(arguments["id"] or "new", FakeRun(arguments["id"] or "new"))


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> FakeWandb:
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    return fake


def started(folder: Path, warnings: list[str] | None = None, *, run_id: str | None = None) -> WandbLog:
    return WandbLog(
        project="p",
        entity=None,
        run_name="r",
        run_id=run_id,
        config={"training": {"epochs": 1}},
        folder=folder / "wandb",
        warn=pytest.fail if warnings is None else warnings.append,
    )


def test_absent_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match=r"cannot be imported.*pip install wandb"):
        started(tmp_path)


def test_no_key_is_an_error_and_no_prompt(
    tmp_path: Path, wandb: FakeWandb, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_MODE")
    with pytest.raises(ConfigError, match="WANDB_API_KEY"):
        started(tmp_path)
    assert wandb.arguments == {}
    monkeypatch.setenv("WANDB_API_KEY", "planted-secret")
    started(tmp_path)
    assert "planted-secret" not in repr(wandb.arguments)


def test_an_open_run_of_the_callers_is_left_alone(tmp_path: Path, wandb: FakeWandb) -> None:
    wandb.run = SimpleNamespace(name="mine")
    with pytest.raises(ConfigError, match=r"open.*found mine.*wandb\.finish\(\)"):
        started(tmp_path)
    assert wandb.arguments == {}


def test_neither_code_nor_output_is_sent(tmp_path: Path, wandb: FakeWandb) -> None:
    started(tmp_path)
    settings = wandb.arguments["settings"]
    assert (settings.console, settings.save_code, settings.disable_git) == ("off", False, True)


def test_rows_wait_for_the_checkpoint(tmp_path: Path, wandb: FakeWandb) -> None:
    log = started(tmp_path)
    log.add({"step": 1, "epoch": 0.5, "split": "train", "loss": 2.0, "memory_device_mib": None})
    assert wandb.runs["new"].rows == []
    log.commit()
    log.commit()
    assert wandb.runs["new"].rows == [{"step": 1, "epoch": 0.5, "train/loss": 2.0}]
    log.finish()
    assert wandb.runs["new"].finished


def test_names_by_section_and_the_confusion_matrix(tmp_path: Path, wandb: FakeWandb) -> None:
    log = started(tmp_path)
    log.add({"step": 1, "split": "val", "f1_macro": 0.5})
    log.add({"step": 1, "split": "test", "f1_macro": 0.4})
    log.add_confusion("test", np.array([[2, 1], [0, 3]]), ("no", "yes"))
    log.finish()
    matrix, *rows = wandb.runs["new"].rows
    assert rows == [{"step": 1, "eval/f1_macro": 0.5}, {"step": 1, "test/f1_macro": 0.4}]
    told = matrix["test/confusion_matrix"]
    assert told["class_names"] == ["no", "yes"]
    assert (told["y_true"], told["preds"]) == ([0, 0, 0, 1, 1, 1], [0, 0, 1, 1, 1, 1])


def test_a_failure_is_a_warning(tmp_path: Path, wandb: FakeWandb) -> None:
    warnings: list[str] = []
    log = started(tmp_path, warnings)
    wandb.runs["new"].broken = True
    for step in (1, 2):
        log.add({"step": step, "split": "train"})
        log.commit()
    assert not wandb.runs["new"].finished  # that may take long without a network
    log.finish()
    assert len(warnings) == 1
    assert "no network" in warnings[0]
    assert wandb.runs["new"].exit_code == 1


def test_a_run_that_opens_and_then_fails_is_ended(
    tmp_path: Path, wandb: FakeWandb, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(FakeRun, "define_metric")
    with pytest.raises(ConfigError, match="W&B does not start; found AttributeError"):
        started(tmp_path)
    assert wandb.exit_code == 1


@pytest.mark.parametrize(("kind", "ended"), [(KeyboardInterrupt, True), (None, False)])
def test_an_exception_ends_the_run_without_what_waits(
    tmp_path: Path, wandb: FakeWandb, kind: type[BaseException] | None, ended: bool
) -> None:
    log = started(tmp_path)
    log.add({"step": 1, "split": "train", "loss": 2.0})
    log.end_after(kind, None, None)
    run = wandb.runs["new"]
    assert (run.finished, run.exit_code) == (ended, 1 if ended else None)
    assert run.rows == []
    log.finish()
    assert run.rows == ([] if ended else [{"step": 1, "train/loss": 2.0}])


def test_a_resumed_run_goes_on_with_its_own_and_sends_each_row_once(tmp_path: Path, wandb: FakeWandb) -> None:
    run, stop = Run.at(tmp_path), StopAt()
    with pytest.raises(SystemExit):
        run.start(
            evaluate=interrupting(toy_evaluate, stop, at_call=3),
            stop_signal=stop,
            wandb_log=started(tmp_path, run_id="mine"),
        ).run()
    run_id = load_checkpoint(run.folder.checkpoint)["wandb_run_id"]
    run.start(wandb_log=started(tmp_path, run_id=run_id)).run()
    assert list(wandb.runs) == ["mine"]
    sent = wandb.runs["mine"].rows
    assert [row["step"] for row in sent if "train/loss" in row] == [2, 4, 6, 8, 10, 12]
    assert [row["step"] for row in sent if "eval/loss" in row] == [3, 6, 9, 12]

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from textclf_transformer.errors import CheckpointError, StorageError
from textclf_transformer.training.metrics_log import MetricsLog, eval_columns

COLUMNS = ("step", "split", "loss", "f1_macro")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metrics" / "metrics.csv"


def opened(path: Path, warnings: list[str] | None = None, columns: tuple[str, ...] = COLUMNS) -> MetricsLog:
    return MetricsLog(path, columns, warn=pytest.fail if warnings is None else warnings.append)


def row(step: int, loss: float = 0.1, split: str = "train") -> dict[str, Any]:
    return {"step": step, "split": split, "loss": loss}


def steps(path: Path) -> list[str]:
    header, *lines = path.read_text(encoding="utf-8").splitlines()
    assert header.startswith("step,")
    return [line.split(",")[0] for line in lines]


def test_floats_keep_their_bits_and_missing_cells_stay_empty(path: Path) -> None:
    value = 0.1 + 0.2
    with opened(path) as log:
        log.append(row(1, value))
        log.append({"step": 2, "split": "a,b", "loss": float("nan"), "f1_macro": None})
    lines = path.read_bytes().decode().split("\n")
    assert lines == ["step,split,loss,f1_macro", "1,train,0.30000000000000004,", '2,"a,b",nan,', ""]


def test_one_header_and_each_step_once_over_many_sessions(path: Path) -> None:
    with opened(path) as log:
        log.append(row(1))
        length = log.sync()
        log.append(row(2))
    for _ in range(3):
        with opened(path) as log:
            log.truncate(length)
            log.append(row(2))
            with pytest.raises(ValueError, match="step 2 already"):
                log.append(row(2))
            log.append(row(2, split="val"))
    assert path.read_text(encoding="utf-8").splitlines() == [
        "step,split,loss,f1_macro",
        "1,train,0.1,",
        "2,train,0.1,",
        "2,val,0.1,",
    ]
    with opened(path) as log:
        assert log.contains("val", 2)
        assert not log.contains("val", 1)


def test_an_unknown_column_is_an_error(path: Path) -> None:
    with opened(path) as log, pytest.raises(ValueError, match="no column"):
        log.append({**row(1), "accuracy": 1.0})


def test_a_fresh_start_empties_the_file(path: Path) -> None:
    with opened(path) as log:
        log.append(row(1))
    with opened(path) as log:
        log.truncate(0)
        log.append(row(1))
    assert len(path.read_text(encoding="utf-8").splitlines()) == 2


def test_rows_after_the_given_length_go(path: Path) -> None:
    with opened(path) as log:
        log.append(row(1))
        length = log.sync()
        for step in range(2, 6):
            log.append(row(step))
    with opened(path) as log:
        log.truncate(length)
        assert path.read_bytes() == b"step,split,loss,f1_macro\n1,train,0.1,\n"
        assert not log.contains("train", 2)


def test_a_file_that_lacks_whole_rows_goes_on_with_a_warning(path: Path) -> None:
    with opened(path) as log:
        log.append(row(1))
        kept = log.sync()
        log.append(row(2))
        length = log.sync()
    path.write_bytes(path.read_bytes()[:kept])
    warnings: list[str] = []
    with opened(path, warnings) as log:
        log.truncate(length)
    assert "rows are missing" in warnings[0]


def test_a_file_that_somebody_deleted_goes_on_with_a_warning(path: Path) -> None:
    with opened(path) as log:
        log.append(row(1))
        log.append(row(2))
        length = log.sync()
    path.write_bytes(path.read_bytes()[: length - 4])  # and half a row is cut
    warnings: list[str] = []
    with opened(path, warnings) as log:
        log.truncate(length)
        log.append(row(3))
    assert "rows are missing" in warnings[0]
    assert [line.split(",")[0] for line in path.read_text(encoding="utf-8").splitlines()] == [
        "step",
        "1",
        "3",
    ]


def test_rows_under_another_header_are_refused(path: Path) -> None:
    with opened(path, columns=("step", "split", "accuracy")) as log:
        log.append({"step": 1, "split": "train", "accuracy": 1.0})
        length = log.sync()
    before = path.read_bytes()
    with opened(path) as log, pytest.raises(CheckpointError, match="other columns"):
        log.truncate(length)
    assert path.read_bytes() == before


class FullDisk:
    """A file that takes a few bytes more and then refuses, until it is mended."""

    def __init__(self, file: Any) -> None:
        self.file, self.is_full = file, True

    def write(self, data: bytes) -> int:
        if self.is_full and len(data) <= 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        return int(self.file.write(data[:5] if self.is_full else data))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def test_a_full_disk_never_leaves_half_a_row_and_loses_none(path: Path) -> None:
    log = opened(path)
    log.append(row(1))
    before = path.read_bytes()
    disk = FullDisk(log._file)
    log._file = disk  # type: ignore[assignment]
    log.append(row(2))
    assert path.read_bytes() == before
    with pytest.raises(StorageError, match="No space left") as caught:
        log.sync()
    assert caught.value.exit_code == 6
    disk.is_full = False
    log.append(row(3))
    assert log.sync() == path.stat().st_size
    assert [line.split(",")[0] for line in path.read_text(encoding="utf-8").splitlines()[1:]] == [
        "1",
        "2",
        "3",
    ]


class ForgetfulDisk:
    """Drops what was not yet synced when a sync fails, and at the next has nothing to do, as Linux does."""

    def __init__(self, file: Any) -> None:
        self.file, self.on_disk, self.unsynced, self.fails = file, bytearray(), [], True

    def write(self, data: bytes) -> int:
        self.unsynced.append((self.file.tell(), data))
        return int(self.file.write(data))

    def fsync(self, _: int) -> None:
        if self.fails:
            self.unsynced.clear()
            raise OSError(errno.EIO, "Input/output error")
        for place, data in self.unsynced:
            self.on_disk[place : place + len(data)] = data
        self.unsynced.clear()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def test_rows_that_a_failed_sync_has_dropped_are_written_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = opened(path)
    disk = ForgetfulDisk(log._file)
    log._file = disk  # type: ignore[assignment]
    monkeypatch.setattr(os, "fsync", disk.fsync)
    log.append(row(1))
    for _ in range(2):
        with pytest.raises(StorageError, match="Input/output error"):
            log.sync()
    disk.fails = False
    log.append(row(2))
    assert log.sync() == path.stat().st_size
    log.append(row(3))
    log.sync()
    assert disk.on_disk == path.read_bytes()


def test_a_folder_in_the_way_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot write the metrics"):
        opened(tmp_path)


def test_evaluation_columns() -> None:
    columns = eval_columns(["loss", "accuracy", "f1_macro"])
    assert columns[:4] == ("step", "epoch", "split", "loss")
    assert columns.count("loss") == 1
    assert columns[-3:] == ("accuracy", "f1_macro", "elapsed_seconds")

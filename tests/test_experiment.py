"""Run folders: names, the lock, and what may be deleted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from textclf_transformer import experiment
from textclf_transformer.errors import RunInUseError, StorageError, UsageError
from textclf_transformer.experiment import RunFolder, RunLock, validate_run_name

HOLD = """
import sys, time
from pathlib import Path
from textclf_transformer.experiment import RunFolder, RunLock
with RunLock(RunFolder.at(Path(sys.argv[1]))):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder.at(tmp_path / "run")


@pytest.mark.parametrize("name", ["a", "pre_v1", "A.b-c_9", "0", "x" * 100, "console", "com10"])
def test_good_names(name: str) -> None:
    assert validate_run_name(name) == name


BAD = [
    "",
    ".",
    "..",
    "-a",
    "_a",
    ".a",
    "a.",
    "a/b",
    "a\\b",
    "../a",
    "a b",
    "ä",
    "a\n",
    "x" * 101,
    "con",
    "NUL.txt",
    "Com1",
]


@pytest.mark.parametrize("name", BAD)
def test_bad_names(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        validate_run_name(name)
    assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(UsageError):
        RunFolder.locate("pretraining", name, tmp_path)


def test_runs_lie_under_the_checkout_whatever_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    checkout = Path(__file__).resolve().parents[1]
    assert RunFolder.locate("finetuning", "a").root == checkout / "experiments" / "finetuning" / "a"
    assert RunFolder.locate("finetuning", "a", Path("out")).root == tmp_path / "out" / "a"


def test_a_symbolic_link_is_no_run_folder(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(UsageError, match="symbolic link"):
        RunFolder.locate("pretraining", "link", tmp_path)


def test_paths_inside(run: RunFolder, tmp_path: Path) -> None:
    run.root.mkdir()
    (tmp_path / "other").mkdir()
    (run.root / "link").symlink_to(tmp_path / "other")
    assert run.inside("metrics/a.csv") == run.root / "metrics" / "a.csv"
    for outside in ("../a.csv", "/a.csv", "link/a.csv"):
        with pytest.raises(UsageError, match="leads out"):
            run.inside(outside)


def test_has_checkpoint_counts_the_previous_one(run: RunFolder) -> None:
    run.root.mkdir()
    assert not run.has_checkpoint()
    run.previous_checkpoint.touch()
    assert run.has_checkpoint()


def test_clear_results_keeps_what_is_not_its_own_and_follows_no_links(run: RunFolder, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    run.train_metrics.parent.mkdir(parents=True)
    for file in (run.config, run.lock_file, run.checkpoint, run.train_metrics):
        file.touch()
    run.tokenizer_dir.symlink_to(outside)
    (run.root / ".model.ckpt.0123456789abcdef.tmp").touch()
    (run.root / "notes.md").touch()
    (run.root / "predictions").mkdir()
    assert run.clear_results() == ["notes.md", "predictions"]
    assert sorted(entry.name for entry in run.root.iterdir()) == [
        ".lock",
        "config.yaml",
        "notes.md",
        "predictions",
    ]
    assert (outside / "precious").exists()


def test_clear_results_spares_a_folder_that_is_no_run(run: RunFolder) -> None:
    run.root.mkdir()
    (run.root / "thesis.tex").touch()
    with pytest.raises(UsageError, match="not a run's"):
        run.clear_results()
    assert (run.root / "thesis.tex").exists()


def test_lock_refuses_a_second_holder_and_names_the_first(run: RunFolder) -> None:
    with RunLock(run):
        with pytest.raises(RunInUseError, match=f"process {os.getpid()} on .*, started 20"), RunLock(run):
            pass
        # The refusal must not have freed or overwritten the first lock.
        with pytest.raises(RunInUseError, match=f"process {os.getpid()}"), RunLock(run):
            pass
    with RunLock(run):
        pass


def test_lock_is_freed_by_an_error(run: RunFolder) -> None:
    with pytest.raises(ZeroDivisionError), RunLock(run):
        raise ZeroDivisionError
    with RunLock(run):
        pass


def test_lock_of_another_process_is_freed_by_kill(run: RunFolder) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(run.root)], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        with pytest.raises(RunInUseError, match=f"process {holder.pid} ") as caught, RunLock(run):
            pass
        assert caught.value.exit_code == 7
        holder.send_signal(signal.SIGKILL if os.name == "posix" else signal.SIGTERM)
        holder.wait()
    with RunLock(run):
        assert f"process {os.getpid()} " in run.lock_file.read_text(encoding="utf-8")


def test_lock_in_a_read_only_folder_is_a_storage_error(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: object, *arguments: object) -> int:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(experiment.os, "open", refuse)
    with pytest.raises(StorageError, match=r"\.lock") as caught, RunLock(run):
        pass
    assert caught.value.exit_code == 6


def test_lock_below_a_file_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError), RunLock(RunFolder.at(tmp_path / "file" / "run")):
        pass

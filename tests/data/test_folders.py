"""What a killed process left beside the folder it was making is cleaned up by the next, and nothing else."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from textclf_transformer.data import folders
from textclf_transformer.data.folders import building_folder
from textclf_transformer.errors import StorageError, UsageError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no locks on folders there")

MAKER = """
import sys, time
from pathlib import Path
from textclf_transformer.data.folders import building_folder
with building_folder(Path(sys.argv[1]), overwrite=True, is_ours=lambda folder: True) as folder:
    (folder / "half").write_text("x", encoding="utf-8")
    print("made", flush=True)
    time.sleep(60)
"""


def start(target: Path) -> subprocess.Popen[str]:
    source = Path(folders.__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", MAKER, str(target)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(source)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "made\n"
    return process


def make(target: Path) -> None:
    with building_folder(target, overwrite=True, is_ours=lambda folder: True) as folder:
        (folder / "whole").write_text("x", encoding="utf-8")


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_the_half_made_folder_of_a_killed_process_is_removed_and_a_living_ones_is_not(tmp_path: Path) -> None:
    killed, living = start(tmp_path / "out"), start(tmp_path / "out")
    try:
        assert len(names(tmp_path)) == 2
        killed.kill()
        killed.wait()
        make(tmp_path / "out")
        left = names(tmp_path)
        assert len(left) == 2
        assert left[1] == "out"
        assert (tmp_path / left[0] / "half").exists()
    finally:
        living.kill()
        living.wait()
    make(tmp_path / "out")
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == ["whole"]


def test_a_folder_that_was_moved_away_when_the_process_died_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "out")
    mark = "0123456789abcdef"
    (tmp_path / "out").rename(tmp_path / f".out.{mark}.old")
    (tmp_path / f".out.{mark}.tmp").mkdir()
    folders._clear_what_the_dead_left(tmp_path / "out")
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == ["whole"]


def test_an_old_folder_that_was_replaced_goes(tmp_path: Path) -> None:
    make(tmp_path / "out")
    (tmp_path / ".out.0123456789abcdef.old").mkdir()
    make(tmp_path / "out")
    assert names(tmp_path) == ["out"]


def failing_fsync(monkeypatch: pytest.MonkeyPatch, name: str, number: int) -> None:
    """Let fsync of the folder whose name begins with ``name`` fail with the errno ``number``."""
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").readlink().name.startswith(name):
            raise OSError(number, os.strerror(number))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)


@pytest.mark.skipif(sys.platform != "linux", reason="names of open folders come from /proc")
@pytest.mark.parametrize("failing", [".out.", "part"])
def test_a_disk_that_does_not_keep_the_folder_is_no_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    make(tmp_path / "out")
    failing_fsync(monkeypatch, failing, errno.EIO)
    with (
        pytest.raises(StorageError, match="Input/output"),
        building_folder(tmp_path / "out", overwrite=True, is_ours=lambda folder: True) as folder,
    ):
        (folder / "part").mkdir()
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == ["whole"]


@pytest.mark.skipif(sys.platform != "linux", reason="names of open folders come from /proc")
def test_a_folder_above_that_the_disk_does_not_keep_is_no_success_but_one_that_cannot_be_flushed_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing_fsync(monkeypatch, tmp_path.name, errno.EIO)
    with pytest.raises(StorageError, match="Input/output"):
        make(tmp_path / "out")
    failing_fsync(monkeypatch, tmp_path.name, errno.EINVAL)  # as some network disks say
    make(tmp_path / "out")
    assert names(tmp_path / "out") == ["whole"]


def test_files_of_others_stay(tmp_path: Path) -> None:
    others = [".out.tmp", ".out.0123.tmp", ".other.0123456789abcdef.tmp", "out.0123456789abcdef.tmp"]
    for name in others:
        (tmp_path / name).mkdir()
    make(tmp_path / "out")
    assert names(tmp_path) == sorted([*others, "out"])


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_came_there_meanwhile_stays(tmp_path: Path, overwrite: bool) -> None:
    target = tmp_path / "out"
    with (
        pytest.raises(UsageError, match=r"the folder .*out"),
        building_folder(target, overwrite=overwrite, is_ours=lambda folder: not any(folder.iterdir())),
    ):
        target.mkdir()
        (target / "thesis.doc").write_text("x", encoding="utf-8")
    assert names(tmp_path) == ["out"]
    assert names(target) == ["thesis.doc"]


def test_a_file_of_the_name_stays(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError, match="there is a file of this name"):
        make(tmp_path / "out")
    assert (tmp_path / "out").read_text(encoding="utf-8") == "mine"
    assert names(tmp_path) == ["out"]


def test_a_folder_below_a_link_to_itself_is_named(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(StorageError, match=r"loop/out; found"):
        make(tmp_path / "loop" / "out")


def test_a_full_disk_is_named_with_the_folder_and_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with (
        pytest.raises(StorageError, match=r"out; found No space left on device"),
        building_folder(target, overwrite=False, is_ours=lambda folder: True),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert not list(tmp_path.iterdir())
    with pytest.raises(FileNotFoundError), building_folder(target, overwrite=False, is_ours=lambda _: True):
        (tmp_path / "input").read_bytes()


def test_a_file_system_without_locks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(folders.fcntl, "flock", refuse)
    with pytest.raises(StorageError, match="No locks available"):
        make(tmp_path / "out")
    assert names(tmp_path) == []

"""Atomic writes: cut off anywhere, a whole file is there."""

from __future__ import annotations

import errno
import functools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import BinaryIO

import pytest
import torch

from textclf_transformer import atomic
from textclf_transformer.atomic import (
    atomic_write,
    atomic_write_json,
    atomic_write_text,
    make_folder,
    remove_stray_temporaries,
    storage_errors,
)
from textclf_transformer.errors import StorageError

# Kills itself, as a power cut would, right before the system call of the given number.
CUT_OFF = """
import os, sys
from pathlib import Path
from textclf_transformer import atomic

path, previous, last = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
calls = 0

def counted(original):
    def call(*arguments, **named):
        global calls
        calls += 1
        if calls > last:
            os._exit(9)
        return original(*arguments, **named)
    return call

for name in ("fsync", "link", "replace", "rename", "unlink"):
    setattr(os, name, counted(getattr(os, name)))
atomic.atomic_write(path, lambda stream: stream.write(b"new" * 100_000), keep_previous=previous)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.ckpt"


@pytest.fixture
def previous(tmp_path: Path) -> Path:
    return tmp_path / "model.ckpt.prev"


def test_text_and_json(path: Path) -> None:
    atomic_write_text(path, "ä\r\nb\n")
    assert path.read_bytes() == "ä\r\nb\n".encode()
    atomic_write_json(path, {"ä": [1, 2.5]})
    assert json.loads(path.read_text(encoding="utf-8")) == {"ä": [1, 2.5]}
    with pytest.raises(ValueError, match="JSON compliant"):
        atomic_write_json(path, float("nan"))
    assert "ä" in path.read_text(encoding="utf-8")
    name = os.fsdecode(b"\xff.jsonl")
    atomic_write_json(path, {"data": name})
    assert json.loads(path.read_text(encoding="utf-8")) == {"data": name}


def put(content: bytes, stream: BinaryIO) -> None:
    stream.write(content)


def test_previous_is_kept_one_step_back(path: Path, previous: Path) -> None:
    for content in (b"1", b"2", b"3"):
        atomic_write(path, functools.partial(put, content), keep_previous=previous)
    assert (path.read_bytes(), previous.read_bytes()) == (b"3", b"2")
    assert sorted(path.parent.iterdir()) == [path, previous]


def test_two_links_to_one_file_leave_nothing_behind(path: Path, previous: Path) -> None:
    """A kill between the two replacements leaves them so, and POSIX then renames nothing and says nothing."""
    path.write_bytes(b"1")
    os.link(path, previous)
    atomic_write(path, functools.partial(put, b"2"), keep_previous=previous)
    assert (path.read_bytes(), previous.read_bytes()) == (b"2", b"1")
    assert sorted(path.parent.iterdir()) == [path, previous]


def test_without_hard_links_the_previous_is_copied(
    path: Path, previous: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: object, target: object) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(atomic.os, "link", refuse)
    test_previous_is_kept_one_step_back(path, previous)


def test_a_failing_writer_changes_nothing(path: Path, previous: Path) -> None:
    atomic_write_text(path, "current")
    atomic_write_text(previous, "before")

    def fail(stream: BinaryIO) -> None:
        stream.write(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        atomic_write(path, fail, keep_previous=previous)
    assert (path.read_text(), previous.read_text()) == ("current", "before")
    assert sorted(path.parent.iterdir()) == [path, previous]


def test_a_first_write_is_whole_or_not_there(path: Path) -> None:
    seen = []

    def fail(stream: BinaryIO) -> None:
        stream.write(b"half")
        stream.flush()
        seen.append(path.exists())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        atomic_write(path, fail)
    assert seen == [False] and list(path.parent.iterdir()) == []


@pytest.mark.parametrize("last", range(12))
def test_cut_off_anywhere_whole_files_remain(path: Path, previous: Path, last: int) -> None:
    path.write_bytes(b"old")
    previous.write_bytes(b"older")
    command = [sys.executable, "-c", CUT_OFF, str(path), str(previous), str(last)]
    code = subprocess.run(command, check=False).returncode
    assert code == 9 or last >= 6, "the write has fewer steps than this test believes"
    new = b"new" * 100_000
    assert (path.read_bytes(), previous.read_bytes()) in {
        (b"old", b"older"),
        (b"old", b"old"),
        (new, b"old"),
    }
    # The next write goes through, also where both names are links to one file, and nothing is left over.
    atomic_write(path, lambda stream: stream.write(b"newest"), keep_previous=previous)
    assert path.read_bytes() == b"newest"
    assert previous.read_bytes() in {b"old", new}
    remove_stray_temporaries(path.parent)
    assert sorted(path.parent.iterdir()) == [path, previous]


def test_stray_temporaries_are_removed_and_nothing_else(path: Path) -> None:
    stray = path.with_name(".model.ckpt.0123456789abcdef.tmp")
    others = [path, path.with_name(".lock"), path.with_name("a.tmp"), path.with_name(".a.tmp")]
    for file in (stray, *others):
        file.touch()
    assert remove_stray_temporaries(path.parent) == [stray]
    assert sorted(path.parent.iterdir()) == sorted(others)


def test_a_new_folder_is_synced_in_the_one_above(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(atomic, "flush_folder", synced.append)
    make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    assert synced == [tmp_path, tmp_path / "a"]
    make_folder(tmp_path / "a" / "b")
    assert len(synced) == 2  # nothing was made


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("size", [10, 10_000_000])
def test_a_full_disk_is_a_storage_error_also_through_torch(
    path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """torch.save tells of a full disk with a RuntimeError about positions in the file."""
    atomic_write_text(path, "current")
    opened = atomic.io.FileIO
    monkeypatch.setattr(
        atomic.io, "FileIO", lambda file, mode: (opened(file, mode), opened("/dev/full", "w"))[1]
    )
    with pytest.raises(StorageError, match="No space left"):
        atomic_write(path, lambda stream: torch.save({"x": torch.zeros(size)}, stream))
    assert list(path.parent.iterdir()) == [path]
    assert path.read_text() == "current"


def test_faults_of_ours_stay_what_they_are(path: Path) -> None:
    with pytest.raises(TypeError):
        atomic_write(path, lambda stream: stream.write("text"))  # type: ignore[call-overload]


def test_a_missing_folder_is_a_storage_error(path: Path) -> None:
    with pytest.raises(StorageError, match=r"missing.*model\.ckpt") as caught:
        atomic_write_text(path.parent / "missing" / path.name, "x")
    assert caught.value.exit_code == 6


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_permissions_follow_the_umask(path: Path) -> None:
    before = os.umask(0o027)
    try:
        atomic_write_text(path, "x")
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o640


def test_what_is_no_file_is_written_to_and_not_replaced(path: Path) -> None:
    """A pipe, a device behind a link, and the name of an open stream that is a plain file's."""
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    atomic_write_text(path, "through")
    assert path.is_fifo() and os.read(reader, 100) == b"through"
    atomic_write(path, lambda stream: (os.close(reader), stream.write(b"to a reader that leaves")))

    link = path.with_name("null")
    link.symlink_to(os.devnull)
    atomic_write_text(link, "gone")
    assert link.is_symlink() and link.is_char_device()

    if Path("/proc/self/fd").is_dir():
        with path.with_name("redirected").open("w+") as stream:
            link.unlink()
            link.symlink_to(f"/proc/self/fd/{stream.fileno()}")
            atomic_write_text(link, "there")
            assert link.is_symlink() and stream.read() == "there"
    assert sorted(found.name for found in path.parent.iterdir()) == ["model.ckpt", "null", "redirected"]


@pytest.mark.parametrize(
    ("number", "mend"),
    [
        (errno.ENOSPC, "free space on the disk"),
        (errno.EROFS, "mend the permissions"),
        (errno.ENOENT, "see that the place is there"),
        (errno.EISDIR, "is of the right kind"),
    ],
)
def test_what_to_do_follows_from_the_error(path: Path, number: int, mend: str) -> None:
    with pytest.raises(StorageError, match=mend), storage_errors(path):
        raise OSError(number, os.strerror(number))

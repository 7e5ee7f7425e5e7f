"""A disk that is full at some point of a run: one clear line, nothing lost, and with more room it goes on."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torture.bench import TASKS, Bench, Ended, Result, saved_step, strays

_PAGE = 4096
_ROOM = 64 << 20
# Around a checkpoint's size and its double, triple …: a run of the bench needs about 600 kB in the end.
_LARGEST = 560_000
_LARGEST_FILE = 110_000


def fill_disks(bench: Bench, *, sizes: int) -> Result:
    """Run on disks of ``sizes`` sizes, from almost nothing to enough, and then with room.

    The disk is a tmpfs; where none can be mounted, a limit on the size of a file takes its place.
    """
    with_tmpfs = mountable(bench.root / "probe")
    result = Result(f"full disk ({'tmpfs' if with_tmpfs else 'limit on the size of a file'})")
    ends: Counter[str] = Counter()
    for number in range(sizes):
        task = TASKS[number % 2]
        size = (number + 1) * (_LARGEST if with_tmpfs else _LARGEST_FILE) // sizes // _PAGE * _PAGE
        if with_tmpfs:
            with tmpfs(bench.root / "disk", size=max(size, _PAGE)) as disk:
                folder = bench.new_run(task, output_dir=disk)
                ended = bench.train(task, folder)
                faults, end = _judge(folder, ended)
                tmpfs_resize(disk, size=_ROOM)
                faults += bench.finish_and_compare(task, folder)
        else:
            folder = bench.new_run(task)
            ended = bench.train(task, folder, file_size_limit=size)
            faults, end = _judge(folder, ended)
            faults += bench.finish_and_compare(task, folder)
        ends[end] += 1
        result.case(faults, f"{task}, {size} bytes")
    result.facts = dict(ends)
    # with a limit on files every checkpoint fits or none does
    expected = ENDS if with_tmpfs else (ENDS[0], ENDS[2])
    result.faults += [f"no size led to the end {end!r}" for end in expected if not ends[end]]
    return result


ENDS = ("exit 6 before the first checkpoint", "exit 6 with a checkpoint", "exit 0")


def _judge(folder: Path, ended: Ended) -> tuple[list[str], str]:
    """Return the faults of a run on a small disk, and how it ended."""
    faults = []
    step = None
    try:
        step = saved_step(folder)
    except Exception as error:
        faults.append(f"no checkpoint loads: {error}")
    if ended.code not in (0, 6):
        faults.append(f"exit {ended.code}: {ended.output.strip()}")
    if ended.code == 6 and not ended.output.strip().splitlines()[-1].startswith("error: "):
        faults.append(f"no line about the disk: {ended.output.strip()}")
    faults += [f"left behind: {path.name}" for path in strays(folder)]
    return faults, ENDS[2] if ended.code == 0 else ENDS[0] if step is None else ENDS[1]


@contextmanager
def tmpfs(place: Path, *, size: int) -> Iterator[Path]:
    """A file system of ``size`` bytes in memory at ``place``; needs root."""
    place.mkdir(exist_ok=True)
    mount("-t", "tmpfs", "-o", f"size={size}", "torture", place)
    try:
        yield place
    finally:
        unmount(place)


def tmpfs_resize(place: Path, *, size: int) -> None:
    mount("-o", f"remount,size={size}", place)


def mount(*arguments: Any) -> None:
    """Run ``mount`` with these arguments; CalledProcessError where it may not."""
    subprocess.run(["mount", *map(str, arguments)], check=True, capture_output=True)


def unmount(*arguments: Any) -> None:
    """Run ``umount`` with these arguments."""
    subprocess.run(["umount", *map(str, arguments)], check=True)


def mountable(place: Path) -> bool:
    """Whether file systems can be mounted here."""
    try:
        with tmpfs(place, size=_PAGE):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False

"""A disk that becomes read-only, or is gone, in the middle of a run: exit 6, one line, nothing saved is lost.

A file system that a run writes to cannot be remounted, so a read-only mount of the same files is put on top:
each file that is opened from then on is one that cannot be written, as after an error of a real disk.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random

from torture.bench import TASKS, Bench, Ended, Result, saved_step
from torture.full_disk import mount, mountable, tmpfs, unmount
from torture.hook import PHASES

_ROOM = 64 << 20
# A start without the disk cannot know of it: it finds an empty folder and begins there.
WAYS = {"read-only": PHASES, "gone": tuple(phase for phase in PHASES if phase != "start-up")}
_MAY_BE_DONE = {"shutdown"}  # after the last write


def lose_disks(bench: Bench, *, cases: int, seed: int) -> Result:
    """Take the disk away from runs at drawn places, give it back, and let them go on.

    Args:
        bench: where.
        cases: how many runs.
        seed: of the places.
    """
    result = Result("a disk that becomes read-only, or is gone")
    if not mountable(bench.root / "probe"):
        result.skipped = "nothing can be mounted here"
        return result
    landed: Counter[str] = Counter()
    ends: Counter[str] = Counter()
    for number in range(cases):
        random = Random(f"{seed}/{number}")
        way = list(WAYS)[number % len(WAYS)]
        task = TASKS[number // len(WAYS) % len(TASKS)]
        phase = WAYS[way][number // len(WAYS) % len(WAYS[way])]
        # the counts of the reference, whose folder is another, differ by a little
        moment = random.randint(1, max(bench.reference(task)[1].counts[phase] * 9 // 10, 1))
        ended, faults = _lose_disk(bench, task, way=way, phase=phase, moment=moment)
        if ended.struck:
            landed[f"{way} in {ended.struck[0]['phase']}"] += 1
        ends[f"exit {ended.code}"] += 1
        result.case(faults, f"seed {seed}, case {number}, {task}, {way} at {moment} of {phase}")
    result.facts = {**ends, "places": len(landed)}
    expected = [f"{way} in {phase}" for way, phases in WAYS.items() for phase in phases]
    if cases >= 2 * len(PHASES):
        result.faults += [f"the disk was never {place}" for place in expected if not landed[place]]
    return result


def _lose_disk(bench: Bench, task: str, *, way: str, phase: str, moment: int) -> tuple[Ended, list[str]]:
    """Let one run lose its disk; return how it ended, and what was wrong then and later."""
    with _losable(bench.root, way=way) as (disk, lose, give_back):
        folder = bench.new_run(task, output_dir=disk)
        saved: list[int | None] = []

        def strike(pid: int) -> None:
            saved.append(saved_step(folder))
            lose()
            os.kill(pid, signal.SIGCONT)

        hook = {"phase": phase, "moment": moment, "action": "stop"}
        ended = bench.train(task, folder, hook=hook, when_stopped=strike)
        give_back()
        faults = _faults(folder, ended, phase=phase, saved=saved)
        return ended, faults + bench.finish_and_compare(task, folder)


def _faults(folder: Path, ended: Ended, *, phase: str, saved: list[int | None]) -> list[str]:
    """Return what is wrong with the end of a run whose disk was taken away, after it was given back."""
    if not saved:
        return [f"the disk was not taken away: exit {ended.code}: {ended.output.strip()}"]
    faults = []
    if ended.code != 6 and not (ended.code == 0 and phase in _MAY_BE_DONE):
        faults.append(f"exit {ended.code}: {ended.output.strip()}")
    if ended.code == 6 and not ended.output.strip().splitlines()[-1].startswith("error: "):
        faults.append(f"no line about the disk: {ended.output.strip()}")
    try:
        step = saved_step(folder)
    except Exception as error:
        return [*faults, f"no checkpoint loads: {error}"]
    if saved[0] is not None and (step is None or step < saved[0]):
        faults.append(f"step {saved[0]} was saved, but step {step} is there")
    return faults


@contextmanager
def _losable(root: Path, *, way: str) -> Iterator[tuple[Path, Callable[[], None], Callable[[], None]]]:
    """A file system with a second mount that keeps it; yields it, what takes it away, what gives it back."""
    kept = root / "kept"
    kept.mkdir(exist_ok=True)
    with ExitStack() as mounts:
        disk = mounts.enter_context(tmpfs(root / "losable", size=_ROOM))
        mount("--bind", disk, kept)
        mounts.callback(unmount, kept)
        over = ExitStack()
        mounts.push(over)

        def lose() -> None:
            if way == "gone":
                unmount("--lazy", disk)
                over.callback(mount, "--bind", kept, disk)
            else:
                mount("--bind", kept, disk)
                over.callback(unmount, disk)
                mount("-o", "remount,bind,ro", disk)

        yield disk, lose, over.close

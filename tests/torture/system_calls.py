"""Each system call of a save fails or is the last one: the run goes on, or can be gone on with."""

from __future__ import annotations

import re
from collections import Counter
from random import Random

from torture.bench import Bench, Result, saved_step
from torture.hook import END_OF_PHASE
from torture.tracing import run_traced, why_not

# occurrence of the phase "save" → what it is in the runs of the bench
SAVES = {1: "the first save", 2: "a save of the best weights", 3: "a save that replaces another"}
FAULTS = ("kill", "ENOSPC", "EIO")

# They name no file and have no disk to fail; a kill can strike there all the same.
_WITHOUT_A_DISK = {"getrandom", "mmap", "munmap", "madvise", "brk", "futex", "mprotect", "mremap", "getpid"}
_CALL = re.compile(r"(\w+)\((.*)")


def break_system_calls(bench: Bench, *, saves: tuple[int, ...], sample: int | None, seed: int) -> Result:
    """Strike each system call of some saves with each fault, once each.

    Args:
        bench: where.
        saves: keys of ``SAVES``.
        sample: how many of the cases to take, drawn by ``seed``; None: all.
        seed: see ``sample``.
    """
    result = Result("kill, ENOSPC, EIO at each system call of a save")
    if (reason := why_not()) is not None:
        result.skipped = reason
        return result
    calls = {save: _record(bench, save) for save in saves}
    cases = [
        (save, name, number, fault)
        for save in saves
        for name, number in calls[save]
        for fault in FAULTS
        if fault == "kill" or name not in _WITHOUT_A_DISK
    ]
    if sample is not None:
        cases = Random(seed).sample(cases, sample)
    fired: Counter[str] = Counter()
    for save, name, number, fault in cases:
        faults = _strike(bench, save, name, number, fault)
        fired[fault] += not any("did not fire" in line for line in faults)
        result.case(faults, f"{fault} at {name} number {number} of {SAVES[save]}")
    result.facts = {f"system calls of {SAVES[save]}": len(calls[save]) for save in saves}
    result.facts |= {f"fired: {fault}": fired[fault] for fault in FAULTS}
    return result


def _record(bench: Bench, save: int) -> list[tuple[str, int]]:
    """Return the system calls of a save: each one's name, and the how-manieth of that name it is."""
    folder, record = bench.new_run("pretrain"), bench.root / "strace.txt"
    ended = run_traced(
        bench, "pretrain", folder, [], hook={"phase": "save", "occurrence": save}, record=record
    )
    assert ended.code == 0, ended.output
    calls: list[tuple[str, int]] = []
    seen: Counter[str] = Counter()
    for line in record.read_text(errors="replace").splitlines():
        if (match := _CALL.match(line)) is None:
            continue  # a line about a signal
        if END_OF_PHASE in line:
            return calls
        seen[match[1]] += 1
        calls.append((match[1], seen[match[1]]))
    raise AssertionError("the record does not show the end of the save")


def _strike(bench: Bench, save: int, name: str, number: int, fault: str) -> list[str]:
    folder, record = bench.new_run("pretrain"), bench.root / "strace.txt"
    what = "signal=KILL" if fault == "kill" else f"error={fault}"
    options = ["-e", f"trace={name}", "-e", f"inject={name}:{what}:when={number}"]
    ended = run_traced(
        bench, "pretrain", folder, options, hook={"phase": "save", "occurrence": save}, record=record
    )
    text = record.read_text(errors="replace")
    if not ("killed by SIGKILL" in text if fault == "kill" else "(INJECTED)" in text):
        return [f"the injection did not fire: exit {ended.code}"]
    faults = []
    # the runs of the bench save at steps 3, 6, …; the best is saved at step 4
    steps = {1: (None, 3), 2: (3,), 3: (3, 6)}[save]
    if fault == "kill":
        if ended.code != -9:
            faults.append(f"exit {ended.code} after a kill")
        try:
            if (step := saved_step(folder)) not in steps:
                faults.append(f"step {step} loads, not one of {steps}")
        except Exception as error:
            faults.append(f"neither the old nor the new checkpoint loads: {error}")
    elif ended.code not in ((0, 6) if save == 1 else (0,)):  # nothing older that the run could rely on
        faults.append(f"exit {ended.code}: {ended.output.strip()}")
    elif ended.code == 6 and not ended.output.strip().splitlines()[-1].startswith("error: "):
        faults.append(f"no line about the fault: {ended.output.strip()}")
    return faults + bench.finish_and_compare("pretrain", folder)

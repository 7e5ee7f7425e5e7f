"""The power fails after any system call of a run: it goes on from what is left, and no saved step is lost."""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path
from random import Random
from typing import Any

from torture.bench import Bench, Result
from torture.disk_model import OPTIONS, Disk
from torture.hook import SAVED
from torture.tracing import run_traced, why_not

from textclf_transformer.errors import CheckpointError
from textclf_transformer.training.checkpoint import load_latest

_ENOUGH = 50


def cut_power(bench: Bench, task: str, *, resumed: int, seed: int) -> Result:
    """Record a run's system calls, and look at every state in which a power cut could leave the disk.

    A case is a state that differs from all others in its files or in what was promised when the power failed:
    ``Checkpointer.save`` had returned for a step, so that step, or a later one, must load.

    Args:
        bench: where.
        task: ``pretrain`` or ``finetune``.
        resumed: how many of the states to take a run on from, to its end.
        seed: of the states, where not all are looked at, and of those gone on from.
    """
    result = Result(f"power loss: unsynced writes dropped, names before data, {task}")
    if (reason := why_not()) is not None:
        result.skipped = reason
        return result
    folder, record = bench.new_run(task), bench.root / "strace.txt"
    disk = Disk(folder)
    ended = run_traced(bench, task, folder, OPTIONS, hook={"phase": "start-up"}, record=record)
    assert ended.code == 0, ended.output
    lines = record.read_text().splitlines()
    examiner = _Examiner(folder, bench.root / "examined")
    random = Random(seed)
    seen: set[bytes] = set()
    kept: list[dict[str, bytes]] = []
    moments = 0
    for number, line in enumerate(lines):
        if SAVED.encode().hex("\\").replace("\\", "\\x") in line:
            examiner.promise(disk)
        if not disk.apply(line):
            continue
        if len(result.faults) > _ENOUGH:
            return result  # bad states breed bad states; there is no need to see them all
        moments += 1
        for state in disk.states(random):
            identity = _identity(state, examiner.promised)
            if identity in seen:
                continue
            seen.add(identity)
            result.case(examiner.faults(state), f"seed {seed}, power cut after call {number}: {line[:80]}")
            if random.random() < resumed / len(seen):  # each state as likely as any other
                kept = [*kept, state][-resumed:]
    agreed = all(disk.content(str(path)) == path.read_bytes() for path in folder.rglob("*") if path.is_file())
    if not agreed:
        result.faults.append("the model of the disk does not hold what the disk holds")
    result.facts = {"moments": moments, "fsync calls": disk.fsyncs, "saves": examiner.promises}
    result.facts["distinct states"] = result.cases
    _go_on(bench, task, folder, kept, result)
    return result


def _go_on(bench: Bench, task: str, folder: Path, states: list[dict[str, bytes]], result: Result) -> None:
    """Let runs begin from some of the states, as after the reboot."""
    same = 0
    for state in states:
        run = bench.new_run(task)
        for path, content in state.items():
            if (name := Path(path).relative_to(folder)).name != "config.yaml":
                (run / name).parent.mkdir(parents=True, exist_ok=True)
                (run / name).write_bytes(content)
        faults = bench.finish_and_compare(task, run)
        same += not faults
        result.faults += [f"after a reboot: {fault}" for fault in faults]
    result.facts["run on to the same bits"] = f"{same} of {len(states)}"


def _identity(state: dict[str, bytes], promised: int | None) -> bytes:
    digest = blake2b(repr(promised).encode())
    for path in sorted(state):
        digest.update(path.encode() + blake2b(state[path]).digest())
    return digest.digest()


class _Examiner:
    """Judges states; checkpoints that were seen before are not read again."""

    def __init__(self, folder: Path, scratch: Path) -> None:
        self.folder = folder
        self.promised: int | None = None
        self.promises = 0
        self._scratch = scratch
        self._known: dict[tuple[bytes | None, ...], Any] = {}
        self._final = {split: self._metrics(split).read_bytes() for split in ("train", "eval")}

    def _metrics(self, split: str) -> Path:
        return self.folder / "metrics" / split / "metrics.csv"

    def promise(self, disk: Disk) -> None:
        """Note that a save has returned: what it has saved must never be lost any more."""
        content = disk.content(str(self.folder / "model.ckpt"))
        self.promised = self._read(content, None)["loop"]["step"]
        self.promises += 1

    def _read(self, last: bytes | None, previous: bytes | None) -> Any:
        """Return the state that would be gone on from, None for no file, or the error."""
        key = tuple(None if part is None else blake2b(part).digest() for part in (last, previous))
        if key not in self._known:
            self._scratch.mkdir(exist_ok=True)
            paths = [self._scratch / "model.ckpt", self._scratch / "model.ckpt.prev"]
            for path, content in zip(paths, (last, previous), strict=True):
                path.unlink(missing_ok=True)
                if content is not None:
                    path.write_bytes(content)
            try:
                found = load_latest(*paths, warn=lambda _: None)
                self._known[key] = None if found is None else found[0]
            except CheckpointError as error:
                self._known[key] = error
        return self._known[key]

    def faults(self, state: dict[str, bytes]) -> list[str]:
        """Return what is wrong with a state of the disk."""
        files = {str(Path(path).relative_to(self.folder)): content for path, content in state.items()}
        saved = self._read(files.get("model.ckpt"), files.get("model.ckpt.prev"))
        if isinstance(saved, CheckpointError):
            return [f"no checkpoint loads: {saved}"]
        if saved is None:
            return [] if self.promised is None else [f"step {self.promised} was saved, nothing is there"]
        faults = []
        loop = saved["loop"]
        if self.promised is not None and loop["step"] < self.promised:
            faults.append(f"step {self.promised} was saved, but step {loop['step']} is there")
        for split, length in saved["metrics"].items():
            if files.get(f"metrics/{split}/metrics.csv", b"")[:length] != self._final[split][:length]:
                faults.append(f"the {split} metrics lack rows that the checkpoint relies on")
        if loop["best_step"] is not None:
            best = self._read(files.get("best.ckpt"), None)
            if not isinstance(best, dict) or best["step"] < loop["best_step"]:
                faults.append("the best weights that the checkpoint names are not there")
        return faults

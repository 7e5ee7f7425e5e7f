"""Faults put into a private copy of the package on purpose; a suite that misses one is worth little."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torture.bench import Bench, Result
from torture.kills import kill_runs
from torture.power_loss import cut_power
from torture.stops import stop_runs
from torture.tracing import why_not

Check = Callable[[Bench], Result]


@dataclass(frozen=True)
class Sabotage:
    """A fault.

    Attributes:
        name: what is wrong.
        edits: file below the package, text that stands there once, what takes its place.
        check: the row of the suite that should see it.
        strace: whether that row needs strace.
    """

    name: str
    edits: tuple[tuple[str, str, str], ...]
    check: Check
    strace: bool = False

    def apply(self, package: Path) -> None:
        """Edit the copy at ``package``."""
        for file, old, new in self.edits:
            path = package / file
            text = path.read_text(encoding="utf-8")
            if text.count(old) != 1:
                raise AssertionError(f"{self.name}: {file} has {text.count(old)} places like {old!r}, not 1")
            path.write_text(text.replace(old, new), encoding="utf-8")


def _pretraining_kills(bench: Bench) -> Result:
    return kill_runs(bench, "pretrain", runs=3, seed=2)


def _finetuning_kills(bench: Bench) -> Result:
    return kill_runs(bench, "finetune", runs=3, seed=2)


def _float16_kills(bench: Bench) -> Result:
    return kill_runs(bench, "pretrain", runs=2, seed=2, float16=True)


_power = partial(cut_power, task="pretrain", resumed=0, seed=2)
_stops = partial(stop_runs, cases=40, seed=2)  # a stop just after a save shows nothing

ATOMIC, LOOP, METRICS = "atomic.py", "training/loop.py", "training/metrics_log.py"
SESSION, RESUMING = "commands/training_session.py", "commands/resuming.py"
SABOTAGES = (
    Sabotage(
        "a checkpoint is not synced",
        ((ATOMIC, "        os.fsync(raw.fileno())\n", ""),),
        _power,
        strace=True,
    ),
    Sabotage(
        "the folder is not synced after a rename",
        (
            (
                ATOMIC,
                "        flush_folder(path.parent)\n\n\ndef atomic_write_text",
                "\n\ndef atomic_write_text",
            ),
        ),
        _power,
        strace=True,
    ),
    Sabotage(
        "a checkpoint is written in its place, without a rename",
        (
            (
                ATOMIC,
                "    temporary = _temporary_beside(path)\n    with storage",
                "    temporary = path\n    with storage",
            ),
            (ATOMIC, 'io.FileIO(temporary, "x")', 'io.FileIO(temporary, "w")'),
            (
                ATOMIC,
                "                temporary.unlink(missing_ok=True)\n        flush",
                "                pass\n        flush",
            ),
        ),
        _power,
        strace=True,
    ),
    Sabotage(
        "the metrics are not synced before the checkpoint that counts on them",
        ((METRICS, "            os.fsync(self._file.fileno())\n", "            pass\n"),),
        _power,
        strace=True,
    ),
    Sabotage(
        "dropout draws from one stream, which a resume begins anew",
        (
            (
                "training/step.py",
                '        torch.manual_seed(derive_seed("dropout", seed, step, number))\n',
                "",
            ),
        ),
        _pretraining_kills,
    ),
    Sabotage(
        "the sampler is off by one after a resume",
        (
            (
                "training/step_feed.py",
                "prefetch(self._prepare(position))",
                "prefetch(self._prepare(position + (position > 0)))",
            ),
        ),
        _finetuning_kills,
    ),
    Sabotage(
        "the gradient scaler begins anew",
        ((LOOP, '            self.scaler.load_state_dict(saved["scaler"])\n', "            pass\n"),),
        _float16_kills,
    ),
    Sabotage(
        "the metrics are not cut on a resume",
        (("training/run_log.py", '        self._train_log.truncate(self._lengths["train"])\n', ""),),
        _pretraining_kills,
    ),
    Sabotage(
        "the evaluation draws from a stream that depends on how often it was run",
        (
            (
                "data/batches.py",
                "generator=generator.manual_seed(derive_seed(*mask_stream, int(sample)))",
                "generator=generator.manual_seed(random.getrandbits(40) if len(mask_stream) == 1"
                " else derive_seed(*mask_stream, int(sample)))",
            ),
            ("data/batches.py", "import numpy as np\n", "import random\n\nimport numpy as np\n"),
        ),
        _pretraining_kills,
    ),
    Sabotage(
        "the best value so far is forgotten",
        (
            (
                LOOP,
                "        self.state = state\n",
                "        self.state = state\n        state.best_metric = None\n",
            ),
        ),
        _finetuning_kills,
    ),
    Sabotage(
        "the optimizer begins anew",
        ((LOOP, "        load_optimizer_state(self.optimizer, known, source=source)\n", ""),),
        _pretraining_kills,
    ),
    Sabotage(
        "a resume begins anew, without a word",
        ((RESUMING, "    saved = checkpointer.load()\n", "    saved = None\n"),),
        _pretraining_kills,
    ),
    Sabotage(
        "a signal leaves without saving",
        (
            (
                LOOP,
                "            self._save(required=True)\n            raise SystemExit(stop)",
                "            raise SystemExit(stop)",
            ),
        ),
        _stops,
    ),
    Sabotage(
        "what a killed save left is not cleared away",
        (
            (
                "commands/training_run.py",
                "            remove_stray_temporaries(folder)\n",
                "            pass\n",
            ),
        ),
        _pretraining_kills,
    ),
    Sabotage(
        "a signal is not heard",
        (("training/signals.py", "        self.requested = code\n", ""),),
        _stops,
    ),
)


def catch_sabotage(bench: Bench, sabotages: Iterable[Sabotage] = SABOTAGES) -> Result:
    """Let the rows of the suite loose on copies with a fault each; a case passes if a case of its row fails.

    Args:
        bench: lends its data to the copies.
        sabotages: which.
    """
    result = Result("sabotage: faults in our own code, caught")
    for number, sabotage in enumerate(sabotages):
        if sabotage.strace and (reason := why_not()) is not None:
            result.skipped = reason
            continue
        with Bench(bench.root.parent / f"sabotage{number}", change=sabotage.apply, like=bench) as copy:
            shown = sabotage.check(copy)
        missed = shown.passed == shown.cases
        result.case([f"not seen by: {shown.title}"] if missed else [], sabotage.name)
        result.facts[sabotage.name] = f"{shown.cases - shown.passed} of {shown.cases} cases"
    return result


def pass_without_sabotage(bench: Bench, sabotages: Iterable[Sabotage] = SABOTAGES) -> Result:
    """Let the same rows loose on a copy without a fault: where one fails there, it catches nothing elsewhere.

    Args:
        bench: lends its data to the copy.
        sabotages: whose rows.
    """
    result = Result("sabotage, the control: the same cases on a copy without a fault")
    checks = {sabotage.check: sabotage for sabotage in sabotages}
    with Bench(bench.root.parent / "control", like=bench) as copy:
        for check, sabotage in checks.items():
            if sabotage.strace and (reason := why_not()) is not None:
                result.skipped = reason
                continue
            shown = check(copy)
            result.cases += shown.cases
            result.passed += shown.passed
            result.faults += shown.faults
    return result

"""A private copy of the project with a small corpus, whose runs are tormented, and how they are compared."""

from __future__ import annotations

import csv
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from end_to_end.conftest import write_corpus
from training.toys import is_reproducible, same_bits

from textclf_transformer.atomic import TEMPORARY
from textclf_transformer.experiment import RunFolder
from textclf_transformer.training.checkpoint import load_checkpoint, load_latest

REPOSITORY = Path(__file__).resolve().parents[2]
TASKS = ("pretrain", "finetune")
KINDS = {"pretrain": "pretraining", "finetune": "finetuning"}

SAVE_EVERY = 3  # steps

# Runs of 20 to 30 steps with several micro-batches each, in which everything happens: dropout, accumulation,
# the end of an epoch, saves and evaluations that do not fall together, a last evaluation on test.
_COMMON = {
    "training.batch_size": 8,
    "training.learning_rate": 3e-3,
    "training.tokens_per_micro_batch": 96,
    "training.save_every": SAVE_EVERY,
    "logging.eval_every": 4,
    "logging.log_every": 2,
}
_PRETRAINING = {
    "architecture.max_sequence_length": 24,
    "architecture.embedding_dim": 16,
    "architecture.num_layers": 1,
    "architecture.ffn_dim": 32,
    "architecture.attention.num_heads": 2,
    "training.epochs": 2,
}
_FINETUNING = {
    "training.epochs": 4,
    "training.tokens_per_micro_batch": 192,
    "training.freeze": "[{from_epoch: 0, train: head}, {from_epoch: 1, train: all}]",
}

PATIENCE = 300.0  # seconds that a process of less than a second may take on a busy machine


@dataclass
class Result:
    """What one row of the suite has shown.

    Attributes:
        title: what was done.
        passed: cases that ended as they should.
        cases: cases.
        facts: what else is worth printing, name → figure.
        skipped: why nothing was done; None: it was.
        faults: what went wrong, a line each, with what reproduces it; also what was not put to the test.
    """

    title: str
    passed: int = 0
    cases: int = 0
    facts: dict[str, object] = field(default_factory=dict)
    skipped: str | None = None
    faults: list[str] = field(default_factory=list)

    def case(self, faults: list[str], label: str) -> None:
        self.cases += 1
        self.passed += not faults
        self.faults += [f"{label}: {fault}" for fault in faults]


@dataclass
class Ended:
    """A process that has ended.

    Attributes:
        code: its exit code; negative: the signal that killed it.
        output: what it wrote to stdout and stderr.
        struck: where the hook acted, one entry for each time.
        counts: events by phase, of a process that was only counted.
        threads: of the process when it came to its end, torch's among them; of one that was only counted.
    """

    code: int
    output: str
    struck: list[dict[str, Any]]
    counts: dict[str, int]
    threads: int = 0

    @property
    def shell_code(self) -> int:
        """The exit code as a shell shows it: 128 + number for a process that a signal has killed."""
        return self.code if self.code >= 0 else 128 - self.code


class Bench:
    """The copy, its server and its runs; ``with Bench(folder) as bench``.

    Args:
        root: a folder to make, which then holds the copy.
        change: edits the copy's source before anything is imported from it (sabotage).
        like: take the data, and the source if nothing else is said, from another bench.
    """

    def __init__(
        self, root: Path, *, change: Callable[[Path], None] | None = None, like: Bench | None = None
    ) -> None:
        self.root = root
        self._references: dict[str, tuple[dict[str, Any], Ended]] = {}
        self._made = 0
        for name in ("src", "experiments", "config_templates"):
            shutil.copytree(
                REPOSITORY / name,
                root / name,
                ignore=shutil.ignore_patterns("pretraining", "finetuning", "*.egg-info"),
            )
        for name in ("pretrain.py", "finetune.py"):
            shutil.copy2(REPOSITORY / name, root / name)
        if change is not None:
            change(root / "src" / "textclf_transformer")
        if like is not None:
            for name in ("corpus.jsonl", "tokenizer", "store"):
                source = like.root / name
                (shutil.copytree if source.is_dir() else shutil.copy2)(source, root / name)
        self._start_server()
        if like is None:
            self._make_data()
        self._make_experiments()

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._server.stdin is not None and self._server.stdout is not None
        self._server.stdin.close()
        self._server.wait(timeout=PATIENCE)
        self._server.stdout.close()

    @property
    def environment(self) -> dict[str, str]:
        """What makes a process import the copy, and nothing else of this project."""
        path = os.pathsep.join(map(str, (self.root / "src", self.root, REPOSITORY / "tests")))
        return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}

    def _start_server(self) -> None:
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            # as a background job of a script, which would have the runs ignore their Ctrl-C as well
            signal.signal(signal.SIGINT, signal.default_int_handler)
        program = str(REPOSITORY / "tests" / "torture" / "server.py")
        self._server = subprocess.Popen(
            [sys.executable, program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=self.root,
            env=self.environment,
            bufsize=0,
        )
        self._answers = b""
        self._answer()

    def _answer(self) -> dict[str, Any]:
        """Return the server's next line."""
        assert self._server.stdout is not None
        deadline = time.monotonic() + PATIENCE
        while b"\n" not in self._answers:
            ready, _, _ = select.select([self._server.stdout], [], [], max(deadline - time.monotonic(), 0))
            data = os.read(self._server.stdout.fileno(), 65536) if ready else b""
            if not data:
                raise TimeoutError(f"no answer from the server of {self.root}")
            self._answers += data
        line, self._answers = self._answers.split(b"\n", 1)
        return dict(json.loads(line))

    def run(
        self,
        module: str,
        *arguments: object,
        hook: dict[str, Any] | None = None,
        when_stopped: Callable[[int], None] | None = None,
        **more: object,
    ) -> Ended:
        """Run ``module.main(arguments)`` in a process of its own to its end.

        Args:
            module: one of the server's.
            arguments: the command line.
            hook: arguments of ``Hook`` besides ``record``.
            when_stopped: is called with the process id when the process has halted; must make it go on.
            more: ``float16``, ``file_size_limit``.
        """
        assert self._server.stdin is not None
        output, record = self.root / "output.txt", self.root / "record.jsonl"
        output.unlink(missing_ok=True)
        record.unlink(missing_ok=True)
        request = {
            "module": module,
            "arguments": [str(argument) for argument in arguments],
            "output": str(output),
            "hook": None if hook is None else {**hook, "record": str(record)},
            **more,
        }
        self._server.stdin.write(json.dumps(request).encode() + b"\n")
        pid = self._answer()["pid"]
        try:
            while "code" not in (answer := self._answer()):
                if when_stopped is None:
                    raise AssertionError("the process halted")
                when_stopped(pid)
        except BaseException:
            os.kill(pid, signal.SIGKILL)
            raise
        lines = [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []
        last = next((line for line in lines if "counts" in line), {})
        return Ended(
            code=answer["code"],
            output=output.read_text(errors="replace"),
            struck=[line for line in lines if "action" in line],
            counts=last.get("counts", {}),
            threads=last.get("threads", 0),
        )

    def do(self, module: str, *arguments: object) -> None:
        """Run a command that must succeed."""
        ended = self.run(module, *arguments)
        assert ended.code == 0, ended.output

    def _make_data(self) -> None:
        corpus, tokenizer = self.root / "corpus.jsonl", self.root / "tokenizer"
        write_corpus(corpus, documents=45, seed=1)
        self.do(
            "textclf_transformer.commands.train_tokenizer", corpus, "--out", tokenizer, "--vocab-size", 120
        )
        split = ("--tokenizer", tokenizer, "--split", "0.7/0.15/0.15", "--seed", 1)
        self.do("textclf_transformer.commands.prepare", corpus, "--out", self.root / "store", *split)

    def _make_experiments(self) -> None:
        """Stamp out one experiment of each task as a pattern for all runs, and pretrain what is finetuned."""
        data = {
            f"data.{split}.dataset_path": self.root / "store" / split for split in ("train", "val", "test")
        }
        values = {"tokenizer.vocab_dir": self.root / "tokenizer", **data, **_COMMON, **_PRETRAINING}
        self.do("experiments.generate_pretraining_experiment", "pattern", *set_options(values))
        folder = self.new_run("pretrain")
        self.do("pretrain", folder.name, "--quiet")
        self.do(
            "experiments.generate_finetuning_experiment",
            "pattern",
            folder.name,
            *set_options({**data, **_COMMON, **_FINETUNING}),
        )

    def new_run(self, task: str, *, output_dir: Path | None = None) -> Path:
        """Return the folder of a new run of ``task``, which has a config and writes to ``output_dir``."""
        self._made += 1
        runs = self.root / "experiments" / KINDS[task]
        folder = runs / f"run{self._made}"
        folder.mkdir()
        pattern = (runs / "pattern" / "config.yaml").read_text()
        assert pattern.count("name: pattern\n") == 1
        config = pattern.replace("name: pattern\n", f"name: {folder.name}\n")
        if output_dir is not None:
            assert config.count("output_dir: null\n") == 1
            config = config.replace("output_dir: null\n", f"output_dir: {output_dir}\n")
        (folder / "config.yaml").write_text(config)
        return folder if output_dir is None else output_dir / folder.name

    def train(
        self, task: str, folder: Path, *, settings: Mapping[str, Any] | None = None, **more: Any
    ) -> Ended:
        """Start, or go on with, a run; ``settings`` are config keys that it has otherwise."""
        return self.run(task, folder.name, "--quiet", *set_options(settings or {}), **more)

    def reference(self, task: str, **more: Any) -> tuple[dict[str, Any], Ended]:
        """Return the outcome of a run that nobody disturbs, and how its process was; made once."""
        key = f"{task} {more}"
        if key not in self._references:
            folder = self.new_run(task)
            ended = self.train(task, folder, hook={}, **more)
            assert ended.code == 0, ended.output
            self._references[key] = outcome(folder), ended
        return self._references[key]

    def finish_and_compare(self, task: str, folder: Path, **more: Any) -> list[str]:
        """Let the run go on to its end; return how it differs from one that nobody disturbed."""
        expected, _ = self.reference(task, **more)
        ended = self.train(task, folder, **more)
        if ended.code != 0:
            return [f"could not go on: exit {ended.code}: {ended.output.strip()}"]
        try:
            faults = differences(expected, outcome(folder))
        except Exception as fault:
            return [f"what the run left cannot be read: {type(fault).__name__}: {fault}"]
        faults += [f"left behind: {path.name}" for path in strays(folder)]
        if not faults:
            shutil.rmtree(folder)  # a faulty one is kept to be looked at
        return faults


def set_options(values: Mapping[str, Any]) -> list[str]:
    """Return the `--set` options of a generator."""
    return [part for key, value in values.items() for part in ("--set", f"{key}={value}")]


def seconds_computed(pid: int) -> float:
    """Return the processor time of a process; the clock of a busy machine says little."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def outcome(folder: Path) -> dict[str, Any]:
    """Return all of a finished run that must repeat itself to the bit."""
    last, best = load_checkpoint(folder / "model.ckpt"), load_checkpoint(folder / "best.ckpt")
    result: dict[str, Any] = {name: last[name] for name in ("model", "optimizer", "scaler", "loop")}
    result |= {f"best {name}": best[name] for name in ("model", "step")}
    for split in ("train", "eval"):
        path = folder / "metrics" / split / "metrics.csv"
        with path.open(encoding="utf-8", newline="") as stream:
            result[f"{split} metrics.csv"] = [
                {key: value for key, value in row.items() if is_reproducible(key)}
                for row in csv.DictReader(stream)
            ]
    report = json.loads((folder / "run.json").read_text())
    return result | {"results": {key: report[key] for key in ("status", "step", "best", "test")}}


def differences(expected: dict[str, Any], actual: dict[str, Any]) -> list[str]:
    """Return what of two outcomes is not the same to the bit."""
    return [f"another {key}" for key in expected if not same_bits(expected[key], actual.get(key))]


def strays(folder: Path) -> list[Path]:
    """Return the temporaries that lie in a run folder, below it too."""
    return [path for path in folder.rglob("*") if TEMPORARY.fullmatch(path.name)]


def saved_loop(folder: Path) -> dict[str, Any] | None:
    """Return the place that a resume would go on from, None without a checkpoint; raises if none loads."""
    run = RunFolder.at(folder)
    found = load_latest(run.checkpoint, run.previous_checkpoint, warn=lambda _: None)
    return None if found is None else dict(found[0]["loop"])


def saved_step(folder: Path) -> int | None:
    """Return the step of ``saved_loop``."""
    loop = saved_loop(folder)
    return None if loop is None else int(loop["step"])

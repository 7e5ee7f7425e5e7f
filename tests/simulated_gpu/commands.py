"""The commands on the simulated GPU, from a store to a report, and what ``make bench-gpu`` measures."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import torch
from end_to_end.conftest import Checkout, write_corpus
from simulated_gpu.simulation import SimulatedGpu

import benchmarks.harness
import finetune
import pretrain
from benchmarks.document_work import DocumentWork
from benchmarks.long_documents import measure_documents
from benchmarks.mlm import MlmWork, measure_mlm
from benchmarks.peers import training_peers
from benchmarks.rows import STRONG, some
from benchmarks.workloads import Shape
from textclf_transformer import experiment
from textclf_transformer.commands import evaluate, predict, prepare, report, train_tokenizer

ON_GPU = ("--set", "training.device=cuda")
PHASES = "[{from_epoch: 0, train: head}, {from_epoch: 1, train: top_k, k: 1}, {from_epoch: 2, train: all}]"
TINY = Shape(2, 64, 2, 128, 300, length=64)


def _run(gpu: SimulatedGpu, main: Callable[[list[str]], int], *arguments: object) -> None:
    with gpu:
        code = main([str(argument) for argument in arguments])
    assert code == 0, f"exit code {code}"


def _enter(folder: Path) -> Checkout:
    experiment.CHECKOUT = folder
    os.chdir(folder)
    return Checkout(folder)


def _prepare(folder: Path, gpu: SimulatedGpu) -> None:
    here = _enter(folder)
    corpus, tokenizer = folder / "corpus.jsonl", folder / "tokenizer"
    write_corpus(corpus, documents=45, seed=1)
    here.run(train_tokenizer.main, corpus, "--out", tokenizer, "--vocab-size", 200)
    split = ["--split", "0.7/0.15/0.15", "--seed", 1]
    here.run(prepare.main, corpus, "--out", folder / "store", "--tokenizer", tokenizer, *split)


def _pretrain(folder: Path, gpu: SimulatedGpu) -> None:
    _enter(folder).pretraining(
        "pre", *ON_GPU, "--set", "training.epochs=1", "--set", "training.batch_size=40"
    )
    _run(gpu, pretrain.main, "pre", "--quiet")


def _resume(folder: Path, gpu: SimulatedGpu) -> None:
    _enter(folder)
    more = ("--set", "training.epochs=2", "--allow-changed", "training.epochs")
    _run(gpu, pretrain.main, "pre", "--quiet", *more)


def _finetune(folder: Path, gpu: SimulatedGpu) -> None:
    phases = ("--set", f"training.freeze={PHASES}", "--set", "training.layerwise_lr_decay=0.9")
    _enter(folder).finetuning("ft", "pre", *ON_GPU, *phases, "--set", "training.epochs=3")
    _run(gpu, finetune.main, "ft", "--quiet")


def _estimate(folder: Path, gpu: SimulatedGpu) -> None:
    _enter(folder)
    _run(gpu, pretrain.main, "pre", "--dry-run")
    _run(gpu, finetune.main, "ft", "--dry-run")


def _evaluate(folder: Path, gpu: SimulatedGpu) -> None:
    _enter(folder)
    _run(gpu, evaluate.main, "ft")


def _predict(folder: Path, gpu: SimulatedGpu) -> None:
    _enter(folder)
    _run(gpu, predict.main, "ft", folder / "corpus.jsonl", "--explain", "--out", folder / "out.jsonl")


def _report(folder: Path, gpu: SimulatedGpu) -> None:
    _enter(folder)
    _run(gpu, report.main, "ft")


class _InThisProcess:
    """A side of a benchmark without a process of its own, which would not have the simulation."""

    def __init__(
        self, name: str, open_side: Callable[[], benchmarks.harness.Side], device: torch.device
    ) -> None:
        self._side, self._device = open_side(), device
        self.check = self._side.check

    def __enter__(self) -> _InThisProcess:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def run(self, seconds: float) -> benchmarks.harness.Sample:
        return benchmarks.harness.take_turn(self._side.run, self._device, seconds=0.0)


def _benchmarks(folder: Path, gpu: SimulatedGpu) -> None:
    benchmarks.harness.SideProcess = _InThisProcess
    cuda = torch.device("cuda")
    benchmarks.harness._WARM_UPS = 1
    peers = some(training_peers(compiled=False, rows=64), STRONG[0])
    with gpu:
        measure_mlm(MlmWork(TINY, (60, 33, 12), cuda), peers, repetitions=1)
        work = DocumentWork(TINY, (150, 20), cuda, training=True, max_chunks=4)
        measure_documents(work, peers, repetitions=1)


# each goes on where the one before it ended
CASES: dict[str, Callable[[Path, SimulatedGpu], None]] = {
    "prepare": _prepare,
    "pretrain": _pretrain,
    "pretrain, resumed": _resume,
    "finetune in phases": _finetune,
    "dry runs": _estimate,
    "evaluate": _evaluate,
    "predict and explain": _predict,
    "report": _report,
    "benchmarks": _benchmarks,
}

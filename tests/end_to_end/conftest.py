"""A small generated corpus, and a checkout of its own for the run folders."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import finetune
import pretrain
from experiments import generate_finetuning_experiment, generate_pretraining_experiment
from textclf_transformer import experiment
from textclf_transformer.commands import prepare, train_tokenizer
from textclf_transformer.commands.serving import ModelServer
from textclf_transformer.evaluation.loaded_run import LoadedRun

TOPICS = {
    "garden": "soil seed root leaf bloom",
    "harbour": "ship rope tide crane anchor",
    "kitchen": "oven salt",
}
NEUTRAL = ["the", "a", "of", "and", "then", "with", "some", "people", "who", "said", "that", "it", "was"]

# What predict says of each document that tells the topics apart.
PREDICTION_COLUMNS = [
    "id",
    "label",
    "confidence",
    *(f"prob_{topic}" for topic in TOPICS),
    "n_chunks",
    "n_tokens",
    "truncated",
]


def write_corpus(path: Path, *, documents: int, seed: int) -> None:
    """Write labelled documents of very different lengths; a few words among many neutral ones carry the
    label.
    """
    random_source = random.Random(seed)
    with path.open("w", encoding="utf-8") as file:
        for number in range(documents):
            label = list(TOPICS)[number % len(TOPICS)]
            words = random_source.choices(NEUTRAL, k=random_source.choice([5, 30, 120]))
            words += random_source.choices(TOPICS[label].split(), k=2 + len(words) // 8)
            random_source.shuffle(words)
            file.write(json.dumps({"text": " ".join(words), "label": label}) + "\n")


@dataclass(frozen=True)
class Checkout:
    """Where the test's commands work."""

    root: Path

    def run(self, main: Callable[[list[str]], int], *arguments: object) -> None:
        assert main([str(argument) for argument in arguments]) == 0

    def pretraining(self, name: str, *more: str) -> Path:
        store, tokenizer = self.root / "store", self.root / "tokenizer"
        values = {
            "tokenizer.vocab_dir": tokenizer,
            "data.train.dataset_path": store / "train",
            "data.val.dataset_path": store / "val",
            "architecture.max_sequence_length": 24,
            "architecture.embedding_dim": 32,
            "architecture.num_layers": 2,
            "architecture.ffn_dim": 64,
            "architecture.attention.num_heads": 2,
            "training.epochs": 2,
            "training.batch_size": 8,
            "training.learning_rate": 3e-3,
            "logging.log_every": 5,
            "logging.report": False,
        }
        options = [part for key, value in values.items() for part in ("--set", f"{key}={value}")]
        self.run(generate_pretraining_experiment.main, name, *options, *more)
        return self.root / "experiments" / "pretraining" / name

    def finetuning(self, name: str, pretrained: str, *more: str) -> Path:
        values = {
            f"data.{split}.dataset_path": self.root / "store" / split for split in ("train", "val", "test")
        }
        options = [part for key, value in values.items() for part in ("--set", f"{key}={value}")]
        fixed = [
            "--set",
            "training.learning_rate=3e-3",
            "--set",
            "training.batch_size=8",
            "--set",
            "training.epochs=4",
            "--set",
            "logging.report=false",
        ]
        self.run(generate_finetuning_experiment.main, name, pretrained, *options, *fixed, *more)
        return self.root / "experiments" / "finetuning" / name


@pytest.fixture(scope="session")
def prepared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a corpus, a tokenizer and a store of three splits; made once, copied by each test."""
    root = tmp_path_factory.mktemp("prepared")
    corpus = root / "corpus.jsonl"
    write_corpus(corpus, documents=90, seed=1)
    here = Checkout(root)
    here.run(train_tokenizer.main, corpus, "--out", root / "tokenizer", "--vocab-size", 200)
    split = ["--split", "0.7/0.15/0.15", "--seed", 1]
    here.run(prepare.main, corpus, "--out", root / "store", "--tokenizer", root / "tokenizer", *split)
    return root


@pytest.fixture(scope="session")
def pretrained_folder(prepared_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a finished pretraining run ``pre``."""
    root = tmp_path_factory.mktemp("pretrained") / "checkout"
    shutil.copytree(prepared_folder, root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiment, "CHECKOUT", root)
        Checkout(root).pretraining("pre")
        Checkout(root).run(pretrain.main, "pre", "--quiet")
    return root


@pytest.fixture(scope="session")
def finetuned_folder(pretrained_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a finished finetuning run ``ft``, which reads at most 4 chunks of a document."""
    root = tmp_path_factory.mktemp("finetuned") / "checkout"
    shutil.copytree(pretrained_folder, root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiment, "CHECKOUT", root)
        here = Checkout(root)
        here.finetuning("ft", "pre", "--set", "training.epochs=20", "--set", "chunking.max_chunks=4")
        here.run(finetune.main, "ft", "--quiet")
    return root


def _copy(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    root = tmp_path / "checkout"
    shutil.copytree(source, root)
    monkeypatch.setattr(experiment, "CHECKOUT", root)
    monkeypatch.chdir(root)
    return Checkout(root)


@pytest.fixture
def checkout(prepared_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    """A checkout with a corpus, a tokenizer and a store of three splits."""
    return _copy(prepared_folder, tmp_path, monkeypatch)


@pytest.fixture
def pretrained(pretrained_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    """A checkout in which the pretraining run ``pre`` is finished."""
    return _copy(pretrained_folder, tmp_path, monkeypatch)


@pytest.fixture
def finetuned(finetuned_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    """A checkout in which the finetuning run ``ft`` is finished."""
    return _copy(finetuned_folder, tmp_path, monkeypatch)


@contextlib.contextmanager
def served(run: LoadedRun) -> Iterator[ModelServer]:
    """A server that answers with ``run`` on a free port of this machine, in a thread of its own."""
    with ModelServer(run, host="127.0.0.1", port=0, quiet=True) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()

"""A toy task for the loop: a small net with dropout, batches by (epoch, index), a run folder."""

from __future__ import annotations

import csv
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from textclf_transformer.experiment import RunFolder
from textclf_transformer.model.encoder import RobertaModel
from textclf_transformer.model.hierarchical import HierarchicalRobertaForClassification
from textclf_transformer.training.checkpointer import Checkpointer
from textclf_transformer.training.loop import TrainingLoop
from textclf_transformer.training.metrics_log import TRAIN_COLUMNS, MetricsLog, eval_columns
from textclf_transformer.training.optim import build_adamw
from textclf_transformer.training.progress import Progress
from textclf_transformer.training.run_log import RunLog
from textclf_transformer.training.save_cadence import SaveCadence
from textclf_transformer.training.schedule import cosine_with_warmup
from textclf_transformer.training.signals import EvaluationInterrupted, StopSignal

CPU = torch.device("cpu")
FEATURES, CLASSES, SAMPLES = 6, 3, 20


class ToyNet(nn.Module):
    """Embedding, norm, dropout, linear: what decides about decay, determinism and random numbers."""

    def __init__(self, *, dropout: float = 0.1) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, FEATURES)
        self.norm = nn.LayerNorm(FEATURES)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(FEATURES, CLASSES)

    def forward(self, ids: Tensor) -> Tensor:
        return self.output(self.dropout(self.norm(self.embedding(ids).mean(1))))


def toy_net(*, dropout: float = 0.1) -> ToyNet:
    torch.manual_seed(0)
    return ToyNet(dropout=dropout)


@dataclass(frozen=True)
class ToyBatch:
    ids: Tensor  # (B, 4)
    labels: Tensor  # (B,), -100 where there is no target
    sample_indices: Tensor

    @property
    def num_targets(self) -> int:
        return int((self.labels >= 0).sum())

    @property
    def num_tokens(self) -> int:
        return self.ids.numel()

    def to(self, device: torch.device, /) -> ToyBatch:
        return replace(self, ids=self.ids.to(device), labels=self.labels.to(device))


def toy_loss(model: nn.Module, batch: ToyBatch) -> Tensor:
    return F.cross_entropy(model(batch.ids).float(), batch.labels, reduction="sum", ignore_index=-100)


def toy_samples() -> ToyBatch:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(0, 11, (SAMPLES, 4), generator=generator)
    labels = torch.randint(0, CLASSES, (SAMPLES,), generator=generator)
    labels[::7] = -100  # so that micro-batches have different target counts
    return ToyBatch(ids, labels, torch.arange(SAMPLES))


def select(samples: ToyBatch, chosen: Tensor) -> ToyBatch:
    return ToyBatch(samples.ids[chosen], samples.labels[chosen], samples.sample_indices[chosen])


@dataclass
class ToyBatches:
    """Steps of ``samples_per_step`` in micro-batches of ``micro``; the last step of an epoch is smaller."""

    samples_per_step: int = 6
    micro: int = 4
    on_step: Callable[[int, int], None] = lambda epoch, index: None

    @property
    def tokens_per_micro_batch(self) -> int:
        return 4 * self.micro  # a sample has 4 tokens

    @tokens_per_micro_batch.setter
    def tokens_per_micro_batch(self, tokens: int) -> None:
        self.micro = max(tokens // 4, 1)

    @property
    def steps_per_epoch(self) -> int:
        return -(-SAMPLES // self.samples_per_step)

    def step(self, epoch: int, index: int, /) -> list[ToyBatch]:
        self.on_step(epoch, index)
        order = torch.randperm(SAMPLES, generator=torch.Generator().manual_seed(100 + epoch))
        chosen = order[index * self.samples_per_step : (index + 1) * self.samples_per_step]
        return [select(toy_samples(), part) for part in chosen.split(self.micro)]


def toy_evaluate(model: nn.Module) -> dict[str, float]:
    samples = toy_samples()
    model.eval()
    with torch.no_grad():
        loss = float(toy_loss(model, samples)) / samples.num_targets
        accuracy = float((model(samples.ids).argmax(-1) == samples.labels).sum()) / samples.num_targets
    return {"loss": loss, "accuracy": accuracy}


@dataclass
class Run:
    """One session of a toy run in ``folder``; ``start`` builds everything anew, as a fresh process would."""

    folder: RunFolder
    warnings: list[str]

    @classmethod
    def at(cls, root: Path) -> Run:
        root.mkdir(parents=True, exist_ok=True)
        return cls(RunFolder.at(root), [])

    def start(
        self, *, batches: ToyBatches | None = None, epochs: int = 3, **changes: Any
    ) -> TrainingLoop[ToyBatch]:
        batches = batches or ToyBatches()
        model = changes.pop("model", toy_net())
        warn = self.warnings.append
        total = epochs * batches.steps_per_epoch
        settings: dict[str, Any] = {
            "model": model,
            "loss": toy_loss,
            "batches": batches,
            "optimizer": build_adamw(model, learning_rate=0.05, weight_decay=0.01),
            "schedule": lambda step: cosine_with_warmup(step, total_steps=total, warmup_steps=2),
            "learning_rate": 0.05,
            "epochs": epochs,
            "max_grad_norm": 1.0,
            "device": CPU,
            "amp_dtype": None,
            "seed": 7,
            "evaluate": toy_evaluate,
            "best_metric": "loss",
            "best_mode": "min",
            "log_every": 2,
            "eval_every": 3,
            "save_cadence": SaveCadence(
                every_steps=changes.pop("save_every", 5), every_minutes=changes.pop("save_minutes", None)
            ),
            "early_stopping_patience": None,
            "checkpointer": Checkpointer(self.folder, extra={"config": {"a": 1}}, warn=warn),
            "log": RunLog(
                train_log=MetricsLog(self.folder.train_metrics, TRAIN_COLUMNS, warn=warn),
                eval_log=MetricsLog(self.folder.eval_metrics, eval_columns(["loss", "accuracy"]), warn=warn),
                progress=changes.pop("progress", Progress(quiet=True)),
                warn=warn,
                device=CPU,
            ),
            "stop_signal": StopSignal(),
        }
        settings["log"].wandb_log = changes.pop("wandb_log", None)
        loop: TrainingLoop[ToyBatch] = TrainingLoop(**{**settings, **changes})
        if (saved := loop.checkpointer.load()) is not None:
            loop.load_state_dict(saved)
        return loop

    def rows(self, split: str) -> list[dict[str, str]]:
        """Return the rows of a log without the columns that differ from run to run."""
        path = self.folder.train_metrics if split == "train" else self.folder.eval_metrics
        with path.open(encoding="utf-8", newline="") as stream:
            return [{k: v for k, v in row.items() if is_reproducible(k)} for row in csv.DictReader(stream)]


def is_reproducible(column: str) -> bool:
    return not column.endswith(("_seconds", "_per_second")) and not column.startswith("memory_")


def same_bits(first: Any, second: Any) -> bool:
    """Whether two checkpoints hold the same, time apart."""
    if isinstance(first, Tensor):
        return isinstance(second, Tensor) and _bits(first) == _bits(second)
    if isinstance(first, float):  # 0.0 equals -0.0, and NaN not even itself
        return isinstance(second, float) and struct.pack("d", first) == struct.pack("d", second)
    if isinstance(first, dict):
        keys = {key for key in first if is_reproducible(str(key))}
        if not isinstance(second, dict) or keys != {key for key in second if is_reproducible(str(key))}:
            return False
        return all(
            same_bits(first[key], second[key]) for key in keys if key != "metrics" or "loss" in first[key]
        )
    return type(first) is type(second) and first == second


def _bits(tensor: Tensor) -> tuple[torch.dtype, torch.Size, bytes]:
    flat = tensor.contiguous().reshape(-1).view(torch.uint8)
    return tensor.dtype, tensor.shape, flat.numpy().tobytes()


class StopAt:
    """Takes the place of StopSignal; ``now`` is the moment of the signal."""

    def __init__(self, code: int = 143) -> None:
        self.requested: int | None = None
        self.code = code

    def now(self) -> None:
        self.requested = self.code


def interrupting(evaluate: Callable[[nn.Module], dict[str, float]], stop: StopAt, *, at_call: int) -> Any:
    """Return ``evaluate`` with a stop signal in the middle of its ``at_call``-th call."""
    calls: Iterator[int] = iter(range(1, 1000))

    def wrapped(model: nn.Module) -> dict[str, float]:
        if next(calls) == at_call:
            model.eval()
            stop.now()
            raise EvaluationInterrupted
        return evaluate(model)

    return wrapped


def small_classifier(attention_kind: str = "standard") -> HierarchicalRobertaForClassification:
    """A hierarchical classifier of two layers, its weights drawn from torch's global stream."""
    encoder = RobertaModel(
        vocab_size=20,
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=8,
        max_position_embeddings=10,
        pad_token_id=0,
        attention_kind=attention_kind,
    )
    return HierarchicalRobertaForClassification(encoder, num_labels=3, attention_hidden_size=4)

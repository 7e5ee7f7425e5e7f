"""What ``--dry-run`` prints: the resolved config, and what the run will take."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from textclf_transformer.commands.common import print_result
from textclf_transformer.commands.estimate import (
    SHARE_OF_MATMUL_RATE,
    CostEstimate,
    StepLoad,
    estimate_cost,
    matmul_rate,
)
from textclf_transformer.commands.training_run import RunContext
from textclf_transformer.commands.training_task import Task
from textclf_transformer.config import config_to_dict, dump_yaml
from textclf_transformer.errors import counted
from textclf_transformer.model.attention import BackendChoice, choose_attention_backend
from textclf_transformer.model.encoder import RobertaModel
from textclf_transformer.model.layers import EncoderLayer
from textclf_transformer.training.freezing import train_only
from textclf_transformer.training.muon import layer_matrices
from textclf_transformer.training.optim import layer_depths


@dataclass(frozen=True, slots=True)
class PlannedPhase:
    """Some epochs in which the same parts are trained.

    Attributes:
        first_epoch: from 0.
        epochs: how many.
        learning_rates: the highest rates of the head and of the lowest part that is trained.
        cost: of one optimizer step.
    """

    first_epoch: int
    epochs: int
    learning_rates: tuple[float, float]
    cost: CostEstimate


def show_plan(
    context: RunContext[Any],
    task: Task[Any],
    *,
    encoder: RobertaModel,
    load: StepLoad,
    samples_per_epoch: int,
    tokens_per_epoch: int,
) -> None:
    """Print the plan of a run to stdout; nothing on the disk is touched."""
    training = context.config.training
    steps_per_epoch = task.batches.steps_per_epoch
    phases = list(_phases(context, task, encoder, load))
    rate = matmul_rate(context.device, context.amp_dtype or torch.float32) * SHARE_OF_MATMUL_RATE
    computed = sum(_epochs_computed(phase, task) * phase.cost.step_flops for phase in phases)
    seconds = computed * steps_per_epoch / rate
    largest = max((phase.cost for phase in phases), key=lambda cost: cost.state_bytes + cost.activation_bytes)
    backend = _attention_backend(context, encoder)
    print(dump_yaml(config_to_dict(context.config)))
    print_result(
        {
            "run folder": context.run.root,
            "device": context.device,
            "matrix products in": "float32"
            if context.amp_dtype is None
            else str(context.amp_dtype).split(".")[1],
            "attention": f"{backend.name}: {backend.reason}",
            "torch.compile": "what follows the attention in each layer" if training.compile else "nothing",
            "parameters": f"{largest.parameters:,}",
            "optimizer": _optimizer(task),
            **{_epochs(phase): _trained(phase) for phase in phases},
            "samples per epoch": f"{samples_per_epoch:,}",
            "tokens per epoch": f"{tokens_per_epoch:,}",
            "optimizer steps": f"{training.epochs * steps_per_epoch:,} ({steps_per_epoch:,} per epoch)",
            "memory, about": f"{(largest.state_bytes + largest.activation_bytes) / 2**30:.1f} GiB "
            f"({largest.state_bytes / 2**30:.1f} weights and optimizer, "
            f"{largest.activation_bytes / 2**30:.1f} activations)",
            "time, about": _duration(seconds),
        }
    )


def _epochs_computed(phase: PlannedPhase, task: Task[Any]) -> int:
    """Return in how many epochs of a phase the encoder works: once in all while its vectors are kept."""
    if task.frozen_cache is None or phase.first_epoch >= task.frozen_cache.epochs:
        return phase.epochs
    return 1 if phase.first_epoch == 0 else 0


def _optimizer(task: Task[Any]) -> str:
    if not task.muon:
        return "AdamW"
    matrices = layer_matrices(task.model).values()
    return (
        f"Muon for {len(matrices)} matrices of the layers "
        f"({sum(matrix.numel() for matrix in matrices):,} parameters), AdamW for all else"
    )


def _attention_backend(context: RunContext[Any], encoder: RobertaModel) -> BackendChoice:
    layer = encoder.layers[0]
    assert isinstance(layer, EncoderLayer)
    return choose_attention_backend(
        context.device,
        amp_dtype=context.amp_dtype,
        attention_kind=encoder.attention_kind,
        dropout_prob=layer.attention.dropout_prob,
        head_dim=encoder.hidden_size // encoder.num_attention_heads,
    )


def _phases(
    context: RunContext[Any], task: Task[Any], encoder: RobertaModel, load: StepLoad
) -> Iterator[PlannedPhase]:
    """Yield the phases of a run; freezes and unfreezes the model on the way."""
    training = context.config.training
    phases = () if task.freeze is None else task.freeze.phases
    ends = [*(phase.from_epoch for phase in phases[1:]), training.epochs]
    if not phases:
        rates = _learning_rates(task.model, training.learning_rate, task.layerwise_lr_decay)
        yield PlannedPhase(
            0, training.epochs, rates, estimate_cost(task.model, encoder, load, muon=task.muon)
        )
    for phase, end in zip(phases, ends, strict=False):
        train_only(task.model, phase.train, k=phase.k)
        rates = _learning_rates(
            task.model, phase.learning_rate or training.learning_rate, task.layerwise_lr_decay
        )
        cost = estimate_cost(task.model, encoder, load, muon=task.muon)
        yield PlannedPhase(phase.from_epoch, end - phase.from_epoch, rates, cost)


def _learning_rates(model: nn.Module, peak: float, layerwise_lr_decay: float) -> tuple[float, float]:
    depths = layer_depths(name for name, _ in model.named_parameters())
    deepest = max(depths[name] for name, parameter in model.named_parameters() if parameter.requires_grad)
    return peak, peak * layerwise_lr_decay**deepest


def _epochs(phase: PlannedPhase) -> str:
    """Name the epochs of a phase, counted from 1."""
    first, last = phase.first_epoch + 1, phase.first_epoch + phase.epochs
    return f"epoch {first}" if first == last else f"epochs {first} to {last}"


def _trained(phase: PlannedPhase) -> str:
    highest, lowest = phase.learning_rates
    line = f"{phase.cost.trainable_parameters:,} parameters trained, learning rate {highest:.3g}"
    return line if lowest == highest else f"{line} in the head, down to {lowest:.3g} in the lowest part"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return counted(round(seconds), "second")
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"

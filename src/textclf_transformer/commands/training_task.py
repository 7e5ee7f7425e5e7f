"""What tells pretraining from finetuning, for all that drives the loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

import torch
from torch import nn

from textclf_transformer.tokenizer.base import TokenizerWrapper
from textclf_transformer.training.freezing import FreezeSchedule
from textclf_transformer.training.frozen_cache import FrozenEncoderCache
from textclf_transformer.training.health import Health
from textclf_transformer.training.loop import StepBatches

ModelT = TypeVar("ModelT", bound=nn.Module)

# (model, should_stop, thresholds of several labels) -> metrics, "loss" among them
Evaluation = Callable[[Any, Callable[[], bool], Sequence[float] | None], dict[str, float]]


@dataclass(frozen=True, slots=True)
class Task(Generic[ModelT]):
    """What tells pretraining from finetuning.

    Attributes:
        model: on the run's device.
        tokenizer: copied into the run folder.
        loss: the loss sum of a micro-batch.
        batches: the training data.
        metric_names: columns of the evaluation log.
        evaluate_val: the validation metrics, or None without validation data.
        evaluate_test: the test metrics, or None without test data.
        best_mode: whether a lower or a higher ``training.best_metric`` is better.
        facts: what the checkpoints carry besides config and environment: architecture, labels, tokenizer and
            fingerprints.
        data_report: what is known of each split, for run.json.
        health: watches the run and warns in words.
        freeze: what is trained from which epoch on; None: everything throughout.
        muon: whether Muon updates the matrices of the layers; in pretraining alone.
        layerwise_lr_decay: factor on the learning rate per layer below the head.
        frozen_cache: filled before the first step of a run that begins with a frozen encoder.
        choose_thresholds: of (model, should_stop), those of the best weights; None where documents have one
            label, or without validation data.
        test_logits: float32 (documents, L), added by each ``evaluate_test``; empty in pretraining.
    """

    model: ModelT
    tokenizer: TokenizerWrapper
    loss: Callable[[Any, Any], torch.Tensor]
    batches: StepBatches[Any]
    metric_names: tuple[str, ...]
    evaluate_val: Evaluation | None
    evaluate_test: Evaluation | None
    best_mode: Literal["min", "max"]
    facts: Mapping[str, Any]
    data_report: Mapping[str, Any]
    health: Health
    freeze: FreezeSchedule | None = None
    muon: bool = False
    layerwise_lr_decay: float = 1.0
    frozen_cache: FrozenEncoderCache | None = None
    choose_thresholds: Callable[[Any, Callable[[], bool]], list[float]] | None = None
    test_logits: Sequence[Any] = ()

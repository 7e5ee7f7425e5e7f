"""A model's score over a whole split, as training asks for it: masked-LM loss, or loss and metrics."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import closing

import torch

from textclf_transformer.data.batches import DocumentBatches, MlmBatches
from textclf_transformer.data.prefetch import prefetch
from textclf_transformer.evaluation.inference import document_logits, evaluation_mode
from textclf_transformer.evaluation.metrics import classification_metrics
from textclf_transformer.model.heads import RobertaForMaskedLM
from textclf_transformer.model.hierarchical import HierarchicalRobertaForClassification
from textclf_transformer.training.losses import label_loss
from textclf_transformer.training.numerics import autocast
from textclf_transformer.training.signals import EvaluationInterrupted


def evaluate_masked_lm(
    model: RobertaForMaskedLM,
    batches: MlmBatches,
    *,
    device: torch.device,
    amp_dtype: torch.dtype | None,
    should_stop: Callable[[], bool],
) -> dict[str, float]:
    """Return ``loss`` (mean over masked positions, nats) and ``perplexity`` under the fixed evaluation mask.

    Raises:
        EvaluationInterrupted: ``should_stop()`` turned true.
    """
    loss_sum = torch.zeros((), dtype=torch.float64, device=device)
    num_targets = 0
    with evaluation_mode(model), closing(prefetch(batches.evaluation())) as upcoming:
        for batch in upcoming:
            if should_stop():
                raise EvaluationInterrupted
            batch = batch.to(device)
            with autocast(device, amp_dtype):
                loss_sum += model.masked_loss(batch.input_ids, batch.attention_mask, batch.labels)
            num_targets += batch.num_targets
    loss = float(loss_sum) / num_targets if num_targets else math.nan
    return {"loss": loss, "perplexity": math.exp(min(loss, 700.0))}


def evaluate_documents(
    model: HierarchicalRobertaForClassification,
    batches: DocumentBatches,
    *,
    device: torch.device,
    amp_dtype: torch.dtype | None,
    should_stop: Callable[[], bool],
) -> dict[str, float]:
    """Return ``loss`` (mean over documents, nats) and the metrics of ``classification_metrics``.

    Raises:
        EvaluationInterrupted: ``should_stop()`` turned true.
        NonFiniteError: a logit is NaN or infinite.
        ValueError: the documents have no labels.
    """
    if batches.labels is None:
        raise ValueError("the documents have no labels")
    logits = torch.from_numpy(
        document_logits(model, batches, device=device, amp_dtype=amp_dtype, should_stop=should_stop)
    )
    labels = torch.from_numpy(batches.labels)
    metrics = classification_metrics(logits, labels)
    return {"loss": float(label_loss(logits, labels)) / len(labels), **metrics}

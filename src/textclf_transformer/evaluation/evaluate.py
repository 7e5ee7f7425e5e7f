"""Run a model over a whole split: the mean masked-LM loss, or the logits of every document."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from contextlib import closing

import numpy as np
import torch
from torch import nn

from textclf_transformer.data.batches import DocumentBatches, MlmBatches
from textclf_transformer.data.prefetch import prefetch
from textclf_transformer.evaluation.metrics import classification_metrics
from textclf_transformer.model.heads import RobertaForMaskedLM
from textclf_transformer.model.hierarchical import HierarchicalRobertaForClassification
from textclf_transformer.training.losses import label_loss
from textclf_transformer.training.numerics import autocast
from textclf_transformer.training.signals import EvaluationInterrupted


@contextlib.contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Put ``model`` in evaluation mode without gradients; its mode is restored afterwards."""
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(was_training)


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


def document_logits(
    model: HierarchicalRobertaForClassification,
    batches: DocumentBatches,
    *,
    device: torch.device,
    amp_dtype: torch.dtype | None,
    should_stop: Callable[[], bool],
) -> np.ndarray:
    """Return (documents, L) float32 logits in the order of the data, whatever the order of the batches.

    Raises:
        EvaluationInterrupted: ``should_stop()`` turned true.
    """
    logits = np.full((batches.num_samples, model.num_labels), np.nan, dtype=np.float32)
    with evaluation_mode(model), closing(prefetch(batches.evaluation())) as upcoming:
        for batch in upcoming:
            if should_stop():
                raise EvaluationInterrupted
            batch = batch.to(device)
            with autocast(device, amp_dtype):
                output = model.classify_chunks(batch.input_ids, batch.attention_mask, batch.chunk_counts)
            logits[batch.sample_indices.numpy()] = output["logits"].float().cpu().numpy()
    return logits

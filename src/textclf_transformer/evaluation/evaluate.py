"""A model's score over a whole split, as training asks for it: masked-LM loss, or loss and metrics."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from contextlib import closing

import numpy as np
import torch
from numpy.typing import NDArray

from textclf_transformer.data.batches import DocumentBatches, MlmBatches
from textclf_transformer.data.prefetch import prefetch
from textclf_transformer.data.vector_batches import VectorBatches
from textclf_transformer.errors import NonFiniteError
from textclf_transformer.evaluation.inference import document_logits, evaluation_mode
from textclf_transformer.evaluation.loaded_run import check_finite
from textclf_transformer.evaluation.metrics import IntArray, label_metrics
from textclf_transformer.evaluation.probabilities import predicted_labels
from textclf_transformer.model.heads import RobertaForMaskedLM
from textclf_transformer.model.hierarchical import HierarchicalRobertaForClassification
from textclf_transformer.training.losses import label_loss
from textclf_transformer.training.numerics import autocast
from textclf_transformer.training.shortage import in_halves
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

    Text that is too short for ``mask_p`` to choose a token has no loss: both are NaN, with a warning.

    Raises:
        EvaluationInterrupted: ``should_stop()`` turned true.
        NonFiniteError: the loss is NaN or infinite although there are targets.
    """
    loss_sum = torch.zeros((), dtype=torch.float64, device=device)
    num_targets = 0
    with evaluation_mode(model), closing(prefetch(batches.evaluation())) as upcoming:
        for batch in upcoming:
            if should_stop():
                raise EvaluationInterrupted
            batch = batch.to(device)
            with autocast(device, amp_dtype):
                parts = in_halves(model.masked_loss, batch.input_ids, batch.attention_mask, batch.labels)
                loss_sum += torch.stack(parts).double().sum()
            num_targets += batch.num_targets
    if num_targets == 0:
        warnings.warn(
            "no token of the evaluation data is masked, so it has no loss; "
            "give more text, or raise mlm_head.mask_p",
            stacklevel=1,
        )
    loss = float(loss_sum) / (num_targets or math.nan)
    if num_targets and not math.isfinite(loss):
        raise NonFiniteError(
            "the loss of the evaluation is not finite",
            found=f"{loss} over {num_targets} targets",
            mend="lower training.learning_rate, or set training.use_amp=false; the last checkpoint stays",
        )
    return {"loss": loss, "perplexity": math.exp(min(loss, 700.0))}


def evaluate_documents(
    model: HierarchicalRobertaForClassification,
    batches: DocumentBatches | VectorBatches,
    *,
    device: torch.device,
    amp_dtype: torch.dtype | None,
    should_stop: Callable[[], bool],
    thresholds: Sequence[float] | None = None,
    observe: Callable[[IntArray, IntArray], None] = lambda labels, predictions: None,
    keep_logits: Callable[[NDArray[np.float32]], None] = lambda logits: None,
) -> dict[str, float]:
    """Return ``loss`` (mean over documents, nats) and the metrics of ``label_metrics``.

    ``thresholds`` are those of ``predicted_labels``. ``observe`` is shown the labels and the predictions,
    (documents,) or 0/1 of (documents, L), and ``keep_logits`` the logits, (documents, L).

    Raises:
        EvaluationInterrupted: ``should_stop()`` turned true.
        NonFiniteError: a logit is NaN or infinite.
        ValueError: the documents have no labels.
    """
    if batches.labels is None:
        raise ValueError("the documents have no labels")
    scores = document_logits(model, batches, device=device, amp_dtype=amp_dtype, should_stop=should_stop)
    logits, labels = torch.from_numpy(scores), torch.from_numpy(batches.labels)
    check_finite(scores)
    keep_logits(scores)
    decided = predicted_labels(scores, multi_label=labels.ndim == 2, thresholds=thresholds)
    metrics = label_metrics(
        batches.labels, decided, num_labels=scores.shape[1], label_names=batches.label_names
    )
    observe(batches.labels, decided)
    return {"loss": float(label_loss(logits, labels)) / len(labels), **metrics}

"""The losses of the two tasks, as sums over targets: what tells pretraining from finetuning in the loop."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from textclf_transformer.config import FinetuningTrainingSection
from textclf_transformer.data.collate import DocumentBatch, MlmBatch, VectorBatch
from textclf_transformer.errors import ConfigError
from textclf_transformer.model.heads import RobertaForMaskedLM
from textclf_transformer.model.hierarchical import HierarchicalRobertaForClassification
from textclf_transformer.utils import send


def masked_lm_loss(model: RobertaForMaskedLM, batch: MlmBatch) -> Tensor:
    """Return the cross-entropy summed over the masked positions, a float32 scalar in nats."""
    return model.masked_loss(batch.input_ids, batch.attention_mask, batch.labels)


def classify_batch(
    model: HierarchicalRobertaForClassification, batch: DocumentBatch | VectorBatch
) -> dict[str, Tensor]:
    """Return what ``classify_chunks`` does, also where the encoder's part is done already."""
    if isinstance(batch, VectorBatch):
        return model.classify_vectors(batch.vectors, batch.chunk_counts)
    return model.classify_chunks(batch.input_ids, batch.attention_mask, batch.chunk_counts)


def document_loss(
    model: HierarchicalRobertaForClassification,
    batch: DocumentBatch | VectorBatch,
    *,
    class_weights: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Return ``label_loss`` of the batch's documents.

    Raises:
        ValueError: the batch has no labels.
    """
    if batch.labels is None:
        raise ValueError("the batch has no labels")
    output = classify_batch(model, batch)
    return label_loss(
        output["logits"], batch.labels, class_weights=class_weights, label_smoothing=label_smoothing
    )


def label_loss(
    logits: Tensor, labels: Tensor, *, class_weights: Tensor | None = None, label_smoothing: float = 0.0
) -> Tensor:
    """Return the loss summed over documents, a float32 scalar in nats.

    Args:
        logits: (documents, L).
        labels: (documents,) int64: cross-entropy; or 0/1 of (documents, L): binary cross-entropy, the mean
            over labels.
        class_weights: (L,), by which the terms of each label are multiplied; None: 1. Not for 0/1 labels.
        label_smoothing: share of a target that is spread evenly over all L labels (Szegedy et al. 2016,
            section 7). Not for 0/1 labels.
    """
    if labels.ndim == 1:
        return F.cross_entropy(
            logits.float(),
            labels,
            weight=None if class_weights is None else send(class_weights, logits.device),
            label_smoothing=label_smoothing,
            reduction="sum",
        )
    num_labels = labels.shape[1]
    return F.binary_cross_entropy_with_logits(logits.float(), labels.float(), reduction="sum") / num_labels


def build_document_loss(
    training: FinetuningTrainingSection, labels: NDArray[np.int64], *, num_labels: int
) -> Callable[[HierarchicalRobertaForClassification, DocumentBatch | VectorBatch], Tensor]:
    """Return ``document_loss`` as a config asks for it; evaluation has the plain one, so that runs compare.

    Args:
        training: with ``class_weights`` and ``label_smoothing``.
        labels: of the training documents: (documents,), or 0/1 of (documents, L).
        num_labels: L.

    Raises:
        ConfigError: there are more or fewer weights than labels, or documents carry several labels.
    """
    weights = training.class_weights
    if labels.ndim == 2 and (weights != "none" or training.label_smoothing):
        raise ConfigError(
            "the documents carry several labels each, each of them a yes or no",
            where="training.class_weights" if weights != "none" else "training.label_smoothing",
            found=weights if weights != "none" else training.label_smoothing,
            expected="none" if weights != "none" else "0",
        )
    if isinstance(weights, list) and len(weights) != num_labels:
        raise ConfigError(
            "each label needs one weight",
            where="training.class_weights",
            found=f"{len(weights)} weights",
            expected=str(num_labels),
        )
    class_weights = balanced_class_weights(labels, num_labels=num_labels) if weights == "balanced" else None
    if isinstance(weights, list):
        class_weights = torch.tensor(weights)
    return functools.partial(
        document_loss, class_weights=class_weights, label_smoothing=training.label_smoothing
    )


def balanced_class_weights(labels: NDArray[np.int64], *, num_labels: int) -> Tensor:
    """Return (L,) float32 weights with which each label weighs the same in total.

    They are documents / (labels · documents of the label), as in King & Zeng 2001 and scikit-learn's
    "balanced". The mean over all documents is 1, so the learning rate keeps its meaning. A label without
    documents gets 0 and is not counted.

    Args:
        labels: (documents,) of 0 … L − 1.
        num_labels: L.
    """
    counts = np.bincount(labels, minlength=num_labels)
    present = int((counts > 0).sum())
    weights = np.divide(len(labels), present * counts, where=counts > 0, out=np.zeros(num_labels))
    return torch.from_numpy(weights).float()

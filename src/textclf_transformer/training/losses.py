"""The losses of the two tasks, as sums over targets: what tells pretraining from finetuning in the loop."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from textclf_transformer.data.collate import DocumentBatch, MlmBatch
from textclf_transformer.model.heads import RobertaForMaskedLM
from textclf_transformer.model.hierarchical import HierarchicalRobertaForClassification


def masked_lm_loss(model: RobertaForMaskedLM, batch: MlmBatch) -> Tensor:
    """Return the cross-entropy summed over the masked positions, a float32 scalar in nats."""
    return model.masked_loss(batch.input_ids, batch.attention_mask, batch.labels)


def document_loss(model: HierarchicalRobertaForClassification, batch: DocumentBatch) -> Tensor:
    """Return ``label_loss`` of the batch's documents.

    Raises:
        ValueError: the batch has no labels.
    """
    if batch.labels is None:
        raise ValueError("the batch has no labels")
    output = model.classify_chunks(batch.input_ids, batch.attention_mask, batch.chunk_counts)
    return label_loss(output["logits"], batch.labels)


def label_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the loss summed over documents, a float32 scalar in nats.

    Args:
        logits: (documents, L).
        labels: (documents,) int64: cross-entropy; or 0/1 of (documents, L): binary cross-entropy, the mean over
            labels.
    """
    if labels.ndim == 1:
        return F.cross_entropy(logits.float(), labels, reduction="sum")
    num_labels = labels.shape[1]
    return F.binary_cross_entropy_with_logits(logits.float(), labels.float(), reduction="sum") / num_labels

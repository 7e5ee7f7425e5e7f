"""Documents to logits: the one way from batches through the model, for training, evaluate and predict."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing

import numpy as np
import torch
from torch import Tensor, nn

from textclf_transformer.data.batches import DocumentBatches
from textclf_transformer.data.collate import DocumentBatch, VectorBatch
from textclf_transformer.data.prefetch import prefetch
from textclf_transformer.data.vector_batches import VectorBatches
from textclf_transformer.model.hierarchical import HierarchicalRobertaForClassification
from textclf_transformer.training.numerics import autocast
from textclf_transformer.training.shortage import in_halves
from textclf_transformer.training.signals import EvaluationInterrupted


@contextlib.contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Put ``model`` in evaluation mode without gradients; give each module its own mode back."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for module, was_training in modes:
            module.training = was_training


def document_logits(
    model: HierarchicalRobertaForClassification,
    batches: DocumentBatches | VectorBatches,
    *,
    device: torch.device,
    amp_dtype: torch.dtype | None,
    should_stop: Callable[[], bool],
) -> np.ndarray:
    """Return (documents, L) float32 logits in the order of the data, whatever the order of the batches.

    Where the memory does not suffice for a batch, its chunks are encoded in smaller groups.

    Raises:
        EvaluationInterrupted: ``should_stop()`` turned true.
    """
    logits = np.full((batches.num_samples, model.num_labels), np.nan, dtype=np.float32)
    in_order: Iterable[DocumentBatch | VectorBatch] = batches.evaluation()
    with evaluation_mode(model), closing(prefetch(in_order)) as upcoming:
        for batch in upcoming:
            if should_stop():
                raise EvaluationInterrupted
            output = model.classify_vectors(
                chunk_vectors(model, batch, device=device, amp_dtype=amp_dtype), batch.chunk_counts
            )
            logits[batch.sample_indices.numpy()] = output["logits"].float().cpu().numpy()
    return logits


def chunk_vectors(
    model: HierarchicalRobertaForClassification,
    batch: DocumentBatch | VectorBatch,
    *,
    device: torch.device,
    amp_dtype: torch.dtype | None,
) -> Tensor:
    """Return (M, D), the vectors of the batch's chunks on ``device``, computed without gradients or given."""
    if isinstance(batch, VectorBatch):
        return batch.to(device).vectors
    with autocast(device, amp_dtype):
        return torch.cat(in_halves(model.encode_chunks, batch.input_ids, batch.attention_mask))

"""The micro-batches of ``DocumentBatches`` once more, with the chunks' vectors in place of their tokens."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from textclf_transformer.data.batches import DocumentBatches
from textclf_transformer.data.collate import VectorBatch, label_tensor
from textclf_transformer.data.documents import Int64Array


class VectorBatches:
    """Documents as the vectors of their chunks, in the very micro-batches that their tokens would have.

    Args:
        documents: the batches of tokens.
        vectors: float32 (chunks, D), the documents in the order of ``documents.evaluation()``; a memory map
            will do.

    Attributes:
        num_samples: documents.
        labels: as in ``DocumentBatches``; so are ``label_names``.
        steps_per_epoch: optimizer steps of one epoch.

    Raises:
        ValueError: there are more or fewer vectors than chunks.
    """

    def __init__(self, documents: DocumentBatches, vectors: NDArray[np.float32]) -> None:
        if len(vectors) != documents.num_chunks:
            raise ValueError(f"{len(vectors)} vectors for {documents.num_chunks} chunks")
        self._documents = documents
        self._vectors = vectors
        order = np.concatenate(documents.evaluation_samples())
        counts = documents.chunk_counts[order]
        self._starts = np.empty(len(order), dtype=np.int64)
        self._starts[order] = np.cumsum(counts) - counts
        self.num_samples = documents.num_samples
        self.labels = documents.labels
        self.label_names = documents.label_names
        self.steps_per_epoch = documents.steps_per_epoch

    def step(self, epoch: int, index: int) -> list[VectorBatch]:
        """Return the micro-batches of one optimizer step; IndexError if an epoch has no step ``index``."""
        return [self._collate(samples) for samples in self._documents.step_samples(epoch, index)]

    def evaluation(self) -> Iterator[VectorBatch]:
        """Yield all documents once, as ``DocumentBatches.evaluation`` does."""
        return map(self._collate, self._documents.evaluation_samples())

    def _collate(self, samples: Int64Array) -> VectorBatch:
        starts, counts = self._starts[samples], self._documents.chunk_counts[samples]
        spans = zip(starts, starts + counts, strict=True)
        labels = None if self.labels is None else self.labels[samples]
        return VectorBatch(
            vectors=torch.from_numpy(np.concatenate([self._vectors[start:stop] for start, stop in spans])),
            chunk_counts=torch.from_numpy(counts),
            labels=label_tensor(labels),
            sample_indices=torch.from_numpy(samples),
            num_tokens=int(self._documents.tokens_per_document[samples].sum()),
            num_targets=len(samples),
        )

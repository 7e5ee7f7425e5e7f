"""Vectors of chunks come in the batches that the chunks' tokens come in."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from data.test_batches_documents import document_batches, documents_of_lengths

from textclf_transformer.data.vector_batches import VectorBatches


def test_each_batch_holds_the_vectors_of_its_chunks() -> None:
    documents = document_batches()
    # a chunk's vector tells its tokens, read in the order of an evaluation
    first_tokens = [ids[:2] for batch in documents.evaluation() for ids in batch.input_ids]
    vectors = VectorBatches(documents, torch.stack(first_tokens).float().numpy())
    pairs = [*zip(documents.evaluation(), vectors.evaluation(), strict=True)]
    for epoch in range(2):
        for index in range(documents.steps_per_epoch):
            pairs += zip(documents.step(epoch, index), vectors.step(epoch, index), strict=True)
    assert len(pairs) > 3 * documents.steps_per_epoch
    for expected, found in pairs:
        assert torch.equal(found.vectors, expected.input_ids[:, :2].float())
        assert expected.labels is not None and found.labels is not None
        for name in ("chunk_counts", "labels", "sample_indices"):
            assert torch.equal(getattr(found, name), getattr(expected, name))
        assert (found.num_tokens, found.num_targets) == (expected.num_tokens, expected.num_targets)


def test_without_labels_there_are_none() -> None:
    documents = document_batches(documents_of_lengths([5, 30, 8]))
    vectors = VectorBatches(documents, np.zeros((documents.num_chunks, 2), dtype=np.float32))
    assert [batch.labels for batch in vectors.evaluation()] == [None]


def test_vectors_of_other_documents_are_refused() -> None:
    documents = document_batches()
    with pytest.raises(ValueError, match=f"1 vectors for {documents.num_chunks} chunks"):
        VectorBatches(documents, np.zeros((1, 2), dtype=np.float32))

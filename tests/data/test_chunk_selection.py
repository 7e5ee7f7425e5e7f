from __future__ import annotations

import numpy as np
import pytest
from data.in_memory import CLS, PAD, SEP, documents_of_lengths

from textclf_transformer.data.batches import DocumentBatches
from textclf_transformer.data.chunk_selection import FirstAndLastChunks
from textclf_transformer.data.chunking import chunk_spans

LENGTHS = [1, 7, 8, 9, 16, 17, 40, 41, 100]


@pytest.mark.parametrize("stride", [8, 5, 1])
def test_first_and_very_last_chunk(stride):
    documents = documents_of_lengths(LENGTHS)
    ends = FirstAndLastChunks(documents, cls_token_id=CLS, sep_token_id=SEP, chunk_size=10, stride=stride)
    assert ends.preset_chunks and len(ends) == len(LENGTHS)
    for index, length in enumerate(LENGTHS):
        spans = chunk_spans(length, chunk_size=10, stride=stride, max_chunks=10_000)
        expected = [spans[0]] if len(spans) == 1 else [spans[0], spans[-1]]
        content = documents.tokens(index)
        chunks = ends.chunks(index)
        assert [chunk.tolist() for chunk in chunks] == [
            [CLS, *content[start:stop].tolist(), SEP] for start, stop in expected
        ]
        assert ends.chunk_lengths[index].tolist() == [*map(len, chunks), *[0] * (2 - len(chunks))]


def test_given_chunks_are_chosen_as_they_are():
    ends = FirstAndLastChunks(
        documents_of_lengths(LENGTHS), cls_token_id=CLS, sep_token_id=SEP, chunk_size=10, stride=8
    )
    again = FirstAndLastChunks(ends, cls_token_id=CLS, sep_token_id=SEP, chunk_size=10, stride=8)
    assert again.chunk_lengths.tolist() == ends.chunk_lengths.tolist()
    for index in range(len(LENGTHS)):
        pairs = zip(again.chunks(index), ends.chunks(index), strict=True)
        assert all(np.array_equal(one, other) for one, other in pairs)


def test_batches_take_them():
    labels = np.arange(len(LENGTHS)) % 2
    ends = FirstAndLastChunks(
        documents_of_lengths(LENGTHS, labels=labels, label_names=("a", "b")),
        cls_token_id=CLS,
        sep_token_id=SEP,
        chunk_size=10,
        stride=8,
    )
    batches = DocumentBatches(
        ends,
        cls_token_id=CLS,
        sep_token_id=SEP,
        pad_token_id=PAD,
        chunk_size=10,
        stride=8,
        max_chunks=2,
        samples_per_step=1,
        tokens_per_micro_batch=100,
        seed=0,
    )
    seen = {
        int(sample): int(count)
        for batch in batches.evaluation()
        for sample, count in zip(batch.sample_indices, batch.chunk_counts, strict=True)
    }
    assert seen == {index: len(ends.chunks(index)) for index in range(len(LENGTHS))}

"""How every document of a split is cut into chunks, worked out at once from lengths alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from textclf_transformer.data.chunking import (
    SPECIAL_TOKENS_PER_ROW,
    Coverage,
    chunk_counts,
    coverage,
    tokens_read,
)
from textclf_transformer.data.documents import ChunkedDocuments, Documents, Int64Array, has_preset_chunks
from textclf_transformer.errors import DataError


@dataclass(frozen=True, slots=True)
class ChunkPlan:
    """The chunks of documents.

    Attributes:
        chunk_counts: int64 (documents,), chunks of each.
        widths: int64 (documents,), tokens of the longest chunk of each, [CLS] and [SEP] included.
        tokens_per_document: int64 (documents,), the real tokens in all its chunks: [CLS], [SEP] and the
            overlap of chunks included.
        coverage: how many content tokens are read and how many are dropped.
    """

    chunk_counts: Int64Array
    widths: Int64Array
    tokens_per_document: Int64Array
    coverage: Coverage


def plan_chunks(documents: Documents, *, chunk_size: int, stride: int, max_chunks: int) -> ChunkPlan:
    """Return how ``documents`` are cut; chunks that the file itself gives are used as they are.

    Args:
        documents: at least one.
        chunk_size: tokens of the longest chunk, [CLS] and [SEP] included.
        stride: content tokens from one chunk's start to the next; not used where the file gives the chunks.
        max_chunks: chunks of a document that are read.

    Raises:
        ConfigError: see ``check_chunking``.
        DataError: a given chunk is longer than ``chunk_size``.
    """
    if has_preset_chunks(documents):
        return _plan_given_chunks(documents, chunk_size=chunk_size, max_chunks=max_chunks)
    chunking = {"chunk_size": chunk_size, "stride": stride, "max_chunks": max_chunks}
    lengths, capacity = documents.lengths, chunk_size - SPECIAL_TOKENS_PER_ROW
    counts = chunk_counts(lengths, **chunking)
    # every chunk but the last is full, and repeats what the next one begins with
    overlap = (capacity - stride) * (counts - 1)
    return ChunkPlan(
        chunk_counts=counts,
        widths=np.minimum(lengths, capacity) + SPECIAL_TOKENS_PER_ROW,
        tokens_per_document=tokens_read(lengths, **chunking) + overlap + SPECIAL_TOKENS_PER_ROW * counts,
        coverage=coverage(lengths, **chunking),
    )


def _plan_given_chunks(documents: ChunkedDocuments, *, chunk_size: int, max_chunks: int) -> ChunkPlan:
    """Plan the chunks of the file; ``coverage`` then counts special tokens, too."""
    read = documents.chunk_lengths[:, :max_chunks]
    widths = read.max(axis=1)
    if widths.max() > chunk_size:
        document, chunk = np.argwhere(read > chunk_size)[0]
        raise DataError(
            "chunk is longer than chunk_size",
            where=f"{documents.path}: row {document}, chunk {chunk}",
            found=f"{read[document, chunk]} tokens",
            expected=f"at most {chunk_size}",
            mend="3-D ids are used as given: make shorter chunks, or give 2-D ids and have them divided",
        )
    return ChunkPlan(
        chunk_counts=(read > 0).sum(axis=1),
        widths=widths,
        tokens_per_document=read.sum(axis=1),
        coverage=Coverage(
            documents=len(documents),
            documents_cut=int((documents.chunk_lengths[:, max_chunks:].sum(axis=1) > 0).sum()),
            tokens=int(documents.chunk_lengths.sum()),
            tokens_read=int(read.sum()),
        ),
    )

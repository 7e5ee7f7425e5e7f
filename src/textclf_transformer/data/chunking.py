"""How long documents become pieces of bounded length: chunks for classification, rows for pretraining.

Everything here is arithmetic on document lengths, counted in content tokens ([CLS] and [SEP] apart), and
vectorised over documents, so that a store of ten million documents is planned without a loop over them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from textclf_transformer.data.documents import Int64Array
from textclf_transformer.errors import ConfigError

SPECIAL_TOKENS_PER_ROW = 2
"""[CLS] in front and [SEP] at the end of every chunk and every pretraining row."""

# Far more than any encoder reads.
_MOST_TOKENS = 1 << 20

MOST_CHUNKS = 2**63 - 1
"""The largest ``max_chunks`` that is taken: all chunks of any document. A larger one fits into no array."""


def check_chunking(*, chunk_size: int, stride: int, max_chunks: int) -> None:
    """Refuse chunks that would hold no token, never advance, or skip tokens between one another.

    Raises:
        ConfigError: ``chunk_size`` < 3, ``stride`` outside 1..chunk_size − 2, ``max_chunks`` < 1, or one of
            them is absurdly large.
    """
    if chunk_size > _MOST_TOKENS:
        raise ConfigError(
            "chunking.chunk_size is too large", found=chunk_size, expected=f"at most {_MOST_TOKENS:,}"
        )
    capacity = chunk_size - SPECIAL_TOKENS_PER_ROW
    if capacity < 1:
        raise ConfigError(
            "chunking.chunk_size is too small",
            found=chunk_size,
            expected="3 or more ([CLS], one token, [SEP])",
        )
    if not 1 <= stride <= capacity:
        raise ConfigError(
            "chunking.stride is out of range",
            found=stride,
            expected=f"1 to chunk_size − 2 = {capacity}",
            mend="a smaller stride makes chunks overlap; a larger one would skip tokens",
        )
    if max_chunks < 1:
        raise ConfigError("chunking.max_chunks is too small", found=max_chunks, expected="1 or more")
    if max_chunks > MOST_CHUNKS:
        raise ConfigError(
            "chunking.max_chunks is too large", found=max_chunks, expected=f"at most {MOST_CHUNKS}"
        )


def chunk_spans(length: int, *, chunk_size: int, stride: int, max_chunks: int) -> list[tuple[int, int]]:
    """Return the content spans ``(start, stop)`` of a document's chunks.

    A chunk holds up to ``chunk_size − 2`` content tokens and begins ``stride`` tokens after the one before;
    the first chunk that reaches the end is the last, and there are at most ``max_chunks``. A document without
    tokens has one empty chunk.

    Raises:
        ConfigError: see ``check_chunking``.
    """
    count = int(chunk_counts(length, chunk_size=chunk_size, stride=stride, max_chunks=max_chunks))
    capacity = chunk_size - SPECIAL_TOKENS_PER_ROW
    return [(start, min(start + capacity, length)) for start in range(0, count * stride, stride)]


def chunk_counts(lengths: ArrayLike, *, chunk_size: int, stride: int, max_chunks: int) -> Int64Array:
    """Return how many chunks each document has: int64, of the shape of ``lengths``.

    Raises:
        ConfigError: see ``check_chunking``.
    """
    check_chunking(chunk_size=chunk_size, stride=stride, max_chunks=max_chunks)
    beyond_first = np.maximum(np.asarray(lengths, dtype=np.int64) - (chunk_size - SPECIAL_TOKENS_PER_ROW), 0)
    return np.minimum(1 + -(-beyond_first // stride), max_chunks)


def tokens_read(lengths: Int64Array, *, chunk_size: int, stride: int, max_chunks: int) -> Int64Array:
    """Return how many of each document's content tokens stand in a chunk: int64 (documents,).

    Raises:
        ConfigError: see ``check_chunking``.
    """
    counts = chunk_counts(lengths, chunk_size=chunk_size, stride=stride, max_chunks=max_chunks)
    return np.minimum(lengths, (counts - 1) * stride + chunk_size - SPECIAL_TOKENS_PER_ROW)


@dataclass(frozen=True)
class Coverage:
    """How much of a split's documents is read.

    Attributes:
        documents: number of documents.
        documents_cut: how many of them lose tokens.
        tokens: content tokens in all documents; each counts once, however many chunks hold it.
        tokens_read: how many of them stand in at least one chunk.
    """

    documents: int
    documents_cut: int
    tokens: int
    tokens_read: int

    @property
    def tokens_dropped(self) -> int:
        """Content tokens that stand in no chunk."""
        return self.tokens - self.tokens_read


def coverage(lengths: Int64Array, *, chunk_size: int, stride: int, max_chunks: int) -> Coverage:
    """Return how many tokens of documents of these ``lengths`` (documents,) are read and how many dropped.

    Raises:
        ConfigError: see ``check_chunking``.
    """
    read = tokens_read(lengths, chunk_size=chunk_size, stride=stride, max_chunks=max_chunks)
    return Coverage(
        documents=len(lengths),
        documents_cut=int((read < lengths).sum()),
        tokens=int(lengths.sum()),
        tokens_read=int(read.sum()),
    )


@dataclass(frozen=True)
class SequenceSpans:
    """The pretraining rows of documents: consecutive spans of their content tokens.

    All rows of a document but the last are full. Nothing is stored per row: which document a row belongs to
    follows from ``first_rows`` by bisection.

    Attributes:
        document_lengths: content tokens of each document, int64 (documents,).
        first_rows: number of the first row of each document, then that of all rows, int64 (documents + 1,).
        capacity: content tokens of a full row.
    """

    document_lengths: Int64Array
    first_rows: Int64Array
    capacity: int

    def __len__(self) -> int:
        return int(self.first_rows[-1])

    def locate(self, rows: Int64Array) -> tuple[Int64Array, Int64Array, Int64Array]:
        """Return document, start and stop (content positions) of these rows, each int64 of their shape."""
        documents = np.searchsorted(self.first_rows, rows, side="right") - 1
        starts = (rows - self.first_rows[documents]) * self.capacity
        return documents, starts, np.minimum(starts + self.capacity, self.document_lengths[documents])


def sequence_spans(lengths: Int64Array, *, max_sequence_length: int) -> SequenceSpans:
    """Divide documents of these ``lengths`` (documents,) into rows of at most ``max_sequence_length`` tokens.

    Every content token stands in one row. A document without tokens has no row.

    Raises:
        ConfigError: ``max_sequence_length`` < 3.
    """
    capacity = max_sequence_length - SPECIAL_TOKENS_PER_ROW
    if capacity < 1:
        raise ConfigError(
            "architecture.max_sequence_length is too small",
            found=max_sequence_length,
            expected="3 or more ([CLS], one token, [SEP])",
        )
    first_rows = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(-(-lengths // capacity), out=first_rows[1:])
    return SequenceSpans(document_lengths=lengths, first_rows=first_rows, capacity=capacity)

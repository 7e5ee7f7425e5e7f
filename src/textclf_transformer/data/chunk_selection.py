"""The first and the last chunk of each document, as documents of their own: what a truncating rival reads."""

from __future__ import annotations

import numpy as np

from textclf_transformer.data.chunking import MOST_CHUNKS, SPECIAL_TOKENS_PER_ROW, chunk_counts
from textclf_transformer.data.collate import add_special_tokens
from textclf_transformer.data.documents import Documents, Int64Array, has_preset_chunks


class FirstAndLastChunks:
    """``documents`` reduced to their first and their very last chunk ("head + tail" of Sun et al. 2019).

    The last chunk is that of the whole document, whether or not ``max_chunks`` would reach it. A document of
    one chunk keeps that one. An implementation of ``documents.ChunkedDocuments``.

    Args:
        documents: what to reduce.
        cls_token_id: begins every chunk.
        sep_token_id: ends every chunk.
        chunk_size: tokens of the longest chunk, [CLS] and [SEP] included.
        stride: content tokens from one chunk's start to the next.
    """

    preset_chunks = True

    def __init__(
        self, documents: Documents, *, cls_token_id: int, sep_token_id: int, chunk_size: int, stride: int
    ) -> None:
        self._documents = documents
        self._cls_token_id = cls_token_id
        self._sep_token_id = sep_token_id
        self._capacity = chunk_size - SPECIAL_TOKENS_PER_ROW
        self.path = documents.path
        self.lengths = documents.lengths
        self.labels = documents.labels
        self.label_names = documents.label_names
        self.vocab_size = documents.vocab_size
        self.tokenizer_fingerprint = documents.tokenizer_fingerprint
        self.fingerprint = documents.fingerprint
        self._last_starts = stride * (
            chunk_counts(documents.lengths, chunk_size=chunk_size, stride=stride, max_chunks=MOST_CHUNKS) - 1
        )
        self.chunk_lengths: Int64Array = self._chunk_lengths()

    def __len__(self) -> int:
        return len(self._documents)

    def tokens(self, index: int, start: int = 0, stop: int | None = None) -> Int64Array:
        """Return the content tokens of a whole document, int64 (tokens,), or from ``start`` to ``stop``."""
        return self._documents.tokens(index, start, stop)

    def chunks(self, index: int) -> list[Int64Array]:
        """Return the first and, where there are several, the last chunk, each int64 (tokens,)."""
        if has_preset_chunks(self._documents):
            given = self._documents.chunks(index)
            return given if len(given) == 1 else [given[0], given[-1]]
        parts = [self._documents.tokens(index, 0, self._capacity)]
        if self._last_starts[index]:
            parts.append(self._documents.tokens(index, int(self._last_starts[index])))
        return [
            add_special_tokens(part, cls_token_id=self._cls_token_id, sep_token_id=self._sep_token_id)
            for part in parts
        ]

    def verify_unchanged(self) -> None:
        """Raise DataError if the files were cut off or removed since they were opened."""
        self._documents.verify_unchanged()

    def _chunk_lengths(self) -> Int64Array:
        """Return the tokens of both chunks, int64 (documents, 2); 0 where there is one only."""
        if has_preset_chunks(self._documents):
            given = self._documents.chunk_lengths
            counts = (given > 0).sum(axis=1)
            last = given[np.arange(len(given)), counts - 1]
            return np.stack([given[:, 0], np.where(counts > 1, last, 0)], axis=1)
        lengths = self._documents.lengths
        first = np.minimum(lengths, self._capacity) + SPECIAL_TOKENS_PER_ROW
        last = np.where(self._last_starts > 0, lengths - self._last_starts + SPECIAL_TOKENS_PER_ROW, 0)
        return np.stack([first, last], axis=1)

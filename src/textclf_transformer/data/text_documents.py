"""Documents tokenised in memory: text from a file, from stdin or from Python, without a store on disk."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Self

import numpy as np
from numpy.typing import NDArray

from textclf_transformer.data.documents import Documents, Int64Array
from textclf_transformer.data.encoding import EncodedBatch, encode_stream
from textclf_transformer.data.store import Store
from textclf_transformer.data.store_labels import LabelCodes
from textclf_transformer.data.text_files import Document
from textclf_transformer.errors import DataError
from textclf_transformer.tokenizer.base import TokenizerWrapper

TOKEN_DTYPE = np.dtype(np.uint32)


class TextDocuments:
    """Tokenised documents that keep their text; an implementation of ``documents.Documents``.

    Args:
        path: where they come from, for messages.
        documents: as they were read.
        tokens: content tokens of all of them, one after the other.
        lengths: content tokens of each, int64 (documents,).
        spans: characters of each token, (tokens, 2); None where nobody asks for them.
        labels: int64 (documents,), or 0/1 of (documents, L); None without labels.
        label_names: the names of labels 0, 1, …; None without labels.
        tokenizer: the one that made the tokens.
    """

    preset_chunks = False

    def __init__(
        self,
        *,
        path: str,
        documents: Sequence[Document],
        tokens: NDArray[np.unsignedinteger],
        lengths: Int64Array,
        spans: NDArray[np.uint32] | None,
        labels: Int64Array | None,
        label_names: tuple[str, ...] | None,
        tokenizer: TokenizerWrapper,
    ) -> None:
        self.path = path
        self.lengths = lengths
        self.labels = labels
        self.label_names = label_names
        self.vocab_size = tokenizer.vocab_size
        self.tokenizer_fingerprint = tokenizer.fingerprint
        self._documents = documents
        self._tokens = tokens
        self._spans = spans
        self._offsets = np.concatenate(([0], np.cumsum(lengths)))

    @classmethod
    def from_batch(cls, batch: EncodedBatch, tokenizer: TokenizerWrapper, *, path: str) -> Self:
        """Return the documents of one tokenised batch, without their labels."""
        return cls(
            path=path,
            documents=batch.documents,
            tokens=batch.tokens,
            lengths=batch.lengths,
            spans=batch.spans,
            labels=None,
            label_names=None,
            tokenizer=tokenizer,
        )

    @classmethod
    def read(
        cls, documents: Iterable[Document], tokenizer: TokenizerWrapper, *, multi_label: bool, path: str
    ) -> Self:
        """Tokenise labelled ``documents``; they are held in memory with their text.

        Raises:
            DataError: there is no document, one has no tokens, or a label is faulty.
        """
        codes = LabelCodes(multi_label=multi_label, names=None)
        batches = list(encode_stream(documents, tokenizer, token_dtype=TOKEN_DTYPE, with_text=False))
        kept = [document for batch in batches for document in batch.documents]
        if not kept:
            raise DataError("there are no documents", where=path)
        for document in kept:
            codes.add(document)
        label_names, labels = codes.finish()
        return cls(
            path=path,
            documents=kept,
            tokens=np.concatenate([batch.tokens for batch in batches]),
            lengths=np.concatenate([batch.lengths for batch in batches]),
            spans=None,
            labels=labels,
            label_names=label_names,
            tokenizer=tokenizer,
        )

    @property
    def fingerprint(self) -> str:
        """Hash of tokens and lengths."""
        digest = blake2b(np.ascontiguousarray(self._tokens).data, digest_size=16)
        digest.update(np.ascontiguousarray(self.lengths).data)
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self._documents)

    def tokens(self, index: int, start: int = 0, stop: int | None = None) -> Int64Array:
        """Return the content tokens of one document, int64 (tokens,), or those from ``start`` to ``stop``."""
        return self._tokens[self._offsets[index] : self._offsets[index + 1]][start:stop].astype(np.int64)

    def offsets(self, index: int) -> NDArray[np.uint32]:
        """Return where each token of a document stands in its text, (tokens, 2): first character, one past
        the last.

        Raises:
            ValueError: the documents were tokenised without places.
        """
        if self._spans is None:
            raise ValueError("the documents were tokenised without the tokens' places")
        return self._spans[self._offsets[index] : self._offsets[index + 1]]

    def text(self, index: int) -> str:
        """Return the text of one document."""
        return self._documents[index].text

    def document_id(self, index: int) -> str:
        """Return the id of one document."""
        return self._documents[index].id

    def verify_unchanged(self) -> None:
        """Do nothing: no file is behind documents in memory."""


def document_id(documents: Documents, index: int) -> str:
    """Return the id of one document; its row, from 0, where the file keeps no ids (``.pt``)."""
    if isinstance(documents, Store | TextDocuments):
        return documents.document_id(index)
    return str(index)


def has_text(documents: Documents) -> bool:
    """Whether ``document_text`` can be asked for."""
    return isinstance(documents, TextDocuments) or (isinstance(documents, Store) and documents.has_text)


def document_text(documents: Documents, index: int) -> str:
    """Return the text of one document; DataError if the documents do not keep their text."""
    if not isinstance(documents, Store | TextDocuments):
        raise DataError("these documents have no text", where=documents.path)
    return documents.text(index)


def document_texts(documents: Documents) -> list[str]:
    """Return the text of every document; DataError if the documents do not keep their text."""
    return [document_text(documents, index) for index in range(len(documents))]

"""Documents as the audit reads them: from a token store, a ``.pt`` file or text files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from textclf_transformer.data.corpus import Corpus
from textclf_transformer.data.documents import Documents
from textclf_transformer.data.encoding import encode_stream
from textclf_transformer.data.opening import open_documents
from textclf_transformer.data.store import Store
from textclf_transformer.data.store_labels import labels_of
from textclf_transformer.data.text_files import Document
from textclf_transformer.data.words import words_of
from textclf_transformer.tokenizer.base import TokenizerWrapper

Unit = Literal["tokens", "words"]


@dataclass(frozen=True, slots=True)
class AuditDocument:
    """One document.

    Attributes:
        units: token ids, or numbers of words, that are equal where the words are: (units,), never empty.
        text: None where it is not kept.
        labels: None without labels.
        id: its id.
        group: None without a group.
    """

    units: NDArray[np.integer]
    text: str | None
    labels: tuple[str, ...] | None
    id: str
    group: str | None


class AuditInput(Protocol):
    """The documents of one split; each pass reads them anew."""

    @property
    def path(self) -> str:
        """The folder or files, for messages."""

    @property
    def unit(self) -> Unit:
        """What ``AuditDocument.units`` are."""

    @property
    def unk_token_id(self) -> int | None:
        """Id of the unknown token; None where units are words."""

    @property
    def empty(self) -> int:
        """Documents without text that the last pass left out."""

    def __iter__(self) -> Iterator[AuditDocument]: ...


class StoreInput:
    """The documents of a token store; an implementation of ``AuditInput``."""

    unit: Unit = "tokens"
    empty = 0  # prepare writes no empty ones

    def __init__(self, folder: Path) -> None:
        self._store = Store.open(folder)
        self.path = str(folder)
        self.unk_token_id = self._store.header.special_token_ids["unk"]
        self.tokenizer_fingerprint = self._store.tokenizer_fingerprint

    def __iter__(self) -> Iterator[AuditDocument]:
        """Yield the documents in their order; DataError where a file is damaged."""
        store = self._store
        for index in range(len(store)):
            yield AuditDocument(
                units=store.tokens(index),
                text=store.text(index) if store.has_text else None,
                labels=_label_names(store, index),
                id=store.document_id(index),
                group=store.group(index),
            )


class TensorInput:
    """The documents of a ``.pt`` file; an implementation of ``AuditInput``.

    Args:
        path: the file; a document's id is the file's name and its row, from 0.
        tokenizer: the one that made the tokens.

    Raises:
        DataError: the file is not there or faulty.
    """

    unit: Unit = "tokens"
    empty = 0  # such a file is refused

    def __init__(self, path: Path, tokenizer: TokenizerWrapper) -> None:
        self._documents = open_documents(path, tokenizer=tokenizer)
        self.path = str(path)
        self.unk_token_id = tokenizer.unk_token_id

    def __iter__(self) -> Iterator[AuditDocument]:
        """Yield the documents in their order, the content of given chunks in a row."""
        for index in range(len(self._documents)):
            yield AuditDocument(
                units=self._documents.tokens(index),
                text=None,
                labels=_label_names(self._documents, index),
                id=f"{Path(self.path).stem}:{index}",
                group=None,
            )


def _label_names(documents: Documents, index: int) -> tuple[str, ...] | None:
    """Return the names of one document's labels, None where there are no labels."""
    labels, names = documents.labels, documents.label_names
    if labels is None or names is None:
        return None
    places = np.flatnonzero(labels[index]) if labels.ndim == 2 else [labels[index]]
    return tuple(names[int(place)] for place in places)


class TextInput:
    """The documents of text files; an implementation of ``AuditInput``.

    Args:
        corpus: reads them; one that skips empty documents counts them here.
        path: what it reads, for messages.
        multi_label: whether a document carries any number of labels.
        tokenizer: counts in tokens; None: in words, divided at spaces.
        word_numbers: number of each word so far; to be shared by splits that are compared.
    """

    def __init__(
        self,
        corpus: Corpus,
        *,
        path: str,
        multi_label: bool,
        tokenizer: TokenizerWrapper | None,
        word_numbers: dict[str, int],
    ) -> None:
        self.path = path
        self.unit: Unit = "words" if tokenizer is None else "tokens"
        self.unk_token_id = None if tokenizer is None else tokenizer.unk_token_id
        self._corpus = corpus
        self._multi_label = multi_label
        self._tokenizer = tokenizer
        self._word_numbers = word_numbers

    @property
    def empty(self) -> int:
        """Documents without text that the last pass left out."""
        return self._corpus.skipped

    def __iter__(self) -> Iterator[AuditDocument]:
        """Yield the documents in their order.

        Raises:
            DataError: as ``Corpus`` does, or a label is faulty, or a document has no tokens.
        """
        if self._tokenizer is None:
            for document in self._corpus:
                numbers = self._word_numbers
                words = [numbers.setdefault(word, len(numbers)) for word in words_of(document.text)]
                yield self._document(document, np.array(words, dtype=np.int64))
            return
        dtype = np.dtype(np.uint32)
        for batch in encode_stream(self._corpus, self._tokenizer, token_dtype=dtype, with_text=False):
            stops = np.cumsum(batch.lengths)
            for document, start, stop in zip(batch.documents, stops - batch.lengths, stops, strict=True):
                yield self._document(document, batch.tokens[start:stop])

    def _document(self, document: Document, units: NDArray[np.integer]) -> AuditDocument:
        labels = labels_of(document, multi_label=self._multi_label)
        return AuditDocument(units, document.text, labels, document.id, document.group)

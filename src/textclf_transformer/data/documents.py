"""The one interface of tokenised documents, and what can be said of any of them: label order and overlap.

Everything that comes after the data files (chunking, sampling, collating) works with ``Documents`` and does
not know whether the tokens lie in a memory-mapped store or in a ``.pt`` file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Protocol, TypeGuard

import numpy as np
from numpy.typing import NDArray

from textclf_transformer.errors import DataError, listed

Int64Array = NDArray[np.int64]
UInt64Array = NDArray[np.uint64]


class Documents(Protocol):
    """Tokenised documents: content tokens only, no [CLS], [SEP] or padding."""

    @property
    def path(self) -> str:
        """The file or folder, for messages."""

    @property
    def lengths(self) -> Int64Array:
        """Content tokens of each document, int64 (documents,)."""

    @property
    def labels(self) -> Int64Array | None:
        """int64 (documents,), or 0/1 of (documents, L) where documents carry several; None without labels."""

    @property
    def label_names(self) -> tuple[str, ...] | None:
        """The names of labels 0, 1, …; None without labels."""

    @property
    def vocab_size(self) -> int | None:
        """Size of the vocabulary that the tokens come from, where the file knows it."""

    @property
    def tokenizer_fingerprint(self) -> str | None:
        """Fingerprint of the tokenizer that made the tokens, where the file knows it."""

    @property
    def fingerprint(self) -> str:
        """Hash of the content, to see whether data changed between two runs."""

    @property
    def preset_chunks(self) -> bool:
        """Whether the file itself divides documents into chunks (``ChunkedDocuments``)."""

    def __len__(self) -> int: ...

    def tokens(self, index: int, start: int = 0, stop: int | None = None) -> Int64Array:
        """Return the content tokens of one document, int64 (tokens,), or those from ``start`` to ``stop``."""

    def verify_unchanged(self) -> None:
        """Raise DataError if the files were cut off or removed since they were opened."""


class ChunkedDocuments(Documents, Protocol):
    """Documents whose chunks are given by the file and used as they are, special tokens included."""

    @property
    def chunk_lengths(self) -> Int64Array:
        """Real tokens of each chunk, int64 (documents, C); 0, after the real ones, where there is none."""

    def chunks(self, index: int) -> list[Int64Array]:
        """Return the real chunks of one document, each int64 (tokens,)."""


def has_preset_chunks(documents: Documents) -> TypeGuard[ChunkedDocuments]:
    """Return whether the chunks of these documents are given by the file."""
    return documents.preset_chunks


def align_labels(documents: Documents, label_names: Sequence[str]) -> Int64Array | None:
    """Return the labels of ``documents`` numbered in the order of ``label_names``, None without labels.

    Two splits prepared apart may number the same names differently; a model has one order, and names decide.

    Returns:
        int64 (documents,), or 0/1 of (documents, len(label_names)) where documents carry several labels.

    Raises:
        DataError: a label that is used has a name that ``label_names`` lacks; document and name are given.
    """
    labels = documents.labels
    if labels is None:
        return None
    own_names = documents.label_names or ()
    if tuple(own_names) == tuple(label_names):
        return labels
    position = {name: index for index, name in enumerate(label_names)}
    target = np.array([position.get(name, -1) for name in own_names], dtype=np.int64)
    if labels.ndim == 1:
        unknown = np.flatnonzero(target[labels] < 0)
        if unknown.size:
            raise _unknown_label(documents, int(unknown[0]), own_names[labels[unknown[0]]], label_names)
        return target[labels]
    rows, columns = np.nonzero(labels)
    unknown = np.flatnonzero(target[columns] < 0)
    if unknown.size:
        first = unknown[0]
        raise _unknown_label(documents, int(rows[first]), own_names[columns[first]], label_names)
    aligned = np.zeros((len(labels), len(label_names)), dtype=np.int64)
    aligned[rows, target[columns]] = 1
    return aligned


def _unknown_label(documents: Documents, row: int, name: str, label_names: Sequence[str]) -> DataError:
    return DataError(
        "label is not among the labels of the training data",
        where=f"{documents.path}: labels, row {row}",
        found=repr(name),
        expected=f"one of {listed([repr(name) for name in label_names], at_most=10)}",
        mend="make both splits with the same labels, or take such documents out",
    )


def check_label_kind(documents: Documents, *, multi_label: bool, others: str, where: str) -> None:
    """Refuse documents with one label each beside ``others`` that carry several, and the other way round.

    Args:
        documents: labelled.
        multi_label: whether the others carry any number of labels.
        others: what they are called in the message.
        where: what ``documents`` are called there.

    Raises:
        DataError: they are labelled in another way.
    """
    words = {True: "any number of labels a document", False: "one label a document"}
    several = documents.labels is not None and documents.labels.ndim == 2
    if several != multi_label:
        raise DataError(
            f"the documents are labelled in another way than those of {others}",
            where=where,
            found=words[several],
            expected=words[multi_label],
            mend="prepare both with --multi-label, or both without",
        )


def overlap(digests_a: UInt64Array, digests_b: UInt64Array) -> int:
    """Return how many documents have the very tokens of some document of the others.

    Args:
        digests_a: of the documents that are counted, see ``digests``.
        digests_b: of the others.
    """
    return int(np.isin(digests_a, digests_b).sum())


def digests(documents: Documents) -> UInt64Array:
    """Return a hash of the content tokens of each document, uint64 (documents,); 18 s for a million.

    With 10 million documents on either side one false match is expected in about 200,000 comparisons.
    """
    return np.fromiter(_digests(documents), dtype=np.uint64, count=len(documents))


def _digests(documents: Documents) -> Iterator[int]:
    for index in range(len(documents)):
        tokens = np.ascontiguousarray(documents.tokens(index), dtype="<i8")
        yield int.from_bytes(blake2b(tokens.data, digest_size=8).digest(), "little")

"""Documents from a ``.pt`` file of tensors, checked from end to end before anything is trained on them.

The file holds a ``TensorDataset`` or a dict of ``input_ids`` int64 (documents, tokens) or (documents, chunks,
tokens), ``attention_mask`` bool of the same shape, True = PAD, and perhaps ``labels`` (documents,) or, where
documents carry several, 0/1 of (documents, L). In the flat form the special tokens at a row's ends are
stripped and the text is chunked like any other; in the 3-D form the chunks are used as given.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import TensorDataset

from textclf_transformer.data.documents import Int64Array
from textclf_transformer.data.tensor_checks import (
    Location,
    check_attention_mask,
    check_input_ids,
    check_labels,
    check_no_empty_rows,
    check_types_and_shapes,
)
from textclf_transformer.errors import DataError
from textclf_transformer.safe_load import safe_load

TENSOR_NAMES = ("input_ids", "attention_mask", "labels")


class TensorDocuments:
    """Documents of a ``.pt`` file with 2-D ids; ``ChunkedTensorDocuments`` has those of 3-D ids.

    ``open`` reads either. See ``Documents`` for the attributes; labels are named "0", "1", …
    """

    preset_chunks = False
    tokenizer_fingerprint = None
    vocab_size = None

    def __init__(
        self,
        *,
        path: str,
        tokens: NDArray[np.int32],
        offsets: Int64Array,
        labels: Int64Array | None,
    ) -> None:
        self.path = path
        self.labels = labels
        self.label_names = None if labels is None else _numbered_names(labels)
        self.lengths: Int64Array = np.diff(offsets)
        self._tokens = tokens
        self._offsets = offsets
        self.fingerprint = _fingerprint(tokens, offsets, labels)

    @staticmethod
    def open(
        path: Path,
        *,
        cls_token_id: int,
        sep_token_id: int,
        pad_token_id: int,
        vocab_size: int,
    ) -> TensorDocuments:
        """Read and check a ``.pt`` file whose ids come from a tokenizer with these ids.

        Raises:
            DataError: the file cannot be read safely, or something in it is not as the module's docstring
                says; file, row and column (from 0) are named.
        """
        content = safe_load(path, error=DataError)
        tensors = check_types_and_shapes(_named_tensors(content, path=path), path=path)
        ids: Int64Array = tensors["input_ids"].numpy()
        padding: NDArray[np.bool_] = tensors["attention_mask"].numpy()
        at = Location(path=path, names=("row", "column") if ids.ndim == 2 else ("row", "chunk", "column"))
        check_attention_mask(ids, padding, pad_token_id=pad_token_id, at=at)
        check_input_ids(ids, padding, vocab_size=vocab_size, at=at)
        labels = check_labels(tensors["labels"], path=path) if "labels" in tensors else None
        ends = (cls_token_id, sep_token_id)
        if ids.ndim == 3:
            return ChunkedTensorDocuments.from_arrays(ids, padding, labels=labels, ends=ends, at=at)
        tokens, offsets = _content(ids[~padding].astype(np.int32), (~padding).sum(axis=1), ends=ends)
        check_no_empty_rows(np.diff(offsets), at=at)
        return TensorDocuments(path=str(path), tokens=tokens, offsets=offsets, labels=labels)

    def __len__(self) -> int:
        return len(self.lengths)

    def tokens(self, index: int, start: int = 0, stop: int | None = None) -> Int64Array:
        """Return the content tokens of one document, int64 (tokens,), or those from ``start`` to ``stop``."""
        return self._tokens[self._offsets[index] : self._offsets[index + 1]][start:stop].astype(np.int64)

    def verify_unchanged(self) -> None:
        """Do nothing: all that is read later is in memory."""


class ChunkedTensorDocuments(TensorDocuments):
    """Documents of a ``.pt`` file with 3-D ids, see ``ChunkedDocuments``.

    ``tokens`` of a document, which pretraining reads, are those of its chunks in a row, without the special
    tokens at each chunk's ends; where chunks overlap, the overlap stands there twice.
    """

    preset_chunks = True

    def __init__(
        self,
        *,
        path: str,
        tokens: NDArray[np.int32],
        offsets: Int64Array,
        labels: Int64Array | None,
        chunk_tokens: NDArray[np.int32],
        chunk_lengths: Int64Array,
    ) -> None:
        super().__init__(path=path, tokens=tokens, offsets=offsets, labels=labels)
        self.chunk_lengths = chunk_lengths
        self._chunk_tokens = chunk_tokens
        self._chunk_offsets = np.concatenate(([0], np.cumsum(chunk_lengths.sum(axis=1))))
        self.fingerprint = _fingerprint(chunk_tokens, chunk_lengths, labels)

    @classmethod
    def from_arrays(
        cls,
        ids: Int64Array,
        padding: NDArray[np.bool_],
        *,
        labels: Int64Array | None,
        ends: tuple[int, int],
        at: Location,
    ) -> ChunkedTensorDocuments:
        """Pack checked ids and mask (documents, chunks, tokens); ``ends`` are the ids of [CLS] and [SEP]."""
        chunk_tokens = ids[~padding].astype(np.int32)
        given_lengths = (~padding).sum(axis=2)
        tokens, chunk_offsets = _content(chunk_tokens, given_lengths.ravel(), ends=ends)
        offsets = chunk_offsets[:: ids.shape[1]]
        check_no_empty_rows(np.diff(offsets), at=at)
        # a padding chunk among the real ones is left out like those after them
        order = np.argsort(given_lengths == 0, axis=1, kind="stable")
        return cls(
            path=str(at.path),
            tokens=tokens,
            offsets=offsets,
            labels=labels,
            chunk_tokens=chunk_tokens,
            chunk_lengths=np.take_along_axis(given_lengths, order, axis=1),
        )

    def chunks(self, index: int) -> list[Int64Array]:
        """Return the real chunks of one document as given, each int64 (tokens,)."""
        start, stop = self._chunk_offsets[index : index + 2]
        lengths = self.chunk_lengths[index]
        boundaries = np.cumsum(lengths[lengths > 0])[:-1]
        return np.split(self._chunk_tokens[start:stop].astype(np.int64), boundaries)


def _named_tensors(content: object, *, path: Path) -> dict[str, object]:
    """Return the tensors of a file by name, whichever of the two forms it has."""
    forms = "a TensorDataset or a dict of input_ids, attention_mask and perhaps labels"
    if isinstance(content, TensorDataset):
        tensors = getattr(content, "tensors", ())  # a forged file may lack them
        if not isinstance(tensors, tuple) or not 2 <= len(tensors) <= 3:
            found = len(tensors) if isinstance(tensors, tuple) else type(tensors).__name__
            raise DataError("wrong number of tensors", where=str(path), found=found, expected=forms)
        return dict(zip(TENSOR_NAMES, tensors, strict=False))
    if not isinstance(content, Mapping):
        raise DataError(
            "file has another content", where=str(path), found=type(content).__name__, expected=forms
        )
    missing = [name for name in TENSOR_NAMES[:2] if name not in content]
    if missing:
        raise DataError(
            f"tensor {missing[0]} is missing",
            where=str(path),
            found=", ".join(map(str, content)) or "an empty dict",
            expected=forms,
        )
    extra = [str(name) for name in content if name not in TENSOR_NAMES]
    if extra:
        raise DataError(
            "file has tensors that are not read",
            where=str(path),
            found=", ".join(extra),
            expected=forms,
            mend="take them out, so that nothing is left out in silence",
        )
    return {str(name): tensor for name, tensor in content.items()}


def _content(
    tokens: NDArray[np.int32], row_lengths: Int64Array, *, ends: tuple[int, int]
) -> tuple[NDArray[np.int32], Int64Array]:
    """Strip the special tokens at each row's ends.

    Args:
        tokens: the real tokens of all rows, (tokens,).
        row_lengths: how many of them belong to each row, (rows,).
        ends: the ids that are stripped, those of [CLS] and [SEP]; within a row they stay.

    Returns:
        The tokens that stay, (tokens,), and where each row begins, int64 (rows + 1,).
    """
    row_offsets = np.concatenate(([0], np.cumsum(row_lengths)))
    # positions of tokens that are no ends: a row's content reaches from its first to its last one
    inner = np.flatnonzero(~np.isin(tokens, ends))
    first_inner = np.searchsorted(inner, row_offsets)
    has_content = np.diff(first_inner) > 0
    edges = np.zeros(len(tokens) + 1, dtype=np.int8)
    edges[inner[first_inner[:-1][has_content]]] += 1
    edges[inner[first_inner[1:][has_content] - 1] + 1] -= 1
    stays = np.cumsum(edges[:-1], dtype=np.int8).astype(bool)
    kept_until = np.concatenate(([0], np.cumsum(stays)))
    return tokens[stays], kept_until[row_offsets]


def _numbered_names(labels: Int64Array) -> tuple[str, ...]:
    count = labels.shape[1] if labels.ndim == 2 else int(labels.max()) + 1
    return tuple(map(str, range(count)))


def _fingerprint(tokens: NDArray[np.int32], extents: Int64Array, labels: Int64Array | None) -> str:
    """Return a hash of all content, hex; ``extents`` are offsets or chunk lengths."""
    digest = blake2b(digest_size=16)
    for array in (tokens, extents, labels):
        if array is not None:
            contiguous = np.ascontiguousarray(array)
            digest.update(f"{contiguous.dtype.str}{contiguous.shape}".encode())
            digest.update(contiguous.data)
    return digest.hexdigest()

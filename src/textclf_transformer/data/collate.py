"""Batches of tensors: what they hold, and how rows of different lengths are put into one rectangle.

B samples, M chunks of all documents of a batch, S tokens of the longest row, L labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from textclf_transformer.data.documents import Int64Array
from textclf_transformer.tokenizer.masking import IGNORE_INDEX
from textclf_transformer.utils import send


@dataclass(frozen=True, slots=True)
class MlmBatch:
    """Masked rows for pretraining.

    Attributes:
        input_ids: int64 (B, S), masked; ``pad_token_id`` under the mask.
        attention_mask: bool (B, S), True = PAD.
        labels: int64 (B, S), the original token where one is to be predicted, else ``IGNORE_INDEX``.
        sample_indices: int64 (B,), the number of each row in its split; stays on the CPU.
        num_tokens: real tokens, [CLS] and [SEP] included.
        num_targets: positions to predict.
    """

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor
    sample_indices: Tensor
    num_tokens: int
    num_targets: int

    def to(self, device: torch.device) -> MlmBatch:
        """Return the batch as it is: the model takes padding out on the CPU and sends the tokens alone."""
        return self


@dataclass(frozen=True, slots=True)
class DocumentBatch:
    """Documents for classification: the real chunks of all of them, one below the other.

    Attributes:
        input_ids: int64 (M, S); ``pad_token_id`` under the mask.
        attention_mask: bool (M, S), True = PAD.
        chunk_counts: int64 (B,), chunks of each document, adjacent and in order; together M.
        labels: int64 (B,), or float32 0/1 of (B, L) where documents carry several; None without labels.
        sample_indices: int64 (B,), the number of each document in its split; stays on the CPU.
        num_tokens: real tokens, [CLS] and [SEP] included.
        num_targets: documents, B.
    """

    input_ids: Tensor
    attention_mask: Tensor
    chunk_counts: Tensor
    labels: Tensor | None
    sample_indices: Tensor
    num_tokens: int
    num_targets: int

    def to(self, device: torch.device) -> DocumentBatch:
        """Return the batch with its labels on ``device``; ids and masks stay, as in ``MlmBatch``."""
        if self.labels is None:
            return self
        return replace(self, labels=send(self.labels, device))


@dataclass(frozen=True, slots=True)
class VectorBatch:
    """Documents for classification, given as the vectors that a frozen encoder makes of their chunks.

    Attributes:
        vectors: float32 (M, D), of the chunks of all documents, one below the other.
        chunk_counts: int64 (B,), as in ``DocumentBatch``; so are the other attributes.
        labels: int64 (B,), or float32 0/1 of (B, L); None without labels.
        sample_indices: int64 (B,); stays on the CPU.
        num_tokens: real tokens that the vectors stand for.
        num_targets: documents, B.
    """

    vectors: Tensor
    chunk_counts: Tensor
    labels: Tensor | None
    sample_indices: Tensor
    num_tokens: int
    num_targets: int

    def to(self, device: torch.device) -> VectorBatch:
        """Return the batch with vectors and labels on ``device``."""
        return replace(
            self,
            vectors=send(self.vectors, device),
            labels=None if self.labels is None else send(self.labels, device),
        )


def add_special_tokens(content: Int64Array, *, cls_token_id: int, sep_token_id: int) -> Int64Array:
    """Return [CLS] + ``content`` + [SEP], int64 (tokens + 2,)."""
    row = np.empty(len(content) + 2, dtype=np.int64)
    row[0] = cls_token_id
    row[1:-1] = content
    row[-1] = sep_token_id
    return row


def collate_mlm(
    rows: Sequence[Int64Array],
    labels: Sequence[Int64Array],
    *,
    sample_indices: Int64Array,
    pad_token_id: int,
) -> MlmBatch:
    """Put masked ``rows`` and their ``labels``, each int64 (tokens,), into one batch."""
    input_ids, attention_mask = _pad(rows, pad_token_id=pad_token_id)
    padded_labels = np.full(input_ids.shape, IGNORE_INDEX, dtype=np.int64)
    for target, row_labels in zip(padded_labels, labels, strict=True):
        target[: len(row_labels)] = row_labels
    return MlmBatch(
        input_ids=torch.from_numpy(input_ids),
        attention_mask=torch.from_numpy(attention_mask),
        labels=torch.from_numpy(padded_labels),
        sample_indices=torch.from_numpy(sample_indices),
        num_tokens=sum(map(len, rows)),
        num_targets=int((padded_labels != IGNORE_INDEX).sum()),
    )


def collate_documents(
    documents: Sequence[Sequence[Int64Array]],
    *,
    labels: Int64Array | None,
    sample_indices: Int64Array,
    pad_token_id: int,
) -> DocumentBatch:
    """Put the chunks of ``documents``, each chunk int64 (tokens,), into one batch.

    ``labels`` are those of these documents: int64 (B,), or 0/1 of (B, L), or None.
    """
    chunks = [chunk for document in documents for chunk in document]
    input_ids, attention_mask = _pad(chunks, pad_token_id=pad_token_id)
    return DocumentBatch(
        input_ids=torch.from_numpy(input_ids),
        attention_mask=torch.from_numpy(attention_mask),
        chunk_counts=torch.tensor([len(document) for document in documents], dtype=torch.int64, device="cpu"),
        labels=label_tensor(labels),
        sample_indices=torch.from_numpy(sample_indices),
        num_tokens=sum(map(len, chunks)),
        num_targets=len(documents),
    )


def label_tensor(labels: Int64Array | None) -> Tensor | None:
    """Return labels (B,) as int64, or 0/1 of (B, L) as the float32 that binary cross-entropy wants."""
    if labels is None:
        return None
    return torch.tensor(labels, dtype=torch.float32 if labels.ndim == 2 else torch.int64, device="cpu")


def _pad(rows: Sequence[Int64Array], *, pad_token_id: int) -> tuple[Int64Array, NDArray[np.bool_]]:
    """Return ids (rows, S) filled up with ``pad_token_id`` and the mask (rows, S), True = PAD."""
    lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
    width = int(lengths.max())
    input_ids = np.full((len(rows), width), pad_token_id, dtype=np.int64)
    for target, row in zip(input_ids, rows, strict=True):
        target[: len(row)] = row
    return input_ids, np.arange(width) >= lengths[:, None]

"""The micro-batches of every optimizer step and of an evaluation, for pretraining and for classification.

Both classes give what the training loop asks for: ``num_samples``, ``steps_per_epoch``, ``num_tokens``,
``step(epoch, index)`` and ``evaluation()``. A step is a pure function of (seed, epoch, index), and a sample's
mask of (seed, epoch, sample): batch size, micro-batches and threads change neither.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from textclf_transformer.data.chunk_plan import plan_chunks
from textclf_transformer.data.chunking import (
    SPECIAL_TOKENS_PER_ROW,
    check_chunking,
    chunk_spans,
    sequence_spans,
)
from textclf_transformer.data.collate import (
    DocumentBatch,
    MlmBatch,
    add_special_tokens,
    collate_documents,
    collate_mlm,
)
from textclf_transformer.data.documents import Documents, Int64Array, align_labels, has_preset_chunks
from textclf_transformer.data.sampler import EpochSampler, split_by_budget
from textclf_transformer.data.word_dropout import WordDropout
from textclf_transformer.errors import DataError
from textclf_transformer.tokenizer.base import TokenizerWrapper
from textclf_transformer.utils import derive_seed


class MlmBatches:
    """Masked rows of documents; a sample is one row, and a document longer than a row has several.

    Args:
        documents: what to learn from; labels are not read.
        tokenizer: masks the rows and knows the special tokens.
        max_sequence_length: tokens of the longest row, [CLS] and [SEP] included.
        mask_p: share of the content tokens to predict.
        mask_token_p: share of these that become [MASK].
        random_token_p: share of these that become a random token.
        samples_per_step: rows of one optimizer step.
        tokens_per_micro_batch: padded tokens of one micro-batch, see ``split_by_budget``.
        seed: the run's seed.

    Attributes:
        tokens_per_micro_batch: may be lowered between two steps; the samples and masks stay the same.
        num_samples: rows of one epoch.
        steps_per_epoch: optimizer steps of one epoch.
        num_tokens: real tokens of one epoch, [CLS] and [SEP] included. No content token is left out.

    Raises:
        ConfigError: ``max_sequence_length`` < 3.
        DataError: there is no token to learn from.
    """

    def __init__(
        self,
        documents: Documents,
        tokenizer: TokenizerWrapper,
        *,
        max_sequence_length: int,
        mask_p: float,
        mask_token_p: float,
        random_token_p: float,
        samples_per_step: int,
        tokens_per_micro_batch: int,
        seed: int,
    ) -> None:
        self._documents = documents
        self._tokenizer = tokenizer
        self._mask_p = mask_p
        self._mask_token_p = mask_token_p
        self._random_token_p = random_token_p
        self.tokens_per_micro_batch = tokens_per_micro_batch
        self._seed = seed
        self._rows = sequence_spans(documents.lengths, max_sequence_length=max_sequence_length)
        self.num_samples = len(self._rows)
        if self.num_samples == 0:
            raise DataError("no document has a token", where=documents.path)
        self._sampler = EpochSampler(
            num_samples=self.num_samples, samples_per_step=samples_per_step, seed=seed
        )
        self.steps_per_epoch = self._sampler.steps_per_epoch
        self.num_tokens = int(documents.lengths.sum()) + SPECIAL_TOKENS_PER_ROW * self.num_samples

    def step(self, epoch: int, index: int) -> list[MlmBatch]:
        """Return the micro-batches of one optimizer step, the longest rows first.

        Raises:
            IndexError: an epoch has no step ``index``.
            DataError: the files of the documents changed behind one's back.
        """
        self._documents.verify_unchanged()
        samples = self._sampler.step(epoch, index)
        return [
            self._collate(micro_batch, mask_stream=("mask", self._seed, epoch))
            for micro_batch in self._micro_batches(samples)
        ]

    def evaluation(self) -> Iterator[MlmBatch]:
        """Yield all rows once, the longest first, under a mask that is the same for every seed and call."""
        for micro_batch in self._micro_batches(np.arange(self.num_samples)):
            self._documents.verify_unchanged()
            yield self._collate(micro_batch, mask_stream=("evaluation mask",))

    def _micro_batches(self, samples: Int64Array) -> list[Int64Array]:
        _, starts, stops = self._rows.locate(samples)
        widths = stops - starts + SPECIAL_TOKENS_PER_ROW
        return [
            samples[positions] for positions in split_by_budget(widths, budget=self.tokens_per_micro_batch)
        ]

    def _collate(self, samples: Int64Array, *, mask_stream: tuple[int | str, ...]) -> MlmBatch:
        generator = torch.Generator()
        rows, labels = [], []
        for sample, document, start, stop in zip(samples, *self._rows.locate(samples), strict=True):
            row = add_special_tokens(
                self._documents.tokens(int(document), int(start), int(stop)),
                cls_token_id=self._tokenizer.cls_token_id,
                sep_token_id=self._tokenizer.sep_token_id,
            )
            # the row is masked before it is padded, so that its batch mates cannot shift the draws
            masked_row, row_labels = self._tokenizer.mask_input_for_mlm(
                torch.from_numpy(row),
                torch.zeros(len(row), dtype=torch.bool, device="cpu"),
                mask_p=self._mask_p,
                mask_token_p=self._mask_token_p,
                random_token_p=self._random_token_p,
                generator=generator.manual_seed(derive_seed(*mask_stream, int(sample))),
            )
            rows.append(masked_row.numpy())
            labels.append(row_labels.numpy())
        return collate_mlm(rows, labels, sample_indices=samples, pad_token_id=self._tokenizer.pad_token_id)


class DocumentBatches:
    """Documents in chunks; a sample is one document, whose chunks always stay together in one micro-batch.

    Args:
        documents: what to classify. Where the file itself gives the chunks they are used as given, the first
            ``max_chunks`` of them, and ``stride`` and the special tokens are not used.
        cls_token_id: begins every chunk.
        sep_token_id: ends every chunk.
        pad_token_id: stands under the mask.
        chunk_size: tokens of the longest chunk, [CLS] and [SEP] included.
        stride: content tokens from one chunk's start to the next.
        max_chunks: chunks of a document that are read; tokens beyond them are counted in ``coverage``.
        samples_per_step: documents of one optimizer step.
        tokens_per_micro_batch: padded tokens of one micro-batch, see ``split_by_budget``.
        seed: the run's seed.
        label_names: the model's labels in their order, onto which the documents' labels are mapped by name;
            None: as the documents number them.
        word_dropout: hides tokens of what is learned from, never of an evaluation; None hides nothing.

    Attributes:
        tokens_per_micro_batch: may be lowered between two steps; the samples stay the same.
        num_samples: documents.
        labels: int64 (documents,), or 0/1 of (documents, L), in the model's order; None without labels.
        label_names: what these numbers stand for; None without labels.
        steps_per_epoch: optimizer steps of one epoch.
        chunk_counts: int64 (documents,), chunks of each.
        num_chunks: chunks of all documents.
        tokens_per_document: int64 (documents,), the real tokens in all its chunks: [CLS], [SEP] and the
            overlap of chunks included.
        num_tokens: real tokens of one epoch, the sum of ``tokens_per_document``.
        coverage: how many content tokens are read and how many are dropped.

    Raises:
        ConfigError: see ``check_chunking``.
        DataError: there is no document, a given chunk is longer than ``chunk_size``, or a label has an
            unknown name.
    """

    def __init__(
        self,
        documents: Documents,
        *,
        cls_token_id: int,
        sep_token_id: int,
        pad_token_id: int,
        chunk_size: int,
        stride: int,
        max_chunks: int,
        samples_per_step: int,
        tokens_per_micro_batch: int,
        seed: int,
        label_names: Sequence[str] | None = None,
        word_dropout: WordDropout | None = None,
    ) -> None:
        check_chunking(chunk_size=chunk_size, stride=stride, max_chunks=max_chunks)
        if len(documents) == 0:
            raise DataError("there is no document", where=documents.path)
        self._documents = documents
        self.labels = documents.labels if label_names is None else align_labels(documents, label_names)
        self.label_names = documents.label_names if label_names is None else tuple(label_names)
        self._cls_token_id = cls_token_id
        self._sep_token_id = sep_token_id
        self._pad_token_id = pad_token_id
        self._chunk_size = chunk_size
        self._stride = stride
        self._max_chunks = max_chunks
        self._word_dropout = word_dropout
        self.tokens_per_micro_batch = tokens_per_micro_batch
        self.num_samples = len(documents)
        self._sampler = EpochSampler(
            num_samples=self.num_samples, samples_per_step=samples_per_step, seed=seed
        )
        self.steps_per_epoch = self._sampler.steps_per_epoch
        plan = plan_chunks(documents, chunk_size=chunk_size, stride=stride, max_chunks=max_chunks)
        self.coverage = plan.coverage
        self.chunk_counts = plan.chunk_counts
        self.tokens_per_document = plan.tokens_per_document
        self._widths = plan.widths
        self.num_chunks = int(self.chunk_counts.sum())
        self.num_tokens = int(self.tokens_per_document.sum())

    @property
    def fingerprint(self) -> str:
        """What the chunks follow from: the documents, and how they are cut."""
        cut = (self._chunk_size, self._stride, self._max_chunks, self._cls_token_id, self._sep_token_id)
        return f"{self._documents.fingerprint} {cut}"

    def step(self, epoch: int, index: int) -> list[DocumentBatch]:
        """Return the micro-batches of one optimizer step, the longest documents first.

        Raises:
            IndexError: an epoch has no step ``index``.
            DataError: the files of the documents changed behind one's back.
        """
        self._documents.verify_unchanged()
        return [self._collate(samples, epoch=epoch) for samples in self.step_samples(epoch, index)]

    def step_samples(self, epoch: int, index: int) -> list[Int64Array]:
        """Return which documents are in each micro-batch of ``step``; raises IndexError as it does."""
        return self._micro_batches(self._sampler.step(epoch, index))

    def evaluation(self) -> Iterator[DocumentBatch]:
        """Yield all documents once, the longest first; ``sample_indices`` tell which they are."""
        for samples in self.evaluation_samples():
            self._documents.verify_unchanged()
            yield self._collate(samples)

    def evaluation_samples(self) -> list[Int64Array]:
        """Return which documents are in each micro-batch of ``evaluation``."""
        return self._micro_batches(np.arange(self.num_samples))

    def _micro_batches(self, samples: Int64Array) -> list[Int64Array]:
        positions = split_by_budget(
            self._widths[samples], budget=self.tokens_per_micro_batch, rows=self.chunk_counts[samples]
        )
        return [samples[micro_batch] for micro_batch in positions]

    def _collate(self, samples: Int64Array, *, epoch: int | None = None) -> DocumentBatch:
        documents = [self._chunks(int(sample)) for sample in samples]
        if self._word_dropout is not None and epoch is not None:
            documents = [
                self._word_dropout.hide(chunks, epoch=epoch, sample=int(sample))
                for chunks, sample in zip(documents, samples, strict=True)
            ]
        return collate_documents(
            documents,
            labels=None if self.labels is None else self.labels[samples],
            sample_indices=samples,
            pad_token_id=self._pad_token_id,
        )

    def _chunks(self, document: int) -> list[Int64Array]:
        if has_preset_chunks(self._documents):
            return self._documents.chunks(document)[: self._max_chunks]
        spans = chunk_spans(
            int(self._documents.lengths[document]),
            chunk_size=self._chunk_size,
            stride=self._stride,
            max_chunks=self._max_chunks,
        )
        content = self._documents.tokens(document, 0, spans[-1][1])
        return [
            add_special_tokens(
                content[start:stop], cls_token_id=self._cls_token_id, sep_token_id=self._sep_token_id
            )
            for start, stop in spans
        ]

"""Long documents in chunks, as both sides get them, and the classifier for them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from benchmarks.workloads import (
    MAX_CHUNKS,
    SEED,
    Documents,
    Dropouts,
    Shape,
    chunk_flops,
    make_tokenizer,
)
from textclf_transformer.config import ClassificationHeadSection
from textclf_transformer.data.batches import DocumentBatches
from textclf_transformer.data.collate import DocumentBatch
from textclf_transformer.model.hierarchical import HierarchicalRobertaForClassification
from textclf_transformer.training.building import attention_backend_of, build_classifier, build_encoder
from textclf_transformer.training.numerics import choose_amp_dtype
from textclf_transformer.utils import AUTO_MICRO_BATCH_TOKENS

LABEL_NAMES = ("0", "1", "2")


@dataclass(frozen=True, slots=True)
class DocumentWork:
    """Documents to learn from, or to classify.

    Attributes:
        shape: the encoder; a chunk is as long as its longest sequence.
        lengths: content tokens of each document.
        device: where.
        training: one optimizer step, or prediction.
        max_chunks: chunks of a document that are read.
        gradient_checkpointing: whether groups of chunks are computed again in the backward pass.
        compiled: whether our layers are compiled.
    """

    shape: Shape
    lengths: tuple[int, ...]
    device: torch.device
    training: bool
    max_chunks: int = MAX_CHUNKS
    gradient_checkpointing: bool = False
    compiled: bool = False

    def documents(self) -> Documents:
        """Return the documents, labelled in turn."""
        labels = np.arange(len(self.lengths)) % len(LABEL_NAMES)
        return Documents(np.array(self.lengths), self.shape.vocab_size, labels, LABEL_NAMES)

    def batches(self, *, samples_per_step: int | None = None) -> DocumentBatches:
        """Return the documents in chunks, as finetuning, evaluate and predict have them; None: one step."""
        tokenizer = make_tokenizer(self.shape.vocab_size)
        return DocumentBatches(
            self.documents(),
            cls_token_id=tokenizer.cls_token_id,
            sep_token_id=tokenizer.sep_token_id,
            pad_token_id=tokenizer.pad_token_id,
            chunk_size=self.shape.length,
            stride=self.shape.length - 2,
            max_chunks=self.max_chunks,
            samples_per_step=samples_per_step or len(self.lengths),
            tokens_per_micro_batch=AUTO_MICRO_BATCH_TOKENS[self.device.type],
            seed=SEED,
            label_names=LABEL_NAMES,
        )

    def micro_batches(self) -> list[DocumentBatch]:
        """Return the micro-batches of the one step."""
        return self.batches().step(0, 0)

    def model(self, dropouts: Dropouts) -> HierarchicalRobertaForClassification:
        """Return the classifier that finetuning would build, with the same weights at each call."""
        torch.manual_seed(SEED)
        architecture = self.shape.architecture(dropouts)
        encoder = build_encoder(
            architecture,
            vocab_size=self.shape.vocab_size,
            pad_token_id=make_tokenizer(self.shape.vocab_size).pad_token_id,
            attention_backend=attention_backend_of(
                architecture,
                device=self.device,
                amp_dtype=choose_amp_dtype(self.device, use_amp=True, amp_dtype="auto"),
            ).name,
        )
        return build_classifier(
            encoder,
            ClassificationHeadSection(),
            num_labels=len(LABEL_NAMES),
            max_chunks=self.max_chunks,
            layer_norm_eps=architecture.layer_norm_eps,
            use_gradient_checkpointing=self.gradient_checkpointing,
        )

    def facts(self) -> dict[str, float]:
        """Return documents, chunks, real tokens and operations."""
        lengths = [int(row.sum()) for batch in self.micro_batches() for row in ~batch.attention_mask]
        return {
            "documents": len(self.lengths),
            "chunks": len(lengths),
            "tokens": sum(lengths),
            "flops": chunk_flops(self.shape, lengths, training=self.training),
        }

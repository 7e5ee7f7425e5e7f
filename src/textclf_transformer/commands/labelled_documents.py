"""The labelled documents of a finetuning run: their labels checked, cut into chunks, put into batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from textclf_transformer.commands.common import print_result
from textclf_transformer.commands.pretrained import PretrainedEncoder
from textclf_transformer.commands.training_run import RunContext
from textclf_transformer.config import FinetuningConfig
from textclf_transformer.data.batches import DocumentBatches
from textclf_transformer.data.documents import Documents, check_label_kind
from textclf_transformer.data.word_dropout import WordDropout
from textclf_transformer.errors import ConfigError, DataError, counted, not_read


def check_labels(config: FinetuningConfig, documents: Mapping[str, Documents]) -> tuple[str, ...]:
    """Return the label names of train, ordinal ones in their order; every split must have labels.

    Raises:
        DataError: a split has no labels, or one a document where train has several, or train has one only.
        ConfigError: ``classification_head.num_labels`` is another number, or ``ordinal_labels`` others.
    """
    train = documents["train"]
    several = train.labels is not None and train.labels.ndim == 2
    for split, docs in documents.items():
        where = f"data.{split}.dataset_path: {docs.path}"
        if docs.labels is None:
            raise DataError(
                "the data have no labels", where=where, mend="prepare them from a file with a label column"
            )
        check_label_kind(docs, multi_label=several, others="train", where=where)
    label_names = train.label_names or ()
    if len(label_names) < 2:
        raise DataError(
            "there is nothing to tell apart",
            where=f"data.train.dataset_path: {train.path}",
            found=f"{len(label_names)} label",
            expected="two or more",
        )
    wanted = config.classification_head.num_labels
    if wanted is not None and wanted != len(label_names):
        raise ConfigError(
            "the data have another number of labels",
            where="classification_head.num_labels",
            found=wanted,
            expected=f"{len(label_names)} ({', '.join(label_names[:10])}), or null",
        )
    order = config.classification_head.ordinal_labels
    if order is None:
        return label_names
    if several or sorted(order) != sorted(label_names):
        raise ConfigError(
            "the documents carry several labels each" if several else "the data have other labels",
            where="classification_head.ordinal_labels",
            found=f"[{', '.join(order[:10])}]",
            expected="null" if several else f"{', '.join(label_names[:10])}, lowest first",
        )
    return tuple(order)


def chunk_size_of(config: FinetuningConfig, pretrained: PretrainedEncoder) -> int:
    """Return the chunk size, which must fit the encoder's positions.

    Raises:
        ConfigError: it does not.
    """
    longest = pretrained.architecture.max_sequence_length
    chunk_size = config.chunking.chunk_size or longest
    if chunk_size > longest:
        raise ConfigError(
            "a chunk is longer than the encoder's longest sequence",
            where="chunking.chunk_size",
            found=chunk_size,
            expected=f"at most {longest} ({pretrained.longest_sequence})",
        )
    return chunk_size


def make_batches(
    context: RunContext[FinetuningConfig],
    pretrained: PretrainedEncoder,
    documents: Documents,
    label_names: Sequence[str],
) -> DocumentBatches:
    """Return the chunked documents of one split."""
    config, tokenizer = context.config, pretrained.tokenizer
    chunk_size = chunk_size_of(config, pretrained)
    share, seed = config.training.word_dropout, config.experiment.seed
    return DocumentBatches(
        documents,
        cls_token_id=tokenizer.cls_token_id,
        sep_token_id=tokenizer.sep_token_id,
        pad_token_id=tokenizer.pad_token_id,
        chunk_size=chunk_size,
        stride=config.chunking.stride or chunk_size - 2,
        max_chunks=config.chunking.max_chunks,
        samples_per_step=context.samples_per_step,
        tokens_per_micro_batch=context.micro_batch_tokens,
        seed=seed,
        label_names=label_names,
        word_dropout=WordDropout(tokenizer, share=share, seed=seed) if share else None,
    )


def report_coverage(batches: Mapping[str, DocumentBatches]) -> None:
    """Print, for each split, how much of it is read."""
    lines = {}
    for split, split_batches in batches.items():
        read = split_batches.coverage
        line = counted(read.documents, "document")
        line += f", {read.tokens_read:,} of {counted(read.tokens, 'token')} read"
        if read.tokens_dropped:
            line += f"; max_chunks cuts {counted(read.documents_cut, 'document')}"
            line += f", {not_read(read.tokens_dropped)}"
        lines[split] = line
    print_result(lines)


def coverage_report(
    documents: Mapping[str, Documents], batches: Mapping[str, DocumentBatches]
) -> dict[str, dict[str, Any]]:
    """Return what run.json says of each split."""
    return {
        split: {
            "path": docs.path,
            "documents": len(docs),
            "chunks": batches[split].num_chunks,
            "tokens": batches[split].coverage.tokens,
            "tokens_read": batches[split].coverage.tokens_read,
            "tokens_dropped": batches[split].coverage.tokens_dropped,
            "documents_cut": batches[split].coverage.documents_cut,
        }
        for split, docs in documents.items()
    }

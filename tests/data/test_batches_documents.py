from __future__ import annotations

import numpy as np
import pytest
import torch
from in_memory import CLS, PAD, SEP, InMemoryDocuments, documents_of_lengths

from textclf_transformer.data.batches import DocumentBatches
from textclf_transformer.data.chunking import chunk_spans
from textclf_transformer.data.documents import align_labels, digests, overlap
from textclf_transformer.errors import ConfigError, DataError

LENGTHS = [5, 100, 17, 1, 25, 8, 60, 8, 33, 2]
LABELS = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2, 0])
NAMES = ("law", "art", "no")


def document_batches(documents=None, **overrides) -> DocumentBatches:
    settings = {
        "cls_token_id": CLS,
        "sep_token_id": SEP,
        "pad_token_id": PAD,
        "chunk_size": 12,
        "stride": 7,
        "max_chunks": 6,
        "samples_per_step": 4,
        "tokens_per_micro_batch": 100,
        "seed": 11,
    }
    if documents is None:
        documents = documents_of_lengths(LENGTHS, labels=LABELS, label_names=NAMES)
    return DocumentBatches(documents, **(settings | overrides))


def epoch_of(batches: DocumentBatches, epoch: int = 0):
    return [batch for index in range(batches.steps_per_epoch) for batch in batches.step(epoch, index)]


def chunks_by_document(batches) -> dict[int, list[list[int]]]:
    found = {}
    for batch in batches:
        assert int(batch.chunk_counts.sum()) == len(batch.input_ids)
        rows = [ids[~mask].tolist() for ids, mask in zip(batch.input_ids, batch.attention_mask, strict=True)]
        for sample, count in zip(batch.sample_indices.tolist(), batch.chunk_counts.tolist(), strict=True):
            found[sample], rows = rows[:count], rows[count:]
    return found


def expected_chunks(**chunking) -> dict[int, list[list[int]]]:
    return {
        index: [
            [CLS, *tokens[start:stop].tolist(), SEP] for start, stop in chunk_spans(len(tokens), **chunking)
        ]
        for index, tokens in enumerate(documents_of_lengths(LENGTHS).token_arrays)
    }


def test_an_epoch_and_an_evaluation_hold_every_document_once_in_its_chunks():
    expected = expected_chunks(chunk_size=12, stride=7, max_chunks=6)
    assert max(map(len, expected.values())) == 6  # the limit is reached
    assert chunks_by_document(epoch_of(document_batches())) == expected
    assert chunks_by_document(document_batches().evaluation()) == expected


@pytest.mark.parametrize("overrides", [{"samples_per_step": 1}, {"tokens_per_micro_batch": 1}, {"seed": 3}])
def test_the_chunks_of_a_document_do_not_depend_on_how_documents_are_batched(overrides):
    reference = chunks_by_document(epoch_of(document_batches()))
    assert chunks_by_document(epoch_of(document_batches(**overrides))) == reference


def test_the_size_of_micro_batches_can_be_lowered_between_two_steps():
    lowered, small = document_batches(), document_batches(tokens_per_micro_batch=30)
    before = len(lowered.step(0, 0))
    lowered.tokens_per_micro_batch = 30
    after = lowered.step(0, 0)
    assert len(after) > before
    assert [batch.sample_indices.tolist() for batch in after] == [
        batch.sample_indices.tolist() for batch in small.step(0, 0)
    ]


def test_every_chunk_starts_with_cls_and_padding_is_masked():
    for batch in epoch_of(document_batches()):
        assert batch.input_ids.dtype == batch.chunk_counts.dtype == torch.int64
        assert batch.attention_mask.dtype == torch.bool
        assert (batch.input_ids[:, 0] == CLS).all()
        assert torch.equal(batch.input_ids == PAD, batch.attention_mask)
        assert not batch.attention_mask.all(dim=0).any()


def test_micro_batches_keep_the_budget_unless_one_document_exceeds_it():
    batches = document_batches(samples_per_step=10, tokens_per_micro_batch=60)
    step = batches.step(0, 0)
    assert sum(len(batch.chunk_counts) for batch in step) == 10
    assert any(batch.input_ids.numel() > 60 for batch in step)
    for batch in step:
        assert batch.input_ids.numel() <= 60 or len(batch.chunk_counts) == 1


def test_counts_of_a_batch_an_epoch_and_what_is_dropped():
    batches = document_batches()
    epoch = epoch_of(batches)
    assert all(batch.num_tokens == int((~batch.attention_mask).sum()) for batch in epoch)
    assert all(batch.num_targets == len(batch.chunk_counts) for batch in epoch)
    assert (batches.num_samples, batches.steps_per_epoch) == (10, 3)
    assert batches.num_tokens == sum(batch.num_tokens for batch in epoch)
    # six chunks reach 5 * 7 + 10 = 45 tokens; the documents of 100 and 60 lose the rest
    assert batches.coverage.tokens_dropped == 55 + 15
    assert batches.coverage.documents_cut == 2
    assert batches.coverage.tokens == sum(LENGTHS)


def test_labels_go_with_their_documents():
    for batch in epoch_of(document_batches()):
        assert batch.labels.dtype == torch.int64
        assert batch.labels.tolist() == LABELS[batch.sample_indices.numpy()].tolist()


def test_several_labels_of_a_document_are_floats():
    labels = np.arange(20).reshape(10, 2) % 3 % 2
    documents = documents_of_lengths(LENGTHS, labels=labels, label_names=("a", "b"))
    for batch in document_batches(documents).evaluation():
        assert batch.labels.dtype == torch.float32
        assert batch.labels.tolist() == labels[batch.sample_indices.numpy()].tolist()


def test_documents_without_labels_have_none():
    batches = document_batches(documents_of_lengths(LENGTHS))
    assert all(batch.labels is None for batch in batches.evaluation())


def test_labels_are_numbered_as_the_model_numbers_them():
    batches = document_batches(label_names=("no", "more", "law", "art"))
    renumbered = np.array([2, 3, 0])[LABELS]
    for batch in batches.evaluation():
        assert batch.labels.tolist() == renumbered[batch.sample_indices.numpy()].tolist()


def test_several_labels_are_aligned_by_name():
    documents = documents_of_lengths([1, 1], labels=np.array([[1, 0], [1, 1]]), label_names=("a", "b"))
    assert align_labels(documents, ("b", "c", "a")).tolist() == [[0, 0, 1], [1, 0, 1]]


@pytest.mark.parametrize(("labels", "row", "name"), [([1, 0, 1], 1, "a"), ([[0, 1], [0, 0], [1, 1]], 2, "a")])
def test_a_label_that_the_model_lacks_is_named_with_its_row(labels, row, name):
    documents = documents_of_lengths([1, 1, 1], labels=np.array(labels), label_names=("a", "b"))
    with pytest.raises(DataError, match=rf"row {row}.*found '{name}'.*one of 'b', 'c'"):
        align_labels(documents, ("b", "c"))


def test_a_label_name_that_no_document_uses_may_be_unknown():
    documents = documents_of_lengths([1], labels=np.array([1]), label_names=("unused", "b"))
    assert align_labels(documents, ("b",)).tolist() == [0]


def test_a_stride_that_skips_tokens_is_refused():
    with pytest.raises(ConfigError, match=r"chunking\.stride"):
        document_batches(stride=11)


def test_no_document_at_all_is_refused():
    with pytest.raises(DataError, match="no document"):
        document_batches(InMemoryDocuments([]))


def test_to_moves_labels_alone_since_the_model_takes_padding_out_on_the_host():
    batch = document_batches().step(0, 0)[0].to(torch.device("meta"))
    assert batch.labels.device.type == "meta"
    stay = (batch.input_ids, batch.attention_mask, batch.chunk_counts, batch.sample_indices)
    assert {tensor.device.type for tensor in stay} == {"cpu"}


def test_overlap_counts_documents_whose_tokens_stand_in_the_other_split():
    a = InMemoryDocuments([np.array(tokens) for tokens in ([7, 8], [9], [7, 8], [8, 7], [5])])
    b = InMemoryDocuments([np.array(tokens) for tokens in ([7, 8], [9, 9], [5])])
    assert overlap(digests(a), digests(b)) == 3
    assert overlap(digests(b), digests(a)) == 2
    narrow = InMemoryDocuments([np.array([7, 8], dtype=np.uint16)])
    assert overlap(digests(narrow), digests(a)) == 1

from __future__ import annotations

import numpy as np
import pytest
import torch
from in_memory import CLS, MASK, PAD, SEP, InMemoryDocuments, MaskingTokenizer, documents_of_lengths

from textclf_transformer.data.batches import MlmBatches
from textclf_transformer.errors import DataError

LENGTHS = [3, 40, 17, 1, 25, 8, 90, 8, 33, 2]


def mlm_batches(lengths=LENGTHS, documents=None, **overrides) -> MlmBatches:
    settings = {
        "max_sequence_length": 20,
        "mask_p": 0.3,
        "mask_token_p": 0.8,
        "random_token_p": 0.1,
        "samples_per_step": 6,
        "tokens_per_micro_batch": 60,
        "seed": 11,
    }
    documents = documents or documents_of_lengths(lengths)
    return MlmBatches(documents, MaskingTokenizer(), **(settings | overrides))


def epoch_of(batches: MlmBatches, epoch: int = 0):
    return [batch for index in range(batches.steps_per_epoch) for batch in batches.step(epoch, index)]


def rows_by_sample(batches) -> dict[int, tuple[tuple[int, ...], tuple[int, ...]]]:
    """Masked ids and labels of every sample, padding taken off."""
    return {
        int(sample): (tuple(ids[~mask].tolist()), tuple(labels[~mask].tolist()))
        for batch in batches
        for sample, ids, mask, labels in zip(
            batch.sample_indices, batch.input_ids, batch.attention_mask, batch.labels, strict=True
        )
    }


def original(ids, labels) -> list[int]:
    return [token if label == -100 else label for token, label in zip(ids, labels, strict=True)]


def test_an_epoch_holds_every_token_once_between_cls_and_sep():
    batches = mlm_batches()
    rows = rows_by_sample(epoch_of(batches))
    assert sorted(rows) == list(range(batches.num_samples))
    content = []
    for sample in sorted(rows):
        row = original(*rows[sample])
        assert (row[0], row[-1]) == (CLS, SEP)
        content += row[1:-1]
    documents = documents_of_lengths(LENGTHS)
    assert content == np.concatenate(documents.token_arrays).tolist()


def test_rows_are_padded_masked_and_labelled():
    for batch in epoch_of(mlm_batches()):
        assert batch.input_ids.dtype == batch.labels.dtype == torch.int64
        assert batch.attention_mask.dtype == torch.bool
        assert (batch.input_ids[batch.attention_mask] == PAD).all()
        assert (batch.labels[batch.attention_mask] == -100).all()
        assert (batch.labels[batch.labels != -100] >= 5).all()
        assert torch.equal(batch.input_ids == MASK, batch.labels != -100)
        # padding stands at the right, and the longest row has none
        assert (batch.attention_mask[:, 1:] >= batch.attention_mask[:, :-1]).all()
        assert not batch.attention_mask[:, -1].all()


def test_counts_of_a_batch_and_of_an_epoch():
    batches = mlm_batches()
    epoch = epoch_of(batches)
    for batch in epoch:
        assert batch.num_tokens == int((~batch.attention_mask).sum())
        assert batch.num_targets == int((batch.labels != -100).sum())
        assert type(batch.num_targets) is int
    rows = sum(-(-length // 18) for length in LENGTHS)
    assert batches.num_samples == rows
    assert batches.num_tokens == sum(LENGTHS) + 2 * rows == sum(batch.num_tokens for batch in epoch)
    assert batches.steps_per_epoch == -(-rows // 6)


def test_micro_batches_are_sorted_by_length_and_within_the_budget():
    for index in range(mlm_batches().steps_per_epoch):
        step = mlm_batches().step(0, index)
        lengths = torch.cat([(~batch.attention_mask).sum(1) for batch in step])
        assert (lengths[1:] <= lengths[:-1]).all()
        assert all(batch.input_ids.numel() <= 60 for batch in step)
        assert sum(len(batch.input_ids) for batch in step) <= 6


@pytest.mark.parametrize(
    "overrides", [{"samples_per_step": 1}, {"samples_per_step": 100}, {"tokens_per_micro_batch": 20}]
)
def test_a_sample_and_its_mask_do_not_depend_on_how_samples_are_batched(overrides):
    assert rows_by_sample(epoch_of(mlm_batches(**overrides), 3)) == rows_by_sample(epoch_of(mlm_batches(), 3))


def test_the_size_of_micro_batches_can_be_lowered_between_two_steps():
    lowered, small = mlm_batches(), mlm_batches(tokens_per_micro_batch=20)
    before = len(lowered.step(0, 0))
    lowered.tokens_per_micro_batch = 20
    after = lowered.step(0, 0)
    assert len(after) > before
    assert [batch.sample_indices.tolist() for batch in after] == [
        batch.sample_indices.tolist() for batch in small.step(0, 0)
    ]


def test_masks_change_with_epoch_and_seed_and_repeat_otherwise():
    first = rows_by_sample(epoch_of(mlm_batches(), 0))
    assert first == rows_by_sample(epoch_of(mlm_batches(), 0))
    for other in (epoch_of(mlm_batches(), 1), epoch_of(mlm_batches(seed=12), 0)):
        differing = sum(first[sample] != row for sample, row in rows_by_sample(other).items())
        assert differing > len(first) / 2


def test_samples_of_equal_content_are_masked_differently():
    documents = documents_of_lengths([18, 18])
    documents.token_arrays[1] = documents.token_arrays[0]
    batches = MlmBatches(
        documents,
        MaskingTokenizer(),
        max_sequence_length=20,
        mask_p=0.5,
        mask_token_p=0.8,
        random_token_p=0.1,
        samples_per_step=2,
        tokens_per_micro_batch=60,
        seed=1,
    )
    rows = rows_by_sample(batches.step(0, 0))
    assert rows[0] != rows[1]


def test_a_step_is_the_same_whatever_was_asked_before():
    walked, fresh = mlm_batches(), mlm_batches()
    epoch_of(walked, 0)
    list(walked.evaluation())
    torch.manual_seed(99)
    expected, found = fresh.step(1, 2), walked.step(1, 2)
    assert [batch.input_ids.tolist() for batch in found] == [batch.input_ids.tolist() for batch in expected]
    assert [batch.labels.tolist() for batch in found] == [batch.labels.tolist() for batch in expected]


def test_the_evaluation_mask_is_fixed():
    reference = rows_by_sample(mlm_batches().evaluation())
    assert len(reference) == mlm_batches().num_samples
    assert reference == rows_by_sample(mlm_batches(seed=77, tokens_per_micro_batch=20).evaluation())
    assert reference != rows_by_sample(epoch_of(mlm_batches(), 0))


def test_the_evaluation_order_is_fixed_and_by_length():
    batches = mlm_batches()
    epoch_of(batches, 1)
    order = torch.cat([batch.sample_indices for batch in batches.evaluation()])
    assert torch.equal(order, torch.cat([batch.sample_indices for batch in mlm_batches(seed=5).evaluation()]))
    widths = torch.cat([(~batch.attention_mask).sum(1) for batch in batches.evaluation()])
    assert (widths[1:] <= widths[:-1]).all()


def test_documents_without_tokens_are_refused():
    with pytest.raises(DataError, match="no document has a token"):
        mlm_batches(lengths=[0, 0])


def test_a_row_reads_its_own_tokens_alone():
    """Else the rows of a book of a million tokens would read it thousands of times."""

    class Counting(InMemoryDocuments):
        def tokens(self, index: int, start: int = 0, stop: int | None = None) -> np.ndarray:
            found = super().tokens(index, start, stop)
            assert len(found) <= 18
            return found

    batches = mlm_batches(documents=Counting(documents_of_lengths(LENGTHS).token_arrays))
    assert rows_by_sample(epoch_of(batches)) == rows_by_sample(epoch_of(mlm_batches()))

"""Hidden tokens of training documents: how many, which, and never in an evaluation."""

from __future__ import annotations

import pytest
from data.test_batches_documents import (
    LENGTHS,
    chunks_by_document,
    document_batches,
    epoch_of,
    expected_chunks,
)
from in_memory import CLS, MASK, SEP, MaskingTokenizer, documents_of_lengths

from textclf_transformer.data.batches import DocumentBatches
from textclf_transformer.data.word_dropout import WordDropout

CHUNKING = {"chunk_size": 12, "stride": 7, "max_chunks": 6}


class HidingTokenizer(MaskingTokenizer):
    """Asked for the mask token alone: nothing that is hidden becomes another word or stays."""

    def mask_input_for_mlm(self, *arguments, mask_token_p, random_token_p, **settings):
        assert (mask_token_p, random_token_p) == (1.0, 0.0)
        return super().mask_input_for_mlm(
            *arguments, mask_token_p=mask_token_p, random_token_p=random_token_p, **settings
        )


def hiding_batches(*, share: float = 0.3, seed: int = 11, **overrides) -> DocumentBatches:
    return document_batches(
        word_dropout=WordDropout(HidingTokenizer(), share=share, seed=seed), seed=seed, **overrides
    )


def test_what_is_not_hidden_stays_in_its_place_and_evaluations_hide_nothing():
    expected = expected_chunks(**CHUNKING)
    batches = hiding_batches()
    found = chunks_by_document(epoch_of(batches))
    assert sorted(found) == sorted(expected)
    for document, chunks in found.items():
        for chunk, whole in zip(chunks, expected[document], strict=True):
            assert (chunk[0], chunk[-1]) == (CLS, SEP)
            assert [own if own != MASK else token for own, token in zip(chunk, whole, strict=True)] == whole
    assert chunks_by_document(batches.evaluation()) == expected


@pytest.mark.parametrize("share", [0.1, 0.6])
def test_the_share_that_is_hidden(share):
    batches = hiding_batches(documents=documents_of_lengths([5000] * 4), share=share, max_chunks=1000)
    tokens = [
        token for chunks in chunks_by_document(epoch_of(batches)).values() for c in chunks for token in c
    ]
    content = [token for token in tokens if token not in (CLS, SEP)]
    assert content.count(MASK) / len(content) == pytest.approx(share, abs=0.02)  # four deviations are 0.012


@pytest.mark.parametrize("overrides", [{"samples_per_step": 1}, {"tokens_per_micro_batch": 1}])
def test_what_is_hidden_does_not_depend_on_how_documents_are_batched(overrides):
    reference = chunks_by_document(epoch_of(hiding_batches(), 1))
    assert chunks_by_document(epoch_of(hiding_batches(**overrides), 1)) == reference


def test_others_are_hidden_in_another_epoch_document_and_seed():
    first = chunks_by_document(epoch_of(hiding_batches(), 0))
    assert chunks_by_document(epoch_of(hiding_batches(), 1)) != first
    assert chunks_by_document(epoch_of(hiding_batches(seed=12), 0)) != first
    equal = [index for index, length in enumerate(LENGTHS) if length == 8]
    places = [[token == MASK for token in first[index][0]] for index in equal]
    assert places[0] != places[1]

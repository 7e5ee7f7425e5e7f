"""The hierarchical classifier: logits depend on a document's real tokens alone; chunk groups; bad input."""

from __future__ import annotations

import pytest
import torch
from model_cases import CHUNK_LENGTH, PAD, VOCAB, make_documents, make_hierarchical, relative_error

from textclf_transformer.model.pooling import POOLINGS, POSITIONED_POOLINGS
from textclf_transformer.model.token_pooling import TOKEN_POOLINGS


@pytest.mark.parametrize("token_pooling", TOKEN_POOLINGS)
def test_logits_do_not_move_with_batch_mates_or_more_padding_chunks(token_pooling: str) -> None:
    model = make_hierarchical(token_pooling=token_pooling).double()
    ids, mask = make_documents([3, 1, 5])
    together = model(ids, mask, return_attention=True)
    wider_ids, wider_mask = (
        torch.full((3, 9, CHUNK_LENGTH + 4), PAD),
        torch.ones(3, 9, CHUNK_LENGTH + 4, dtype=torch.bool),
    )
    wider_ids[:, :5, :CHUNK_LENGTH], wider_mask[:, :5, :CHUNK_LENGTH] = ids, mask
    wider = model(wider_ids, wider_mask, return_attention=True)
    assert relative_error(wider["logits"], together["logits"]) < 1e-12
    assert not wider["attention_weights"][:, 5:].any()
    for document, count in enumerate([3, 1, 5]):
        alone = model(ids[document : document + 1, :count], mask[document : document + 1, :count])["logits"]
        assert relative_error(together["logits"][document : document + 1], alone) < 1e-12


def test_fp32_logits_do_not_move_beyond_rounding() -> None:
    model = make_hierarchical()
    ids, mask = make_documents([3, 1, 5])
    together = model(ids, mask)["logits"]
    alone = model(ids[1:2, :1], mask[1:2, :1])["logits"]
    assert relative_error(together[1:2], alone) < 1e-5


@pytest.mark.parametrize("token_pooling", TOKEN_POOLINGS)
def test_what_lies_under_the_mask_is_never_read(token_pooling: str) -> None:
    model = make_hierarchical(token_pooling=token_pooling)
    ids, mask = make_documents([3, 1, 5])
    expected = model(ids, mask)["logits"]
    for poison in (0, VOCAB + 10**9, -3):
        assert torch.equal(model(ids.masked_fill(mask, poison), mask)["logits"], expected)


def test_classify_chunks_equals_forward() -> None:
    model = make_hierarchical()
    counts = [3, 1, 5]
    ids, mask = make_documents(counts)
    real = ~mask.all(dim=2)
    expected = model(ids, mask, return_attention=True)
    found = model.classify_chunks(ids[real], mask[real], torch.tensor(counts))
    assert found["logits"].dtype == torch.float32
    assert torch.equal(found["logits"], expected["logits"])
    assert torch.equal(found["attention_weights"], expected["attention_weights"])


def test_loss_is_the_mean_cross_entropy() -> None:
    model = make_hierarchical().double()
    ids, mask = make_documents([2, 1])
    labels = torch.tensor([3, 0])
    out = model(ids, mask, labels)
    by_hand = -out["logits"].log_softmax(dim=1)[torch.arange(2), labels].mean()
    assert relative_error(out["loss"], by_hand) < 1e-12
    assert "attention_weights" not in out


def test_a_padding_chunk_may_stand_anywhere() -> None:
    model = make_hierarchical().double()
    ids, mask = make_documents([3])
    spread_ids = torch.full((1, 5, CHUNK_LENGTH), PAD)
    spread_mask = torch.ones(1, 5, CHUNK_LENGTH, dtype=torch.bool)
    spread_ids[:, [0, 2, 4]], spread_mask[:, [0, 2, 4]] = ids, mask
    found = model(spread_ids, spread_mask, return_attention=True)
    assert relative_error(found["logits"], model(ids, mask)["logits"]) < 1e-12
    assert (found["attention_weights"] > 0).tolist() == [[True, False, True, False, True]]


def test_bf16_autocast_gives_fp32_logits_near_the_exact_ones() -> None:
    """Bound: 5 % of the largest logit, with wide weights."""
    model = make_hierarchical()
    ids, mask = make_documents([3, 1, 5])
    with torch.no_grad():
        exact = model(ids, mask)["logits"]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rounded = model(ids, mask)["logits"]
    assert rounded.dtype == torch.float32
    assert relative_error(rounded, exact) < 0.05


@pytest.mark.parametrize(
    ("pooling", "positions"),
    [(name, False) for name in POOLINGS] + [(name, True) for name in POSITIONED_POOLINGS],
)
def test_each_pooling_ignores_padding_chunks_and_batch_mates(pooling: str, positions: bool) -> None:
    model = make_hierarchical(
        pooling=pooling, attention_heads=3, max_chunks=6, chunk_position_embeddings=positions
    ).double()
    counts = [3, 1, 5]
    together = model(*make_documents(counts), return_attention=True)
    ids, mask = make_documents(counts)
    for document, count in enumerate(counts):
        alone = model(
            ids[document : document + 1, :count], mask[document : document + 1, :count], return_attention=True
        )
        assert relative_error(together["logits"][document : document + 1], alone["logits"]) < 1e-12
        weights = together["attention_weights"][document]
        assert relative_error(weights[:count], alone["attention_weights"][0]) < 1e-12
        assert not weights[count:].any()
    has_heads = pooling in {"multihead", "transformer"}
    assert ("attention_weights_per_head" in together) == has_heads
    if has_heads:
        assert together["attention_weights_per_head"].shape == (3, 3, 5)


@pytest.mark.parametrize("pooling", POSITIONED_POOLINGS)
def test_chunk_positions_tell_the_order(pooling: str) -> None:
    ids, mask = make_documents([4])
    mask[0, 3] = False  # all chunks of one length
    order = torch.tensor([2, 0, 3, 1])
    for positions in (False, True):
        model = make_hierarchical(
            pooling=pooling, attention_heads=3, max_chunks=6, chunk_position_embeddings=positions
        )
        same = relative_error(model(ids[:, order], mask)["logits"], model(ids, mask)["logits"]) < 1e-5
        assert same == (not positions)


def test_more_chunks_than_max_chunks_are_refused_and_padding_does_not_count() -> None:
    model = make_hierarchical(max_chunks=3)
    ids, mask = make_documents([3], chunks=9)
    assert model(ids, mask)["logits"].shape == (1, 4)
    ids, mask = make_documents([4])
    with pytest.raises(ValueError, match="4 chunks, max_chunks is 3"):
        model(ids, mask)


def test_chunk_positions_that_would_tell_nothing_are_refused() -> None:
    for changes in (
        {"max_chunks": None},
        {"max_chunks": 3, "pooling": "mean"},
        {"max_chunks": 3, "pooling": "cls"},
    ):
        with pytest.raises(ValueError, match="need max_chunks and a pooling of"):
            make_hierarchical(chunk_position_embeddings=True, **changes)


def test_bad_input_is_refused() -> None:
    model = make_hierarchical()
    ids, mask = make_documents([2, 1])
    with pytest.raises(TypeError, match="attention_mask == 0"):
        model(ids, (~mask).long())
    with pytest.raises(ValueError, match="shape"):
        model(ids, mask[:, :1])
    mask[1] = True
    with pytest.raises(ValueError, match="no real chunk"):
        model(ids, mask)
    with pytest.raises(ValueError, match="no chunk"):
        model.classify_vectors(torch.zeros(2, 24), torch.tensor([2, 0]))

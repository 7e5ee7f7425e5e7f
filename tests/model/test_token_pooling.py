"""From tokens to the vector of a sequence."""

from __future__ import annotations

import pytest
import torch
from model_cases import CHUNK_LENGTH, VOCAB, make_hierarchical, relative_error
from torch import Tensor

from textclf_transformer.model.token_pooling import TOKEN_POOLINGS


def two_chunks() -> tuple[Tensor, Tensor]:
    """Return ids and mask of a whole chunk, and of a short one with padding on both sides."""
    ids = torch.randint(5, VOCAB, (2, CHUNK_LENGTH), generator=torch.Generator().manual_seed(1))
    mask = torch.zeros(2, CHUNK_LENGTH, dtype=torch.bool)
    mask[1, 0] = mask[1, 4:] = True
    return ids, mask


@pytest.mark.parametrize("token_pooling", TOKEN_POOLINGS)
def test_a_vector_is_made_of_the_real_tokens(token_pooling: str) -> None:
    model = make_hierarchical(token_pooling=token_pooling).double()
    ids, mask = two_chunks()
    hidden = model.encoder(ids, mask)["last_hidden_state"]
    chunks = [hidden[row][~mask[row]] for row in range(2)]
    by_hand = {"cls": lambda c: c[0], "mean": lambda c: c.mean(dim=0), "max": lambda c: c.max(dim=0).values}
    expected = torch.stack([by_hand[token_pooling](chunk) for chunk in chunks])
    assert relative_error(model.encode_chunks(ids, mask), expected) < 1e-12


@pytest.mark.parametrize("token_pooling", ["mean", "max"])
def test_16_bit_tokens_are_pooled_in_32_bits(token_pooling: str) -> None:
    model = make_hierarchical(token_pooling=token_pooling).bfloat16()
    ids, mask = two_chunks()
    with torch.no_grad():
        vectors = model.encode_chunks(ids, mask)
        tokens = model.encoder.encode(ids, mask)
    assert tokens.dtype == torch.bfloat16 and vectors.dtype == torch.float32
    first = tokens[: int((~mask[0]).sum())].double()
    expected = first.mean(dim=0) if token_pooling == "mean" else first.max(dim=0).values
    assert relative_error(vectors[0].double(), expected) < 1e-6


def test_an_unknown_one_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown token pooling 'median', expected one of cls, mean, max"):
        make_hierarchical(token_pooling="median")

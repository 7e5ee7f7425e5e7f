"""Each pooling: its vectors by hand, its weights, padding chunks."""

from __future__ import annotations

import sys

import pytest
import torch
from model_cases import relative_error, spread_weights
from torch import Tensor, nn

from textclf_transformer.model.pooling import (
    POOLINGS,
    AttentionPooling,
    Pooled,
    TransformerPooling,
    build_pooling,
)

D, HEADS = 12, 3
COUNTS = [4, 1, 3]


def make_pooling(name: str, *, dropout: float = 0.0) -> nn.Module:
    pooling = build_pooling(
        name,
        hidden_size=D,
        attention_hidden_size=7,
        attention_heads=HEADS,
        attention_dropout=dropout,
        hidden_dropout=dropout,
        layer_norm_eps=1e-5,
    )
    return spread_weights(pooling).double().eval()


def make_chunks(*, chunks: int = 4) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    mask = torch.arange(chunks) >= torch.tensor(COUNTS).unsqueeze(1)
    values = torch.zeros(len(COUNTS), chunks, D, dtype=torch.float64)
    values[:, :4] = torch.randn(len(COUNTS), 4, D, dtype=torch.float64)
    return values.masked_fill(mask.unsqueeze(2), 0.0), mask


def pool(name: str, chunks: Tensor, mask: Tensor) -> Pooled:
    pooled = make_pooling(name)(chunks, mask)
    assert isinstance(pooled, Pooled)
    return pooled


@pytest.mark.parametrize("name", POOLINGS)
def test_weights_sum_to_one_and_are_exactly_zero_on_padding(name: str) -> None:
    chunks, mask = make_chunks(chunks=6)
    pooled = pool(name, chunks, mask)
    assert pooled.vectors.shape == (3, D)
    assert pooled.weights.shape == (3, 6)
    assert not pooled.weights[mask].any()
    torch.testing.assert_close(pooled.weights.sum(dim=1), torch.ones(3, dtype=torch.float64))
    assert (pooled.weights_per_head is not None) == (name in {"multihead", "transformer"})
    if pooled.weights_per_head is not None:
        assert pooled.weights_per_head.shape == (3, HEADS, 6)
        assert not pooled.weights_per_head.masked_select(mask.unsqueeze(1)).any()
        torch.testing.assert_close(pooled.weights_per_head.mean(dim=1), pooled.weights)


@pytest.mark.parametrize("name", POOLINGS)
def test_padding_chunks_are_never_read_and_more_of_them_change_nothing(name: str) -> None:
    expected = pool(name, *make_chunks())
    chunks, mask = make_chunks(chunks=7)
    poisoned = pool(name, chunks.masked_fill(mask.unsqueeze(2), 1e3), mask)
    assert relative_error(poisoned.vectors, expected.vectors) < 1e-12
    assert relative_error(poisoned.weights[:, :4], expected.weights) < 1e-12


@pytest.mark.parametrize("name", POOLINGS)
def test_gradients_are_finite_and_zero_on_padding(name: str) -> None:
    chunks, mask = make_chunks()
    chunks.requires_grad_(True)
    pool(name, chunks, mask).vectors.square().sum().backward()
    assert bool(chunks.grad.isfinite().all())
    assert not chunks.grad[mask].any()
    assert bool(chunks.grad[:, 0].any())


@pytest.mark.parametrize("name", POOLINGS)
def test_a_document_of_one_chunk(name: str) -> None:
    chunks, mask = make_chunks()
    pooled = pool(name, chunks, mask)
    assert pooled.weights[1].tolist() == [1, 0, 0, 0]
    if name != "transformer":
        torch.testing.assert_close(pooled.vectors[1], chunks[1, 0])


@pytest.mark.parametrize("name", POOLINGS)
def test_without_positions_only_cls_knows_the_order(name: str) -> None:
    chunks, mask = make_chunks()
    turned = chunks.clone()
    turned[0] = chunks[0].flip(0)
    vectors, others = pool(name, chunks, mask).vectors[0], pool(name, turned, mask).vectors[0]
    assert (relative_error(others, vectors) < 1e-12) == (name != "cls")


def test_attention_by_hand() -> None:
    chunks, mask = make_chunks()
    pooling = make_pooling("attention")
    found = pooling(chunks, mask)
    for document, count in enumerate(COUNTS):
        real = chunks[document, :count]
        hidden = torch.tanh(real @ pooling.projection.weight.T + pooling.projection.bias)
        weights = (hidden @ pooling.score.weight[0]).softmax(0)
        torch.testing.assert_close(found.weights[document, :count], weights)
        torch.testing.assert_close(found.vectors[document], weights @ real)


def test_each_head_weighs_its_own_dimensions() -> None:
    chunks, mask = make_chunks()
    found = pool("multihead", chunks, mask)
    assert found.weights_per_head is not None
    width = D // HEADS
    for head in range(HEADS):
        part = slice(head * width, (head + 1) * width)
        expected = torch.einsum("bc,bcd->bd", found.weights_per_head[:, head], chunks[:, :, part])
        torch.testing.assert_close(found.vectors[:, part], expected)
    assert not torch.allclose(found.weights_per_head[:, 0], found.weights_per_head[:, 1])


@pytest.mark.parametrize("name", ["multihead", "transformer"])
def test_a_single_head_is_told_as_several_are(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "HEADS", 1)
    pooled = pool(name, *make_chunks())
    assert pooled.weights_per_head is not None
    assert torch.equal(pooled.weights_per_head[:, 0], pooled.weights)


def test_mean_max_and_cls_by_hand() -> None:
    chunks, mask = make_chunks()
    mean, largest, first = (pool(name, chunks, mask) for name in ("mean", "max", "cls"))
    for document, count in enumerate(COUNTS):
        real = chunks[document, :count]
        torch.testing.assert_close(mean.vectors[document], real.mean(dim=0))
        assert mean.weights[document, :count].tolist() == [1 / count] * count
        torch.testing.assert_close(largest.vectors[document], real.max(dim=0).values)
        wins = torch.bincount(real.argmax(dim=0), minlength=count) / D
        torch.testing.assert_close(largest.weights[document, :count], wins.double())
        assert torch.equal(first.vectors[document], real[0])
        assert first.weights[document].tolist() == [1, 0, 0, 0]


def test_max_never_takes_the_zeros_of_padding() -> None:
    chunks, mask = make_chunks()
    pooled = pool("max", -chunks.abs() - 1, mask)
    assert bool((pooled.vectors < 0).all())


def test_transformer_equals_torchs_encoder_layers() -> None:
    """The reference is torch's own post-norm TransformerEncoderLayer with the same weights."""
    chunks, mask = make_chunks()
    pooling = make_pooling("transformer")
    assert isinstance(pooling, TransformerPooling)
    hidden = torch.cat([pooling.cls.weight.expand(3, 1, D), chunks], dim=1)
    padding = torch.cat([torch.zeros(3, 1, dtype=torch.bool), mask], dim=1)
    weights = None
    for layer in pooling.layers:
        reference = nn.TransformerEncoderLayer(
            D, HEADS, 4 * D, dropout=0.0, activation="gelu", batch_first=True
        )
        reference.double().train()  # in evaluation torch takes another path
        pairs = {
            "self_attn.in_proj_": layer.attention.query_key_value,
            "self_attn.out_proj.": layer.attention_output,
            "linear1.": layer.intermediate,
            "linear2.": layer.output,
            "norm1.": layer.attention_norm,
            "norm2.": layer.output_norm,
        }
        reference.load_state_dict(
            {begin + k: v for begin, m in pairs.items() for k, v in m.state_dict().items()}
        )
        weights = reference.self_attn(
            hidden, hidden, hidden, key_padding_mask=padding, average_attn_weights=False
        )[1][:, :, 0, 1:]
        hidden = reference(hidden, src_key_padding_mask=padding)
    found = pooling(chunks, mask)
    assert relative_error(found.vectors, hidden[:, 0]) < 1e-10
    expected = (weights / weights.sum(dim=2, keepdim=True)).mean(dim=1)
    assert relative_error(found.weights, expected) < 1e-10


def test_attention_dropout_acts_on_the_weights_in_training_alone() -> None:
    chunks, mask = make_chunks()
    pooling = make_pooling("attention", dropout=0.5).train()
    expected = make_pooling("attention")(chunks, mask)
    torch.manual_seed(0)
    draws = [pooling(chunks, mask) for _ in range(2000)]
    assert torch.equal(draws[0].weights, expected.weights), "reported weights are those before dropout"
    vectors = torch.stack([draw.vectors.detach() for draw in draws])
    assert float(vectors.std(dim=0).min()) > 0
    error = (vectors.mean(dim=0) - expected.vectors.detach()).abs() / (vectors.std(dim=0) / 2000**0.5)
    assert float(error.max()) < 5  # standard errors


def test_what_cannot_be_built_is_refused() -> None:
    with pytest.raises(ValueError, match="attention, multihead, mean, max, cls, transformer"):
        make_pooling("median")
    for heads in (3, 0):
        with pytest.raises(ValueError, match=f"attention_heads {heads} does not divide"):
            AttentionPooling(hidden_size=10, attention_hidden_size=4, num_heads=heads, attention_dropout=0.0)
        with pytest.raises(ValueError, match=f"attention_heads {heads} does not divide"):
            TransformerPooling(
                hidden_size=10,
                num_heads=heads,
                layer_norm_eps=1e-5,
                attention_dropout=0.0,
                hidden_dropout=0.0,
            )

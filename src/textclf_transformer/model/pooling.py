"""Poolings: (B, C, D) vectors of chunks in, (B, D) vectors of documents and (B, C) weights over chunks out.

A pooling never reads a padding chunk: its weight is exactly 0. The mask may lie on the CPU though the chunks
lie on a GPU: places are looked up there without waiting, and ``send`` brings over what is computed with.

B batch of documents, C chunks of a document, D hidden size, H heads, N real chunks and [CLS] vectors of the
batch.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from textclf_transformer.model.attention import check_heads
from textclf_transformer.model.dropout import Dropout, check_probability
from textclf_transformer.model.layers import EncoderLayer
from textclf_transformer.model.layout import SequenceLayout, unpack
from textclf_transformer.utils import send

POOLINGS = ("attention", "multihead", "mean", "max", "cls", "transformer")

# Those that chunk positions tell something: the mean of positions is the same in every order, cls reads one
# chunk.
POSITIONED_POOLINGS = ("attention", "multihead", "max", "transformer")

_CHUNK_LAYERS = 2
_CHUNK_FEED_FORWARD = 4  # times the hidden size


class Pooled(NamedTuple):
    """What a pooling returns.

    Attributes:
        vectors: (B, D).
        weights: (B, C) before dropout; rows sum to 1, 0 on padding chunks.
        weights_per_head: (B, H, C), each row sums to 1; None where there are no heads.
    """

    vectors: Tensor
    weights: Tensor
    weights_per_head: Tensor | None = None


class AttentionPooling(nn.Module):
    """Learned vectors score each chunk; the document is the weighted mean (Yang et al. 2016, section 2.2).

    With several heads each has its own scores, as in Lin et al. 2017 (arXiv 1703.03130), and weighs its own
    D/H of the dimensions, as in multi-head attention.

    Args:
        hidden_size: D.
        attention_hidden_size: width of the tanh projection that is scored.
        num_heads: H; must divide D. None: one, which is not told apart from the document's weights.
        attention_dropout: drop probability of the chunk weights in training.

    Raises:
        ValueError: H does not divide D.
    """

    def __init__(
        self, *, hidden_size: int, attention_hidden_size: int, num_heads: int | None, attention_dropout: float
    ) -> None:
        super().__init__()
        self.has_heads = num_heads is not None
        self.num_heads = 1 if num_heads is None else num_heads
        check_heads(self.num_heads, hidden_size, name="attention_heads")
        self.projection = nn.Linear(hidden_size, attention_hidden_size)
        self.score = nn.Linear(attention_hidden_size, self.num_heads, bias=False)
        self.dropout = Dropout(attention_dropout)

    def forward(self, chunks: Tensor, chunk_mask: Tensor) -> Pooled:
        """Pool ``chunks`` (B, C, D); ``chunk_mask`` (B, C) bool, True = padding chunk."""
        scores = self.score(torch.tanh(self.projection(chunks))).transpose(1, 2)  # (B, H, C)
        padding = send(chunk_mask, chunks.device).unsqueeze(1)
        weights = scores.masked_fill(padding, float("-inf")).softmax(dim=-1)
        slices = chunks.unflatten(2, (self.num_heads, -1)).transpose(1, 2)  # (B, H, C, D/H)
        pooled = torch.matmul(self.dropout(weights).unsqueeze(2), slices).flatten(1)  # (B, D)
        return Pooled(pooled, weights.mean(dim=1), weights if self.has_heads else None)


class MeanPooling(nn.Module):
    """The mean of the real chunks."""

    def forward(self, chunks: Tensor, chunk_mask: Tensor) -> Pooled:
        """Pool ``chunks`` (B, C, D); ``chunk_mask`` (B, C) bool, True = padding chunk."""
        real = send(~chunk_mask, chunks.device).to(chunks.dtype)
        weights = real / real.sum(dim=1, keepdim=True)
        return Pooled(torch.bmm(weights.unsqueeze(1), chunks).squeeze(1), weights)


class MaxPooling(nn.Module):
    """The largest value of each dimension; a chunk's weight is the share of dimensions that it wins."""

    def forward(self, chunks: Tensor, chunk_mask: Tensor) -> Pooled:
        """Pool ``chunks`` (B, C, D); ``chunk_mask`` (B, C) bool, True = padding chunk."""
        padding = send(chunk_mask, chunks.device).unsqueeze(2)
        values, winners = chunks.masked_fill(padding, float("-inf")).max(dim=1)  # (B, D)
        places = torch.arange(chunks.shape[1], device=chunks.device)
        wins = (winners.unsqueeze(1) == places[None, :, None]).sum(dim=2)  # (B, C)
        return Pooled(values, wins.to(chunks.dtype) / chunks.shape[2])


class FirstPooling(nn.Module):
    """The first real chunk alone."""

    def forward(self, chunks: Tensor, chunk_mask: Tensor) -> Pooled:
        """Pool ``chunks`` (B, C, D); ``chunk_mask`` (B, C) bool, True = padding chunk."""
        first = ~chunk_mask & ((~chunk_mask).cumsum(dim=1) == 1)
        places = send(first.flatten().nonzero().squeeze(1), chunks.device)  # (B,)
        vectors = chunks.flatten(0, 1).index_select(0, places)
        return Pooled(vectors, send(first, chunks.device).to(chunks.dtype))


class TransformerPooling(nn.Module):
    """A small encoder over a learned [CLS] vector and the chunks (ToBERT, Pappagari et al. 2019).

    The document is the last layer's [CLS]; the weights are its attention to the chunks there, the share that
    goes to itself taken out of each head, the mean over heads.

    Args:
        hidden_size: D.
        num_heads: H; must divide D.
        layer_norm_eps: added to the variance.
        attention_dropout: drop probability of the attention weights.
        hidden_dropout: drop probability before residual sums.

    Raises:
        ValueError: H does not divide D.
    """

    def __init__(
        self,
        *,
        hidden_size: int,
        num_heads: int,
        layer_norm_eps: float,
        attention_dropout: float,
        hidden_dropout: float,
    ) -> None:
        super().__init__()
        check_heads(num_heads, hidden_size, name="attention_heads")
        self.cls = nn.Embedding(1, hidden_size)
        self.layers = nn.ModuleList(
            EncoderLayer(
                hidden_size=hidden_size,
                num_attention_heads=num_heads,
                intermediate_size=_CHUNK_FEED_FORWARD * hidden_size,
                layer_norm_eps=layer_norm_eps,
                hidden_dropout_prob=hidden_dropout,
                attention_probs_dropout_prob=attention_dropout,
                attention_backend="explicit",
            )
            for _ in range(_CHUNK_LAYERS)
        )
        self.num_heads = num_heads

    def forward(self, chunks: Tensor, chunk_mask: Tensor) -> Pooled:
        """Pool ``chunks`` (B, C, D); ``chunk_mask`` (B, C) bool, True = padding chunk."""
        batch, _, hidden_size = chunks.shape
        mask = torch.cat([chunk_mask.new_zeros(batch, 1), chunk_mask], dim=1)  # (B, 1 + C)
        with_cls = torch.cat([self.cls.weight.expand(batch, 1, hidden_size), chunks], dim=1)
        layout = SequenceLayout.from_mask(mask, num_heads=self.num_heads, device=chunks.device)
        hidden = with_cls.flatten(0, 1).index_select(0, send(layout.token_indices, chunks.device))  # (N, D)
        for layer in self.layers[:-1]:
            hidden = layer(hidden, layout)
        per_head = self._cls_attention(hidden, mask)
        is_cls = torch.zeros_like(mask)
        is_cls[:, 0] = True
        return Pooled(self.layers[-1](hidden, layout, layout.select(is_cls)), per_head.mean(dim=1), per_head)

    @torch.no_grad()
    def _cls_attention(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Return (B, H, C): last-layer attention of [CLS]; from its input (N, D) and ``mask`` (B, 1 + C)."""
        last = self.layers[-1]
        assert isinstance(last, EncoderLayer)
        packed = unpack(last.attention.query_key_value(hidden), ~mask)  # (B, 1 + C, 3D)
        query, key, _ = packed.unflatten(2, (3, self.num_heads, -1)).unbind(dim=2)  # (B, 1 + C, H, K)
        scores = torch.einsum("bhk,bchk->bhc", query[:, 0], key[:, 1:]) * query.shape[-1] ** -0.5
        padding = send(mask[:, 1:], scores.device).unsqueeze(1)
        return scores.masked_fill(padding, float("-inf")).softmax(dim=-1)


def build_pooling(
    name: str,
    *,
    hidden_size: int,
    attention_hidden_size: int,
    attention_heads: int,
    attention_dropout: float,
    hidden_dropout: float,
    layer_norm_eps: float,
) -> nn.Module:
    """Return the pooling of that name; the scalars that it has no use for are passed over.

    Args:
        name: one of ``POOLINGS``.
        hidden_size: D.
        attention_hidden_size: width of the tanh projection (attention, multihead).
        attention_heads: H (multihead, transformer); must divide D.
        attention_dropout: drop probability of the weights over chunks (attention, multihead, transformer).
        hidden_dropout: drop probability before residual sums (transformer).
        layer_norm_eps: added to the variance (transformer).

    Raises:
        ValueError: the name is unknown, H does not divide D, or a drop probability is none, used or not.
    """
    check_probability(attention_dropout)
    check_probability(hidden_dropout)
    if name in {"attention", "multihead"}:
        return AttentionPooling(
            hidden_size=hidden_size,
            attention_hidden_size=attention_hidden_size,
            num_heads=attention_heads if name == "multihead" else None,
            attention_dropout=attention_dropout,
        )
    if name == "transformer":
        return TransformerPooling(
            hidden_size=hidden_size,
            num_heads=attention_heads,
            layer_norm_eps=layer_norm_eps,
            attention_dropout=attention_dropout,
            hidden_dropout=hidden_dropout,
        )
    plain: dict[str, type[nn.Module]] = {"mean": MeanPooling, "max": MaxPooling, "cls": FirstPooling}
    if name not in plain:
        raise ValueError(f"unknown pooling {name!r}, expected one of {', '.join(POOLINGS)}")
    return plain[name]()


def build_chunk_positions(hidden_size: int, *, max_chunks: int | None, pooling: str) -> nn.Embedding:
    """Return the table of learned vectors for the places of chunks, (max_chunks, D).

    Raises:
        ValueError: there is no ``max_chunks``, or the pooling has no use for places.
    """
    if max_chunks is None or pooling not in POSITIONED_POOLINGS:
        raise ValueError(
            f"position embeddings need max_chunks and a pooling of {', '.join(POSITIONED_POOLINGS)}; "
            f"found max_chunks {max_chunks}, pooling {pooling}"
        )
    return nn.Embedding(max_chunks, hidden_size)

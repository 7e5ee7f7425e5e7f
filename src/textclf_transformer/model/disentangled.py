"""Disentangled attention (DeBERTa, He et al. 2021): content and relative position as two vectors.

The score of query i and key j, δ(i, j) = clamp(i − j + R, 0, 2R − 1) being a row of the table of relative
positions that all layers share (section 3.1 of the paper), is a sum of three products::

    (content i · content j + content i · position key δ(i, j) + content j · position query δ(i, j)) / √(3K)

It is the first version of the model: one row per distance, no buckets. Places are counted among the real
tokens of a sequence, so padding may stand anywhere.

b sequences of a group, s the longest of them, N real tokens, D hidden size, H heads, K head dim, R
``max_relative_positions``, W the longest sequence of a batch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from textclf_transformer.model.attention import check_backend, check_heads
from textclf_transformer.model.dropout import Dropout, check_probability, dropout
from textclf_transformer.model.layout import (
    Selection,
    SequenceGroup,
    SequenceLayout,
    from_rectangle,
    to_rectangle,
)

_TERMS = 3  # content to content, content to position, position to content


class ContentEmbeddings(nn.Module):
    """Word embedding, LayerNorm, dropout; beside it the table of relative positions that the layers share.

    Args:
        vocab_size: V.
        hidden_size: D.
        max_relative_positions: R; distances of R and more share a row of the table.
        pad_token_id: its row stays zero.
        layer_norm_eps: added to the variance.
        dropout_prob: drop probability of the embedding.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        hidden_size: int,
        max_relative_positions: int,
        pad_token_id: int,
        layer_norm_eps: float,
        dropout_prob: float,
    ) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(vocab_size, hidden_size, padding_idx=pad_token_id)
        self.relative_position_embeddings = nn.Embedding(2 * max_relative_positions, hidden_size)
        self.norm = nn.LayerNorm(hidden_size, eps=layer_norm_eps)
        self.dropout = Dropout(dropout_prob)

    @property
    def relative_positions(self) -> Tensor:
        """(2R, D): row R + d is the vector of distance d = i − j, from −R to R − 1."""
        return self.relative_position_embeddings.weight

    def forward(self, token_ids: Tensor, position_ids: Tensor) -> Tensor:
        """Map (N,) token ids to (N, D); ``position_ids`` (N,) are not read: the input carries no place."""
        return self.dropout(self.norm(self.word_embeddings(token_ids)))


class DisentangledSelfAttention(nn.Module):
    """Multi-head disentangled attention.

    Keys have no bias: it would add to the scores of position queries, where it does not cancel.

    Args:
        hidden_size: D.
        num_attention_heads: H; must divide D.
        attention_probs_dropout_prob: drop probability of the attention weights.
        position_dropout_prob: drop probability of the relative positions' vectors.
        backend: "explicit" or "fused", as in ``attend``; the same numbers to rounding.

    Raises:
        ValueError: H does not divide D, the backend is another, or a drop probability is none.
    """

    def __init__(
        self,
        *,
        hidden_size: int,
        num_attention_heads: int,
        attention_probs_dropout_prob: float,
        position_dropout_prob: float,
        backend: str,
    ) -> None:
        super().__init__()
        check_heads(num_attention_heads, hidden_size)
        backends = {"explicit": _explicit_attention, "fused": _fused_attention}
        check_backend(backend, backends)
        check_probability(attention_probs_dropout_prob)
        self.num_attention_heads = num_attention_heads
        self.dropout_prob = attention_probs_dropout_prob
        self.attention = backends[backend]
        self.query_key_value = nn.Linear(hidden_size, 3 * hidden_size, bias=False)
        self.query_bias = nn.Parameter(torch.zeros(hidden_size))
        self.value_bias = nn.Parameter(torch.zeros(hidden_size))
        self.position_key = nn.Linear(hidden_size, hidden_size, bias=False)
        self.position_query = nn.Linear(hidden_size, hidden_size)
        self.position_dropout = Dropout(position_dropout_prob)

    def forward(
        self,
        hidden: Tensor,
        layout: SequenceLayout,
        relative_positions: Tensor,
        selection: Selection | None = None,
    ) -> Tensor:
        """Map (N, D) to (N', D): the heads' outputs side by side, before the output projection.

        Args:
            hidden: (N, D).
            layout: which tokens form a sequence.
            relative_positions: (2R, D), see ``ContentEmbeddings``.
            selection: tokens whose output is wanted; None means all. Attention runs for all of them.
        """
        query, key, value = self.query_key_value(hidden).chunk(3, dim=1)
        context = self._attend(query, key, value, layout, relative_positions)
        return context if selection is None else selection.of(context)

    def attend_from(
        self, queries: Tensor, hidden: Tensor, layout: SequenceLayout, relative_positions: Tensor
    ) -> Tensor:
        """Do the same with queries (N, D) of their own; keys and values come from ``hidden`` (N, D)."""
        query_weight, key_value_weight = self.query_key_value.weight.split(
            [hidden.shape[1], 2 * hidden.shape[1]]
        )
        key, value = F.linear(hidden, key_value_weight).chunk(2, dim=1)
        return self._attend(F.linear(queries, query_weight), key, value, layout, relative_positions)

    def _attend(
        self, query: Tensor, key: Tensor, value: Tensor, layout: SequenceLayout, relative_positions: Tensor
    ) -> Tensor:
        """Attend with projections (N, D) that have no bias yet; (N, D) out."""
        head_dim = query.shape[1] // self.num_attention_heads
        scale = (_TERMS * head_dim) ** -0.5
        query, key, value = (
            tokens.unflatten(1, (self.num_attention_heads, head_dim))  # (N, H, K)
            for tokens in (
                (query + self.query_bias.to(query.dtype)) * scale,
                key,
                value + self.value_bias.to(value.dtype),
            )
        )
        position_key, position_query = self._project_positions(relative_positions, layout.longest)
        sizes = [group.num_tokens for group in layout.groups]
        outputs = []
        for group, q, k, v in zip(
            layout.groups, query.split(sizes), key.split(sizes), value.split(sizes), strict=True
        ):
            if group.num_tokens == 0:
                continue
            q, k, v = (to_rectangle(tokens, group) for tokens in (q, k, v))
            scores = _position_scores(q, k, position_key, position_query * scale)
            dropout_p = self.dropout_prob if self.training else 0.0
            outputs.append(from_rectangle(self.attention(q, k, v, scores, group, dropout_p), group))
        context = torch.cat(outputs) if outputs else query.new_zeros(query.shape)
        return context.flatten(1)

    def _project_positions(self, relative_positions: Tensor, longest: int) -> tuple[Tensor, Tensor]:
        """Return position keys and queries (H, 2W, K) for distances W, W − 1, …, 1 − W (``longest``)."""
        span = relative_positions.shape[0] // 2
        distances = torch.arange(longest, -longest, -1, device=relative_positions.device)
        rows = (distances + span).clamp_(0, 2 * span - 1)
        vectors = self.position_dropout(relative_positions.index_select(0, rows))  # (2W, D)
        projections = (self.position_key(vectors), self.position_query(vectors))
        key, query = (p.unflatten(1, (self.num_attention_heads, -1)).transpose(0, 1) for p in projections)
        return key, query


def _position_scores(query: Tensor, key: Tensor, position_key: Tensor, position_query: Tensor) -> Tensor:
    """Return the scores (b, H, s, s) that know about places: content to position + position to content.

    Args:
        query: (b, H, s, K), scaled.
        key: (b, H, s, K).
        position_key: (H, 2W, K) for falling distances, see ``_project_positions``.
        position_query: (H, 2W, K), scaled.
    """
    length, widest = query.shape[2], position_key.shape[1] // 2
    # Distances s, …, 1 − s are the middle of the table. Along a row of keys j the distance i − j falls; along
    # a row of queries i it rises, hence the flip.
    middle = slice(widest - length, widest + length)
    to_position = torch.matmul(query, position_key[:, middle].transpose(-1, -2))  # (b, H, s, 2s)
    from_position = torch.matmul(key, position_query[:, middle].flip(1).transpose(-1, -2))
    return _shift(to_position, first=length) + _shift(from_position, first=length - 1).transpose(-1, -2)


def _shift(scores: Tensor, *, first: int) -> Tensor:
    """Return (b, H, s, s) with cell (i, j) = ``scores[…, i, first − i + j]``, of (b, H, s, 2s).

    In the flattened rectangle the place of that cell is (2s − 1)·i + j + first: rows one cell shorter. This
    view costs nothing, and its gradient no sum over repeated places as that of a gather does (the trick of
    Huang et al. 2018, "Music Transformer").
    """
    length = scores.shape[2]
    cells = scores.flatten(-2)[..., first : first + length * (2 * length - 1)]
    return cells.unflatten(-1, (length, 2 * length - 1))[..., :length]


def _explicit_attention(
    query: Tensor, key: Tensor, value: Tensor, scores: Tensor, group: SequenceGroup, dropout_p: float
) -> Tensor:
    """Softmax attention written out, ``scores`` (b, H, s, s) added; (b, H, s, K) in and out."""
    scores = torch.matmul(query, key.transpose(-1, -2)) + scores
    if group.padding is not None:
        scores = scores.masked_fill_(group.padding, float("-inf"))
    weights = dropout(scores.softmax(dim=-1), p=dropout_p, training=True)
    return torch.matmul(weights, value)


def _fused_attention(
    query: Tensor, key: Tensor, value: Tensor, scores: Tensor, group: SequenceGroup, dropout_p: float
) -> Tensor:
    """The same through torch's fused kernels."""
    if group.padding is not None:
        scores = scores.masked_fill(group.padding, float("-inf"))
    scores = scores.to(query.dtype)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=scores, dropout_p=dropout_p, scale=1.0)

"""Softmax attention with the softmax written out, forward and backward, for CPUs.

torch's fused kernels are slow there in bf16 and with dropout. What autograd would record of the same formulas
costs a quarter more: copies of transposed operands and of each group's share of the output, a pass over the
scores for their scale and one for their padding. Here groups write into their place and buffers are used
again.

b sequences of a group, s the longest of them, n its real tokens, N real tokens of the batch, N' those whose
output is wanted, H heads, K head dim, P parts of a token (query, key, value) that stand together.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from textclf_transformer.model.dropout import draw_keep
from textclf_transformer.model.layout import SequenceGroup, SequenceLayout


def explicit_attention(
    packed: Tensor,
    layout: SequenceLayout,
    dropout_p: float,
    query: Tensor | None = None,
    query_layout: SequenceLayout | None = None,
) -> Tensor:
    """Run scaled dot-product attention (Vaswani et al. 2017, section 3.2.1); in and out as of ``attend``."""
    context: Tensor = _ExplicitAttention.apply(packed, query, layout, query_layout or layout, dropout_p)
    return context


class _ExplicitAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        packed: Tensor,
        query: Tensor | None,
        layout: SequenceLayout,
        query_layout: SequenceLayout,
        dropout_p: float,
    ) -> Tensor:
        num_heads, head_dim = packed.shape[2:]
        num_queries = len(packed) if query is None else len(query)
        context = packed.new_empty(num_queries, num_heads, head_dim)
        saved: list[Tensor | None] = []
        ctx.scale = head_dim**-0.5
        ctx.dropout_scale = 1.0
        for (group, part), (queries, wanted) in zip(_parts(layout), _parts(query_layout), strict=True):
            if queries.num_tokens == 0:
                continue
            heads = _to_heads(packed[part], group)
            key, value = heads[-2:]
            own_query = heads[0] if query is None else _to_heads(query[wanted, None], queries)[0]
            weights = _scaled_product(own_query, key.transpose(1, 2), ctx.scale)
            _hide_padding(weights, group)
            torch.softmax(weights, dim=-1, out=weights)
            keep, kept = None, weights
            if dropout_p > 0.0:
                keep, ctx.dropout_scale = draw_keep(weights, p=dropout_p)
                kept = weights * keep.to(weights.dtype)
            result = _scaled_product(kept, value, ctx.dropout_scale)
            _to_tokens(result[None], queries, out=context[wanted, None])
            saved += (heads, None if query is None else own_query, weights, keep)
        ctx.save_for_backward(*saved)
        ctx.layout, ctx.query_layout, ctx.num_parts = layout, query_layout, packed.shape[1]
        return context

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, None, None, None]:
        layout, query_layout = ctx.layout, ctx.query_layout
        for_packed = gradient.new_empty(layout.num_tokens, ctx.num_parts, *gradient.shape[1:])
        for_query = None if ctx.num_parts == 3 else torch.empty_like(gradient)
        saved = iter(ctx.saved_tensors)
        for (group, part), (queries, wanted) in zip(_parts(layout), _parts(query_layout), strict=True):
            if queries.num_tokens == 0:
                for_packed[part] = 0.0
                continue
            heads, query, weights, keep = (next(saved) for _ in range(4))
            inner = torch.empty_like(heads)
            inner_query = inner[0]
            if query is None:
                query = heads[0]
            else:
                inner_query = torch.empty_like(query)
            key, value = heads[-2:]
            (outer,) = _to_heads(gradient[wanted, None], queries)
            kept = weights
            if keep is not None:
                keep = keep.to(weights.dtype)
                kept = weights * keep
            _scaled_product(kept.transpose(1, 2), outer, ctx.dropout_scale, out=inner[-1])
            for_weights = _scaled_product(outer, value.transpose(1, 2), ctx.dropout_scale)
            if keep is not None:
                for_weights *= keep
            for_scores = torch._softmax_backward_data(
                for_weights, weights, -1, weights.dtype, grad_input=for_weights
            )
            _scaled_product(for_scores, key, ctx.scale, out=inner_query)
            _scaled_product(for_scores.transpose(1, 2), query, ctx.scale, out=inner[-2])
            _to_tokens(inner, group, out=for_packed[part])
            if for_query is not None:
                _to_tokens(inner_query[None], queries, out=for_query[wanted, None])
        return for_packed, for_query, None, None, None


def _parts(layout: SequenceLayout) -> Iterator[tuple[SequenceGroup, slice]]:
    """Yield each group and where its tokens stand among all."""
    start = 0
    for group in layout.groups:
        yield group, slice(start, start := start + group.num_tokens)


def _scaled_product(left: Tensor, right: Tensor, scale: float, *, out: Tensor | None = None) -> Tensor:
    """Return ``scale * left @ right`` of (b·H, i, j) and (b·H, j, k)."""
    if out is None:
        out = left.new_empty(left.shape[0], left.shape[1], right.shape[2])
    return torch.baddbmm(out, left, right, beta=0, alpha=scale, out=out)


def _hide_padding(scores: Tensor, group: SequenceGroup) -> None:
    """Set the scores (b·H, queries, s) of keys that are padding to minus infinity."""
    if not group.is_padded:
        return
    by_sequence = scores.view(group.num_sequences, -1, *scores.shape[1:])
    for sequence, length in zip(by_sequence, group.lengths, strict=True):
        # a sequence without any token attends to one zero cell: a softmax over nothing would be NaN
        sequence[..., max(length, 1) :] = float("-inf")


def _to_heads(tokens: Tensor, group: SequenceGroup) -> Tensor:
    """Spread (n, P, H, K) tokens of a group over (P, b·H, s, K), zeros on padding."""
    _, parts, num_heads, head_dim = tokens.shape
    if not group.is_padded:
        by_sequence = tokens.view(group.num_sequences, group.length, parts, num_heads, head_dim)
        # one sequence would stay a view, which each product then copies for itself
        return by_sequence.permute(2, 0, 3, 1, 4).reshape(parts, -1, group.length, head_dim).contiguous()
    heads = tokens.new_zeros(parts, group.num_sequences, num_heads, group.length, head_dim)
    # a copy for each sequence takes half as long as one indexed copy of all and a transposed one after it
    for sequence, own in zip(heads.unbind(1), tokens.split(group.lengths), strict=True):
        sequence[:, :, : len(own)] = own.permute(1, 2, 0, 3)
    return heads.flatten(1, 2)


def _to_tokens(heads: Tensor, group: SequenceGroup, *, out: Tensor) -> None:
    """Collect the real tokens of (P, b·H, s, K) in ``out``, (n, P, H, K)."""
    parts, _, length, head_dim = heads.shape
    by_sequence = heads.view(parts, group.num_sequences, -1, length, head_dim).permute(1, 3, 0, 2, 4)
    if not group.is_padded:
        out.view(by_sequence.shape).copy_(by_sequence)
        return
    for sequence, own in zip(by_sequence, out.split(group.lengths), strict=True):
        own.copy_(sequence[: len(own)])

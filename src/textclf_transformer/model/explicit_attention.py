"""Softmax attention with the softmax written out, forward and backward, for CPUs.

torch's fused kernels are slow there in bf16 and with dropout. What autograd would record of the same formulas
costs a quarter more: copies of transposed operands and of each group's share of the output, a pass over the
scores for their scale and one for their padding. Here groups write into their place and buffers are used
again.

b sequences of a group, s the longest of them, n its real tokens, N real tokens of the batch, H heads, K head
dim.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from textclf_transformer.model.dropout import draw_keep
from textclf_transformer.model.layout import SequenceGroup, SequenceLayout


def explicit_attention(query_key_value: Tensor, layout: SequenceLayout, dropout_p: float) -> Tensor:
    """Softmax attention written out (Vaswani et al. 2017, section 3.2.1).

    Args:
        query_key_value: (N, 3, H, K).
        layout: which tokens form a sequence.
        dropout_p: probability of dropping an attention weight.

    Returns:
        (N, H, K), same dtype.
    """
    context: Tensor = _ExplicitAttention.apply(query_key_value, layout, dropout_p)
    return context


class _ExplicitAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query_key_value: Tensor, layout: SequenceLayout, dropout_p: float) -> Tensor:
        num_tokens, _, num_heads, head_dim = query_key_value.shape
        context = query_key_value.new_empty(num_tokens, num_heads, head_dim)
        saved: list[Tensor | None] = []
        ctx.scale = head_dim**-0.5
        ctx.dropout_scale = 1.0
        start = 0
        for group in layout.groups:
            part = slice(start, start := start + group.num_tokens)
            if group.num_tokens == 0:
                continue
            heads = _to_heads(query_key_value[part], group)
            query, key, value = heads.unbind()
            weights = _scaled_product(query, key.transpose(1, 2), ctx.scale)
            _hide_padding(weights, group)
            torch.softmax(weights, dim=-1, out=weights)
            keep, kept = None, weights
            if dropout_p > 0.0:
                keep, ctx.dropout_scale = draw_keep(weights, p=dropout_p)
                kept = weights * keep
            _to_tokens(_scaled_product(kept, value, ctx.dropout_scale)[None], group, out=context[part, None])
            saved += (heads, weights, keep)
        ctx.save_for_backward(*saved)
        ctx.layout = layout
        return context

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        num_tokens, num_heads, head_dim = gradient.shape
        result = gradient.new_empty(num_tokens, 3, num_heads, head_dim)
        saved = iter(ctx.saved_tensors)
        start = 0
        for group in ctx.layout.groups:
            part = slice(start, start := start + group.num_tokens)
            if group.num_tokens == 0:
                continue
            heads, weights, keep = next(saved), next(saved), next(saved)
            query, key, value = heads.unbind()
            (outer,) = _to_heads(gradient[part, None], group)
            kept = weights if keep is None else weights * keep
            inner = torch.empty_like(heads)
            _scaled_product(kept.transpose(1, 2), outer, ctx.dropout_scale, out=inner[2])
            for_weights = _scaled_product(outer, value.transpose(1, 2), ctx.dropout_scale)
            if keep is not None:
                for_weights *= keep
            for_scores = torch._softmax_backward_data(
                for_weights, weights, -1, weights.dtype, grad_input=for_weights
            )
            _scaled_product(for_scores, key, ctx.scale, out=inner[0])
            _scaled_product(for_scores.transpose(1, 2), query, ctx.scale, out=inner[1])
            _to_tokens(inner, group, out=result[part])
        return result, None, None


def _scaled_product(left: Tensor, right: Tensor, scale: float, *, out: Tensor | None = None) -> Tensor:
    """Return ``scale * left @ right`` of (b·H, i, j) and (b·H, j, k)."""
    if out is None:
        out = left.new_empty(left.shape[0], left.shape[1], right.shape[2])
    return torch.baddbmm(out, left, right, beta=0, alpha=scale, out=out)


def _hide_padding(scores: Tensor, group: SequenceGroup) -> None:
    """Set the scores (b·H, s, s) of keys that are padding to minus infinity."""
    if group.cells is None:
        return
    by_sequence = scores.view(group.num_sequences, -1, *scores.shape[1:])
    for sequence, length in zip(by_sequence, group.lengths, strict=True):
        # a sequence without any token attends to one zero cell: a softmax over nothing would be NaN
        sequence[..., max(length, 1) :] = float("-inf")


def _to_heads(tokens: Tensor, group: SequenceGroup) -> Tensor:
    """Spread (n, C, H, K) tokens of a group over (C, b·H, s, K), zeros on padding."""
    _, parts, num_heads, head_dim = tokens.shape
    if group.cells is not None:
        rectangle = tokens.new_zeros(group.num_sequences * group.length, parts, num_heads, head_dim)
        tokens = rectangle.index_copy_(0, group.cells, tokens)
    heads = tokens.reshape(group.num_sequences, group.length, parts, num_heads, head_dim)
    return heads.permute(2, 0, 3, 1, 4).reshape(parts, -1, group.length, head_dim)


def _to_tokens(heads: Tensor, group: SequenceGroup, *, out: Tensor) -> None:
    """Collect the real tokens of (C, b·H, s, K) in ``out``, (n, C, H, K)."""
    parts, _, length, head_dim = heads.shape
    heads = heads.view(parts, group.num_sequences, -1, length, head_dim).permute(1, 3, 0, 2, 4)
    if group.cells is None:
        out.view(heads.shape).copy_(heads)
    else:
        torch.index_select(heads.flatten(0, 1), 0, group.cells, out=out)

"""Attention among the real tokens of each sequence: a function of (query, key, value, layout), two backends.

Everything else in the model runs on N real tokens without padding; only this file knows that they form
sequences.

B batch of sequences, S positions in a sequence, N real tokens of the batch, H heads, K head dim.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from textclf_transformer.model.dropout import dropout
from textclf_transformer.model.layout import SequenceLayout, from_rectangle, to_rectangle


def _explicit_attention(
    query: Tensor, key: Tensor, value: Tensor, padding: Tensor | None, dropout_p: float
) -> Tensor:
    """Softmax attention written out; (b, H, s, K) in and out (Vaswani et al. 2017, section 3.2.1)."""
    scores = torch.matmul(query * query.shape[-1] ** -0.5, key.transpose(-1, -2))  # (b, H, s, s)
    if padding is not None:
        scores = scores.masked_fill_(padding, float("-inf"))
    weights = dropout(scores.softmax(dim=-1), p=dropout_p, training=True)
    return torch.matmul(weights, value)


def _fused_attention(
    query: Tensor, key: Tensor, value: Tensor, padding: Tensor | None, dropout_p: float
) -> Tensor:
    """The same through torch's fused kernels; (b, H, s, K) in and out."""
    keep = None if padding is None else ~padding
    return F.scaled_dot_product_attention(query, key, value, attn_mask=keep, dropout_p=dropout_p)


_RectangleAttention = Callable[[Tensor, Tensor, Tensor, Tensor | None, float], Tensor]

_BACKENDS: dict[str, _RectangleAttention] = {"explicit": _explicit_attention, "fused": _fused_attention}


def choose_attention_backend(device: torch.device) -> str:
    """Return the backend for a device: "explicit" on a CPU, "fused" elsewhere.

    On a CPU without AMX the fused kernel has no fast bf16 path, and none with dropout.
    """
    return "explicit" if device.type == "cpu" else "fused"


def attend(
    query: Tensor, key: Tensor, value: Tensor, layout: SequenceLayout, *, backend: str, dropout_p: float
) -> Tensor:
    """Let each token attend to the real tokens of its own sequence.

    Args:
        query: (N, H, K).
        key: (N, H, K).
        value: (N, H, K).
        layout: which tokens form a sequence.
        backend: "explicit" or "fused"; the same numbers to rounding.
        dropout_p: probability of dropping an attention weight; 0 in evaluation.

    Returns:
        (N, H, K), same dtype.
    """
    attention = _BACKENDS[backend]
    sizes = [group.num_tokens for group in layout.groups]
    outputs = []
    for group, q, k, v in zip(
        layout.groups, query.split(sizes), key.split(sizes), value.split(sizes), strict=True
    ):
        if group.num_tokens == 0:
            continue
        q, k, v = (to_rectangle(tokens, group) for tokens in (q, k, v))
        outputs.append(from_rectangle(attention(q, k, v, group.padding, dropout_p), group))
    return torch.cat(outputs) if outputs else query.new_zeros(query.shape)

"""Attention among the real tokens of each sequence: (query, key, value, layout) in, three backends.

"explicit" writes the softmax out, "fused" is torch's dense kernel, both on padded rectangles of neighbouring
sequences; "varlen" is flash attention on packed tokens.

b sequences of a group, s the longest of them, N real tokens of the batch, H heads, K head dim.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

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


def _by_rectangles(
    attention: _RectangleAttention,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layout: SequenceLayout,
    dropout_p: float,
) -> Tensor:
    """Run a dense attention group by group; (N, H, K) in and out."""
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


def _varlen_attention(
    query: Tensor, key: Tensor, value: Tensor, layout: SequenceLayout, dropout_p: float
) -> Tensor:
    """Flash attention on packed sequences (Dao 2023, arXiv 2307.08691); (N, H, K) in and out.

    The arguments are those that torch 2.10 to 2.13 share.
    """
    if dropout_p > 0.0:
        raise ValueError("packed flash attention has no dropout; use the backend fused")
    if query.shape[0] == 0:
        return query.new_zeros(query.shape)
    from torch.nn.attention.varlen import varlen_attn  # not in every build of torch

    ends, longest = layout.cumulative_lengths, layout.longest
    output = varlen_attn(query, key, value, ends, ends, longest, longest)
    assert isinstance(output, Tensor)  # a pair only where the log-sum-exp is asked for
    return output


_Attention = Callable[[Tensor, Tensor, Tensor, SequenceLayout, float], Tensor]

_BACKENDS: dict[str, _Attention] = {
    "explicit": partial(_by_rectangles, _explicit_attention),
    "fused": partial(_by_rectangles, _fused_attention),
    "varlen": _varlen_attention,
}


class BackendChoice(NamedTuple):
    """Which backend runs, and why that one."""

    name: str
    reason: str


def choose_attention_backend(
    device: torch.device,
    *,
    amp_dtype: torch.dtype | None,
    attention_kind: str,
    dropout_prob: float,
    head_dim: int,
) -> BackendChoice:
    """Return the backend for a model; it follows from its config and the hardware alone.

    Args:
        device: where it will run.
        amp_dtype: dtype of matrix products; None: float32.
        attention_kind: standard or disentangled.
        dropout_prob: drop probability of attention weights in training.
        head_dim: K.
    """
    if device.type != "cuda":
        return BackendChoice("explicit", "on a CPU the fused kernels are slower in bf16 or with dropout")
    obstacles = {
        "disentangled attention adds scores of its own": attention_kind != "standard",
        "packed flash attention has no dropout on attention weights": dropout_prob > 0.0,
        "packed flash attention is for half precision": amp_dtype is None,
        "packed flash attention needs a head size divisible by 8, at most 256": head_dim % 8
        or head_dim > 256,
        "packed flash attention needs an Ampere GPU or later": not _is_ampere(device),
    }
    for obstacle, present in obstacles.items():
        if present:
            return BackendChoice("fused", obstacle)
    return BackendChoice("varlen", "packed flash attention: no work on padding")


def _is_ampere(device: torch.device) -> bool:
    return torch.cuda.get_device_capability(device) >= (8, 0)


def attend(
    query: Tensor, key: Tensor, value: Tensor, layout: SequenceLayout, *, backend: str, dropout_p: float
) -> Tensor:
    """Let each token attend to the real tokens of its own sequence.

    Args:
        query: (N, H, K).
        key: (N, H, K).
        value: (N, H, K).
        layout: which tokens form a sequence.
        backend: "explicit", "fused" or "varlen"; the same numbers to rounding. The last one runs on CUDA in
            half precision, without dropout.
        dropout_p: probability of dropping an attention weight; 0 in evaluation.

    Returns:
        (N, H, K), same dtype.

    Raises:
        ValueError: dropout with "varlen".
    """
    return _BACKENDS[backend](query, key, value, layout, dropout_p)

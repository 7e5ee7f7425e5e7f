"""Attention among the real tokens of each sequence: queries, keys, values and layout in, three backends.

"explicit" writes the softmax out, "fused" is torch's dense kernel, both on padded rectangles of neighbouring
sequences; "varlen" is flash attention on packed tokens.

N real tokens of the batch, H heads, K head dim.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from textclf_transformer.model.explicit_attention import explicit_attention
from textclf_transformer.model.layout import SequenceLayout, from_rectangle, to_rectangle


def _fused_attention(query_key_value: Tensor, layout: SequenceLayout, dropout_p: float) -> Tensor:
    """torch's dense kernels, group by group; (N, 3, H, K) in, (N, H, K) out."""
    query, key, value = query_key_value.unbind(dim=1)
    sizes = [group.num_tokens for group in layout.groups]
    outputs = []
    for group, q, k, v in zip(
        layout.groups, query.split(sizes), key.split(sizes), value.split(sizes), strict=True
    ):
        if group.num_tokens == 0:
            continue
        q, k, v = (to_rectangle(tokens, group) for tokens in (q, k, v))
        keep = None if group.padding is None else ~group.padding
        context = F.scaled_dot_product_attention(q, k, v, attn_mask=keep, dropout_p=dropout_p)
        outputs.append(from_rectangle(context, group))
    return torch.cat(outputs) if outputs else query.new_zeros(query.shape)


def _varlen_attention(query_key_value: Tensor, layout: SequenceLayout, dropout_p: float) -> Tensor:
    """Flash attention on packed sequences (Dao 2023, arXiv 2307.08691); (N, 3, H, K) in, (N, H, K) out.

    The arguments are those that torch 2.10 to 2.13 share.
    """
    if dropout_p > 0.0:
        raise ValueError("packed flash attention has no dropout; use the backend fused")
    query, key, value = query_key_value.unbind(dim=1)
    if query.shape[0] == 0:
        return query.new_zeros(query.shape)
    from torch.nn.attention.varlen import varlen_attn  # not in every build of torch

    ends, longest = layout.cumulative_lengths, layout.longest
    output = varlen_attn(query, key, value, ends, ends, longest, longest)
    assert isinstance(output, Tensor)  # a pair only where the log-sum-exp is asked for
    return output


_BACKENDS: dict[str, Callable[[Tensor, SequenceLayout, float], Tensor]] = {
    "explicit": explicit_attention,
    "fused": _fused_attention,
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


def attend(query_key_value: Tensor, layout: SequenceLayout, *, backend: str, dropout_p: float) -> Tensor:
    """Let each token attend to the real tokens of its own sequence.

    Args:
        query_key_value: (N, 3, H, K).
        layout: which tokens form a sequence.
        backend: "explicit", "fused" or "varlen"; the same numbers to rounding. The last one runs on CUDA in
            half precision, without dropout.
        dropout_p: probability of dropping an attention weight; 0 in evaluation.

    Returns:
        (N, H, K), same dtype.

    Raises:
        ValueError: dropout with "varlen".
    """
    return _BACKENDS[backend](query_key_value, layout, dropout_p)

"""Attention among the real tokens of each sequence: queries, keys, values and layout in, three backends.

"explicit" writes the softmax out, "fused" is torch's dense kernel, both on padded rectangles of neighbouring
sequences; "varlen" is flash attention on packed tokens.

N real tokens of the batch, H heads, K head dim.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from textclf_transformer.model.explicit_attention import explicit_attention
from textclf_transformer.model.layout import SequenceLayout, from_rectangle, to_rectangle


def _fused_attention(
    packed: Tensor,
    layout: SequenceLayout,
    dropout_p: float,
    query: Tensor | None = None,
    query_layout: SequenceLayout | None = None,
) -> Tensor:
    """torch's dense kernels, group by group; see ``explicit_attention``."""
    query, query_layout, key, value = _separate(packed, layout, query, query_layout)
    outputs = []
    for group, queries, q, k, v in zip(
        layout.groups,
        query_layout.groups,
        query.split([group.num_tokens for group in query_layout.groups]),
        key.split([group.num_tokens for group in layout.groups]),
        value.split([group.num_tokens for group in layout.groups]),
        strict=True,
    ):
        if queries.num_tokens == 0:
            continue
        q, k, v = to_rectangle(q, queries), to_rectangle(k, group), to_rectangle(v, group)
        keep = None if group.padding is None else ~group.padding
        context = F.scaled_dot_product_attention(q, k, v, attn_mask=keep, dropout_p=dropout_p)
        outputs.append(from_rectangle(context, queries))
    return torch.cat(outputs) if outputs else query.new_zeros(query.shape)


def _varlen_attention(
    packed: Tensor,
    layout: SequenceLayout,
    dropout_p: float,
    query: Tensor | None = None,
    query_layout: SequenceLayout | None = None,
) -> Tensor:
    """Flash attention on packed sequences (Dao 2023, arXiv 2307.08691); see ``explicit_attention``.

    The arguments are those that torch 2.10 to 2.13 share.
    """
    if dropout_p > 0.0:
        raise ValueError("packed flash attention has no dropout; use the backend fused")
    query, query_layout, key, value = _separate(packed, layout, query, query_layout)
    if query.shape[0] == 0:
        return query.new_zeros(query.shape)
    from torch.nn.attention.varlen import varlen_attn  # not in every build of torch

    output = varlen_attn(
        query,
        key,
        value,
        query_layout.cumulative_lengths,
        layout.cumulative_lengths,
        query_layout.longest,
        layout.longest,
    )
    assert isinstance(output, Tensor)  # a pair only where the log-sum-exp is asked for
    return output


def _separate(
    packed: Tensor, layout: SequenceLayout, query: Tensor | None, query_layout: SequenceLayout | None
) -> tuple[Tensor, SequenceLayout, Tensor, Tensor]:
    """Return queries, their layout, keys and values."""
    if query is None:
        query, key, value = packed.unbind(dim=1)
        return query, layout, key, value
    assert query_layout is not None
    key, value = packed.unbind(dim=1)
    return query, query_layout, key, value


_BACKENDS: dict[str, Callable[..., Tensor]] = {
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
        "packed flash attention is not in this build of torch": not _has_flash_attention(),
    }
    for obstacle, present in obstacles.items():
        if present:
            return BackendChoice("fused", obstacle)
    return BackendChoice("varlen", "packed flash attention: no work on padding")


def _has_flash_attention() -> bool:
    """Whether torch was built with it; on Windows it may not be, and on a CPU's build it never is."""
    return torch.backends.cuda.is_flash_attention_available()


def _is_ampere(device: torch.device) -> bool:
    return torch.cuda.get_device_capability(device) >= (8, 0)


def check_heads(num_heads: int, hidden_size: int, *, name: str = "num_attention_heads") -> None:
    """Raise ValueError, with the argument's ``name``, unless there are heads and they divide the vectors."""
    if num_heads < 1 or hidden_size % num_heads:
        raise ValueError(f"{name} {num_heads} does not divide hidden_size {hidden_size}")


def check_backend(name: str, known: Collection[str] = tuple(_BACKENDS)) -> None:
    """Raise ValueError unless ``name`` is one of the backends that an attention has."""
    if name not in known:
        raise ValueError(f"unknown attention_backend {name!r}, expected one of {tuple(known)}")


def attend(
    packed: Tensor,
    layout: SequenceLayout,
    *,
    backend: str,
    dropout_p: float,
    query: Tensor | None = None,
    query_layout: SequenceLayout | None = None,
) -> Tensor:
    """Let each token, or some of them, attend to the real tokens of its own sequence.

    Args:
        packed: (N, 3, H, K), queries, keys and values; with ``query`` (N, 2, H, K), keys and values.
        layout: which tokens form a sequence.
        backend: "explicit", "fused" or "varlen"; the same numbers to rounding. The last one runs on CUDA in
            half precision, without dropout.
        dropout_p: probability of dropping an attention weight; 0 in evaluation.
        query: (N', H, K), queries of the tokens of a ``Selection``.
        query_layout: the layout of that selection.

    Returns:
        (N, H, K), or (N', H, K); same dtype.

    Raises:
        ValueError: dropout with "varlen".
    """
    return _BACKENDS[backend](packed, layout, dropout_p, query, query_layout)

"""Attention among the real tokens of each sequence: a function of (query, key, value, layout), two backends.

Everything else in the model runs on N real tokens without padding; only this file knows that they form
sequences.

B batch of sequences, S positions in a sequence, N real tokens of the batch, H heads, K head dim.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from textclf_transformer.model.dropout import dropout

# Score cells (sequences × heads × S × S) handled at a time by the dense backend. 2 million cells of bf16 are
# 4 MB: they stay in the cache between the product, the softmax and the second product (1.4 times faster than
# whole batches).
_DENSE_CELLS = 2_000_000


def check_attention_mask(attention_mask: Tensor, shape: torch.Size) -> None:
    """Refuse a mask that is not bool or does not fit the ids.

    Args:
        attention_mask: the mask, True = PAD.
        shape: the shape of the ids.

    Raises:
        TypeError: the dtype is not bool; the message says how to turn a 1-means-keep mask round.
        ValueError: the shapes differ.
    """
    if attention_mask.dtype != torch.bool:
        raise TypeError(
            f"attention_mask must be torch.bool with True = PAD, found {attention_mask.dtype}; "
            "turn a 1-means-keep mask round with attention_mask == 0"
        )
    if attention_mask.shape != shape:
        raise ValueError(f"attention_mask has shape {tuple(attention_mask.shape)}, input_ids {tuple(shape)}")


@dataclass(frozen=True, slots=True)
class SequenceGroup:
    """Neighbouring sequences that attention treats in one padded rectangle.

    Attributes:
        num_sequences: b, sequences in the group.
        length: s, the longest of them in tokens.
        num_tokens: n, real tokens of the group.
        cells: (n,) int64, place of each token in the flattened (b, s) rectangle; None where there is no
            padding.
        padding: (b, 1, 1, s) bool, True = PAD; None where there is none. Never True all along a row.
    """

    num_sequences: int
    length: int
    num_tokens: int
    cells: Tensor | None
    padding: Tensor | None


@dataclass(frozen=True, slots=True)
class SequenceLayout:
    """Which of the N packed tokens belong to which sequence.

    Attributes:
        token_indices: (N,) int64, place of each real token in the flattened (B, S) ids.
        lengths: real tokens of each sequence, as Python integers.
        groups: the sequences in order, cut into groups.
    """

    token_indices: Tensor
    lengths: tuple[int, ...]
    groups: tuple[SequenceGroup, ...]

    @classmethod
    def from_mask(cls, attention_mask: Tensor, *, num_heads: int) -> SequenceLayout:
        """Build the layout of a batch.

        Args:
            attention_mask: (B, S) bool, True = PAD; padding may stand anywhere in a row.
            num_heads: H, decides how many sequences form a group.

        Returns:
            The layout; it depends on the mask alone.
        """
        lengths = (~attention_mask).sum(dim=1).tolist()
        token_indices = (~attention_mask).flatten().nonzero().squeeze(1)
        groups = []
        first = 0
        while first < len(lengths):
            last = first + 1
            longest = lengths[first]
            while last < len(lengths):
                longest_with_next = max(longest, lengths[last])
                if (last + 1 - first) * num_heads * longest_with_next**2 > _DENSE_CELLS:
                    break
                longest = longest_with_next
                last += 1
            groups.append(_make_group(lengths[first:last], device=attention_mask.device))
            first = last
        return cls(token_indices=token_indices, lengths=tuple(lengths), groups=tuple(groups))


def _make_group(lengths: list[int], *, device: torch.device) -> SequenceGroup:
    longest = max(lengths)
    num_tokens = sum(lengths)
    if num_tokens == len(lengths) * longest:
        return SequenceGroup(len(lengths), longest, num_tokens, cells=None, padding=None)
    padding = torch.arange(longest) >= torch.tensor(lengths).unsqueeze(1)  # (b, s)
    cells = (~padding).flatten().nonzero().squeeze(1)
    # A sequence without any token attends to one zero cell and is not collected: a softmax over nothing
    # would be NaN.
    padding[:, 0] = False
    return SequenceGroup(
        num_sequences=len(lengths),
        length=longest,
        num_tokens=num_tokens,
        cells=cells.to(device),
        padding=padding[:, None, None, :].to(device),
    )


def to_rectangle(tokens: Tensor, group: SequenceGroup) -> Tensor:
    """Spread (n, H, K) tokens of a group over (b, H, s, K), zeros on padding."""
    _, num_heads, head_dim = tokens.shape
    if group.cells is not None:
        rectangle = tokens.new_zeros(group.num_sequences * group.length, num_heads, head_dim)
        tokens = rectangle.index_copy(0, group.cells, tokens)
    return tokens.view(group.num_sequences, group.length, num_heads, head_dim).transpose(1, 2)


def from_rectangle(rectangle: Tensor, group: SequenceGroup) -> Tensor:
    """Collect the real tokens of (b, H, s, K) as (n, H, K)."""
    _, num_heads, _, head_dim = rectangle.shape
    tokens = rectangle.transpose(1, 2).reshape(-1, num_heads, head_dim)
    return tokens if group.cells is None else tokens.index_select(0, group.cells)


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

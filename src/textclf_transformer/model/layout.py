"""Which tokens form a sequence: from padded rectangles to packed tokens and back.

Everything else in the model runs on N real tokens without padding; this file and the attention backends alone
know that they form sequences.

B batch of sequences, S positions in a sequence, N real tokens of the batch, H heads, K head dim, D hidden
size.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from textclf_transformer.utils import send

# Score cells (sequences × heads × S × S) handled at a time by the dense backends. On a CPU 4 million cells of
# bf16, 8 MB, stay in the cache between the product, the softmax and the second product (1.4 times faster than
# whole batches); a GPU wants few large kernels, and half a gigabyte is the bound.
_DENSE_CELLS = 2**22
_DENSE_CELLS_GPU = 2**28


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


@dataclass(frozen=True, eq=False)
class SequenceGroup:
    """Neighbouring sequences that attention treats in one padded rectangle.

    Attributes:
        lengths: real tokens of each sequence.
        device: where the tokens are computed.
    """

    lengths: tuple[int, ...]
    device: torch.device

    @property
    def num_sequences(self) -> int:
        """b."""
        return len(self.lengths)

    @property
    def length(self) -> int:
        """s, tokens of the longest sequence."""
        return max(self.lengths)

    @property
    def num_tokens(self) -> int:
        """n, real tokens of the group."""
        return sum(self.lengths)

    @property
    def is_padded(self) -> bool:
        """Whether the rectangle has padding."""
        return self.num_tokens < self.num_sequences * self.length

    @cached_property
    def cells(self) -> Tensor | None:
        """(n,) int64, place of each token in the flattened (b, s) rectangle; None where nothing is padded."""
        if not self.is_padded:
            return None
        return send((~self._beyond()).flatten().nonzero().squeeze(1), self.device)

    @cached_property
    def padding(self) -> Tensor | None:
        """(b, 1, 1, s) bool, True = PAD; None where nothing is padded. Never True all along a row."""
        if not self.is_padded:
            return None
        padding = self._beyond()
        # A sequence without any token attends to one zero cell and is not collected: a softmax over nothing
        # would be NaN.
        padding[:, 0] = False
        return send(padding, self.device)[:, None, None, :]

    def _beyond(self) -> Tensor:
        """Return (b, s) bool, True behind the end of a sequence."""
        lengths = torch.tensor(self.lengths, device="cpu")
        return torch.arange(self.length, device="cpu") >= lengths.unsqueeze(1)


@dataclass(frozen=True, eq=False)
class SequenceLayout:
    """Which of the N packed tokens belong to which sequence.

    Attributes:
        token_indices: (N,) int64, place of each real token in the flattened (B, S) ids; lies where the mask
            lay.
        lengths: real tokens of each sequence, as Python integers.
        num_heads: H, decides how many sequences form a group.
        device: where the tokens are computed.
        grouped_as: the layout whose groups these sequences form, too; None: they are grouped by their sizes.
    """

    token_indices: Tensor
    lengths: tuple[int, ...]
    num_heads: int
    device: torch.device
    grouped_as: SequenceLayout | None = None

    @classmethod
    def from_mask(
        cls, attention_mask: Tensor, *, num_heads: int, device: torch.device | None = None
    ) -> SequenceLayout:
        """Build the layout of a batch; with a mask on the CPU nothing waits for a GPU.

        Args:
            attention_mask: (B, S) bool, True = PAD; padding may stand anywhere in a row.
            num_heads: H.
            device: where the tokens are computed; None: where the mask lies.
        """
        return cls(
            token_indices=(~attention_mask).flatten().nonzero().squeeze(1),
            lengths=tuple((~attention_mask).sum(dim=1).tolist()),
            num_heads=num_heads,
            device=device or attention_mask.device,
        )

    @property
    def num_tokens(self) -> int:
        """N."""
        return len(self.token_indices)

    def select(self, wanted: Tensor) -> Selection:
        """Return the tokens at some places.

        Args:
            wanted: (B, S) bool, lies where the mask lay; all True places must be real tokens.
        """
        of_tokens = wanted.flatten().index_select(0, self.token_indices)  # (N,)
        indices = of_tokens.nonzero().squeeze(1)
        layout = SequenceLayout(
            token_indices=self.token_indices.index_select(0, indices),
            lengths=tuple(wanted.sum(dim=1).tolist()),
            num_heads=self.num_heads,
            device=self.device,
            grouped_as=self,
        )
        return Selection(send(indices, self.device), layout)

    @cached_property
    def longest(self) -> int:
        """Tokens of the longest sequence; 0 without any."""
        return max(self.lengths, default=0)

    @cached_property
    def cumulative_lengths(self) -> Tensor:
        """(B + 1,) int32: sequence b is tokens ``cumulative_lengths[b]`` to ``cumulative_lengths[b + 1]``."""
        ends = torch.tensor((0, *self.lengths), dtype=torch.int64, device="cpu").cumsum(dim=0)
        return send(ends.to(torch.int32), self.device)

    @cached_property
    def groups(self) -> tuple[SequenceGroup, ...]:
        """The sequences in order, cut into groups by shapes alone."""
        counts = (self.grouped_as or self)._sequences_per_group()
        spans = zip(itertools.accumulate(counts), counts, strict=True)
        return tuple(SequenceGroup(self.lengths[end - count : end], self.device) for end, count in spans)

    def _sequences_per_group(self) -> list[int]:
        most_cells = _DENSE_CELLS if self.device.type == "cpu" else _DENSE_CELLS_GPU
        counts: list[int] = []
        longest = 0
        for length in self.lengths:
            longest = max(longest, length)
            if counts and (counts[-1] + 1) * self.num_heads * longest**2 <= most_cells:
                counts[-1] += 1
            else:
                counts.append(1)
                longest = length
        return counts


@dataclass(frozen=True, eq=False)
class Selection:
    """Tokens whose output is wanted.

    Attributes:
        indices: (N',) int64, places among the N tokens; lies where the tokens are computed.
        layout: of these tokens alone, their sequences grouped as all tokens' are.
    """

    indices: Tensor
    layout: SequenceLayout

    def of(self, tokens: Tensor) -> Tensor:
        """Return (N', D) of (N, D)."""
        return tokens.index_select(0, self.indices)


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


def unpack(tokens: Tensor, places: Tensor) -> Tensor:
    """Spread packed rows over a padded tensor.

    Args:
        tokens: (N, D).
        places: bool of any shape with N True cells, in row order; on a GPU it costs a wait, on the CPU none.

    Returns:
        (*places.shape, D), zero where ``places`` is False.
    """
    flat = tokens.new_zeros(places.numel(), tokens.shape[-1])
    flat = flat.index_copy(0, send(places.flatten().nonzero().squeeze(1), tokens.device), tokens)
    return flat.view(*places.shape, tokens.shape[-1])

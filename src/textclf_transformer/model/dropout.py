"""Dropout that costs little on a CPU.

A Bernoulli draw per element is the slowest part of a small encoder's step there; one random byte per element
gives the same masks several times faster. The drop probability is rounded to a multiple of 1/256 and the
scale uses the rounded value, so that the expectation stays exact.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_BYTES_PER_WORD = 8


def _random_bytes(count: int) -> Tensor:
    """Return ``count`` uniform bytes as a uint8 tensor, from torch's global CPU stream.

    The lower bound is given because the default range of ``random_`` for int64 leaves out the sign bit, which
    would halve the range of every eighth byte.
    """
    words = torch.empty(-(-count // _BYTES_PER_WORD), dtype=torch.int64, device="cpu").random_(-(2**63), None)
    return words.view(torch.uint8)[:count]


def draw_keep(inputs: Tensor, *, p: float) -> tuple[Tensor, float]:
    """Draw which elements of ``inputs`` are kept.

    Args:
        inputs: any shape; it gives shape and device.
        p: drop probability, 0 < p < 1; on a CPU rounded to a multiple of 1/256, but never to 0.

    Returns:
        A uint8 tensor of the same shape, 1 = kept, 0 = dropped, and the factor for what is kept that leaves
        the expectation as it is. Draws from torch's global stream of the device, which the training step
        seeds from (seed, step, micro-batch). To be turned into the dtype of ``inputs`` before a product:
        bytes take an eighth of the time of bools.
    """
    if inputs.device.type != "cpu":
        keep = torch.empty(inputs.shape, dtype=torch.uint8, device=inputs.device).bernoulli_(1 - p)
        return keep, 1 / (1 - p)
    threshold = min(max(round(p * 256), 1), 255)
    # in place: into a new tensor of bools the comparison takes thirty times as long
    return _random_bytes(inputs.numel()).view(inputs.shape).ge_(threshold), 256 / (256 - threshold)


def dropout(inputs: Tensor, *, p: float, training: bool) -> Tensor:
    """Zero each element with probability ``p`` and scale the others by ``1 / (1 - p)``, see ``draw_keep``.

    Args:
        inputs: any shape, floating point.
        p: drop probability, 0 ≤ p < 1.
        training: False returns ``inputs`` as they are.

    Returns:
        A tensor of the same shape and dtype.
    """
    if not training or p == 0.0:
        return inputs
    if inputs.device.type != "cpu" or torch.compiler.is_compiling():  # a compiler draws in the same pass
        return F.dropout(inputs, p=p, training=True)
    keep, scale = draw_keep(inputs, p=p)
    # The scale comes after the mask, as a Python number: in a bf16 mask it would be rounded, 0.3 % off for
    # p = 0.1.
    return (inputs * keep.to(inputs.dtype)).mul_(scale)


def check_probability(p: float) -> None:
    """Raise ValueError unless ``p`` is a drop probability: at least 0 and below 1; NaN is none."""
    if not 0 <= p < 1:
        raise ValueError(f"a drop probability must be at least 0 and below 1, found {p}")


class Dropout(nn.Module):
    """``dropout`` as a module, active in training mode.

    Args:
        p: drop probability.

    Raises:
        ValueError: it is not at least 0 and below 1.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        check_probability(p)
        self.p = p

    def forward(self, inputs: Tensor) -> Tensor:
        """Return ``inputs`` with elements dropped; same shape and dtype."""
        return dropout(inputs, p=self.p, training=self.training)

    def extra_repr(self) -> str:
        """Show the probability when the module is printed."""
        return f"p={self.p}"

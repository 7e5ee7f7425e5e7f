"""Labels that have an order: a cumulative link (McCullagh 1980, "Regression Models for Ordinal Data").

One score s says how high a document stands, thresholds θ₀ < θ₁ < … where one label ends and the next begins:
P(label ≤ r) = σ(θᵣ − s). It comes out as log-probabilities of the labels, which cross-entropy, softmax and
argmax take as they take logits.

B batch of documents, D input size, L labels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_SMALLEST_GAP = 1e-6  # between thresholds; at 0 a label would have probability 0 and an infinite loss


class CumulativeLink(nn.Module):
    """Map documents to log-probabilities of ordered labels.

    The thresholds begin where all labels are equally likely at score 0: θᵣ = logit((r + 1) / L). Their
    distances are learned through a softplus, so that they stay in order.

    Args:
        input_size: D.
        num_labels: L, at least 2.

    Raises:
        ValueError: L is below 2.
    """

    def __init__(self, *, input_size: int, num_labels: int) -> None:
        super().__init__()
        if num_labels < 2:
            raise ValueError(f"labels with an order must be at least 2, found {num_labels}")
        self.score = nn.Linear(input_size, 1, bias=False)
        # the lowest threshold, then what the softplus turns into the distances
        self.bias = nn.Parameter(torch.empty(num_labels - 1))
        self.level_thresholds()

    @torch.no_grad()
    def level_thresholds(self) -> None:
        """Put the thresholds where all labels are equally likely at score 0."""
        below = torch.arange(1, len(self.bias) + 1, dtype=torch.float64, device=self.bias.device)
        thresholds = (below / below.flip(0)).log()
        self.bias.copy_(torch.cat([thresholds[:1], thresholds.diff().expm1().log()]))

    @property
    def thresholds(self) -> Tensor:
        """(L − 1,), rising."""
        # The gaps below each one, added up by a triangle: on CUDA cumsum cannot repeat itself to the bit.
        below = self._gaps.expand(len(self.bias), -1).tril(-1)  # (L − 1, L − 2)
        return self.bias[0] + below.sum(dim=1)

    @property
    def _gaps(self) -> Tensor:
        """(L − 2,), from each threshold to the next."""
        return F.softplus(self.bias[1:]) + _SMALLEST_GAP

    def forward(self, documents: Tensor) -> Tensor:
        """Map (B, D) to (B, L) log-probabilities, lowest label first."""
        edges = self.thresholds - self.score(documents)  # (B, L − 1)
        # σ(b) − σ(a) = σ(b) · σ(−a) · (1 − exp(a − b)), exact where both are near 0 or 1
        below, above = F.logsigmoid(edges), F.logsigmoid(-edges)
        inner = below[:, 1:] + above[:, :-1] + torch.log(-torch.expm1(-self._gaps))
        return torch.cat([below[:, :1], inner, above[:, -1:]], dim=1)
